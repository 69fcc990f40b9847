//! What goes wrong first in a program with a pager. Nothing may hang: an alarm would end the process.

use crate::processes::{PAGE, in_child};
use crate::{GOOD, PAGES, Test, options};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use zsalloc::{Duty, Error, Eviction, FaultMode, Lent, PagedMemory, Pager, Region, RegionOptions};

/// The tests.
pub const TESTS: &[Test] = &[
    ("a panic beside a lent thread", GOOD, || timed(a_panic)),
    ("an early return beside a lent thread", GOOD, || timed(an_early_return)),
    ("memory and pager are dropped in any order", GOOD, || timed(|| any_order(FaultMode::Sigbus))),
    ("served by threads, memory and pager are dropped in any order", GOOD, || timed(|| any_order(FaultMode::Threads))),
    ("a region is dropped before its memory", GOOD, || timed(a_region_and_its_memory)),
    ("a vector as a region", GOOD, || timed(a_vector)),
    ("pager, region and memory are forgotten", GOOD, || timed(forgotten)),
    ("a pager that is dropped first goes on", GOOD, || timed(a_pager_dropped_first)),
    ("threads end with their pager", GOOD, || timed(threads_end_with_their_pager)),
    ("threads are lent and dropped many times", GOOD, || timed(lent_many_times)),
    ("served by threads, memory is refused while none is lent", GOOD, || timed(nobody_serves)),
    ("served by threads, a promised thread does not begin", GOOD, || timed(a_promise_not_kept)),
    ("served by threads, a promised thread begins late", GOOD, || timed(a_promise_kept_late)),
    ("a child drops what its parent has", GOOD, || timed(|| a_child_drops(FaultMode::Sigbus))),
    ("served by threads, a child drops what its parent has", GOOD, || timed(|| a_child_drops(FaultMode::Threads))),
    ("a child drops guards of a pager that was closed", GOOD, || timed(a_child_drops_last_guards)),
];

/// Runs a test that a signal ends if it hangs.
fn timed(test: impl FnOnce()) {
    // SAFETY: the call takes a number only.
    unsafe { libc::alarm(60) };
    test();
}

fn pager(mode: FaultMode) -> Pager {
    Pager::new("mistakes", &options(mode)).unwrap()
}

/// Fills memory of more pages than may be resident, and checks it.
fn use_all(memory: &mut [u8]) {
    memory.chunks_mut(PAGE).enumerate().for_each(|(page, bytes)| bytes.fill(page as u8));
    check_all(memory);
}

fn check_all(memory: &[u8]) {
    let right = |(page, bytes): (usize, &[u8])| bytes.iter().all(|&byte| byte == page as u8);
    assert!(memory.chunks(PAGE).enumerate().all(right));
}

/// The threads of this process. A thread that has ended, and was waited for, may still count for a moment.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until this process has so many threads.
fn come_to(count: usize) {
    until(|| threads() == count);
}

fn until(holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn a_panic() {
    let panicked = catch_unwind(|| {
        let pager = pager(FaultMode::Sigbus);
        let _lent = pager.lend(Duty::All).unwrap();
        let mut memory = pager.map(PAGES * PAGE).unwrap();
        use_all(&mut memory);
        panic!("the test asked for it");
    });
    assert!(panicked.is_err());
    let pager = pager(FaultMode::Sigbus);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        std::thread::scope(|threads| {
            let (_lent, work) = pager.lend_own(Duty::All).unwrap();
            threads.spawn(|| work.run());
            use_all(&mut pager.map(PAGES * PAGE).unwrap());
            panic!("the test asked for it");
        })
    }));
    assert!(panicked.is_err());
    come_to(1);
    assert_eq!(pager.stats().lent_threads, 0);
}

/// The error of a `?` comes out, whatever was lent and mapped before.
fn an_early_return() {
    fn by_guards(pager: &Pager) -> zsalloc::Result<()> {
        let _lent = [pager.lend(Duty::Serve)?, pager.lend(Duty::Evict)?];
        let mut memory = pager.map(PAGES * PAGE)?;
        use_all(&mut memory);
        let whole = memory.len();
        drop(memory.hold(0..whole + 1)?);
        unreachable!("the range is too long");
    }
    fn in_a_scope(pager: &Pager) -> zsalloc::Result<()> {
        std::thread::scope(|threads| {
            let (_lent, work) = pager.lend_own(Duty::All)?;
            threads.spawn(|| work.run());
            pager.map(0)?;
            unreachable!("it is too short");
        })
    }
    let pager = pager(FaultMode::Sigbus);
    assert!(by_guards(&pager).unwrap_err().to_string().contains("ends after the memory"));
    assert!(in_a_scope(&pager).unwrap_err().to_string().contains("1 byte at least"));
    // A work that is not begun is not lent any more.
    drop(pager.lend_own(Duty::All).unwrap().1);
    assert_eq!(pager.stats().lent_threads, 0);
}

/// Fields drop in the order of their declaration.
struct PagerFirst {
    _pager: Pager,
    _lent: Lent,
    memory: PagedMemory,
}

struct PagerLast {
    memory: PagedMemory,
    _lent: Lent,
    _pager: Pager,
}

fn any_order(mode: FaultMode) {
    let parts = || {
        let pager = pager(mode);
        let lent = pager.lend(Duty::All).unwrap();
        let memory = pager.map(PAGES * PAGE).unwrap();
        (pager, lent, memory)
    };
    let (_pager, _lent, memory) = parts();
    let mut first = PagerFirst { _pager, _lent, memory };
    use_all(&mut first.memory);
    drop(first);
    let (_pager, _lent, memory) = parts();
    let mut last = PagerLast { memory, _lent, _pager };
    use_all(&mut last.memory);
    drop(last);
    // As locals, in the order that a newcomer writes, and the other way around.
    let mut memory;
    {
        let pager = pager(mode);
        let _lent = pager.lend(Duty::All).unwrap();
        memory = pager.map(PAGES * PAGE).unwrap();
        use_all(&mut memory);
    }
    drop(memory);
    come_to(1);
}

/// Memory of a program's own, which is unmapped when it is dropped.
struct Owned(*mut u8);

const BYTES: usize = PAGES * PAGE;

impl Owned {
    fn new() -> Self {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the system chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, access, kind, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Self(at.cast())
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this value's, and readable and writable.
        unsafe { std::slice::from_raw_parts_mut(self.0, BYTES) }
    }

    fn add(&mut self, pager: &Pager) -> Region {
        // SAFETY: the tests drop the region first.
        unsafe { pager.add_region(self.0, BYTES, &RegionOptions::default()) }.unwrap()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's.
        assert_eq!(unsafe { libc::munmap(self.0.cast(), BYTES) }, 0);
    }
}

fn a_region_and_its_memory() {
    for eviction in [Eviction::InPlace, Eviction::Moving] {
        let mut options = options(FaultMode::Sigbus);
        options.eviction = eviction;
        // No thread is lent: nobody would read the event of an unmapping.
        let pager = Pager::new("mistakes", &options).unwrap();
        let mut memory = Owned::new();
        let region = memory.add(&pager);
        use_all(memory.bytes());
        // The pager may go before the region. The region's pages come back when it goes itself.
        drop(pager);
        use_all(memory.bytes());
        drop(region);
        check_all(memory.bytes());
    }
    let pager = pager(FaultMode::Sigbus);
    let mut memory = Owned::new();
    let mut region = memory.add(&pager);
    use_all(memory.bytes());
    region.remove().unwrap();
    check_all(memory.bytes());
    assert!(matches!(region.remove(), Err(Error::NotFound(_))));
    // A guard that was used up removes nothing.
    let mut again = memory.add(&pager);
    drop(region);
    use_all(memory.bytes());
    assert_eq!(pager.stats().regions, 1);
    // SAFETY: the bytes are not needed any more.
    unsafe { again.remove_discarding() }.unwrap();
    assert_eq!(pager.stats().regions, 0);
}

fn a_vector() {
    let pager = pager(FaultMode::Sigbus);
    let refused = |vector: &mut Vec<u8>| {
        // SAFETY: the call is refused, as this tests.
        unsafe { pager.add_region(vector.as_mut_ptr(), vector.len(), &RegionOptions::default()) }.unwrap_err()
    };
    // It begins after the allocator's own words.
    assert!(refused(&mut vec![0; BYTES]).to_string().contains("whole pages"));
    // A vector whose elements are pages can be a region, while nothing adds to it or drops it.
    #[derive(Clone)]
    #[repr(align(4096))]
    struct Page([u8; PAGE]);
    let mut vector = vec![Page([0; PAGE]); PAGES];
    // SAFETY: the region is dropped before the vector.
    let region = unsafe { pager.add_region(vector.as_mut_ptr().cast(), BYTES, &RegionOptions::default()) }.unwrap();
    vector.iter_mut().enumerate().for_each(|(page, bytes)| bytes.0.fill(page as u8));
    assert!(pager.stats().resident_bytes < BYTES as u64 / 2);
    drop(region);
    assert!(vector.iter().enumerate().all(|(page, bytes)| bytes.0.iter().all(|&byte| byte == page as u8)));
}

fn forgotten() {
    let mut memory = {
        let pager = pager(FaultMode::Sigbus);
        std::mem::forget(pager.lend(Duty::Evict).unwrap());
        let memory = pager.map(BYTES).unwrap();
        std::mem::forget(pager);
        memory
    };
    use_all(&mut memory);
    drop(memory);
    let pager = pager(FaultMode::Sigbus);
    let mut memory = pager.map(BYTES).unwrap();
    use_all(&mut memory);
    std::mem::forget(memory);
    drop(pager);
}

fn a_pager_dropped_first() {
    let before = threads();
    let pager = pager(FaultMode::Sigbus);
    let lent = pager.lend(Duty::All).unwrap();
    let mut memory = pager.map(BYTES).unwrap();
    use_all(&mut memory);
    drop(pager);
    use_all(&mut memory);
    let held = memory.hold(..3 * PAGE).unwrap();
    assert!(held[2 * PAGE..].iter().all(|&byte| byte == 2));
    drop(held);
    // The memory is still under the limit.
    let mut seen = vec![0u8; PAGES];
    // SAFETY: a byte for each page can be written.
    assert_eq!(unsafe { libc::mincore(memory.as_mut_ptr().cast(), BYTES, seen.as_mut_ptr()) }, 0);
    assert!(seen.iter().filter(|&seen| seen & 1 == 1).count() < PAGES / 2);
    come_to(before + 1);
    drop(memory);
    come_to(before);
    drop(lent);
}

fn threads_end_with_their_pager() {
    let pager = pager(FaultMode::Sigbus);
    let mut lent = [Duty::All, Duty::Serve, Duty::Evict].map(|duty| Some(pager.lend(duty).unwrap()));
    assert_eq!(pager.stats().lent_threads, 3);
    come_to(4);
    // The drop ends this thread alone.
    lent[1] = None;
    assert_eq!(pager.stats().lent_threads, 2);
    come_to(3);
    drop(pager);
    come_to(1);
    drop(lent);
}

fn lent_many_times() {
    let pagers = [pager(FaultMode::Sigbus), pager(FaultMode::Sigbus)];
    let mut memory = pagers.each_ref().map(|pager| pager.map(BYTES).unwrap());
    for round in 0..100 {
        let duties = [Duty::All, Duty::Serve, Duty::Evict];
        let mut lent: Vec<_> = pagers.iter().flat_map(|pager| duties.map(|duty| pager.lend(duty).unwrap())).collect();
        if round % 25 == 0 {
            memory.iter_mut().for_each(|memory| use_all(memory));
        }
        let begin = Instant::now();
        drop(lent.remove(round % lent.len()));
        assert_eq!(pagers.iter().map(|pager| pager.stats().lent_threads).sum::<u64>(), 5);
        drop(lent);
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_eq!(pagers.iter().map(|pager| pager.stats().lent_threads).sum::<u64>(), 0);
    }
    come_to(1);
    memory.iter().for_each(|memory| check_all(memory));
}

fn nobody_serves() {
    let pager = pager(FaultMode::Threads);
    let mut memory = Owned::new();
    let sentence = |error: Error| {
        assert!(matches!(error, Error::Again(_)));
        assert!(error.to_string().contains("Pager::lend(Duty::All)"), "{error}");
    };
    sentence(pager.map(PAGE).unwrap_err());
    // The promise of a thread that is taken back does not count.
    drop(pager.lend_own(Duty::Serve).unwrap().1);
    sentence(pager.map(PAGE).unwrap_err());
    // A thread that only evicts serves no touch.
    let _evicts = pager.lend(Duty::Evict).unwrap();
    sentence(pager.map(PAGE).unwrap_err());
    // SAFETY: the call is refused, as this tests.
    sentence(unsafe { pager.add_region(memory.0, BYTES, &RegionOptions::default()) }.unwrap_err());
    let _lent = pager.lend(Duty::Serve).unwrap();
    use_all(&mut pager.map(BYTES).unwrap());
    let _region = memory.add(&pager);
    use_all(memory.bytes());
}

fn a_promise_not_kept() {
    let pager = pager(FaultMode::Threads);
    let (_lent, work) = pager.lend_own(Duty::All).unwrap();
    std::mem::forget(work);
    let refused = pager.map(PAGE).unwrap_err();
    assert!(matches!(refused, Error::Again(_)), "{refused:?}");
    assert!(refused.to_string().contains("LentWork::run"), "{refused}");
    assert_eq!(pager.stats().lent_threads, 0);
    let _lent = pager.lend(Duty::Serve).unwrap();
    use_all(&mut pager.map(BYTES).unwrap());
}

fn a_promise_kept_late() {
    let pager = pager(FaultMode::Threads);
    std::thread::scope(|threads| {
        let (_lent, work) = pager.lend_own(Duty::All).unwrap();
        threads.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            work.run();
        });
        use_all(&mut pager.map(BYTES).unwrap());
    });
    assert_eq!(pager.stats().lent_threads, 0);
}

/// In a child the threads do not exist, and the memory is not there.
fn a_child_drops(mode: FaultMode) {
    let pager = pager(mode);
    let lent = pager.lend(Duty::All).unwrap();
    let (own, work) = pager.lend_own(Duty::Evict).unwrap();
    let mut memory = pager.map(BYTES).unwrap();
    use_all(&mut memory);
    let mut owned = Owned::new();
    let region = owned.add(&pager);
    use_all(owned.bytes());
    let held = pager.hold(memory.as_ptr(), 2 * PAGE).unwrap();
    let before = (pager.stats().held_bytes, pager.stats().regions, pager.stats().lent_threads);
    let mut all = Some((pager, lent, own, work, memory, region, held));
    in_child(|| {
        timed(|| {
            let (pager, lent, own, work, mut memory, region, held) = all.take().unwrap();
            assert!(matches!(memory.discard(..), Err(Error::Forked)));
            assert!(matches!(memory.hold(..PAGE), Err(Error::Forked)));
            let text = format!("{pager:?} {lent:?} {own:?} {work:?} {memory:?} {region:?} {held:?}");
            assert!(text.contains("PagedMemory") && text.contains("Region"));
            // Something else is at the memory's addresses, and stays there.
            let at = memory.as_mut_ptr();
            let (access, kind) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE);
            // SAFETY: the call fails if the child has anything there.
            assert_eq!(unsafe { libc::mmap(at.cast(), BYTES, access, kind, -1, 0) }, at.cast());
            work.run();
            drop((lent, pager, region, held, own));
            drop(memory);
            // SAFETY: the mapping that was just made.
            assert_eq!(unsafe { at.read_volatile() }, 0);
        });
    });
    let (pager, lent, _own, _work, memory, region, held) = all.take().unwrap();
    assert_eq!((pager.stats().held_bytes, pager.stats().regions, pager.stats().lent_threads), before);
    check_all(&memory);
    check_all(owned.bytes());
    drop((held, region));
    check_all(owned.bytes());
    drop((pager, lent, memory));
}

/// The parts of a pager that was closed before the fork are left to the guards alone. The child does not have the
/// staging range: what it has mapped at those addresses stays.
fn a_child_drops_last_guards() {
    let pager = pager(FaultMode::Sigbus);
    let range = pager.staging_range();
    let (own, work) = pager.lend_own(Duty::All).unwrap();
    drop(pager);
    let mut both = Some((own, work));
    in_child(|| {
        let at = std::ptr::with_exposed_provenance_mut::<u8>(range.start);
        let (access, kind) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE);
        // SAFETY: the call fails if the child has anything there.
        assert_eq!(unsafe { libc::mmap(at.cast(), PAGE, access, kind, -1, 0) }, at.cast());
        drop(both.take());
        // SAFETY: the mapping that was just made.
        assert_eq!(unsafe { at.read_volatile() }, 0);
    });
    drop(both);
}
