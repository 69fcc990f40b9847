//! How long one call stops other threads. Measures percentiles of touches of one region while another region of many
//! gigabytes is added, discarded or unmapped; and of pool calls whose time should not depend on the pool's size.
//!
//! `cargo bench --features uffd --bench stops`. After `--`: `--range N` sets the size of the large range in GiB (16),
//! `--stored N` the GiB of it that hold pages (1), `--rounds N` the number of repetitions (3). `--processor N`, as
//! root, pins the touching thread to that processor with real-time priority, so that its delays come from the library
//! and the kernel and not from the scheduler.

mod common;

use common::random::Random;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use zsalloc::plumbing::PoolCalls;
use zsalloc::{Duty, Eviction, PAGE_SIZE, Pager, PagerOptions, Pool, PoolOptions, Verdict, Victim};

/// Pages of the touched region. Half of them may be in memory.
const TOUCHED: usize = 16_384;
/// Time in which work that a call leaves behind is done.
const TAIL: Duration = Duration::from_millis(200);
/// Bytes of an object of the pools.
const OBJECT: usize = 500;

/// A private mapping.
struct Mapped {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: pages are written before other threads read them.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(bytes: usize) -> Self {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the system chooses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            common::give_up(&format!("mmap of {bytes} bytes: {}", std::io::Error::last_os_error()));
        }
        Self { base: base.cast(), bytes }
    }

    fn word(&self, page: usize) -> *mut u64 {
        assert!(page * PAGE_SIZE < self.bytes);
        // SAFETY: inside the mapping.
        unsafe { self.base.add(page * PAGE_SIZE) }.cast()
    }

    /// Writes different bytes to each page.
    fn fill(&self) {
        // SAFETY: the word is the program's, and aligned.
        (0..self.bytes / PAGE_SIZE).for_each(|page| unsafe { self.word(page).write_volatile(page as u64 + 1) });
    }

    fn check(&self, page: usize) {
        // SAFETY: as above.
        assert_eq!(unsafe { self.word(page).read_volatile() }, page as u64 + 1);
    }

    fn discard(&self) {
        // SAFETY: the bytes are not needed.
        assert_eq!(unsafe { libc::madvise(self.base.cast(), self.bytes, libc::MADV_DONTNEED) }, 0);
    }

    fn unmap(&self) {
        // SAFETY: nothing uses the memory any more.
        assert_eq!(unsafe { libc::munmap(self.base.cast(), self.bytes) }, 0);
    }
}

/// The times of some calls, in nanoseconds.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn time(&mut self, act: impl FnOnce()) {
        let start = Instant::now();
        act();
        self.0.push(start.elapsed().as_nanos() as u64);
    }

    fn print(&mut self, name: &str, took: Option<Duration>) {
        self.0.sort_unstable();
        let at = |share: f64| {
            let last = self.0.len().saturating_sub(1);
            self.0
                .get((self.0.len() as f64 * share) as usize)
                .or(self.0.get(last))
                .map_or(0.0, |&ns| ns as f64 / 1000.0)
        };
        let took = took.map_or(String::new(), |took| format!("{:.1} ms", took.as_secs_f64() * 1000.0));
        let numbers = [at(0.5), at(0.99), at(0.999), at(1.0)].map(|us| format!("{us:>10.1}")).concat();
        println!("{name:<44}{:>9}{numbers}{took:>12}", self.0.len());
    }
}

fn title(what: &str) {
    println!(
        "\n{what:<44}{:>9}{:>10}{:>10}{:>10}{:>10}{:>12}",
        "count", "p50 us", "p99 us", "p99.9 us", "longest", "the call"
    );
}

/// Pins this thread to the processor of `--processor`, with real-time priority.
fn claim_processor() {
    let Some(number) = common::option("--processor") else { return };
    let number = number.parse().ok().filter(|&number: &usize| number < 1024);
    let number = number.unwrap_or_else(|| common::give_up("--processor is the number of a processor"));
    // SAFETY: all zeros is a valid set, and the numbers are inside.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(number, &mut set);
        let priority = libc::sched_param { sched_priority: 50 };
        if libc::sched_setaffinity(0, size_of_val(&set), &raw const set) != 0
            || libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) != 0
        {
            common::give_up(&format!("--processor: {}", std::io::Error::last_os_error()));
        }
    }
}

/// What the touching and the calling thread share.
struct Scene {
    pager: Pager,
    touched: Mapped,
    /// Number of the current measurement; 0: none.
    now: AtomicUsize,
    stop: AtomicBool,
}

impl Scene {
    fn add(&self, memory: &Mapped) -> zsalloc::Region {
        // SAFETY: the memory is used through these addresses alone.
        unsafe { self.pager.add_region(memory.base, memory.bytes, &Default::default()) }
            .unwrap_or_else(|error| common::give_up(&format!("add_region: {error}")))
    }

    /// Touches pages in random order, each as often as the others, so that most are not in memory.
    fn touch(&self) -> BTreeMap<usize, Times> {
        claim_processor();
        let mut found = BTreeMap::<usize, Times>::new();
        let mut order: Vec<usize> = (0..TOUCHED).collect();
        Random::new(7).shuffle(&mut order);
        for &page in order.iter().cycle() {
            if self.stop.load(SeqCst) {
                break;
            }
            let during = self.now.load(SeqCst);
            found.entry(during).or_default().time(|| self.touched.check(page));
            if during == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        found
    }

    /// Calls `act` while touches are measured, and records how long it took.
    fn measure(&self, number: usize, took: &mut BTreeMap<usize, Duration>, act: impl FnOnce()) {
        self.now.store(number, SeqCst);
        let start = Instant::now();
        act();
        let longest = took.entry(number).or_default();
        *longest = start.elapsed().max(*longest);
        thread::sleep(TAIL);
        self.now.store(0, SeqCst);
    }

    fn rounds(&self, rounds: usize, range: usize, stored: usize) -> BTreeMap<usize, Duration> {
        let mut took = BTreeMap::new();
        for _ in 0..rounds {
            self.measure(1, &mut took, || thread::sleep(Duration::from_secs(1)));
            took.remove(&1);
            for (first, bytes) in [(2, range), (5, stored)] {
                let memory = Mapped::new(bytes);
                if first == 5 {
                    memory.fill();
                }
                let mut region = None;
                self.measure(first, &mut took, || region = Some(self.add(&memory)));
                self.measure(first + 1, &mut took, || memory.discard());
                if first == 5 {
                    memory.fill();
                }
                self.measure(first + 2, &mut took, || memory.unmap());
                region.expect("it was added").remove().expect("it is there");
            }
        }
        took
    }
}

/// Measures touches of one region while another one is added, discarded and unmapped.
fn touches(rounds: usize, range: usize, stored: usize) {
    let resident_bytes = Some((TOUCHED / 2 * PAGE_SIZE) as u64);
    let mut options = PagerOptions { resident_bytes, ..PagerOptions::default() };
    // So that the pager is told of memory that is given back.
    options.eviction = Eviction::Moving;
    let pager = Pager::new("stops", &options).unwrap_or_else(|error| common::give_up(&error.to_string()));
    let lent = pager.lend(Duty::All).unwrap_or_else(|error| common::give_up(&error.to_string()));
    let (now, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let scene = Scene { pager, touched: Mapped::new(TOUCHED * PAGE_SIZE), now, stop };
    let region = scene.add(&scene.touched);
    scene.touched.fill();
    let (mut found, took) = thread::scope(|scope| {
        let touching = scope.spawn(|| scene.touch());
        let took = scene.rounds(rounds, range, stored);
        scene.stop.store(true, SeqCst);
        (touching.join().expect("no page is lost"), took)
    });
    title("touches of a region beside");
    let (range, stored) = (range >> 30, (stored as f64) / (1u64 << 30) as f64);
    let names = [
        "nothing".into(),
        format!("add_region of {range} GiB, empty"),
        format!("MADV_DONTNEED of {range} GiB, empty"),
        format!("munmap of {range} GiB, empty"),
        format!("add_region of {stored} GiB in memory"),
        format!("MADV_DONTNEED of {stored} GiB, evicted"),
        format!("munmap of {stored} GiB, evicted"),
    ];
    for (number, name) in (1..).zip(names) {
        found.entry(number).or_default().print(&name, took.get(&number).copied());
    }
    drop((region, lent));
}

fn pool(bytes: u64) -> Pool {
    let options = PoolOptions { max_bytes: Some(bytes), ..PoolOptions::default() };
    Pool::new("stops", &options).unwrap_or_else(|error| common::give_up(&error.to_string()))
}

/// Fills a pool up to its limit, or to `most` bytes of objects.
fn fill(pool: &Pool, most: u64) {
    for _ in 0..most / OBJECT as u64 {
        let Ok(mut object) = pool.malloc_mapped(OBJECT) else { return };
        object.fill(1);
        let _ = object.finish().into_raw();
    }
}

/// Measures calls of two pools of different size.
fn pools(large: u64, calls: usize) {
    title("calls of a pool of 500-byte objects");
    for bytes in [64 << 20, large] {
        let pool = pool(bytes + bytes / 4);
        fill(&pool, bytes);
        // SAFETY: no `Handle` is made of what `fill` allocated.
        let free = |victim: Victim<'_>| unsafe { victim.pool().free_raw(victim.raw()) };
        pool.set_evict(move |victim| free(victim).map_or(Verdict::Keep, |()| Verdict::Gone))
            .expect("this process's pool");
        let mut times = Times::default();
        (0..calls).for_each(|_| times.time(|| _ = pool.shrink(1)));
        times.print(&format!("shrink(1) at {} MiB", bytes >> 20), None);
    }
    for bytes in [64 << 20, large] {
        let pool = pool(bytes);
        fill(&pool, u64::MAX);
        let mut times = Times::default();
        (0..calls).for_each(|_| times.time(|| assert!(pool.malloc(OBJECT).is_err())));
        times.print(&format!("malloc at a limit of {} MiB", bytes >> 20), None);
    }
}

fn number(name: &str, default: f64) -> f64 {
    let parse = |text: String| text.parse().unwrap_or_else(|_| common::give_up(&format!("{name} can't be {text}")));
    common::option(name).map_or(default, parse)
}

fn main() {
    let trial = common::is_trial();
    let pages = |gib: f64| (gib * (1u64 << 30) as f64) as usize / PAGE_SIZE * PAGE_SIZE;
    let range = pages(number("--range", if trial { 1.0 } else { 16.0 }));
    let stored = pages(number("--stored", if trial { 1.0 / 64.0 } else { 1.0 }));
    touches(number("--rounds", if trial { 1.0 } else { 3.0 }) as usize, range, stored);
    if trial { pools(128 << 20, 20) } else { pools(2 << 30, 1000) }
}
