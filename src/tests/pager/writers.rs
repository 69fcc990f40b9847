//! Threads that write all the time against evictions: no write is lost.

use super::look::consistent;
use super::{Memory, Running, evicting, limited};
use crate::os::Os;
use crate::pager::{Duty, FaultMode, PagerOptions};
use crate::units::PAGE;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

const LIMIT: usize = 48;
const PAGES: usize = 4 * LIMIT;
const WRITERS: usize = 4;
/// Words of each page that each writer counts in: every page is written by all.
const OWN: usize = PAGE / 8 / WRITERS;
const STEPS: usize = 3_000;
const MODES: [FaultMode; 2] = [FaultMode::Sigbus, FaultMode::Threads];

/// The word of a writer. Neighbours in memory have different writers.
fn word(writer: usize, own: usize) -> usize {
    own * WRITERS + writer
}

/// The page and word of a writer's step. A writer stays around a page for a while, so that pages are rescued and
/// evicted while they are written, and not only loaded.
fn place(writer: usize, step: usize) -> (usize, usize) {
    let mixed = (step * WRITERS + writer).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let near = (step / 64 * 29 + writer * LIMIT / 2) % PAGES;
    let page = if mixed.is_multiple_of(4) { mixed / 7 % PAGES } else { (near + mixed % 8) % PAGES };
    (page, mixed / 11 % OWN)
}

/// Counts in the words of a writer, and returns what each must be at the end.
fn write(memory: &Memory, writer: usize) -> Vec<u64> {
    let mut counts = vec![0u64; PAGES * OWN];
    for step in 0..STEPS {
        let (page, own) = place(writer, step);
        let count = &mut counts[page * OWN + own];
        // SAFETY: a word of the test's memory, aligned, which this thread alone writes.
        unsafe {
            let at = memory.at(page).cast::<u64>().add(word(writer, own));
            let seen = at.read_volatile();
            assert_eq!(seen, *count, "page {page}, word {own} of writer {writer}, step {step}");
            at.write_volatile(seen + 1);
        }
        *count += 1;
    }
    counts
}

fn check(memory: &Memory, counts: &[Vec<u64>]) {
    for page in 0..PAGES {
        for (writer, counts) in counts.iter().enumerate() {
            for own in 0..OWN {
                // SAFETY: a word of the test's memory, aligned.
                let seen = unsafe { memory.at(page).cast::<u64>().add(word(writer, own)).read_volatile() };
                assert_eq!(seen, counts[page * OWN + own], "page {page}, word {own} of writer {writer}");
            }
        }
    }
}

/// Writes and evicts until all writers have finished. `beside` runs all the while in a thread of its own, until it
/// returns.
fn against(memory: &Memory, options: &PagerOptions, duties: &[Duty], beside: impl Fn(&AtomicUsize) + Sync) {
    let running = Running::new(options, duties);
    let region = running.add(memory);
    let left = AtomicUsize::new(WRITERS);
    let counts: Vec<_> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let left = &left;
                scope.spawn(move || {
                    let _ended = Ended(left);
                    write(memory, writer)
                })
            })
            .collect();
        scope.spawn(|| {
            while left.load(SeqCst) > 0 {
                _ = running.pager.evict(12);
                thread::yield_now();
            }
        });
        scope.spawn(|| beside(&left));
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    consistent(&running);
    check(memory, &counts);
    let done = running.pager.stats().counts;
    assert!(done.stored > 100 && done.loads > 100, "{done:?}");
    running.remove(region);
    check(memory, &counts);
}

/// Counts one writer less, also if it panics: the others would wait for it in vain.
struct Ended<'a>(&'a AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn pages_that_are_moved_away() {
    for mode in MODES {
        against(&Memory::new(PAGES), &limited(LIMIT, mode), &[Duty::All, Duty::Evict], |_| ());
    }
}

#[test]
fn pages_that_are_evicted_in_place() {
    for mode in MODES {
        let options = evicting(true, limited(LIMIT, mode));
        against(&Memory::new(PAGES), &options, &[Duty::All, Duty::Evict], |_| ());
    }
}

#[test]
fn nobody_lent() {
    for evict_in_place in [false, true] {
        let options = evicting(evict_in_place, limited(LIMIT, FaultMode::Sigbus));
        against(&Memory::new(PAGES), &options, &[], |_| ());
    }
}

/// A reader of the file sees what was written there, or a hole if the page was evicted, and never older bytes than it
/// has seen.
#[test]
fn pages_of_a_memory_file_which_is_read_as_well() {
    for mode in MODES {
        let memory = Memory::shared(PAGES);
        against(&memory, &limited(LIMIT, mode), &[Duty::All, Duty::Evict], |left| {
            let mut last = vec![0u64; PAGES * PAGE / 8];
            let mut bytes = vec![0; PAGE];
            for page in (0..PAGES).cycle() {
                if left.load(SeqCst) == 0 {
                    break;
                }
                let offset = (page + 1) * PAGE;
                let file = memory.file.as_ref().unwrap();
                assert_eq!(Os::default().read_at(file, &mut bytes, offset as u64), Ok(PAGE));
                let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
                for (word, (seen, last)) in words.zip(&mut last[page * PAGE / 8..]).enumerate() {
                    assert!(seen == 0 || seen >= *last, "page {page}, word {word}: {seen} after {last}");
                    *last = seen.max(*last);
                }
            }
        });
    }
}

/// The limit changes, from hardly anything to all that is there.
#[test]
fn limits_that_move() {
    for mode in MODES {
        for evict_in_place in [false, true] {
            let memory = Memory::new(PAGES);
            let options = evicting(evict_in_place, limited(LIMIT, mode));
            let running = Running::new(&options, &[Duty::All]);
            running.add(&memory);
            let left = AtomicUsize::new(WRITERS);
            let counts: Vec<_> = thread::scope(|scope| {
                let writers: Vec<_> = (0..WRITERS)
                    .map(|writer| {
                        let (left, memory) = (&left, &memory);
                        scope.spawn(move || {
                            let _ended = Ended(left);
                            write(memory, writer)
                        })
                    })
                    .collect();
                for pages in [24, PAGES, 40, 2 * PAGES, 32].into_iter().cycle() {
                    if left.load(SeqCst) == 0 {
                        break;
                    }
                    _ = running.pager.set_resident_limit(Some((pages * PAGE) as u64));
                    thread::yield_now();
                }
                writers.into_iter().map(|writer| writer.join().unwrap()).collect()
            });
            running.pager.set_resident_limit(Some((32 * PAGE) as u64)).unwrap();
            consistent(&running);
            assert!(running.pager.stats().resident_bytes as usize <= 32 * PAGE);
            check(&memory, &counts);
        }
    }
}
