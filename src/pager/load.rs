//! Serving a touch of a page that is in zswap: the page is decoded, and so are those after it if the program seems to
//! go through them in order.

use super::core::Core;
use super::counts::add;
use super::extents::Extent;
use super::fault::{Stop, Want};
use super::page::PageClaim;
use super::region::RegionState;
use super::scratch::{BUFFER_PAGES, PageBuffer};
use super::state::{KeptCopy, MAX_AGE, PageKind, PageState};
use crate::error::{Error, sentence};
use crate::os::errno;
use crate::units::PAGE;
use crate::zswap::{NotLoaded, TierAccess};

const COPY: Error = Error::Again(sentence(&"the system refuses UFFDIO_COPY"));
const WRITE: Error = Error::Again(sentence(&"the memory file of a region can't be written: is its file system full?"));

impl Core {
    /// Puts a page that is in zswap in its place, and those after it that were asked for in order.
    pub(super) fn load_in(
        &self,
        region: &RegionState,
        extent: &Extent,
        first: &mut PageClaim<'_>,
        at: usize,
        want: Want,
    ) -> Result<(), Stop> {
        let page = extent.page_at(at);
        let mut buffer = self.scratch.take();
        region.area.prefetch_record(page);
        match region.load(page, buffer.page(0), want.tiers) {
            Ok(()) => {}
            Err(NotLoaded::Damaged | NotLoaded::DamagedOnTier) => return self.poison(region, first, at),
            Err(NotLoaded::NeedsThread) => return Err(Stop::NeedsThread),
            Err(NotLoaded::Failed(error @ Error::Again(_))) => return Err(Stop::Away(error)),
            Err(error) => return Err(Stop::Refused(error.into_error())),
        }
        let mut ahead: [Option<PageClaim<'_>>; BUFFER_PAGES] = [const { None }; BUFFER_PAGES];
        let room = ((self.gate.open_until(at, extent.end) - at) / PAGE).min(region.ahead.window(page));
        let ahead_room = &mut ahead[..room.saturating_sub(1)];
        let count = 1 + load_ahead(region, page + 1, &mut buffer, ahead_room, want.tiers);
        let keeps = self.keeps(region, want, count as u64);
        // The pages ahead do not wait for room. Their number is bounded, so that the limit holds nearly.
        if count > 1 {
            self.account.charge_above(count as u64 - 1);
        }
        let mut copied = buffer.copy_in(&self.uffd, at, count, keeps == KeptCopy::Clean, first);
        if copied.bytes == 0 && count > 1 {
            // The pages ahead may be in another mapping, and one call does not fill two.
            copied = buffer.copy_in(&self.uffd, at, 1, keeps == KeptCopy::Clean, first);
        }
        let done = copied.bytes / PAGE;
        if count > done.max(1) {
            self.account.uncharge((count - done.max(1)) as u64);
        }
        if done == 0 {
            let errno = copied.stopped.map_or(errno::EAGAIN, |errno| errno.0);
            if errno == errno::EEXIST && !region.is_private() {
                // The system could not take this page out of the file, or it came to the file through another mapping.
                // Nobody has seen it in this one.
                self.put_into_file(region, page, buffer.page(0)).map_err(|_| Stop::Refused(WRITE))?;
                self.show_again(at)?;
            } else {
                // EEXIST: another page is mapped there, so our copy is stale.
                self.refused(at, errno, COPY)?;
            }
        }
        // The bytes are in place now. Only from here on may the copies in zswap go.
        let copy = if done == 0 { KeptCopy::Stale } else { keeps };
        let age = self.age_of(first.was());
        first.set(self.resident_with(region, page, copy).with_age(age));
        for (next, claim) in (page + 1..).zip(ahead.iter_mut().take(done.max(1) - 1)) {
            claim.as_mut().expect("it was loaded").set(self.resident_with(region, next, copy));
        }
        region.ahead.loaded(page, done.max(1), BUFFER_PAGES);
        add(&self.counters.loads, 1);
        add(&self.counters.loads_ahead, done.max(1) as u64 - 1);
        Ok(())
    }

    /// The age of a page that comes back. A page that did not stay away for long is used more often than others.
    fn age_of(&self, stored: PageState) -> u32 {
        let away = stored.departures_since(self.account.departures());
        if u64::from(away) < self.account.limit() / 4 { (stored.age() + 1).min(MAX_AGE) } else { 0 }
    }

    /// Decides what becomes of the copies of pages that were decoded. Clean copies are kept as far as there are not too
    /// many. Stale ones are left to a thread that evicts in the background, unless it has enough of them: they take
    /// memory of the pool.
    fn keeps(&self, region: &RegionState, want: Want, pages: u64) -> KeptCopy {
        let (copies, most) = (self.kept.pages() + pages, self.kept.most(self.account.limit()));
        match !want.write && region.protects && copies <= most {
            true => KeptCopy::Clean,
            false if self.lending.has_evictors() && copies <= most + self.account.reserve() => KeptCopy::Stale,
            false => KeptCopy::No,
        }
    }

    /// The state of a page that was put in place. Removes its copy from zswap, or counts it as kept.
    fn resident_with(&self, region: &RegionState, page: u64, copy: KeptCopy) -> PageState {
        match copy {
            KeptCopy::No => self.forget(region, page),
            _ => self.kept.add(1),
        }
        PageState::resident(0).with_copy(copy)
    }

    /// Marks a page whose copy is damaged: every touch of it gets SIGBUS, so that it never reads as anything.
    #[cold]
    fn poison(&self, region: &RegionState, claim: &mut PageClaim<'_>, at: usize) -> Result<(), Stop> {
        let mut poisoned = self.uffd.poison(at, PAGE);
        if poisoned.stopped.is_some_and(|errno| errno.0 == errno::EEXIST) && region.protects {
            // A page of a memory file leaves its protection behind, in the place where the mark has to be.
            self.uffd.protect(at, PAGE, false).or_else(|errno| match self.refused(at, errno.0, COPY) {
                Err(Stop::Refused(_)) => Err(Stop::Lost),
                other => other,
            })?;
            poisoned = self.uffd.poison(at, PAGE);
        }
        match poisoned.stopped.map(|errno| errno.0) {
            None => {}
            Some(errno::EAGAIN) => return Err(Stop::Again),
            // The system has no such mark: the touch fails each time it comes here.
            Some(_) => return Err(Stop::Lost),
        }
        add(&self.counters.poisoned, 1);
        claim.set(PageState::POISONED);
        Err(Stop::Lost)
    }
}

/// Decodes pages from `first` on, each to its place in the buffer, as far as they are in zswap, on tiers that the
/// thread may use, and nobody has them claimed. Returns how many.
fn load_ahead<'a>(
    region: &'a RegionState,
    first: u64,
    buffer: &mut PageBuffer<'_>,
    claims: &mut [Option<PageClaim<'a>>],
    tiers: TierAccess,
) -> usize {
    for (number, place) in claims.iter_mut().enumerate() {
        let page = region.page(first + number as u64);
        let seen = page.peek();
        let claim = if seen.kind() == PageKind::Stored { page.try_claim(seen) } else { None };
        let loaded = claim.is_some() && region.load(first + number as u64, buffer.page(number + 1), tiers).is_ok();
        if !loaded {
            return number;
        }
        *place = claim;
    }
    claims.len()
}
