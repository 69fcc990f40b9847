//! The public calls of a pager on memory that the program maps itself.

use super::core::Core;
use super::for_c::PagerForC;
use super::options::{FaultMode, RegionOptions};
use super::pager_calls::Pager;
use super::region_guard::Region;
use crate::error::{Error, Result, sentence};
use std::time::Duration;

/// How long memory that is served by threads waits for a promised thread to begin.
const BEGINS: Duration = Duration::from_secs(5);

impl Core {
    /// Refuses memory whose first touch would sleep until a thread is lent.
    ///
    /// A thread of the program's own is promised by `lend_own`, and counts once it is in `LentWork::run`: if it counted
    /// before, a work that is forgotten, or is run only after the first touch, would leave that touch asleep for ever.
    /// This waits for a promised thread, because a program that has just spawned it can't know when it begins.
    pub(super) fn check_served(&self) -> Result<()> {
        const NOBODY: Error = Error::Again(sentence(
            &"no thread is lent that serves touches, and the first touch would sleep: call Pager::lend(Duty::All)",
        ));
        const NOT_BEGUN: Error = Error::Again(sentence(
            &"Pager::lend_own promised a thread that serves touches, and LentWork::run did not begin for 5 seconds: \
              call it in another thread before",
        ));
        if self.mode != FaultMode::Threads || self.lending.await_server(BEGINS) {
            return Ok(());
        }
        Err(if self.lending.is_promised() { NOT_BEGUN } else { NOBODY })
    }
}

impl Pager {
    /// Adds a region: `bytes` bytes of memory at `at`, whole pages, mapped readable and writable, and already filled or
    /// not. It stays until the returned guard is dropped. Huge pages are turned off for the range, and forked children
    /// do not get it. [`Pager::map`] maps memory for a region itself, and has no rules to keep.
    ///
    /// Pages that are in memory already are charged 2 MiB at a time, and what is above the limit then is evicted before
    /// the next 2 MiB. Pages that can't leave, as when the pool is full, stay above the limit, and leave when they can.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is not whole pages, is not memory of the kind that the options say, is in a
    /// region already, or is refused as the safety section says. [`Error::Limit`] if there are as many regions as
    /// there may be. [`Error::Again`] with [`FaultMode::Threads`] if no thread is lent that serves touches,
    /// or [`Pager::lend_own`] promised one that does not begin within 5 seconds. [`Error::NoMemory`],
    /// [`Error::System`]: the system refuses. [`Error::Forked`] in a child.
    ///
    /// # Safety
    /// From here to the end of the region, all of this process's use of the memory goes through this range.
    ///
    /// **The memory stays mapped until the region is removed**, unless a thread is lent with [`Duty::All`] or
    /// [`Duty::Serve`]. Without one, munmap and mremap of it, and the madvise that gives memory back where pages are
    /// moved, wait in the system for an event that no thread reads: the call does not return, silently, until a thread
    /// is lent or another call on the pager reads it. This is so as well for memory that is unmapped by the drop of its
    /// owner. So the region is dropped before: locals are, because they drop in reverse; in a struct, fields drop as
    /// they are declared. The pager can't do without these events: something else may be mapped at the addresses next,
    /// which it would take for the region and evict.
    ///
    /// No other thread maps or moves anything to its addresses while it is unmapped or moved, because the system tells
    /// of both in any order: hold a lock around all calls that map, move or unmap, or remove the region first. The
    /// range does not grow, by mremap or by itself (MAP_GROWSDOWN), and does not stay mapped where it was
    /// (MREMAP_DONTUNMAP).
    ///
    /// It has nothing that is needed to bring a page back: no memory that malloc uses or returned, no stack that is in
    /// use, and no memory of the pager. The heap (brk), mappings that grow, the caller's stack and most of the pager's
    /// memory are refused; with the rest, such as malloc's other arenas, the process may hang. A large `Vec` whose
    /// memory begins on a page has a mapping of its own in most allocators, and can be a region, if nothing adds to it
    /// or drops it meanwhile. Private memory is not given to KSM again (MADV_MERGEABLE): a page that the system merges
    /// loses the protection by which writes are noticed.
    ///
    /// [`Duty::All`]: crate::Duty::All
    /// [`Duty::Serve`]: crate::Duty::Serve
    pub unsafe fn add_region(&self, at: *mut u8, bytes: usize, options: &RegionOptions<'_>) -> Result<Region> {
        self.check_usable()?;
        // No signal is blocked while this waits for a promised thread.
        self.0.core().check_served()?;
        // SAFETY: the caller vouches for the same.
        let id = unsafe { self.add_region_by_id(at, bytes, options) }?;
        Ok(Region::new(&self.0, id, at, bytes))
    }

    /// Gives the whole pages of a range of regions back: they read as zero, and cost nothing. Pages that are held, or
    /// that the system has pinned, stay where they are, and are zeros. Where pages are moved, madvise with
    /// MADV_DONTNEED or MADV_REMOVE does the same, but needs a lent thread to read its event; where private pages are
    /// evicted in place, this call is the only way.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part of the range is in no region, [`Error::Again`] if memory of the range kept being
    /// moved or unmapped, [`Error::System`] if the system refuses. [`Error::Forked`] in a child.
    ///
    /// # Safety
    /// The range's bytes are no longer needed.
    pub unsafe fn discard(&self, at: *mut u8, bytes: usize) -> Result<()> {
        self.call()?.discard(at as usize, bytes)
    }
}
