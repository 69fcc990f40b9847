//! Takes the steps, and checks the world after each.

use super::action::{Action, CALLS, Wrong, area_shape, has_room};
use super::callback::{Shared, callback, lock, plain, shrink, shrink_by};
use super::pages;
use super::verify::file_delta;
use super::world::{AnyClaim, AreaModel, BackingKind, HeldClaim, Shape, World};
use crate::os::{Os, injected::Faults};
use crate::plumbing::zswap::{self as plumbing, RawClaim};
use crate::tests::shared::Rng;
use crate::tests::shared::unless_zero;
use crate::{Area, AreaOptions, Codec, CompactBudget, Error, LoadFlags, MAX_BATCH, PAGE_SIZE, Patience, Result};
use crate::{ShrinkOptions, Zswap};
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, FromRawFd};
use std::sync::{Arc, Mutex, MutexGuard};

/// How many of the last steps are printed when one fails.
const TRAIL: usize = 40;
/// Steps between comparisons of the whole, and of every byte.
const WHOLE: u64 = 1024;
const BYTES: u64 = 16 * WHOLE;

/// A run of the model. If it is dropped in a panic, it says how to repeat the run.
pub struct Run {
    seed: u64,
    step: u64,
    /// The last steps, and their errors.
    trail: VecDeque<(u64, Action, i32)>,
    faults: Arc<Faults>,
    pub(super) world: Shared,
    /// An area that was removed, with a claim that was ended.
    removed: Option<Area>,
    ended: RawClaim,
    met: Met,
}

/// What a run has met, so that a change which keeps it from meeting something shows.
#[derive(Default, Debug)]
struct Met {
    zswaps: u64,
    refused: u64,
    counts: crate::Counts,
    /// Extents put on tiers that were there at the end of a zswap, pages moved, and failures: full, away, damaged.
    tiers: [u64; 5],
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("zswap model: failed at step {} of ZSALLOC_MODEL_SEED={}, after", self.step, self.seed);
            for (step, action, errno) in &self.trail {
                eprintln!("  {step}: {action:x?} -> {errno}");
            }
            eprintln!("  with {:?}", lock(&self.world).shape);
        }
    }
}

fn create(faults: &Arc<Faults>, shape: &Shape) -> Zswap {
    Zswap::with_os(Os { faults: Some(faults.clone()) }, "test", &shape.options()).expect("nothing fails yet")
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let shape = Shape::draw(&mut rng);
        let faults = Arc::default();
        let ceiling = if shape.max_bytes == 0 { u64::MAX } else { shape.max_bytes };
        let world = World {
            rng,
            zswap: Arc::new(create(&faults, &shape)),
            shape,
            areas: Vec::new(),
            claims: Vec::new(),
            codec: Codec::Lz4,
            max: shape.max_bytes,
            ceiling,
            backing: BackingKind::Nothing,
            tiers: Vec::new(),
            armed: false,
            depth: 0,
            went: Vec::new(),
            failed: false,
            next_version: 0,
        };
        let world = Arc::new(Mutex::new(world));
        let (trail, met) = (VecDeque::with_capacity(TRAIL), Met::default());
        let mut run = Self { seed, step: 0, trail, faults, world, removed: None, ended: RawClaim::default(), met };
        run.settle();
        run
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// Gives a new zswap its first areas and its callback.
    fn settle(&mut self) {
        self.add_area(false, 0, false, false).expect("nothing fails yet");
        self.add_area(true, 0, false, false).expect("nothing fails yet");
        self.back(BackingKind::Callback).expect("nothing is on a file yet");
    }

    pub fn step(&mut self) {
        self.step += 1;
        let action = Action::draw(&mut self.world());
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back((self.step, action, -1));
        let result = self.apply(action);
        self.met.refused += u64::from(result.is_err());
        self.trail.back_mut().expect("just pushed").2 = result.map_or_else(Error::errno, |()| 0);
        let step = self.step;
        let mut world = self.world();
        assert!(world.depth == 0 && world.went.is_empty() && !world.failed);
        let areas = world.areas.len() as u64;
        world.check_area((step % areas) as usize);
        if step.is_multiple_of(WHOLE) {
            world.check_all();
            world.zswap.pool().check();
        }
        if step.is_multiple_of(BYTES) {
            world.check_bytes();
        }
    }

    fn apply(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Store { at, offset, page } => self.world().store(at, offset, page),
            Action::StorePages { at, offset, count, key } => {
                let mut rng = Rng::new(key);
                let which: Vec<_> = (0..count).map(|_| pages::draw(&mut rng)).collect();
                self.world().store_pages(at, offset, &which)
            }
            Action::Load { at, offset, flags } => self.world().load(at, offset, flags),
            Action::LoadPages { at, offset, count, flags } => {
                let offsets: Vec<_> = (offset..offset + count).collect();
                self.world().load_pages(at, &offsets, true, flags)
            }
            Action::LoadScattered { at, count, flags } => self.load_scattered(at, count, flags),
            Action::Invalidate { at, offset, count, patience } => self.world().invalidate(at, offset, count, patience),
            Action::NextStored { at, from } => self.world().next_stored(at, from),
            Action::Shrink { pages } => self.shrink(None, &plain(pages)),
            Action::ShrinkArea { at, pages } => self.shrink(Some(at), &plain(pages)),
            Action::ShrinkBy { at, options } => self.shrink(at, &options),
            Action::Age { at } => self.world().areas[at].area.age(),
            Action::Begin { at, most, other } => self.world().begin(at, most, other),
            Action::End { index, result } => {
                let ended = match self.world().claims[index].claim {
                    AnyClaim::Raw(claim) => claim,
                    AnyClaim::Guard(_) => self.ended,
                };
                self.ended = ended;
                self.world().end(index, result)
            }
            Action::Back { by: BackingKind::Tiers } => self.back_by_tiers(),
            Action::Back { by } => self.back(by),
            Action::ChangeTiers => self.change_tiers(),
            Action::SetLimit { bytes } => self.set_limit(bytes),
            Action::SetAreaLimit { at, bytes } => self.set_area_limit(at, bytes),
            Action::SetCodec { codec } => {
                let mut world = self.world();
                world.codec = codec;
                world.zswap.set_codec(codec)
            }
            Action::Recompress { at, pages, codec } => self.world().recompress(at, pages, codec),
            Action::Compact { bytes } => {
                let budget = CompactBudget { max_bytes_moved: unless_zero(bytes), max_time: None };
                self.world().zswap.compact(&budget).map(drop)
            }
            Action::AddArea { large, max, refuse, never } => self.add_area(large, max, refuse, never),
            Action::RemoveArea { at } => self.remove_area(at),
            Action::Wrong { at, wrong } => self.wrong(at, wrong),
            Action::FailCall { call, n, times } => {
                self.faults.fail(call, n, times);
                self.world().armed = true;
                Ok(())
            }
            Action::Heal => {
                self.heal();
                Ok(())
            }
            Action::Restart { shape } => self.restart(shape),
        }
    }

    fn heal(&mut self) {
        CALLS.iter().for_each(|&call| self.faults.heal(call));
        let mut world = self.world();
        world.armed = false;
        world.heal_tiers();
    }

    /// Loads from random offsets, some of them twice.
    fn load_scattered(&mut self, at: usize, count: u64, flags: LoadFlags) -> Result<()> {
        let mut world = self.world();
        let World { areas, rng, .. } = &mut *world;
        let offsets: Vec<_> = (0..count).map(|_| areas[at].draw_offset(rng)).collect();
        world.load_pages(at, &offsets, false, flags)
    }

    fn shrink(&mut self, at: Option<usize>, options: &ShrinkOptions) -> Result<()> {
        let (zswap, backing, area) = {
            let world = self.world();
            (world.zswap.clone(), world.backing, at.map(|at| world.areas[at].area.clone()))
        };
        match backing {
            BackingKind::Callback => shrink(&self.world, &zswap, area.as_ref(), options),
            BackingKind::Nothing => {
                let result = shrink_by(&zswap, area.as_ref(), options);
                assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
                result.map(drop)
            }
            BackingKind::File(_) | BackingKind::Tiers => {
                let before = file_delta(&self.world());
                let result = shrink_by(&zswap, area.as_ref(), options);
                let mut world = self.world();
                let written = file_delta(&world) - before;
                assert_eq!(result.unwrap_or(0), written, "{result:?}");
                world.note_file_writes();
                let never = area.is_some_and(|area| world.areas[world.find(area.id())].options.no_writeback);
                let refused = matches!(result, Ok(_) | Err(Error::Again(_) | Error::NotFound(_)));
                assert!(refused != never, "{result:?}");
                result.map(drop)
            }
        }
    }

    /// Sets where pages are written back to. Refused while pages are on the file.
    fn back(&mut self, by: BackingKind) -> Result<()> {
        let shared = self.world.clone();
        let mut world = self.world();
        let zswap = world.zswap.clone();
        let on_file = zswap.stats()?.counts.file_pages;
        let result = match by {
            BackingKind::Nothing if world.rng.chance(50) => zswap.set_backing_file(None),
            BackingKind::Nothing => zswap.clear_writeback(),
            BackingKind::Callback => zswap.set_writeback(callback(&shared)),
            BackingKind::File(pages) => {
                let file = open_file(pages);
                zswap.set_backing_file(Some((file.as_fd(), pages * PAGE_SIZE as u64)))
            }
            BackingKind::Tiers => unreachable!("they are added one by one"),
        };
        match result {
            Ok(()) => (world.backing, world.tiers) = (by, Vec::new()),
            Err(Error::Busy(_)) => assert!(on_file > 0),
            Err(error) => assert!(world.armed && matches!(by, BackingKind::File(_)), "{error}"),
        }
        assert!(result.is_err() || on_file == 0, "the file went, and pages are on it");
        result
    }

    fn set_limit(&mut self, bytes: u64) -> Result<()> {
        let mut world = self.world();
        world.zswap.set_limit(unless_zero(bytes))?;
        world.max = bytes;
        let max = if bytes == 0 { u64::MAX } else { bytes };
        world.ceiling = max.max(world.zswap.stats()?.used_bytes);
        Ok(())
    }

    fn set_area_limit(&mut self, at: usize, bytes: u64) -> Result<()> {
        let mut world = self.world();
        let model = &mut world.areas[at];
        model.area.set_limit(unless_zero(bytes))?;
        model.max = bytes;
        let max = if bytes == 0 { u64::MAX } else { bytes };
        model.ceiling = max.max(model.area.stats()?.used_bytes);
        Ok(())
    }

    fn add_area(&mut self, large: bool, max: u64, refuse: bool, never: bool) -> Result<()> {
        let mut world = self.world();
        if !has_room(&world) {
            return Ok(());
        }
        let (pages, options, windows, width) = area_shape(&mut world.rng, large, max, refuse, never);
        match world.zswap.add_area(pages, &options) {
            Ok(area) => {
                assert_eq!((area.pages(), area.context()), (pages, options.context));
                assert!(world.areas.iter().all(|model| model.area.id() < area.id()));
                world.areas.push(AreaModel::new(area, options, windows, width));
                Ok(())
            }
            Err(error) => {
                assert!(world.armed && matches!(error, Error::NoMemory(_)), "{error}");
                Err(error)
            }
        }
    }

    /// Removes an area, or is refused because a claim on it is held. One area stays.
    fn remove_area(&mut self, at: usize) -> Result<()> {
        let mut world = self.world();
        if world.areas.len() == 1 {
            return Ok(());
        }
        let removed = world.areas[at].area.remove();
        if let Err(error) = removed {
            assert!(matches!(error, Error::Busy(_)) && !world.areas[at].running.is_empty(), "{error}");
            return removed;
        }
        let model = world.areas.remove(at);
        assert!(model.running.is_empty(), "an area with claims was removed");
        if world.rng.chance(50) {
            drop(world);
            self.removed = Some(model.area);
        }
        Ok(())
    }

    fn wrong(&mut self, at: usize, wrong: Wrong) -> Result<()> {
        let ended = self.ended;
        let removed = self.removed.clone();
        let mut world = self.world();
        let zswap = world.zswap.clone();
        let raw = |held: &HeldClaim| match held.claim {
            AnyClaim::Raw(claim) => Some((held.area, claim)),
            AnyClaim::Guard(_) => None,
        };
        let held = world.claims.iter().filter_map(raw).any(|(_, claim)| claim == ended);
        let claim = world.claims.iter().find_map(raw);
        let model = &mut world.areas[at];
        let (area, pages) = (&model.area, model.area.pages());
        let mut page = [0; PAGE_SIZE];
        let result = match wrong {
            Wrong::PastEnd => {
                assert!(matches!(area.load(pages, &mut page, LoadFlags::TAKE), Err(Error::OutOfRange(_))));
                assert!(matches!(area.store_pages(pages, &[page]), Err(Error::OutOfRange(_))));
                assert!(matches!(area.invalidate(1, pages, Patience::Wait), Err(Error::OutOfRange(_))));
                assert!(matches!(area.invalidate(u64::MAX, u64::MAX, Patience::Wait), Err(Error::OutOfRange(_))));
                let mut two = [[0; PAGE_SIZE]; 2];
                let scattered = area.load_scattered(&[0, pages], &mut two, LoadFlags::TAKE, |_, _| panic!("loaded"));
                assert!(matches!(scattered, Err(Error::OutOfRange(_))));
                area.store(u64::MAX, &page)
            }
            // SAFETY: the number of pages is looked at first.
            Wrong::LongBatch => unsafe { plumbing::store_pages_from(area, 0, page.as_ptr(), MAX_BATCH + 1) },
            Wrong::Unequal => area.load_scattered(&[0, 0], &mut [page], LoadFlags::KEEP, |_, _| panic!("loaded")),
            Wrong::EndedClaim if held => return Ok(()),
            Wrong::EndedClaim => plumbing::end_writeback(area, &ended, Ok(())).map(drop),
            Wrong::ForeignClaim => match claim {
                Some((of, claim)) if of != area.id() => plumbing::end_writeback(area, &claim, Ok(())).map(drop),
                _ => {
                    plumbing::end_writeback(area, &RawClaim { offset: 0, ticket: u64::MAX, bytes: 0 }, Ok(())).map(drop)
                }
            },
            Wrong::Level => {
                assert!(matches!(area.recompress(1, Codec::Zstd(23)), Err(Error::Invalid(_))));
                zswap.set_codec(Codec::Zstd(-1))
            }
            Wrong::RemovedArea => removed.map_or(Err(Error::Removed), refused_removed),
            Wrong::NoPages => zswap.add_area(0, &AreaOptions::default()).map(drop),
            Wrong::BadFile => {
                let device = File::options().read(true).write(true).open("/dev/null").expect("there is such a device");
                assert!(matches!(zswap.set_backing_file(Some((device.as_fd(), 1 << 20))), Err(Error::Invalid(_))));
                zswap.set_backing_file(Some((device.as_fd(), PAGE_SIZE as u64 - 1)))
            }
        };
        let is_refused = match wrong {
            Wrong::PastEnd => matches!(result, Err(Error::OutOfRange(_))),
            Wrong::EndedClaim | Wrong::ForeignClaim => matches!(result, Err(Error::Stale(_))),
            Wrong::RemovedArea => result == Err(Error::Removed),
            _ => matches!(result, Err(Error::Invalid(_))),
        };
        assert!(is_refused, "{wrong:?}: {result:?}");
        result
    }

    /// Ends all claims, empties every area, and compares what is left to nothing.
    fn empty(&mut self) {
        self.heal();
        let mut world = self.world();
        while !world.claims.is_empty() {
            world.end(0, Ok(())).expect("a claim can be ended");
        }
        world.check_all();
        world.check_bytes();
        for at in 0..world.areas.len() {
            let pages = world.areas[at].area.pages();
            world.invalidate(at, 0, pages, Patience::Wait).expect("nothing is being written back");
            world.check_area(at);
        }
        let zswap = world.zswap.clone();
        world.areas.drain(..).for_each(|model| model.area.remove().expect("nothing runs on it"));
        drop(world);
        for tier in zswap.snapshot().expect("statistics are not refused").tiers {
            let crate::TierStats { puts, moved, full, away, damaged, .. } = tier.stats;
            self.met.tiers.iter_mut().zip([puts, moved, full, away, damaged]).for_each(|(sum, more)| *sum += more);
        }
        self.met.counts.add(&zswap.stats().expect("statistics are not refused").counts);
        zswap.compact(&CompactBudget::default()).expect("compaction is not refused");
        let (stats, pool) = (zswap.stats().unwrap(), zswap.pool().stats().unwrap());
        assert_eq!((stats.used_bytes, stats.counts.pages(), stats.file_bytes, stats.areas), (0, 0, 0, 0));
        assert_eq!((pool.objects, pool.zspages, pool.chunks), (0, 0, 0), "{pool:?}");
    }

    fn restart(&mut self, shape: Shape) -> Result<()> {
        self.empty();
        self.removed = None;
        self.met.zswaps += 1;
        let zswap = Arc::new(create(&self.faults, &shape));
        let mut world = self.world();
        let old = std::mem::replace(&mut world.zswap, zswap);
        world.shape = shape;
        (world.codec, world.max, world.backing) = (Codec::Lz4, shape.max_bytes, BackingKind::Nothing);
        world.tiers = Vec::new();
        world.ceiling = if shape.max_bytes == 0 { u64::MAX } else { shape.max_bytes };
        drop(world);
        assert_eq!(Arc::strong_count(&old), 1);
        drop(old);
        self.settle();
        Ok(())
    }

    pub fn finish(mut self) {
        self.empty();
        println!("zswap model: {:?}", self.met);
    }
}

/// Opens a file to write pages to. One in eight is sealed against growing, so it never has room.
fn open_file(pages: u64) -> File {
    // SAFETY: the name is a C string, and the call touches no other memory.
    let fd = unsafe { libc::memfd_create(c"backing".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    assert!(fd >= 0, "the test has memory");
    // SAFETY: the descriptor was just made, and has no other owner.
    let file = unsafe { File::from_raw_fd(fd) };
    if pages.is_multiple_of(8) {
        // SAFETY: the call takes numbers only.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_GROW) }, 0);
    }
    file
}

/// Checks that an area that was removed refuses every call.
fn refused_removed(area: Area) -> Result<()> {
    let mut page = [0; PAGE_SIZE];
    assert!(matches!(area.load(0, &mut page, LoadFlags::KEEP), Err(Error::Removed)));
    assert!(matches!(area.invalidate(0, 1, Patience::Wait), Err(Error::Removed)));
    assert!(matches!(area.claim(&mut page), Err(Error::Removed)));
    assert!(matches!(area.recompress(1, Codec::Lz4), Err(Error::Removed)));
    assert!(matches!(area.stats(), Err(Error::Removed)));
    assert!(matches!(plumbing::next_stored(&area, 0), Err(Error::Removed)) && area.stored().next().is_none());
    assert!(matches!(area.remove(), Err(Error::Removed)));
    area.store(0, &page)
}
