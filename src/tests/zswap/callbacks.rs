//! Callbacks that are slow, hostile or panic: which calls wait for them, and which are refused.

use super::{PageBytes, Slow, compressible, load, noise, take, watched, with_area, with_disk};
use crate::{Area, AreaOptions, Counts, Error, LoadFlags, PAGE_SIZE, Patience, Refusal, Zswap, ZswapOptions};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

const NOW: LoadFlags = LoadFlags { exclusive: true, patience: Patience::NoWait };

fn is_busy<T>(result: crate::Result<T>) -> bool {
    matches!(result, Err(Error::Busy(_)))
}

#[test]
fn a_call_that_does_not_wait_changes_nothing() {
    let (zswap, area) = with_area(100, &ZswapOptions::default());
    (4..7).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let slow = Slow::new(&zswap);
    thread::scope(|threads| {
        let shrinker = threads.spawn(|| area.shrink(1));
        let own = slow.wait();
        let before = area.stats().unwrap();
        let (word, again) = (area.word_at(own), |result| matches!(result, Err(Error::Again(_))));
        let mut page = [0; PAGE_SIZE];
        assert!(again(area.load(own, &mut page, NOW)));
        assert!(again(area.invalidate(own, 1, Patience::NoWait)));
        assert!(again(area.invalidate(0, 100, Patience::NoWait)), "the pages after it are there still");
        assert!((4..7).all(|offset| area.word_at(offset).is_version_of(area.word_at(offset))));
        assert!(area.word_at(own) == word && area.stats().unwrap() == before);
        // Calls that do not meet the writeback succeed.
        let other = if own == 4 { 5 } else { 4 };
        area.load(other, &mut page, NOW).unwrap();
        area.invalidate(6, 1, Patience::NoWait).unwrap();
        slow.result.send(Ok(())).unwrap();
        assert_eq!(shrinker.join().unwrap(), Ok(1));
        assert!(area.load(own, &mut page, NOW).is_err_and(|error| matches!(error, Error::NotFound(_))));
    });
}

#[test]
fn a_call_that_does_not_wait_is_refused_for_the_writeback_of_a_removed_page() {
    let (zswap, area) = with_area(100, &ZswapOptions::default());
    area.store(5, &compressible(5)).unwrap();
    let slow = Slow::new(&zswap);
    thread::scope(|threads| {
        let shrinker = threads.spawn(|| area.shrink(1));
        slow.wait();
        let remover = threads.spawn(|| area.invalidate(5, 1, Patience::Wait));
        while area.stored().next().is_some() {
            thread::yield_now();
        }
        let mut page = [0; PAGE_SIZE];
        assert!(matches!(area.load(5, &mut page, NOW), Err(Error::Again(_))));
        assert!(matches!(area.invalidate(5, 1, Patience::NoWait), Err(Error::Again(_))));
        // A store that succeeds does not wait, of a filled page either.
        area.store(5, &compressible(6)).unwrap();
        area.store(5, &[9; PAGE_SIZE]).unwrap();
        assert!(load(&area, 5) == Ok([9; PAGE_SIZE]) && slow.returned.load(SeqCst) == 0);
        slow.result.send(Ok(())).unwrap();
        remover.join().unwrap().unwrap();
        shrinker.join().unwrap().unwrap_err();
    });
    assert!(load(&area, 5) == Ok([9; PAGE_SIZE]));
}

/// In a callback no call waits: one that would have to is refused, and changes nothing.
#[test]
fn in_a_callback_its_own_page_is_busy() {
    let (zswap, area) = with_area(1000, &ZswapOptions::default());
    (0..10).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let calls = Arc::<AtomicU64>::default();
    let called = calls.clone();
    let callback = move |area: &Area, own: u64, page: &PageBytes| {
        let (before, word) = (area.stats().unwrap().counts, area.word_at(own));
        assert!(is_busy(take(area, own)) && is_busy(area.load(own, &mut [0; PAGE_SIZE], NOW)));
        assert!(is_busy(area.invalidate(own, 1, Patience::Wait)));
        assert!(is_busy(area.invalidate(0, 1000, Patience::Wait)), "its own page is among them");
        assert!(is_busy(area.invalidate(0, 1000, Patience::NoWait)));
        assert!(is_busy(area.remove()));
        assert!(area.word_at(own) == word && area.stats().unwrap().counts == before);
        assert!(*page == compressible(own));
        called.fetch_add(1, SeqCst);
        Ok(())
    };
    zswap.set_writeback(callback).unwrap();
    assert_eq!((area.shrink(100), calls.load(SeqCst)), (Ok(10), 10));
    assert_eq!(area.stats().unwrap().counts.writeback_other, 0, "an assertion failed in the callback");
}

/// Two callbacks at once, each of which wants the page of the other: neither waits, and both end.
#[test]
fn callbacks_that_want_each_other_s_pages_end() {
    watched(|| {
        let (zswap, area) = with_area(2, &ZswapOptions::default());
        (0..2).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
        let (both, calls) = (Barrier::new(2), AtomicU64::new(0));
        let callback = move |area: &Area, own: u64, _: &PageBytes| {
            let other = 1 - own;
            // A shrink goes on to the next page if its page was replaced.
            if calls.fetch_add(1, SeqCst) >= 2 {
                return Err(Refusal::Again);
            }
            both.wait();
            assert!(is_busy(area.invalidate(other, 1, Patience::Wait)) && is_busy(take(area, other)));
            assert!(load(area, other) == Ok(compressible(other)));
            both.wait();
            area.store(other, &compressible(other + 10)).unwrap();
            both.wait();
            assert!(load(area, own) == Ok(compressible(own + 10)));
            assert!(matches!(area.shrink(1), Err(Error::Again(_))), "both are being written back");
            both.wait();
            Ok(())
        };
        zswap.set_writeback(callback).unwrap();
        thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| assert!(matches!(area.shrink(1), Err(Error::Again(_)))));
            }
        });
        let counts = area.stats().unwrap().counts;
        assert_eq!((counts.overtaken, counts.writeback_other), (2, 0));
        assert!((0..2).all(|offset| load(&area, offset) == Ok(compressible(offset + 10))));
    });
}

/// A callback that does everything to its own page and to others', and shrinks, with two threads that do the same.
#[test]
fn callbacks_that_do_everything_do_not_deadlock() {
    watched(|| {
        let (zswap, area) = with_area(64, &ZswapOptions { max_bytes: Some(150_000), ..ZswapOptions::default() });
        let zswap = Arc::new(zswap);
        let (other, lots) = (zswap.add_area(64, &AreaOptions::default()).unwrap(), Arc::new(AtomicU64::new(1)));
        let areas = [area, other];
        let weak = Arc::downgrade(&zswap);
        let lot = lots.clone();
        let callback = move |area: &Area, own: u64, _: &PageBytes| {
            let lot = lot.fetch_add(0x9e37_79b9, SeqCst);
            act(area, own, lot);
            act(area, lot / 7 % 64, lot / 11);
            // Not too deep: each shrink takes a page of stack.
            if lot % 16 == 0 {
                weak.upgrade().map(|zswap| zswap.shrink(1).ok());
            }
            if lot % 3 == 0 { Err(Refusal::Again) } else { Ok(()) }
        };
        zswap.set_writeback(callback).unwrap();
        let rounds = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
        thread::scope(|threads| {
            for number in 0..4_u64 {
                let (areas, zswap, lots) = (&areas, &zswap, &lots);
                threads.spawn(move || {
                    for round in 0..rounds {
                        let lot = lots.fetch_add(0x2545_f491, SeqCst) ^ round << 7;
                        act(&areas[(number % 2) as usize], lot / 5 % 64, lot);
                        if lot % 3 == 0 {
                            zswap.shrink(4).ok();
                        }
                    }
                });
            }
        });
        assert_eq!(zswap.stats().unwrap().counts.writeback_other, 0, "an assertion failed in the callback");
        end(&zswap, &areas);
    });
}

/// Does one of everything that can be done to a page.
fn act(area: &Area, offset: u64, lot: u64) {
    let done = match lot % 8 {
        0 | 1 => area.store(offset, &compressible(lot | 1 << 63)),
        2 => area.store(offset, &noise(lot | 1 << 63)),
        3 => area.store_pages(offset & !3, &[[lot as u8 | 1; PAGE_SIZE]; 4]),
        4 => load(area, offset).map(drop),
        5 => take(area, offset).map(drop),
        6 => area.invalidate(offset & !3, 4, Patience::Wait),
        _ => area.shrink(1).map(drop),
    };
    let allowed = matches!(done, Ok(()) | Err(Error::Limit(_) | Error::NotFound(_) | Error::Busy(_) | Error::Again(_)));
    assert!(allowed, "{done:?}");
}

/// Checks, when nothing runs any more, that no claim is left in any word, and that all pages can go.
fn end(zswap: &Zswap, areas: &[Area]) {
    zswap.clear_writeback().unwrap();
    for area in areas {
        assert!((0..area.pages()).all(|offset| !area.word_at(offset).has_writeback()));
        area.invalidate(0, area.pages(), Patience::NoWait).unwrap();
    }
    let stats = zswap.stats().unwrap();
    assert_eq!((stats.used_bytes, stats.counts.pages(), zswap.pool().stats().unwrap().objects), (0, 0, 0));
}

/// Each refusal keeps the page, is counted where it belongs, and ends the sweep if it says so.
#[test]
fn every_refusal_is_counted() {
    type Count = fn(&Counts) -> u64;
    let cases: [(Option<Refusal>, Count, u64); 8] = [
        (Some(Refusal::Exists), |counts| counts.writeback_exists, 1),
        (Some(Refusal::NoSpace), |counts| counts.writeback_no_space, 1),
        (Some(Refusal::Again), |counts| counts.writeback_again, 16),
        (Some(Refusal::NoMemory), |counts| counts.writeback_no_memory, 16),
        (Some(Refusal::Io), |counts| counts.writeback_io, 16),
        (Some(Refusal::Other(1)), |counts| counts.writeback_other, 16),
        (Some(Refusal::Other(i32::MAX)), |counts| counts.writeback_other, 16),
        // A panic.
        (None, |counts| counts.writeback_other, 16),
    ];
    for (refusal, count, offered) in cases {
        let (zswap, area) = with_area(1000, &ZswapOptions::default());
        (0..100).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
        let callback = move |_: &Area, _: u64, _: &PageBytes| match refusal {
            Some(refusal) => Err(refusal),
            None => std::panic::resume_unwind(Box::new("meant")),
        };
        zswap.set_writeback(callback).unwrap();
        assert!(matches!(zswap.shrink(1), Err(Error::Again(_))), "{refusal:?}");
        let counts = area.stats().unwrap().counts;
        assert_eq!((count(&counts), counts.pool_pages(), counts.written_back), (offered, 100, 0), "{refusal:?}");
        assert!((0..100).all(|offset| load(&area, offset) == Ok(compressible(offset))));
    }
}

/// EEXIST says that the page is in use: it gets a second chance that other refused pages do not get.
#[test]
fn a_page_that_the_embedder_has_gets_a_second_chance() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    (0..3).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let offered = Arc::<Mutex<Vec<u64>>>::default();
    let list = offered.clone();
    let callback = move |_: &Area, offset: u64, _: &PageBytes| {
        list.lock().unwrap().push(offset);
        if offset == 0 && list.lock().unwrap().len() == 1 { Err(Refusal::Exists) } else { Ok(()) }
    };
    zswap.set_writeback(callback).unwrap();
    assert!(matches!(area.shrink(3), Err(Error::Again(_))), "it ends with the page that is in use");
    assert!(area.word_at(0).is_referenced() && !area.word_at(1).is_referenced());
    assert_eq!(area.shrink(2), Ok(2));
    assert_eq!(*offered.lock().unwrap(), [0, 1, 2]);
    assert_eq!(area.shrink(1), Ok(1));
    assert_eq!(*offered.lock().unwrap(), [0, 1, 2, 0]);
}

/// A page that was loaded since the hand last passed is passed over once.
#[test]
fn pages_in_use_stay() {
    let (zswap, area) = with_area(100, &ZswapOptions::default());
    (0..100).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let disk = with_disk(&zswap);
    assert_eq!(area.shrink(1), Ok(1), "all were just stored: the second round finds the first page");
    (0..100).filter(|offset| offset % 2 == 0).for_each(|offset| _ = load(&area, offset));
    assert_eq!(area.shrink(50), Ok(50));
    assert!(disk.lock().unwrap().keys().filter(|(_, offset)| offset % 2 == 0).count() <= 1);
}

#[test]
fn a_shrink_goes_on_with_the_callback_that_it_began_with() {
    let (zswap, area) = with_area(100, &ZswapOptions::default());
    let zswap = Arc::new(zswap);
    (0..5).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let weak = Arc::downgrade(&zswap);
    let callback = move |_: &Area, _: u64, _: &PageBytes| {
        weak.upgrade().unwrap().clear_writeback().unwrap();
        Ok(())
    };
    zswap.set_writeback(callback).unwrap();
    assert_eq!(zswap.shrink(5), Ok(5));
    assert!(matches!(zswap.shrink(5), Err(Error::Invalid(_))));
}

/// Any thread may end a claim, and the thread that began it may not wait for it.
#[test]
fn claims_end_in_any_order_on_any_thread() {
    let (zswap, area) = with_area(1000, &ZswapOptions::default());
    (0..64).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let mut claims = super::claim_some(&area, 64);
    assert_eq!(claims.len(), 64);
    assert!(claims.iter().all(|(claim, page)| *page == compressible(claim.offset())));
    assert!(is_busy(take(&area, 3)) && is_busy(area.invalidate(3, 1, Patience::Wait)));
    assert!(load(&area, 3) == Ok(compressible(3)), "a plain load never waits");
    area.set_limit(Some(4112)).unwrap();
    assert!(matches!(area.store(4, &noise(1)), Err(Error::Limit(_))), "it does not wait for its own claim");
    thread::scope(|threads| {
        let waiter = threads.spawn(|| area.invalidate(0, 64, Patience::Wait));
        while area.stored().next().is_some() {
            thread::yield_now();
        }
        while !claims.is_empty() {
            let part = claims.split_off(claims.len() - 16);
            threads.spawn(|| part.into_iter().rev().for_each(|(claim, _)| assert_eq!(claim.written(), Ok(false))));
        }
        waiter.join().unwrap().unwrap();
    });
    let counts = area.stats().unwrap().counts;
    assert_eq!((counts.overtaken, counts.pages(), counts.written_back), (64, 0, 0));
    assert_eq!((zswap.stats().unwrap().claims, zswap.pool().stats().unwrap().objects), (0, 0));
}

/// The disk never has an old version after a newer one, however slow a write is.
#[test]
fn an_old_version_never_lands_after_a_newer_one() {
    watched(|| {
        let (zswap, area) = with_area(4, &ZswapOptions::default());
        let disk = Arc::<[Mutex<u64>; 4]>::default();
        let (to, wrong) = (disk.clone(), Arc::<AtomicU64>::default());
        let late = wrong.clone();
        let callback = move |_: &Area, offset: u64, page: &PageBytes| {
            let version = u64::from_ne_bytes(page[..8].try_into().unwrap());
            (0..version % 64).for_each(|_| thread::yield_now());
            let before = std::mem::replace(&mut *to[offset as usize].lock().unwrap(), version);
            late.fetch_add(u64::from(before > version), SeqCst);
            Ok(())
        };
        zswap.set_writeback(callback).unwrap();
        thread::scope(|threads| {
            let writers: Vec<_> = (0..2).map(|number| threads.spawn(move || number)).collect();
            for (writer, area) in writers.into_iter().zip([area.clone(), area.clone()]) {
                let (offset, disk) = (writer.join().unwrap(), &disk);
                threads.spawn(move || own_a_page(&area, offset, &disk[offset as usize]));
            }
            for _ in 0..2 {
                threads.spawn(|| (0..3000).for_each(|_| _ = area.shrink(2)));
            }
        });
        assert_eq!(wrong.load(SeqCst), 0, "an old version was written after a newer one");
    });
}

/// Stores versions of a page, writes some to the disk itself, and always finds the newest one.
fn own_a_page(area: &Area, offset: u64, disk: &Mutex<u64>) {
    for version in 1..2000_u64 {
        let mut page = compressible(version);
        page[..8].copy_from_slice(&version.to_ne_bytes());
        if version % 5 == 0 {
            area.invalidate(offset, 1, Patience::Wait).unwrap();
            *disk.lock().unwrap() = version;
        } else {
            area.store(offset, &page).unwrap();
        }
        let loaded = if version % 3 == 0 { take(area, offset) } else { load(area, offset) };
        match loaded {
            Ok(found) => assert!(found == page),
            Err(Error::NotFound(_)) => assert_eq!(*disk.lock().unwrap(), version, "the newest version is nowhere"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A thread that ended leaves its claim to others, and its stack to the next thread, with all addresses there. The next
/// thread did not begin the claim, so it waits.
#[test]
fn a_claim_of_a_thread_that_ended_is_waited_for() {
    type Act = fn(&Area);
    let acts: [Act; 3] = [
        |area| area.invalidate(7, 1, Patience::Wait).unwrap(),
        |area| assert_eq!(take(area, 7), Ok(compressible(7))),
        |area| assert!(matches!(area.store(7, &noise(7)), Err(Error::TooLarge(_)))),
    ];
    for act in acts {
        let zswap = Zswap::new("claims", &ZswapOptions::default()).unwrap();
        let options = AreaOptions { refuse_incompressible: true, ..AreaOptions::default() };
        let area = zswap.add_area(100, &options).unwrap();
        area.store(7, &compressible(7)).unwrap();
        let begin = || area.claim(&mut [0; PAGE_SIZE]).unwrap().unwrap();
        let claim = thread::scope(|threads| threads.spawn(begin).join().unwrap());
        let ended = AtomicU64::new(0);
        thread::scope(|threads| {
            let waiter = threads.spawn(|| {
                act(&area);
                assert_eq!(ended.load(SeqCst), 1, "the writeback was still running");
            });
            // The take waits once the page is gone, and the others once they have removed it.
            while area.stored().next().is_some() && !waiter.is_finished() {
                thread::yield_now();
            }
            super::linger();
            ended.store(1, SeqCst);
            claim.written().unwrap();
            waiter.join().unwrap();
        });
    }
}
