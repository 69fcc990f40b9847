//! Takes the steps, and checks the pool and the world after each.

use super::action::{Action, CALLS, Memory, Misuse, Shape};
use super::evict;
use super::world::{Dying, World};
use crate::geometry::MAX_ALLOC_SIZE;
use crate::os::injected::Faults;
use crate::os::{Mapping, Os};
use crate::tests::shared::ReadObject;
use crate::tests::shared::{Rng, file_pages, open_shelves, pattern, pool_with, run_on, set_evict, unless_zero, write};
use crate::units::PAGE;
use crate::{Backing, CompactBudget, Error, LentMemory, Limit, MapMode, Pool, PoolStats, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The state that the callback shares with the steps.
pub type Shared = Arc<Mutex<World>>;

/// The world, also after a step that failed.
pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many steps are printed when one fails.
const TRAIL: usize = 30;

/// A run of the model. Dropped in a panic, it prints how to repeat the run.
pub struct Run {
    seed: u64,
    step: u64,
    /// The last steps, and their errors.
    trail: VecDeque<(u64, Action, i32)>,
    faults: Arc<Faults>,
    /// Calls that may fail now.
    armed: bool,
    world: Shared,
    pool: Option<Pool>,
    /// The memory that was supplied to the pool. Dropped after the pool.
    lent: Option<Mapping>,
    met: Met,
}

/// How often a run met each case, so that a change that keeps it from a case shows.
#[derive(Default, Debug)]
struct Met {
    pools: u64,
    refused: u64,
    mallocs: u64,
    objects_moved: u64,
    pages_compacted: u64,
    pages_reclaimed: u64,
}

impl Met {
    /// Adds the counts of a pool that goes.
    fn end_pool(&mut self, stats: &PoolStats) {
        self.pools += 1;
        self.objects_moved += stats.objects_moved;
        self.pages_compacted += stats.pages_compacted;
        self.pages_reclaimed += stats.pages_reclaimed;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("model: failed at step {} of ZSALLOC_MODEL_SEED={}, after", self.step, self.seed);
            for (step, action, errno) in &self.trail {
                eprintln!("  {step}: {action:x?} -> {errno}");
            }
            eprintln!("  with {:?}", lock(&self.world).shape);
        }
    }
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let shape = Action::create(&mut rng);
        let world = Arc::new(Mutex::new(World::new(rng, shape, seed.is_multiple_of(4))));
        let (trail, met) = (VecDeque::with_capacity(TRAIL), Met::default());
        let mut run =
            Self { seed, step: 0, trail, faults: Arc::default(), armed: false, world, pool: None, lent: None, met };
        run.create(shape).expect("the first pool is created");
        run
    }

    pub fn step(&mut self) {
        self.step += 1;
        let action = Action::draw(&mut lock(&self.world));
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back((self.step, action, -1));
        let errno = self.apply(action).map_or_else(Error::errno, |()| 0);
        self.trail.back_mut().expect("just pushed").2 = errno;
        self.check();
    }

    fn unmap_all(&mut self) {
        let dying = self.world().dying.len();
        (0..dying).for_each(|_| self.unmap_dying(0).expect("what is mapped can be unmapped"));
        while let Some(handle) = { self.world().any_mapped() } {
            self.unmap(handle).expect("what is mapped can be unmapped");
        }
    }

    /// Unmaps and frees everything, and destroys the pool.
    pub fn finish(mut self) {
        self.heal();
        self.unmap_all();
        while let Some(handle) = { self.world().any_handle() } {
            self.free(handle).expect("what is live can be freed");
        }
        self.check();
        self.pool().compact(&CompactBudget::default()).expect("compaction is not refused");
        let stats = self.pool().stats().expect("statistics are not refused");
        assert_eq!((stats.objects, stats.zspages, stats.chunks), (0, 0, 0), "an empty pool holds nothing: {stats:?}");
        self.met.end_pool(&stats);
        println!("model: {:?}", self.met);
        self.pool().check_unmapped().expect("nothing is mapped");
    }

    fn pool(&self) -> &Pool {
        self.pool.as_ref().expect("there is always a pool between steps")
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn check(&self) {
        let pool = self.pool();
        pool.check();
        let stats = pool.stats().expect("statistics are not refused");
        self.world().compare_counts(&stats);
        if let Some(pages) = file_pages(pool) {
            assert!(pages <= stats.total_pages, "the file has {pages} pages, {} charged", stats.total_pages);
        }
    }

    fn apply(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Create(shape) => self.replace(shape),
            Action::Destroy => {
                let shape = self.world().shape;
                self.replace(shape)
            }
            Action::Meet { size, processor } => {
                open_shelves(self.pool(), size);
                run_on(processor);
                Ok(())
            }
            Action::Malloc { size } => self.malloc(size),
            Action::MallocMapped { size } => self.malloc_mapped(size),
            Action::Write { handle, bytes, key } => self.write(handle, bytes, key),
            Action::WriteMapped { handle, from, bytes, key } => self.write_mapped(handle, from, bytes, key),
            Action::Read { handle, bytes } => self.read(handle, bytes),
            Action::Map { handle, mode } => self.map(handle, mode),
            Action::Unmap { handle } => self.unmap(handle),
            Action::UnmapDying { index } => self.unmap_dying(index),
            Action::Free { handle } => self.free(handle),
            Action::Misuse { handle, misuse } => self.misuse(handle, misuse),
            Action::WrongSize { handle, bytes } => self.wrong_size(handle, bytes),
            Action::Compact { bytes, microseconds } => self.compact(bytes, microseconds),
            Action::Shrink { pages } => self.shrink(pages),
            Action::SetEvict { on } => self.set_evict(on),
            Action::SetMaxBytes { bytes } => self.set_max_bytes(bytes),
            Action::FailCall { call, n, times } => {
                self.faults.fail(call, n, times);
                self.armed = true;
                Ok(())
            }
            Action::Heal { call } => {
                self.faults.heal(call);
                Ok(())
            }
        }
    }

    fn heal(&mut self) {
        CALLS.iter().for_each(|&call| self.faults.heal(call));
        self.armed = false;
    }

    fn backing(&mut self, shape: Shape) -> Backing {
        let releasable = match shape.memory {
            Memory::Anonymous => return Backing::Anonymous,
            Memory::File => return Backing::MemoryFile,
            Memory::Releasable => true,
            Memory::Lent => false,
        };
        let bytes = (shape.max_bytes as usize).next_multiple_of(PAGE);
        let system = Os::default();
        let memory = system.reserve(bytes, PAGE).expect("the test has addresses");
        system.commit(memory.base().as_ptr(), bytes).expect("the test has memory");
        // SAFETY: the mapping is kept until the pool is dropped, and nobody else knows it.
        let lent = unsafe { LentMemory::new(memory.base().as_ptr(), bytes, releasable) };
        self.lent = Some(memory);
        Backing::Lent(lent)
    }

    /// Creates a pool. While calls fail, it is refused first.
    fn create(&mut self, shape: Shape) -> Result<()> {
        assert!(self.pool.is_none());
        self.lent = None;
        let backing = self.backing(shape);
        let options = shape.options(backing);
        let mut created = pool_with(&self.faults, &options);
        if created.is_err() && self.armed {
            self.heal();
            created = pool_with(&self.faults, &options);
        }
        let pool = created?;
        let mut world = self.world();
        world.begin(shape);
        world.most_pages = pool.page_limit();
        drop(world);
        self.pool = Some(pool);
        Ok(())
    }

    fn replace(&mut self, shape: Shape) -> Result<()> {
        if self.world().rng.chance(80) {
            self.unmap_all();
        }
        let (mappings, stats) = (self.world().mappings(), self.pool().stats()?);
        match self.pool().check_unmapped() {
            Ok(()) => {
                assert_eq!(mappings, 0, "no mapping was found, and objects are mapped");
                self.pool = None;
                self.met.end_pool(&stats);
                self.create(shape)
            }
            Err(error) => {
                assert!(mappings > 0, "a mapping was found, and nothing is mapped: {error}");
                assert!(matches!(error, Error::Busy(_)), "{error:?}");
                Err(error)
            }
        }
    }

    /// Whether an allocation has to succeed, however its class stands.
    fn has_room(&self) -> bool {
        let shape = self.world().shape;
        let lent = matches!(shape.memory, Memory::Lent | Memory::Releasable);
        let (used, limit) = (self.pool().total_pages(), self.pool().page_limit());
        let whole = if shape.huge_pages == crate::HugePages::Always { crate::units::CHUNK_PAGES } else { 0 };
        // Two pages for the slot, and one each for its record, its word, the chunk's record and the group's.
        !lent && !self.armed && used + 6 + whole as u64 <= limit
    }

    fn malloc(&mut self, size: usize) -> Result<()> {
        let before = self.pool().stats()?;
        let room = (self.has_room(), self.pool().shelves.are_any_in_use());
        self.met.mallocs += 1;
        let handle = self.pool().malloc_raw(size).or_else(|error| self.refused(error, room, &before))?;
        let bytes = self.pool().class_size(size)?;
        self.begin_object(handle, bytes);
        Ok(())
    }

    /// Checks that a refused allocation changed nothing, and that there was no room for it.
    fn refused<T>(&mut self, error: Error, (room, had_shelves): (bool, bool), before: &PoolStats) -> Result<T> {
        self.met.refused += 1;
        assert!(matches!(error, Error::NoMemory(_) | Error::Limit(_)), "{error:?}");
        let addresses = error == Error::Limit(Limit::Addresses);
        assert!(!room || addresses, "refused with room: {error:?}, {before:?}");
        let after = self.pool().stats()?;
        let counts = |stats: &PoolStats| (stats.objects, stats.object_bytes);
        assert_eq!(counts(&after), counts(before), "a refused allocation changed the pool");
        // What was on shelves went back, and may have emptied zspages.
        let as_before = after.zspages == before.zspages || had_shelves && after.zspages < before.zspages;
        assert!(as_before, "a refused allocation changed the zspages: {before:?}, {after:?}");
        Err(error)
    }

    /// Writes a new object for the first time.
    fn begin_object(&self, handle: u64, bytes: usize) {
        let (hardened, key) = {
            let mut world = self.world();
            (world.shape.hardened, world.rng.next())
        };
        new_object(self.pool(), handle, bytes, key, hardened);
        self.world().insert(handle, pattern(key, bytes).to_vec());
    }

    fn malloc_mapped(&mut self, size: usize) -> Result<()> {
        let before = self.pool().stats()?;
        let room = (self.has_room(), self.pool().shelves.are_any_in_use());
        self.met.mallocs += 1;
        let tag = if self.world().shape.tags { self.world().rng.next() } else { 0 };
        let allocated = match tag {
            0 => self.pool().malloc_mapped_raw(size),
            tag => self.pool().malloc_tagged_raw(size, tag),
        };
        let (handle, address) = allocated.or_else(|error| self.refused(error, room, &before))?;
        let bytes = self.pool().class_size(size)?;
        self.begin_object(handle, bytes);
        self.world().objects.get_mut(&handle).expect("it was noted just now").tag = tag;
        self.world().note_mapped(handle, address);
        Ok(())
    }

    fn write(&mut self, handle: u64, bytes: usize, key: u64) -> Result<()> {
        write(self.pool(), handle, pattern(key, bytes)).expect("a live object can be written");
        let mut world = self.world();
        let object = world.objects.get_mut(&handle).expect("the action names what is there");
        object.bytes[..bytes].copy_from_slice(pattern(key, bytes));
        Ok(())
    }

    fn write_mapped(&mut self, handle: u64, from: usize, bytes: usize, key: u64) -> Result<()> {
        let mut world = self.world();
        let object = world.objects.get_mut(&handle).expect("the action names what is there");
        assert!(object.pins > 0);
        object.bytes[from..from + bytes].copy_from_slice(pattern(key, bytes));
        // SAFETY: the object is mapped there, its slot is long enough, and nothing borrows its bytes.
        unsafe { (object.address as *mut u8).add(from).copy_from(pattern(key, bytes).as_ptr(), bytes) };
        Ok(())
    }

    fn read(&mut self, handle: u64, bytes: usize) -> Result<()> {
        let mut buffer = [0; MAX_ALLOC_SIZE];
        self.pool().read_object(handle, &mut buffer[..bytes]).expect("a live object can be read");
        assert!(buffer[..bytes] == self.world().objects[&handle].bytes[..bytes], "{handle:#x} holds other bytes");
        Ok(())
    }

    fn map(&mut self, handle: u64, mode: MapMode) -> Result<()> {
        if self.world().objects[&handle].pins > 3 {
            return self.unmap(handle);
        }
        let address = self.pool().map_raw(handle, mode).expect("a live object can be mapped");
        self.world().note_mapped(handle, address);
        Ok(())
    }

    fn unmap(&mut self, handle: u64) -> Result<()> {
        let mut world = self.world();
        let object = world.objects.get_mut(&handle).expect("the action names what is there");
        object.check_bytes(handle);
        object.pins -= 1;
        drop(world);
        // SAFETY: the mapping is the world's.
        unsafe { self.pool().unmap_raw(handle) }.expect("what is mapped can be unmapped");
        Ok(())
    }

    fn unmap_dying(&mut self, index: usize) -> Result<()> {
        let mut world = self.world();
        let Dying { handle, object } = &mut world.dying[index];
        let handle = *handle;
        object.check_bytes(handle);
        object.pins -= 1;
        let last = object.pins == 0;
        if last {
            world.dying.swap_remove(index);
            world.note_stale(handle);
        }
        drop(world);
        // SAFETY: the mapping is the world's.
        unsafe { self.pool().unmap_raw(handle) }.expect("what is mapped can be unmapped");
        if last { Ok(()) } else { self.unmap_dying(index) }
    }

    fn free(&mut self, handle: u64) -> Result<()> {
        // SAFETY: the world has no `Handle`s.
        unsafe { self.pool().free_raw(handle) }.expect("a live object can be freed");
        self.world().remove(handle);
        Ok(())
    }

    fn misuse(&mut self, handle: u64, misuse: Misuse) -> Result<()> {
        let (pool, mut buffer) = (self.pool(), [0; 1]);
        // SAFETY: the handle names no object, so nothing is freed, unmapped or written. That is tested here.
        let result = unsafe {
            match misuse {
                Misuse::Map(mode) => pool.map_raw(handle, mode).map(|_| ()),
                Misuse::Unmap => pool.unmap_raw(handle),
                Misuse::Free => pool.free_raw(handle),
                Misuse::Read => pool.read_object(handle, &mut buffer),
                Misuse::Write => write(pool, handle, &buffer),
            }
        };
        assert!(matches!(result, Err(Error::Stale(_))), "{misuse:?} of {handle:#x}: {result:?}");
        self.misuse_dying()
    }

    /// Checks that an object that was freed while mapped can only be unmapped.
    fn misuse_dying(&mut self) -> Result<()> {
        let Some(handle) = self.world().dying.first().map(|dying| dying.handle) else { return Ok(()) };
        let mapped = self.pool().map_raw(handle, MapMode::Read);
        // SAFETY: the object is freed already, so this is refused. That is tested here.
        let freed = unsafe { self.pool().free_raw(handle) };
        assert!(matches!((mapped, freed), (Err(Error::Stale(_)), Err(Error::Stale(_)))), "{mapped:?} {freed:?}");
        Ok(())
    }

    fn wrong_size(&mut self, handle: u64, bytes: usize) -> Result<()> {
        let refused = self.pool().malloc_raw(bytes);
        let expected = if bytes == 0 { "Invalid" } else { "TooLarge" };
        assert!(format!("{refused:?}").starts_with(&format!("Err({expected}")), "malloc of {bytes}: {refused:?}");
        let Some(size) = self.world().objects.get(&handle).map(|object| object.bytes.len()) else { return Ok(()) };
        let mut long = [0; MAX_ALLOC_SIZE + 1];
        let read = self.pool().read_object(handle, &mut long[..=size]);
        let written = write(self.pool(), handle, &long[..=size]);
        assert!(
            matches!((read, written), (Err(Error::OutOfRange(_)), Err(Error::OutOfRange(_)))),
            "{read:?} {written:?}"
        );
        Ok(())
    }

    fn compact(&mut self, bytes: u64, microseconds: u64) -> Result<()> {
        let before = self.pool().total_pages();
        let gone = self.pool().compact(&CompactBudget {
            max_bytes_moved: unless_zero(bytes),
            max_time: unless_zero(Duration::from_micros(microseconds)),
        })?;
        let stats = self.pool().stats()?;
        match self.world().shape.memory {
            Memory::Lent => assert_eq!(gone, 0, "what was supplied for good does not go to the system"),
            _ => assert!(before <= stats.total_pages + gone, "{before} pages, {gone} gone, {stats:?}"),
        }
        self.world().compare_bytes(self.pool());
        Ok(())
    }

    fn shrink(&mut self, pages: u64) -> Result<()> {
        let (objects, has_evict) = {
            let world = self.world();
            (world.objects.len() + world.dying.len(), world.has_evict)
        };
        let result = self.pool().shrink(pages);
        match result {
            Ok(freed) => assert!(has_evict && objects > 0 && (pages == 0 || freed > 0)),
            Err(Error::Invalid(_)) => assert!(!has_evict),
            Err(Error::NotFound(_)) => assert!(has_evict && objects == 0),
            Err(error) => assert!(matches!(error, Error::Again(_)) && has_evict && objects > 0, "{error:?}"),
        }
        assert!(!self.world().failed, "a callback found something wrong");
        self.world().compare_bytes(self.pool());
        result.map(|_| ())
    }

    fn set_evict(&mut self, on: bool) -> Result<()> {
        let world = self.world.clone();
        match on {
            true => set_evict(self.pool(), evict::callback(world)),
            false => self.pool().clear_evict()?,
        }
        self.world().has_evict = on;
        Ok(())
    }

    fn set_max_bytes(&mut self, bytes: u64) -> Result<()> {
        self.pool().set_max_bytes(unless_zero(bytes))?;
        let pages = self.pool().total_pages().max(self.pool().page_limit());
        self.world().most_pages = pages;
        Ok(())
    }
}

/// Writes an object that was just allocated. In a hardened pool it shows nothing of an older one.
pub fn new_object(pool: &Pool, handle: u64, bytes: usize, key: u64, hardened: bool) {
    if hardened {
        let mut buffer = [0xff; MAX_ALLOC_SIZE];
        pool.read_object(handle, &mut buffer[..bytes]).expect("a live object can be read");
        assert!(buffer[..bytes].iter().all(|&byte| byte == 0), "{handle:#x} shows what was freed");
    }
    write(pool, handle, pattern(key, bytes)).expect("a live object can be written");
}
