//! Guests whose owners see which pages are written, and guests in memory files.

use super::super::pager::Memory;
use super::{ABSENT, Fixture, PAGES, Setup, stored};
use crate::guest::{Guest, GuestFile, GuestOptions, GuestRange, Protect};
use crate::os::userfault::{Event, Faulting, Message, Unknown, feature};
use crate::os::{Os, Span, errno};
use crate::units::PAGE;
use linux_raw_sys::general as raw;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const ASYNC: u64 = raw::UFFD_FEATURE_WP_ASYNC as u64;
const UNPOPULATED: u64 = raw::UFFD_FEATURE_WP_UNPOPULATED as u64;
const MINOR: u64 = raw::UFFD_FEATURE_MINOR_SHMEM as u64;
const NONE: [usize; 0] = [];
const WP: Faulting = Faulting { protected: true, unmapped: false };

/// Makes a guest whose owner registered its memory for write protection.
fn tracked(shared: bool, features: u64, protect: Protect) -> Fixture {
    let features = features | feature::WP | if shared { feature::WP_SHMEM | feature::MISSING_SHMEM } else { 0 };
    Fixture::of(&Setup { features, faulting: WP, shared, options: GuestOptions { pages_at_once: Some(4), protect } })
}

impl Fixture {
    /// Writes a word of a page in a thread, and serves that thread's touch.
    fn write(&mut self, page: usize, value: u64) {
        let at = self.memory.at(page) as usize;
        std::thread::scope(|scope| {
            // SAFETY: memory of the test's, which lives longer than the thread.
            let thread = scope.spawn(move || unsafe { (at as *mut u64).add(1).write_volatile(value) });
            self.serve_until(thread);
        });
    }

    /// Gives a page back, as a balloon does.
    fn give_back(&mut self, page: usize, advice: i32) {
        let at = self.memory.at(page) as usize;
        std::thread::scope(|scope| {
            // SAFETY: memory of the test's, whose content is not needed.
            let thread = scope.spawn(move || unsafe { libc::madvise(at as *mut _, PAGE, advice) });
            assert_eq!(self.serve_until(thread), 0);
        });
    }

    fn protect_all(&self) {
        self.owners.protect(self.memory.at(0) as usize, self.memory.bytes(), true).unwrap();
    }

    /// Returns the pages that were written since the last call.
    fn dirty(&mut self) -> Vec<usize> {
        let mut runs = Vec::new();
        self.guest.take_dirty(&mut runs).unwrap();
        let base = self.memory.at(0) as u64;
        let pages = |run: &GuestRange| {
            assert_eq!(run.at - base, run.offset);
            (run.offset / PAGE as u64) as usize..((run.offset + run.bytes) / PAGE as u64) as usize
        };
        runs.iter().flat_map(pages).collect()
    }

    /// Returns the pages that the system calls written. These include missing pages that were never protected.
    fn written(&self) -> Vec<usize> {
        self.scan(raw::PAGE_IS_WRITTEN)
    }

    /// Returns the pages in memory that the system calls written.
    fn there_and_written(&self) -> Vec<usize> {
        self.scan(raw::PAGE_IS_WRITTEN | raw::PAGE_IS_PRESENT)
    }

    /// Returns the pages that have all these properties.
    fn scan(&self, kinds: u32) -> Vec<usize> {
        let map = std::fs::File::open("/proc/self/pagemap").unwrap();
        let mut found = [raw::page_region { start: 0, end: 0, categories: 0 }; PAGES];
        let (start, mask) = (self.memory.at(0) as u64, u64::from(kinds));
        let mut scan = raw::pm_scan_arg {
            size: size_of::<raw::pm_scan_arg>() as u64,
            flags: 0,
            start,
            end: start + self.memory.bytes() as u64,
            walk_end: 0,
            vec: found.as_mut_ptr() as u64,
            vec_len: PAGES as u64,
            max_pages: 0,
            category_inverted: 0,
            category_mask: mask,
            category_anyof_mask: 0,
            return_mask: mask,
        };
        let number = 3_u64 << 30 | scan.size << 16 | u64::from(b'f') << 8 | 16;
        // SAFETY: the argument has the type of PAGEMAP_SCAN, and `vec_len` entries can be written.
        let count = unsafe { libc::ioctl(map.as_raw_fd(), number as _, &raw mut scan) };
        assert!(count >= 0, "{}", std::io::Error::last_os_error());
        let page = |at: u64| ((at - start) / PAGE as u64) as usize;
        found[..count as usize].iter().flat_map(|part| page(part.start)..page(part.end)).collect()
    }

    /// Writes a page to the memory file, and not through the mapping.
    fn put_in_file(&self, page: usize, byte: u8) {
        let (file, offset) = (self.memory.file.as_ref().unwrap(), self.memory.offset + page * PAGE);
        assert_eq!(Os::default().write_at(file, &[byte; PAGE], offset as u64), Ok(PAGE));
    }
}

#[test]
fn a_write_to_a_protected_page_goes_on_and_is_reported() {
    for shared in [false, true] {
        for protect in [Protect::IfRegistered, Protect::Always] {
            let mut fixture = tracked(shared, 0, protect);
            (0..20).for_each(|page| assert_eq!(fixture.read(page), stored(page)));
            assert_eq!(fixture.dirty(), NONE);
            fixture.write(5, 9);
            assert_eq!((fixture.guest.stats().counts.unprotected, fixture.dirty()), (1, vec![5]));
            assert_eq!(fixture.dirty(), NONE);
            [6, 5, 7, 19].into_iter().for_each(|page| fixture.write(page, 10));
            // A missing page is written.
            fixture.write(40, 11);
            assert_eq!(fixture.dirty(), [5, 6, 7, 19, 40]);
            fixture.write(40, 12);
            assert_eq!(fixture.dirty(), [40]);
            // SAFETY: a page of the test's own, which is there.
            let words = [5, 40].map(|page| unsafe { *fixture.memory.at(page).cast::<u64>().add(1) });
            assert_eq!((words, fixture.read(5)), ([10, 12], stored(5)));
        }
    }
}

#[test]
fn a_page_that_its_owner_protects_can_be_written_without_tracking() {
    let mut fixture = tracked(false, 0, Protect::Never);
    (0..20).for_each(|page| assert_eq!(fixture.read(page), stored(page)));
    assert!(fixture.there_and_written().starts_with(&(0..20).collect::<Vec<_>>()), "the pages were not protected");
    fixture.owners.protect(fixture.memory.at(5) as usize, PAGE, true).unwrap();
    fixture.write(5, 9);
    let counts = fixture.guest.stats().counts;
    assert_eq!((counts.unprotected, counts.present), (1, 0));
    assert!(fixture.guest.take_dirty(&mut Vec::new()).unwrap_err().text().contains("never"));
}

#[test]
fn writes_that_can_not_be_seen_are_an_error() {
    let mut fixture = Fixture::of(&Setup::default());
    assert_eq!(fixture.read(3), stored(3));
    fixture.write(3, 1);
    assert!(fixture.guest.take_dirty(&mut Vec::new()).unwrap_err().text().contains("not registered"));
    // A touch whose page must be protected, but can't be, waits until the owner registers for protection.
    let options = GuestOptions { protect: Protect::Always, ..GuestOptions::default() };
    let mut fixture = Fixture::of(&Setup { options, features: feature::WP, ..Setup::default() });
    let (at, bytes) = (fixture.memory.at(0) as usize, fixture.memory.bytes());
    std::thread::scope(|scope| {
        // SAFETY: memory of the test's, which lives longer than the thread.
        let thread = scope.spawn(move || unsafe { (at as *const u64).read_volatile() });
        let refused = loop {
            if let Err(refused) = fixture.guest.serve() {
                break refused;
            }
        };
        assert_eq!(refused.errno(), errno::EINVAL);
        fixture.owners.register(at, bytes, WP).unwrap();
        assert_eq!(fixture.serve_until(thread), stored(0));
    });
    assert_eq!(fixture.there_and_written(), NONE);
}

#[test]
fn filling_pages_does_not_count_as_writing_them() {
    for shared in [false, true] {
        let mut fixture = tracked(shared, ASYNC | UNPOPULATED, Protect::default());
        fixture.protect_all();
        (0..ABSENT - 10).for_each(|page| assert_eq!(fixture.read(page), stored(page)));
        assert_eq!(fixture.written(), NONE);
        let gone = if shared { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
        [8, 9].into_iter().for_each(|page| fixture.give_back(page, gone));
        fixture.protect_all();
        [8, 9].into_iter().for_each(|page| assert_eq!(fixture.read(page), 0));
        assert_eq!(fixture.written(), NONE);
        let wrote = [3, 8, 17, 40, ABSENT - 2];
        wrote.into_iter().for_each(|page| fixture.write(page, 1));
        assert_eq!((fixture.written(), fixture.guest.stats().counts.unprotected), (wrote.to_vec(), 0));
        let kept: Vec<u64> = [3, 8, ABSENT - 2].into_iter().map(|page| fixture.read(page)).collect();
        assert_eq!(kept, [stored(3), 0, stored(ABSENT - 2)]);
    }
}

#[test]
fn pages_given_back_are_dirty_once_and_read_as_protected_zeros() {
    for shared in [false, true] {
        let mut fixture = tracked(shared, 0, Protect::default());
        (0..8).for_each(|page| assert_eq!(fixture.read(page), stored(page)));
        let gone = if shared { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
        [2, 30].into_iter().for_each(|page| fixture.give_back(page, gone));
        assert_eq!(fixture.dirty(), [2, 30]);
        [2, 30].into_iter().for_each(|page| assert_eq!(fixture.read(page), 0));
        assert_eq!((fixture.dirty(), fixture.guest.stats().counts.zeroed), (vec![], 2));
        fixture.write(30, 5);
        assert_eq!(fixture.dirty(), [30]);
        fixture.give_back(2, gone);
        fixture.write(2, 6);
        assert_eq!((fixture.dirty(), fixture.read(2)), (vec![2], 0));
    }
}

/// The system notes the protection where the page would be, and some calls take the note for a page.
#[test]
fn missing_pages_that_were_protected_are_filled_and_poisoned() {
    for protect in [Protect::IfRegistered, Protect::Never] {
        let mut fixture = tracked(false, UNPOPULATED, protect);
        [5, 6].into_iter().for_each(|page| fixture.give_back(page, libc::MADV_DONTNEED));
        fixture.protect_all();
        fixture.write(5, 1);
        assert_eq!([5, 6, 7].map(|page| fixture.read(page)), [0, 0, stored(7)]);
        let at = fixture.memory.at(ABSENT) as usize;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let mut word = 1_u64;
                // SAFETY: the word can be written; the rest the system checks.
                unsafe { Os::default().read_memory(&[Span::new(at as *mut u8, 8)], (&raw mut word).cast()) }
            });
            assert!(fixture.serve_until(thread).is_err());
        });
        assert_eq!(fixture.guest.stats().counts.poisoned, 1);
    }
}

#[test]
fn a_page_in_the_memory_file_is_mapped_and_another_is_filled() {
    for protected in [false, true] {
        for features in [0, UNPOPULATED, ASYNC | UNPOPULATED] {
            let features = features | MINOR | feature::MISSING_SHMEM | feature::WP | feature::WP_SHMEM;
            let faulting = Faulting { protected, unmapped: true };
            let options = GuestOptions { pages_at_once: Some(4), ..GuestOptions::default() };
            let mut fixture = Fixture::of(&Setup { features, faulting, shared: true, options });
            [3, 9, 20].into_iter().for_each(|page| fixture.put_in_file(page, 0xab));
            for page in (0..30).chain([3, 9]) {
                let wanted = if [3, 9, 20].contains(&page) { u64::MAX / 0xff * 0xab } else { stored(page) };
                assert_eq!(fixture.read(page), wanted, "page {page}");
            }
            let counts = fixture.guest.stats().counts;
            assert_eq!((counts.mapped, counts.copied + counts.copied_ahead >= 27), (3, true));
            if protected {
                assert_eq!(fixture.there_and_written(), NONE);
            }
            // The page is still in the file when it is touched again.
            fixture.write(4, 77);
            fixture.give_back(4, libc::MADV_DONTNEED);
            assert_eq!(fixture.read(4), stored(4));
            fixture.put_in_file(50, 0xcd);
            fixture.write(50, 78);
            assert_eq!(fixture.read(50), u64::MAX / 0xff * 0xcd);
            match protected {
                true if features & ASYNC == 0 => assert_eq!(fixture.dirty(), [4, 50]),
                true => assert_eq!(fixture.there_and_written(), [4, 50], "page 4 was written before it was unmapped"),
                false => {}
            }
        }
    }
}

/// Makes a guest that handed its memory file over, full of zeros, with a bitmap that says that no page is filled.
fn with_file(pages_at_once: usize) -> (Fixture, OwnedFd) {
    let mut fixture = tracked(false, 0, Protect::default());
    let memory = Memory::huge_file(PAGES);
    let file = memory.file.as_ref().unwrap();
    (0..PAGES as u64).for_each(|page| _ = Os::default().write_at(file, &[0; PAGE], page * PAGE as u64).unwrap());
    let bitmap = Os::default().memory_file("bitmap", PAGE, false).unwrap();
    assert_eq!(Os::default().write_at(&bitmap, &[0xff; PAGES / 8], 0), Ok(PAGES / 8));
    let features = feature::EVENT_REMOVE | MINOR | feature::MISSING_SHMEM;
    let owners = crate::os::userfault::Userfault::new(&Os::default(), features, false).unwrap();
    owners.register(memory.at(0) as usize, memory.bytes(), Faulting { protected: false, unmapped: true }).unwrap();
    let fd = owners.as_fd().try_clone_to_owned().unwrap();
    let range =
        GuestRange { at: memory.at(0) as u64, bytes: memory.bytes() as u64, offset: 0, page_bytes: PAGE as u64 };
    let given = GuestFile { memory: file.try_clone().unwrap(), bitmap: Some(bitmap.try_clone().unwrap()) };
    let options = GuestOptions { pages_at_once: Some(pages_at_once), ..GuestOptions::default() };
    fixture.guest = Guest::with_file(&fixture.area, fd, given, &[range], &options).unwrap();
    (fixture.memory, fixture.owners) = (memory, owners);
    (fixture, bitmap)
}

/// Returns the pages whose bits are clear.
fn filled(bitmap: &OwnedFd) -> Vec<usize> {
    let mut bits = [0; PAGES / 8];
    assert_eq!(Os::default().read_at(bitmap, &mut bits, 0), Ok(PAGES / 8));
    (0..PAGES).filter(|page| bits[page / 8] >> (page % 8) & 1 == 0).collect()
}

#[test]
fn pages_are_written_to_a_memory_file_that_was_handed_over() {
    let (mut fixture, bitmap) = with_file(4);
    let pages = [0, 1, 2, 7, 8, 33, ABSENT - 1];
    pages.into_iter().for_each(|page| assert_eq!(fixture.read(page), stored(page)));
    assert_eq!(filled(&bitmap), pages);
    // Bytes that the guest wrote stay, even when the page is no longer mapped.
    fixture.write(8, 5);
    fixture.give_back(8, libc::MADV_DONTNEED);
    assert_eq!(fixture.read(8), stored(8));
    // SAFETY: a page of the test's own, which is there.
    assert_eq!(unsafe { *fixture.memory.at(8).cast::<u64>().add(1) }, 5);
    // A virtual processor asks for pages: none is mapped for it, and a filled one is not written again.
    for page in [8, 9] {
        assert_eq!(fixture.guest.fill_in_file((page * PAGE) as u64 + 5), Ok(()));
    }
    // A page that leaves the file counts as given back.
    fixture.give_back(20, libc::MADV_REMOVE);
    assert_eq!((fixture.read(20), fixture.read(9), fixture.read(8)), (0, stored(9), stored(8)));
    let counts = fixture.guest.stats().counts;
    assert_eq!((counts.written, counts.mapped, counts.zeroed), (pages.len() as u64 + 1, pages.len() as u64 + 2, 1));
    assert_eq!(fixture.guest.fill_in_file((PAGES * PAGE) as u64).map_err(|error| error.errno()), Err(errno::EINVAL));
    assert_eq!(filled(&bitmap), [0, 1, 2, 7, 8, 9, 33, ABSENT - 1]);
    let other = Fixture::of(&Setup::default());
    assert_eq!(other.guest.fill_in_file(0).map_err(|error| error.errno()), Err(errno::EINVAL));
}

/// The guest's process has the files as well, and may cut them.
#[test]
fn files_that_are_cut_harm_nobody_else() {
    let (mut fixture, bitmap) = with_file(1);
    assert_eq!(fixture.read(1), stored(1));
    for file in [fixture.memory.file.as_ref().unwrap(), &bitmap] {
        // SAFETY: the call takes numbers only.
        assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), 0) }, 0);
    }
    assert_eq!(fixture.guest.fill_in_file(9 * PAGE as u64), Ok(()));
    fixture.guest.serve().unwrap();
}

#[test]
fn unsuitable_files_are_refused() {
    let (fixture, bitmap) = with_file(1);
    let memory = fixture.memory.file.as_ref().unwrap();
    let range = |at: usize, offset: u64| GuestRange {
        at: at as u64,
        bytes: 8 * PAGE as u64,
        offset: offset * PAGE as u64,
        page_bytes: PAGE as u64,
    };
    let (at, other) = (fixture.memory.at(0) as usize, fixture.memory.at(20) as usize);
    let refusal = |file: &OwnedFd, bitmap: Option<&OwnedFd>, ranges: &[GuestRange]| {
        let given =
            GuestFile { memory: file.try_clone().unwrap(), bitmap: bitmap.map(|bitmap| bitmap.try_clone().unwrap()) };
        let fd = fixture.owners.as_fd().try_clone_to_owned().unwrap();
        let refused = Guest::with_file(&fixture.area, fd, given, ranges, &GuestOptions::default());
        refused.err().map(|error| error.text()).unwrap_or_default()
    };
    let ours: OwnedFd = std::fs::File::open("/proc/self/exe").unwrap().into();
    let readable: OwnedFd = std::fs::File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap().into();
    let short = Os::default().memory_file("short", PAGE, false).unwrap();
    let empty = Os::default().memory_file("empty", 0, false).unwrap();
    let one = [range(at, 0)];
    assert!(refusal(&ours, None, &one).contains("second descriptor"));
    assert!(refusal(&short, None, &one).contains("ends before"));
    assert!(refusal(&readable, None, &one).contains("O_RDWR"));
    assert!(refusal(memory, Some(&ours), &one).contains("third descriptor"));
    assert!(refusal(memory, Some(&empty), &one).contains("fewer bits"));
    assert!(refusal(memory, Some(&bitmap), &[range(at, 0), range(other, 4)]).contains("share an offset"));
    assert_eq!(refusal(memory, Some(&bitmap), &[range(at, 0), range(other, 8)]), "");
    assert_eq!(refusal(memory, None, &one), "");
}

#[test]
fn an_unknown_event_is_refused_once_and_all_others_are_served() {
    let mut fixture = tracked(false, 0, Protect::default());
    let at = fixture.memory.at(3) as u64;
    for (message, number) in [(Message::of(99, 0, 0), "number 99"), (Message::of(18, at, 1 | 1 << 7), "bit 7")] {
        let before = fixture.guest.stats().counts;
        fixture.guest.take(message.event());
        let refused = fixture.guest.serve().unwrap_err();
        assert!(refused.text().contains(number), "{refused}");
        assert!(!fixture.guest.serve().unwrap().again);
        let counts = fixture.guest.stats().counts;
        assert_eq!((counts.unknown, counts.present), (before.unknown + 1, before.present), "no thread was woken");
        assert_eq!(fixture.read(counts.unknown as usize), stored(counts.unknown as usize));
    }
    // A fork is a known event.
    assert_eq!(Message::of(19, 0, 0).event(), Event::Fork);
    assert_eq!(Message::of(18, at, 1 << 3).event(), Event::Unknown(Unknown::Flag(3)));
}

/// A page that was not reported as written since it was read has the same content.
#[test]
fn no_write_is_missed_while_others_give_pages_back() {
    const TRACKED: usize = 24;
    for shared in [false, true] {
        let mut fixture = tracked(shared, 0, Protect::default());
        let (stop, base) = (AtomicBool::new(false), fixture.memory.at(0) as usize);
        let word = |page: usize| (base + page * PAGE + 8) as *mut u64;
        let gone = if shared { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
        let mut copy = [0_u64; TRACKED];
        (0..TRACKED).for_each(|page| copy[page] = fixture.read(page));
        std::thread::scope(|scope| {
            let stop = &stop;
            let writer = scope.spawn(move || {
                for step in 0..3000 {
                    // SAFETY: memory of the test's, which only this thread writes.
                    unsafe { word(step * 7 % TRACKED).write_volatile(step as u64) };
                }
                stop.store(true, SeqCst);
            });
            let remover = scope.spawn(move || {
                for page in (TRACKED..PAGES).cycle().take_while(|_| !stop.load(SeqCst)) {
                    // SAFETY: memory of the test's, whose content is not needed.
                    unsafe { libc::madvise((base + page * PAGE) as *mut _, PAGE, gone) };
                }
            });
            while !writer.is_finished() || !remover.is_finished() {
                fixture.guest.serve().unwrap();
                let mut runs = Vec::new();
                // After an error, the next call reports the rest.
                let _ = fixture.guest.take_dirty(&mut runs);
                read_again(&runs, base, &mut copy);
            }
        });
        fixture.guest.serve().unwrap();
        let mut runs = Vec::new();
        fixture.guest.take_dirty(&mut runs).unwrap();
        read_again(&runs, base, &mut copy);
        for (page, seen) in copy.iter().enumerate() {
            // SAFETY: a page of the test's own, which is there.
            assert_eq!(unsafe { *word(page) }, *seen, "page {page}");
        }
        assert!(fixture.guest.stats().counts.unprotected >= TRACKED as u64);
    }
}

/// Reads the pages of these runs again.
fn read_again(runs: &[GuestRange], base: usize, copy: &mut [u64]) {
    for run in runs {
        let first = (run.at as usize - base) / PAGE;
        for page in first..(first + run.bytes as usize / PAGE).min(copy.len()) {
            // SAFETY: a page of the test's own, which is there.
            copy[page] = unsafe { ((base + page * PAGE + 8) as *const u64).read_volatile() };
        }
    }
}
