//! Extents on the library's own file: few large writes, cleaning, holes, and bytes of another time.

use super::{PageBytes, Until, compressible, load, noise, with_area};
use crate::os::{Call, Os, injected::Faults};
use crate::zswap::word::{ExtentEntry, MAX_ENTRIES, PageWord, WordKind};
use crate::{Area, AreaOptions, CompactBudget, Error, PAGE_SIZE, Patience, Zswap, ZswapOptions};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

const ALL: CompactBudget = CompactBudget { max_bytes_moved: None, max_time: None };

fn file() -> File {
    File::from(Os::default().memory_file("backing", 0, false).unwrap())
}

fn page(offset: u64, version: u64) -> PageBytes {
    let number = offset << 20 | version;
    if offset.is_multiple_of(3) { noise(number) } else { compressible(number) }
}

/// Makes a zswap with a file, whose system calls are counted.
fn counted(file: &File, pages: u64) -> (Arc<Faults>, Zswap, Area) {
    let faults = Arc::<Faults>::default();
    let zswap = Zswap::with_os(Os { faults: Some(faults.clone()) }, "test", &ZswapOptions::default()).unwrap();
    zswap.set_backing_file(Some((file.as_fd(), 64 << 20))).unwrap();
    let area = zswap.add_area(pages, &AreaOptions::default()).unwrap();
    (faults, zswap, area)
}

fn write_all(zswap: &Zswap, area: &Area, pages: u64) {
    (0..pages).for_each(|offset| area.store(offset, &page(offset, 0)).unwrap());
    assert_eq!(zswap.shrink(pages), Ok(pages));
}

/// Invalidates about half of the pages, at random. Returns which are left.
fn drop_half(area: &Area) -> Vec<u64> {
    let left = |offset: &u64| offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0;
    let (kept, gone): (Vec<u64>, Vec<u64>) = (0..area.pages()).partition(left);
    gone.iter().for_each(|&offset| area.invalidate(offset, 1, Patience::Wait).unwrap());
    kept
}

/// Returns how many pages were moved on the file, and the bytes of all that are there.
fn moved_and_live(zswap: &Zswap) -> (u64, u64) {
    let stats = zswap.stats().unwrap();
    (stats.counts.moved_on_file, stats.file_page_bytes)
}

/// Makes a zswap of 6000 pages that were written to the file, about half of which have gone. Returns which are left.
fn half_empty(file: &File) -> (Arc<Faults>, Zswap, Area, Vec<u64>) {
    let (faults, zswap, area) = counted(file, 6000);
    write_all(&zswap, &area, 6000);
    let kept = drop_half(&area);
    (faults, zswap, area, kept)
}

/// Bytes that the file takes on its disk.
fn disk_bytes(file: &File) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

#[test]
fn pages_leave_in_one_write_for_each_extent() {
    let file = file();
    let (faults, zswap, area) = counted(&file, 640);
    (0..640).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    let before = faults.seen(Call::Write);
    assert_eq!(zswap.shrink(640), Ok(640));
    assert_eq!(faults.seen(Call::Write) - before, 640 / MAX_ENTRIES as u64);
    assert!((0..640).all(|offset| load(&area, offset) == Ok(compressible(offset))));
}

#[test]
fn entries_are_read_ahead_only_in_order() {
    let file = file();
    let (faults, zswap, area) = counted(&file, 64);
    (0..64).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
    assert_eq!(zswap.shrink(64), Ok(64));
    let reads = |offsets: &mut dyn Iterator<Item = u64>| {
        zswap.forget_reads();
        let before = faults.seen(Call::Read);
        offsets.for_each(|offset| assert!(load(&area, offset) == Ok(compressible(offset))));
        faults.seen(Call::Read) - before
    };
    let (in_order, back) = (reads(&mut (0..64)), reads(&mut (0..64).rev()));
    assert!(in_order <= 4 && back >= 8, "{in_order} reads in order, {back} backwards");
}

/// What is read ahead is not used for a page that was replaced since.
#[test]
fn a_page_that_was_read_ahead_may_be_replaced() {
    let file = file();
    let (_, zswap, area) = counted(&file, 64);
    write_all(&zswap, &area, 64);
    assert!((0..10).all(|offset| load(&area, offset) == Ok(page(offset, 0))));
    for offset in 10..20 {
        area.store(offset, &page(offset, 1)).unwrap();
        assert!(load(&area, offset) == Ok(page(offset, 1)));
    }
    assert_eq!(zswap.shrink(64), Ok(10));
    assert!((0..64).all(|offset| load(&area, offset) == Ok(page(offset, u64::from((10..20).contains(&offset))))));
}

#[test]
fn a_half_empty_file_is_cleaned_and_then_left_alone() {
    let file = file();
    let (_, zswap, area, kept) = half_empty(&file);
    zswap.compact(&ALL).unwrap();
    let (moved, live) = moved_and_live(&zswap);
    let taken = zswap.stats().unwrap().file_bytes;
    assert!(taken * 4 <= live * 5 + (4 << 20), "{taken} bytes for {live} live ones");
    assert!(moved * 10 <= kept.len() as u64 * 8, "{moved} of {} entries were moved", kept.len());
    assert!(disk_bytes(&file) <= taken + (1 << 20), "{} bytes on disk", disk_bytes(&file));
    assert!(kept.iter().all(|&offset| load(&area, offset) == Ok(page(offset, 0))));
    (0..5).for_each(|_| _ = zswap.compact(&ALL).unwrap());
    assert_eq!(moved_and_live(&zswap).0, moved, "entries are moved although nothing was written");
}

#[test]
fn a_small_budget_cleans_in_parts() {
    let file = file();
    let (_, zswap, area, kept) = half_empty(&file);
    let budget = CompactBudget { max_bytes_moved: Some(256 << 10), max_time: None };
    let mut last = 0;
    for call in 0..100 {
        zswap.compact(&budget).unwrap();
        let (moved, _) = moved_and_live(&zswap);
        assert!(moved - last <= 600, "{} entries in a call", moved - last);
        if moved == last && call > 0 {
            assert!(call > 3, "all was moved in {call} calls");
            assert!(kept.iter().all(|&offset| load(&area, offset) == Ok(page(offset, 0))));
            return;
        }
        last = moved;
    }
    panic!("cleaning has no end");
}

/// A file that is full takes pages again as soon as others have gone, whichever these are.
#[test]
fn a_full_file_of_half_dead_extents_is_written_to_again() {
    let file = file();
    let (zswap, area) = with_area(6000, &ZswapOptions::default());
    zswap.set_backing_file(Some((file.as_fd(), 4 << 20))).unwrap();
    (0..6000).for_each(|offset| area.store(offset, &page(offset, 0)).unwrap());
    let write = || {
        let mut written = 0;
        while let Ok(more) = zswap.shrink(100) {
            written += more;
        }
        written
    };
    let full = write();
    assert!(full > 1000 && full < 4000, "{full} pages have room");
    for round in 1..6 {
        let on_file = |offset: &u64| matches!(area.word_at(*offset).kind(), WordKind::Backed(_));
        let gone: Vec<u64> = (0..6000).filter(on_file).filter(|offset| (offset * 7 + round) % 2 == 0).collect();
        gone.iter().for_each(|&offset| area.store(offset, &page(offset, 0)).unwrap());
        let written = write();
        assert!(written * 10 > gone.len() as u64 * 6, "round {round}: {} pages went, {written} came", gone.len());
    }
    assert!((0..6000).all(|offset| load(&area, offset) == Ok(page(offset, 0))));
}

#[test]
fn the_room_of_pages_that_went_goes_back_to_the_disk() {
    let file = file();
    let (_, zswap, area) = counted(&file, 4000);
    write_all(&zswap, &area, 4000);
    let before = disk_bytes(&file);
    area.invalidate(0, 4000, Patience::Wait).unwrap();
    assert_eq!(zswap.stats().unwrap().file_bytes, 0);
    zswap.compact(&ALL).unwrap();
    assert!(before > 4 << 20 && disk_bytes(&file) <= 1 << 20, "{before}, then {}", disk_bytes(&file));
}

/// A file system that knows no holes keeps the room, and nothing else changes.
#[test]
fn a_hole_that_is_refused_costs_room_alone() {
    let file = file();
    let (faults, zswap, area) = counted(&file, 2000);
    faults.fail(Call::Punch, 1, 0);
    for version in 0..3 {
        write_all(&zswap, &area, 2000);
        assert!((0..2000).all(|offset| load(&area, offset) == Ok(page(offset, 0))), "round {version}");
        area.invalidate(0, 2000, Patience::Wait).unwrap();
        zswap.compact(&ALL).unwrap();
    }
    assert!(faults.seen(Call::Punch) > 0);
}

/// The file returns the bytes that it had before, as a disk does that lost a write: those of an older version of the
/// same page, at the same place, in an extent of the same shape.
#[test]
fn the_bytes_of_another_time_are_refused() {
    let file = file();
    let (_, zswap, area) = counted(&file, 64);
    let write = |version| {
        (0..64).for_each(|offset| area.store(offset, &page(offset, version)).unwrap());
        assert_eq!(zswap.shrink(64), Ok(64));
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let old = write(0);
    area.invalidate(0, 64, Patience::Wait).unwrap();
    // The same bytes of the same pages, under another number.
    let new = write(0);
    assert!(old.len() == new.len() && old != new);
    for (bytes, is_right) in [(&old, false), (&new, true)] {
        file.write_all_at(bytes, 0).unwrap();
        zswap.forget_reads();
        for offset in 0..64 {
            match load(&area, offset) {
                Ok(found) => assert!(is_right && found == page(offset, 0)),
                Err(error) => assert!(!is_right && matches!(error, Error::Io(_)), "{error}"),
            }
        }
    }
}

/// A damaged page word may name an entry that its extent was made without.
#[test]
fn an_entry_that_an_extent_does_not_have_is_refused() {
    let file = file();
    let (_, zswap, area) = counted(&file, 4);
    write_all(&zswap, &area, 4);
    let WordKind::Backed(at) = area.word_at(0).kind() else { panic!("it is on the file") };
    let sound = area.word_at(0);
    for entry in 4..MAX_ENTRIES as u8 {
        area.set_word_at(0, PageWord::backed(ExtentEntry { entry, ..at }));
        assert!(matches!(load(&area, 0), Err(Error::Io(_))), "entry {entry}");
    }
    area.set_word_at(0, sound);
    assert!(load(&area, 0) == Ok(page(0, 0)));
}

/// Makes a file without a name in the folder of the test's own program, which is on a disk as a rule.
fn file_on_disk() -> File {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE).open(folder).unwrap()
}

/// Returns how many pages of a file the page cache has.
fn cached_pages(file: &File) -> usize {
    let bytes = file.metadata().unwrap().len() as usize;
    let mut there = vec![0_u8; bytes.div_ceil(PAGE_SIZE)];
    let (fd, flags) = (file.as_raw_fd(), libc::MAP_SHARED);
    // SAFETY: a new mapping, which nothing touches; mincore fills a byte for each of its pages.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, flags, fd, 0);
        assert!(at != libc::MAP_FAILED && libc::mincore(at, bytes, there.as_mut_ptr()) == 0);
        libc::munmap(at, bytes);
    }
    there.iter().filter(|&&there| there & 1 == 1).count()
}

#[test]
fn the_page_cache_stays_as_it_is() {
    let file = file_on_disk();
    let (_, zswap, area) = counted(&file, 1000);
    write_all(&zswap, &area, 1000);
    assert!((0..1000).all(|offset| load(&area, offset) == Ok(page(offset, 0))));
    let all = file.metadata().unwrap().len() as usize / PAGE_SIZE;
    let cached = cached_pages(&file);
    assert!(all > 300 && cached < 20, "{cached} of {all} pages");
}

/// A file that can't be opened once more is read and written through the descriptor that the program gave.
#[test]
fn a_file_that_cannot_be_opened_with_o_direct_is_used_all_the_same() {
    for file in [file(), file_on_disk()] {
        let faults = Arc::<Faults>::default();
        let zswap = Zswap::with_os(Os { faults: Some(faults.clone()) }, "test", &ZswapOptions::default()).unwrap();
        // The first call opens the file, the second duplicates the descriptor.
        faults.fail(Call::MemoryFile, 1, 1);
        zswap.set_backing_file(Some((file.as_fd(), 64 << 20))).unwrap();
        assert!(!zswap.extents().is_direct());
        let area = zswap.add_area(300, &AreaOptions::default()).unwrap();
        write_all(&zswap, &area, 300);
        assert!((0..300).all(|offset| load(&area, offset) == Ok(page(offset, 0))));
    }
}

/// Cleaning leaves alone what it can't read, and what is damaged.
#[test]
fn cleaning_moves_no_damaged_entry() {
    let file = file();
    let (faults, zswap, area, kept) = half_empty(&file);
    for call in [Call::Read, Call::Write] {
        faults.fail(call, 3, 20);
        zswap.compact(&ALL).unwrap();
        faults.heal(call);
        assert!(kept.iter().all(|&offset| load(&area, offset) == Ok(page(offset, 0))), "{call:?}");
        assert!(kept.iter().all(|&offset| !area.word_at(offset).has_writeback()));
    }
    let at = file.metadata().unwrap().len() / 2;
    file.write_all_at(&[0x77; 5000], at).unwrap();
    zswap.forget_reads();
    zswap.compact(&ALL).unwrap();
    zswap.forget_reads();
    let damaged = kept.iter().filter(|&&offset| match load(&area, offset) {
        Ok(found) => {
            assert!(found == page(offset, 0));
            false
        }
        Err(error) => {
            assert!(matches!(error, Error::Io(_)), "{error}");
            true
        }
    });
    let damaged = damaged.count();
    assert!(damaged < 40, "{damaged} pages");
    area.invalidate(0, 6000, Patience::Wait).unwrap();
    assert_eq!(zswap.stats().unwrap().file_bytes, 0);
}

/// Pages on the file are read, replaced, taken and removed while they are written and moved, of two areas. Each page
/// tells its offset and version.
#[test]
fn cleaning_beside_everything_else() {
    const PAGES: u64 = 300;
    let file = file();
    let (zswap, area) = with_area(PAGES, &ZswapOptions::default());
    zswap.set_backing_file(Some((file.as_fd(), 8 << 20))).unwrap();
    zswap.extents().clean_without_slack();
    let other = zswap.add_area(PAGES, &AreaOptions::default()).unwrap();
    let areas = [&area, &other];
    let make = |at: usize, offset: u64, version: u64| compressible((at as u64) << 60 | offset << 32 | version);
    let versions: [[AtomicU64; PAGES as usize]; 2] =
        std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)));
    for (at, area) in areas.iter().enumerate() {
        (0..PAGES).for_each(|offset| area.store(offset, &make(at, offset, 0)).unwrap());
    }
    let (stop, on_file) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|threads| {
        for number in 0..2_usize {
            let (areas, versions, stop, on_file) = (&areas, &versions, &stop, &on_file);
            threads.spawn(move || {
                let mut at = number as u64;
                while !stop.load(SeqCst) {
                    at = (at + 7) % PAGES;
                    let which = at as usize % 2;
                    let before = versions[which][at as usize].load(SeqCst);
                    let is_there = matches!(areas[which].word_at(at).kind(), WordKind::Backed(_));
                    on_file.fetch_add(u64::from(is_there), SeqCst);
                    let page = load(areas[which], at).unwrap();
                    // The next version, up to three rounds later, may be stored before it is noted.
                    let after = versions[which][at as usize].load(SeqCst) + 3;
                    assert!((before..=after).any(|version| page == make(which, at, version)), "another page");
                }
            });
        }
        let (zswap, stop) = (&zswap, &stop);
        threads.spawn(move || {
            while !stop.load(SeqCst) {
                zswap.compact(&ALL).unwrap();
            }
        });
        let _stopping = Until(stop);
        for round in 1..if cfg!(debug_assertions) { 40 } else { 1000 } {
            for offset in (0..PAGES).filter(|offset| (offset * 7 + round) % 3 == 0) {
                for (at, area) in areas.iter().enumerate() {
                    area.store(offset, &make(at, offset, round)).unwrap();
                    versions[at][offset as usize].store(round, SeqCst);
                }
                if offset % 5 == 0 {
                    zswap.shrink(16).ok();
                }
            }
        }
    });
    let (moved, _) = moved_and_live(&zswap);
    assert!(on_file.load(SeqCst) > 0 && moved > 0, "{moved} entries were moved");
    end(&zswap, &areas);
}

/// Removes all pages, and checks that nothing is left.
fn end(zswap: &Zswap, areas: &[&Area]) {
    for area in areas {
        assert!((0..area.pages()).all(|offset| !area.word_at(offset).has_writeback()));
        assert_eq!(area.stats().unwrap().counts.file_read_failures, 0);
        area.invalidate(0, area.pages(), Patience::Wait).unwrap();
    }
    let stats = zswap.stats().unwrap();
    assert_eq!((stats.file_bytes, stats.used_bytes, stats.counts.pages()), (0, 0, 0));
    zswap.set_backing_file(None).unwrap();
}
