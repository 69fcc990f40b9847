//! Many threads in one pool. Each writes and verifies objects of its own, reads those of all, and frees those of
//! others.
//!
//! `ZSALLOC_THREAD_STEPS=n` sets how many steps each thread takes, `ZSALLOC_THREAD_SEED=n` which steps.

use super::shared::{Rng, assert_holds, free, number, options, pattern, set_evict, store, unmap, write};
use crate::error::sentence;
use crate::geometry::MAX_ALLOC_SIZE;
use crate::tests::shared::ReadObject;
use crate::{Backing, CompactBudget, Error, HugePages, MapMode, Pool, PoolOptions, PoolTuning};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

const WORKERS: u64 = 4;
/// How many objects nobody writes or frees.
const SHARED: u64 = 600;
/// Objects that a worker has at most, and at least, in turns of this many steps: what is freed leaves room to move to.
const OWN: [usize; 2] = [400, 60];
const TURN: u64 = 1000;

/// An object: its handle, the key of its pattern, and its size.
type Object = (u64, u64, usize);

struct Worker<'a> {
    pool: &'a Pool,
    rng: Rng,
    sizes: &'a [usize],
    shared: &'a [Object],
    own: Vec<Object>,
    /// Objects on their way to the next worker, which frees them, and those from the worker before.
    to: Sender<Object>,
    from: Receiver<Object>,
}

impl Worker<'_> {
    fn work(&mut self, steps: u64) {
        for step in 0..steps {
            let aim = OWN[(step / TURN % 2) as usize];
            match self.rng.below(100) {
                0..60 if self.own.len() < aim => self.malloc(),
                0..20 => self.send(),
                20..50 => self.free(),
                50..60 => self.free_mapped(),
                60..75 => self.read_shared(),
                75..90 => self.rewrite(),
                _ => self.verify(),
            }
            self.from.try_iter().for_each(|object| self.free_verified(object));
        }
    }

    fn malloc(&mut self) {
        let (key, size) = (self.rng.next(), self.rng.pick(self.sizes));
        match store(self.pool, key, size) {
            Ok(handle) => self.own.push((handle, key, size)),
            Err(error) => assert!(matches!(error, Error::Limit(_)), "{error:?}"),
        }
    }

    fn read_shared(&mut self) {
        let (handle, key, size) = self.rng.pick(self.shared);
        let object = self.pool.map_raw(handle, MapMode::Read).unwrap();
        // SAFETY: it is mapped, that long, and nobody writes it.
        assert!(unsafe { std::slice::from_raw_parts(object, size) } == pattern(key, size));
        unmap(self.pool, handle).unwrap();
    }

    /// Replaces the bytes of an object, in place or by copy. A mover of it copies the old bytes or the new ones.
    fn rewrite(&mut self) {
        if self.own.is_empty() {
            return;
        }
        let at = self.rng.below(self.own.len());
        let (handle, key, size) = &mut self.own[at];
        let next = self.rng.next();
        if self.rng.chance(20) {
            write(self.pool, *handle, pattern(next, *size)).unwrap();
        } else {
            let object = self.pool.map_raw(*handle, MapMode::ReadWrite).unwrap();
            // SAFETY: it is mapped, that long, and this thread alone uses it.
            let bytes = unsafe { std::slice::from_raw_parts_mut(object, *size) };
            assert!(*bytes == *pattern(*key, *size), "before it is rewritten");
            bytes.copy_from_slice(pattern(next, *size));
            unmap(self.pool, *handle).unwrap();
        }
        *key = next;
    }

    fn verify(&mut self) {
        if !self.own.is_empty() {
            let (handle, key, size) = self.rng.pick(&self.own);
            assert_holds(self.pool, handle, key, size);
        }
    }

    fn take(&mut self) -> Option<Object> {
        (!self.own.is_empty()).then(|| self.own.swap_remove(self.rng.below(self.own.len())))
    }

    fn send(&mut self) {
        let object = self.take();
        object.into_iter().for_each(|object| self.to.send(object).unwrap());
    }

    fn free(&mut self) {
        let object = self.take();
        object.into_iter().for_each(|object| self.free_verified(object));
    }

    fn free_verified(&self, (handle, key, size): Object) {
        assert_holds(self.pool, handle, key, size);
        free(self.pool, handle).unwrap();
        assert!(self.pool.map_raw(handle, MapMode::Read).is_err());
    }

    /// Frees an object while it is mapped, and uses it until it is unmapped.
    fn free_mapped(&mut self) {
        let Some((handle, key, size)) = self.take() else { return };
        let object = self.pool.map_raw(handle, MapMode::ReadWrite).unwrap();
        free(self.pool, handle).unwrap();
        // SAFETY: it is still mapped, that long, and this thread alone uses it.
        assert!(unsafe { std::slice::from_raw_parts(object, size) } == pattern(key, size));
        // SAFETY: as above.
        unsafe { object.write_bytes(0xee, size) };
        unmap(self.pool, handle).unwrap();
        assert!(self.pool.map_raw(handle, MapMode::Read).is_err());
    }
}

/// Compacts and shrinks until the others are done. Its callback keeps all objects: it is there to isolate zspages.
fn disturb(pool: &Pool, done: &AtomicBool) {
    let look = |pool: &Pool, handle: u64| {
        // Its owner may have freed it meanwhile.
        let _ = pool.read_object(handle, &mut [0; 16]);
        Err(Error::Again(sentence(&"the test's callback keeps all")))
    };
    set_evict(pool, look);
    let mut turn = 0;
    while !done.load(Relaxed) {
        turn += 1;
        pool.compact(&CompactBudget {
            max_bytes_moved: [None, Some(1), Some(5000), Some(50_000)][turn % 4],
            max_time: None,
        })
        .unwrap();
        if turn % 8 == 0 {
            assert!(matches!(pool.shrink(1), Ok(_) | Err(Error::Again(_))));
        }
        pool.stats().unwrap();
    }
}

fn shared_objects(pool: &Pool, rng: &mut Rng, sizes: &[usize]) -> Vec<Object> {
    let object = |key| {
        let size = rng.pick(sizes);
        (store(pool, key, size).unwrap(), key, size)
    };
    (0..SHARED).map(object).collect()
}

fn run(options: &PoolOptions, disturbers: usize) {
    let seed = number("ZSALLOC_THREAD_SEED").unwrap_or(1);
    let steps = number("ZSALLOC_THREAD_STEPS").unwrap_or(if cfg!(debug_assertions) { 50_000 } else { 400_000 });
    println!("threads: {options:?}, ZSALLOC_THREAD_SEED={seed} ZSALLOC_THREAD_STEPS={steps}");
    let (pool, mut rng) = (Pool::new("threads", options).unwrap(), Rng::new(seed));
    let sizes: Vec<_> = (0..3).map(|_| rng.between(16, MAX_ALLOC_SIZE)).collect();
    let shared = shared_objects(&pool, &mut rng, &sizes);
    let (mut senders, mut receivers): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| channel()).unzip();
    // Each sends to the next.
    senders.rotate_left(1);
    let done = AtomicBool::new(false);
    let mut left = shared.clone();
    thread::scope(|threads| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let rng = Rng::new(seed ^ (number + 1) << 32);
                let (to, from) = (senders.remove(0), receivers.remove(0));
                let (pool, sizes, shared) = (&pool, &sizes[..], &shared[..]);
                let mut worker = Worker { pool, rng, sizes, shared, own: Vec::new(), to, from };
                threads.spawn(move || {
                    worker.work(steps);
                    (worker.own, worker.from)
                })
            })
            .collect();
        (0..disturbers).for_each(|_| _ = threads.spawn(|| disturb(&pool, &done)));
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        // Set also if a thread failed, because the scope waits for the others.
        done.store(true, Relaxed);
        for (own, from) in results.into_iter().map(Result::unwrap) {
            left.extend(own.into_iter().chain(from.try_iter()));
        }
    });
    end(&pool, left);
}

/// Checks that all objects are there, and no others.
fn end(pool: &Pool, left: Vec<Object>) {
    pool.check();
    assert_eq!(pool.mappings(), 0);
    assert_eq!(pool.stats().unwrap().objects, left.len() as u64);
    left.iter().for_each(|&(handle, key, size)| assert_holds(pool, handle, key, size));
    pool.compact(&CompactBudget::default()).unwrap();
    left.iter().for_each(|&(handle, key, size)| assert_holds(pool, handle, key, size));
    left.iter().for_each(|&(handle, ..)| free(pool, handle).unwrap());
    pool.compact(&CompactBudget::default()).unwrap();
    pool.check();
    let stats = pool.stats().unwrap();
    assert_eq!((stats.objects, stats.zspages, stats.chunks), (0, 0, 0), "{stats:?}");
    println!("threads: {} objects moved, {} pages compacted", stats.objects_moved, stats.pages_compacted);
}

#[test]
fn in_private_memory() {
    run(&options(64 << 20, Backing::Anonymous), 1);
}

#[test]
fn in_a_memory_file_with_two_compactors() {
    run(&options(64 << 20, Backing::MemoryFile), 2);
}

#[test]
fn in_a_hardened_pool() {
    run(&PoolOptions { hardened: true, ..options(64 << 20, Backing::Anonymous) }, 1);
}

#[test]
fn in_huge_pages() {
    run(
        &PoolOptions {
            tuning: PoolTuning { huge_pages: HugePages::Always, ..PoolTuning::default() },
            ..options(64 << 20, Backing::Anonymous)
        },
        1,
    );
}

#[test]
fn at_the_limit() {
    run(&options(3 << 20, Backing::Anonymous), 1);
}
