//! Memory that the system itself had swapped out when it was added.

use super::look::{consistent, kind_at};
use super::{Memory, Running, WAYS, evicting, limited};
use crate::os::residency::{FilePages, Swapped};
use crate::pager::state::PageKind;
use crate::pager::{Duty, FaultMode};
use crate::tests::skip::skip;
use crate::units::PAGE;

const LIMIT: usize = 64;
const PAGES: usize = 4 * LIMIT;

/// Whether the page is not in memory, by what the system says of this process's mapping.
fn is_absent(memory: &Memory, page: usize) -> bool {
    let mut seen = [0];
    crate::os::Os::default().in_memory(memory.at(page) as usize, &mut seen).unwrap();
    seen[0] & 1 == 0
}

/// Has the system swap pages out. Returns how many left.
fn swap_out(memory: &Memory, from: usize) -> usize {
    for _ in 0..8 {
        assert_eq!(memory.advise(from, memory.pages() - from, libc::MADV_PAGEOUT), 0);
    }
    (from..memory.pages()).filter(|&page| is_absent(memory, page)).count()
}

fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
}

#[test]
fn pages_that_the_system_swapped_out_count_and_can_be_discarded() {
    if !has_swap() {
        skip("pages_that_the_system_swapped_out_count_and_can_be_discarded", "there is no swap");
        return;
    }
    for (mode, evict_in_place, shared) in WAYS {
        let memory = if shared { Memory::shared(PAGES) } else { Memory::new(PAGES) };
        memory.advise(0, PAGES, libc::MADV_NOHUGEPAGE);
        (0..PAGES - 8).for_each(|page| memory.fill(page, page as u64 + 1));
        let gone = swap_out(&memory, 16);
        assert!(gone > PAGES / 2, "the system swapped out {gone} pages");
        let options = evicting(evict_in_place, limited(2 * PAGES, mode));
        let running = Running::new(&options, &[Duty::Serve]);
        running.add(&memory);
        let resident = || running.pager.stats().resident_bytes as usize / PAGE;
        assert_eq!(resident(), PAGES - 8, "{mode:?}, in place: {evict_in_place}, shared: {shared}");
        assert_eq!(kind_at(&running, memory.at(PAGES - 1)), PageKind::Empty);
        for page in [3, 50, PAGES - 20] {
            assert!(page < 16 || is_absent(&memory, page));
            // SAFETY: the test has no need of the page.
            unsafe { running.pager.discard(memory.at(page), PAGE) }.unwrap();
            memory.check(page, 0);
            memory.fill(page, page as u64 + 1);
        }
        running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
        assert!(resident() <= LIMIT);
        (0..PAGES - 8).for_each(|page| memory.check(page, page as u64 + 1));
        (PAGES - 8..PAGES).for_each(|page| memory.check(page, 0));
        running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
        // Pages that were never touched may still be in the system's swap, and no others.
        (0..PAGES).for_each(|page| memory.check(page, if page < PAGES - 8 { page as u64 + 1 } else { 0 }));
        consistent(&running);
    }
}

/// A page that is set aside for a memory file, and was never written, is not found missing by a touch.
#[test]
fn pages_that_are_set_aside_for_a_file_count() {
    let memory = Memory::shared(PAGES);
    let file = memory.file.as_ref().unwrap();
    crate::os::Os::default().allocate(std::os::fd::AsRawFd::as_raw_fd(file), 0, (PAGES + 1) * PAGE).unwrap();
    if !matches!(Swapped::of_file(file, 0), Swapped::Shared(FilePages::Counted(_), _)) {
        skip("pages_that_are_set_aside_for_a_file_count", "this system does not tell of them");
        return;
    }
    let running = Running::new(&limited(2 * PAGES, FaultMode::Sigbus), &[Duty::Serve]);
    running.add(&memory);
    let resident = || running.pager.stats().resident_bytes as usize / PAGE;
    assert_eq!(resident(), PAGES);
    running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
    assert!(resident() <= LIMIT);
    (0..PAGES).for_each(|page| memory.fill(page, page as u64 + 1));
    (0..PAGES).for_each(|page| memory.check(page, page as u64 + 1));
    running.pager.set_resident_limit(Some((LIMIT * PAGE) as u64)).unwrap();
    consistent(&running);
}
