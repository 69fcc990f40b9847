//! Statistics: they are of one moment whatever runs, and what an area did stays counted when it has gone.

use super::{Until, compressible, load, noise, take, with_area, with_disk};
use crate::os::{Os, injected::Faults};
use crate::plumbing::zswap::{begin_writeback, end_writeback};
use crate::{AreaOptions, CompactBudget, Counts, PAGE_SIZE, Patience, Zswap, ZswapOptions};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

/// Checks that the pages that came and did not go are there. Pages are never replaced in this test.
fn balance(counts: &Counts) -> u64 {
    counts.stores - counts.takes - counts.invalidated - counts.written_back
}

/// A thread that reads the statistics of an empty file does not keep the file from being taken away.
#[test]
fn a_file_is_not_in_use_because_its_statistics_are_read() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let file = Os::default().memory_file("backing", 0, false).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(SeqCst) {
                zswap.stats().unwrap();
            }
        });
        let _stopping = Until(&stop);
        for round in 0..300 {
            zswap.set_backing_file(Some((file.as_fd(), 1 << 20))).unwrap();
            // Until the other thread is reading, if that shows.
            (0..10_000).find(|_| zswap.file_users() > 1);
            assert_eq!(zswap.set_backing_file(None), Ok(()), "round {round}");
        }
    });
}

#[test]
fn a_snapshot_is_of_one_moment() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let areas: Vec<_> = (0..3).map(|_| zswap.add_area(1000, &AreaOptions::default()).unwrap()).collect();
    with_disk(&zswap);
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        for number in 0..4_u64 {
            let (areas, stop, zswap) = (&areas, &stop, &zswap);
            threads.spawn(move || {
                let _stopping = Until(stop);
                for round in 0..if cfg!(debug_assertions) { 1500 } else { 30_000 } {
                    let (area, offset) = (&areas[round as usize % 3], number * 200 + round / 3 % 200);
                    match round % 4 {
                        0 => area.store_pages(number * 200, &[[5; PAGE_SIZE]; 1]).ok(),
                        1 => area.store(offset, &compressible(round)).ok(),
                        _ => area.store(offset, &[round as u8; PAGE_SIZE]).ok(),
                    };
                    if round % 5 == 0 {
                        zswap.shrink(1).ok();
                    }
                    take(area, offset).ok();
                    area.invalidate(number * 200, 200, Patience::Wait).unwrap();
                }
            });
        }
        while !stop.load(SeqCst) {
            let snapshot = zswap.snapshot().unwrap();
            let mut pages = 0;
            for area in &snapshot.areas {
                assert_eq!(balance(&area.stats.counts), area.stats.counts.pages(), "{area:?}");
                pages += area.stats.counts.pages();
            }
            assert_eq!((snapshot.zswap.areas, snapshot.zswap.counts.pages()), (3, pages));
            let one = areas[0].stats().unwrap().counts;
            assert_eq!(balance(&one), one.pages());
        }
    });
}

#[test]
fn the_counts_of_a_removed_area_stay() {
    let (zswap, area) = with_area(100, &ZswapOptions::default());
    (0..10).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
    take(&area, 3).unwrap();
    load(&area, 4).unwrap();
    area.remove().unwrap();
    let other = zswap.add_area(100, &AreaOptions::default()).unwrap();
    other.store(1, &compressible(1)).unwrap();
    let stats = zswap.stats().unwrap();
    assert_eq!((stats.counts.stores, stats.counts.takes, stats.counts.loads), (11, 1, 2));
    assert_eq!((stats.counts.pages(), stats.counts.raw_pages, stats.areas), (1, 0, 1));
    assert!(other.id() > area.id(), "numbers are not used twice");
    drop(other);
    assert_eq!((zswap.stats().unwrap().counts.stores, zswap.stats().unwrap().used_bytes), (11, 0));
}

#[test]
fn statistics_as_json_are_the_snapshot() {
    let zswap = Zswap::new("test", &ZswapOptions { max_bytes: Some(1 << 20), ..ZswapOptions::default() }).unwrap();
    let options = AreaOptions { name: "a \"disk\"".to_owned(), ..AreaOptions::default() };
    let area = zswap.add_area(100, &options).unwrap();
    area.store(1, &compressible(1)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&zswap.stats_json().unwrap()).unwrap();
    let stats = zswap.stats().unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["zswap"]["max_bytes"], 1 << 20);
    let counts = (&json["zswap"]["counts"]["stores"], &json["areas"][0]["counts"]["compressed_pages"]);
    assert_eq!(counts, (&1.into(), &1.into()));
    assert_eq!(json["areas"][0]["max_bytes"], serde_json::Value::Null, "no limit of its own");
    assert_eq!((&json["name"], &json["areas"][0]["name"]), (&"test".into(), &"a \"disk\"".into()));
    let snapshot = zswap.snapshot().unwrap();
    assert_eq!(json, serde_json::to_value(&snapshot).unwrap(), "the text and the value have one form");
    assert_eq!((&*snapshot.name, &*snapshot.areas[0].name), ("test", "a \"disk\""));
    assert_eq!(json["zswap"]["used_bytes"], stats.used_bytes);
    assert_eq!(json["areas"][0]["area"], area.id());
}

/// Fewer pages are worth writing back if pages lately came back, and if they are small.
#[test]
fn reclaimable_pages_follow_refaults_and_the_ratio() {
    let (zswap, area) = with_area(1000, &ZswapOptions::default());
    assert_eq!(area.reclaimable_pages(), Ok(0));
    (0..100).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    (100..200).for_each(|offset| area.store(offset, &[offset as u8; PAGE_SIZE]).unwrap());
    let used = area.stats().unwrap().used_bytes;
    let all = area.reclaimable_pages().unwrap();
    assert_eq!(all, used / PAGE_SIZE as u64, "filled pages do not count");
    area.note_refaults(50).unwrap();
    assert_eq!(area.reclaimable_pages(), Ok(used / 2 / PAGE_SIZE as u64));
    assert_eq!(area.reclaimable_pages(), Ok(all), "each refault is answered for once");
    area.note_refaults(1000).unwrap();
    assert_eq!(area.reclaimable_pages(), Ok(0));
    let never = zswap.add_area(10, &AreaOptions { no_writeback: true, ..AreaOptions::default() }).unwrap();
    never.store(1, &compressible(1)).unwrap();
    assert_eq!(never.reclaimable_pages(), Ok(0));
    assert!(zswap.reclaimable_pages().unwrap() <= all);
}

/// The index of an area is given back with the pages in it.
#[test]
fn metadata_follows_what_is_stored() {
    let (zswap, area) = with_area(1 << 20, &ZswapOptions::default());
    let empty = area.stats().unwrap().metadata_bytes;
    (0..1 << 20).step_by(512).for_each(|offset| area.store(offset, &[7; PAGE_SIZE]).unwrap());
    assert_eq!(area.stats().unwrap().metadata_bytes, empty + 2048 * PAGE_SIZE as u64);
    area.invalidate(0, 1 << 19, Patience::Wait).unwrap();
    assert_eq!(area.stats().unwrap().metadata_bytes, empty + 1024 * PAGE_SIZE as u64, "large ranges give back");
    (1 << 19..1 << 20).for_each(|offset| area.invalidate(offset, 1, Patience::Wait).unwrap());
    assert_eq!(area.stats().unwrap().metadata_bytes, empty + 1024 * PAGE_SIZE as u64, "small ones do not");
    zswap.compact(&CompactBudget::default()).unwrap();
    assert_eq!(area.stats().unwrap().metadata_bytes, empty);
}

/// A zswap releases everything with the last of its handles, in whatever order they go.
#[test]
fn a_zswap_is_released_with_its_last_handle() {
    for zswap_first in [true, false] {
        let faults = Arc::<Faults>::default();
        let os = Os { faults: Some(faults.clone()) };
        let zswap = Zswap::with_os(os, "test", &ZswapOptions::default()).unwrap();
        let area = zswap.add_area(1000, &AreaOptions::default()).unwrap();
        let disk = with_disk(&zswap);
        (0..50).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
        let (mut claims, mut pages) = (Vec::new(), [[0; PAGE_SIZE]; 8]);
        assert_eq!(begin_writeback(&area, &mut pages, |claim| claims.push(claim)), Ok(8));
        // Two claims are never ended, and go with their area.
        claims[2..].iter().for_each(|claim| _ = end_writeback(&area, claim, Ok(())).unwrap());
        zswap.shrink(10).unwrap();
        if zswap_first {
            drop(zswap);
            assert!(load(&area, 40) == Ok(compressible(40)), "an area is enough to use it");
            drop(area);
        } else {
            drop(area);
            assert_eq!((zswap.area_count(), zswap.stats().unwrap().used_bytes), (0, 0));
            drop(zswap);
        }
        assert_eq!((Arc::strong_count(&disk), Arc::strong_count(&faults)), (1, 1), "something is left");
    }
}
