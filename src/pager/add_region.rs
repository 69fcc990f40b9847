//! Adding regions.

use super::check_memory::{NOT_MAPPED, check_memory};
use super::core::Core;
use super::evict::Evicted;
use super::extents::{Extent, OVERLAPS};
use super::late_touches;
use super::options::{FaultMode, RegionOptions, Removal};
use super::region::{Memory, RegionId, RegionState};
use super::removable::{Removable, Users};
use super::state::PageState;
use crate::error::{Error, Limit, Result, not_given, sentence};
use crate::heap;
use crate::os::residency::{AT_ONCE, Swapped};
use crate::os::userfault::feature;
use crate::os::{Advice, Errno, errno};
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;
use crate::zswap::AreaOptions;

const NOT_PAGES: Error = Error::Invalid(sentence(&"a region has to be whole pages of 4096 bytes, at least one"));
/// Pages of a part of a new region, if the part before it had as many in memory. All of them are above the limit for a
/// moment, in which others have to make room for them.
const FEW: usize = 64;
/// Tells why pages can't be evicted in place, as pages of memory files always are.
pub(super) fn no_reading(refused: Errno) -> Error {
    match refused.0 {
        errno::EPERM => Error::System { errno: refused.0, step: sentence(&NO_READING) },
        _ => Error::system(refused, sentence(&"reading memory by process_vm_readv, to evict pages in place")),
    }
}

const NO_READING: &str = "pages are evicted in place by reading them, and a jail forbids that: allow \
                          process_vm_readv or opening /proc/self/mem, or let pages be moved";
impl Core {
    /// Puts a range of memory under the pager.
    pub fn add_region(&self, at: usize, bytes: usize, options: &RegionOptions<'_>) -> Result<RegionId> {
        if bytes == 0 || !at.is_multiple_of(PAGE) || !bytes.is_multiple_of(PAGE) || at.checked_add(bytes).is_none() {
            return Err(NOT_PAGES);
        }
        let memory = self.memory(options)?;
        check_memory(at, bytes, &memory)?;
        if options.shared.is_some() {
            self.own.check().map_err(no_reading)?;
        }
        let area = AreaOptions {
            max_bytes: options.max_stored_bytes,
            no_writeback: options.no_writeback,
            name: heap::text(options.name)?,
            ..AreaOptions::default()
        };
        let area = self.zswap.add_area((bytes / PAGE) as u64, &area)?;
        // Without both features no page of a memory file is ever evicted. Every system that has the first has the
        // second.
        let of_files = feature::WP_SHMEM | feature::MINOR_SHMEM;
        let needed = if options.shared.is_some() { of_files } else { feature::WP };
        let mut region = heap::boxed(RegionState::new(&self.os, area, memory, self.uffd.has(needed))?)?;
        self.check_own(at, bytes, &region)?;
        let serial = self.serials.next();
        region.serial = serial;
        region.settled = options.settled;
        self.read_events();
        let place = self.take_place(region, at, bytes)?;
        let whole = Extent { start: at, end: at + bytes, region: place, first: 0 };
        self.add_parts(whole).inspect_err(|_| self.undo(&whole, serial))?;
        Ok(RegionId::new(place, serial))
    }

    /// Puts a region in a free place.
    fn take_place(&self, region: Box<RegionState>, at: usize, bytes: usize) -> Result<usize> {
        const NO_PLACE: Error = Error::Limit(Limit::Regions);
        // Nothing is allocated while the lock is held: the program's malloc may have memory of this pager.
        let mut users = Some(Users::new()?);
        let mut inbox = self.events.lock();
        self.check_free(at, at + bytes)?;
        let settled = region.settled;
        let mut region = Some(region);
        let mut fill = |place: &Removable<RegionState>| {
            let filled = place.fill(region.take().expect("not placed yet"), &mut users);
            filled.map_err(|back| region = Some(back)).is_ok()
        };
        let place = self.places.iter().position(&mut fill);
        inbox.forget_moved(at, at + bytes);
        if place.is_some() && !settled {
            self.reading.add_loose();
        }
        self.note_reading();
        place.ok_or(NO_PLACE)
    }

    /// Notes that a region is gone. The caller holds the lock of events.
    pub(super) fn forget_loose(&self, region: &RegionState) {
        if !region.settled {
            self.reading.remove_loose();
            self.note_reading();
        }
    }

    /// Notes whether threads that serve touches get into each other's way: one that reads waits until no other puts
    /// pages in their places, unless messages are read without the gate; and moving single pages interrupts the
    /// processors of all others.
    fn note_reading(&self) {
        self.lending.set_alone(self.mode == FaultMode::Threads && (self.moves || !self.reading.is_free()));
    }

    /// Refuses a range that has a part in a region. The caller holds the lock of events.
    fn check_free(&self, start: usize, end: usize) -> Result<()> {
        if self.extents.within(start, end).next().is_some() { Err(OVERLAPS) } else { Ok(()) }
    }

    fn memory(&self, options: &RegionOptions<'_>) -> Result<Memory> {
        const OFFSET: Error =
            Error::Invalid(sentence(&"the offset in the memory file has to be whole pages of 4096 bytes"));
        let Some((fd, offset)) = options.shared else { return Ok(Memory::Private) };
        if !offset.is_multiple_of(PAGE as u64) {
            return Err(OFFSET);
        }
        let file =
            self.os.duplicate(fd).map_err(|errno| Error::system(errno, sentence(&"duplicating the memory file")))?;
        Ok(Memory::Shared(file, offset))
    }

    fn advise(&self, region: &RegionState, at: usize, bytes: usize) -> Result<()> {
        let at = at as *mut u8;
        // A system without huge pages refuses this, and then there is nothing to turn off.
        let _ = self.os.advise(at, bytes, Advice::NotHuge);
        // Merged pages can't be moved. And a page that the system merges loses its write protection, so that a write to
        // it would not be seen. A system that merges no pages refuses this.
        if region.is_private() {
            let _ = self.os.advise(at, bytes, Advice::Unmergeable);
        }
        // A child would read zeros for pages that are not in memory. Without the range its access fails.
        self.os.advise(at, bytes, Advice::DontFork).map_err(|errno| match errno.0 {
            errno::ENOMEM => NOT_MAPPED,
            _ => Error::advice(errno, sentence(&"madvise(MADV_DONTFORK) of a region")),
        })
    }

    /// Registers the range of a region part by part. The region is in its place. The lock of events is held for one
    /// part at a time, so that others read events, and have touches served, in between. A part belongs to the region
    /// once it is registered. Later parts are as if there were no pager until it is their turn.
    ///
    /// Pages that are in memory already are charged with their part, whatever the limit says, and as many are evicted
    /// before the next part comes. Otherwise touches of other regions would have to make room for all of them.
    fn add_parts(&self, whole: Extent) -> Result<()> {
        let region = self.places[whole.region].enter().expect("it was put there");
        let swapped = match &region.memory {
            Memory::Private => Swapped::private(),
            Memory::Shared(file, offset) => Swapped::of_file(file, *offset),
        };
        let (mut start, mut pages, mut evicts) = (whole.start, AT_ONCE, true);
        while let Some(part) = whole.within(start, whole.end.min(start.saturating_add(pages * PAGE))) {
            let locked = self.events.lock();
            let present = self.add_part(&region, &whole, part, &swapped)?;
            drop(locked);
            evicts = evicts && self.make_way(present);
            pages = if present < FEW as u64 { AT_ONCE } else { FEW };
            start = part.end;
            self.events.give_way();
        }
        Ok(())
    }

    /// Evicts what is above the limit, but at most as many pages as a part of a new region had in memory: others make
    /// room for their own. Returns false if none can leave. To try that for the next part would take as long.
    fn make_way(&self, present: u64) -> bool {
        let is_above = present > 0 && self.account.resident() > self.account.limit();
        !is_above || matches!(self.evict_to(self.account.limit(), present), Evicted::Pages(_))
    }

    /// Registers a part of a region; the first part comes first. Returns how many of its pages are in memory. The
    /// caller holds the lock of events.
    fn add_part(&self, region: &RegionState, whole: &Extent, part: Extent, swapped: &Swapped) -> Result<u64> {
        const REFUSED: Error = Error::Invalid(sentence(
            &"the system does not take the range: it has to be private anonymous memory, or a memory file",
        ));
        const NO_REGISTER: Error =
            Error::NoMemory(not_given!("the system does not register the region with userfaultfd"));
        let bytes = part.end - part.start;
        self.check_free(part.start, part.end)?;
        self.uffd.register(part.start, bytes, region.faulting()).map_err(|errno| match errno.0 {
            errno::EINVAL | errno::EPERM => REFUSED,
            errno::EBUSY => {
                Error::Busy(sentence(&"a part of the range is under another userfaultfd: unregister it there first"))
            }
            errno::ENOMEM => NO_REGISTER,
            _ => Error::system(errno, sentence(&"UFFDIO_REGISTER of a region")),
        })?;
        let undo = |_: &Error| {
            // A thread may have touched a missing page meanwhile.
            late_touches::note_removal(&part);
            let _ = self.uffd.unregister(part.start, bytes);
        };
        if part.start == whole.start {
            self.advise(region, whole.start, whole.end - whole.start).inspect_err(undo)?;
        }
        // From here on every page of the part comes through the pager: the pages that are there now are all.
        let present = self.note_present(region, &part, swapped).inspect_err(undo)?;
        if present > 0 {
            region.may_be_huge.store(true, Relaxed);
        }
        // Before anybody finds the pages: a thread that gives one back uncharges it.
        self.account.charge_above(present);
        self.extents.add(part).inspect_err(undo).inspect_err(|_| self.account.uncharge(present))?;
        Ok(present)
    }

    /// Takes away a region that could not be added as a whole.
    fn undo(&self, whole: &Extent, serial: u64) {
        // Pages of the parts that were added may have been evicted by now. If one does not come back, the region stays
        // as far as it was added, and works, until the pager goes.
        if self.extents.first_of(whole.region).is_some() {
            let _ = self.remove_if(whole.region, Removal::Restore, |there| there.serial == serial);
        } else {
            self.do_all_work();
            let mut inbox = self.events.lock();
            self.settle_all(&mut inbox);
            if let Some(region) = self.places[whole.region].clear() {
                self.forget_loose(&region);
            }
        }
        let _ = self.os.advise(whole.start as *mut u8, whole.end - whole.start, Advice::Fork);
    }

    /// Notes the pages of a part that no touch will find missing: those in memory, and those that the system has
    /// swapped out. Returns how many there are.
    fn note_present(&self, region: &RegionState, part: &Extent, swapped: &Swapped) -> Result<u64> {
        let mut seen = [0; AT_ONCE];
        let mut present = 0;
        let mut note = |page: usize| {
            region.page(page as u64).claim().set(PageState::resident(0));
            present += 1;
        };
        let (at, first) = (part.start, part.first as usize);
        let seen = &mut seen[..(part.end - part.start) / PAGE];
        let asked = self.os.in_memory(at, seen);
        asked.map_err(|errno| Error::system(errno, sentence(&"mincore of a region")))?;
        if self.moves && region.is_private() {
            self.unshare(at, seen);
        }
        (0..seen.len()).filter(|&page| seen[page] & 1 == 1).for_each(|page| note(first + page));
        swapped.each(at, first, seen, |page| note(first + page));
        Ok(present)
    }

    /// Makes the pages in memory this process's alone: pages that a child got in an earlier fork can't be moved. If the
    /// system can't do this, they stay in memory until they are written. No page goes missing meanwhile, which this
    /// thread would wait for: where pages are moved, the owner that gives one back waits until its event is read.
    fn unshare(&self, at: usize, seen: &[u8]) {
        let mut first = 0;
        while let Some(start) = (first..seen.len()).find(|&page| seen[page] & 1 == 1) {
            let end = (start..seen.len()).find(|&page| seen[page] & 1 == 0).unwrap_or(seen.len());
            let _ = self.os.advise((at + start * PAGE) as *mut u8, (end - start) * PAGE, Advice::Unshare);
            first = end;
        }
    }
}
