//! Each call once, on one thread.

use super::{compressible, load, noise, with_area};
use crate::plumbing::zswap::{begin_writeback, end_writeback};
use crate::{AreaOptions, Codec, CompactBudget, Error, LoadFlags, PAGE_SIZE, Patience, Zswap, ZswapOptions};
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

#[test]
fn pages_come_back_as_they_went() {
    let (zswap, area) = with_area(1000, &ZswapOptions::default());
    let pages = [compressible(1), noise(2), [0; PAGE_SIZE], [0xa5; PAGE_SIZE], compressible(3)];
    for (offset, page) in pages.iter().enumerate() {
        area.store(offset as u64 * 7, page).unwrap();
    }
    for (offset, page) in pages.iter().enumerate() {
        assert!(load(&area, offset as u64 * 7) == Ok(*page));
    }
    let stats = area.stats().unwrap();
    assert_eq!((stats.counts.compressed_pages, stats.counts.raw_pages, stats.counts.filled_pages), (2, 1, 2));
    assert_eq!(stats.used_bytes, zswap.stats().unwrap().used_bytes);
    let stored = |range: (Bound<u64>, Bound<u64>)| area.stored_in(range).collect::<Vec<_>>();
    assert_eq!(stored((Included(7), Excluded(21))), [7, 14]);
    assert_eq!(stored((Included(7), Included(21))), [7, 14, 21]);
    assert_eq!(stored((Excluded(7), Unbounded)), [14, 21, 28]);
    assert_eq!(stored((Unbounded, Included(u64::MAX))), [0, 7, 14, 21, 28]);
    let mut reversed = area.stored_in((Included(7), Excluded(3)));
    assert_eq!((reversed.size_hint(), reversed.next(), reversed.next()), ((0, Some(0)), None, None));
    assert!(matches!(load(&area, 1), Err(Error::NotFound(_))));
    let mut page = [0; PAGE_SIZE];
    area.load(7, &mut page, LoadFlags::TAKE).unwrap();
    assert!(page == noise(2));
    assert!(matches!(load(&area, 7), Err(Error::NotFound(_))));
    area.invalidate(0, 1000, Patience::Wait).unwrap();
    assert_eq!(area.stored().next(), None);
    let stats = zswap.stats().unwrap();
    assert_eq!((stats.counts.pages(), stats.used_bytes), (0, 0));
    area.remove().unwrap();
    assert!(matches!(area.store(0, &page), Err(Error::Removed)));
    assert_eq!(zswap.area_count(), 0);
}

#[test]
fn every_length_of_an_entry_comes_back() {
    let (zswap, area) = with_area(5000, &ZswapOptions::default());
    for codec in [Codec::Lz4, Codec::Zstd(1)] {
        zswap.set_codec(codec).unwrap();
        // Noise in front, and one byte that differs at the end: from the shortest entry to a page stored as it came.
        let page = |bytes: usize| {
            let mut page = noise(bytes as u64);
            page[bytes..].fill(7);
            page[PAGE_SIZE - 1] = 8;
            page
        };
        (0..PAGE_SIZE).step_by(3).for_each(|bytes| area.store(bytes as u64, &page(bytes)).unwrap());
        (0..PAGE_SIZE).step_by(3).for_each(|bytes| assert!(load(&area, bytes as u64) == Ok(page(bytes)), "{bytes}"));
    }
}

#[test]
fn batches_and_codecs_bring_the_same_pages_back() {
    let (zswap, area) = with_area(4096, &ZswapOptions::default());
    let pages: Vec<_> = (0..600).map(compressible).collect();
    area.store_pages(100, &pages).unwrap();
    let mut back = vec![[0; PAGE_SIZE]; 600];
    area.load_pages(100, &mut back, LoadFlags::KEEP, |_, result| result.unwrap()).unwrap();
    assert!(back == pages);
    let before = area.stats().unwrap().used_bytes;
    assert_eq!(area.recompress(600, Codec::Zstd(3)), Ok(0), "all were just stored");
    assert_eq!(area.recompress(600, Codec::Zstd(3)), Ok(600));
    assert!(area.stats().unwrap().used_bytes < before);
    zswap.set_codec(Codec::Raw).unwrap();
    area.store(0, &pages[0]).unwrap();
    assert_eq!(area.stats().unwrap().counts.raw_pages, 1);
    area.load_pages(100, &mut back, LoadFlags::TAKE, |_, result| result.unwrap()).unwrap();
    assert!(back == pages);
    assert!(matches!(zswap.set_codec(Codec::Zstd(99)), Err(Error::Invalid(_))));
    let mut tagged = ZswapOptions::default();
    tagged.tuning.pool.tuning.tags = true;
    assert!(matches!(Zswap::new("tags", &tagged).map(drop), Err(Error::Invalid(_))), "they would take room of pages");
    assert!(zswap.stats_json().unwrap().contains("\"recompressed\":600"));
}

#[test]
fn limits_hold_and_shrinking_makes_room() {
    let options = ZswapOptions { max_bytes: Some(1 << 20), ..ZswapOptions::default() };
    let (zswap, area) = with_area(100_000, &options);
    let written = Arc::new(Mutex::new(Vec::new()));
    let kept = written.clone();
    zswap
        .set_writeback(move |_, offset, page| {
            kept.lock().unwrap().push((offset, *page));
            Ok(())
        })
        .unwrap();
    let mut stored = 0;
    while area.store(stored, &compressible(stored)).is_ok() {
        stored += 1;
    }
    assert!(zswap.stats().unwrap().used_bytes <= 1 << 20);
    assert!(matches!(area.store(stored, &noise(1)), Err(Error::Limit(_))));
    assert_eq!(area.shrink(stored / 2), Ok(stored / 2));
    area.store(stored, &compressible(stored)).unwrap();
    for (offset, page) in written.lock().unwrap().iter() {
        assert!(*page == compressible(*offset) && matches!(load(&area, *offset), Err(Error::NotFound(_))));
    }
    assert!(area.reclaimable_pages().unwrap() > 0);
    zswap.compact(&CompactBudget::default()).unwrap();
    assert!(zswap.shrink(u64::MAX).unwrap() > 0);
    assert!(matches!(zswap.shrink(1), Err(Error::NotFound(_))));
}

#[test]
fn the_library_writes_pages_to_its_own_file() {
    let (zswap, area) = with_area(10_000, &ZswapOptions::default());
    let file = tempfile();
    zswap.set_backing_file(Some((file.as_fd(), 5 * PAGE_SIZE as u64))).unwrap();
    drop(file);
    let pages: Vec<_> = (0..400).map(compressible).collect();
    area.store_pages(0, &pages).unwrap();
    let written = zswap.shrink(1000).unwrap();
    assert!((1..400).contains(&written), "as many as the file has room for: {written}");
    assert_eq!(area.stats().unwrap().counts.file_pages, written);
    for (offset, page) in pages.iter().enumerate() {
        assert!(load(&area, offset as u64) == Ok(*page));
    }
    assert!(matches!(zswap.clear_writeback(), Err(Error::Busy(_))));
    area.invalidate(0, 200, Patience::Wait).unwrap();
    assert!(zswap.shrink(1000).unwrap() > 0, "there is room again");
    area.remove().unwrap();
    zswap.set_backing_file(None).unwrap();
}

fn tempfile() -> std::fs::File {
    let fd = crate::os::Os::default().memory_file("backing", 0, false).unwrap();
    std::fs::File::from(fd)
}

#[test]
fn claims_are_ended_once() {
    let (zswap, area) = with_area(100, &ZswapOptions::default());
    (0..10).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let (mut claims, mut pages) = (Vec::new(), [[0; PAGE_SIZE]; 4]);
    assert_eq!(begin_writeback(&area, &mut pages, |claim| claims.push(claim)), Ok(4));
    assert!(matches!(area.remove(), Err(Error::Busy(_))));
    assert!(matches!(area.invalidate(0, 100, Patience::Wait), Err(Error::Busy(_))), "this thread holds claims");
    assert!(pages[1] == compressible(claims[1].offset));
    load(&area, claims[0].offset).unwrap();
    assert_eq!(end_writeback(&area, &claims[0], Ok(())), Ok(false), "it was loaded meanwhile");
    assert_eq!(end_writeback(&area, &claims[1], Ok(())), Ok(true));
    assert!(matches!(end_writeback(&area, &claims[1], Ok(())), Err(Error::Stale(_))));
    assert_eq!(end_writeback(&area, &claims[2], Err(crate::Refusal::Io)), Ok(false));
    assert_eq!(zswap.stats().unwrap().claims, 1);
    let other = zswap.add_area(100, &AreaOptions::default()).unwrap();
    assert!(matches!(end_writeback(&other, &claims[3], Ok(())), Err(Error::Stale(_))));
    assert_eq!(end_writeback(&area, &claims[3], Ok(())), Ok(true));
    area.remove().unwrap();
}

#[test]
fn an_empty_terabyte_costs_nothing() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let area = zswap.add_area((1 << 40) / PAGE_SIZE as u64, &AreaOptions::default()).unwrap();
    area.store(1 << 27, &noise(1)).unwrap();
    area.invalidate(0, area.pages(), Patience::Wait).unwrap();
    assert!(area.stats().unwrap().metadata_bytes < 100_000);
    assert_eq!(area.stored().next(), None);
    area.store(1 << 27, &noise(1)).unwrap();
    assert_eq!(area.stored().next(), Some(1 << 27));
}

/// A range of no pages has an offset all the same, which is checked.
#[test]
fn a_range_of_no_pages_past_the_end_is_refused_by_each_call() {
    let (_, area) = with_area(10, &ZswapOptions::default());
    let none = |offset| {
        let loaded = area.load_pages(offset, &mut [], LoadFlags::KEEP, |_, _| panic!("there is no page"));
        [area.store_pages(offset, &[]), loaded, area.invalidate(offset, 0, Patience::Wait)]
    };
    assert_eq!(none(9), [Ok(()); 3]);
    for offset in [10, 11, u64::MAX] {
        assert!(none(offset).iter().all(|refused| matches!(refused, Err(Error::OutOfRange(_)))), "{offset}");
    }
    assert_eq!(area.load_scattered(&[], &mut [], LoadFlags::KEEP, |_, _| panic!("there is no page")), Ok(()));
}
