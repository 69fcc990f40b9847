//! A pager under all kinds of load at once: threads touch, write, discard, hold, lock, protect, add, move and remove
//! regions, and fork, while limits and codecs change, and tiers come and go. Nothing may be lost: every page is checked
//! against what was last written to it.
//!
//! Some of the memory files are in huge pages, pages are pinned and merged, and at times more memory than the limit is
//! locked. `ZSALLOC_TORTURE_WITHOUT` leaves some of that out (huge, pins, ksm, locked).
//!
//! `ZSALLOC_TORTURE_SECONDS` sets the duration, `ZSALLOC_TORTURE_SEED` the seed of the random numbers. Without the
//! first the test does not run: `.ci/run` runs two minutes of it, and `.ci/torture` an hour.
#![cfg(all(feature = "uffd", target_os = "linux", not(any(loom, miri))))]

#[path = "torture/memory.rs"]
mod memory;
#[path = "torture/random.rs"]
mod random;
#[path = "torture/tiers.rs"]
mod tiers;
#[path = "torture/trouble.rs"]
mod trouble;
#[path = "torture/watch.rs"]
mod watch;
#[path = "torture/work.rs"]
mod work;

use memory::Slot;
use random::Random;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tiers::Tiers;
use trouble::Trouble;
use zsalloc::{Duty, Eviction, FaultMode, PAGE_SIZE, Pager, PagerOptions, PagerTuning};

/// Maximum number of regions at the same time.
const SLOTS: usize = 6;
/// Threads that work on the regions.
const WORKERS: u64 = 8;
/// The initial resident limit in bytes.
const LIMIT: u64 = 8 << 20;

/// Bytes of the file that pages go to.
const FILE: u64 = 256 << 20;

/// What the threads of a round share.
struct World {
    pager: Pager,
    slots: Vec<Slot>,
    with: Trouble,
    /// Whether the program may give pages back by madvise().
    events: bool,
    stop: AtomicBool,
    /// Number of steps done.
    steps: AtomicU64,
    /// The current resident limit.
    limit: AtomicU64,
    /// Number of threads that are setting a limit or adding a region, which may be in memory as a whole; and the sample
    /// of the watch at which the last one did.
    setting: AtomicU64,
    set_at: AtomicU64,
    /// Number of samples of the watch, and at how many of them the limit had to hold.
    looks: AtomicU64,
    settled: AtomicU64,
    start: Instant,
}

/// A configuration of a pager.
#[derive(Clone, Copy, Debug)]
struct Kind {
    mode: FaultMode,
    evict_in_place: bool,
    with_file: bool,
}

impl World {
    /// Runs an action that may put more into memory than the limit allows. The limit must hold again some time later.
    fn unsettle<R>(&self, act: impl FnOnce() -> R) -> R {
        self.setting.fetch_add(1, Relaxed);
        let done = act();
        self.set_at.store(self.looks.load(Relaxed), Relaxed);
        self.setting.fetch_sub(1, Relaxed);
        done
    }
}

const KINDS: [Kind; 4] = [
    Kind { mode: FaultMode::Sigbus, evict_in_place: false, with_file: false },
    Kind { mode: FaultMode::Threads, evict_in_place: false, with_file: true },
    Kind { mode: FaultMode::Sigbus, evict_in_place: true, with_file: true },
    Kind { mode: FaultMode::Threads, evict_in_place: true, with_file: false },
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn nothing_is_lost() {
    let Some(seconds) = number("ZSALLOC_TORTURE_SECONDS") else {
        eprintln!("NOT RUN: ZSALLOC_TORTURE_SECONDS is not set; .ci/torture sets it");
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("ZSALLOC_TORTURE_SEED").unwrap_or(now.as_nanos() as u64);
    // After a panic the other threads would go on for ever, and the lent ones would wait. So abort.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        trouble::restore_settings();
        std::process::abort();
    }));
    println!("ZSALLOC_TORTURE_SEED={seed} ZSALLOC_TORTURE_SECONDS={seconds}");
    let mut random = Random(seed | 1);
    // Rounds of at most a minute, so that all configurations have their turn, and regions and pagers come and go.
    let round = Duration::from_secs_f64((seconds as f64 / KINDS.len() as f64).min(60.0));
    let with = Trouble::from_environment();
    println!("{with:?}");
    trouble::change_settings(with);
    let start = Instant::now();
    let before = descriptors();
    for number in 0.. {
        one_round(KINDS[number % KINDS.len()], round, random.next());
        assert_eq!(descriptors(), before, "descriptors stayed open");
        if start.elapsed() + round / 2 > Duration::from_secs(seconds) {
            break;
        }
    }
    tiers::report(seconds >= 60);
    trouble::restore_settings();
}

fn one_round(kind: Kind, time: Duration, seed: u64) {
    let options = PagerOptions {
        resident_bytes: Some(LIMIT),
        // Too little for what leaves memory, so that pages go to tiers.
        pool_bytes: kind.with_file.then_some(3 << 20),
        fault_mode: kind.mode,
        eviction: if kind.evict_in_place { Eviction::InPlace } else { Eviction::MovingBesideSwap },
        tuning: PagerTuning { max_held_bytes: Some(1 << 20), ..PagerTuning::default() },
        ..PagerOptions::default()
    };
    let file = kind.with_file.then(|| memory::temporary_file(FILE));
    let world = World {
        pager: Pager::new("torture", &options).unwrap(),
        slots: (0..SLOTS).map(|_| Slot::default()).collect(),
        with: Trouble::from_environment(),
        events: !kind.evict_in_place,
        stop: AtomicBool::new(false),
        steps: AtomicU64::new(0),
        limit: AtomicU64::new(LIMIT),
        setting: AtomicU64::new(0),
        set_at: AtomicU64::new(0),
        looks: AtomicU64::new(0),
        settled: AtomicU64::new(0),
        start: Instant::now(),
    };
    let tiers = run(&world, kind, time, seed, file.as_ref());
    for slot in &world.slots {
        slot.end(&world);
    }
    if let Some(tiers) = tiers {
        tiers.end(&world.pager);
    }
    let stats = world.pager.stats();
    assert_eq!((stats.resident_bytes, stats.staged_bytes, stats.held_bytes, stats.regions), (0, 0, 0, 0), "{stats:?}");
    let [steps, looks, settled] = [&world.steps, &world.looks, &world.settled].map(|count| count.load(Relaxed));
    println!("{kind:?}: {steps} steps, {looks} looks, {settled} of them at a settled limit, {:?}", stats.counts);
}

fn run<'a>(world: &World, kind: Kind, time: Duration, seed: u64, file: Option<&'a File>) -> Option<Tiers<'a>> {
    let duties = match kind.mode {
        FaultMode::Sigbus => vec![Duty::Serve, Duty::Evict, Duty::Tiers],
        FaultMode::Threads => vec![Duty::Serve, Duty::All, Duty::Evict],
    };
    let lent: Vec<_> = duties.into_iter().map(|duty| world.pager.lend(duty).unwrap()).collect();
    let tiers = file.map(|file| Tiers::new(&world.pager, file, FILE));
    std::thread::scope(|scope| {
        if let Some(tiers) = &tiers {
            scope.spawn(|| tiers.come_and_go(world, seed));
        }
        scope.spawn(|| watch::watch(world));
        if world.with.locked {
            scope.spawn(|| trouble::lock_and_unlock(world));
        }
        for worker in 0..WORKERS {
            scope.spawn(move || work::work(world, Random(seed ^ (worker + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)));
        }
        std::thread::sleep(time);
        world.stop.store(true, Relaxed);
    });
    for slot in &world.slots {
        slot.check_all(world);
    }
    drop(lent);
    assert_eq!(PAGE_SIZE, 4096);
    tiers
}
