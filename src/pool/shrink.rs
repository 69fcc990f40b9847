//! Shrinking: the objects of zspages that were long unused are offered to the program's evict callback.

use super::Pool;
use super::evict::{Callback, EvictCall, Verdict, Victim};
use super::victims::Victims;
use crate::error::{Error, Result, sentence};
use crate::geometry;
use crate::size_class::SizeClass;
use crate::sync::{AtomicU32, Lock, Ordering::Relaxed, Rank};
use crate::units::{Place, ZspageId};
use crate::word::RawHandle;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A shrink ends after this many zspages that gave nothing.
const MOST_FAILURES: usize = 8;
/// A shrink ends after this many zspages in a row that other threads were emptying or giving back.
const MOST_MISSED: usize = 64;

/// The callback of a pool, the ages of its zspages, and the choice of victims.
pub struct Reclaim {
    pub(super) callback: Lock<Option<Callback>>,
    /// 1 once there was a callback. From then on zspages are stamped when they are used.
    pub(super) stamps: AtomicU32,
    /// Counts new zspages and steps of shrinks. The stamp of a zspage is this count at its last use. Relaxed, because
    /// it is an age and orders nothing.
    epoch: AtomicU32,
    /// The zspages that a shrink takes next.
    pub(super) victims: Lock<Victims>,
}

impl Reclaim {
    /// No callback is set.
    pub fn new() -> Result<Self> {
        Ok(Self {
            callback: Lock::new(Rank::Callback, None),
            stamps: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            victims: Lock::new(Rank::Victims, Victims::new()?),
        })
    }

    /// Returns the stamp of a zspage that is used now. None if the pool never had a callback.
    #[inline]
    pub fn epoch(&self) -> Option<u32> {
        (self.stamps.load(Relaxed) != 0).then(|| self.epoch.load(Relaxed))
    }

    /// Begins another epoch, and returns it.
    pub fn next_epoch(&self) -> u32 {
        if self.stamps.load(Relaxed) == 0 { 0 } else { self.epoch.fetch_add(1, Relaxed).wrapping_add(1) }
    }

    /// Sets the count of epochs.
    #[cfg(test)]
    pub(crate) fn set_epoch(&self, epoch: u32) {
        self.epoch.store(epoch, Relaxed);
    }

    /// Returns how many zspages were looked at to choose victims.
    #[cfg(test)]
    pub(crate) fn looked(&self) -> u64 {
        self.victims.lock().looked
    }

    /// Returns the count of epochs.
    pub(super) fn now(&self) -> u32 {
        self.epoch.load(Relaxed)
    }
}

impl Pool {
    /// Offers objects that were long unused to the callback of [`Pool::set_evict`], until `pages` pages of 4096 bytes
    /// are free. Returns how many became free: more than `pages`, or fewer if the callback keeps objects, objects are
    /// mapped, or none are left. Objects that are mapped are not offered.
    ///
    /// Objects of about one size lie together in groups of up to 64, called zspages, whose memory becomes free when all
    /// of them have gone. So the call offers all objects of one zspage, then those of the next. In a pool of up to some
    /// 200 zspages the one that was longest unused goes first. In a larger one each step looks at some 250 zspages,
    /// spread over the pool, and takes the one that was longest unused of all that it and the steps before looked at.
    /// So a step takes as long in a large pool as in a small one.
    ///
    /// The memory goes back to the system at once, except where the pool has huge pages: there it waits until all 2 MiB
    /// are unused, and may be used again meanwhile.
    ///
    /// May be called from any thread, in several at once, and from the callback, with no lock held that the callback
    /// takes. Not from a signal handler. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Again`] if no page became free, [`Error::NotFound`] if the pool has no objects, [`Error::Invalid`]
    /// without a callback, [`Error::Forked`] in a child without the pool.
    pub fn shrink(&self, pages: u64) -> Result<u64> {
        const NO_CALLBACK: Error = Error::Invalid(sentence(&"the pool has no evict callback"));
        const NOTHING: Error = Error::NotFound(sentence(&"nothing is stored in the pool"));
        const NOT_NOW: Error = Error::Again(sentence(&"none of the coldest objects could go now"));
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
            match self.evict_zspage(&self.classes[class], id, &|victim| evict.call(victim)) {
                None => missed += 1,
                Some(0) => failures += 1,
                Some(gone) => (freed, missed) = (freed + gone, 0),
            }
        }
        self.counters.pages_reclaimed.fetch_add(freed, Relaxed);
        if freed == 0 && pages > 0 { Err(NOT_NOW) } else { Ok(freed) }
    }

    /// Offers each object of a zspage, until the callback fails. Returns how many pages became free. Returns none if
    /// the zspage has left the class, or if compaction or another shrink has isolated it.
    pub(crate) fn evict_zspage(&self, class: &SizeClass, id: ZspageId, evict: &EvictCall<'_>) -> Option<u64> {
        let _paused = self.pause_shelves(class);
        let mut state = class.lock(&self.memory);
        if !state.isolate(&self.memory, id) {
            return None;
        }
        // Nobody allocates from an isolated zspage, so these are all its objects.
        let taken = state.peek(&self.memory, id).taken;
        drop(state);
        { taken.iter() }.all(|slot| self.evict_object(Place { zspage: id, slot: slot as u8 }, evict));
        let mut state = class.lock(&self.memory);
        // If the zspage stays, the stamp makes sure that others get their turn.
        self.memory.zspage(id).epoch.store(self.reclaim.next_epoch(), Relaxed);
        let emptied = state.end_isolation(&self.memory, id);
        drop(state);
        let pages = emptied
            .as_ref()
            .map_or(0, |emptied| geometry::of(class.index()).pages_of_slots(emptied.touched as usize) as u64);
        Some(self.give_back(class, emptied).map_or(0, |_| pages))
    }

    /// Offers the object in a slot, if there is one that is not mapped. Returns false if the callback keeps it.
    fn evict_object(&self, place: Place, evict: &EvictCall<'_>) -> bool {
        let index = self.memory.zspage(place.zspage).handle_at(place.slot);
        // A record notes a handle index for each slot. While a freed object waits on the deferred list of its class,
        // the note is that list's link instead, and may be no valid index.
        if index.0 >= self.memory.word_count() {
            return true;
        }
        let Some(generation) = self.memory.word(index).pin_to_evict(place) else { return true };
        let handle = RawHandle { index, generation, tag: self.tag.tag() }.pack();
        #[cfg(debug_assertions)]
        crate::sync::ranks::assert_none();
        let call = || evict(Victim::new(self, handle, place));
        // Under loom a panic is the model's finding: it is not caught.
        let verdict = if cfg!(loom) { call() } else { catch_unwind(AssertUnwindSafe(call)).unwrap_or(Verdict::Keep) };
        let goes = match verdict {
            Verdict::Free(handle) => self.free(handle).is_ok(),
            Verdict::Gone => true,
            Verdict::Keep => false,
        };
        // SAFETY: the pin is this shrink's. If the callback unmapped the object once too often the pin is gone, and the
        // call is refused.
        let _ = unsafe { self.unmap_raw(handle) };
        goes
    }
}
