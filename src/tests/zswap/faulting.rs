//! Calls into memory that is missing, under a userfaultfd of the test's. The thread that brings the memory needs the
//! same zswap, and gets it.

use super::{PageBytes, compressible, load};
use crate::os::Os;
use crate::os::userfault::{Faulting, Userfault, feature};
use crate::{Area, AreaOptions, Codec, Error, LoadFlags, PAGE_SIZE, Patience, Zswap, ZswapOptions, ZswapTuning};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const PAGES: usize = 40;
/// Long enough for a call that does not wait.
const WATCH: Duration = Duration::from_secs(20);

/// Pages that are missing until they are filled.
struct Missing {
    base: *mut PageBytes,
    uffd: Userfault,
}

// SAFETY: it has addresses only; the tests decide which thread touches them.
unsafe impl Sync for Missing {}
// SAFETY: as above.
unsafe impl Send for Missing {}

impl Missing {
    fn new() -> Self {
        let uffd = Userfault::new(&Os::default(), feature::WP, false).unwrap();
        let bytes = PAGES * PAGE_SIZE;
        // The pages stay mapped: a thread that hangs may be touching them.
        let mapping = std::mem::ManuallyDrop::new(Os::default().reserve(bytes, PAGE_SIZE).unwrap());
        let base = mapping.base().as_ptr();
        Os::default().commit(base, bytes).unwrap();
        uffd.register(base as usize, bytes, Faulting::default()).unwrap();
        Self { base: base.cast(), uffd }
    }

    fn fill(&self) {
        for page in 0..PAGES {
            let bytes = compressible(page as u64);
            // SAFETY: the page is missing, and no other thread fills it.
            let done =
                unsafe { self.uffd.copy(self.base as usize + page * PAGE_SIZE, bytes.as_ptr(), PAGE_SIZE, false) };
            assert_eq!(done.stopped, None);
        }
    }

    #[allow(clippy::mut_from_ref)]
    fn pages(&self) -> &mut [PageBytes] {
        // SAFETY: the pages stay mapped for ever, and one thread of a test at a time looks at them.
        unsafe { std::slice::from_raw_parts_mut(self.base, PAGES) }
    }
}

type Act = fn(&Area, &mut [PageBytes]);

const ACTS: [(&str, Act); 6] = [
    ("store", |area, pages| area.store(100, &pages[0]).unwrap()),
    ("store_pages", |area, pages| area.store_pages(100, pages).unwrap()),
    ("load", |area, pages| area.load(1, &mut pages[0], LoadFlags::KEEP).unwrap()),
    ("take", |area, pages| area.load(1, &mut pages[0], LoadFlags::TAKE).unwrap()),
    ("load_scattered", |area, pages| {
        area.load_scattered(&[1, 2, 3], &mut pages[..3], LoadFlags::KEEP, |_, done| done.unwrap()).unwrap();
    }),
    ("claim", |area, pages| {
        pages[..3].iter_mut().for_each(|page| drop(area.claim(page).unwrap()));
    }),
];

/// What the thread that serves faults may do with the same zswap.
fn others(area: &Area) {
    assert_eq!(load(area, 10), Ok(compressible(10)));
    area.store(11, &compressible(11)).unwrap();
    area.store_pages(12, &[compressible(12), compressible(13)]).unwrap();
    let mut pages = vec![[0; PAGE_SIZE]; 2];
    area.load_pages(12, &mut pages, LoadFlags::KEEP, |_, done| done.unwrap()).unwrap();
    assert!(matches!(area.recompress(3, Codec::Zstd(5)), Ok(_) | Err(Error::NoMemory(_))));
    area.store(14, &compressible(14)).unwrap();
    area.invalidate(14, 1, crate::Patience::NoWait).unwrap();
}

fn in_time<T>(receiver: &Receiver<T>, what: &str) -> T {
    receiver.recv_timeout(WATCH).unwrap_or_else(|_| {
        eprintln!("{what}: the test hangs");
        std::process::abort();
    })
}

#[test]
fn the_thread_that_brings_a_missing_page_gets_what_it_needs() {
    for codec in [Codec::Lz4, Codec::Zstd(3)] {
        for (name, act) in ACTS {
            let options = ZswapOptions {
                max_bytes: Some(64 << 20),
                codec,
                tuning: ZswapTuning { contexts: Some(1), ..ZswapTuning::default() },
            };
            let zswap = Zswap::new("faulting", &options).unwrap();
            let area = zswap.add_area(1000, &AreaOptions::default()).unwrap();
            (0..11).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
            let missing = Missing::new();
            let (sender, receiver) = channel();
            thread::scope(|scope| {
                let blocked = scope.spawn(|| act(&area, missing.pages()));
                // By then the thread is most likely at the fault. If it is not, the test is too easy, and does not
                // fail.
                super::linger();
                scope.spawn(|| {
                    others(&area);
                    missing.fill();
                    sender.send(()).unwrap();
                });
                in_time(&receiver, &format!("{name} with {codec:?}"));
                blocked.join().unwrap();
            });
        }
    }
}

/// Loads from the backing file hold nothing while they touch the pages of their callers, however many run at once.
#[test]
fn loads_from_the_backing_file_hold_nothing_at_missing_pages() {
    for flags in [LoadFlags::KEEP, LoadFlags::TAKE] {
        let zswap = Zswap::new("faulting", &ZswapOptions::default()).unwrap();
        let area = zswap.add_area(1000, &AreaOptions::default()).unwrap();
        let file = Os::default().memory_file("backing", 0, false).unwrap();
        zswap.set_backing_file(Some((file.as_fd(), 1 << 20))).unwrap();
        let pages = PAGES as u64;
        (0..=pages).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
        while area.stats().unwrap().counts.file_pages <= pages {
            zswap.shrink(pages).unwrap();
        }
        let missing = Missing::new();
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            for (offset, page) in missing.pages().iter_mut().enumerate() {
                let area = &area;
                scope.spawn(move || {
                    area.load(offset as u64, page, flags).unwrap();
                    assert_eq!(*page, compressible(offset as u64));
                });
            }
            // By then the threads are most likely at their faults.
            super::linger();
            scope.spawn(|| {
                assert_eq!(load(&area, pages), Ok(compressible(pages)));
                missing.fill();
                sender.send(()).unwrap();
            });
            in_time(&receiver, "a load from the backing file");
        });
    }
}

/// A page that is about to be claimed for writeback can be removed while the caller's memory for it is missing.
#[test]
fn a_claim_claims_nothing_before_the_page_is_there() {
    for codec in [Codec::Lz4, Codec::Zstd(3)] {
        let zswap = Zswap::new("faulting", &ZswapOptions { codec, ..ZswapOptions::default() }).unwrap();
        let area = zswap.add_area(1000, &AreaOptions::default()).unwrap();
        (0..2).for_each(|offset| area.store(offset, &compressible(offset)).unwrap());
        let missing = Missing::new();
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            let blocked = scope.spawn(|| {
                let claim = area.claim(&mut missing.pages()[0]).unwrap();
                claim.map(|claim| claim.written().unwrap())
            });
            super::linger();
            scope.spawn(|| {
                area.invalidate(0, 2, Patience::Wait).unwrap();
                missing.fill();
                sender.send(()).unwrap();
            });
            in_time(&receiver, "an invalidate");
            assert_eq!(blocked.join().unwrap(), None, "the page was removed before it was claimed");
        });
    }
}
