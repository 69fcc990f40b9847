//! Several tiers in order, those of the program's own among them: full, away, lost, slow, and with bytes of another
//! time.

use super::own_tier::{OwnTier, OwnTierState};
use super::{PageBytes, Until, WATCHDOG, compressible, load, noise, take};
use crate::os::{Call, Os, injected::Faults};
use crate::tests::shared::Rng;
use crate::zswap::word::WordKind;
use crate::{
    Area, AreaOptions, CompactBudget, Error, LoadFlags, PAGE_SIZE, Patience, TierOptions, Zswap, ZswapOptions,
};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const ALL: CompactBudget = CompactBudget { max_bytes_moved: None, max_time: None };

fn page(offset: u64, version: u64) -> PageBytes {
    let number = offset << 20 | version;
    if offset.is_multiple_of(3) { noise(number) } else { compressible(number) }
}

pub fn own(zswap: &Zswap, name: &str) -> (u32, Arc<OwnTierState>) {
    let state = Arc::<OwnTierState>::default();
    let options = TierOptions { name: name.into(), max_bytes: 64 << 20 };
    (zswap.add_tier(OwnTier(state.clone()), &options).unwrap(), state)
}

/// Makes a zswap with an area of `pages` pages and `tiers` tiers of the program's own.
pub fn with_tiers(pages: u64, tiers: usize) -> (Zswap, Area, Vec<Arc<OwnTierState>>) {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let states = (0..tiers).map(|number| {
        let (tier, state) = own(&zswap, &format!("tier {number}"));
        assert_eq!(tier, number as u32);
        state
    });
    let states = states.collect();
    let area = zswap.add_area(pages, &AreaOptions::default()).unwrap();
    (zswap, area, states)
}

fn store_all(area: &Area, version: u64) {
    (0..area.pages()).for_each(|offset| area.store(offset, &page(offset, version)).unwrap());
}

fn is_on_tier(area: &Area, offset: u64) -> bool {
    matches!(area.word_at(offset).kind(), WordKind::Backed(_))
}

fn pages_on(zswap: &Zswap, tier: u32) -> u64 {
    zswap.tier_stats(tier).unwrap().pages
}

fn assert_all(area: &Area, version: u64) {
    assert!((0..area.pages()).all(|offset| load(area, offset) == Ok(page(offset, version))));
}

#[test]
fn pages_leave_to_an_own_tier_and_come_back() {
    let (zswap, area, tiers) = with_tiers(640, 1);
    store_all(&area, 0);
    assert_eq!(zswap.shrink(640), Ok(640));
    let stats = zswap.tier_stats(0).unwrap();
    let held: usize = tiers[0].extents().values().map(Vec::len).sum();
    assert_eq!((stats.pages, stats.puts, stats.put_bytes), (640, stats.extents, held as u64));
    assert!(stats.page_bytes < stats.put_bytes && stats.put_bytes <= stats.bytes && stats.puts <= 20, "{stats:?}");
    assert!(tiers[0].extents().keys().all(|id| id.owner == stats.owner));
    assert_all(&area, 0);
    assert_eq!(zswap.tier_stats(0).unwrap().loads, 640);
    (0..640).for_each(|offset| assert!(take(&area, offset) == Ok(page(offset, 0))));
    zswap.compact(&ALL).unwrap();
    assert!(tiers[0].extents().is_empty(), "an extent stays although no page needs it");
    assert_eq!(zswap.remove_tier(0), Ok(()));
    assert_eq!(Arc::strong_count(&tiers[0]), 1, "the tier was not dropped");
}

#[test]
fn entries_are_read_ahead_in_order_and_one_by_one_otherwise() {
    let (zswap, area, tiers) = with_tiers(64, 1);
    (0..64).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    assert_eq!(zswap.shrink(64), Ok(64));
    let gets = |offsets: &mut dyn Iterator<Item = u64>| {
        zswap.forget_reads();
        let (gets, bytes) = (tiers[0].gets.load(SeqCst), tiers[0].got_bytes.load(SeqCst));
        offsets.for_each(|offset| assert!(load(&area, offset) == Ok(compressible(offset))));
        (tiers[0].gets.load(SeqCst) - gets, tiers[0].got_bytes.load(SeqCst) - bytes)
    };
    let (in_order, back) = (gets(&mut (0..64)), gets(&mut (0..64).rev()));
    let stored = zswap.tier_stats(0).unwrap().page_bytes;
    assert!(in_order.0 <= 4, "{} reads in order", in_order.0);
    // No byte of a neighbour is read for pages that are not asked for in order.
    assert_eq!(back, (64, stored));
}

#[test]
fn what_the_first_tier_refuses_goes_to_the_next() {
    let (zswap, area, tiers) = with_tiers(256, 3);
    tiers[0].full.store(true, SeqCst);
    tiers[1].away.store(true, SeqCst);
    store_all(&area, 0);
    assert_eq!(zswap.shrink(256), Ok(256));
    assert_eq!([0, 1, 2].map(|tier| pages_on(&zswap, tier)), [0, 0, 256]);
    let [full, away] = [0, 1].map(|tier| zswap.tier_stats(tier).unwrap());
    assert!(full.full > 0 && away.away > 0 && full.puts == 0 && away.puts == 0);
    assert_all(&area, 0);
    tiers.iter().for_each(|tier| {
        tier.full.store(false, SeqCst);
        tier.away.store(false, SeqCst);
    });
    // What arrived although the answer was lost is removed.
    zswap.compact(&ALL).unwrap();
    assert!(tiers[0].extents().is_empty() && tiers[1].extents().is_empty());
    store_all(&area, 1);
    assert_eq!(zswap.shrink(256), Ok(256));
    assert_eq!([0, 1, 2].map(|tier| pages_on(&zswap, tier)), [256, 0, 0]);
    assert_all(&area, 1);
}

#[test]
fn a_tier_is_filled_as_far_as_it_has_room() {
    let (zswap, area, tiers) = with_tiers(512, 2);
    tiers[0].room.store(300 << 10, SeqCst);
    store_all(&area, 0);
    assert_eq!(zswap.shrink(512), Ok(512));
    let [first, second] = [0, 1].map(|tier| zswap.tier_stats(tier).unwrap());
    assert!(first.pages > 0 && second.pages > 0 && first.put_bytes <= 300 << 10, "{first:?}");
    assert_all(&area, 0);
}

#[test]
fn a_file_and_an_own_tier_are_used_in_the_order_of_their_addition() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let file = File::from(Os::default().memory_file("backing", 0, false).unwrap());
    assert_eq!(zswap.add_file_tier("disk", file.as_fd(), 256 << 10), Ok(0));
    let (own, state) = own(&zswap, "own");
    let area = zswap.add_area(300, &AreaOptions::default()).unwrap();
    store_all(&area, 0);
    assert_eq!(zswap.shrink(300), Ok(300));
    let [disk, far] = [0, own].map(|tier| zswap.tier_stats(tier).unwrap());
    assert!(disk.pages > 100 && far.pages == 300 - disk.pages && disk.is_file && !far.is_file, "{disk:?} {far:?}");
    assert_all(&area, 0);
    let snapshot = zswap.snapshot().unwrap();
    let names: Vec<_> = snapshot.tiers.iter().map(|tier| (tier.name.as_str(), tier.stats.tier)).collect();
    assert_eq!(names, [("disk", 0), ("own", own)]);
    state.away.store(true, SeqCst);
    zswap.forget_reads();
    let away = (0..300).filter(|&offset| matches!(load(&area, offset), Err(Error::Again(_)))).count() as u64;
    assert_eq!(away, far.pages);
}

#[test]
fn an_area_uses_the_tiers_that_it_names() {
    let (zswap, all, tiers) = with_tiers(64, 2);
    let second = zswap.add_area(64, &AreaOptions { tiers: 0b10, ..Default::default() }).unwrap();
    store_all(&all, 0);
    store_all(&second, 1);
    assert_eq!(zswap.shrink(128), Ok(128));
    assert_eq!([0, 1].map(|tier| pages_on(&zswap, tier)), [64, 64]);
    assert!(load(&second, 5) == Ok(page(5, 1)));
    // No tier that it names is there.
    second.set_tiers(0b100).unwrap();
    store_all(&second, 2);
    assert!(matches!(second.shrink(64), Err(Error::Again(_))));
    second.set_tiers(0b1).unwrap();
    assert_eq!(second.shrink(64), Ok(64));
    assert_eq!([0, 1].map(|tier| pages_on(&zswap, tier)), [128, 0]);
    assert!(matches!(second.set_tiers(1 << 8), Err(Error::Invalid(_))));
    let wrong = AreaOptions { tiers: 1 << 20, ..Default::default() };
    assert!(matches!(zswap.add_area(1, &wrong), Err(Error::Invalid(_))));
    assert_eq!(tiers.len(), 2);
}

#[test]
fn pages_on_a_tier_that_is_away_wait_for_it() {
    let (zswap, area, tiers) = with_tiers(64, 1);
    store_all(&area, 0);
    assert_eq!(zswap.shrink(64), Ok(64));
    tiers[0].away.store(true, SeqCst);
    let mut untouched = [0x3c; PAGE_SIZE];
    assert!(matches!(area.load(3, &mut untouched, LoadFlags::TAKE), Err(Error::Again(_))));
    assert!(untouched == [0x3c; PAGE_SIZE]);
    assert!(matches!(load(&area, 3), Err(Error::Again(_))));
    // What is replaced meanwhile is in the pool, and its extent is removed when the tier is back.
    store_all(&area, 1);
    assert!(matches!(zswap.shrink(64), Err(Error::Again(_))));
    assert_all(&area, 1);
    zswap.compact(&ALL).unwrap();
    assert!(!tiers[0].extents().is_empty());
    tiers[0].away.store(false, SeqCst);
    zswap.compact(&ALL).unwrap();
    assert!(tiers[0].extents().is_empty());
    assert_eq!(zswap.shrink(64), Ok(64));
    assert_all(&area, 1);
    let stats = zswap.tier_stats(0).unwrap();
    assert!(stats.away >= 4 && stats.damaged == 0 && stats.full == 0, "{stats:?}");
}

/// A tier that returns what an older extent had for the same page, a flipped bit, or nothing.
#[test]
fn wrong_bytes_of_a_tier_are_refused() {
    let (zswap, area, tiers) = with_tiers(64, 1);
    store_all(&area, 0);
    assert_eq!(zswap.shrink(64), Ok(64));
    let old: Vec<Vec<u8>> = tiers[0].extents().values().cloned().collect();
    area.invalidate(0, 64, Patience::Wait).unwrap();
    // The same bytes of the same pages, under other names.
    store_all(&area, 0);
    assert_eq!(zswap.shrink(64), Ok(64));
    let new = tiers[0].extents().clone();
    let assert_lost = |what: &str| {
        zswap.forget_reads();
        for offset in 0..64 {
            let mut untouched = [0x3c; PAGE_SIZE];
            let refused = area.load(offset, &mut untouched, LoadFlags::KEEP);
            assert!(matches!(refused, Err(Error::Io(_))), "{what}: {refused:?}");
            assert!(untouched == [0x3c; PAGE_SIZE], "{what}");
        }
    };
    let fresh = |id: &crate::ExtentId| new.contains_key(id);
    tiers[0].extents().retain(|id, _| fresh(id));
    tiers[0].extents().values_mut().zip(&old).for_each(|(now, old)| now.clone_from(old));
    assert_lost("an older extent's bytes");
    *tiers[0].extents() = new.clone();
    tiers[0].extents().values_mut().for_each(|bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x10));
    assert_lost("flipped bits");
    *tiers[0].extents() = new;
    tiers[0].lost.store(true, SeqCst);
    assert_lost("an extent that is gone");
    tiers[0].lost.store(false, SeqCst);
    zswap.forget_reads();
    assert_all(&area, 0);
    assert_eq!(zswap.tier_stats(0).unwrap().damaged, 3 * 64);
}

#[test]
fn a_tier_s_own_functions_can_t_use_tiers() {
    let (zswap, area, tiers) = with_tiers(64, 2);
    let zswap = Arc::new(zswap);
    store_all(&area, 0);
    assert_eq!(area.shrink(8), Ok(8));
    let (inner, of_area) = (zswap.clone(), area.clone());
    let on_tier = (0..64).find(|&offset| is_on_tier(&area, offset)).unwrap();
    let in_pool = (0..64).find(|&offset| !is_on_tier(&area, offset)).unwrap();
    *tiers[0].in_put.lock().unwrap() = Some(Box::new(move || {
        assert!(matches!(inner.shrink(1), Err(Error::Busy(_))));
        assert!(matches!(of_area.shrink(1), Err(Error::Busy(_))));
        assert!(matches!(inner.compact(&ALL), Err(Error::Busy(_))));
        assert!(matches!(inner.remove_tier(0), Err(Error::Busy(_))));
        assert!(matches!(inner.set_backing_file(None), Err(Error::Busy(_))));
        assert!(matches!(load(&of_area, on_tier), Err(Error::Busy(_))));
        // These use no tier.
        assert!(load(&of_area, in_pool) == Ok(page(in_pool, 0)));
        of_area.store(in_pool, &page(in_pool, 0)).unwrap();
        inner.stats().unwrap();
        inner.tier_stats(0).unwrap();
    }));
    assert!(matches!(zswap.shrink(8), Ok(1..)));
    *tiers[0].in_put.lock().unwrap() = None;
    assert!(load(&area, on_tier) == Ok(page(on_tier, 0)));
}

#[test]
fn a_panic_in_a_tier_loses_nothing() {
    let (zswap, area, tiers) = with_tiers(64, 1);
    store_all(&area, 0);
    *tiers[0].in_put.lock().unwrap() = Some(Box::new(|| std::panic::resume_unwind(Box::new("in a tier"))));
    assert!(matches!(zswap.shrink(64), Err(Error::Again(_))));
    assert_all(&area, 0);
    assert_eq!((pages_on(&zswap, 0), zswap.tier_stats(0).unwrap().away), (0, 1));
}

#[test]
fn a_tier_that_is_removed_gives_its_pages_to_the_others() {
    let (zswap, area, tiers) = with_tiers(3000, 2);
    store_all(&area, 0);
    assert_eq!(zswap.shrink(3000), Ok(3000));
    tiers[1].full.store(true, SeqCst);
    assert!(matches!(zswap.remove_tier(0), Err(Error::Busy(_))));
    assert_all(&area, 0);
    tiers[1].full.store(false, SeqCst);
    assert_eq!(zswap.remove_tier(0), Ok(()));
    assert_eq!((pages_on(&zswap, 1), Arc::strong_count(&tiers[0])), (3000, 1));
    assert!(tiers[0].extents().is_empty() && matches!(zswap.tier_stats(0), Err(Error::NotFound(_))));
    assert_all(&area, 0);
    // Its number and its slots are used again.
    let (tier, state) = own(&zswap, "new");
    assert_eq!((tier, zswap.remove_tier(1)), (0, Ok(())));
    assert_eq!(pages_on(&zswap, 0), 3000);
    assert_all(&area, 0);
    area.invalidate(0, 3000, Patience::Wait).unwrap();
    assert_eq!(zswap.remove_tier(0), Ok(()));
    assert!(state.extents().is_empty());
    assert!(matches!(zswap.shrink(1), Err(Error::Invalid(_))), "there is no tier any more");
}

/// A file has room for a part of what is moved, and can't be written. The next tier gets that part.
#[test]
fn what_a_file_had_room_for_but_could_not_write_goes_to_the_next_tier() {
    let faults = Arc::<Faults>::default();
    let zswap = Zswap::with_os(Os { faults: Some(faults.clone()) }, "test", &ZswapOptions::default()).unwrap();
    let (first, _) = own(&zswap, "first");
    let file = File::from(Os::default().memory_file("backing", 0, false).unwrap());
    zswap.add_file_tier("small", file.as_fd(), 40 << 10).unwrap();
    let (last, _) = own(&zswap, "last");
    let area = zswap.add_area(300, &AreaOptions::default()).unwrap();
    store_all(&area, 0);
    assert_eq!(zswap.shrink(300), Ok(300));
    faults.fail(Call::Write, 1, 1 << 40);
    assert_eq!(zswap.remove_tier(first), Ok(()));
    assert_eq!(pages_on(&zswap, last), 300);
    assert_all(&area, 0);
}

/// A tier is removed while an extent is on its way there. It is not asked for what it does not have yet.
#[test]
fn an_extent_that_is_being_put_is_not_read() {
    let (zswap, area, tiers) = with_tiers(64, 2);
    store_all(&area, 0);
    let ((entered, enters), (go_on, goes_on)) = (channel(), channel());
    *tiers[0].in_put.lock().unwrap() = Some(Box::new(move || {
        entered.send(()).unwrap();
        goes_on.recv_timeout(WATCHDOG).unwrap();
    }));
    thread::scope(|threads| {
        let shrink = threads.spawn(|| zswap.shrink(64));
        enters.recv_timeout(WATCHDOG).unwrap();
        assert!(matches!(zswap.remove_tier(0), Err(Error::Busy(_))));
        assert_eq!((tiers[0].gets.load(SeqCst), zswap.tier_stats(0).unwrap().damaged), (0, 0));
        go_on.send(()).unwrap();
        (0..8).for_each(|_| _ = go_on.send(()));
        assert_eq!(shrink.join().unwrap(), Ok(64));
    });
    *tiers[0].in_put.lock().unwrap() = None;
    assert_eq!(zswap.remove_tier(0), Ok(()));
    assert_all(&area, 0);
}

#[test]
fn pages_of_an_area_that_names_no_other_tier_keep_theirs() {
    let (zswap, first, tiers) = with_tiers(64, 2);
    let only = zswap.add_area(64, &AreaOptions { tiers: 1, ..Default::default() }).unwrap();
    store_all(&first, 0);
    store_all(&only, 1);
    assert_eq!(zswap.shrink(128), Ok(128));
    assert_eq!(pages_on(&zswap, 0), 128);
    assert!(matches!(zswap.remove_tier(0), Err(Error::Busy(_))));
    assert_eq!([0, 1].map(|tier| pages_on(&zswap, tier)), [64, 64]);
    assert_all(&first, 0);
    assert_all(&only, 1);
    // The tier is written to again.
    store_all(&only, 2);
    assert_eq!(only.shrink(64), Ok(64));
    assert_all(&only, 2);
    assert_eq!(tiers.len(), 2);
}

/// After a larger tier, a smaller one has its slots: nothing goes on where the larger one had more.
#[test]
fn a_smaller_tier_after_a_larger_one_is_cleaned() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let area = zswap.add_area(6000, &AreaOptions::default()).unwrap();
    for (bytes, pages) in [(64 << 20, 6000), (1 << 20, 300), (64 << 20, 6000)] {
        let state = Arc::<OwnTierState>::default();
        let options = TierOptions { max_bytes: bytes, ..Default::default() };
        let tier = zswap.add_tier(OwnTier(state.clone()), &options).unwrap();
        zswap.extents().clean_without_slack();
        (0..pages).for_each(|offset| area.store(offset, &page(offset, 0)).unwrap());
        assert!(matches!(zswap.shrink(pages), Ok(1..)));
        (0..pages).filter(|offset| offset % 2 == 0).for_each(|at| area.invalidate(at, 1, Patience::Wait).unwrap());
        zswap.compact(&ALL).unwrap();
        let stats = zswap.tier_stats(tier).unwrap();
        assert!(stats.moved > 0 && stats.bytes * 100 <= stats.page_bytes * 150 + (400 << 10), "{stats:?}");
        (0..pages).filter(|at| at % 2 == 1).for_each(|at| assert!(load(&area, at) == Ok(page(at, 0))));
        area.invalidate(0, 6000, Patience::Wait).unwrap();
        assert_eq!(zswap.remove_tier(tier), Ok(()));
    }
}

/// What is left on a tier when its zswap goes is removed.
#[test]
fn a_zswap_that_goes_leaves_nothing_on_its_tiers() {
    for zswap_first in [true, false] {
        let (zswap, area, tiers) = with_tiers(64, 1);
        store_all(&area, 0);
        assert_eq!(zswap.shrink(64), Ok(64));
        assert!(!tiers[0].extents().is_empty());
        if zswap_first {
            drop((zswap, area));
        } else {
            drop((area, zswap));
        }
        assert!(tiers[0].extents().is_empty() && Arc::strong_count(&tiers[0]) == 1);
    }
}

/// Failed puts give back all that they took.
#[test]
fn failures_leak_no_room() {
    let zswap = Zswap::new("test", &ZswapOptions::default()).unwrap();
    let state = Arc::<OwnTierState>::default();
    let options = TierOptions { max_bytes: 400 << 10, ..Default::default() };
    zswap.add_tier(OwnTier(state.clone()), &options).unwrap();
    let area = zswap.add_area(64, &AreaOptions::default()).unwrap();
    store_all(&area, 0);
    for round in 0..1000 {
        [&state.full, &state.away][round % 2].store(true, SeqCst);
        assert!(matches!(zswap.shrink(64), Err(Error::Again(_))));
        [&state.full, &state.away][round % 2].store(false, SeqCst);
    }
    assert_eq!(zswap.shrink(64), Ok(64), "there is no room left");
    let stats = zswap.tier_stats(0).unwrap();
    assert_eq!((stats.full, stats.puts), (500, stats.extents));
    assert_all(&area, 0);
}

/// Stores, loads, takes and removes its own half of the pages. A load may fail while a tier is away, and never yields
/// another version than the one that was stored last.
fn own_half(area: &Area, half: u64, steps: u64) {
    let mut versions = vec![None; area.pages() as usize];
    let mut rng = Rng::new(half + 7);
    for version in 1..=steps {
        let offset = rng.below(area.pages() as usize / 2) as u64 * 2 + half;
        let expected = versions[offset as usize].map(|version| page(offset, version));
        match rng.below(8) {
            0..3 => {
                area.store(offset, &page(offset, version)).unwrap();
                versions[offset as usize] = Some(version);
            }
            3..6 => match (load(area, offset), expected) {
                (Ok(found), Some(page)) => assert!(found == page),
                (Err(Error::NotFound(_)), None) | (Err(Error::Again(_)), Some(_)) => {}
                (other, expected) => panic!("{:?}, stored: {}", other.map(|_| ()), expected.is_some()),
            },
            6 => match (take(area, offset), expected) {
                (Ok(found), Some(page)) => {
                    assert!(found == page);
                    versions[offset as usize] = None;
                }
                (Err(Error::NotFound(_)), None) | (Err(Error::Again(_)), Some(_)) => {}
                (other, expected) => panic!("{:?}, stored: {}", other.map(|_| ()), expected.is_some()),
            },
            _ => {
                area.invalidate(offset, 1, Patience::Wait).unwrap();
                versions[offset as usize] = None;
            }
        }
    }
}

/// Adds and removes a tier, and makes others slow, full and absent, until it is told to stop.
fn come_and_go(zswap: &Zswap, tiers: &[Arc<OwnTierState>], stop: &AtomicBool) {
    for round in 1.. {
        tiers[0].away.store(round % 3 == 0, SeqCst);
        tiers[0].full.store(round % 5 == 0, SeqCst);
        tiers[1].slow.store(if round % 2 == 0 { 100 } else { 0 }, SeqCst);
        let (tier, state) = own(zswap, "comes and goes");
        thread::sleep(Duration::from_millis(2));
        state.away.store(round % 4 == 0, SeqCst);
        thread::sleep(Duration::from_millis(1));
        for state in tiers.iter().chain([&state]) {
            state.away.store(false, SeqCst);
            state.full.store(false, SeqCst);
        }
        // Other threads use it for a moment now and then.
        while zswap.remove_tier(tier).is_err() {}
        assert!(state.extents().is_empty());
        if stop.load(SeqCst) {
            return;
        }
    }
}

/// Threads store, load, take, remove and shrink while tiers are slow, full and away, come and go.
#[test]
fn tiers_come_and_go_under_load() {
    let (zswap, area, tiers) = with_tiers(400, 2);
    let (zswap, area, stop) = (&zswap, &area, &AtomicBool::new(false));
    thread::scope(|threads| {
        let until = Until(stop);
        threads.spawn(|| come_and_go(zswap, &tiers, stop));
        threads.spawn(|| {
            while !stop.load(SeqCst) {
                let _ = zswap.shrink(16);
                let _ = zswap.compact(&CompactBudget { max_bytes_moved: Some(64 << 10), max_time: None });
            }
        });
        let owners = [0, 1].map(|half| threads.spawn(move || own_half(area, half, 20_000)));
        owners.into_iter().for_each(|owner| owner.join().unwrap());
        drop(until);
    });
    area.invalidate(0, 400, Patience::Wait).unwrap();
    zswap.compact(&ALL).unwrap();
    assert!(tiers.iter().all(|tier| tier.extents().is_empty()));
    let stats = zswap.stats().unwrap();
    assert_eq!((stats.counts.pages(), stats.used_bytes, stats.file_bytes), (0, 0, 0));
    let [first, second] = [0, 1].map(|tier| zswap.tier_stats(tier).unwrap());
    assert!(first.puts > 0 && second.puts > 0 && first.loads > 0, "{first:?} {second:?}");
}
