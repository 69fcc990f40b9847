//! Each call to the system fails in turn, at every place where a pool makes one. Nothing is lost, and the pool does
//! later what was refused.

use super::shared::{assert_holds, free, options, pool_with, set_evict, store, system_pages};
use crate::os::{Call, Mapping, Os, injected::Faults};
use crate::tests::shared::ReadObject;
use crate::units::PAGE;
use crate::{Backing, CompactBudget, Error, HugePages, LentMemory, Pool, PoolOptions, PoolTuning, Result};
use std::sync::Arc;

const CALLS: [Call; 7] =
    [Call::Map, Call::Commit, Call::Advise, Call::Release, Call::MemoryFile, Call::Allocate, Call::ForkGuard];
const SIZES: [usize; 4] = [64, 1000, 2500, 4000];
const OBJECTS: u64 = 1200;
const MAX_BYTES: u64 = 16 << 20;

/// Pools that make different calls.
fn kinds() -> Vec<PoolOptions> {
    let plain = options(MAX_BYTES, Backing::Anonymous);
    vec![
        plain.clone(),
        PoolOptions {
            hardened: true,
            tuning: PoolTuning { dont_fork: true, ..PoolTuning::default() },
            ..plain.clone()
        },
        PoolOptions { tuning: PoolTuning { huge_pages: HugePages::Always, ..PoolTuning::default() }, ..plain.clone() },
        PoolOptions { tuning: PoolTuning { no_advice: true, ..PoolTuning::default() }, ..plain.clone() },
        options(MAX_BYTES, Backing::MemoryFile),
    ]
}

/// An object: its handle, the key of its pattern, and its size.
type Object = (u64, u64, usize);

/// A pool, and the calls that fail in it.
struct Scene<'a> {
    faults: &'a Arc<Faults>,
    pool: Pool,
    objects: Vec<Object>,
}

fn heal(faults: &Faults) {
    CALLS.iter().for_each(|&call| faults.heal(call));
}

/// Checks that a refusal is one of memory, with a sentence.
fn assert_clean(error: Error) {
    assert!(matches!(error, Error::NoMemory(text) if text.len() > 20), "{error:?}");
}

/// Checks that a call is refused cleanly while a system call fails, and succeeds otherwise.
fn create(faults: &Arc<Faults>, options: &PoolOptions) -> Pool {
    pool_with(faults, options).unwrap_or_else(|error| {
        assert_clean(error);
        heal(faults);
        pool_with(faults, options).unwrap()
    })
}

impl<'a> Scene<'a> {
    fn new(faults: &'a Arc<Faults>, options: &PoolOptions) -> Self {
        let scene = Self { faults, pool: create(faults, options), objects: Vec::new() };
        scene.check();
        scene
    }

    fn check(&self) {
        self.pool.check();
        self.objects.iter().for_each(|&(handle, key, size)| assert_holds(&self.pool, handle, key, size));
        assert_eq!(self.pool.stats().unwrap().objects, self.objects.len() as u64);
    }

    /// Allocates. A refusal changes nothing, and the same call succeeds once nothing fails.
    fn fill(&mut self) {
        for key in 0..OBJECTS {
            let size = SIZES[key as usize % SIZES.len()];
            let handle = store(&self.pool, key, size).unwrap_or_else(|error| {
                assert_clean(error);
                self.check();
                heal(self.faults);
                store(&self.pool, key, size).unwrap()
            });
            self.objects.push((handle, key, size));
        }
        self.check();
    }

    fn free_all_but(&mut self, every: u64) {
        let (kept, freed): (Vec<_>, Vec<_>) = self.objects.drain(..).partition(|(_, key, _)| key.is_multiple_of(every));
        self.objects = kept;
        freed.into_iter().for_each(|(handle, ..)| free(&self.pool, handle).unwrap());
        self.check();
    }

    fn compact(&self) -> u64 {
        let before = self.pool.total_pages();
        let gone = self.pool.compact(&CompactBudget::default()).unwrap();
        assert!(before <= self.pool.total_pages() + gone);
        self.check();
        gone
    }

    /// Shrinks with a callback that frees what it is offered.
    fn shrink(&mut self, pages: u64) -> Result<u64> {
        set_evict(&self.pool, free);
        let result = self.pool.shrink(pages);
        self.objects.retain(|&(handle, ..)| self.pool.read_object(handle, &mut [0]).is_ok());
        self.check();
        result
    }

    /// Makes each call of a pool. Only allocations may be refused.
    fn work(&mut self) {
        self.fill();
        self.free_all_but(3);
        self.compact();
        let shrunk = self.shrink(30);
        assert!(matches!(shrunk, Ok(_) | Err(Error::Again(_))), "{shrunk:?}");
        self.fill();
        self.free_all_but(OBJECTS + 1);
        self.compact();
    }

    /// Checks that all memory that the system refused goes back once nothing fails.
    fn end(mut self) {
        heal(self.faults);
        self.free_all_but(u64::MAX);
        self.objects.drain(..).for_each(|(handle, ..)| free(&self.pool, handle).unwrap());
        self.compact();
        let stats = self.pool.stats().unwrap();
        assert_eq!((stats.objects, stats.zspages, stats.chunks, stats.warm_pages), (0, 0, 0, 0));
        assert_eq!(stats.total_pages, stats.metadata_pages);
        let mapped = stats.total_pages - self.pool.fixed_pages();
        assert!(system_pages(&self.pool) <= mapped, "{} pages of {mapped}", system_pages(&self.pool));
        self.pool.check_unmapped().unwrap();
    }
}

/// Fails the first call of a kind, then the second, and so on until there is none; `times` as in [`Faults::fail`].
fn sweep(options: &PoolOptions, call: Call, times: u64, stride: u64) -> u64 {
    let mut n = 1;
    loop {
        let faults = Arc::<Faults>::default();
        faults.fail(call, n, times);
        let mut scene = Scene::new(&faults, options);
        scene.work();
        let met = faults.seen(call) >= n;
        scene.end();
        if !met {
            return n - 1;
        }
        // The first failures are all different. Later ones repeat themselves.
        n += if n < 20 { 1 } else { stride };
    }
}

#[test]
fn every_call_may_fail_once() {
    for options in kinds() {
        let met = CALLS.map(|call| (call, sweep(&options, call, 1, 7)));
        println!("{options:?}: {met:?}");
        let made = |call| met.iter().any(|&(kind, count)| kind == call && count > 0);
        assert!(made(Call::Map) && made(Call::Commit) && made(Call::Release) && made(Call::Advise));
        assert_eq!(made(Call::ForkGuard), options.tuning.dont_fork || made(Call::MemoryFile));
    }
}

#[test]
fn every_call_may_fail_from_then_on() {
    for options in kinds() {
        CALLS.iter().for_each(|&call| _ = sweep(&options, call, 0, 23));
    }
}

/// Memory that the system does not take back stays charged, is used again, and goes back later.
#[test]
fn memory_that_is_refused_stays_charged_and_goes_back_later() {
    for options in kinds() {
        let faults = Arc::<Faults>::default();
        let mut scene = Scene::new(&faults, &options);
        scene.fill();
        faults.fail(Call::Release, 1, 0);
        let before = scene.pool.total_pages();
        scene.free_all_but(10);
        assert_eq!((scene.compact(), scene.pool.total_pages()), (0, before), "nothing can go");
        // Pages in whole chunks are free for the pool's own use; others are not before the system took them.
        let (shrunk, whole) = (scene.shrink(1), options.tuning.huge_pages == HugePages::Always);
        assert!(matches!(shrunk, Err(Error::Again(_))) || whole && shrunk.is_ok(), "{shrunk:?}");
        scene.fill();
        // Compaction set the memory aside to go back. Objects that did not fit elsewhere took as much again at most.
        assert!(scene.pool.total_pages() <= 2 * before);
        scene.free_all_but(10);
        heal(&faults);
        assert!(scene.compact() > 0);
        assert!(scene.pool.total_pages() < before);
        scene.end();
    }
}

#[test]
fn refusals_at_creation_say_what_was_refused() {
    let file = options(MAX_BYTES, Backing::MemoryFile);
    let private = PoolOptions {
        tuning: PoolTuning { dont_fork: true, ..PoolTuning::default() },
        ..options(MAX_BYTES, Backing::Anonymous)
    };
    let cases = [
        (&private, Call::Map, "RLIMIT_AS"),
        (&private, Call::Commit, "tables"),
        (&private, Call::ForkGuard, "forked child"),
        (&private, Call::Advise, "advice"),
        (&file, Call::Map, "RLIMIT_AS"),
        (&file, Call::MemoryFile, "memory file"),
    ];
    for (options, call, part) in cases {
        let faults = Arc::<Faults>::default();
        faults.fail(call, 1, 0);
        let error = pool_with(&faults, options).err().unwrap();
        assert!(error.text().contains(part) && error.to_string().contains("(errno "), "{call:?}: {error}");
    }
}

/// Without a capacity, smaller and smaller ones are tried.
#[test]
fn a_pool_without_a_capacity_takes_the_addresses_it_gets() {
    let options = PoolOptions::default();
    let full = pool_with(&Arc::default(), &options).unwrap().stats().unwrap().max_bytes;
    let faults = Arc::<Faults>::default();
    faults.fail(Call::Map, 1, 2);
    let pool = pool_with(&faults, &options).unwrap();
    assert_eq!(pool.stats().unwrap().max_bytes / PAGE as u64, full / 4 / PAGE as u64);
}

#[test]
fn supplied_memory_may_be_refused_too() {
    let bytes = 8 << 20;
    let system = Os::default();
    let memory: Mapping = system.reserve(bytes, PAGE).unwrap();
    system.commit(memory.base().as_ptr(), bytes).unwrap();
    // SAFETY: the mapping outlives the pools made of it, one after the other, and is used by nobody else.
    let lent = unsafe { LentMemory::new(memory.base().as_ptr(), bytes, true) };
    let options = PoolOptions { backing: Backing::Lent(lent), ..PoolOptions::default() };
    assert!(sweep_supplied(&options) > 10);
}

fn sweep_supplied(options: &PoolOptions) -> u64 {
    (1..)
        .find(|&n| {
            let faults = Arc::<Faults>::default();
            faults.fail(Call::Release, n, 1);
            let mut scene = Scene::new(&faults, options);
            scene.work();
            let met = faults.seen(Call::Release) >= n;
            heal(&faults);
            scene.free_all_but(u64::MAX);
            scene.compact();
            !met
        })
        .expect("the workload ends")
}

/// A system without huge pages of its own says so, and nothing else breaks.
#[test]
fn a_pool_of_huge_pages_works_or_says_what_is_missing() {
    let faults = Arc::<Faults>::default();
    let pool = match pool_with(&faults, &options(MAX_BYTES, Backing::HugePages)) {
        Ok(pool) => pool,
        Err(error) => {
            let missing = ["hugetlbfs", "addresses", "vm.nr_hugepages"];
            assert!(missing.iter().any(|what| error.text().contains(what)), "{error}");
            return;
        }
    };
    let handle = pool.malloc_raw(100).unwrap();
    free(&pool, handle).unwrap();
    faults.fail(Call::Allocate, 1, 1);
    pool.compact(&CompactBudget::default()).unwrap();
    assert!(pool.malloc_raw(100).is_err());
    pool.malloc_raw(100).unwrap();
    pool.check();
}
