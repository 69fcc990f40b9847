//! Latency of map + read + unmap, in percentiles, with and without compaction in another thread.
//!
//! Each measurement has controls, in which the other thread does unrelated work instead of compacting. It copies other
//! memory, which costs the caches as much; or it copies and gives memory back to the system, which interrupts every
//! other processor that the program runs on. The controls show what any busy neighbour costs, including the loss of the
//! reader's own processor on a small machine. What the compaction rows have beyond the controls is the cost of
//! compaction.

mod common;

use common::peers::{Peer, Zsalloc};
use common::random::Random;
use common::{memory, sizes};
use memmap2::MmapMut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of live objects.
const LIVE: u64 = 64 << 20;
/// Duration of each measurement.
const TIME: Duration = Duration::from_secs(4);

/// What runs beside the reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// No other thread.
    Nobody,
    /// One thread that frees half, copies unrelated memory, and allocates half again.
    OneCopying,
    /// One thread that frees half, copies unrelated memory, gives back what it copied to, and allocates half again.
    OneReturning,
    /// One thread that frees half, compacts, and allocates half again.
    OneCompacting,
    /// One thread that frees and allocates half all the time, and one that copies unrelated memory.
    TwoCopying,
    /// One thread that frees and allocates half all the time, and one that copies unrelated memory and gives back what
    /// it copied to.
    TwoReturning,
    /// One thread that frees and allocates half all the time, and one that compacts all the time.
    TwoCompacting,
}

/// What the reader and the threads beside it share.
struct Scene {
    pool: Zsalloc,
    /// Objects that the reader maps. They are never freed.
    kept: Vec<usize>,
    /// Objects that are freed and allocated again, with their sizes.
    replaced: Mutex<Vec<(usize, u16)>>,
    /// Whether the other thread is compacting or copying right now.
    busy: AtomicBool,
    stop: AtomicBool,
    /// Pages that compaction gave back.
    pages: AtomicU64,
}

impl Scene {
    fn new(sizes: &[u16], bytes: u64) -> Self {
        let pool = Zsalloc::new();
        let (mut kept, mut replaced, mut live) = (Vec::new(), Vec::new(), 0);
        for &size in sizes.iter().cycle() {
            if live >= bytes {
                break;
            }
            let write = |at: *mut u8| {
                // SAFETY: the object is `size` bytes long and being written.
                unsafe { at.write_bytes(1, size as usize) }
            };
            let token = pool.alloc_with(size as usize, write);
            if kept.len() <= replaced.len() {
                kept.push(token)
            } else {
                replaced.push((token, size))
            }
            live += size as u64;
        }
        let (busy, stop, pages) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
        Self { pool, kept, replaced: Mutex::new(replaced), busy, stop, pages }
    }

    /// Maps random objects until the time is over, and records the latencies while the other threads are busy.
    fn read(&self, time: Duration, always: bool) -> Histogram {
        let mut random = Random::new(5);
        let mut histogram = Histogram::new();
        let end = Instant::now() + time;
        while Instant::now() < end {
            for _ in 0..1000 {
                let token = self.kept[random.below(self.kept.len())];
                let busy = always || self.busy.load(Relaxed);
                let start = clock::now();
                // SAFETY: the object is mapped, and was written.
                std::hint::black_box(unsafe { self.pool.map(token).read_volatile() });
                self.pool.unmap(token);
                let took = clock::now() - start;
                if busy {
                    histogram.note(took);
                }
            }
        }
        self.stop.store(true, Relaxed);
        histogram
    }

    fn free_half(&self) {
        for &(token, _) in self.replaced.lock().expect("no panic").iter() {
            self.pool.free(token);
        }
    }

    fn allocate_half(&self) {
        for (token, size) in self.replaced.lock().expect("no panic").iter_mut() {
            *token = self.pool.alloc(*size as usize);
        }
    }

    fn compact(&self) {
        let pages = self.pool.pool.compact(&Default::default()).expect("this process's pool");
        self.pages.fetch_add(pages, Relaxed);
    }

    /// Calls `work` until the reader stops, and tells the reader when it runs. With `alone`, frees half of the objects
    /// before each call and allocates them again after it.
    fn keep_busy(&self, alone: bool, work: &mut dyn FnMut()) {
        while !self.stop.load(Relaxed) {
            if alone {
                self.free_half();
            }
            self.busy.store(true, Relaxed);
            work();
            self.busy.store(false, Relaxed);
            if alone {
                self.allocate_half();
            }
        }
    }
}

/// Memory outside the pool.
struct Unrelated {
    from: MmapMut,
    to: MmapMut,
}

impl Unrelated {
    /// Bytes copied at a time, about what one compaction moves.
    const BYTES: usize = 8 << 20;
    /// Bytes given back at a time: a middle-sized zspage. A compaction copies as much as it gives back.
    const ZSPAGE: usize = 64 << 10;

    fn new() -> Self {
        let map = || MmapMut::map_anon(Self::BYTES).unwrap_or_else(|error| common::give_up(&error.to_string()));
        let (mut from, mut to) = (map(), map());
        from.fill(1);
        to.fill(1);
        Self { from, to }
    }

    fn copy(&mut self, give_back: bool) {
        let Self { from, to } = self;
        for (from, to) in from.chunks(Self::ZSPAGE).zip(to.chunks_mut(Self::ZSPAGE)) {
            to.copy_from_slice(std::hint::black_box(from));
            if give_back {
                // SAFETY: the memory is this program's, private, and read as zeros from here on.
                unsafe { libc::madvise(to.as_mut_ptr().cast(), to.len(), libc::MADV_DONTNEED) };
            }
        }
    }
}

/// Counts by duration, in ticks of [`clock`]. Exact for short durations, to 3 % for long ones.
struct Histogram {
    counts: Vec<u64>,
    longest: u64,
}

impl Histogram {
    /// Buckets for each doubling.
    const STEPS: u64 = 32;

    fn new() -> Self {
        Self { counts: vec![0; (64 * Self::STEPS) as usize], longest: 0 }
    }

    fn note(&mut self, ticks: u64) {
        self.counts[Self::index(ticks)] += 1;
        self.longest = self.longest.max(ticks);
    }

    fn index(ticks: u64) -> usize {
        let shift = (ticks / Self::STEPS).checked_ilog2().unwrap_or(0) as u64;
        (shift * Self::STEPS + (ticks >> shift)) as usize
    }

    /// Returns the least duration of a bucket.
    fn ticks(index: usize) -> u64 {
        let shift = (index as u64 / Self::STEPS).saturating_sub(1);
        (index as u64 - shift * Self::STEPS) << shift
    }

    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the duration that a share of all measurements stays below.
    fn percentile(&self, share: f64) -> u64 {
        let mut left = (self.total() as f64 * share) as u64;
        for (index, &count) in self.counts.iter().enumerate() {
            if left < count {
                return Self::ticks(index);
            }
            left -= count;
        }
        self.longest
    }
}

/// The processor's own counter where it is cheap to read, else the system's clock.
mod clock {
    use std::time::{Duration, Instant};

    /// Reads the counter.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn now() -> u64 {
        // The fence keeps the measured code from moving past the reading.
        // SAFETY: every x86-64 processor has both.
        unsafe {
            std::arch::x86_64::_mm_lfence();
            std::arch::x86_64::_rdtsc()
        }
    }

    /// Reads the clock in nanoseconds.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn now() -> u64 {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    /// Returns the nanoseconds of a tick.
    pub fn tick() -> f64 {
        let (start, ticks) = (Instant::now(), now());
        std::thread::sleep(Duration::from_millis(50));
        start.elapsed().as_nanos() as f64 / (now() - ticks) as f64
    }

    /// Returns the least time that two readings of the clock take.
    pub fn cost() -> u64 {
        (0..1000).map(|_| now().wrapping_sub(now()).wrapping_neg()).min().unwrap_or(0)
    }
}

/// Returns how often the system took the processor away from this thread.
fn preemptions() -> i64 {
    // SAFETY: all zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` may be written.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nivcsw
}

/// Results of one measurement.
struct Found {
    histogram: Histogram,
    preemptions: i64,
    pages: u64,
}

fn measure(sizes: &[u16], bytes: u64, time: Duration, beside: Beside) -> Found {
    let scene = &Scene::new(sizes, bytes);
    let others = match beside {
        Beside::Nobody => 0,
        Beside::OneCopying | Beside::OneReturning | Beside::OneCompacting => 1,
        Beside::TwoCopying | Beside::TwoReturning | Beside::TwoCompacting => 2,
    };
    let barrier = &Barrier::new(others + 1);
    let (histogram, preemptions) = thread::scope(|scope| {
        if others > 0 {
            scope.spawn(move || {
                let mut unrelated = Unrelated::new();
                barrier.wait();
                let mut work = || match beside {
                    Beside::Nobody => {}
                    Beside::OneCopying | Beside::TwoCopying => unrelated.copy(false),
                    Beside::OneReturning | Beside::TwoReturning => unrelated.copy(true),
                    Beside::OneCompacting | Beside::TwoCompacting => scene.compact(),
                };
                scene.keep_busy(others == 1, &mut work);
            });
        }
        if others > 1 {
            scope.spawn(move || {
                barrier.wait();
                while !scene.stop.load(Relaxed) {
                    scene.free_half();
                    scene.allocate_half();
                }
            });
        }
        barrier.wait();
        let before = preemptions();
        let histogram = scene.read(time, others == 0);
        (histogram, preemptions() - before)
    });
    Found { histogram, preemptions, pages: scene.pages.load(Relaxed) }
}

/// Returns the median time to copy a 4096-byte object that is in no cache, as a compaction does.
fn copy_of_an_object(count: usize) -> u64 {
    let mut memory = vec![1_u8; count * 4096];
    let mut order: Vec<usize> = (0..count).collect();
    Random::new(9).shuffle(&mut order);
    let mut times: Vec<u64> = order
        .chunks_exact(2)
        .map(|pair| {
            let (from, to) = (pair[0] * 4096, pair[1] * 4096);
            let start = clock::now();
            memory.copy_within(from..from + 4096, to);
            clock::now() - start
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    common::with_peers("map_latency");
    let (bytes, time) = if common::is_trial() { (LIVE / 16, TIME / 100) } else { (LIVE, TIME) };
    let sizes = sizes::mixed();
    memory::bring_in_program();
    let tick = clock::tick();
    let ns = |ticks: u64| ticks as f64 * tick;
    println!(
        "nanoseconds to map, read a byte of, and unmap a random object; {} MiB of objects, half of them freed and",
        bytes >> 20
    );
    println!("allocated all the time. Includes {:.0} ns for reading the clock.", ns(clock::cost()));
    println!(
        "Copying one object of 4096 bytes that is in no cache takes {:.0} ns.",
        ns(copy_of_an_object((bytes >> 12) as usize))
    );
    println!(
        "This machine runs {} threads at once. A thread that loses its",
        thread::available_parallelism().map_or(1, usize::from)
    );
    println!("processor for a while shows in the last columns of all rows, those without compaction too.\n");
    println!("{:<46}{:>8}{:>8}{:>8}{:>9}{:>11}", "beside the reader", "p50", "p99", "p99.9", "p99.99", "longest");
    let rows = [
        ("nothing", Beside::Nobody),
        ("frees, copies other memory, mallocs", Beside::OneCopying),
        ("frees, copies and gives it back, mallocs", Beside::OneReturning),
        ("frees, compacts, mallocs", Beside::OneCompacting),
        ("frees and mallocs | copies other memory", Beside::TwoCopying),
        ("frees and mallocs | copies and gives it back", Beside::TwoReturning),
        ("frees and mallocs | compacts", Beside::TwoCompacting),
    ];
    for (name, beside) in rows {
        let Found { histogram, preemptions, pages } = measure(&sizes, bytes, time, beside);
        let at = |share| ns(histogram.percentile(share));
        println!(
            "{name:<46}{:>8.0}{:>8.0}{:>8.0}{:>9.0}{:>11.0}   \
             {:.1} M samples, {preemptions} preemptions, {pages} pages compacted",
            at(0.5),
            at(0.99),
            at(0.999),
            at(0.9999),
            ns(histogram.longest),
            histogram.total() as f64 / 1e6,
        );
    }
}
