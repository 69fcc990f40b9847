//! The workloads: the same code for every allocator.

use super::memory;
use super::peers::{Peer, alloc_written};
use super::random::Random;
use crossbeam_utils::CachePadded;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Allocates and frees one object, `count` times.
pub fn pairs<P: Peer>(peer: &P, size: usize, count: u64) {
    for _ in 0..count {
        peer.free(black_box(peer.alloc(black_box(size))));
    }
}

/// Maps and unmaps one object, `count` times. A no-op for allocators whose objects never move.
pub fn map_one<P: Peer>(peer: &P, token: usize, count: u64) {
    for _ in 0..count {
        black_box(peer.map(black_box(token)));
        peer.unmap(black_box(token));
    }
}

/// Executes a locked instruction on one word, `count` times: the least that any compare-and-swap costs.
pub fn locked(count: u64) {
    let word = AtomicUsize::new(0);
    for _ in 0..count {
        black_box(&word).fetch_add(1, Ordering::AcqRel);
    }
}

/// Live objects of realistic sizes.
pub struct Live<'a, P: Peer> {
    peer: &'a P,
    objects: Vec<usize>,
    sizes: &'a [u16],
    next: usize,
    random: Random,
    /// The objects that come next.
    coming: [usize; AHEAD],
    turn: usize,
}

/// How many objects ahead the order is known.
const AHEAD: usize = 8;

impl<'a, P: Peer> Live<'a, P> {
    /// Allocates `count` objects and writes the first and last byte of each.
    pub fn new(peer: &'a P, sizes: &'a [u16], count: usize) -> Self {
        let objects = Vec::with_capacity(count);
        let (next, random, coming, turn) = (0, Random::new(11), [0; AHEAD], 0);
        let mut live = Self { peer, objects, sizes, next, random, coming, turn };
        for _ in 0..count {
            let size = live.size();
            live.objects.push(alloc_written(peer, size));
        }
        live
    }

    /// Allocates objects of `bytes` bytes together.
    pub fn of_bytes(peer: &'a P, sizes: &'a [u16], bytes: u64) -> Self {
        let mean = sizes.iter().map(|&size| size as u64).sum::<u64>() / sizes.len() as u64;
        Self::new(peer, sizes, (bytes / mean) as usize)
    }

    #[inline]
    fn size(&mut self) -> usize {
        self.next = if self.next + 1 < self.sizes.len() { self.next + 1 } else { 0 };
        self.sizes[self.next] as usize
    }

    /// Returns the index of the next object, at random. The table of tokens belongs to the benchmark, not to the
    /// allocator, so its entries are fetched some turns ahead. Otherwise the wait for them would count, and for some
    /// allocators more than for others.
    #[inline]
    fn index(&mut self) -> usize {
        let later = self.random.below(self.objects.len());
        prefetch(&self.objects[later]);
        self.turn = (self.turn + 1) % AHEAD;
        std::mem::replace(&mut self.coming[self.turn], later)
    }

    #[inline]
    fn replace_by(&mut self, count: u64, alloc: impl Fn(&P, usize) -> usize) {
        for _ in 0..count {
            let at = self.index();
            let size = self.size();
            self.peer.free(self.objects[at]);
            self.objects[at] = alloc(self.peer, size);
        }
    }

    /// Replaces a random object by one of another size, `count` times, and writes the first and last byte of each.
    pub fn replace(&mut self, count: u64) {
        self.replace_by(count, alloc_written);
    }

    /// Replaces a random object by one of another size, `count` times, without writing to it.
    pub fn replace_unwritten(&mut self, count: u64) {
        self.replace_by(count, P::alloc);
    }

    /// Maps and unmaps a random object, `count` times.
    pub fn map(&mut self, count: u64) {
        for _ in 0..count {
            let at = self.index();
            let token = self.objects[at];
            black_box(self.peer.map(token));
            self.peer.unmap(token);
        }
    }

    /// Maps a random object, reads its first byte and unmaps it, `count` times.
    pub fn read(&mut self, count: u64) {
        for _ in 0..count {
            let at = self.index();
            let token = self.objects[at];
            // SAFETY: the object is mapped, and its first byte was written.
            black_box(unsafe { self.peer.map(token).read_volatile() });
            self.peer.unmap(token);
        }
    }

    /// Frees half of the objects, at random.
    pub fn free_half(&mut self) {
        self.coming = [0; AHEAD];
        for _ in 0..self.objects.len() / 2 {
            let at = self.random.below(self.objects.len());
            self.peer.free(self.objects.swap_remove(at));
        }
    }
}

fn prefetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch changes nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

impl<P: Peer> Drop for Live<'_, P> {
    fn drop(&mut self) {
        for token in self.objects.drain(..) {
            self.peer.free(token);
        }
    }
}

/// Fills an allocator with `bytes` of objects, frees half at random, and makes it give memory back. Returns how long
/// that took, and how many pages of 4096 bytes the system got.
pub fn give_back<P: Peer>(sizes: &[u16], bytes: u64) -> (Duration, u64) {
    let peer = P::new();
    let mut live = Live::of_bytes(&peer, sizes, bytes);
    live.free_half();
    let before = memory::memory().resident;
    let start = Instant::now();
    peer.give_back();
    let took = start.elapsed();
    (took, before.saturating_sub(memory::memory().resident) / 4096)
}

/// Passes tokens from one thread to another in batches, so that the transfer costs little, and the same for all
/// allocators.
struct Ring {
    tokens: [AtomicUsize; Self::ROOM],
    written: CachePadded<AtomicUsize>,
    read: CachePadded<AtomicUsize>,
}

impl Ring {
    const BATCH: usize = 64;
    const ROOM: usize = 16 * Self::BATCH;

    fn new() -> Self {
        let tokens = [const { AtomicUsize::new(0) }; Self::ROOM];
        Self { tokens, written: Default::default(), read: Default::default() }
    }

    fn batch(&self, from: usize) -> &[AtomicUsize] {
        let at = from % Self::ROOM;
        &self.tokens[at..at + Self::BATCH]
    }

    fn write_batch(&self, make: &mut impl FnMut() -> usize) {
        let from = self.written.load(Ordering::Relaxed);
        wait_until(|| from - self.read.load(Ordering::Acquire) <= Self::ROOM - Self::BATCH);
        for token in self.batch(from) {
            token.store(make(), Ordering::Relaxed);
        }
        self.written.store(from + Self::BATCH, Ordering::Release);
    }

    fn read_batch(&self, take: &mut impl FnMut(usize)) {
        let from = self.read.load(Ordering::Relaxed);
        wait_until(|| self.written.load(Ordering::Acquire) > from);
        for token in self.batch(from) {
            take(token.load(Ordering::Relaxed));
        }
        self.read.store(from + Self::BATCH, Ordering::Release);
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let mut rounds = 0;
    while !is_so() {
        rounds += 1;
        // Long spinning would take the processor away from the other thread on a small machine.
        if rounds < 1000 { std::hint::spin_loop() } else { thread::yield_now() }
    }
}

/// One thread allocates `count` objects of real sizes, rounded up to whole batches, and another frees them. Returns how
/// long that took, and how many objects there were.
pub fn free_elsewhere<P: Peer>(peer: &P, sizes: &[u16], count: u64) -> (Duration, u64) {
    let batches = count.div_ceil(Ring::BATCH as u64);
    let (ring, barrier) = (Ring::new(), Barrier::new(2));
    let mut at = 0;
    let mut make = || {
        at = if at + 1 < sizes.len() { at + 1 } else { 0 };
        peer.alloc(sizes[at] as usize)
    };
    let took = thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            barrier.wait();
            for _ in 0..batches {
                ring.read_batch(&mut |token| peer.free(token));
            }
            Instant::now()
        });
        barrier.wait();
        let start = Instant::now();
        for _ in 0..batches {
            ring.write_batch(&mut make);
        }
        consumer.join().expect("a consumer that did not panic") - start
    });
    (took, batches * Ring::BATCH as u64)
}
