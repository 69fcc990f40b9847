//! Large regions are added part by part, and other threads get on meanwhile.

use super::look::{consistent, with_faults};
use super::{Memory, Running, WAYS, evicting, limited};
use crate::os::{Call, errno};
use crate::pager::Duty;
use crate::pager::for_c::PagerForC;
use crate::pager::inbox::GIVES_WAY;
use crate::units::PAGE;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

const LIMIT: usize = 128;
/// Pages of a part.
const PART: usize = 512;

fn value(page: usize) -> u64 {
    page as u64 + 1
}

fn memory(shared: bool, pages: usize) -> Memory {
    if shared { Memory::shared(pages) } else { Memory::new(pages) }
}

fn parts(core: &crate::pager::core::Core) -> usize {
    core.extents.within(0, usize::MAX).count()
}

/// The system refuses a part in the middle. Then all is as it was, and the memory can be added again.
#[test]
fn region_that_can_not_be_added_as_a_whole_is_not_added() {
    const PAGES: usize = PART + 100;
    for (mode, evict_in_place, shared) in WAYS {
        for call in [Call::Register, Call::Advise] {
            let memory = memory(shared, PAGES);
            (0..PAGES).for_each(|page| memory.fill(page, value(page)));
            let options = evicting(evict_in_place, limited(LIMIT, mode));
            let (faults, running) = with_faults(&options, &[Duty::All, Duty::All]);
            let before = faults.seen(Call::Register);
            if call == Call::Register {
                faults.fail(call, 2, 1);
            } else {
                // One call of advice for each part is mincore, so some parts are added before one fails.
                faults.fail(call, 4, 1);
            }
            faults.say(call, errno::ENOMEM, 0);
            // SAFETY: the memory is used through these addresses alone.
            let added = unsafe { running.pager.add_region_by_id(memory.at(0), memory.bytes(), &memory.options()) };
            if call == Call::Register {
                assert!(added.is_err(), "two parts were registered by {} calls", faults.seen(call) - before);
            }
            if added.is_err() {
                assert_eq!((parts(&running.pager.0), running.pager.stats().regions), (0, 0));
                (0..PAGES).for_each(|page| memory.check(page, value(page)));
                consistent(&running);
                running.add(&memory);
            }
            faults.heal(call);
            assert_eq!(parts(&running.pager.0), 1, "the parts are one");
            running.pager.evict(PAGES as u64).unwrap();
            (0..PAGES).for_each(|page| memory.check(page, value(page)));
            consistent(&running);
        }
    }
}

/// Threads touch, write and give back pages of a range while it becomes a region.
#[test]
fn region_in_use_is_added() {
    const PAGES: usize = 4 * PART;
    for (mode, evict_in_place, shared) in WAYS {
        let options = evicting(evict_in_place, limited(LIMIT, mode));
        let running = Running::new(&options, &[Duty::All, Duty::All]);
        let memory = memory(shared, PAGES);
        (0..PAGES).step_by(2).for_each(|page| memory.fill(page, value(page)));
        let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..2 {
                let (memory, stop, rounds) = (&memory, &stop, &rounds);
                scope.spawn(move || {
                    let mut at = thread;
                    while !stop.load(SeqCst) {
                        let page = at * 397 % PAGES;
                        if page.is_multiple_of(2) {
                            memory.check(page, value(page));
                        } else if page / 2 % 2 == thread {
                            // This thread alone writes these pages.
                            memory.fill(page, value(page));
                            memory.check(page, value(page));
                        }
                        at += 1;
                        rounds.fetch_add(1, SeqCst);
                    }
                });
            }
            while rounds.load(SeqCst) < 100 {
                thread::yield_now();
            }
            running.add(&memory);
            let seen = rounds.load(SeqCst);
            while rounds.load(SeqCst) < seen + 1000 {
                thread::yield_now();
            }
            stop.store(true, SeqCst);
        });
        (0..PAGES).step_by(2).for_each(|page| memory.check(page, value(page)));
        consistent(&running);
    }
}

/// After each part, the thread that adds a region gives way as long as others wait for the lock of events, and does not
/// hold it meanwhile.
#[test]
fn others_can_read_events_after_each_part_of_a_large_region() {
    const PARTS: usize = 64;
    // Dropped last: while the memory is a region, munmap waits until a thread reads its event.
    let memory = Memory::new(PARTS * PART);
    let running = Running::new(&limited(LIMIT, crate::pager::FaultMode::Sigbus), &[]);
    let core = &running.pager.0;
    // Another thread seems to wait all the time.
    core.events.readers().fetch_add(1, SeqCst);
    running.add(&memory);
    core.events.readers().fetch_sub(1, SeqCst);
    assert_eq!(core.events.gave_way(), PARTS as u32 * GIVES_WAY);
    assert_eq!(parts(core), 1);
    consistent(&running);
}

/// A range that overlaps a region in its later parts is refused, and the region stays as it is.
#[test]
fn range_whose_end_is_in_another_region_is_refused() {
    let memory = Memory::new(4 * PART);
    let running = Running::new(&limited(LIMIT, crate::pager::FaultMode::Sigbus), &[]);
    let (last, bytes) = (memory.at(3 * PART), PART * PAGE);
    // SAFETY: the memory is used through these addresses alone.
    unsafe {
        running.pager.add_region_by_id(last, bytes, &memory.options()).unwrap();
        assert!(running.pager.add_region_by_id(memory.at(0), memory.bytes(), &memory.options()).is_err());
    }
    assert_eq!(parts(&running.pager.0), 1);
    (0..memory.pages()).for_each(|page| memory.fill(page, value(page)));
    (0..memory.pages()).for_each(|page| memory.check(page, value(page)));
    consistent(&running);
}

/// Memory that is full already becomes a region. It is evicted as it is added, and not only when all of it is there:
/// until then each touch of other memory would have to make room.
#[test]
fn full_region_is_evicted_as_it_is_added() {
    const PAGES: usize = 8 * PART;
    for (mode, evict_in_place, shared) in WAYS {
        let options = evicting(evict_in_place, limited(LIMIT, mode));
        let running = Running::new(&options, &[Duty::Serve]);
        let memory = memory(shared, PAGES);
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        let (done, core) = (AtomicBool::new(false), &running.pager.0);
        let most = thread::scope(|scope| {
            let looking = scope.spawn(|| {
                let mut most = 0;
                while !done.load(SeqCst) {
                    most = most.max(core.account.resident());
                    thread::yield_now();
                }
                most
            });
            running.add(&memory);
            done.store(true, SeqCst);
            looking.join().unwrap()
        });
        assert!(most <= (LIMIT + PART) as u64, "{most} pages were charged at once, of {LIMIT}");
        assert!(core.account.resident() <= LIMIT as u64);
        consistent(&running);
    }
}
