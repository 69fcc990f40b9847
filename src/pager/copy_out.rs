//! Eviction where pages can't be moved, from memory files and on systems without UFFDIO_MOVE: protect, copy, compress,
//! drop.
//!
//! The page is claimed all the while, and protected before it is copied: a thread that writes faults, and waits for the
//! claim; what it wrote before is in the copy. Threads that read go on until the page is dropped.

use super::core::Core;
use super::evict::Picks;
use super::region::{Memory, Region};
use super::word::{Copied, MAX_AGE, State};
use crate::os::{Errno, Kind, errno};
use crate::units::PAGE;

impl Core {
    /// Evicts picked pages. How many went.
    pub(super) fn copy_out(&self, region: &Region, picks: &mut Picks<'_>) -> u64 {
        let mut gone = 0;
        let mut first = 0;
        while first < picks.count {
            let end = picks.run(first);
            gone += self.copy_run(region, picks, first, end);
            first = end;
        }
        gone
    }

    /// The same with neighbours, which are protected together.
    fn copy_run(&self, region: &Region, picks: &mut Picks<'_>, first: usize, end: usize) -> u64 {
        let (at, bytes) = (picks.at[first], (end - first) * PAGE);
        if let Err(errno) = self.uffd.protect(at, bytes, true) {
            for pick in first..end {
                self.drop_copy(region, picks.page[pick], picks.was(pick));
                self.stays(picks, pick, errno);
            }
            return 0;
        }
        let mut gone = 0;
        for pick in first..end {
            let was = picks.was(pick);
            match self.copy_page(region, picks.at[pick], picks.page[pick], was.copy()) {
                Ok(()) => {
                    self.copies_went(u64::from(was.copy() != Copied::No));
                    picks.end(pick, State::STORED);
                    self.uncharge(1);
                    gone += 1;
                }
                Err(errno) => {
                    // Whatever copy there is now, the word says that there is none.
                    self.forget(region, picks.page[pick]);
                    self.copies_went(u64::from(was.copy() != Copied::No));
                    let _ = self.uffd.protect(picks.at[pick], PAGE, false);
                    self.stays(picks, pick, errno);
                }
            }
        }
        gone
    }

    fn copy_page(&self, region: &Region, at: usize, page: u64, copy: Copied) -> Result<(), Errno> {
        if copy == Copied::Clean {
            super::counts::add(&self.counters.dropped, 1);
            return self.drop_in_place(region, at, page);
        }
        let mut lot = self.scratch.take();
        match &region.memory {
            // SAFETY: the lot has room for a page.
            Memory::Private => unsafe { self.os.read_memory(at, lot.address(0), PAGE) }?,
            Memory::Shared(file, offset) => {
                let read = self.os.read_at(file, lot.page(0), offset + page * PAGE as u64)?;
                if read != PAGE {
                    return Err(Errno(errno::EIO));
                }
            }
        }
        // SAFETY: the lot has a page.
        if !unsafe { self.store(region, page, lot.address(0)) } {
            return Err(Errno(errno::ENOMEM));
        }
        drop(lot);
        self.drop_in_place(region, at, page)
    }

    /// Drops a page that is in zswap.
    fn drop_in_place(&self, region: &Region, at: usize, page: u64) -> Result<(), Errno> {
        match &region.memory {
            // SAFETY: the page is in zswap, protected and claimed.
            Memory::Private => unsafe { self.os.release(at as *mut u8, PAGE, Kind::Anonymous) }.map(|_| ()),
            Memory::Shared(file, offset) => self.os.punch(file, offset + page * PAGE as u64, PAGE),
        }
    }

    /// A page that is not evicted now, and passed by for a while.
    fn stays(&self, picks: &mut Picks<'_>, pick: usize, errno: Errno) {
        super::counts::add(&self.counters.pinned, u64::from(errno.0 != errno::EAGAIN));
        picks.end(pick, State::resident(MAX_AGE));
    }
}
