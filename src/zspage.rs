//! The record of a zspage: its class, where it lies, which slots are taken, and the handle of each slot's object.
//!
//! Records lie in the zspage table, out of reach of what callers write into their objects.

use crate::bitmap::Bitmap;
use crate::buckets::Link;
use crate::geometry::{self, Geometry, RECORD_BYTES};
use crate::sync::{AtomicU16, AtomicU32, Cell, Ordering::Relaxed};
use crate::units::{ClassIndex, HandleIndex, MAX_SLOTS};

/// The list of full zspages. Lists 1 to [`FULL`] are by fullness; 0 means that a zspage is on no list.
pub const FULL: u8 = 9;

/// The record of a zspage. A record that is not in use is all zero.
#[repr(C, align(64))]
pub struct Zspage {
    /// The page of the arena where the zspage begins. Constant while the zspage exists.
    first_page: AtomicU32,
    /// The class + 1, or 0 if the zspage is in no class. Constant while the zspage has objects. Set and cleared under
    /// the lock of that class.
    owner: AtomicU16,
    /// The class + 1 that the zspage was in last. It stays when the zspage leaves its class.
    last_owner: AtomicU16,
    /// When the zspage was last used, by the pool's count of epochs. Kept in pools with a reclaim callback only.
    pub epoch: AtomicU32,
    /// Guarded by the lock of the class.
    slots: Cell<Slots>,
    /// The handle index of each slot's object. The thread that takes the slot writes it. A thread that defers a free
    /// puts the link of the deferred list here. In an emptied zspage that a free left for others, the first is a link,
    /// too.
    handles: [AtomicU32; NOTES],
}

/// How many slots a record has room for. Under loom zspages have two, and more would only cost time.
const NOTES: usize = if cfg!(loom) { 2 } else { MAX_SLOTS };

#[cfg(not(loom))]
static_assertions::const_assert_eq!(size_of::<Zspage>(), RECORD_BYTES);

/// The part of a record that the lock of the zspage's class guards.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slots {
    /// A bit for each taken slot.
    pub taken: Bitmap<1>,
    /// The neighbours of the zspage in its list.
    pub link: Link,
    /// How many slots are taken.
    pub count: u8,
    /// Slots below this one have memory that is charged. In a chunk with a huge page that is every slot.
    pub touched: u8,
    /// Which list the zspage is on; 0 for none.
    pub list: u8,
    /// Whether compaction or a shrink has isolated the zspage: nobody allocates from it, and only they give it back.
    pub isolated: bool,
    /// Pages that count as warm, because the zspage was left empty with its memory to be used again soon.
    pub warm: u8,
}

impl Zspage {
    /// A record that is not in use.
    #[cfg(loom)]
    pub fn unused() -> Self {
        let slots =
            Slots { taken: Bitmap::EMPTY, link: Link::NONE, count: 0, touched: 0, list: 0, isolated: false, warm: 0 };
        Self {
            first_page: AtomicU32::new(0),
            owner: AtomicU16::new(0),
            last_owner: AtomicU16::new(0),
            epoch: AtomicU32::new(0),
            slots: Cell::new(slots),
            handles: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Makes the record that of a new zspage, which is empty, in no class and on no list. Only the caller knows it.
    /// Plain stores are enough, because others learn of it under the lock of its class.
    pub fn set_up(&self, first_page: u32, touched: u8, epoch: u32) {
        self.first_page.store(first_page, Relaxed);
        self.epoch.store(epoch, Relaxed);
        let (taken, link) = (Bitmap::EMPTY, Link::NONE);
        let slots = Slots { taken, link, count: 0, touched, list: 0, isolated: false, warm: 0 };
        // SAFETY: nobody else knows this record.
        self.slots.with_mut(|at| unsafe { *at = slots });
    }

    /// Returns the page of the arena where the zspage begins.
    #[inline]
    pub fn first_page(&self) -> u32 {
        self.first_page.load(Relaxed)
    }

    /// Returns the class of a zspage that stays in it: the caller has an object in it pinned, or a slot of it to
    /// release, or holds the lock of the class.
    #[inline]
    pub fn class_index(&self) -> ClassIndex {
        let owner = self.owner.load(Relaxed);
        debug_assert!(owner != 0, "a zspage without a class was used");
        ClassIndex(owner.wrapping_sub(1))
    }

    /// Returns the geometry of the class, if the zspage is in one at this moment. For callers who have nothing that
    /// keeps it there.
    #[inline]
    pub fn class_hint(&self) -> Option<Geometry> {
        self.owner.load(Relaxed).checked_sub(1).map(|owner| geometry::of(ClassIndex(owner)))
    }

    /// Returns the geometry of the class that the zspage was in last.
    pub fn last_class(&self) -> Geometry {
        geometry::of(ClassIndex(self.last_owner.load(Relaxed).wrapping_sub(1)))
    }

    /// Returns the geometry of the class of a zspage that stays in it, as for [`Zspage::class_index`].
    #[inline]
    pub fn class(&self) -> Geometry {
        geometry::of(self.class_index())
    }

    /// Returns whether the zspage is in `class`. Certain only for a thread that holds the lock of `class`.
    pub fn is_of(&self, class: ClassIndex) -> bool {
        self.owner.load(Relaxed) == class.0 + 1
    }

    /// Returns the class, if the zspage is in one. A hint, unless the caller holds the lock of that class.
    pub fn owner(&self) -> Option<ClassIndex> {
        self.owner.load(Relaxed).checked_sub(1).map(ClassIndex)
    }

    /// Puts the zspage into a class, or takes it out of its class. The caller holds the lock of that class.
    pub fn set_owner(&self, class: Option<ClassIndex>) {
        self.owner.store(class.map_or(0, |class| class.0 + 1), Relaxed);
        if let Some(class) = class {
            self.last_owner.store(class.0 + 1, Relaxed);
        }
    }

    /// Returns the part that the lock of the class guards, to change it.
    ///
    /// # Safety
    /// The caller holds the lock of the class, and uses one such reference at a time.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slots(&self) -> &mut Slots {
        // SAFETY: the lock makes it the only reference.
        self.slots.with_mut(|at| unsafe { &mut *at })
    }

    /// Returns the part that the lock of the class guards, to look at it.
    ///
    /// # Safety
    /// The caller holds the lock of the class, and nobody borrows the part to change it meanwhile.
    #[inline]
    pub unsafe fn peek_slots(&self) -> &Slots {
        // SAFETY: the lock keeps other threads away, and the caller vouches for its own.
        self.slots.with_mut(|at| unsafe { &*at })
    }

    /// Returns the handle index of the object in a slot. A hint, unless the slot is the caller's.
    #[inline]
    pub fn handle_at(&self, slot: u8) -> HandleIndex {
        HandleIndex(self.handles[slot as usize].load(Relaxed))
    }

    /// Notes the handle index of the object in a slot, which is the caller's. Relaxed: others read it under the lock of
    /// the class, or check it against the word that it names.
    #[inline]
    pub fn set_handle(&self, slot: u8, handle: HandleIndex) {
        self.handles[slot as usize].store(handle.0, Relaxed);
    }
}

/// Which list a zspage is on, and which one it belongs on.
#[derive(Clone, Copy)]
pub struct Listing {
    /// The list that the count of taken slots asks for.
    pub wanted: u8,
    /// The list that the zspage is on; 0 for none.
    pub list: u8,
    /// Whether the zspage is kept off all lists.
    pub isolated: bool,
}

impl Slots {
    /// Returns which list a zspage of this class is on, and which one it belongs on.
    #[inline]
    pub fn listing(&self, class: Geometry) -> Listing {
        Listing { wanted: self.list_for(class), list: self.list, isolated: self.isolated }
    }

    /// Returns the [`Slots::listing`] of a zspage that has a free slot.
    #[inline]
    pub fn listing_with_room(&self, class: Geometry) -> Listing {
        debug_assert!(self.count < class.slots);
        Listing { wanted: 1 + class.eighths_full(self.count), list: self.list, isolated: self.isolated }
    }

    /// Returns which list a zspage of this class belongs on.
    #[inline]
    pub fn list_for(&self, class: Geometry) -> u8 {
        if self.count == class.slots { FULL } else { 1 + class.eighths_full(self.count) }
    }

    /// Returns whether a free slot has its memory already.
    pub fn has_committed_room(&self) -> bool {
        self.count < self.touched
    }

    /// Returns the lowest free slot.
    #[inline]
    pub fn lowest_free(&self) -> u8 {
        self.taken.lowest_clear() as u8
    }

    /// Takes a free slot.
    #[inline]
    pub fn take(&mut self, slot: u8) {
        debug_assert!(!self.taken.is_set(slot as usize));
        self.taken.set(slot as usize);
        self.count += 1;
    }

    /// Frees a taken slot.
    #[inline]
    pub fn release(&mut self, slot: u8) {
        debug_assert!(self.taken.is_set(slot as usize));
        self.taken.clear(slot as usize);
        self.count -= 1;
    }

    /// Returns the lowest taken slot from `slot` on.
    pub fn taken_from(&self, slot: u8) -> Option<u8> {
        self.taken.next_set(slot as usize).map(|slot| slot as u8)
    }

    /// Returns the highest taken slot below `slot`.
    pub fn taken_before(&self, slot: u8) -> Option<u8> {
        self.taken.highest_set_below(slot as usize).map(|slot| slot as u8)
    }

    /// Returns one more than the highest taken slot.
    pub fn end(&self) -> u8 {
        self.taken.highest_set().map_or(0, |slot| slot as u8 + 1)
    }
}
