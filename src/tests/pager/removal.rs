//! Regions that are removed while threads use their memory.

use super::look::consistent;
use super::{Memory, Running, WAYS, evicting, limited};
use crate::error::Error;
use crate::pager::for_c::PagerForC;
use crate::pager::{Duty, FaultMode};
use crate::units::PAGE;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

const LIMIT: usize = 48;
const PAGES: usize = 4 * LIMIT;
const ROUNDS: u64 = 6;

fn running((mode, evict_in_place, _): (FaultMode, bool, bool)) -> Running {
    let options = evicting(evict_in_place, limited(LIMIT, mode));
    Running::new(&options, &[Duty::All, Duty::Evict])
}

fn memory((.., shared): (FaultMode, bool, bool)) -> Memory {
    if shared { Memory::shared(PAGES) } else { Memory::new(PAGES) }
}

/// Adds to the word of a thread in a page.
fn count(memory: &Memory, page: usize, word: usize) -> u64 {
    // SAFETY: a word of the test's memory, aligned, that one thread uses.
    unsafe {
        let at = memory.at(page).cast::<u64>().add(word);
        at.write_volatile(at.read_volatile() + 1);
        at.read_volatile()
    }
}

fn word_of(memory: &Memory, page: usize, word: usize) -> u64 {
    // SAFETY: a word of the test's memory, aligned.
    unsafe { memory.at(page).cast::<u64>().add(word).read_volatile() }
}

/// The owner moves the region meanwhile, to addresses that were not looked at, or were already.
#[test]
fn restored_while_it_is_moved() {
    const PAGES: usize = 2048;
    for round in 0..6 {
        let running = Running::new(&limited(LIMIT, FaultMode::Sigbus), &[Duty::All]);
        let (one, other) = (Memory::new(PAGES), Memory::new(PAGES));
        let (mut from, mut to) =
            if (one.at(0) < other.at(0)) == (round % 2 == 0) { (one, other) } else { (other, one) };
        let region = running.add(&from);
        (0..PAGES).for_each(|page| from.fill(page, page as u64 + 1));
        let (old, new, bytes) = (from.at(0) as usize, to.at(0) as usize, from.bytes());
        thread::scope(|scope| {
            scope.spawn(|| {
                let enough = ((LIMIT + 200 * (round + 1)) * PAGE) as u64;
                while running.pager.stats().resident_bytes < enough && running.pager.stats().regions > 0 {
                    thread::yield_now();
                }
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                // SAFETY: both ranges are this test's, and nobody else uses them.
                let moved = unsafe { libc::mremap(old as *mut _, bytes, bytes, flags, new as *mut libc::c_void) };
                assert_eq!(moved as usize, new);
            });
            running.pager.remove_by_id(region).unwrap();
        });
        to.is_now(new as *mut u8, PAGES);
        (0..PAGES).for_each(|page| to.check(page, page as u64 + 1));
        // The region is not there any more.
        from.is_now(old as *mut u8, 0);
    }
}

#[test]
fn restored_while_threads_read_and_write() {
    for way in WAYS {
        let (running, memory) = (running(way), memory(way));
        let other = Memory::new(PAGES);
        running.add(&other);
        (0..PAGES).for_each(|page| other.fill(page, page as u64 + 9));
        let stop = AtomicBool::new(false);
        let counted: Vec<_> = thread::scope(|scope| {
            let threads = [0, 1, 2].map(|thread| {
                let (stop, memory, other) = (&stop, &memory, &other);
                scope.spawn(move || {
                    let mut counted = 0;
                    while !stop.load(SeqCst) {
                        counted += 1;
                        for page in 0..PAGES {
                            let page = (page * 61 + thread * 17) % PAGES;
                            assert_eq!(count(memory, page, thread), counted, "page {page}");
                            if page.is_multiple_of(8) {
                                other.check(page, page as u64 + 9);
                            }
                        }
                    }
                    counted
                })
            });
            for _ in 0..ROUNDS {
                let region = running.add(&memory);
                _ = running.pager.evict(LIMIT as u64);
                thread::yield_now();
                running.remove(region);
            }
            stop.store(true, SeqCst);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for page in 0..PAGES {
            for (word, &counted) in counted.iter().enumerate() {
                assert_eq!(count(&memory, page, word), counted + 1);
            }
            assert!((3..PAGE / 8).all(|word| word_of(&memory, page, word) == 0));
        }
        consistent(&running);
        (0..PAGES).for_each(|page| other.check(page, page as u64 + 9));
    }
}

/// Pages that were not in memory are zeros then. But each page is whole, and no touch waits in vain.
#[test]
fn discarded_while_threads_read() {
    for way in WAYS {
        let (running, memory) = (running(way), memory(way));
        let (round, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for thread in 0..3 {
                let (round, stop, memory) = (&round, &stop, &memory);
                scope.spawn(move || {
                    for page in (0..PAGES).map(|page| (page * 61 + thread * 17) % PAGES).cycle() {
                        if stop.load(SeqCst) {
                            break;
                        }
                        let least = round.load(SeqCst);
                        let seen = [0, 211, PAGE / 8 - 1].map(|word| word_of(memory, page, word));
                        let most = round.load(SeqCst) + 1;
                        let right = |seen: &u64| *seen == 0 || (least..=most).contains(seen);
                        assert!(seen.iter().all(right), "page {page}: {seen:?}, {least} to {most}");
                    }
                });
            }
            for value in 1..=ROUNDS {
                let region = running.add(&memory);
                for page in 0..PAGES {
                    let words = memory.at(page).cast::<u64>();
                    // SAFETY: a page of the test's memory, aligned, that this thread alone writes.
                    (0..PAGE / 8).for_each(|word| unsafe { words.add(word).write_volatile(value) });
                }
                round.store(value, SeqCst);
                // SAFETY: the test has no need of the pages.
                unsafe { running.pager.remove_discarding_by_id(region) }.unwrap();
            }
            stop.store(true, SeqCst);
        });
        super::look::nothing_resident(&running);
        assert_eq!(running.pager.snapshot().unwrap().zswap.zswap.counts.pages(), 0);
        for page in 0..PAGES {
            let words: Vec<_> = (0..PAGE / 8).map(|word| word_of(&memory, page, word)).collect();
            assert!(words.iter().all(|&word| word == words[0] && (word == 0 || word == ROUNDS)), "page {page}");
        }
    }
}

/// One of the threads removes the region, and a region that was added meanwhile stays.
#[test]
fn removed_by_several_threads_at_once() {
    for way in WAYS {
        let (running, memory) = (running(way), memory(way));
        for round in 1..=ROUNDS {
            let region = running.add(&memory);
            (0..PAGES).for_each(|page| memory.fill(page, round * page as u64));
            let removed: Vec<_> = thread::scope(|scope| {
                let remove = || running.pager.remove_by_id(region);
                let threads = [(); 4].map(|()| scope.spawn(remove));
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(removed.iter().filter(|removed| removed.is_ok()).count(), 1, "{removed:?}");
            let others = removed.iter().filter(|removed| removed.is_err());
            others.for_each(|removed| assert!(matches!(removed, Err(Error::NotFound(_))), "{removed:?}"));
            (0..PAGES).for_each(|page| memory.check(page, round * page as u64));
        }
        super::look::nothing_resident(&running);
        consistent(&running);
    }
}

/// A pager is dropped with all its regions, while threads use their memory.
#[test]
fn dropped_while_threads_read_and_write() {
    for (mode, evict_in_place, shared) in WAYS {
        let memories = [(); 3].map(|()| memory((mode, evict_in_place, shared)));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|thread| {
                    let (stop, memories) = (&stop, &memories);
                    scope.spawn(move || {
                        let mut counted = 0;
                        while !stop.load(SeqCst) {
                            counted += 1;
                            for page in 0..3 * PAGES {
                                let (memory, page) = (&memories[page % 3], page / 3);
                                assert_eq!(count(memory, page, thread), counted, "page {page}");
                            }
                        }
                        counted
                    })
                })
                .collect();
            for _ in 0..ROUNDS {
                let running = running((mode, evict_in_place, shared));
                memories.iter().for_each(|memory| _ = running.add(memory));
                _ = running.pager.evict(PAGES as u64);
                drop(running);
            }
            stop.store(true, SeqCst);
            let counted: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            for (memory, page) in memories.iter().flat_map(|memory| (0..PAGES).map(move |page| (memory, page))) {
                for (word, &counted) in counted.iter().enumerate() {
                    assert_eq!(count(memory, page, word), counted + 1);
                }
                assert!((3..PAGE / 8).all(|word| word_of(memory, page, word) == 0));
            }
        });
    }
}
