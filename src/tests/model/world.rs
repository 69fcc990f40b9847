//! The objects that a pool should have, in a hash map.

use super::action::Shape;
use crate::geometry::MAX_ALLOC_SIZE;
use crate::tests::shared::ReadObject;
use crate::tests::shared::Rng;
use crate::{Error, Pool, PoolStats};
use std::collections::HashMap;

/// An object with all bytes of its slot.
pub struct Object {
    pub bytes: Vec<u8>,
    /// In a pool with tags, its tag.
    pub tag: u64,
    /// How often the object is mapped, and where it lies meanwhile.
    pub pins: u32,
    pub address: usize,
    /// The place of its handle in [`World::order`].
    at: usize,
}

/// An object that was freed while mapped.
pub struct Dying {
    pub handle: u64,
    pub object: Object,
}

/// The objects that the pool should have, and the numbers that steps are chosen by.
pub struct World {
    pub rng: Rng,
    pub shape: Shape,
    pub objects: HashMap<u64, Object>,
    /// The handles in an order that depends on the seed alone.
    order: Vec<u64>,
    /// Handles of mapped objects, some of them not mapped any more.
    mapped: Vec<u64>,
    pub dying: Vec<Dying>,
    /// Handles that were freed lately.
    stale: Vec<u64>,
    sizes: Vec<usize>,
    /// How many objects the pool is on its way to.
    aim: usize,
    pub by_the_clock: bool,
    pub has_evict: bool,
    /// Callbacks that are running inside one another.
    pub depth: u32,
    /// Whether a callback found something wrong.
    pub failed: bool,
    /// No pages above these may ever be charged: the limit, or what there was when it was lowered.
    pub most_pages: u64,
}

const STALE: usize = 200;

impl World {
    pub fn new(rng: Rng, shape: Shape, by_the_clock: bool) -> Self {
        let mut world = Self {
            rng,
            shape,
            objects: HashMap::new(),
            order: Vec::new(),
            mapped: Vec::new(),
            dying: Vec::new(),
            stale: Vec::new(),
            sizes: Vec::new(),
            aim: 0,
            by_the_clock,
            has_evict: false,
            depth: 0,
            failed: false,
            most_pages: 0,
        };
        world.begin(shape);
        world
    }

    /// Forgets everything, for another pool.
    pub fn begin(&mut self, shape: Shape) {
        assert!(self.dying.is_empty(), "only a pool without mappings is replaced");
        self.objects.clear();
        self.order.clear();
        self.mapped.clear();
        self.shape = shape;
        self.sizes = (0..shape.sizes).map(|_| self.rng.between(1, shape.largest())).collect();
        self.aim = shape.objects;
        self.has_evict = false;
    }

    /// Returns the size of the next object.
    pub fn draw_size(&mut self) -> usize {
        if self.rng.chance(5) { self.rng.between(1, self.shape.largest()) } else { self.rng.pick(&self.sizes) }
    }

    /// Whether to allocate, not to free: on the way to a number of objects that changes now and then.
    pub fn wants_more(&mut self) -> bool {
        if self.rng.below(200) == 0 {
            self.aim = self.rng.between(0, self.shape.objects * 2);
        }
        self.rng.chance(if self.order.len() < self.aim { 75 } else { 25 })
    }

    pub fn any_handle(&mut self) -> Option<u64> {
        (!self.order.is_empty()).then(|| self.rng.pick(&self.order))
    }

    pub fn any_mapped(&mut self) -> Option<u64> {
        while !self.mapped.is_empty() {
            let index = self.rng.below(self.mapped.len());
            let handle = self.mapped[index];
            if self.objects.get(&handle).is_some_and(|object| object.pins > 0) {
                return Some(handle);
            }
            self.mapped.swap_remove(index);
        }
        None
    }

    /// Returns a number that is no handle of a live object.
    pub fn wrong_handle(&mut self) -> u64 {
        let live = self.any_handle().unwrap_or(1 << 48);
        let number = match self.rng.below(10) {
            0 => 0,
            1 => self.rng.next(),
            2 => live ^ 1 << self.rng.below(64),
            3 => live.wrapping_add(1 << 32),
            4 => live | 0xffff_ffff,
            _ if self.stale.is_empty() => u64::MAX,
            _ => self.rng.pick(&self.stale),
        };
        let known =
            |handle| self.objects.contains_key(&handle) || self.dying.iter().any(|dying| dying.handle == handle);
        if known(number) { u64::MAX } else { number }
    }

    /// Notes a new object.
    pub fn insert(&mut self, handle: u64, bytes: Vec<u8>) {
        let known = self.dying.iter().any(|dying| dying.handle == handle);
        assert!(!known && handle != 0, "{handle:#x} was given out and is in use");
        assert!(
            !self.stale.contains(&handle),
            "{handle:#x} was freed lately, and its generation can't have come round"
        );
        let object = Object { bytes, tag: 0, pins: 0, address: 0, at: self.order.len() };
        assert!(self.objects.insert(handle, object).is_none(), "{handle:#x} was given out twice");
        self.order.push(handle);
    }

    /// Notes that an object was freed.
    pub fn remove(&mut self, handle: u64) {
        let object = self.objects.remove(&handle).expect("only what is there is freed");
        self.order.swap_remove(object.at);
        if let Some(moved) = self.order.get(object.at) {
            self.objects.get_mut(moved).expect("the order names objects").at = object.at;
        }
        if object.pins > 0 {
            self.dying.push(Dying { handle, object });
        } else {
            self.note_stale(handle);
        }
    }

    pub fn note_stale(&mut self, handle: u64) {
        if self.stale.len() < STALE {
            self.stale.push(handle);
        } else {
            let index = self.rng.below(STALE);
            self.stale[index] = handle;
        }
    }

    /// Notes another mapping.
    pub fn note_mapped(&mut self, handle: u64, address: *mut u8) {
        let object = self.objects.get_mut(&handle).expect("only what is there is mapped");
        assert!(object.pins == 0 || object.address == address as usize, "{handle:#x} moved while mapped");
        object.address = address as usize;
        object.pins += 1;
        object.check_bytes(handle);
        if object.pins == 1 {
            self.mapped.push(handle);
        }
    }

    /// Returns how many mappings there are.
    pub fn mappings(&self) -> u64 {
        let pins = self.objects.values().chain(self.dying.iter().map(|dying| &dying.object)).map(|object| object.pins);
        pins.map(u64::from).sum()
    }

    /// Panics if the pool holds other objects than it should.
    pub fn compare_counts(&self, stats: &PoolStats) {
        let objects = self.objects.len() + self.dying.len();
        assert_eq!(stats.objects, objects as u64, "objects in the statistics");
        assert!(stats.total_pages <= self.most_pages, "{} pages, {} allowed", stats.total_pages, self.most_pages);
        assert!(stats.metadata_pages + stats.warm_pages <= stats.total_pages, "{stats:?}");
    }

    /// Panics if any object holds other bytes than it should.
    pub fn compare_bytes(&self, pool: &Pool) {
        let mut buffer = [0; MAX_ALLOC_SIZE];
        for (&handle, object) in &self.objects {
            let read = &mut buffer[..object.bytes.len()];
            pool.read_object(handle, read).expect("a live object can be read");
            assert!(*read == *object.bytes, "{handle:#x} holds other bytes than were written");
            object.check_bytes(handle);
            object.check_tag(pool, handle);
        }
        for dying in &self.dying {
            dying.object.check_bytes(dying.handle);
        }
    }
}

impl Object {
    /// Panics if a live object has another tag than it should, or has one in a pool without tags.
    pub fn check_tag(&self, pool: &Pool, handle: u64) {
        match pool.tag_raw(handle) {
            Ok(tag) => assert_eq!(tag, self.tag, "{handle:#x} has another tag than it was allocated with"),
            Err(error) => assert!(matches!(error, Error::Invalid(_)) && self.tag == 0, "{handle:#x}: {error}"),
        }
    }

    /// Panics if a mapped object holds other bytes than it should.
    pub fn check_bytes(&self, handle: u64) {
        if self.pins > 0 {
            let address = self.address as *const u8;
            // SAFETY: the object is mapped, its slot is that long, and nobody else writes it.
            let mapped = unsafe { std::slice::from_raw_parts(address, self.bytes.len()) };
            assert!(*mapped == *self.bytes, "{handle:#x} shows other bytes than were written");
        }
    }
}
