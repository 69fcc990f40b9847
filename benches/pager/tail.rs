//! How far the slowest touches are above the usual ones at least, when threads make room for themselves under
//! userfaultfd. A handler of SIGBUS decodes the page from a flat array of LZ4 blocks and puts it in place by
//! UFFDIO_COPY. Once a thread has its share of the limit, it first compresses its oldest pages, a batch at a time, and
//! drops the batch by one call. No thread waits for another. Runs in a process of its own.

use super::child::{Numbers, Order};
use super::common::plain::{Compressor, Packed};
use super::common::random::Random;
use super::common::region::Region;
use super::floor::{drop_all, install, ioctl, register, this_process};
use super::latency::{Counted, Latencies};
use linux_raw_sys::general as raw;
use std::cell::Cell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::io::Error;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Barrier, OnceLock};
use std::time::Instant;
use zsalloc::PAGE_SIZE;

/// Touches of each thread for each page of its share.
const TOUCHES: usize = 12;
/// Batches have at most this many pages.
const MOST: usize = 64;

/// What all threads share.
struct Tail {
    uffd: OwnedFd,
    process: OwnedFd,
    base: usize,
    pages: usize,
    packed: Packed,
}

/// What the handler needs of the thread that it interrupts.
struct Lane {
    decoded: Box<[u8; PAGE_SIZE]>,
    compressor: Compressor,
    /// The thread's pages that are in place, oldest first.
    resident: VecDeque<u32>,
    /// The most of them.
    limit: usize,
    batch: usize,
}

static TAIL: OnceLock<Tail> = OnceLock::new();

thread_local! {
    static LANE: Cell<*mut Lane> = const { Cell::new(std::ptr::null_mut()) };
}

impl Lane {
    /// Compresses the oldest pages, and drops them by one call.
    fn evict(&mut self, tail: &Tail) {
        let mut spans = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: PAGE_SIZE }; MOST];
        for (page, span) in self.resident.drain(..self.batch).zip(&mut spans) {
            span.iov_base = (tail.base + page as usize * PAGE_SIZE) as *mut libc::c_void;
            // SAFETY: the page is in place, and nobody writes it.
            black_box(self.compressor.compress(unsafe { &*span.iov_base.cast() }));
        }
        // SAFETY: the pages come back from the flat array.
        if unsafe { drop_all(&tail.process, &spans[..self.batch]) }.is_err() {
            std::process::abort();
        }
    }
}

/// Makes room if need be, and puts the touched page in its place.
extern "C" fn on_sigbus(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system passes a siginfo, which has an address when a fault raised the signal.
    let at = unsafe { (*info).si_addr() } as usize & !(PAGE_SIZE - 1);
    let tail = TAIL.get().filter(|tail| at.wrapping_sub(tail.base) / PAGE_SIZE < tail.pages);
    // SAFETY: the thread set the pointer to its own lane, and uses the lane nowhere but here.
    let (Some(tail), Some(lane)) = (tail, unsafe { LANE.get().as_mut() }) else { std::process::abort() };
    if lane.resident.len() == lane.limit {
        lane.evict(tail);
    }
    let page = (at - tail.base) / PAGE_SIZE;
    tail.packed.decode(page, &mut lane.decoded);
    let (dst, src) = (at as u64, lane.decoded.as_ptr() as u64);
    let mut copy = raw::uffdio_copy { dst, src, len: PAGE_SIZE as u64, mode: 0, copy: 0 };
    if ioctl(&tail.uffd, raw::_UFFDIO_COPY, &mut copy).is_err() {
        std::process::abort();
    }
    lane.resident.push_back(page as u32);
}

/// Touches pages of this thread's own at random, and counts the times of those that were not in place.
fn touch(region: &Region, (thread, threads): (usize, usize), lane: &mut Lane, barrier: &Barrier) -> Counted {
    let share = region.pages() / threads;
    let mut random = Random::new(thread as u64 + 1);
    let waited = Latencies::new();
    LANE.set(lane);
    barrier.wait();
    let mut last = Instant::now();
    for number in 0..share * TOUCHES {
        let page = random.below(share) * threads + thread;
        black_box(region.first(page).load(Relaxed));
        let now = Instant::now();
        let took = (now - last).as_nanos() as u64;
        // The first quarter fills the limit.
        if took > 1000 && number >= share * TOUCHES / 4 {
            waited.add(took);
        }
        last = now;
    }
    LANE.set(std::ptr::null_mut());
    waited.read()
}

/// Lets threads touch memory four times as large as its limit.
pub fn measure(order: &Order) -> Result<Numbers, String> {
    let (data, region) = order.regions()?;
    let (threads, batch): (usize, usize) = (order.get("threads")?, order.get("batch")?);
    // SAFETY: the mapping has that many pages, and nobody writes them.
    let pages = unsafe { std::slice::from_raw_parts(data.base().cast::<[u8; PAGE_SIZE]>(), region.pages()) };
    let packed = Packed::new(pages);
    let told = |error: Error| error.to_string();
    let uffd = register(&region).map_err(told)?;
    let process = this_process().map_err(told)?;
    let tail = Tail { uffd, process, base: region.base() as usize, pages: region.pages(), packed };
    assert!(TAIL.set(tail).is_ok(), "a process measures once");
    install(on_sigbus).map_err(told)?;
    let limit = (region.pages() / threads / super::job::TIMES).max(batch);
    let barrier = Barrier::new(threads);
    let waited = std::thread::scope(|scope| {
        let run = |thread| {
            let (region, barrier) = (&region, &barrier);
            scope.spawn(move || {
                let mut lane = Lane {
                    decoded: Box::new([0; PAGE_SIZE]),
                    compressor: Compressor::new(),
                    resident: VecDeque::with_capacity(limit + 1),
                    limit,
                    batch,
                };
                touch(region, (thread, threads), &mut lane, barrier)
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        let all = running.into_iter().map(|thread| thread.join().expect("the thread does not panic"));
        all.reduce(|one, other| one.and(&other)).expect("there is a thread")
    });
    let at = |permille| waited.permille(permille).unwrap_or(0.0);
    Ok(Numbers::from([("p50".into(), at(500)), ("p99".into(), at(990))]))
}
