//! The record of a zspage: which class, where, which slots are taken, whose they are. It lies in the zspage table, out
//! of reach of what callers write into their objects.

use crate::classes::{self, Class, RECORD_BYTES};
use crate::sync::{AtomicU16, AtomicU32, Cell, Ordering::Relaxed};
use crate::units::{ClassIndex, HandleIndex, MAX_SLOTS, ZspageId};

/// Lists of zspages by fullness, 1 to [`FULL`]; 0 is on none.
pub const FULL: u8 = 9;

/// The record of a zspage. All zero is a record that is not in use.
#[repr(C, align(64))]
pub struct Zspage {
    /// The page of the arena where it begins. Constant while it exists.
    first_page: AtomicU32,
    /// Its class + 1, or 0. Constant while it has objects; set and cleared under the lock of that class.
    owner: AtomicU16,
    /// The same, and left when it has none any more.
    last_owner: AtomicU16,
    /// When it was last used, by the pool's count of epochs; only in pools with a reclaim callback.
    pub epoch: AtomicU32,
    /// Guarded by the lock of its class.
    slots: Cell<Slots>,
    /// Whose object is in each slot; written by who takes the slot, and by who leaves a freed object to the deferred
    /// list.
    handles: [AtomicU32; NOTES],
}

/// Under loom zspages have two slots, and more notes would only cost time.
const NOTES: usize = if cfg!(loom) { 2 } else { MAX_SLOTS };

#[cfg(not(loom))]
static_assertions::const_assert_eq!(size_of::<Zspage>(), RECORD_BYTES);

/// What the lock of its class guards.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slots {
    /// A bit for each taken slot.
    pub taken: u64,
    /// The next zspage of its list.
    pub next: ZspageId,
    /// The one before it.
    pub prev: ZspageId,
    /// How many slots are taken.
    pub count: u8,
    /// Slots below this one have memory that is charged; in a chunk with a huge page, all.
    pub touched: u8,
    /// Which list it is on.
    pub list: u8,
    /// Whether a mover or a shrinker has it: nobody allocates from it, and nobody but them gives it back.
    pub isolated: bool,
    /// Pages that count as warm since it was left empty with its memory, to be used again soon; 0: none.
    pub warm: u8,
}

impl Zspage {
    /// A record that is not in use.
    #[cfg(loom)]
    pub fn unused() -> Self {
        let slots = Slots {
            taken: 0,
            next: ZspageId::NONE,
            prev: ZspageId::NONE,
            count: 0,
            touched: 0,
            list: 0,
            isolated: false,
            warm: 0,
        };
        Self {
            first_page: AtomicU32::new(0),
            owner: AtomicU16::new(0),
            last_owner: AtomicU16::new(0),
            epoch: AtomicU32::new(0),
            slots: Cell::new(slots),
            handles: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Makes it a new zspage, empty and on no list, of nobody yet; the caller alone knows it. Plain stores do: it
    /// becomes known under the lock of its class.
    pub fn set_up(&self, first_page: u32, touched: u8, epoch: u32) {
        self.first_page.store(first_page, Relaxed);
        self.epoch.store(epoch, Relaxed);
        let none = ZspageId::NONE;
        let slots = Slots { taken: 0, next: none, prev: none, count: 0, touched, list: 0, isolated: false, warm: 0 };
        // SAFETY: nobody else knows this record.
        self.slots.with_mut(|at| unsafe { *at = slots });
    }

    /// The page of the arena where it begins.
    #[inline]
    pub fn first_page(&self) -> u32 {
        self.first_page.load(Relaxed)
    }

    /// Its class. Asked by who has an object in it pinned, or a slot of it to release, or holds the class's lock.
    #[inline]
    pub fn class_index(&self) -> ClassIndex {
        let owner = self.owner.load(Relaxed);
        debug_assert!(owner != 0, "a zspage without a class was used");
        ClassIndex(owner.wrapping_sub(1))
    }

    /// Its class's geometry, if it is in one at this moment: for whoever has nothing that keeps it there.
    #[inline]
    pub fn class_hint(&self) -> Option<Class> {
        self.owner.load(Relaxed).checked_sub(1).map(|owner| classes::class(ClassIndex(owner)))
    }

    /// The geometry of the class that it was last of, when it is on nobody's books.
    pub fn last_class(&self) -> Class {
        classes::class(ClassIndex(self.last_owner.load(Relaxed).wrapping_sub(1)))
    }

    /// Its class's geometry.
    #[inline]
    pub fn class(&self) -> Class {
        classes::class(self.class_index())
    }

    /// Whether it belongs to `class`; certain for who holds that class's lock.
    pub fn is_of(&self, class: ClassIndex) -> bool {
        self.owner.load(Relaxed) == class.0 + 1
    }

    /// Its class, if it has one; a hint for who does not hold its lock.
    pub fn owner(&self) -> Option<ClassIndex> {
        self.owner.load(Relaxed).checked_sub(1).map(ClassIndex)
    }

    /// Gives it to a class, or to none; under that class's lock.
    pub fn set_owner(&self, class: Option<ClassIndex>) {
        self.owner.store(class.map_or(0, |class| class.0 + 1), Relaxed);
        if let Some(class) = class {
            self.last_owner.store(class.0 + 1, Relaxed);
        }
    }

    /// What the class's lock guards.
    ///
    /// # Safety
    /// The caller holds the lock of its class, and uses one such reference at a time.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slots(&self) -> &mut Slots {
        // SAFETY: the lock makes it the only reference.
        self.slots.with_mut(|at| unsafe { &mut *at })
    }

    /// The same, to look at.
    ///
    /// # Safety
    /// The caller holds the lock of its class, and nobody has borrowed it to be changed meanwhile.
    #[inline]
    pub unsafe fn peek_slots(&self) -> &Slots {
        // SAFETY: the lock keeps others away, and the caller vouches for itself.
        self.slots.with_mut(|at| unsafe { &*at })
    }

    /// Whose object is in this slot; a hint, unless the slot is the caller's.
    #[inline]
    pub fn handle_at(&self, slot: u8) -> HandleIndex {
        HandleIndex(self.handles[slot as usize].load(Relaxed))
    }

    /// Notes whose object is in this slot, which is the caller's. Relaxed: it is read under the class's lock, or
    /// checked against the word that it names.
    #[inline]
    pub fn set_handle(&self, slot: u8, handle: HandleIndex) {
        self.handles[slot as usize].store(handle.0, Relaxed);
    }
}

/// Where a zspage is listed, and where it belongs.
#[derive(Clone, Copy)]
pub struct Listing {
    /// The list that its count asks for.
    pub wanted: u8,
    /// The list that it is on; 0: none.
    pub list: u8,
    /// Whether it is kept off all lists.
    pub isolated: bool,
}

impl Slots {
    /// Where a zspage of this class is listed, and where it belongs.
    #[inline]
    pub fn listing(&self, class: Class) -> Listing {
        Listing { wanted: self.list_for(class), list: self.list, isolated: self.isolated }
    }

    /// [`Slots::listing`] of a zspage that has a free slot.
    #[inline]
    pub fn listing_with_room(&self, class: Class) -> Listing {
        debug_assert!(self.count < class.slots);
        Listing { wanted: 1 + class.eighths_full(self.count), list: self.list, isolated: self.isolated }
    }

    /// Which list a zspage of this class belongs on.
    #[inline]
    pub fn list_for(&self, class: Class) -> u8 {
        if self.count == class.slots { FULL } else { 1 + class.eighths_full(self.count) }
    }

    /// Whether a free slot has its memory already.
    pub fn has_committed_room(&self) -> bool {
        self.count < self.touched
    }

    /// The lowest free slot.
    #[inline]
    pub fn lowest_free(&self) -> u8 {
        self.taken.trailing_ones() as u8
    }

    /// Takes a free slot.
    #[inline]
    pub fn take(&mut self, slot: u8) {
        debug_assert!(self.taken >> slot & 1 == 0);
        self.taken |= 1 << slot;
        self.count += 1;
    }

    /// Frees a taken slot.
    #[inline]
    pub fn release(&mut self, slot: u8) {
        debug_assert!(self.taken >> slot & 1 == 1);
        self.taken &= !(1 << slot);
        self.count -= 1;
    }

    /// The lowest taken slot from `slot` on.
    pub fn taken_from(&self, slot: u8) -> Option<u8> {
        let from = self.taken.checked_shr(slot as u32)?;
        (from != 0).then(|| slot + from.trailing_zeros() as u8)
    }

    /// The highest taken slot below `slot`.
    pub fn taken_before(&self, slot: u8) -> Option<u8> {
        let before = if slot == MAX_SLOTS as u8 { self.taken } else { self.taken & ((1 << slot) - 1) };
        before.checked_ilog2().map(|slot| slot as u8)
    }

    /// One more than the highest taken slot.
    pub fn end(&self) -> u8 {
        (MAX_SLOTS as u32 - self.taken.leading_zeros()) as u8
    }
}
