//! The random actions of a worker thread.

use crate::memory::Memory;
use crate::random::Random;
use crate::{LIMIT, World};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;
use zsalloc::{Codec, CompactBudget, PAGE_SIZE};

/// Pages of the largest region.
const PAGES: u64 = 3000;
/// Maximum number of pages to give back or to hold at once.
const MANY: u64 = 8;

/// Works until the world stops.
pub fn work(world: &World, mut random: Random) {
    while !world.stop.load(Relaxed) {
        let slot = &world.slots[random.below(world.slots.len() as u64) as usize];
        match random.below(10_000) {
            0..10 => change_region(world, &mut random, slot),
            10..20 => change_limits(world, &mut random),
            20..24 => _ = world.pager.stats_json().unwrap(),
            24..34 => _ = world.pager.evict(random.below(256)),
            34..36 => _ = world.pager.compact(&CompactBudget::default()),
            lot => {
                let slot = slot.0.read().unwrap();
                match &*slot {
                    Some(memory) => on_pages(world, &mut random, memory, lot),
                    None => {
                        drop(slot);
                        let other = random.below(world.slots.len() as u64) as usize;
                        change_region(world, &mut random, &world.slots[other]);
                    }
                }
            }
        }
        world.steps.fetch_add(1, Relaxed);
    }
}

fn change_region(world: &World, random: &mut Random, slot: &crate::memory::Slot) {
    let mut slot = slot.0.write().unwrap();
    match &mut *slot {
        None => {
            let (pages, lot) = (1 + random.below(PAGES) as usize, random.below(6));
            *slot = Memory::new(world, pages, lot < 2, lot % 3 == 1, random.next() >> 24);
        }
        Some(memory) => match random.below(8) {
            0 | 1 if world.events => memory.relocate(),
            2 => {
                memory.discard();
                *slot = None;
            }
            3 | 4 => {
                if !memory.restore(world, true) {
                    *slot = None;
                }
            }
            5 => {
                assert!(!memory.restore(world, false));
                *slot = None;
            }
            _ => fork_one(memory),
        },
    }
}

fn change_limits(world: &World, random: &mut Random) {
    match random.below(4) {
        0 | 1 => {
            let limit = LIMIT / 4 + random.below(LIMIT * 2);
            world.unsettle(|| {
                world.limit.store(limit, Relaxed);
                // Other threads may hold pages or fill the pool; then the excess leaves later.
                let _ = world.pager.set_resident_limit(Some(limit));
                world.limit.store(world.pager.stats().resident_limit_bytes.unwrap_or(u64::MAX), Relaxed);
            });
        }
        2 => world.pager.set_codec(if random.below(3) == 0 { Codec::Zstd(1) } else { Codec::Lz4 }).unwrap(),
        _ => _ = world.pager.write_back(random.below(64)),
    }
}

/// Checks that a child sees neither the contents of a region nor zeros.
fn fork_one(memory: &Memory) {
    // SAFETY: the child touches one page and ends, and calls nothing that could need a lock.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            let seen = memory.at(0).read_volatile();
            libc::_exit(if seen == 0 { 1 } else { 2 });
        }
        let mut status = 0;
        while libc::waitpid(child, &raw mut status, 0) != child {}
        assert!(
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV,
            "a child read a page: {status:#x}"
        );
    }
}

fn on_pages(world: &World, random: &mut Random, memory: &Memory, lot: u64) {
    let first = random.below(memory.pages() as u64) as usize;
    match lot {
        0..150 => give_back(world, random, memory, first),
        150..250 => hold(world, random, memory, first),
        250..300 => lock_in_memory(random, memory, first),
        300..310 => memory.collapse(),
        310..330 if world.with.pins => pin(world, random, memory, first),
        330..380 => protect(random, memory, first),
        310..2500 => {
            // Some visits go through the pages in order.
            for page in (first..memory.pages()).take(32) {
                let version = memory.lock(page);
                memory.check(page, *version, false);
            }
        }
        _ => {
            // Others prefer some pages.
            let page = if lot.is_multiple_of(3) { first } else { first % (memory.pages() / 8 + 1) };
            let mut version = memory.lock(page);
            memory.check(page, *version, lot.is_multiple_of(64));
            if lot.is_multiple_of(4) {
                let next = 1 + (random.next() >> 44);
                memory.write(page, &mut version, next);
            }
        }
    }
}

/// Locks pages from `first` on, in order.
fn lock_some<'a>(random: &mut Random, memory: &'a Memory, first: usize) -> Vec<MutexGuard<'a, u64>> {
    let end = (first + 1 + random.below(MANY) as usize).min(memory.pages());
    (first..end).map(|page| memory.lock(page)).collect()
}

fn give_back(world: &World, random: &mut Random, memory: &Memory, first: usize) {
    let mut versions = lock_some(random, memory, first);
    let (at, bytes) = (memory.at(first), versions.len() * PAGE_SIZE);
    if world.events && random.below(2) == 0 {
        let advice = if memory.file.is_some() { libc::MADV_REMOVE } else { libc::MADV_DONTNEED };
        // SAFETY: these pages are locked, and not needed any more.
        assert_eq!(unsafe { libc::madvise(at.cast(), bytes, advice) }, 0);
    } else {
        // SAFETY: as above.
        unsafe { world.pager.discard(at.cast(), bytes) }.unwrap();
    }
    versions.iter_mut().for_each(|version| **version = 0);
    memory.check(first, 0, true);
}

/// Keeps pages in memory for a while (mlock2), beside threads that work on them. Missing pages come in at once, or when
/// they are touched.
fn lock_in_memory(random: &mut Random, memory: &Memory, first: usize) {
    // Locked memory must not be given back by madvise().
    let versions = lock_some(random, memory, first);
    let bytes = versions.len() * PAGE_SIZE;
    let (at, flags) = (memory.at(first).cast(), random.below(2) as libc::c_uint);
    // SAFETY: it changes none of the bytes. Where the thread itself has to bring pages in it stops at the first of
    // them.
    let locked = unsafe { libc::mlock2(at, bytes, flags) };
    assert!(locked == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOMEM));
    memory.check(first, *versions[0], true);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::munlock(at, bytes) }, 0);
}

/// Makes pages read-only for a while.
fn protect(random: &mut Random, memory: &Memory, first: usize) {
    let versions = lock_some(random, memory, first);
    let protect = |rights| {
        // SAFETY: these pages are locked, so no thread writes them meanwhile.
        assert_eq!(unsafe { libc::mprotect(memory.at(first).cast(), versions.len() * PAGE_SIZE, rights) }, 0);
    };
    protect(libc::PROT_READ);
    versions.iter().enumerate().for_each(|(nth, version)| memory.check(first + nth, **version, false));
    protect(libc::PROT_READ | libc::PROT_WRITE);
}

/// Makes a pipe refer to pages, and tries to evict them meanwhile.
fn pin(world: &World, random: &mut Random, memory: &Memory, first: usize) {
    let versions = lock_some(random, memory, first);
    let (at, bytes) = (memory.at(first), versions.len() * PAGE_SIZE);
    let mut ends = [0; 2];
    // SAFETY: two numbers can be written.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    let mapped = memory.mapped.read().unwrap();
    if let Ok(held) = world.pager.hold(at.cast(), bytes) {
        let span = libc::iovec { iov_base: at.cast(), iov_len: bytes };
        // SAFETY: the pages are held, and the pipe has room for them.
        let pinned = unsafe { libc::vmsplice(ends[1], &raw const span, 1, libc::SPLICE_F_NONBLOCK) };
        assert_eq!(pinned, bytes as isize, "{}", std::io::Error::last_os_error());
        drop(held);
    }
    drop(mapped);
    _ = world.pager.evict(64 + random.below(64));
    memory.collapse();
    versions.iter().enumerate().for_each(|(nth, version)| memory.check(first + nth, **version, false));
    _ = world.pager.evict(random.below(64));
    // SAFETY: they are this function's.
    ends.iter().for_each(|&end| _ = unsafe { libc::close(end) });
    versions.iter().enumerate().for_each(|(nth, version)| memory.check(first + nth, **version, false));
}

/// Passes held pages through a pipe and back, by system calls.
fn hold(world: &World, random: &mut Random, memory: &Memory, first: usize) {
    let mut versions = lock_some(random, memory, first);
    let (at, bytes) = (memory.at(first), versions.len() * PAGE_SIZE);
    let _mapped = memory.mapped.read().unwrap();
    let Ok(held) = world.pager.hold(at.cast(), bytes) else { return };
    let mut ends = [0; 2];
    // SAFETY: the pages are locked and held, and as long as a pipe is.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        assert_eq!(libc::write(ends[1], at.cast(), bytes), bytes as isize);
        at.write_bytes(0x5a, bytes / 8);
        assert_eq!(libc::read(ends[0], at.cast(), bytes), bytes as isize);
        ends.iter().for_each(|&end| _ = libc::close(end));
    }
    let next = 1 + (random.next() >> 44);
    memory.check(first, *versions[0], true);
    memory.write(first, &mut versions[0], next);
    drop(held);
}
