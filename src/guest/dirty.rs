//! Which pages of a guest were written, and pages that a processor of the guest asks for by itself.

use super::options::Protect;
use super::ranges::GuestPage;
use super::ranges::GuestRange;
use super::state::{Guest, PATIENCE};
use crate::error::{Error, Result};
use crate::heap;
use crate::os::errno;
use crate::units::PAGE;

impl Guest {
    /// Appends the pages to `dirty` that were written, or given back, since the last call: runs of pages, in the order
    /// of their addresses. They are protected again, so that the next write to them is seen as well.
    ///
    /// A page is protected before it is reported: what is read from it after that has all that was written before, and
    /// a later write makes it dirty again. Writes that the system lifts the protection for (`UFFD_FEATURE_WP_ASYNC`)
    /// are not seen here: `PAGEMAP_SCAN` tells the guest's process of them. Nor is what is written through another
    /// mapping of a memory file, through its descriptor, or by a device.
    ///
    /// Events may have been read: call [`Guest::serve`] afterwards, whether or not the descriptor has something to
    /// read.
    ///
    /// # Errors
    /// [`Error::Invalid`] if pages are not protected, so that writes are not seen: [`Protect::Never`] was chosen, or a
    /// range is not registered for write protection. [`Error::Again`] if the guest gives memory back or moves it all
    /// the time; [`Error::System`] if the system refuses; [`Error::NoMemory`] if `dirty` can't grow. Use what was
    /// appended nevertheless. The next call appends what is left.
    pub fn take_dirty(&mut self, dirty: &mut Vec<GuestRange>) -> Result<()> {
        const UNSEEN: Error =
            Error::Invalid(&"writes are not seen: the guest's ranges are not registered for write protection");
        const CHOSEN: Error = Error::Invalid(&"writes are not seen: the guest's options say never to protect pages");
        match self.protect {
            Protect::Never => return Err(CHOSEN),
            Protect::IfRegistered if self.ranges.has_plain() => return Err(UNSEEN),
            _ => {}
        }
        // Removals that were not read yet make the system refuse.
        self.read_all()?;
        let mut from = GuestPage::FIRST;
        while let Some((place, pages)) = self.ranges.next_dirty(from) {
            // Before anything changes.
            heap::reserve_one(dirty)?;
            let pages = self.protect_again(place, pages)?;
            self.ranges.make_clean(place, pages);
            dirty.push(self.ranges.describe(place, pages));
            from = place;
        }
        Ok(())
    }

    /// Protects pages that were written, as many from the first on as one call does. How many.
    fn protect_again(&mut self, place: GuestPage, pages: usize) -> Result<usize> {
        const BUSY: Error = Error::Again(&"the guest gives memory back or moves it all the time");
        let (at, mut pages) = (self.ranges.address(place), pages);
        for _ in 0..PATIENCE {
            match self.uffd.protect(at, pages * PAGE, true).map_err(|errno| errno.0) {
                Ok(()) => return Ok(pages),
                Err(errno::EAGAIN) => {
                    self.read_all()?;
                    std::thread::yield_now();
                }
                // A part of them is gone, or not registered: page by page.
                Err(errno::ENOENT) if pages > 1 => pages = 1,
                // There is nothing to protect, or nobody who writes.
                Err(errno::ENOENT) => return Ok(pages),
                Err(errno::ESRCH) => {
                    self.ended = true;
                    return Ok(pages);
                }
                Err(errno) => return Err(Error::System { errno, step: &"UFFDIO_WRITEPROTECT of written pages" }),
            }
        }
        Err(BUSY)
    }

    /// Writes the page at an offset of the memory file there, and clears its bit, because a processor of the guest asks
    /// for it: KVM tells the guest's process of such a touch, and not the userfaultfd.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the guest has no memory file, or no range at that offset; [`Error::System`] if the system
    /// refuses; otherwise as [`crate::Area::load`]. The processor is not to go on then.
    pub fn fill_in_file(&mut self, offset: u64) -> Result<()> {
        const NO_FILE: Error = Error::Invalid(&"the guest handed no memory file over");
        const NOWHERE: Error = Error::Invalid(&"the guest has no memory at this offset of its memory file");
        if self.file.is_none() {
            return Err(NO_FILE);
        }
        let place = self.ranges.at_offset(offset).ok_or(NOWHERE)?;
        // The page may have been given back.
        self.read_all()?;
        if self.ranges.is_own(place) { self.clear_bits(place, 1) } else { self.write_to_file(place) }
    }
}
