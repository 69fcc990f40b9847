//! Limits and batches: a limit is never exceeded, and one batch always gets through.

use super::{PageBytes, Until, compressible, load, noise, with_area, with_disk};
use crate::{Area, AreaOptions, Codec, CompactBudget, Error, PAGE_SIZE, Patience, Zswap, ZswapOptions, ZswapTuning};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

/// How many bytes the slot of a page that does not compress has.
const RAW: u64 = 4112;
const BATCH: u64 = 512;

fn full<T: std::fmt::Debug>(result: &crate::Result<T>) -> bool {
    matches!(result, Err(Error::Limit(_)))
}

/// Threads store batches at once, round after round, into a limit that has room for fewer of them. The limit is never
/// exceeded, and at least one batch gets through each time.
fn at_the_edge(batch: &[PageBytes], max_bytes: u64, of_area: bool) {
    const THREADS: u64 = 8;
    let (zswap_max, area_max) = if of_area { (None, Some(max_bytes)) } else { (Some(max_bytes), None) };
    let zswap = Zswap::new("test", &ZswapOptions { max_bytes: zswap_max, ..ZswapOptions::default() }).unwrap();
    let options = AreaOptions { max_bytes: area_max, ..AreaOptions::default() };
    let area = zswap.add_area(THREADS * BATCH, &options).unwrap();
    let (stop, through) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(SeqCst) {
                let used = if of_area { area.stats().unwrap().used_bytes } else { zswap.stats().unwrap().used_bytes };
                assert!(used <= max_bytes, "{used} of {max_bytes}");
            }
        });
        let _stopping = Until(&stop);
        for _ in 0..if cfg!(debug_assertions) { 6 } else { 100 } {
            through.store(0, SeqCst);
            thread::scope(|round| {
                for number in 0..THREADS {
                    let (area, through) = (&area, &through);
                    round.spawn(move || {
                        let result = area.store_pages(number * BATCH, batch);
                        assert!(result.is_ok() || full(&result), "{result:?}");
                        let there = (number * BATCH..(number + 1) * BATCH).filter(|&at| load(area, at).is_ok()).count();
                        assert_eq!(there as u64, if result.is_ok() { BATCH } else { 0 }, "all or nothing");
                        through.fetch_add(u64::from(result.is_ok()), SeqCst);
                    });
                }
            });
            let through = through.load(SeqCst);
            assert!((1..THREADS).contains(&through), "{through} batches got through");
            assert_eq!(area.stats().unwrap().counts.pages(), through * BATCH);
            area.invalidate(0, area.pages(), Patience::Wait).unwrap();
            let stats = zswap.stats().unwrap();
            assert_eq!((stats.used_bytes, area.stats().unwrap().used_bytes), (0, 0));
        }
    });
    assert_eq!(zswap.pool().stats().unwrap().objects, 0);
}

#[test]
fn batches_at_the_edge_of_the_limit() {
    let pages: Vec<_> = (0..BATCH).map(noise).collect();
    // The first batches reserve by an estimate that is too low: each needs more while others hold what they have.
    at_the_edge(&pages, BATCH * RAW + 10_000, false);
    at_the_edge(&pages, 3 * BATCH * RAW - 1, false);
}

#[test]
fn batches_at_the_edge_of_an_area_s_limit() {
    let pages: Vec<_> = (0..BATCH).map(|at| if at % 2 == 0 { noise(at) } else { compressible(at) }).collect();
    at_the_edge(&pages, BATCH * RAW, true);
    at_the_edge(&pages, 3 * BATCH * RAW / 2, true);
}

/// Single stores and batches together, and a limit that moves.
#[test]
fn limits_that_move_hold() {
    let (zswap, area) = with_area(4096, &ZswapOptions { max_bytes: Some(400_000), ..ZswapOptions::default() });
    with_disk(&zswap);
    let (high, low) = (800_000, 200_000);
    let rounds = if cfg!(debug_assertions) { 300 } else { 5000 };
    thread::scope(|threads| {
        for number in 0..4 {
            let (zswap, area) = (&zswap, &area);
            threads.spawn(move || {
                let batch: Vec<_> = (0..16).map(|at| compressible(at + number)).collect();
                for round in 0..rounds {
                    let offset = number * 1024 + round * 16 % 1024;
                    let stored = match round % 3 {
                        0 => area.store_pages(offset, &batch),
                        _ => area.store(offset, &noise(round)),
                    };
                    assert!(stored.is_ok() || full(&stored), "{stored:?}");
                    if stored.is_err() {
                        zswap.shrink(20).ok();
                    }
                    assert!(zswap.stats().unwrap().used_bytes <= high);
                }
            });
        }
        for round in 0..rounds {
            zswap.set_limit(Some(if round % 2 == 0 { low } else { high })).unwrap();
            area.set_limit((round % 5 == 0).then_some(low / 2)).unwrap();
        }
    });
    zswap.set_limit(Some(low)).unwrap();
    while zswap.stats().unwrap().used_bytes > low {
        zswap.shrink(1).unwrap();
    }
    for offset in 0..100 {
        area.store(offset, &compressible(offset)).ok();
        assert!(zswap.stats().unwrap().used_bytes <= low);
    }
}

#[test]
fn a_page_that_can_t_fit_is_refused_before_it_is_compressed() {
    let (zswap, area) = with_area(10_000, &ZswapOptions { max_bytes: Some(100 * RAW), ..ZswapOptions::default() });
    area.store_pages(0, &(0..50).map(noise).collect::<Vec<_>>()).unwrap();
    area.store(400, &[1; PAGE_SIZE]).unwrap();
    let before = area.stats().unwrap().counts;
    let batch: Vec<_> = (0..500).map(compressible).collect();
    assert!(full(&area.store_pages(300, &batch)));
    let after = area.stats().unwrap().counts;
    assert_eq!(after.compressions, before.compressions, "something was compressed");
    assert_eq!((after.refused_early - before.refused_early, after.refused_limit), (500, 500));
    assert_eq!((after.removed_by_failure, after.batches_failed, after.pages()), (1, 1, 50));
    assert!((0..50).all(|offset| load(&area, offset) == Ok(noise(offset))));
    assert_eq!(zswap.stats().unwrap().used_bytes, 50 * RAW);
}

#[test]
fn an_area_that_keeps_old_pages_loses_none_to_a_store_that_fails() {
    let (zswap, _) = with_area(1, &ZswapOptions { max_bytes: Some(100 * RAW), ..ZswapOptions::default() });
    let options = AreaOptions { refuse_incompressible: true, keep_old: true, ..AreaOptions::default() };
    let area = zswap.add_area(1000, &options).unwrap();
    let older: Vec<_> = (0..40).map(compressible).collect();
    area.store_pages(0, &older).unwrap();
    assert!(matches!(area.store(3, &noise(3)), Err(Error::TooLarge(_))));
    let mut batch: Vec<_> = (100..140).map(compressible).collect();
    batch[39] = noise(1);
    assert!(matches!(area.store_pages(0, &batch), Err(Error::TooLarge(_))));
    // The rest of the limit is taken by another area.
    let other = zswap.add_area(1000, &AreaOptions { keep_old: true, ..AreaOptions::default() }).unwrap();
    let stored = (0..200).take_while(|&offset| other.store(offset, &noise(offset)).is_ok()).count() as u64;
    assert!(full(&area.store_pages(0, &(200..240).map(compressible).collect::<Vec<_>>())));
    assert!(full(&other.store(stored - 1, &noise(1000))));
    assert!((0..40).all(|offset| load(&area, offset) == Ok(compressible(offset))));
    assert!((0..stored).all(|offset| load(&other, offset) == Ok(noise(offset))));
    let counts = zswap.stats().unwrap().counts;
    assert_eq!((counts.removed_by_failure, counts.pages()), (0, 40 + stored));
    // A page that repeats a word takes no room, and so replaces another at the limit.
    other.store(0, &[7; PAGE_SIZE]).unwrap();
    assert_eq!(load(&other, 0), Ok([7; PAGE_SIZE]));
}

#[test]
fn a_batch_that_fails_removes_what_was_there() {
    let (zswap, area) = with_area(10_000, &ZswapOptions { max_bytes: Some(200 * RAW), ..ZswapOptions::default() });
    let older: Vec<_> = (0..300).map(|at| [at as u8; PAGE_SIZE]).collect();
    area.store_pages(0, &older).unwrap();
    (0..20).for_each(|offset| area.store(offset * 10, &compressible(offset)).unwrap());
    // By the estimate the batch fits, because the pages before it were small.
    let batch: Vec<_> = (0..200).map(noise).collect();
    assert!(full(&area.store_pages(50, &batch)));
    let counts = area.stats().unwrap().counts;
    assert!(counts.compressions_wasted > 0, "it was rolled back, and that shows");
    assert_eq!(counts.removed_by_failure, 200);
    for offset in 0..300 {
        assert_eq!(load(&area, offset).is_ok(), !(50..250).contains(&offset));
    }
    assert_eq!(zswap.pool().stats().unwrap().objects, 5);
    let never = AreaOptions { refuse_incompressible: true, ..AreaOptions::default() };
    let other = zswap.add_area(100, &never).unwrap();
    let mut batch: Vec<_> = (0..30).map(compressible).collect();
    other.store_pages(0, &batch).unwrap();
    batch[29] = noise(1);
    assert!(matches!(other.store_pages(0, &batch), Err(Error::TooLarge(_))));
    assert_eq!(other.stored().next(), None);
    assert_eq!((other.stats().unwrap().used_bytes, zswap.pool().stats().unwrap().objects), (0, 5));
}

/// Once the limit was met, no page is taken until usage falls to the accept threshold.
#[test]
fn a_limit_that_was_met_refuses_until_the_accept_threshold() {
    for (accept_percent, percent) in [(None, 90), (Some(50), 50), (Some(100), 100)] {
        let options = ZswapOptions {
            max_bytes: Some(100 * RAW),
            tuning: ZswapTuning { accept_percent, ..ZswapTuning::default() },
            ..ZswapOptions::default()
        };
        let (zswap, area) = with_area(1000, &options);
        let stored = (0..).find(|&offset| area.store(offset, &noise(offset)).is_err()).unwrap();
        assert_eq!(stored, 100);
        let mut gone = 0;
        while full(&area.store(500, &noise(1))) {
            area.invalidate(gone, 1, Patience::Wait).unwrap();
            gone += 1;
        }
        assert_eq!(100 - gone, percent.min(99), "pages that were there when one was taken again");
        assert!(zswap.stats().unwrap().limit_hits > 0);
        // A filled page takes nothing, and is never refused.
        zswap.set_limit(Some(4112)).unwrap();
        area.store(501, &[3; PAGE_SIZE]).unwrap();
        zswap.set_limit(None).unwrap();
        (0..200).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
    }
}

/// The limit of an area does not keep pages out of other areas.
#[test]
fn areas_have_limits_of_their_own() {
    let (zswap, one) = with_area(100, &ZswapOptions::default());
    let options = AreaOptions { max_bytes: Some(3 * RAW), ..AreaOptions::default() };
    let other = zswap.add_area(100, &options).unwrap();
    (0..3).for_each(|offset| other.store(offset, &noise(offset)).unwrap());
    assert!(full(&other.store(3, &noise(3))));
    (0..50).for_each(|offset| one.store(offset, &noise(offset)).unwrap());
    let (first, second) = (one.stats().unwrap(), other.stats().unwrap());
    assert_eq!((first.limit_hits, second.counts.refused_area_limit, second.counts.refused_limit), (0, 1, 0));
    assert_eq!(first.used_bytes + second.used_bytes, zswap.stats().unwrap().used_bytes);
    other.set_limit(None).unwrap();
    other.store(3, &noise(3)).unwrap();
    other.set_limit(Some(RAW)).unwrap();
    assert!(full(&other.store(4, &noise(3))) && load(&other, 3).is_ok(), "less than it has is allowed");
}

/// The gaps between objects are joined before a page is refused.
#[test]
fn compaction_before_refusal() {
    let mut options = ZswapOptions::default();
    options.tuning.pool.max_bytes = Some(4 << 20);
    let (zswap, area) = with_area(100_000, &options);
    zswap.set_codec(Codec::Lz4).unwrap();
    let stored = (0..).find(|&offset| area.store(offset, &compressible(offset)).is_err()).unwrap();
    let stats = zswap.stats().unwrap();
    assert!(stats.counts.refused_memory == 1 && stats.capacity_hits == 1 && stats.limit_hits == 0);
    // Every zspage keeps some objects, so no page is free for another class.
    (0..stored).filter(|offset| offset % 4 != 0).for_each(|at| area.invalidate(at, 1, Patience::Wait).unwrap());
    let moved = zswap.pool().stats().unwrap().objects_moved;
    (0..300).for_each(|offset| area.store(90_000 + offset, &noise(offset)).unwrap());
    let stats = zswap.stats().unwrap();
    assert!(stats.capacity_hits > 1 && zswap.pool().stats().unwrap().objects_moved > moved);
    assert_eq!(stats.counts.refused_memory, 1);
    assert!((0..stored).filter(|at| at % 4 == 0).all(|at| load(&area, at) == Ok(compressible(at))));
    assert!((0..300).all(|offset| load(&area, 90_000 + offset) == Ok(noise(offset))));
}

/// A store that is refused while another thread compacts does not know whether that is in vain. If it noted that, other
/// stores would be refused for a while although compaction makes room.
#[test]
fn a_store_beside_another_thread_s_compaction_has_not_compacted_in_vain() {
    let mut options = ZswapOptions::default();
    options.tuning.pool.max_bytes = Some(1 << 20);
    let (zswap, area) = with_area(1000, &options);
    let stored = (0..).find(|&offset| area.store(offset, &noise(offset)).is_err()).unwrap();
    while area.has_compacted_in_vain() {
        thread::yield_now();
    }
    zswap.pool().while_compacting(|| {
        thread::scope(|scope| {
            let refused = scope.spawn(|| (area.store(stored, &noise(stored)).is_err(), area.has_compacted_in_vain()));
            assert_eq!(refused.join().unwrap(), (true, false));
        });
    });
}

/// Recompression works when a limit is met: only the smaller copy is charged.
#[test]
fn recompression_goes_on_where_a_limit_is_met() {
    for of_area in [false, true] {
        let (zswap, area) = with_area(1000, &ZswapOptions::default());
        (0..1000).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
        let used = zswap.stats().unwrap().used_bytes;
        if of_area {
            area.set_limit(Some(used / 10 * 9)).unwrap()
        } else {
            zswap.set_limit(Some(used / 10 * 9)).unwrap()
        }
        assert!(matches!(area.store(0, &noise(1)), Err(Error::Limit(_))));
        let before = zswap.stats().unwrap().used_bytes;
        // The first time around, all pages get a second chance.
        assert_eq!(area.recompress(1000, Codec::Zstd(3)), Ok(0));
        let smaller = area.recompress(1000, Codec::Zstd(3)).unwrap();
        assert!(smaller > 900, "{smaller} pages became smaller");
        assert!(zswap.stats().unwrap().used_bytes < before);
        (1..1000).for_each(|offset| assert_eq!(load(&area, offset), Ok(compressible(offset))));
        area.invalidate(0, 1000, Patience::Wait).unwrap();
        assert_eq!(zswap.stats().unwrap().used_bytes, 0);
    }
}

/// A pool that is full of holes has room: with any headroom, a store compacts until its page fits. If a store is
/// refused, compaction would not have made room.
#[test]
fn no_store_is_refused_by_a_sparse_pool() {
    const LIMIT: u64 = 8 << 20;
    for headroom_percent in [None, Some(1)] {
        let options = ZswapOptions {
            max_bytes: Some(LIMIT),
            tuning: ZswapTuning { headroom_percent, ..ZswapTuning::default() },
            ..ZswapOptions::default()
        };
        let (zswap, area) = with_area(200_000, &options);
        let stored = (0..200_000).take_while(|&offset| area.store(offset, &tiny(offset)).is_ok()).count() as u64;
        (0..stored).filter(|offset| offset % 16 != 0).for_each(|offset| {
            area.invalidate(offset, 1, Patience::Wait).unwrap();
        });
        let stored_refused = area.stats().unwrap().counts.refused_memory;
        let refused = (0..).find(|&page| area.store(199_999 - page, &noise(page)).is_err()).unwrap();
        assert!(refused > LIMIT / 4 * 3 / RAW, "page {refused} was refused");
        let pages = zswap.compact(&CompactBudget::default()).unwrap();
        // Otherwise the limit itself was met.
        let by_pool = area.stats().unwrap().counts.refused_memory > stored_refused;
        assert!(!by_pool || pages < 4, "compaction makes room for {pages} pages that were refused");
        assert_eq!(load(&area, 16), Ok(tiny(16)));
    }
}

/// Returns a page that compresses to a few words.
fn tiny(number: u64) -> PageBytes {
    let mut page = [0; PAGE_SIZE];
    page[..8].copy_from_slice(&(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    page
}

fn full_of(area: &Area, offset: u64) -> bool {
    full(&area.store(offset, &compressible(offset)))
}

/// How full a zswap or an area is can be read while another thread stands still in the middle of a call, and tells how
/// much has to go.
#[test]
fn usage_tells_how_many_bytes_have_to_go() {
    let options = ZswapOptions {
        max_bytes: Some(1 << 20),
        tuning: ZswapTuning { accept_percent: Some(80), ..ZswapTuning::default() },
        ..ZswapOptions::default()
    };
    let zswap = Zswap::new("test", &options).unwrap();
    let area = zswap.add_area(10_000, &AreaOptions::default()).unwrap();
    let empty = (zswap.usage(), area.usage());
    assert_eq!((empty.0.used_bytes, empty.0.max_bytes, empty.0.bytes_to_go), (0, Some(1 << 20), 0));
    assert_eq!((empty.1.used_bytes, empty.1.max_bytes, empty.1.bytes_to_go), (0, None, 0));
    let mut stored = 0;
    while area.store(stored, &compressible(stored)).is_ok() {
        stored += 1;
    }
    let (full, used) = (zswap.usage(), area.usage().used_bytes);
    assert_eq!((full.used_bytes, full.bytes_to_go), (used, used - (1 << 20) * 8 / 10));
    assert_eq!(area.usage().bytes_to_go, 0, "its own limit is none");
    let mut gone = 0;
    while zswap.usage().bytes_to_go > 0 {
        assert!(full_of(&area, stored) && gone < stored);
        area.invalidate(gone, 1, Patience::Wait).unwrap();
        gone += 1;
    }
    assert!(!full_of(&area, stored) && area.usage().used_bytes < used - (100 << 10));
    // A limit that falls below what is stored.
    area.set_limit(Some(10_000)).unwrap();
    let now = area.usage();
    assert_eq!((now.max_bytes, now.bytes_to_go), (Some(10_000), now.used_bytes - 8000));
    assert!(area.store(stored, &noise(1)).is_err());
    // A thread that holds every lock of the area's counts holds nobody up.
    let all = area.0.shards().lock_all();
    assert_eq!((zswap.usage().max_bytes, area.usage().max_bytes), (Some(1 << 20), Some(10_000)));
    assert!(!format!("{zswap:?} {area:?}").is_empty());
    drop(all);
}
