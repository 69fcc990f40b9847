//! The handle table becomes shorter after pages have gone: compaction gives the pages that are left low indices.

use super::{Until, claim_some, compressible, load, watched, with_area, with_disk};
use crate::word::HANDLE_BITS;
use crate::zswap::word::WordKind;
use crate::{Area, AreaOptions, CompactBudget, LoadFlags, PAGE_SIZE, Patience, Zswap, ZswapOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Pages of the tests: their words fill twelve pages of the handle table.
const PAGES: u64 = 6144;
/// One page of so many stays.
const ONE_IN: u64 = 16;

/// Returns a zswap of which most pages have gone.
fn thinned() -> (Zswap, Area) {
    let (zswap, area) = with_area(PAGES, &ZswapOptions::default());
    (0..PAGES).for_each(|at| area.store(at, &compressible(at)).unwrap());
    for at in (0..PAGES).filter(|at| !at.is_multiple_of(ONE_IN)) {
        area.invalidate(at, 1, Patience::Wait).unwrap();
    }
    (zswap, area)
}

fn check_pages(area: &Area) {
    for at in (0..PAGES).step_by(ONE_IN as usize) {
        assert!(load(area, at) == Ok(compressible(at)), "page {at}");
    }
}

/// Returns the index of a page's handle, or 0 if the page is not stored.
fn index_of(area: &Area, at: u64) -> u64 {
    match area.word_at(at).kind() {
        WordKind::Stored(handle) => crate::word::RawHandle::unpack(handle & ((1 << HANDLE_BITS) - 1)).index.0.into(),
        _ => 0,
    }
}

/// Returns the indices of the handles of all pages.
fn indices(area: &Area) -> Vec<u64> {
    (0..PAGES).map(|at| index_of(area, at)).collect()
}

/// Returns the highest index of a page's handle.
fn highest_index(area: &Area) -> u64 {
    indices(area).into_iter().max().unwrap()
}

fn table_pages(zswap: &Zswap) -> u64 {
    zswap.pool().check();
    zswap.pool().handle_table_pages() as u64
}

#[test]
fn compaction_ends_the_table_behind_the_pages_that_are_left() {
    let (zswap, area) = thinned();
    assert!((12..=13).contains(&table_pages(&zswap)), "twelve pages, and some indices at hand");
    let before = zswap.pool_stats().unwrap().metadata_pages;
    assert!(zswap.compact(&CompactBudget::default()).unwrap() > 0);
    assert!(highest_index(&area) < 2 * PAGES / ONE_IN, "{}", highest_index(&area));
    assert_eq!(table_pages(&zswap), 1);
    assert!(zswap.pool_stats().unwrap().metadata_pages + 11 <= before);
    check_pages(&area);
    // The words that went come again.
    (0..PAGES).for_each(|at| area.store(at, &compressible(at)).unwrap());
    assert!((12..=13).contains(&table_pages(&zswap)), "twelve pages, and some indices at hand");
    (0..PAGES).for_each(|at| assert!(load(&area, at) == Ok(compressible(at)), "page {at}"));
}

#[test]
fn a_page_that_is_claimed_keeps_its_index_until_the_next_compaction() {
    let (zswap, area) = thinned();
    let mut claims = claim_some(&area, (PAGES / ONE_IN) as usize);
    claims.sort_by_key(|(claim, _)| index_of(&area, claim.offset()));
    // The three with the highest indices stay claimed.
    let kept = claims.split_off(claims.len() - 3);
    drop(claims);
    let claimed = || kept.iter().map(|(claim, _)| index_of(&area, claim.offset())).collect::<Vec<_>>();
    let before = claimed();
    assert!(before[0] > 2 * PAGES / ONE_IN, "{before:?} would not be renamed");
    zswap.compact(&CompactBudget::default()).unwrap();
    table_pages(&zswap);
    assert_eq!(claimed(), before);
    for (claim, page) in kept {
        let offset = claim.offset();
        assert!(claim.written() == Ok(true) && page == compressible(offset));
        area.store(offset, &page).unwrap();
    }
    zswap.compact(&CompactBudget::default()).unwrap();
    assert!(table_pages(&zswap) <= 2);
    check_pages(&area);
}

#[test]
fn a_budget_cuts_the_work_into_parts() {
    let (zswap, area) = thinned();
    let budget = CompactBudget { max_bytes_moved: Some(4096), ..CompactBudget::default() };
    let parts = (0..10_000).take_while(|_| {
        let before = indices(&area);
        zswap.compact(&budget).unwrap();
        zswap.pool().check();
        let renamed = before.iter().zip(indices(&area)).filter(|&(before, now)| *before != now).count();
        assert!(renamed <= 64, "{renamed} pages were renamed by a budget for 64");
        table_pages(&zswap) > 1
    });
    let parts = parts.count();
    assert!((10..9_999).contains(&parts), "{parts} parts");
    check_pages(&area);
}

#[test]
fn areas_that_come_and_go_are_no_hindrance() {
    let (zswap, area) = thinned();
    let other = zswap.add_area(PAGES, &AreaOptions::default()).unwrap();
    (0..PAGES).for_each(|at| other.store(at, &compressible(at)).unwrap());
    for at in (0..PAGES).filter(|at| !at.is_multiple_of(ONE_IN)) {
        other.invalidate(at, 1, Patience::Wait).unwrap();
    }
    let budget = CompactBudget { max_bytes_moved: Some(4096), ..CompactBudget::default() };
    (0..300).for_each(|_| _ = zswap.compact(&budget).unwrap());
    drop(area);
    zswap.compact(&CompactBudget::default()).unwrap();
    zswap.compact(&CompactBudget::default()).unwrap();
    assert!(table_pages(&zswap) <= 2, "{}", table_pages(&zswap));
    check_pages(&other);
}

/// Pages are loaded, taken, stored, removed and written back while their objects get other handles.
#[test]
fn pages_in_use_are_renamed() {
    const ROUNDS: u64 = 3;
    const PAGES: u64 = 1536;
    watched(|| {
        let (zswap, area) = with_area(PAGES, &ZswapOptions::default());
        let disk = with_disk(&zswap);
        let done = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let end = Until(&done);
            for thread in 0..2 {
                let (area, done, disk) = (&area, &done, &disk);
                scope.spawn(move || {
                    let mut at = thread;
                    let mut page = [0; PAGE_SIZE];
                    while !done.load(SeqCst) {
                        at = (at + 7919) % PAGES;
                        // Each thread has its own offsets, so it knows what is there: its page, or what was written.
                        let at = at / 2 * 2 + thread;
                        match at % 5 {
                            0 => area.store(at, &compressible(at)).unwrap(),
                            1 => drop(area.load(at, &mut page, LoadFlags::TAKE)),
                            2 => area.invalidate(at, 1, Patience::Wait).unwrap(),
                            _ => {
                                if area.load(at, &mut page, LoadFlags::KEEP).is_ok() {
                                    assert!(page == compressible(at), "page {at}");
                                } else if let Some(written) = disk.lock().unwrap().get(&(area.id(), at)) {
                                    assert!(*written == compressible(at), "page {at} as it was written");
                                }
                            }
                        }
                    }
                });
            }
            for round in 0..ROUNDS {
                (0..PAGES).for_each(|at| area.store(at, &compressible(at)).unwrap());
                for at in (0..PAGES).filter(|at| !(at + round).is_multiple_of(ONE_IN)) {
                    area.invalidate(at, 1, Patience::Wait).unwrap();
                }
                zswap.compact(&CompactBudget::default()).unwrap();
                _ = zswap.shrink(32);
                zswap.compact(&CompactBudget::default()).unwrap();
            }
            drop(end);
        });
        zswap.pool().check();
    });
}
