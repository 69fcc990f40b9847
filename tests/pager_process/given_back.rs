//! Memory that is given back by madvise while the pager is not told of it.

use crate::processes::{Memory, PAGE};
use crate::{GOOD, PAGES, Test, options};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use zsalloc::{Duty, Eviction, FaultMode, Pager, PagerOptions, RegionOptions};

/// The tests.
pub const TESTS: &[Test] = &[
    ("in place, memory is given back all the time", GOOD, || all_the_time(FaultMode::Sigbus)),
    ("served by threads, in place, memory is given back all the time", GOOD, || all_the_time(FaultMode::Threads)),
];

/// Returns pseudo-random numbers.
fn random(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize
}

/// Lets pages go missing between any two calls of an eviction. No thread may wait for a page for ever: SIGALRM would
/// end the process.
fn all_the_time(fault_mode: FaultMode) {
    // SAFETY: the call takes a number only.
    unsafe { libc::alarm(240) };
    let options = PagerOptions { eviction: Eviction::InPlace, ..options(fault_mode) };
    let pager = Pager::new("given back", &options).unwrap();
    let _lent = [(); 2].map(|()| pager.lend(Duty::All).unwrap());
    let memory = Memory::new(PAGES, None);
    // SAFETY: the memory is used through these addresses alone, and nobody unmaps it.
    let _region = unsafe { pager.add_region(memory.at(0), memory.bytes(), &RegionOptions::default()) }.unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 7;
            while !done.load(Relaxed) {
                let at = memory.at(random(&mut seed) % (PAGES - 16));
                // SAFETY: pages of the test's own, whose content is not needed.
                assert_eq!(unsafe { libc::madvise(at.cast(), 16 * PAGE, libc::MADV_DONTNEED) }, 0);
            }
        });
        let mut seed = 1;
        for touch in 0..20_000 {
            let words = memory.at(random(&mut seed) % PAGES).cast::<u64>();
            // SAFETY: a page of the test's own, aligned.
            (0..PAGE / 8).step_by(64).for_each(|word| unsafe { words.add(word).write_volatile(touch) });
        }
        done.store(true, Relaxed);
    });
}
