//! The reclaim callback: whole zspages that were long unused are offered to the owner of their objects.

use super::Pool;
use super::victims::Victims;
use crate::error::{Error, Result};
use crate::geometry;
use crate::size_class::SizeClass;
use crate::sync::{AtomicU32, Lock, Ordering::Relaxed, Rank};
use crate::units::{Place, ZspageId};
use crate::word::RawHandle;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

/// Called with the pool and the raw handle of an object that is to go: normally it frees the object. `Err` keeps it,
/// and ends the work on its zspage. No lock is held; it may call anything on the pool, also for this handle, which
/// can't be reused before it returns. A panic counts as `Err`.
pub type Evict = dyn Fn(&Pool, u64) -> Result<()> + Send + Sync;

/// An [`Evict`] while it is called.
type EvictCall<'a> = dyn Fn(&Pool, u64) -> Result<()> + 'a;

/// An evict callback of C's, which takes no memory: a function, its context and its pool, and what calls it.
#[derive(Clone, Copy)]
pub struct ForeignEvict {
    /// What calls the function with an object that is to go.
    pub caller: fn(&Self, u64) -> Result<()>,
    /// The function, of whatever type `caller` knows.
    pub function: *const (),
    /// What the function is called with.
    pub context: *mut (),
    /// The pool, as C knows it.
    pub pool: NonNull<()>,
}

// SAFETY: the header says that the callback runs in whichever thread shrinks; its context is for C to guard.
unsafe impl Send for ForeignEvict {}
// SAFETY: as above.
unsafe impl Sync for ForeignEvict {}

/// The callback that is set.
#[derive(Clone)]
pub enum Callback {
    Rust(Arc<Evict>),
    Foreign(ForeignEvict),
}

impl Callback {
    fn call(&self, pool: &Pool, handle: u64) -> Result<()> {
        match self {
            Self::Rust(evict) => evict(pool, handle),
            Self::Foreign(set) => (set.caller)(set, handle),
        }
    }
}

/// Zspages that gave nothing, after which a shrink ends.
const MOST_FAILURES: usize = 8;
/// Zspages one after the other that others were emptying or giving back, after which a shrink ends.
const MOST_MISSED: usize = 64;

/// What reclaim keeps.
pub struct Reclaim {
    pub(super) callback: Lock<Option<Callback>>,
    /// 1 once there was a callback: from then on zspages are stamped when they are used.
    stamps: AtomicU32,
    /// Counts new zspages and shrinks; a zspage's stamp is what it was at the last use. Relaxed: it is an age, not an
    /// order.
    epoch: AtomicU32,
    /// Those that go next.
    pub(super) victims: Lock<Victims>,
}

impl Reclaim {
    /// Without a callback.
    pub fn new() -> Self {
        Self {
            callback: Lock::new(Rank::Callback, None),
            stamps: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            victims: Lock::new(Rank::Victims, Victims::new()),
        }
    }

    /// What a zspage that is used now is stamped with; none if nobody will ask.
    #[inline]
    pub fn epoch(&self) -> Option<u32> {
        (self.stamps.load(Relaxed) != 0).then(|| self.epoch.load(Relaxed))
    }

    /// Begins another epoch.
    pub fn next_epoch(&self) -> u32 {
        if self.stamps.load(Relaxed) == 0 { 0 } else { self.epoch.fetch_add(1, Relaxed).wrapping_add(1) }
    }

    /// As if so many epochs had begun.
    #[cfg(test)]
    pub(crate) fn set_epoch(&self, epoch: u32) {
        self.epoch.store(epoch, Relaxed);
    }

    /// How many zspages were looked at to choose those that go.
    #[cfg(test)]
    pub(crate) fn looked(&self) -> u64 {
        self.victims.lock().looked
    }

    /// The count of epochs.
    pub(super) fn now(&self) -> u32 {
        self.epoch.load(Relaxed)
    }
}

impl Pool {
    /// Sets the callback that [`Pool::shrink`] offers objects to, or takes it away. A shrink that is running goes on
    /// with the one that it began with. From the first callback on, the pool notes when its zspages are used.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child without the pool.
    pub fn set_evict(&self, evict: Option<Arc<Evict>>) -> Result<()> {
        self.set_callback(evict.map(Callback::Rust))
    }

    /// [`Pool::set_evict`] with a callback of C's. Allocates nothing.
    #[cfg(not(loom))]
    #[doc(hidden)]
    pub fn set_foreign_evict(&self, evict: Option<ForeignEvict>) -> Result<()> {
        self.set_callback(evict.map(Callback::Foreign))
    }

    fn set_callback(&self, evict: Option<Callback>) -> Result<()> {
        self.check_alive()?;
        if evict.is_some() {
            self.reclaim.stamps.store(1, Relaxed);
        }
        let old = {
            let mut callback = self.reclaim.callback.lock();
            std::mem::replace(&mut *callback, evict)
        };
        // Dropped here, with no lock held: it is the user's.
        drop(old);
        Ok(())
    }

    /// Offers the objects of zspages that were long unused to the callback, until `pages` pages of 4096 bytes of the
    /// pool are free again. Objects that are mapped are not offered. Returns the pages that became free, also when they
    /// are fewer than asked.
    ///
    /// In a small pool, of some 200 zspages, the zspage that was longest unused goes first. In a larger one each step
    /// looks at some 250 zspages, spread over the pool, and takes the one that was longest unused of those that this
    /// step and the steps before looked at; so a step takes as long in a large pool as in a small one.
    ///
    /// May be called from any thread, several at once, and from the callback; allocates nothing.
    ///
    /// # Errors
    /// [`Error::Again`] if nothing could go now, [`Error::NotFound`] if nothing is stored, [`Error::Invalid`] without a
    /// callback, [`Error::Forked`] in a child without the pool.
    pub fn shrink(&self, pages: u64) -> Result<u64> {
        const NO_CALLBACK: Error = Error::Invalid(&"the pool has no evict callback");
        const NOTHING: Error = Error::NotFound(&"nothing is stored in the pool");
        const NOT_NOW: Error = Error::Again(&"none of the coldest objects could go now");
        self.check_alive()?;
        let callback = self.reclaim.callback.lock().clone();
        let evict = callback.ok_or(NO_CALLBACK)?;
        if self.object_count() == 0 {
            return Err(NOTHING);
        }
        let (mut freed, mut failures, mut missed) = (0, 0, 0);
        while freed < pages && failures < MOST_FAILURES && missed < MOST_MISSED {
            self.reclaim.next_epoch();
            let Some((class, id)) = self.next_victim() else { break };
            match self.evict_zspage(&self.classes[class], id, &|pool, handle| evict.call(pool, handle)) {
                None => missed += 1,
                Some(0) => failures += 1,
                Some(gone) => (freed, missed) = (freed + gone, 0),
            }
        }
        self.counters.pages_reclaimed.fetch_add(freed, Relaxed);
        if freed == 0 && pages > 0 { Err(NOT_NOW) } else { Ok(freed) }
    }

    /// Offers each object of a zspage, until the callback fails. Returns the pages that are free now; none: the zspage
    /// is not the class's any more, or a mover or another shrinker has it.
    pub(crate) fn evict_zspage(&self, class: &SizeClass, id: ZspageId, evict: &EvictCall<'_>) -> Option<u64> {
        let mut state = class.lock(&self.memory);
        if !state.isolate(&self.memory, id) {
            return None;
        }
        // Nobody allocates from it while it is isolated: what is taken now is all that will be.
        let taken = state.peek(&self.memory, id).taken;
        drop(state);
        let _ = { taken.iter() }.try_for_each(|slot| self.evict_object(Place { zspage: id, slot: slot as u8 }, evict));
        let mut state = class.lock(&self.memory);
        // If it stays, for whatever reason, it is not the coldest any more, so that the next ones get their turn.
        self.memory.zspage(id).epoch.store(self.reclaim.next_epoch(), Relaxed);
        let emptied = state.end_isolation(&self.memory, id);
        drop(state);
        let pages = emptied
            .as_ref()
            .map_or(0, |emptied| geometry::of(class.index()).pages_of_slots(emptied.touched as usize) as u64);
        Some(self.give_back(class, emptied).map_or(0, |_| pages))
    }

    /// Offers the object in a slot, if there is one and nobody has it mapped.
    fn evict_object(&self, place: Place, evict: &EvictCall<'_>) -> Result<()> {
        const PANICKED: Error = Error::Again(&"the evict callback panicked");
        let index = self.memory.zspage(place.zspage).handle_at(place.slot);
        // A slot whose object is on the deferred list notes the next one instead of its own, perhaps one past the last.
        if index.0 >= self.memory.word_count() {
            return Ok(());
        }
        let Some(generation) = self.memory.word(index).pin_to_evict(place) else { return Ok(()) };
        let handle = RawHandle { index, generation, tag: self.tag.tag() }.pack();
        #[cfg(debug_assertions)]
        crate::sync::ranks::assert_none();
        // Under loom a panic is what a model found, and must not be kept from it.
        let result = if cfg!(loom) {
            evict(self, handle)
        } else {
            catch_unwind(AssertUnwindSafe(|| evict(self, handle))).unwrap_or(Err(PANICKED))
        };
        // SAFETY: the pin is the shrinker's. A callback that unmapped once too often took it already: then there is
        // nothing to undo, and the refusal says so.
        let _ = unsafe { self.unmap_raw(handle) };
        result
    }
}
