//! The steps of the random test, and how often each is chosen.

use super::world::World;
use crate::geometry::MAX_ALLOC_SIZE;
use crate::os::Call;
use crate::tests::shared::Rng;
use crate::{Backing, HugePages, MAX_TAGGED_SIZE, MIN_BYTES, MapMode, PoolOptions, PoolTuning};

/// Kinds of memory that a pool of the model can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Private anonymous.
    Anonymous,
    /// A memory file.
    File,
    /// Supplied, and it may be given back.
    Releasable,
    /// Supplied for good.
    Lent,
}

/// The shape of a pool of the model.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub memory: Memory,
    pub max_bytes: u64,
    pub huge_pages: HugePages,
    pub hardened: bool,
    pub tags: bool,
    pub dont_fork: bool,
    pub no_advice: bool,
    /// Objects that it has when it is neither growing nor shrinking.
    pub objects: usize,
    /// Most of its objects have one of so many sizes.
    pub sizes: usize,
}

impl Shape {
    fn draw(rng: &mut Rng) -> Self {
        let memory = rng.pick(&[Memory::Anonymous, Memory::Anonymous, Memory::File, Memory::Releasable, Memory::Lent]);
        let huge = [HugePages::Never, HugePages::WhenLarge, HugePages::Always];
        let huge_pages = if rng.chance(60) { HugePages::WhenLarge } else { rng.pick(&huge) };
        let large = rng.chance(3);
        let least = if huge_pages == HugePages::Always { 6 << 20 } else { MIN_BYTES as usize };
        let bytes = if rng.chance(50) { rng.between(least, 2 * least) } else { rng.between(least, 24 << 20) };
        Self {
            memory,
            max_bytes: if large { 64 << 20 } else { bytes as u64 },
            huge_pages,
            hardened: rng.chance(30),
            tags: rng.chance(30),
            dont_fork: rng.chance(30),
            no_advice: rng.chance(20),
            objects: if large { 3000 } else { rng.between(20, 500) },
            sizes: rng.between(1, 5),
        }
    }

    /// Returns the size of the largest object.
    pub fn largest(&self) -> usize {
        if self.tags { MAX_TAGGED_SIZE } else { MAX_ALLOC_SIZE }
    }

    /// Returns the options of a pool of this shape. `backing` fits the kind of memory.
    pub fn options(&self, backing: Backing) -> PoolOptions {
        PoolOptions {
            max_bytes: Some(self.max_bytes),
            backing,
            hardened: self.hardened,
            tuning: PoolTuning {
                huge_pages: self.huge_pages,
                dont_fork: self.dont_fork,
                no_advice: self.no_advice,
                tags: self.tags,
            },
        }
    }
}

/// A misuse that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misuse {
    Map(MapMode),
    Unmap,
    Free,
    Read,
    Write,
}

/// A step.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Replaces the pool, if nothing in it is mapped.
    Create(Shape),
    Malloc {
        size: usize,
    },
    MallocMapped {
        size: usize,
    },
    /// Copies the pattern of `key` into the front.
    Write {
        handle: u64,
        bytes: usize,
        key: u64,
    },
    /// Writes the pattern of `key` through a mapping.
    WriteMapped {
        handle: u64,
        from: usize,
        bytes: usize,
        key: u64,
    },
    Read {
        handle: u64,
        bytes: usize,
    },
    Map {
        handle: u64,
        mode: MapMode,
    },
    Unmap {
        handle: u64,
    },
    /// Ends a mapping of an object that was freed while mapped.
    UnmapDying {
        index: usize,
    },
    Free {
        handle: u64,
    },
    /// A handle that was freed, or never was one.
    Misuse {
        handle: u64,
        misuse: Misuse,
    },
    /// A call with wrong sizes.
    WrongSize {
        handle: u64,
        bytes: usize,
    },
    Compact {
        bytes: u64,
        microseconds: u64,
    },
    Shrink {
        pages: u64,
    },
    SetEvict {
        on: bool,
    },
    SetMaxBytes {
        bytes: u64,
    },
    /// Processors meet in the class of `size`. From now on the test runs on another one.
    Meet {
        size: usize,
        processor: usize,
    },
    Destroy,
    FailCall {
        call: Call,
        n: u64,
        times: u64,
    },
    Heal {
        call: Call,
    },
}

const MODES: [MapMode; 3] = [MapMode::ReadWrite, MapMode::Read, MapMode::Write];
const MISUSES: [Misuse; 7] = [
    Misuse::Map(MapMode::ReadWrite),
    Misuse::Map(MapMode::Read),
    Misuse::Map(MapMode::Write),
    Misuse::Unmap,
    Misuse::Free,
    Misuse::Read,
    Misuse::Write,
];
/// Every kind of call that can be made to fail.
pub const CALLS: [Call; 7] =
    [Call::Map, Call::Commit, Call::Advise, Call::Release, Call::MemoryFile, Call::Allocate, Call::ForkGuard];

impl Action {
    /// Chooses the next step of this world.
    pub fn draw(world: &mut World) -> Self {
        let lot = world.rng.below(10_000);
        match lot {
            0..5 => Self::Create(Shape::draw(&mut world.rng)),
            5..7 => Self::Destroy,
            7..30 => Self::fail_call(&mut world.rng),
            30..80 => Self::Heal { call: world.rng.pick(&CALLS) },
            80..100 => Self::SetEvict { on: world.rng.chance(70) },
            100..130 => Self::set_max_bytes(world),
            130..180 => Self::Shrink { pages: world.rng.pick(&[0, 1, 1, 2, 5, 30, 1000]) },
            180..400 => Self::compact(world),
            400..500 => Self::Meet { size: world.draw_size(), processor: world.rng.below(2) },
            500..1400 => Self::misuse(world),
            1400..1500 => Self::wrong_size(world),
            _ => Self::draw_common(world, lot),
        }
    }

    fn draw_common(world: &mut World, lot: usize) -> Self {
        if !world.dying.is_empty() && lot.is_multiple_of(10) {
            return Self::UnmapDying { index: world.rng.below(world.dying.len()) };
        }
        let Some(handle) = world.any_handle() else { return Self::malloc(world) };
        let bytes = world.objects[&handle].bytes.len();
        match lot {
            1500..2500 => Self::Map { handle, mode: world.rng.pick(&MODES) },
            2500..4000 => match world.any_mapped() {
                Some(handle) => Self::Unmap { handle },
                None => Self::Map { handle, mode: world.rng.pick(&MODES) },
            },
            4000..4800 => Self::Read { handle, bytes: world.rng.between(0, bytes) },
            4800..5400 => Self::Write { handle, bytes: world.rng.between(0, bytes), key: world.rng.next() },
            5400..5800 => match world.any_mapped() {
                Some(handle) => Self::write_mapped(world, handle),
                None => Self::malloc(world),
            },
            _ if world.wants_more() => Self::malloc(world),
            _ => Self::Free { handle },
        }
    }

    /// Returns the shape of the first pool.
    pub fn create(rng: &mut Rng) -> Shape {
        Shape::draw(rng)
    }

    fn malloc(world: &mut World) -> Self {
        let size = world.draw_size();
        if world.rng.chance(15) { Self::MallocMapped { size } } else { Self::Malloc { size } }
    }

    fn write_mapped(world: &mut World, handle: u64) -> Self {
        let bytes = world.objects[&handle].bytes.len();
        let from = world.rng.below(bytes);
        Self::WriteMapped { handle, from, bytes: world.rng.between(0, bytes - from), key: world.rng.next() }
    }

    fn misuse(world: &mut World) -> Self {
        Self::Misuse { handle: world.wrong_handle(), misuse: world.rng.pick(&MISUSES) }
    }

    fn wrong_size(world: &mut World) -> Self {
        let handle = world.any_handle().unwrap_or(0);
        let bytes = world.rng.pick(&[0, MAX_ALLOC_SIZE + 1, 2 * MAX_ALLOC_SIZE, usize::MAX]);
        Self::WrongSize { handle, bytes }
    }

    fn compact(world: &mut World) -> Self {
        let rng = &mut world.rng;
        let bytes = if rng.chance(50) { 0 } else { rng.between(1, 40_000) as u64 };
        let microseconds = if world.by_the_clock && rng.chance(20) { rng.between(1, 200) as u64 } else { 0 };
        Self::Compact { bytes, microseconds }
    }

    fn set_max_bytes(world: &mut World) -> Self {
        let full = world.shape.max_bytes as usize;
        let bytes = if world.rng.chance(50) { 0 } else { world.rng.between(1, full) as u64 };
        Self::SetMaxBytes { bytes }
    }

    fn fail_call(rng: &mut Rng) -> Self {
        let any = rng.pick(&CALLS);
        let call = rng.pick(&[Call::Commit, Call::Release, Call::Release, any]);
        Self::FailCall { call, n: rng.between(1, 8) as u64, times: rng.below(4) as u64 }
    }
}
