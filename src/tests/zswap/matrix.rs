//! A test for each pair of calls that can race in a compressed cache, with real threads.

use super::{Slow, Until, compressible, linger, load, noise, take, with_area, with_disk};
use crate::os::{Call, Os, injected::Faults};
use crate::{
    Area, AreaOptions, Codec, CompactBudget, Error, PAGE_SIZE, Patience, Refusal, Zswap, ZswapOptions, ZswapTuning,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

const DEFAULT: ZswapOptions = ZswapOptions {
    max_bytes: None,
    codec: Codec::Lz4,
    tuning: ZswapTuning {
        accept_percent: None,
        headroom_percent: None,
        contexts: None,
        max_claims: None,
        pool: crate::PoolOptions {
            max_bytes: Some(64 << 20),
            backing: crate::Backing::Anonymous,
            hardened: false,
            tuning: crate::PoolTuning {
                huge_pages: crate::HugePages::WhenLarge,
                dont_fork: false,
                no_advice: false,
                tags: false,
            },
        },
    },
};

/// Writes a page back. `meanwhile` runs while the callback does, which returns `result` after it.
fn during_writeback(result: Result<(), Refusal>, meanwhile: impl FnOnce(&Area)) -> (Zswap, Area, crate::Result<u64>) {
    let (zswap, area) = with_area(100, &DEFAULT);
    area.store(5, &compressible(1)).unwrap();
    let slow = Slow::new(&zswap);
    let shrunk = thread::scope(|threads| {
        let shrinker = threads.spawn(|| area.shrink(1));
        assert_eq!(slow.wait(), 5);
        meanwhile(&area);
        slow.result.send(result).unwrap();
        shrinker.join().unwrap()
    });
    assert!(!area.word_at(5).has_writeback());
    (zswap, area, shrunk)
}

#[test]
fn load_vs_writeback() {
    let (_zswap, area, shrunk) = during_writeback(Ok(()), |area| assert!(load(area, 5) == Ok(compressible(1))));
    assert!(matches!(shrunk, Err(Error::Again(_))));
    assert!(load(&area, 5) == Ok(compressible(1)), "it was used meanwhile, and stays");
    let counts = area.stats().unwrap().counts;
    assert_eq!((counts.rescued, counts.written_back, counts.pool_pages()), (1, 0, 1));
}

/// Checks that a removal waits for the callback of its page.
fn removal_vs_writeback(remove: impl Fn(&Area) + Sync) {
    let (zswap, area) = with_area(100, &ZswapOptions { max_bytes: Some(8000), ..DEFAULT });
    area.store(5, &compressible(1)).unwrap();
    let slow = Slow::new(&zswap);
    thread::scope(|threads| {
        let shrinker = threads.spawn(|| area.shrink(1));
        assert_eq!(slow.wait(), 5);
        let remover = threads.spawn(|| {
            remove(&area);
            slow.returned.load(SeqCst)
        });
        while area.stored().next().is_some() {
            thread::yield_now();
        }
        linger();
        let (early, runs) = (remover.is_finished(), area.word_at(5).has_writeback());
        slow.result.send(Ok(())).unwrap();
        assert!(!early && runs, "it returned while a callback for its page ran");
        assert_eq!(remover.join().unwrap(), 1, "it returned before the callback did");
        assert!(matches!(shrinker.join().unwrap(), Err(Error::Again(_) | Error::NotFound(_))));
    });
    let stats = zswap.stats().unwrap();
    assert_eq!((stats.counts.overtaken, stats.counts.pages(), stats.used_bytes), (1, 0, 0));
    assert_eq!(zswap.pool().stats().unwrap().objects, 0);
    assert_eq!(area.word_at(5), crate::zswap::word::PageWord::EMPTY);
}

#[test]
fn invalidate_vs_writeback() {
    removal_vs_writeback(|area| area.invalidate(0, 100, Patience::Wait).unwrap());
}

#[test]
fn take_vs_writeback() {
    removal_vs_writeback(|area| assert!(take(area, 5) == Ok(compressible(1))));
}

#[test]
fn failed_store_vs_writeback() {
    // No page fits, so the estimate refuses it.
    removal_vs_writeback(|area| {
        area.set_limit(Some(4112)).unwrap();
        assert!(matches!(area.store(5, &noise(1)), Err(Error::Limit(_))));
    });
}

#[test]
fn failed_batch_vs_writeback() {
    removal_vs_writeback(|area| {
        let pages: Vec<_> = (0..20).map(noise).collect();
        assert!(matches!(area.store_pages(0, &pages), Err(Error::Limit(_))));
    });
}

/// A take that finds the page gone waits all the same, because its caller may go on to the disk.
#[test]
fn take_of_a_removed_page_vs_writeback() {
    removal_vs_writeback(|area| {
        thread::scope(|threads| {
            threads.spawn(|| area.invalidate(5, 1, Patience::Wait).unwrap());
            while area.stored().next().is_some() {
                thread::yield_now();
            }
            assert!(matches!(load(area, 5), Err(Error::NotFound(_))), "a plain load does not wait");
            assert!(matches!(take(area, 5), Err(Error::NotFound(_))));
        });
    });
}

#[test]
fn overwrite_vs_writeback() {
    let (zswap, area, shrunk) = during_writeback(Ok(()), |area| {
        area.store(5, &compressible(2)).unwrap();
        assert!(load(area, 5) == Ok(compressible(2)), "a store that succeeds does not wait");
        assert!(matches!(area.shrink(10), Err(Error::Again(_))), "its writeback can't begin before the first ended");
    });
    assert!(matches!(shrunk, Err(Error::Again(_))));
    assert!(load(&area, 5) == Ok(compressible(2)));
    assert_eq!(area.stats().unwrap().counts.overtaken, 1);
    let disk = with_disk(&zswap);
    assert_eq!(area.shrink(1), Ok(1));
    assert!(disk.lock().unwrap()[&(area.id(), 5)] == compressible(2));
}

#[test]
fn store_vs_store() {
    let (zswap, area) = with_area(100, &DEFAULT);
    let rounds = if cfg!(debug_assertions) { 300 } else { 5000 };
    thread::scope(|threads| {
        for number in 0..4 {
            let area = &area;
            threads.spawn(move || {
                for round in 0..rounds {
                    // Each page is compressed, filled and raw in turn.
                    match (round + number) % 4 {
                        0 => area.store(9, &[number as u8; PAGE_SIZE]).unwrap(),
                        1 => area.store(9, &noise(number)).unwrap(),
                        _ => area.store(9, &compressible(number)).unwrap(),
                    }
                    let page = load(area, 9).unwrap();
                    let is = |number: u64| {
                        page == [number as u8; PAGE_SIZE] || page == noise(number) || page == compressible(number)
                    };
                    assert!((0..4).any(is), "a page that nobody stored");
                }
            });
        }
    });
    assert_eq!(area.stats().unwrap().counts.pages(), 1);
    assert!(take(&area, 9).is_ok());
    assert_eq!((zswap.stats().unwrap().used_bytes, zswap.pool().stats().unwrap().objects), (0, 0));
}

#[test]
fn failed_store_removes_older() {
    let (zswap, area) = with_area(100, &ZswapOptions { max_bytes: Some(6000), ..DEFAULT });
    let never = AreaOptions { refuse_incompressible: true, ..AreaOptions::default() };
    let other = zswap.add_area(100, &never).unwrap();
    area.store(1, &noise(1)).unwrap();
    area.store(2, &[7; PAGE_SIZE]).unwrap();
    assert!(matches!(area.store(2, &noise(2)), Err(Error::Limit(_))));
    assert!(matches!(load(&area, 2), Err(Error::NotFound(_))));
    area.invalidate(0, 100, Patience::Wait).unwrap();
    other.store(1, &compressible(1)).unwrap();
    assert!(matches!(other.store(1, &noise(2)), Err(Error::TooLarge(_))));
    assert!(matches!(load(&other, 1), Err(Error::NotFound(_))));
    let counts = zswap.stats().unwrap().counts;
    assert_eq!((counts.removed_by_failure, counts.refused_limit, counts.refused_incompressible), (2, 1, 1));
    assert_eq!((counts.pages(), zswap.stats().unwrap().used_bytes), (0, 0));
}

/// Damages a page in the pool, calls `act`, and mends the page.
fn with_damage(area: &Area, offset: u64, act: impl FnOnce()) {
    let (at, _) = area.object_of(offset).unwrap();
    // SAFETY: no thread frees or moves the object meanwhile, and only this thread uses it.
    let flip = || unsafe { *at.add(9) ^= 0x40 };
    flip();
    act();
    flip();
}

#[test]
fn failed_load_keeps_the_page() {
    let (_zswap, area) = with_area(100, &DEFAULT);
    area.store(1, &compressible(1)).unwrap();
    with_damage(&area, 1, || assert!(matches!(load(&area, 1), Err(Error::Damaged(_)))));
    assert!(load(&area, 1) == Ok(compressible(1)));
    assert_eq!(area.stats().unwrap().counts.decode_failures, 1);
}

#[test]
fn take_of_a_page_whose_check_fails_keeps_it() {
    let (_zswap, area) = with_area(100, &DEFAULT);
    area.store(1, &compressible(1)).unwrap();
    with_damage(&area, 1, || assert!(matches!(take(&area, 1), Err(Error::Damaged(_)))));
    assert!(take(&area, 1) == Ok(compressible(1)));
    assert!(matches!(take(&area, 1), Err(Error::NotFound(_))));
}

#[test]
fn writeback_error_keeps_the_page() {
    let refusals =
        [Refusal::Exists, Refusal::Again, Refusal::NoMemory, Refusal::Io, Refusal::NoSpace, Refusal::Other(75)];
    for refusal in refusals {
        let (zswap, area, shrunk) = during_writeback(Err(refusal), |_| {});
        assert!(matches!(shrunk, Err(Error::Again(_))));
        assert!(load(&area, 5) == Ok(compressible(1)));
        let disk = with_disk(&zswap);
        assert_eq!(area.shrink(1), Ok(1), "it goes when it can be written");
        assert!(disk.lock().unwrap()[&(area.id(), 5)] == compressible(1));
    }
}

/// Pages can be written back while the system gives no memory at all.
#[test]
fn writeback_out_of_memory() {
    let faults = Arc::<Faults>::default();
    let zswap = Zswap::with_os(Os { faults: Some(faults.clone()) }, "test", &DEFAULT).unwrap();
    let area = zswap.add_area(10_000, &AreaOptions::default()).unwrap();
    (0..500).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let calls = [Call::Map, Call::Commit, Call::Advise, Call::Release, Call::MemoryFile];
    calls.iter().for_each(|&call| faults.fail(call, 1, 0));
    zswap.set_writeback(|_, _, _| Err(Refusal::NoMemory)).unwrap();
    assert!(matches!(zswap.shrink(100), Err(Error::Again(_))));
    let counts = zswap.stats().unwrap().counts;
    assert!(counts.writeback_no_memory > 0 && counts.pool_pages() == 500);
    let disk = with_disk(&zswap);
    assert_eq!(zswap.shrink(1000), Ok(500));
    assert!((0..500).all(|offset| disk.lock().unwrap()[&(area.id(), offset)] == compressible(offset)));
    calls.iter().for_each(|&call| faults.heal(call));
    zswap.compact(&CompactBudget::default()).unwrap();
    assert_eq!(zswap.pool().stats().unwrap().chunks, 0);
}

#[test]
fn remove_area_vs_calls() {
    let busy = |area: &Area| assert!(matches!(area.remove(), Err(Error::Busy(_))));
    let (zswap, area, _) = during_writeback(Ok(()), busy);
    area.store(5, &compressible(1)).unwrap();
    area.store(6, &compressible(1)).unwrap();
    let claims = super::claim_some(&area, 2);
    assert_eq!(claims.len(), 2);
    busy(&area);
    claims.into_iter().for_each(|(claim, _)| _ = claim.written());
    let (ended, begun) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|threads| {
        for number in 0..4 {
            let (area, ended, begun) = (area.clone(), &ended, &begun);
            threads.spawn(move || {
                loop {
                    begun.fetch_add(1, SeqCst);
                    match area.store(number, &compressible(number)).and_then(|()| load(&area, number)) {
                        Ok(page) => assert!(page == compressible(number)),
                        Err(error) => break assert!(matches!(error, Error::Removed), "{error}"),
                    }
                }
                ended.fetch_add(1, SeqCst);
            });
        }
        while begun.load(SeqCst) < 100 {
            thread::yield_now();
        }
        while let Err(error) = area.remove() {
            assert!(matches!(error, Error::Busy(_)), "{error}");
        }
    });
    assert_eq!((ended.load(SeqCst), zswap.area_count()), (4, 0));
    assert_eq!((zswap.stats().unwrap().used_bytes, zswap.pool().stats().unwrap().objects), (0, 0));
}

/// Threads store and load pages of their own while `meanwhile` runs.
fn users(area: &Area, threads: u64, rounds: u64, meanwhile: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..threads {
            let stop = &stop;
            scope.spawn(move || {
                let mut round = 0;
                while round < rounds || !stop.load(SeqCst) {
                    let (offset, key) = (number + threads * (round % 50), number << 32 | round);
                    let page = if round % 5 == 0 { noise(key) } else { compressible(key) };
                    area.store(offset, &page).unwrap();
                    assert!(load(area, offset) == Ok(page));
                    if round % 7 == 0 {
                        assert!(take(area, offset) == Ok(page));
                    }
                    round += 1;
                }
            });
        }
        let _stopping = Until(&stop);
        meanwhile();
    });
}

#[test]
fn codec_switch_vs_users() {
    let (zswap, area) = with_area(
        1000,
        &ZswapOptions { tuning: ZswapTuning { contexts: Some(2), ..ZswapTuning::default() }, ..DEFAULT },
    );
    users(&area, 4, 100, || {
        for round in 0..60 {
            let codecs = [Codec::Raw, Codec::Zstd(1), Codec::Lz4, Codec::Zstd(0), Codec::Zstd(6)];
            zswap.set_codec(codecs[round % codecs.len()]).unwrap();
            if round % 3 == 0 {
                area.recompress(50, Codec::Zstd(2)).unwrap();
            }
        }
    });
}

/// A thread that loses its processor keeps its context: there are some for the threads that run instead.
#[test]
fn there_are_contexts_to_spare() {
    let (zswap, _area) = with_area(1, &DEFAULT);
    assert!(zswap.context_count() > crate::os::processors() || zswap.context_count() == crate::MAX_CONTEXTS);
}

#[test]
fn more_threads_than_contexts() {
    for codec in [Codec::Lz4, Codec::Zstd(1)] {
        let (zswap, area) = with_area(
            1000,
            &ZswapOptions { codec, tuning: ZswapTuning { contexts: Some(1), ..ZswapTuning::default() }, ..DEFAULT },
        );
        users(&area, 8, 100, || _ = area.recompress(100, Codec::Zstd(1)).unwrap());
        area.invalidate(0, 1000, Patience::Wait).unwrap();
        assert_eq!(zswap.pool().stats().unwrap().objects, 0);
    }
}

#[test]
fn shrink_vs_remove_area() {
    let zswap = Zswap::new("test", &DEFAULT).unwrap();
    with_disk(&zswap);
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(SeqCst) {
                    let shrunk = zswap.shrink(100);
                    assert!(matches!(shrunk, Ok(1..=100) | Err(Error::Again(_) | Error::NotFound(_))), "{shrunk:?}");
                    zswap.snapshot().unwrap();
                    zswap.reclaimable_pages().ok();
                }
            });
        }
        let _stopping = Until(&stop);
        for round in 0..if cfg!(debug_assertions) { 60 } else { 1000 } {
            let area = zswap.add_area(2000, &AreaOptions::default()).unwrap();
            (0..40).for_each(|offset| area.store(offset * 50, &compressible(offset)).unwrap());
            if round % 4 == 0 {
                // Dropping the last handle removes the area as well, in any thread.
                drop(area);
            } else {
                while let Err(error) = area.remove() {
                    assert!(matches!(error, Error::Busy(_)), "{error}");
                }
            }
        }
    });
    let stats = zswap.stats().unwrap();
    assert_eq!((stats.areas, stats.used_bytes, stats.counts.pages()), (0, 0, 0));
    assert_eq!(zswap.pool().stats().unwrap().objects, 0);
}

#[test]
fn compaction_vs_load() {
    let (zswap, area) = with_area(4000, &DEFAULT);
    let pages: Vec<_> = (0..2000).map(compressible).collect();
    area.store_pages(0, &pages).unwrap();
    let stop = AtomicBool::new(false);
    let moved = thread::scope(|threads| {
        for number in 0..3 {
            let (area, pages, stop) = (&area, &pages, &stop);
            threads.spawn(move || {
                let mut at = number;
                while !stop.load(SeqCst) {
                    at = (at + 7) % 2000;
                    match load(area, at as u64) {
                        Ok(page) => assert!(page == pages[at]),
                        Err(error) => assert!(at % 4 != 0 && matches!(error, Error::NotFound(_)), "{error}"),
                    }
                }
            });
        }
        let _stopping = Until(&stop);
        for _ in 0..10 {
            (0..2000).filter(|at| at % 4 != 0).for_each(|at| area.invalidate(at, 1, Patience::Wait).unwrap());
            zswap.compact(&CompactBudget::default()).unwrap();
            (0..2000).filter(|at| at % 4 != 0).for_each(|at| area.store(at, &pages[at as usize]).unwrap());
        }
        zswap.pool().stats().unwrap().objects_moved
    });
    assert!(moved > 0, "nothing was moved");
    assert!((0..2000).all(|at| load(&area, at) == Ok(pages[at as usize])));
}

/// A store into a stretch of the index that is being given back waits, and is not lost.
#[test]
fn store_vs_giving_back() {
    // A whole stretch, and the short one at the end.
    let (zswap, area) = with_area(700, &DEFAULT);
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        for number in 0..3_u64 {
            let (area, stop) = (&area, &stop);
            threads.spawn(move || {
                let _stopping = Until(stop);
                for round in 0..if cfg!(debug_assertions) { 5_000 } else { 100_000 } {
                    let offset = number + [0, 508, 512, 697][round as usize % 4];
                    let page = [(number + round) as u8; PAGE_SIZE];
                    area.store(offset, &page).unwrap();
                    assert!(
                        area.stored_in(offset..).next() == Some(offset),
                        "a page is stored, and its stretch says empty"
                    );
                    assert!(load(area, offset) == Ok(page));
                    area.invalidate(offset, 1, Patience::Wait).unwrap();
                    assert!(matches!(load(area, offset), Err(Error::NotFound(_))));
                }
            });
        }
        threads.spawn(|| {
            while !stop.load(SeqCst) {
                zswap.compact(&CompactBudget::default()).unwrap();
            }
        });
    });
    zswap.compact(&CompactBudget::default()).unwrap();
    assert!((0..700).all(|offset| area.word_at(offset) == crate::zswap::word::PageWord::EMPTY));
}

/// A page is copied before it is read, so what is stored agrees with its check and decodes.
#[test]
fn store_vs_a_page_that_changes() {
    let (_zswap, area) =
        with_area(10, &ZswapOptions { tuning: ZswapTuning { contexts: Some(1), ..ZswapTuning::default() }, ..DEFAULT });
    let memory: Vec<AtomicU64> = (0..PAGE_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut value = 0_u64;
            while !stop.load(SeqCst) {
                value = value.wrapping_add(0x0101_0101_0101_0101);
                memory.iter().for_each(|word| word.store(value, SeqCst));
            }
        });
        let _stopping = Until(&stop);
        for round in 0..if cfg!(debug_assertions) { 1_000 } else { 50_000 } {
            // SAFETY: a page can be read there, and the call allows others to write it meanwhile.
            unsafe { crate::plumbing::zswap::store_from(&area, round % 10, memory.as_ptr().cast()) }.unwrap();
            let page = load(&area, round % 10).unwrap();
            assert!(load(&area, round % 10) == Ok(page), "what is stored holds still");
        }
    });
    assert_eq!(area.stats().unwrap().counts.decode_failures, 0);
}
