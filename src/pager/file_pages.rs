//! Pages of memory files: how a page leaves its file, and how a page that is in the file gets mapped.
//!
//! A hole is not proof that a page left. If the page is a part of a huge page (a large folio, of 64 KiB to 2 MiB), the
//! system has to split that first. It can't while anybody else has a reference to the huge page: a pin, a fault, or a
//! read in another thread. Then fallocate(2) fills the page with zeros, leaves it in the file, and returns 0. Advice
//! against huge pages does not help, because another mapping of the file can put them together at any time.
//!
//! Two rules keep such zeros from being taken for the page:
//!
//! - Regions of memory files are registered for faults of unmapped pages as well (UFFDIO_REGISTER_MODE_MINOR). A hole
//!   unmaps the page before it changes it. From then on nobody sees what the file has there before this pager maps it,
//!   which it does with the page claimed.
//! - After each hole the pager asks whether the file still has the page. If so, it writes the page's bytes back to the
//!   file: the page stays in memory, and stays charged.

use super::core::Core;
use super::counts::add;
use super::page::PageClaim;
use super::region::RegionState;
use super::scratch::BUFFER_PAGES;
use super::state::{KeptCopy, PageKind};
use crate::os::{Errno, errno};
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// Bytes of the largest huge page that a memory file is made of.
const HUGE: u64 = 2 << 20;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// What became of a page that a hole was made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Punched {
    /// The file does not have the page any more.
    Gone,
    /// The page is still in the file, with the bytes that it should have.
    Stays,
}

/// What an attempt to map a page did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    /// It mapped the page: the bytes of the file are visible, and may be written.
    Now,
    /// The page was mapped already.
    Before,
    /// The file has no such page.
    Missing,
}

/// The huge page of a file that this eviction could not take pages from.
#[derive(Default)]
pub(super) struct Stuck(Option<u64>);

impl Stuck {
    fn has(&self, offset: u64) -> bool {
        self.0 == Some(offset / HUGE)
    }
}

impl Core {
    /// Takes a page out of its file whose bytes zswap has. The page is claimed and protected.
    ///
    /// The page stays, with its bytes: `EBUSY` if the system could not split the huge page that it is a part of.
    pub(super) fn drop_from_file(
        &self,
        region: &RegionState,
        page: u64,
        at: usize,
        stuck: &mut Stuck,
    ) -> Result<(), Errno> {
        let (file, offset) = region.in_file(page);
        if stuck.has(offset) {
            // Each attempt would fill the page with zeros for a while, and a thread that reads it through a pin would
            // see them.
            return Err(Errno(errno::EBUSY));
        }
        self.os.punch(file, offset, PAGE)?;
        // If the system does not answer, the page counts as still there. Writing the bytes of a page that left brings
        // it back.
        if self.os.has_page(file, offset, at) == Ok(false) {
            return Ok(());
        }
        *stuck = Stuck(Some(offset / HUGE));
        region.may_be_huge.store(true, Relaxed);
        let mut buffer = self.scratch.take();
        let loaded = region.load(page, buffer.page(0), self.access()).is_ok();
        if loaded && self.put_into_file(region, page, buffer.page(0)).is_ok() {
            return Err(Errno(errno::EBUSY));
        }
        // The file has zeros there and zswap has the only copy, so the page counts as evicted. The next touch
        // overwrites what the file has before it maps the page.
        Ok(())
    }

    /// Takes a page that reads as zero from now on out of its file. The page is claimed, and not held.
    ///
    /// The page stays as it was.
    pub(super) fn discard_from_file(&self, region: &RegionState, page: u64, at: usize) -> Result<Punched, Errno> {
        let (file, offset) = region.in_file(page);
        self.os.punch(file, offset, PAGE)?;
        if self.os.has_page(file, offset, at) == Ok(false) {
            return Ok(Punched::Gone);
        }
        self.put_into_file(region, page, &ZEROS)?;
        add(&self.counters.pinned, 1);
        Ok(Punched::Stays)
    }

    /// Overwrites a page in its place with zeros, in memory of either kind.
    pub(super) fn write_zeros(&self, region: &RegionState, page: u64, at: usize) -> Result<(), Errno> {
        // Pages of files are written through the file. If the page is not mapped, a write to its address would wait for
        // this thread's own claim.
        if region.is_private() { self.own.write_zeros(at) } else { self.put_into_file(region, page, &ZEROS) }
    }

    /// Writes a page's bytes to its file, which has the page from then on.
    pub(super) fn put_into_file(&self, region: &RegionState, page: u64, bytes: &[u8; PAGE]) -> Result<(), Errno> {
        let (file, offset) = region.in_file(page);
        match self.os.write_at(file, bytes, offset) {
            Ok(PAGE) => Ok(()),
            Ok(_) => Err(Errno(errno::EIO)),
            Err(refused) => Err(refused),
        }
    }

    /// Maps the page that the file has at an address whose page is claimed.
    pub(super) fn show(&self, at: usize) -> Result<Shown, Errno> {
        match self.uffd.continue_pages(at, PAGE, false).stopped {
            None => Ok(Shown::Now),
            Some(Errno(errno::EEXIST)) => Ok(Shown::Before),
            Some(Errno(errno::EFAULT)) => Ok(Shown::Missing),
            Some(refused) => Err(refused),
        }
    }

    /// Maps the pages after one that was just mapped, as far as they are in the file and nobody has them claimed. The
    /// system does the same for memory that is not under a userfaultfd.
    pub(super) fn show_ahead(&self, region: &RegionState, first: u64, at: usize, end: usize) {
        let most = ((end - at) / PAGE).min(BUFFER_PAGES).min((region.pages() - first) as usize);
        let mut claims: [Option<PageClaim<'_>>; BUFFER_PAGES] = [const { None }; BUFFER_PAGES];
        let mut count = 0;
        while count < most {
            let page = region.page(first + count as u64);
            let seen = page.peek();
            // A clean page is protected, and mapping it would end that.
            let wanted = matches!(seen.kind(), PageKind::Resident(_)) && seen.copy() != KeptCopy::Clean;
            let Some(claim) = wanted.then(|| page.try_claim(seen)).flatten() else { break };
            claims[count] = Some(claim);
            count += 1;
        }
        if count > 0 {
            // The call ends at the first page that is mapped already. The others wait for their own touch.
            let _ = self.uffd.continue_pages(at, count * PAGE, false);
        }
    }

    /// Maps the held pages among the neighbours of a page that left its file. To split a huge page the system unmaps
    /// all of it, also pages that are held, which have to stay mapped for system calls.
    pub(super) fn show_held_around(&self, region: &RegionState, page: u64, at: usize) {
        let (_, offset) = region.in_file(page);
        let before = (offset % HUGE / PAGE as u64).min(page);
        let after = (HUGE - offset % HUGE).div_ceil(PAGE as u64).min(region.pages() - page);
        for other in page - before..page + after {
            let seen = region.page(other).peek();
            if !matches!(seen.kind(), PageKind::Resident(1..)) {
                continue;
            }
            let there = (at as u64 + other * PAGE as u64 - page * PAGE as u64) as usize;
            // The owner may have moved the page away from its neighbour.
            let is_there = self.extents.find(there).is_some_and(|extent| extent.page_at(there) == other)
                && !self.gate.is_shut(there, there + PAGE);
            if is_there && let Some(_claim) = region.page(other).try_claim(seen) {
                let _ = self.show(there);
            }
        }
    }

    /// Takes a page that is about to be held out of the huge page that it may be a part of. The system unmaps all of a
    /// huge page when it splits it, and a held page has to stay mapped. The page is evicted, and the hold brings it
    /// back as a page of its own. If this fails, the page stays as it is.
    pub(super) fn isolate(&self, at: usize) {
        let version = self.extents.version();
        let Some(extent) = self.extents.find(at) else { return };
        let Some(region) = self.places[extent.region].enter() else { return };
        let page = extent.page_at(at);
        if region.is_private() || page >= region.pages() || !region.may_be_huge.load(Relaxed) {
            return;
        }
        let Some(mut claim) = region.page(page).claim_if(|state| matches!(state.kind(), PageKind::Resident(0))) else {
            return;
        };
        let Some(_inside) = self.enter(version, at, at + PAGE) else { return };
        let mut buffer = self.scratch.take();
        let (file, offset) = region.in_file(page);
        let read =
            self.uffd.protect(at, PAGE, true).is_ok() && self.os.read_at(file, buffer.page(0), offset) == Ok(PAGE);
        // SAFETY: the buffer has a page there, and is this thread's.
        if !read || unsafe { self.store(&region, page, buffer.address(0)) }.is_err() {
            self.forget_copy(&region, page, &mut claim);
            return;
        }
        drop(buffer);
        self.kept.remove(u64::from(claim.was().copy() != KeptCopy::No));
        if self.drop_from_file(&region, page, at, &mut Stuck::default()).is_ok() {
            let was = self.immovable.unmarked(claim.was());
            self.account.uncharge(1);
            claim.set(self.stored(was));
        } else {
            self.forget(&region, page);
            claim.set(claim.was().with_copy(KeptCopy::No));
        }
    }

    /// Maps the held pages of a range that were unmapped meanwhile.
    pub(super) fn keep_mapped(&self, start: usize, end: usize) {
        for part in self.extents.within(start, end) {
            let Some(region) = self.places[part.region].enter().filter(|region| !region.is_private()) else { continue };
            for at in (part.start..part.end).step_by(PAGE) {
                let page = part.page_at(at);
                if page >= region.pages() {
                    // Another region, and a smaller one, has the place by now.
                    break;
                }
                let seen = region.page(page).peek();
                if matches!(seen.kind(), PageKind::Resident(1..))
                    && !self.gate.is_shut(at, at + PAGE)
                    && let Some(_claim) = region.page(page).try_claim(seen)
                {
                    let _ = self.show(at);
                }
            }
        }
    }
}
