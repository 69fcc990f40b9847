//! Pages that their owner gives back by madvise: where the pager is not told, and in the moment between the event and
//! the end of the page.

use super::events::{MODES, filled, value};
use super::look::{consistent, kind_at};
use super::{Memory, Running, evicting, limited};
use crate::os::own_memory::OwnMemory;
use crate::os::userfault::{Faulting, Userfault, feature};
use crate::os::{Os, Span};
use crate::pager::for_c::PagerForC;
use crate::pager::state::PageKind;
use crate::pager::{Duty, FaultMode};
use crate::units::PAGE;
use std::thread;

const LIMIT: usize = 64;

fn evict_all(running: &Running) {
    for _ in 0..100 {
        let _ = running.pager.evict(4 * LIMIT as u64);
    }
    assert_eq!(running.pager.stats().resident_bytes, 0);
}

/// Reading stops at a page that is missing, and waits for nobody. A page that can be written becomes zeros.
#[test]
fn memory_is_read_up_to_a_page_that_is_missing() {
    let os = Os::default();
    for waits in [false, true] {
        let memory = Memory::new(8);
        (0..8).for_each(|page| memory.fill(page, value(page)));
        let uffd = Userfault::new(&os, if waits { 0 } else { feature::SIGBUS }, !waits).unwrap();
        uffd.register(memory.at(0) as usize, memory.bytes(), Faulting { protected: true, unmapped: false }).unwrap();
        assert_eq!(memory.advise(5, 1, libc::MADV_DONTNEED), 0);
        let own = OwnMemory::new(&os, waits).unwrap();
        let copy = Memory::new(8);
        let spans = [0, 1, 3, 4, 5, 6].map(|page| Span::new(memory.at(page), PAGE));
        // SAFETY: the copy has as many pages.
        let read = |spans: &[Span]| unsafe { own.read_pages(spans, copy.at(0)) };
        assert_eq!(read(&spans), 4);
        (0..4).zip([0, 1, 3, 4]).for_each(|(place, page)| copy.check(place, value(page)));
        assert_eq!((read(&spans[4..]), read(&spans[5..]), read(&[])), (0, 1, 0));
        copy.check(0, value(6));
        own.write_zeros(memory.at(6) as usize).unwrap();
        memory.check(6, 0);
        own.write_zeros(memory.at(5) as usize).unwrap_err();
    }
}

/// Pages that went missing behind the pager's back keep no others from being evicted in place, and leave themselves.
#[test]
fn in_place_missing_pages_keep_no_others_from_going() {
    for mode in MODES {
        let memory = Memory::new(LIMIT / 2);
        let options = evicting(true, limited(LIMIT, mode));
        let running = filled(&memory, &options, &[Duty::Serve]);
        (0..LIMIT / 2).step_by(3).for_each(|page| assert_eq!(memory.advise(page, 1, libc::MADV_DONTNEED), 0));
        evict_all(&running);
        consistent(&running);
        (0..LIMIT / 2).for_each(|page| memory.check(page, if page.is_multiple_of(3) { 0 } else { value(page) }));
    }
}

/// Does what reading an event does. The system takes the page out of its place only after that.
fn told_of(running: &Running, memory: &Memory, page: usize) {
    let core = &running.pager.0;
    let at = memory.at(page) as usize;
    let inbox = core.events.lock();
    core.extents.within(at, at + PAGE).for_each(|part| core.discard_part(&part));
    drop(inbox);
}

/// Does what the system does after that without a second event: takes the page out of its place, if it is there.
fn goes(running: &Running, memory: &Memory, page: usize) {
    let staging = &running.pager.0.staging;
    let mut block = staging.take_free().unwrap();
    let slot = block.slot(0);
    // SAFETY: nobody needs the page's bytes, and the block is this thread's.
    if unsafe { staging.move_in(slot, memory.at(page) as usize, 1) }.stopped.is_none() {
        // SAFETY: no word names the slot.
        unsafe { staging.give_back(slot, 1) }.unwrap();
    }
    block.filled = 0;
    staging.queue(block);
}

#[test]
fn a_page_that_is_about_to_go_is_not_taken_for_another() {
    for mode in MODES {
        let memory = Memory::new(LIMIT / 2);
        let running = filled(&memory, &limited(LIMIT, mode), &[Duty::Serve]);
        told_of(&running, &memory, 3);
        assert_eq!(kind_at(&running, memory.at(3)), PageKind::Empty);
        let before = running.pager.stats().counts.retries;
        thread::scope(|scope| {
            let holder = scope.spawn(|| running.pager.begin_hold(memory.at(3), PAGE).unwrap());
            while !holder.is_finished() && running.pager.stats().counts.retries < before + 4 {
                thread::yield_now();
            }
            if holder.is_finished() {
                // The pager took the page for its own. It is moved away, and the system finds nothing there.
                running.pager.end_hold(memory.at(3), PAGE).unwrap();
                evict_all(&running);
            }
            goes(&running, &memory, 3);
        });
        memory.check(3, 0);
        let _ = running.pager.end_hold(memory.at(3), PAGE);
        evict_all(&running);
        (0..LIMIT / 2).for_each(|page| memory.check(page, if page == 3 { 0 } else { value(page) }));
        consistent(&running);
    }
}

#[test]
fn a_held_page_that_is_about_to_go_does_not_come_back_as_it_was() {
    for mode in MODES {
        for memory in [Memory::new(LIMIT / 2), Memory::shared(LIMIT / 2)] {
            let running = filled(&memory, &limited(LIMIT, mode), &[Duty::Serve]);
            running.pager.begin_hold(memory.at(3), PAGE).unwrap();
            told_of(&running, &memory, 3);
            running.pager.end_hold(memory.at(3), PAGE).unwrap();
            // The page is moved away before the system takes it out of its place, and comes back.
            evict_all(&running);
            (0..LIMIT / 2).for_each(|page| memory.check(page, if page == 3 { 0 } else { value(page) }));
            consistent(&running);
        }
    }
}

/// The event of a discard is the same as that of a hole, so for a memory file a discard makes a hole.
#[test]
fn discarded_pages_of_a_memory_file_are_zeros() {
    for advice in [libc::MADV_DONTNEED, libc::MADV_REMOVE] {
        let memory = Memory::shared(2 * LIMIT);
        let running = filled(&memory, &limited(LIMIT, FaultMode::Sigbus), &[Duty::Serve]);
        let held = memory.at(2 * LIMIT - 1);
        running.pager.begin_hold(held, PAGE).unwrap();
        assert_eq!(memory.advise(LIMIT / 2, 3 * LIMIT / 2, advice), 0);
        let is_zero = |page| page >= LIMIT / 2;
        (0..2 * LIMIT).for_each(|page| memory.check(page, if is_zero(page) { 0 } else { value(page) }));
        running.pager.end_hold(held, PAGE).unwrap();
        consistent(&running);
    }
}

/// mremap may leave the range mapped that it moved a region from, and then tells no unmapping. That is forbidden for
/// regions, but the next region there is unmapped as any other.
#[test]
fn a_range_that_stayed_mapped_when_it_was_moved_can_be_a_region_again() {
    let memory = Memory::new(LIMIT);
    let mut other = Memory::new(LIMIT);
    let running = filled(&memory, &limited(2 * LIMIT, FaultMode::Sigbus), &[Duty::Serve]);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    let (from, to, bytes) = (memory.at(0).cast(), other.at(0).cast::<libc::c_void>(), memory.bytes());
    // SAFETY: both ranges are the test's.
    let moved = unsafe { libc::mremap(from, bytes, bytes, flags, to) };
    assert_eq!(moved, to);
    other.is_now(moved.cast(), LIMIT);
    (0..LIMIT).for_each(|page| other.check(page, value(page)));
    let extents = || {
        // An owner goes on once its event is read. The event takes effect while the lock of events is held.
        running.pager.0.read_events();
        running.pager.0.extents.within(0, usize::MAX).count()
    };
    assert_eq!(extents(), 1);
    running.add(&memory);
    assert_eq!(extents(), 2);
    // SAFETY: the range is the test's. It is mapped again because dropping the memory unmaps it.
    unsafe {
        assert_eq!(libc::munmap(from, bytes), 0);
        let none = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        assert_eq!(libc::mmap(from, bytes, libc::PROT_NONE, none, -1, 0), from);
    }
    assert_eq!(extents(), 1);
    (0..LIMIT).for_each(|page| other.check(page, value(page)));
}
