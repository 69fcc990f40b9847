//! Claims as guards: none is lost, and they come from the areas that should give pages.

use super::{claim_some, compressible, load, noise, watched, with_area};
use crate::{Area, AreaOptions, Claim, Counts, Error, PAGE_SIZE, Patience, Refusal, Zswap, ZswapOptions, ZswapTuning};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

fn claim(area: &Area) -> Claim {
    area.claim(&mut [0; PAGE_SIZE]).unwrap().unwrap()
}

fn fill(area: &Area, pages: u64) {
    (0..pages).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
}

fn counts(area: &Area) -> Counts {
    area.stats().unwrap().counts
}

/// Claims a page of any area, as long as there is one and at most `most` times, and counts them by area.
fn claim_of_any(zswap: &Zswap, most: usize) -> (Vec<Claim>, HashMap<u64, u64>) {
    let next = || zswap.claim(&mut [0; PAGE_SIZE]).unwrap();
    let claims: Vec<_> = std::iter::from_fn(next).take(most).collect();
    let mut of_areas = HashMap::new();
    claims.iter().for_each(|claim| *of_areas.entry(claim.area().id()).or_default() += 1);
    (claims, of_areas)
}

#[test]
fn claims_are_sent_to_other_threads_and_outlive_what_began_them() {
    fn is_guard<T: Send + Sync + 'static>() {}
    is_guard::<Claim>();
}

#[test]
fn an_invalidate_that_waits_goes_on_when_the_claim_is_dropped() {
    watched(|| {
        let (zswap, area) = with_area(10, &ZswapOptions::default());
        area.store(3, &compressible(3)).unwrap();
        let claim = claim(&area);
        thread::scope(|threads| {
            let waiter = threads.spawn(|| area.invalidate(0, 10, Patience::Wait));
            while area.stored().next().is_some() {
                thread::yield_now();
            }
            super::linger();
            assert!(!waiter.is_finished(), "the claim is held");
            drop(claim);
            waiter.join().unwrap().unwrap();
        });
        assert_eq!((counts(&area).writeback_again, zswap.stats().unwrap().claims), (1, 0));
    });
}

#[test]
fn a_claim_that_a_panic_drops_gives_up_and_keeps_the_page() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    area.store(3, &compressible(3)).unwrap();
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let _claim = claim(&area);
        panic!("the writer does not get to the end");
    }));
    assert!(panics.is_err());
    assert!(load(&area, 3) == Ok(compressible(3)));
    assert_eq!((counts(&area).writeback_again, zswap.stats().unwrap().claims), (1, 0));
    area.invalidate(3, 1, Patience::Wait).unwrap();
    area.remove().unwrap();
}

#[test]
fn a_claim_outlives_the_last_other_handle_of_its_area_and_of_the_zswap() {
    for written in [true, false] {
        let (zswap, area) = with_area(10, &ZswapOptions::default());
        area.store(3, &compressible(3)).unwrap();
        let claim = claim(&area);
        assert!(matches!(area.remove(), Err(Error::Busy(_))));
        drop(area);
        assert_eq!((zswap.area_count(), claim.offset(), claim.area().pages()), (1, 3, 10));
        assert!(load(claim.area(), 3) == Ok(compressible(3)), "the claim is a handle, too");
        drop(zswap);
        match written {
            true => assert_eq!(claim.written(), Ok(false), "it was loaded meanwhile"),
            false => drop(claim),
        }
    }
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    fill(&area, 5);
    let claim = claim(&area);
    drop(area);
    assert_eq!(claim.written(), Ok(true));
    assert_eq!((zswap.area_count(), zswap.pool().stats().unwrap().objects), (0, 0));
}

/// What is to be said of an end is said by its result, and by the counts.
#[test]
fn claims_end_as_written_or_refused() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    fill(&area, 5);
    let mut claims = claim_some(&area, 10);
    assert_eq!(claims.len(), 5);
    assert!(area.claim(&mut [0; PAGE_SIZE]).unwrap().is_none() && zswap.claim(&mut [0; PAGE_SIZE]).unwrap().is_none());
    let mut next = || claims.remove(0).0;
    let offset = |claim: &Claim| claim.offset();
    let replaced = next();
    area.store(offset(&replaced), &noise(1)).unwrap();
    assert_eq!(replaced.written(), Ok(false));
    let loaded = next();
    load(&area, offset(&loaded)).unwrap();
    assert_eq!(loaded.written(), Ok(false));
    next().refuse(Refusal::NoSpace);
    drop(next());
    assert_eq!(next().written(), Ok(true));
    let counts = counts(&area);
    assert_eq!((counts.overtaken, counts.rescued, counts.written_back), (1, 1, 1));
    assert_eq!((counts.writeback_no_space, counts.writeback_again, counts.pages()), (1, 1, 4));
}

/// A caller that claims pages until their bytes are those that have to go has claimed enough.
#[test]
fn a_claim_tells_the_bytes_that_go() {
    let (zswap, area) = with_area(100, &ZswapOptions { max_bytes: Some(100_000), ..ZswapOptions::default() });
    let refused = (0..100).find(|&offset| {
        area.store(offset, &if offset % 2 == 0 { compressible(offset) } else { noise(offset) }).is_err()
    });
    assert!(refused.is_some() && zswap.usage().bytes_to_go > 0);
    let (mut claims, mut bytes) = (Vec::new(), 0);
    while bytes < zswap.usage().bytes_to_go {
        let claim = claim(&area);
        assert!(claim.bytes() > 0);
        bytes += claim.bytes();
        claims.push(claim);
    }
    for claim in claims {
        let (before, bytes) = (zswap.usage().used_bytes, claim.bytes());
        assert_eq!(claim.written(), Ok(true));
        assert_eq!(before - zswap.usage().used_bytes, bytes);
    }
    assert_eq!(zswap.usage().bytes_to_go, 0);
}

/// Marks say which page goes first, and never that none goes.
#[test]
fn the_first_claim_after_loading_finds_a_page() {
    let (_zswap, area) = with_area(100, &ZswapOptions::default());
    fill(&area, 4);
    area.store(4, &[7; PAGE_SIZE]).unwrap();
    drop(claim(&area));
    (0..5).for_each(|offset| _ = load(&area, offset).unwrap());
    assert_eq!(claim_some(&area, 9).len(), 4, "each but the page that repeats a word");
    load(&area, 2).unwrap();
    let order: Vec<_> = claim_some(&area, 9).iter().map(|(claim, _)| claim.offset()).collect();
    assert_eq!(order.len(), 4);
    assert_eq!(order.last(), Some(&2), "the page that was used goes last");
}

#[test]
fn areas_take_turns_to_give_pages() {
    let zswap = Zswap::new("turns", &ZswapOptions::default()).unwrap();
    let add = |options: &AreaOptions| zswap.add_area(1000, options).unwrap();
    assert!(zswap.claim(&mut [0; PAGE_SIZE]).unwrap().is_none(), "there is no area");
    let never = add(&AreaOptions { no_writeback: true, ..AreaOptions::default() });
    let areas = [add(&AreaOptions::default()), add(&AreaOptions::default()), add(&AreaOptions::default())];
    assert!(zswap.claim(&mut [0; PAGE_SIZE]).unwrap().is_none(), "there is no page");
    [&never, &areas[0], &areas[2]].iter().for_each(|area| fill(area, 300));
    fill(&areas[1], 10);
    let (claims, of) = claim_of_any(&zswap, 64 + 64 + 10);
    assert_eq!((of[&areas[0].id()], of[&areas[1].id()], of[&areas[2].id()]), (64, 10, 64));
    let (more, of) = claim_of_any(&zswap, 10_000);
    assert_eq!((of[&areas[0].id()], of.get(&areas[1].id()), of[&areas[2].id()]), (236, None, 236));
    assert!(claims.iter().chain(&more).all(|claim| claim.area().id() != never.id()));
    drop((claims, more));
    drop(areas);
    assert!(zswap.claim(&mut [0; PAGE_SIZE]).unwrap().is_none(), "areas that are gone have no turn");
}

/// An area that met its own limit gives as many pages as it has to, also while their writes are on their way. Then the
/// others take turns with it.
#[test]
fn an_area_that_met_its_own_limit_gives_pages_first() {
    let zswap = Zswap::new("turns", &ZswapOptions::default()).unwrap();
    let add = |max_bytes| zswap.add_area(5000, &AreaOptions { max_bytes, ..AreaOptions::default() }).unwrap();
    let areas = [add(None), add(Some(1 << 20)), add(None)];
    let [cold, hot, _] = &areas;
    areas.iter().for_each(|area| fill(area, 1000));
    let mut offset = 1000;
    while hot.store(offset, &compressible(offset)).is_ok() {
        offset += 1;
    }
    let usage = hot.usage();
    assert!(usage.bytes_to_go > 100_000 && cold.usage().bytes_to_go == 0, "{usage:?}");
    let slot = usage.used_bytes / offset;
    let enough = usage.bytes_to_go.div_ceil(slot);
    let (claims, of) = claim_of_any(&zswap, enough as usize);
    assert_eq!(of, HashMap::from([(hot.id(), enough)]));
    let (others, of) = claim_of_any(&zswap, 192);
    assert!(of.values().all(|&count| count == 64) && of.len() == 3, "enough is on its way: {of:?}");
    assert!(hot.usage().bytes_to_go > 0, "nothing has gone yet");
    claims.into_iter().for_each(|claim| assert_eq!(claim.written(), Ok(true)));
    assert_eq!(hot.usage().bytes_to_go, 0);
    hot.store(offset, &compressible(offset)).unwrap();
    drop(others);
    assert_eq!(hot.0.claimed_bytes(), 0);
}

/// Each claim that is counted as running ends, whichever thread has it.
#[test]
fn claims_of_many_threads_are_of_different_pages() {
    let (zswap, area) = with_area(
        4000,
        &ZswapOptions {
            tuning: ZswapTuning { max_claims: Some(4000), ..ZswapTuning::default() },
            ..ZswapOptions::default()
        },
    );
    let others: Vec<_> = (0..3).map(|_| zswap.add_area(100, &AreaOptions::default()).unwrap()).collect();
    fill(&area, 1000);
    others.iter().for_each(|area| fill(area, 100));
    let all = thread::scope(|threads| {
        let threads: Vec<_> = (0..4).map(|_| threads.spawn(|| claim_of_any(&zswap, 10_000).0)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut pages: Vec<_> = all.iter().map(|claim| (claim.area().id(), claim.offset())).collect();
    pages.sort_unstable();
    pages.dedup();
    assert_eq!((pages.len(), all.len()), (1300, 1300));
    all.into_iter().for_each(|claim| assert_eq!(claim.written(), Ok(true)));
    assert_eq!(zswap.stats().unwrap().used_bytes, 0);
}
