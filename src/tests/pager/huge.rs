//! Huge pages: a region has none, also if its owner asked for them.

use super::look::consistent;
use super::{Memory, Running, evicting, limited};
use crate::pager::{Duty, FaultMode};
use crate::tests::skip::skip;
use crate::units::PAGE;

const HUGE: usize = 512;
const PAGES: usize = 4 * HUGE;

fn value(page: usize) -> u64 {
    page as u64 + 1
}

/// KiB of a range that are in huge pages, as the system tells.
fn huge_kilobytes(memory: &Memory) -> u64 {
    let (start, end) = (memory.at(0) as usize, memory.at(memory.pages()) as usize);
    let (mut inside, mut sum) = (false, 0);
    for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        let range = first.split_once('-').map(|ends| [ends.0, ends.1].map(|end| usize::from_str_radix(end, 16)));
        if let Some([Ok(from), Ok(to)]) = range {
            inside = from < end && to > start;
        } else if inside && first == "AnonHugePages:" {
            sum += line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        }
    }
    sum
}

fn evicts(running: &Running, memory: &Memory) {
    (0..PAGES).for_each(|page| memory.check(page, value(page)));
    (0..PAGES).for_each(|page| memory.fill(page, value(page)));
    assert!(running.pager.stats().counts.stored > (PAGES / 2) as u64);
    assert_eq!(huge_kilobytes(memory), 0);
    (0..PAGES).for_each(|page| memory.check(page, value(page)));
    consistent(running);
}

fn pager(in_place: bool) -> Running {
    let options = evicting(in_place, limited(HUGE, FaultMode::Sigbus));
    Running::new(&options, &[Duty::Serve])
}

#[test]
fn memory_that_was_in_huge_pages_before_is_evicted() {
    for in_place in [false, true] {
        let memory = Memory::new(PAGES);
        if memory.advise(0, PAGES, libc::MADV_HUGEPAGE) != 0 {
            skip("memory_that_was_in_huge_pages_before_is_evicted", "this system has no huge pages");
            return;
        }
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        println!("{} KiB of {} were in huge pages", huge_kilobytes(&memory), PAGES * PAGE / 1024);
        let running = pager(in_place);
        running.add(&memory);
        assert!(running.pager.stats().resident_bytes <= (HUGE * PAGE) as u64);
        evicts(&running, &memory);
    }
}

#[test]
fn memory_that_is_to_be_in_huge_pages_later_is_not() {
    for in_place in [false, true] {
        let memory = Memory::new(PAGES);
        let running = pager(in_place);
        running.add(&memory);
        if memory.advise(0, PAGES, libc::MADV_HUGEPAGE) != 0 {
            skip("memory_that_is_to_be_in_huge_pages_later_is_not", "this system has no huge pages");
            return;
        }
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        evicts(&running, &memory);
        // Asks for a huge page at once. The system may refuse that, because not all pages are there.
        for first in (0..PAGES).step_by(HUGE) {
            (first..first + HUGE).for_each(|page| memory.check(page, value(page)));
            _ = memory.advise(0, PAGES, libc::MADV_COLLAPSE);
        }
        println!("{} KiB were put together to huge pages", huge_kilobytes(&memory));
        (0..PAGES).for_each(|page| memory.check(page, value(page)));
        (0..PAGES).for_each(|page| memory.fill(page, value(page)));
        _ = running.pager.evict(PAGES as u64);
        (0..PAGES).for_each(|page| memory.check(page, value(page)));
        assert!(running.pager.stats().resident_bytes <= (HUGE * PAGE) as u64);
        consistent(&running);
    }
}
