//! What owners do with their memory while it is under a pager.

use super::look::{consistent, consistent_but, kind_at, with_faults};
use super::{Memory, Running, limited};
use crate::error::Result;
use crate::os::Call;
use crate::os::errno::EAGAIN;
use crate::os::userfault::Message;
use crate::pager::for_c::PagerForC;
use crate::pager::state::PageKind;
use crate::pager::{Duty, Eviction, FaultMode, Pager, PagerOptions, PagerTuning};
use crate::units::PAGE;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const LIMIT: usize = 128;
const PAGES: usize = 4 * LIMIT;
pub const MODES: [FaultMode; 2] = [FaultMode::Sigbus, FaultMode::Threads];

pub fn value(page: usize) -> u64 {
    page as u64 + 1
}

/// A pager in which `memory` was filled, with pages in memory, staged and stored.
pub fn filled(memory: &Memory, options: &PagerOptions, duties: &[Duty]) -> Running {
    let running = Running::new(options, duties);
    running.add(memory);
    (0..memory.pages()).for_each(|page| memory.fill(page, value(page)));
    running
}

/// The first page of this kind.
fn first(running: &Running, memory: &Memory, is: impl Fn(PageKind) -> bool) -> usize {
    (0..memory.pages()).find(|&page| is(kind_at(running, memory.at(page)))).unwrap()
}

fn check_but(memory: &Memory, zeros: std::ops::Range<usize>) {
    for page in 0..memory.pages() {
        memory.check(page, if zeros.contains(&page) { 0 } else { value(page) });
    }
}

#[test]
fn a_touch_reads_the_event_that_it_waits_for() {
    let memory = Memory::new(PAGES);
    let running = filled(&memory, &limited(LIMIT, FaultMode::Sigbus), &[]);
    let stored = first(&running, &memory, |kind| kind == PageKind::Stored);
    let staged = first(&running, &memory, |kind| matches!(kind, PageKind::Staged(_)));
    thread::scope(|scope| {
        // No thread is lent. This waits until its event was read, and until then every copy and move is refused.
        let owner = scope.spawn(|| assert_eq!(memory.advise(PAGES - 8, 8, libc::MADV_DONTNEED), 0));
        thread::sleep(Duration::from_millis(50));
        assert!(!owner.is_finished());
        memory.check(stored, value(stored));
        owner.join().unwrap();
        let owner = scope.spawn(|| assert_eq!(memory.advise(PAGES - 16, 8, libc::MADV_DONTNEED), 0));
        thread::sleep(Duration::from_millis(50));
        assert!(!owner.is_finished());
        memory.check(staged, value(staged));
        owner.join().unwrap();
    });
    let counts = running.pager.stats().counts;
    assert!(counts.events >= 2 && counts.retries >= 2, "{counts:?}");
    check_but(&memory, PAGES - 16..PAGES);
    consistent(&running);
}

#[test]
fn pages_that_are_given_back_read_as_zero_wherever_they_were() {
    for mode in MODES {
        let memory = Memory::new(PAGES);
        let running = filled(&memory, &limited(LIMIT, mode), &[Duty::All]);
        let kinds: Vec<PageKind> = (0..PAGES).map(|page| kind_at(&running, memory.at(page))).collect();
        assert!(kinds.iter().any(|kind| matches!(kind, PageKind::Staged(_))));
        assert!(kinds.contains(&PageKind::Stored) && kinds.contains(&PageKind::Resident(0)));
        for page in (0..PAGES).step_by(3) {
            assert_eq!(memory.advise(page, 1, libc::MADV_DONTNEED), 0);
        }
        consistent(&running);
        (0..PAGES).for_each(|page| memory.check(page, if page % 3 == 0 { 0 } else { value(page) }));
        assert_eq!(memory.advise(0, PAGES, libc::MADV_DONTNEED), 0);
        // The event may take effect a little after the owner goes on.
        running.pager.0.read_events();
        assert_eq!(running.pager.snapshot().unwrap().zswap.areas[0].stats.counts.pages(), 0);
        (0..PAGES).for_each(|page| memory.check(page, 0));
        consistent(&running);
    }
}

#[test]
fn holes_in_a_memory_file_read_as_zero() {
    for mode in MODES {
        let memory = Memory::shared(PAGES);
        let running = filled(&memory, &limited(LIMIT, mode), &[Duty::All]);
        assert_eq!(memory.advise(LIMIT, 2 * LIMIT, libc::MADV_REMOVE), 0);
        check_but(&memory, LIMIT..3 * LIMIT);
        // SAFETY: the bytes are not needed.
        unsafe { running.pager.discard(memory.at(0), LIMIT * PAGE) }.unwrap();
        check_but(&memory, 0..3 * LIMIT);
        consistent_but(&running, PAGES as u64);
    }
}

/// Moves a part of the memory. Its new address differs unless it is the whole.
fn remap(memory: &Memory, page: usize, pages: usize) -> *mut u8 {
    // SAFETY: a range of this test's, which is used at its new place from then on.
    let to = unsafe {
        let room = libc::mmap(
            std::ptr::null_mut(),
            pages * PAGE,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        libc::mremap(memory.at(page).cast(), pages * PAGE, pages * PAGE, flags, room)
    };
    assert_ne!(to, libc::MAP_FAILED);
    to.cast()
}

/// The system does not ask whether there is room for one more part.
#[test]
fn a_part_that_moves_is_served_when_the_table_of_regions_is_full() {
    let mut memory = Memory::new(PAGES);
    let options = PagerOptions {
        eviction: Eviction::Moving,
        tuning: PagerTuning { max_regions: Some(1), ..PagerTuning::default() },
        ..limited(LIMIT, FaultMode::Sigbus)
    };
    let running = filled(&memory, &options, &[Duty::All]);
    let half = PAGES / 2;
    let mut moved = Memory::new(1);
    moved.is_now(remap(&memory, half, half), half);
    // The addresses of the other half may be somebody else's by now.
    memory.is_now(memory.at(0), half);
    (0..half).for_each(|page| memory.check(page, value(page)));
    (0..half).for_each(|page| moved.check(page, value(half + page)));
    consistent(&running);
}

/// A thread that looks for events where there is none does not wait for the threads that move pages, and keeps none of
/// them out. Where there is one, it waits for those inside.
#[test]
fn the_gate_is_closed_for_events_alone() {
    let memory = Memory::new(PAGES);
    let running = filled(&memory, &limited(LIMIT, FaultMode::Sigbus), &[]);
    let core = &running.pager.0;
    thread::scope(|scope| {
        let inside = core.gate.enter().expect("nobody has closed it");
        core.read_events();
        let owner = scope.spawn(|| assert_eq!(memory.advise(0, 8, libc::MADV_DONTNEED), 0));
        while !core.uffd.has_events() {
            thread::yield_now();
        }
        let reader = scope.spawn(|| core.read_events());
        while core.gate.is_open() {
            thread::yield_now();
        }
        assert!(core.gate.enter().is_none() && core.uffd.has_events() && !owner.is_finished());
        drop(inside);
        reader.join().unwrap();
        owner.join().unwrap();
        assert!(core.gate.is_open());
    });
    check_but(&memory, 0..8);
}

/// Calls find memory that was moved at its new addresses, although the event takes effect only after the owner went on,
/// which it does as soon as the event was read.
#[test]
fn call_on_a_range_that_was_just_moved_waits_until_the_event_takes_effect() {
    let discard = |pager: &Pager, at: usize| {
        // SAFETY: the test looks for zeros afterwards.
        unsafe { pager.discard(at as *mut u8, PAGE) }
    };
    let hold = |pager: &Pager, at: usize| pager.begin_hold(at as *mut u8, PAGE);
    type Call = fn(&Pager, usize) -> Result<()>;
    for (call, expected) in [(discard as Call, 0), (hold, value(0))] {
        let mut memory = Memory::new(PAGES);
        let running = filled(&memory, &limited(LIMIT, FaultMode::Sigbus), &[]);
        let (pager, core) = (&running.pager, &running.pager.0);
        let now = thread::scope(|scope| {
            let mut inbox = core.events.lock();
            let closed = core.gate.close();
            let owner = scope.spawn(|| remap(&memory, 0, PAGES) as usize);
            // One event tells the move, and one the unmapping of the old addresses.
            let mut events = Vec::new();
            while !owner.is_finished() {
                let mut message = [Message::NONE];
                match core.uffd.read(&mut message) {
                    Ok(1) => events.push(message[0].event()),
                    _ => thread::yield_now(),
                }
            }
            let now = owner.join().unwrap();
            let called = scope.spawn(move || call(pager, now));
            while core.events.readers().load(SeqCst) == 0 && !called.is_finished() {
                thread::yield_now();
            }
            events.into_iter().for_each(|event| core.take_effect(event, &mut inbox, &closed));
            drop((closed, inbox));
            assert_eq!(called.join().unwrap(), Ok(()));
            now
        });
        memory.is_now(now as *mut u8, PAGES);
        memory.check(0, expected);
        (1..PAGES).for_each(|page| memory.check(page, value(page)));
    }
}

#[test]
fn a_region_that_moves_keeps_its_bytes() {
    for mode in MODES {
        for shared in [false, true] {
            let mut memory = if shared { Memory::shared(PAGES) } else { Memory::new(PAGES) };
            let running = filled(&memory, &limited(LIMIT, mode), &[Duty::All]);
            for _ in 0..20 {
                let to = remap(&memory, 0, PAGES);
                memory.is_now(to, PAGES);
                consistent(&running);
                check_but(&memory, 0..0);
            }
            let parts: Vec<_> = running.pager.0.extents.within(0, usize::MAX).collect();
            assert_eq!((parts.len(), parts[0].start), (1, memory.at(0) as usize));
            drop(running);
            check_but(&memory, 0..0);
        }
    }
}

#[test]
fn a_part_that_moves_keeps_its_bytes_and_an_unmapped_part_is_gone() {
    for mode in MODES {
        for shared in [false, true] {
            let mut memory = if shared { Memory::shared(PAGES) } else { Memory::new(PAGES) };
            let running = Running::new(&limited(LIMIT, mode), &[Duty::All]);
            let region = running.add(&memory);
            (0..PAGES).for_each(|page| memory.fill(page, value(page)));
            let quarter = PAGES / 4;
            let mut moved = Memory::new(1);
            let at = remap(&memory, quarter, quarter);
            moved.is_now(at, quarter);
            // SAFETY: a range of this test's, which is not used from here on.
            assert_eq!(unsafe { libc::munmap(memory.at(2 * quarter).cast(), quarter * PAGE) }, 0);
            consistent(&running);
            let (first, last) = (memory.at(0), memory.at(3 * quarter));
            for (at, from) in [(first, 0), (last, 3 * quarter), (at, quarter)] {
                memory.is_now(at, quarter);
                (0..quarter).for_each(|page| memory.check(page, value(from + page)));
            }
            consistent(&running);
            running.remove(region);
            super::look::nothing_resident(&running);
            for (at, from) in [(last, 3 * quarter), (at, quarter), (first, 0)] {
                memory.is_now(at, quarter);
                (0..quarter).for_each(|page| memory.check(page, value(from + page)));
            }
        }
    }
}

#[test]
fn a_region_that_is_unmapped_leaves_nothing() {
    for mode in MODES {
        let memory = Memory::new(PAGES);
        let running = filled(&memory, &limited(LIMIT, mode), &[Duty::All]);
        drop(memory);
        consistent(&running);
        super::look::nothing_resident(&running);
        assert_eq!(running.pager.snapshot().unwrap().zswap.areas[0].stats.counts.pages(), 0);
    }
}

/// Runs until it is told to stop.
pub(super) fn while_running(stop: &AtomicBool, each: impl FnMut(usize)) {
    (0..).take_while(|_| !stop.load(SeqCst)).for_each(each);
}

#[test]
fn moves_and_discards_against_touches_and_evictions() {
    for mode in MODES {
        let memory = Memory::new(PAGES);
        let running = filled(&memory, &limited(LIMIT, mode), &[Duty::All, Duty::Evict]);
        let mut travels = Memory::new(LIMIT);
        running.add(&travels);
        let (stop, mut last) = (AtomicBool::new(false), 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while_running(&stop, |_| {
                    _ = running.pager.evict(24);
                    thread::sleep(Duration::from_millis(1));
                });
            });
            scope.spawn(|| {
                while_running(&stop, |round| {
                    let page = round * 61 % (PAGES / 2);
                    memory.check(page, value(page));
                });
            });
            for round in 0..25 {
                last = round as u64 + 1;
                (0..LIMIT).for_each(|page| travels.fill(page, last));
                let to = remap(&travels, 0, LIMIT);
                travels.is_now(to, LIMIT);
                assert_eq!(memory.advise(PAGES / 2, PAGES / 2, libc::MADV_DONTNEED), 0);
                (0..LIMIT).for_each(|page| travels.check(page, last));
                (PAGES / 2..PAGES).step_by(7).for_each(|page| {
                    memory.check(page, 0);
                    memory.fill(page, last);
                });
            }
            stop.store(true, SeqCst);
        });
        consistent(&running);
        (0..LIMIT).for_each(|page| travels.check(page, last));
    }
}

#[test]
fn a_staged_page_whose_way_back_is_refused_stays_in_its_slot() {
    let memory = Memory::new(PAGES);
    let (faults, running) = with_faults(&limited(LIMIT, FaultMode::Sigbus), &[]);
    running.add(&memory);
    (0..PAGES).for_each(|page| memory.fill(page, value(page)));
    faults.say(Call::Move, EAGAIN, 0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| while_running(&stop, |_| _ = running.pager.evict(8)));
        scope.spawn(|| {
            while_running(&stop, |_| {
                faults.fail(Call::Move, 1, 3);
                thread::yield_now();
            });
        });
        for page in (0..20 * PAGES).map(|round| round * 397 % PAGES) {
            memory.check(page, value(page));
        }
        stop.store(true, SeqCst);
    });
    faults.heal(Call::Move);
    consistent(&running);
}
