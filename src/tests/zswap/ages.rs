//! Ages of pages, and shrinks that choose pages by age, by bytes and by how they are stored.

use super::{PageBytes, Until, claim_some, compressible, load, noise, with_area, with_disk};
use crate::os::Os;
use crate::{
    Area, AreaOptions, Codec, Error, PAGE_SIZE, Patience, Refusal, ShrinkDone, ShrinkOptions, Zswap, ZswapOptions,
};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

const PAGES: u64 = 200;
/// Bytes of the slot of a page that is stored as it came.
const RAW: u64 = 4112;

/// Every fifth page does not compress.
fn page(offset: u64) -> PageBytes {
    if offset.is_multiple_of(5) { noise(offset) } else { compressible(offset) }
}

/// Runs a test with a callback, and with the library's own file.
fn with_each_target(test: impl Fn(&Zswap, &Area)) {
    for to_file in [false, true] {
        let (zswap, area) = with_area(PAGES, &ZswapOptions::default());
        (0..PAGES).for_each(|offset| area.store(offset, &page(offset)).unwrap());
        let file = Os::default().memory_file("backing", 0, false).unwrap();
        if to_file {
            zswap.set_backing_file(Some((file.as_fd(), 8 << 20))).unwrap();
            test(&zswap, &area);
        } else {
            let disk = with_disk(&zswap);
            test(&zswap, &area);
            assert!(disk.lock().unwrap().iter().all(|(&(_, offset), written)| *written == page(offset)));
        }
        let is_there = |offset| match load(&area, offset) {
            Ok(loaded) => loaded == page(offset),
            Err(error) => !to_file && matches!(error, Error::NotFound(_)),
        };
        assert!((0..PAGES).all(is_there));
    }
}

/// Returns which pages are in the pool.
fn pooled(area: &Area) -> Vec<u64> {
    (0..PAGES).filter(|&offset| area.object_of(offset).is_some()).collect()
}

fn slot(area: &Area, offset: u64) -> u64 {
    area.object_of(offset).expect("a page in the pool").1 as u64
}

fn age(area: &Area, times: u32) {
    (0..times).for_each(|_| area.age().unwrap());
}

fn of_age(min_age: u8) -> ShrinkOptions {
    ShrinkOptions { min_age, ..ShrinkOptions::default() }
}

fn of_bytes(max_bytes: u64) -> ShrinkOptions {
    ShrinkOptions { max_bytes: Some(max_bytes), ..ShrinkOptions::default() }
}

#[test]
fn pages_age_until_they_are_used_or_replaced() {
    let (_zswap, area) = with_area(10, &ZswapOptions::default());
    (0..3).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
    let ages = || (0..3).map(|offset| area.word_at(offset).age()).collect::<Vec<_>>();
    for expected in [0, 1, 2, 3, 3] {
        area.age().unwrap();
        assert_eq!(ages(), [expected; 3]);
    }
    load(&area, 0).unwrap();
    area.store(1, &noise(7)).unwrap();
    assert_eq!(ages(), [0, 0, 3]);
    age(&area, 2);
    assert_eq!(ages(), [1, 1, 3]);
    area.invalidate(0, 10, Patience::Wait).unwrap();
    age(&area, 1);
    assert!((0..10).all(|offset| area.word_at(offset) == crate::zswap::word::PageWord::EMPTY));
}

/// Pages that repeat a word, and pages on the file, have no age.
#[test]
fn time_changes_nothing_but_pages_in_the_pool() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    let file = Os::default().memory_file("backing", 0, false).unwrap();
    zswap.set_backing_file(Some((file.as_fd(), 1 << 20))).unwrap();
    area.store(0, &[7; PAGE_SIZE]).unwrap();
    area.store(1, &compressible(1)).unwrap();
    assert_eq!(zswap.shrink(1), Ok(1));
    let words = [area.word_at(0), area.word_at(1)];
    age(&area, 3);
    assert_eq!([area.word_at(0), area.word_at(1)], words);
    area.remove().unwrap();
    assert_eq!(area.age(), Err(Error::Removed));
}

#[test]
fn recompression_keeps_the_age_of_what_it_makes_smaller() {
    let (_zswap, area) = with_area(10, &ZswapOptions { codec: Codec::Raw, ..ZswapOptions::default() });
    (0..4).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    age(&area, 3);
    load(&area, 0).unwrap();
    assert_eq!(area.recompress(10, Codec::Lz4), Ok(3));
    let ages = |area: &Area| (0..4).map(|offset| area.word_at(offset).age()).collect::<Vec<_>>();
    assert_eq!(ages(&area), [0, 2, 2, 2]);
    // Recompression has cleared the mark of the page that was used, and its age with it.
    assert!(!area.word_at(0).is_referenced());
}

/// The end of a writeback learns that a page was used meanwhile, also if time passed after that.
#[test]
fn time_passes_by_pages_that_are_claimed() {
    let (zswap, area) = with_area(10, &ZswapOptions::default());
    (0..2).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    age(&area, 3);
    let claims = claim_some(&area, 2);
    load(&area, 0).unwrap();
    age(&area, 3);
    let mut claims = claims.into_iter();
    assert_eq!(claims.next().unwrap().0.written(), Ok(false), "it was loaded meanwhile");
    claims.next().unwrap().0.refuse(Refusal::Again);
    assert_eq!((area.word_at(0).age(), area.word_at(1).age()), (0, 2), "a refused page is as old as it was");
    assert_eq!(zswap.stats().unwrap().counts.rescued, 1);
}

#[test]
fn only_pages_that_are_old_enough_go() {
    with_each_target(|zswap, area| {
        assert!(matches!(zswap.shrink_by(&of_age(1)), Err(Error::Again(_))), "all were just stored");
        assert!((0..PAGES).all(|offset| area.word_at(offset).is_referenced()), "and keep their marks");
        age(area, 3);
        (0..PAGES).filter(|offset| offset % 2 == 0).for_each(|offset| _ = load(area, offset).unwrap());
        assert!(matches!(area.shrink_by(&of_age(3)), Err(Error::Again(_))), "two is not old enough");
        age(area, 1);
        let done = zswap.shrink_by(&ShrinkOptions { max_pages: 70, ..of_age(3) }).unwrap();
        assert_eq!(done.pages, 70);
        assert_eq!(area.shrink_by(&of_age(3)).unwrap().pages, 30);
        assert!(matches!(area.shrink_by(&of_age(1)), Err(Error::Again(_))));
        assert_eq!(pooled(area), (0..PAGES).filter(|offset| offset % 2 == 0).collect::<Vec<_>>());
        age(area, 1);
        assert_eq!(zswap.shrink_by(&of_age(1)).unwrap().pages, 100);
        assert!(matches!(zswap.shrink_by(&of_age(1)), Err(Error::NotFound(_))));
    });
}

/// A shrink that takes pages of all ages finds pages of which time has cleared the mark, and begins with no others.
#[test]
fn a_shrink_of_all_ages_gives_second_chances_as_before() {
    with_each_target(|zswap, area| {
        age(area, 3);
        (0..100).for_each(|offset| _ = load(area, offset).unwrap());
        assert_eq!(zswap.shrink(50), Ok(50));
        assert_eq!(pooled(area), (0..100).chain(150..PAGES).collect::<Vec<_>>());
        assert!((0..100).all(|offset| area.word_at(offset).age() == 0), "the hand has passed: they were used");
        assert!(matches!(
            zswap.shrink_by(&ShrinkOptions { max_pages: 100, ..of_age(2) }),
            Ok(ShrinkDone { pages: 50, .. })
        ));
    });
}

#[test]
fn a_shrink_keeps_to_its_bytes() {
    with_each_target(|zswap, area| {
        let mut left = zswap.stats().unwrap().used_bytes;
        for max in [RAW, 10_000, 40_000, u64::MAX] {
            let done = if max == 10_000 { area.shrink_by(&of_bytes(max)) } else { zswap.shrink_by(&of_bytes(max)) };
            let (done, before) = (done.unwrap(), left);
            left = zswap.stats().unwrap().used_bytes;
            assert_eq!(before - left, done.bytes, "what was freed is what was told");
            assert!(done.pages > 0 && done.bytes <= max, "{done:?} of {max}");
            // The page that came next did not fit.
            assert!(left == 0 || max - done.bytes < RAW, "{done:?} of {max}");
        }
        assert_eq!((left, pooled(area).len()), (0, 0));
    });
}

/// While nothing was taken, pages that are too large are passed by.
#[test]
fn a_shrink_of_few_bytes_finds_the_pages_that_fit() {
    with_each_target(|zswap, area| {
        let small = slot(area, 1);
        assert!(small < 1500 && slot(area, 0) == RAW);
        assert!(matches!(zswap.shrink_by(&of_bytes(16)), Err(Error::Again(_))));
        assert!(matches!(area.shrink_by(&of_bytes(16)), Err(Error::Again(_))));
        assert_eq!(pooled(area).len() as u64, PAGES);
        let done = zswap.shrink_by(&of_bytes(1500)).unwrap();
        assert!(done.pages >= 1 && done.bytes <= 1500, "{done:?}");
        assert!((0..PAGES).step_by(5).all(|offset| area.object_of(offset).is_some()));
    });
}

#[test]
fn what_does_not_compress_goes_first() {
    with_each_target(|zswap, area| {
        age(area, 1);
        load(area, 10).unwrap();
        let options = ShrinkOptions { incompressible_first: true, ..ShrinkOptions::default() };
        let done = zswap.shrink_by(&ShrinkOptions { max_pages: 30, ..options }).unwrap();
        assert_eq!(done, ShrinkDone { pages: 30, bytes: 30 * RAW });
        // Nine are left, of which one was used; then the others follow.
        let done = area.shrink_by(&ShrinkOptions { max_pages: 12, ..options }).unwrap();
        assert_eq!(done.pages, 12);
        // The first ones that compress have gone; the clock hand is not at the one that was used.
        let is_left = |offset: &u64| if offset.is_multiple_of(5) { *offset == 10 } else { *offset > 3 };
        assert_eq!(pooled(area), (0..PAGES).filter(is_left).collect::<Vec<_>>());
        assert!(area.word_at(10).is_referenced());
        // Old ones alone.
        age(area, 1);
        (0..PAGES).filter(|offset| offset % 2 == 1).for_each(|offset| _ = load(area, offset));
        zswap.shrink_by(&ShrinkOptions { min_age: 1, ..options }).unwrap();
        let is_left = |offset: &u64| is_left(offset) && (offset % 2 == 1 || *offset == 10);
        assert_eq!(pooled(area), (0..PAGES).filter(is_left).collect::<Vec<_>>());
    });
}

/// The bytes hold for the two rounds together.
#[test]
fn bytes_are_left_for_what_compresses() {
    with_each_target(|zswap, area| {
        age(area, 1);
        let options = ShrinkOptions { incompressible_first: true, ..of_bytes(2 * RAW + 3000) };
        let done = zswap.shrink_by(&options).unwrap();
        assert!(done.pages > 2 && done.bytes <= 2 * RAW + 3000, "{done:?}");
        assert_eq!((0..PAGES).step_by(5).filter(|&offset| area.object_of(offset).is_none()).count(), 2);
    });
}

#[test]
fn areas_take_turns_and_some_are_passed_by() {
    let (zswap, area) = with_area(PAGES, &ZswapOptions::default());
    let other = zswap.add_area(PAGES, &AreaOptions::default()).unwrap();
    let never = zswap.add_area(PAGES, &AreaOptions { no_writeback: true, ..AreaOptions::default() }).unwrap();
    for area in [&area, &other, &never] {
        (0..PAGES).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    }
    let disk = with_disk(&zswap);
    [&area, &never].iter().for_each(|area| age(area, 3));
    assert!(matches!(never.shrink_by(&of_age(1)), Err(Error::Invalid(_))));
    assert_eq!(zswap.shrink_by(&of_age(2)).unwrap().pages, PAGES);
    assert_eq!((pooled(&area).len(), pooled(&other).len(), pooled(&never).len()), (0, 200, 200));
    age(&other, 2);
    assert_eq!(zswap.shrink_by(&of_age(1)).unwrap().pages, PAGES);
    assert_eq!(disk.lock().unwrap().len() as u64, 2 * PAGES);
}

#[test]
fn wrong_and_empty_options() {
    let (zswap, area) = with_area(PAGES, &ZswapOptions::default());
    assert!(matches!(zswap.shrink_by(&of_age(3)), Err(Error::Invalid(_))), "nowhere to write to");
    let disk = with_disk(&zswap);
    for min_age in [4, u8::MAX] {
        assert!(matches!(zswap.shrink_by(&of_age(min_age)), Err(Error::Invalid(_))));
        assert!(matches!(area.shrink_by(&of_age(min_age)), Err(Error::Invalid(_))));
    }
    assert!(matches!(zswap.shrink_by(&ShrinkOptions::default()), Err(Error::NotFound(_))));
    area.store(0, &page(0)).unwrap();
    for nothing in [of_bytes(0), ShrinkOptions { max_pages: 0, ..of_age(1) }] {
        assert_eq!(zswap.shrink_by(&nothing), Ok(ShrinkDone::default()));
        assert_eq!(area.shrink_by(&nothing), Ok(ShrinkDone::default()));
    }
    assert_eq!(zswap.shrink_by(&ShrinkOptions::default()), Ok(ShrinkDone { pages: 1, bytes: RAW }));
    assert_eq!(disk.lock().unwrap().len(), 1);
}

/// Refused pages count for nothing, and the bytes that they did not free are there for others.
#[test]
fn refused_pages_leave_their_bytes_to_others() {
    let (zswap, area) = with_area(PAGES, &ZswapOptions::default());
    (0..10).for_each(|offset| area.store(offset, &noise(offset)).unwrap());
    let refuses = |_: &Area, offset: u64, _: &PageBytes| if offset < 3 { Err(Refusal::Again) } else { Ok(()) };
    zswap.set_writeback(refuses).unwrap();
    assert_eq!(zswap.shrink_by(&of_bytes(2 * RAW)), Ok(ShrinkDone { pages: 2, bytes: 2 * RAW }));
    assert_eq!(pooled(&area), [0, 1, 2, 5, 6, 7, 8, 9]);
}

/// Time passes while threads store, load and shrink: no page is lost, and none is another one.
#[test]
fn time_passes_beside_everything_else() {
    with_each_target(|zswap, area| {
        let stop = AtomicBool::new(false);
        thread::scope(|threads| {
            let _stopping = Until(&stop);
            threads.spawn(|| {
                while !stop.load(SeqCst) {
                    area.age().unwrap();
                }
            });
            for min_age in [0, 1] {
                let stop = &stop;
                threads.spawn(move || {
                    while !stop.load(SeqCst) {
                        let options = ShrinkOptions { max_pages: 20, incompressible_first: true, ..of_age(min_age) };
                        zswap.shrink_by(&options).ok();
                    }
                });
            }
            for round in 0..20_000 {
                let offset = round * 7 % PAGES;
                if round % 3 == 0 {
                    area.store(offset, &page(offset)).unwrap();
                } else if let Ok(loaded) = load(area, offset) {
                    assert!(loaded == page(offset));
                }
            }
        });
    });
}
