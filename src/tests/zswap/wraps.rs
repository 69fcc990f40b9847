//! Counters of a zswap, each started shortly before it wraps round: nothing changes when it does.

use super::{WATCHDOG, compressible, load, noise, with_area, with_disk};
use crate::plumbing::zswap::{RawClaim, begin_writeback, end_writeback};
use crate::zswap::limit::{ByteLimit, Limits, OverLimit};
use crate::zswap::reservation::{Batches, Reservation};
use crate::{AreaOptions, Error, PAGE_SIZE, Patience, ZswapOptions};
use std::sync::mpsc::channel;
use std::thread;

/// A batch that alone exceeds the limit is refused, whatever the number of batches before it.
#[test]
fn a_batch_that_is_alone_at_the_limit_is_refused_after_any_number_of_batches() {
    for before in [0, 1 << 31, (1 << 32) - 2, 1 << 32, (1 << 33) - 1, u64::MAX] {
        let (tell, told) = channel();
        thread::spawn(move || {
            let (zswap, area) = (limit(2), limit(9));
            let batches = Batches::after(before);
            for _ in 0..4 {
                let mut reservation = Reservation::new(Limits { zswap: &zswap, area: &area, part: 0 }, &batches, 1)
                    .map_err(|_| ())
                    .unwrap();
                assert!(reservation.use_bytes(1).is_ok() && reservation.use_bytes(1).is_ok());
                assert_eq!(reservation.use_bytes(1), Err(OverLimit::Zswap));
                drop(reservation);
                assert_eq!((zswap.used(), area.used()), (0, 0));
            }
            tell.send(()).unwrap();
        });
        assert_eq!(told.recv_timeout(WATCHDOG / 4), Ok(()), "a batch waits for ever after {before} batches");
    }
}

fn limit(max: u64) -> ByteLimit {
    ByteLimit::new(Some(max), 90, 2).unwrap()
}

#[test]
fn a_limit_of_nearly_all_bytes_is_never_exceeded() {
    const MOST: u64 = u64::MAX - 1;
    let limit = limit(MOST);
    assert!(limit.charge(MOST - 5, 0) && limit.admits(5, 0) && !limit.admits(6, 0));
    assert!(!limit.charge(6, 1) && limit.charge(5, 0) && !limit.charge(1, 1));
    limit.uncharge(MOST, 1);
    assert_eq!(limit.used(), 0);
}

/// Pages that came without a limit count when one is set, on whichever processor they came and go.
#[test]
fn a_limit_that_is_set_later_counts_what_was_charged_before() {
    let limit = ByteLimit::new(None, 90, 2).unwrap();
    assert!(limit.charge(30, 0) && limit.charge(20, 1));
    limit.uncharge(25, 1);
    assert_eq!(limit.used(), 25);
    limit.set(Some(40));
    assert!(!limit.charge(16, 0) && limit.charge(15, 1) && !limit.charge(1, 0));
    assert_eq!((limit.used(), limit.admits(0, 0), limit.admits(1, 0)), (40, true, false));
    limit.uncharge(30, 0);
    assert!(limit.charge(30, 1) && !limit.charge(1, 1));
    limit.set(None);
    limit.uncharge(40, 1);
    assert!(limit.used() == 0 && limit.charge(7, 0) && limit.used() == 7);
}

/// Tickets of claims that were ended are refused, whichever claims have their places since.
#[test]
fn tickets_of_claims_go_on_where_their_numbers_go_round() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    let begin = || {
        area.store(0, &compressible(0)).unwrap();
        let mut claim = RawClaim::default();
        assert_eq!(begin_writeback(&area, &mut [[0; PAGE_SIZE]], |begun| claim = begun), Ok(1));
        claim
    };
    // The place that all of them get.
    assert_eq!(end_writeback(&area, &begin(), Ok(())), Ok(true));
    let mut ended = Vec::new();
    zswap.set_counters(1, 0, 3);
    for _ in 0..8 {
        let claim = begin();
        assert!(!ended.contains(&claim));
        for stale in ended.iter().chain([&RawClaim::default()]) {
            assert!(matches!(end_writeback(&area, stale, Ok(())), Err(Error::Stale(_))), "{stale:?}");
        }
        assert_eq!(end_writeback(&area, &claim, Ok(())), Ok(true));
        ended.push(claim);
    }
    assert_eq!(zswap.stats().unwrap().claims, 0);
}

/// Who waits for a claim goes on when that one ends, also where the number in the page's word goes round.
#[test]
fn waits_end_where_the_numbers_of_claims_go_round() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    for made in [250, 255, 256, (1 << 32) - 2, u64::MAX - 3] {
        zswap.set_counters(1, made, 1000);
        for round in 0..8 {
            area.store(0, &compressible(round)).unwrap();
            area.store(1, &compressible(round)).unwrap();
            let claims = super::claim_some(&area, 2);
            assert_eq!(claims.len(), 2);
            assert_ne!(area.word_at(0).claim(), area.word_at(1).claim());
            thread::scope(|threads| {
                let waiter = threads.spawn(|| area.invalidate(0, 2, Patience::Wait));
                while area.stored().next().is_some() {
                    thread::yield_now();
                }
                claims.into_iter().for_each(|(claim, _)| assert_eq!(claim.written(), Ok(false)));
                assert_eq!(waiter.join().unwrap(), Ok(()));
            });
        }
    }
}

/// Areas have numbers of 64 bits, of which a page's check has 32.
#[test]
fn areas_go_on_where_half_of_their_number_goes_round() {
    let (zswap, _first) = with_area(10, &ZswapOptions::default());
    zswap.set_counters(u64::from(u32::MAX) - 2, 0, 1000);
    let areas: Vec<_> = (0..5).map(|_| zswap.add_area(10, &AreaOptions::default()).unwrap()).collect();
    let disk = with_disk(&zswap);
    let page = |at: usize, offset: u64| compressible((at as u64) << 8 | offset);
    for (at, area) in areas.iter().enumerate() {
        assert_eq!(area.id(), u64::from(u32::MAX) - 1 + at as u64);
        (0..10).for_each(|offset| area.store(offset, &page(at, offset)).unwrap());
    }
    for (at, area) in areas.iter().enumerate() {
        assert!((0..10).all(|offset| load(area, offset) == Ok(page(at, offset))));
        assert_eq!(area.shrink(5), Ok(5));
    }
    assert_eq!(disk.lock().unwrap().len(), 25);
    assert!(disk.lock().unwrap().iter().all(|(&(area, offset), written)| {
        let at = areas.iter().position(|other| other.id() == area).unwrap();
        *written == page(at, offset)
    }));
}

/// Pages that came back are the caller's to count, who may be wrong.
#[test]
fn any_number_of_refaults_is_taken() {
    let (_zswap, area) = with_area(10, &ZswapOptions::default());
    (0..10).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
    for pages in [1, u64::MAX, 1, u64::MAX] {
        area.note_refaults(pages).unwrap();
    }
    area.stats().unwrap();
    assert_eq!(area.reclaimable_pages(), Ok(0), "more came back than there are pages");
    assert!((0..10).all(|offset| load(&area, offset) == Ok(noise(offset))));
}

/// What processors take ahead is no reason to refuse a page, and it is not shown as used.
#[test]
fn room_that_a_processor_took_ahead_is_there_for_all() {
    const PAGE: u64 = 4112;
    let (pages, limit) = (1000, limit(1000 * PAGE));
    (0..400).for_each(|page| assert!(limit.charge(PAGE, page % 2) && limit.used() == (page as u64 + 1) * PAGE));
    limit.uncharge(PAGE, 0);
    (399..pages).for_each(|page| assert!(limit.charge(PAGE, 1) && limit.used() == (page + 1) * PAGE));
    assert!(!limit.charge(1, 0) && !limit.charge(1, 1) && !limit.admits(1, 0));
    (0..pages).for_each(|page| limit.uncharge(PAGE, page as usize % 2));
    assert_eq!(limit.used(), 0);
    // Room is taken ahead again.
    assert!(limit.charge(PAGE, 0) && limit.charge(PAGE, 1) && limit.charge(998 * PAGE, 1));
    limit.set(Some(900 * PAGE));
    assert!(!limit.charge(1, 0) && !limit.charge(1, 1));
    limit.uncharge(100 * PAGE, 0);
    assert!(!limit.charge(1, 1) && limit.used() == 900 * PAGE);
}
