//! Guests that several threads serve: pages of one snapshot, in memory of this process.

use super::Plan;
use super::common::random::Random;
use super::common::region::Region;
use super::table::{Slow, Turn, head, line, medians, processor_time};
use linux_raw_sys::general as raw;
use std::hint::black_box;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};
use zsalloc::{Area, AreaOptions, Guest, GuestOptions, GuestRange, PAGE_SIZE, Zswap, ZswapOptions};

/// Guests that are busy at the same time.
const GUESTS: usize = 4;
/// Threads that touch the memory of the guest beside the quiet one.
const BUSY: usize = 4;
/// How long the quiet guest waits between two touches.
const PAUSE: Duration = Duration::from_micros(500);

/// A guest, and the memory that it was handed.
struct Served {
    // Dropped before the memory.
    guest: Guest,
    memory: Region,
}

fn failed(what: &str) -> String {
    format!("{what}: {}", std::io::Error::last_os_error())
}

/// Makes a userfaultfd, and registers memory with it.
fn userfault(memory: &Region) -> Result<OwnedFd, String> {
    // The numbers of UFFDIO_API and UFFDIO_REGISTER.
    let (api_call, register_call) = (0xc018_aa3f_u64, 0xc020_aa00_u64);
    let mut api = raw::uffdio_api { api: raw::UFFD_API.into(), features: 0, ioctls: 0 };
    let range = raw::uffdio_range { start: memory.base() as u64, len: memory.bytes() as u64 };
    let mut register = raw::uffdio_register { range, mode: raw::UFFDIO_REGISTER_MODE_MISSING.into(), ioctls: 0 };
    // SAFETY: the calls take numbers, and structs of the kinds that they expect, which live through them.
    unsafe {
        let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) as i32;
        if fd < 0 {
            return Err(failed("userfaultfd"));
        }
        let fd = OwnedFd::from_raw_fd(fd);
        if libc::ioctl(fd.as_raw_fd(), api_call as _, &raw mut api) != 0
            || libc::ioctl(fd.as_raw_fd(), register_call as _, &raw mut register) != 0
        {
            return Err(failed("an ioctl of userfaultfd"));
        }
        Ok(fd)
    }
}

impl Served {
    fn new(snapshot: &Area) -> Result<Self, String> {
        let memory = Region::new(snapshot.pages() as usize)?;
        let range = GuestRange {
            at: memory.base() as u64,
            bytes: memory.bytes() as u64,
            offset: 0,
            page_bytes: PAGE_SIZE as u64,
        };
        let guest = Guest::new(snapshot, userfault(&memory)?, &[range], &GuestOptions::default());
        Ok(Self { guest: guest.map_err(|error| error.to_string())?, memory })
    }

    /// Touches pages in random order, each once, until `stop`. Checks what they hold.
    fn touch(&self, data: &Region, seed: u64, next: &AtomicUsize, pause: Duration, stop: &AtomicBool) -> Slow {
        let mut order: Vec<usize> = (0..self.memory.pages()).collect();
        Random::new(seed).shuffle(&mut order);
        let mut slow = Slow::default();
        while !stop.load(Relaxed) {
            let Some(&page) = order.get(next.fetch_add(1, Relaxed)) else { break };
            let start = Instant::now();
            let word = black_box(self.memory.first(page).load(Relaxed));
            slow.add(start.elapsed().as_nanos() as u64);
            assert_eq!(word, data.first(page).load(Relaxed), "page {page} is the snapshot's");
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        }
        slow
    }
}

/// Serves guests in turn until `stop`, as the example `firecracker_handler` does: the system wakes one thread for each
/// touch.
fn serve(guests: &[Served], epoll: &OwnedFd, again: &[AtomicBool], stop: &AtomicBool) {
    let mut limit = 20;
    while !stop.load(Relaxed) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: one event can be written.
        let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, limit) };
        limit = 20;
        let ready = (count == 1).then_some(event.u64 as usize);
        let left = (0..guests.len()).filter(|&guest| again[guest].swap(false, Relaxed));
        for guest in ready.into_iter().chain(left) {
            if guests[guest].guest.serve().expect("the system serves it").again {
                again[guest].store(true, Relaxed);
                limit = 0;
            }
        }
    }
}

/// Serves guests by `threads` threads while `act` runs.
fn serving<R>(guests: &[Served], threads: usize, act: impl FnOnce() -> R) -> Result<R, String> {
    // SAFETY: the call takes a number, and returns a new descriptor, which nothing else owns.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    for (number, served) in guests.iter().enumerate() {
        let (fd, events) = (served.guest.fd().as_raw_fd(), (libc::EPOLLIN | libc::EPOLLET) as u32);
        let mut event = libc::epoll_event { events, u64: number as u64 };
        // SAFETY: the event lives through the call.
        if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } != 0 {
            return Err(failed("epoll_ctl"));
        }
    }
    let again: Vec<_> = guests.iter().map(|_| AtomicBool::new(false)).collect();
    let stop = AtomicBool::new(false);
    Ok(thread::scope(|scope: &Scope<'_, '_>| {
        (0..threads).for_each(|_| _ = scope.spawn(|| serve(guests, &epoll, &again, &stop)));
        let result = act();
        stop.store(true, Relaxed);
        result
    }))
}

/// Lets one thread touch the memory of each guest for a while.
fn many(plan: &Plan, snapshot: &Area, threads: usize) -> Result<Turn, String> {
    let guests = (0..GUESTS).map(|_| Served::new(snapshot)).collect::<Result<Vec<_>, _>>()?;
    let stop = AtomicBool::new(false);
    let (cpu, start) = (processor_time(), Instant::now());
    let mut slow = serving(&guests, threads, || {
        thread::scope(|scope| {
            let touching = guests.iter().zip(1..).map(|(guest, seed)| {
                let stop = &stop;
                scope.spawn(move || guest.touch(&plan.data, seed, &AtomicUsize::new(0), Duration::ZERO, stop))
            });
            let touching: Vec<_> = touching.collect();
            thread::sleep(plan.length);
            stop.store(true, Relaxed);
            let each = touching.into_iter().map(|thread| thread.join().expect("every page is right"));
            Slow(each.flat_map(|slow| slow.0).collect())
        })
    })?;
    let (time, cpu) = (start.elapsed().as_secs_f64(), (processor_time() - cpu).as_secs_f64());
    let count: u64 = guests.iter().map(|served| served.guest.stats().counts.faults).sum();
    let (middle, high) = (slow.percentile(0.5), slow.percentile(0.99));
    Ok(Turn { rate: count as f64 / time / 1e3, cost: cpu * 1e6 / count.max(1) as f64, middle, high, idle: 0.0 })
}

/// Lets a quiet guest touch a page at times, while `busy` threads touch the memory of another one.
fn quiet(plan: &Plan, snapshot: &Area, threads: usize, busy: usize) -> Result<Turn, String> {
    let guests = [Served::new(snapshot)?, Served::new(snapshot)?];
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut slow = serving(&guests, threads, || {
        thread::scope(|scope| {
            for _ in 0..busy {
                scope.spawn(|| guests[0].touch(&plan.data, 1, &next, Duration::ZERO, &stop));
            }
            let quiet = scope.spawn(|| guests[1].touch(&plan.data, 2, &AtomicUsize::new(0), PAUSE, &stop));
            thread::sleep(plan.length);
            stop.store(true, Relaxed);
            quiet.join().expect("every page is right")
        })
    })?;
    let rate = slow.0.len() as f64 / plan.length.as_secs_f64() / 1e3;
    Ok(Turn { rate, middle: slow.percentile(0.5), high: slow.percentile(0.99), ..Turn::default() })
}

/// Wakes another thread at times and waits until that one has woken this one, until `stop`. Returns how long it took.
fn round_trips(stop: &AtomicBool) -> Slow {
    let [asked, answered, done] = [const { AtomicBool::new(false) }; 3];
    let asking = thread::current();
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            while !done.load(Acquire) {
                if asked.swap(false, AcqRel) {
                    answered.store(true, Release);
                    asking.unpark();
                } else {
                    thread::park();
                }
            }
        });
        let mut slow = Slow::default();
        while !stop.load(Relaxed) {
            let start = Instant::now();
            asked.store(true, Release);
            answering.thread().unpark();
            while !answered.swap(false, AcqRel) {
                thread::park();
            }
            slow.add(start.elapsed().as_nanos() as u64);
            thread::sleep(PAUSE);
        }
        done.store(true, Release);
        answering.thread().unpark();
        slow
    })
}

/// What the scheduler alone makes a quiet guest wait: a thread that is no guest wakes another one, which serves
/// nothing, and is woken by it, while `BUSY` threads touch the memory of a guest.
fn floor(plan: &Plan, snapshot: &Area, threads: usize) -> Result<Turn, String> {
    let guests = [Served::new(snapshot)?];
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut slow = serving(&guests, threads, || {
        thread::scope(|scope| {
            for _ in 0..BUSY {
                scope.spawn(|| guests[0].touch(&plan.data, 1, &next, Duration::ZERO, &stop));
            }
            let asking = scope.spawn(|| round_trips(&stop));
            thread::sleep(plan.length);
            stop.store(true, Relaxed);
            asking.join().expect("the other thread answers")
        })
    })?;
    let rate = slow.0.len() as f64 / plan.length.as_secs_f64() / 1e3;
    Ok(Turn { rate, middle: slow.percentile(0.5), high: slow.percentile(0.99), ..Turn::default() })
}

/// Measures guests, and prints the table.
pub fn measure(plan: &Plan) -> Result<(), String> {
    let zswap = Zswap::new("snapshot", &ZswapOptions::default()).map_err(|error| error.to_string())?;
    let snapshot = zswap.add_area(plan.data.pages() as u64, &AreaOptions::default());
    let snapshot = snapshot.map_err(|error| error.to_string())?;
    for page in 0..plan.data.pages() {
        // SAFETY: the region has that many pages, and nothing writes them.
        let bytes = unsafe { &*plan.data.base().add(page * PAGE_SIZE).cast::<[u8; PAGE_SIZE]>() };
        snapshot.store(page as u64, bytes).map_err(|error| error.to_string())?;
    }
    head("touches of guests that threads serve");
    type Side = fn(&Plan, &Area, usize) -> Result<Turn, String>;
    let sides: [(&str, Side); 4] = [
        ("four guests that touch", many),
        ("a quiet guest alone", |plan, snapshot, threads| quiet(plan, snapshot, threads, 0)),
        ("a quiet guest beside one with 4 that touch", |plan, snapshot, threads| quiet(plan, snapshot, threads, BUSY)),
        ("two threads that wake each other beside it", floor),
    ];
    for (name, side) in sides {
        let mut turns = vec![Vec::new(); plan.serving.len()];
        for _ in 0..plan.rounds {
            for (&threads, turns) in plan.serving.iter().zip(&mut turns) {
                turns.push(side(plan, &snapshot, threads)?);
            }
        }
        let turns: Vec<_> = turns.iter().map(|turns| medians(turns)).collect();
        for (threads, turn) in plan.serving.iter().zip(&turns) {
            line(&format!("{name}, {threads} serving"), turn, turns[0].rate);
        }
    }
    Ok(())
}
