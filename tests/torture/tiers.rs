//! Tiers that come and go: some in memory of the test's own, and a file. The first one is removed and another one added
//! behind the others, all the time. The test's own are slow, full and away now and then.

use crate::World;
use crate::random::Random;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use zsalloc::{Duty, ExtentId, Pager, Tier, TierFailure, TierOptions, TierResult, TierStats};

/// Bytes of a tier of the test's own. It may be full, so that pages go to those behind it.
const BYTES: [u64; 2] = [2 << 20, 256 << 20];
/// How long a tier is away at most. A touch waits for a second.
const AWAY: u64 = 40;

/// A tier in memory, and what it does wrong now.
#[derive(Default)]
struct Shelf {
    extents: Mutex<HashMap<ExtentId, Vec<u8>>>,
    full: AtomicBool,
    away: AtomicBool,
    /// Each call takes so many microseconds more.
    slow: AtomicU64,
}

struct SharedShelf(Arc<Shelf>);

impl Shelf {
    fn begin(&self) -> TierResult {
        match self.slow.load(Relaxed) {
            0 => {}
            slow => std::thread::sleep(Duration::from_micros(slow)),
        }
        if self.away.load(Relaxed) { Err(TierFailure::Away) } else { Ok(()) }
    }

    fn heal(&self) {
        self.full.store(false, Relaxed);
        self.away.store(false, Relaxed);
        self.slow.store(0, Relaxed);
    }
}

impl Tier for SharedShelf {
    fn put(&self, extent: ExtentId, bytes: &[u8]) -> TierResult {
        if self.0.full.load(Relaxed) {
            return Err(TierFailure::Full);
        }
        // Its answer may be lost.
        let old = self.0.extents.lock().unwrap().insert(extent, bytes.to_vec());
        assert!(old.is_none(), "{extent:?} was put before");
        self.0.begin()
    }

    fn get(&self, extent: ExtentId, from: usize, bytes: &mut [u8]) -> TierResult {
        self.0.begin()?;
        let extents = self.0.extents.lock().unwrap();
        bytes.copy_from_slice(&extents.get(&extent).ok_or(TierFailure::Damaged)?[from..from + bytes.len()]);
        Ok(())
    }

    fn remove(&self, extent: ExtentId) -> TierResult {
        self.0.begin()?;
        self.0.extents.lock().unwrap().remove(&extent);
        Ok(())
    }
}

/// A tier of a pager: its number, and what it is if it is the test's own.
struct AddedTier(u32, Option<Arc<Shelf>>);

/// The tiers of a pager, in their order.
pub struct Tiers<'a> {
    file: (&'a File, u64),
    there: Mutex<VecDeque<AddedTier>>,
}

/// What happened on the tiers of all rounds.
#[derive(Default, Debug)]
struct Sum {
    put_bytes: u64,
    loads: u64,
    moved: u64,
    full: u64,
    away: u64,
    removed_tiers: u64,
}

static SUM: Mutex<Option<Sum>> = Mutex::new(None);

/// Adds the statistics of a tier just before it was removed, and all its pages moved to others.
fn add(stats: &TierStats) {
    let mut sum = SUM.lock().unwrap();
    let sum = sum.get_or_insert_default();
    sum.put_bytes += stats.put_bytes;
    sum.loads += stats.loads;
    sum.moved += stats.pages;
    sum.full += stats.full;
    sum.away += stats.away;
    sum.removed_tiers += 1;
}

impl<'a> Tiers<'a> {
    /// Adds a tier of the test's own, and the first `bytes` bytes of a file behind it. A thread that may call tiers is
    /// lent already.
    pub fn new(pager: &Pager, file: &'a File, bytes: u64) -> Self {
        let tiers = Self { file: (file, bytes), there: Mutex::default() };
        tiers.add_own(pager, BYTES[0]);
        tiers.add_file(pager);
        tiers
    }

    fn add_own(&self, pager: &Pager, max_bytes: u64) {
        let shelf = Arc::<Shelf>::default();
        let options = TierOptions { name: "own".into(), max_bytes };
        let number = pager.add_tier(SharedShelf(shelf.clone()), &options).unwrap();
        self.there.lock().unwrap().push_back(AddedTier(number, Some(shelf)));
    }

    fn add_file(&self, pager: &Pager) {
        let number = pager.add_file_tier("file", self.file.0.as_fd(), self.file.1).unwrap();
        self.there.lock().unwrap().push_back(AddedTier(number, None));
    }

    fn shelves(&self) -> Vec<Arc<Shelf>> {
        self.there.lock().unwrap().iter().filter_map(|AddedTier(_, shelf)| shelf.clone()).collect()
    }

    /// Makes trouble until the world stops.
    pub fn come_and_go(&self, world: &World, seed: u64) {
        let mut random = Random(seed | 1);
        while !world.stop.load(Relaxed) {
            let lent = (random.below(2) == 0).then(|| world.pager.lend(Duty::Tiers).unwrap());
            for _ in 0..1 + random.below(8) {
                trouble(&self.shelves(), &mut random);
            }
            let has_file = self.shelves().len() < self.there.lock().unwrap().len();
            match has_file || random.below(2) == 0 {
                // What is on the first tier has room on this one.
                true => self.add_own(&world.pager, BYTES[1]),
                false => self.add_file(&world.pager),
            }
            if random.below(3) == 0 {
                self.add_own(&world.pager, BYTES[0]);
            }
            while self.there.lock().unwrap().len() > 2 {
                self.remove_first(&world.pager);
            }
            drop(lent);
        }
    }

    /// Removes the first tier. What is on it goes to the others.
    fn remove_first(&self, pager: &Pager) {
        let AddedTier(number, shelf) = self.there.lock().unwrap().pop_front().expect("a tier");
        let until = Instant::now() + Duration::from_secs(60);
        let mut stats = pager.tier_stats(number).unwrap();
        // Calls use it now and then.
        while let Err(error) = pager.remove_tier(number) {
            assert!(Instant::now() < until, "the tier can't be removed: {error}, {stats:?}");
            stats = pager.tier_stats(number).unwrap();
        }
        assert_eq!(stats.damaged, 0);
        add(&stats);
        let Some(shelf) = shelf else { return };
        assert!(shelf.extents.lock().unwrap().is_empty(), "an extent is left on a tier that was removed");
        assert_eq!(Arc::strong_count(&shelf), 1, "a tier that was removed was not dropped");
    }

    /// Removes the tiers of a pager whose regions have gone.
    pub fn end(self, pager: &Pager) {
        while !self.there.lock().unwrap().is_empty() {
            self.remove_first(pager);
        }
    }
}

/// Lets one of the tiers do something wrong for a moment.
fn trouble(shelves: &[Arc<Shelf>], random: &mut Random) {
    if !shelves.is_empty() {
        let shelf = &shelves[random.below(shelves.len() as u64) as usize];
        match random.below(4) {
            0 => shelf.full.store(true, Relaxed),
            1 => shelf.away.store(true, Relaxed),
            2 => shelf.slow.store(random.below(500), Relaxed),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(1 + random.below(AWAY)));
        shelf.heal();
    }
    std::thread::sleep(Duration::from_millis(random.below(AWAY)));
}

/// Prints what happened on all tiers. `all`: the test took long enough to have met everything.
pub fn report(all: bool) {
    let sum = SUM.lock().unwrap().take().unwrap_or_default();
    println!("tiers: {sum:?}");
    let met = [sum.put_bytes, sum.loads, sum.moved, sum.full, sum.away, sum.removed_tiers];
    assert!(!all || met.iter().all(|&count| count > 0), "the tiers were not used: {sum:?}");
}
