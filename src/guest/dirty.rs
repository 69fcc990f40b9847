//! Which pages of a guest were written, and filling pages that a processor of the guest asks for.

use super::options::Protect;
use super::ranges::GuestPage;
use super::ranges::GuestRange;
use super::state::{Guest, GuestState, PATIENCE};
use crate::error::{Error, Result, sentence};
use crate::heap;
use crate::os::errno;
use crate::units::PAGE;

impl Guest {
    /// Appends to `dirty` the pages that were written, or given back, since the last call: runs of pages, in the order
    /// of their addresses. Protects them again, so that the next write to them is seen as well.
    ///
    /// A page is protected before it is reported. So reading it afterwards sees all writes before, and a later write
    /// makes it dirty again. This does not see writes for which the system lifts the protection itself
    /// (`UFFD_FEATURE_WP_ASYNC`): `PAGEMAP_SCAN` tells the guest's process of them. Nor does it see writes through
    /// another mapping of a memory file, through the file's descriptor, or by a device.
    ///
    /// This may have read events: call [`Guest::serve`] afterwards, even if the descriptor has nothing to read.
    ///
    /// # Errors
    /// [`Error::Invalid`] if pages are not protected, so that writes are not seen: [`Protect::Never`] was chosen, or a
    /// range is not registered for write protection. [`Error::Again`] if the guest keeps giving memory back or moving
    /// it; [`Error::System`] if the system refuses; [`Error::NoMemory`] if `dirty` can't grow. Use what was appended
    /// all the same. The next call appends the rest.
    pub fn take_dirty(&self, dirty: &mut Vec<GuestRange>) -> Result<()> {
        const UNSEEN: Error = Error::Invalid(sentence(
            &"writes are not seen, because a range is not registered for write protection: register all of them for it",
        ));
        const CHOSEN: Error = Error::Invalid(sentence(
            &"writes are not seen, because the options say never to protect pages: choose another `protect`",
        ));
        // No other thread lifts a protection meanwhile.
        let state = &mut *self.state();
        match self.protect {
            Protect::Never => return Err(CHOSEN),
            Protect::IfRegistered if state.ranges.has_plain() => return Err(UNSEEN),
            _ => {}
        }
        // The system refuses while there are removals that were not read.
        self.read_all(state)?;
        let mut from = GuestPage::FIRST;
        while let Some((place, pages)) = state.ranges.next_dirty(from) {
            // Reserved before anything changes.
            heap::reserve_one(dirty)?;
            let pages = self.protect_again(state, place, pages)?;
            state.ranges.make_clean(place, pages);
            dirty.push(state.ranges.describe(place, pages));
            from = place;
        }
        Ok(())
    }

    /// Protects pages that were written, as many from the first on as one call does. Returns how many.
    fn protect_again(&self, state: &mut GuestState, place: GuestPage, pages: usize) -> Result<usize> {
        const BUSY: Error = Error::Again(sentence(&"the guest keeps giving memory back or moving it: try again"));
        let (at, mut pages) = (state.ranges.address(place), pages);
        for _ in 0..PATIENCE {
            match self.uffd.protect(at, pages * PAGE, true).map_err(|errno| errno.0) {
                Ok(()) => return Ok(pages),
                Err(errno::EAGAIN) => {
                    self.read_all(state)?;
                    std::thread::yield_now();
                }
                // Some of them are gone, or not registered: go page by page.
                Err(errno::ENOENT) if pages > 1 => pages = 1,
                // The page is gone, or not registered: there is nothing to protect.
                Err(errno::ENOENT) => return Ok(pages),
                Err(errno::ESRCH) => {
                    state.ended = true;
                    return Ok(pages);
                }
                Err(errno) => {
                    return Err(Error::System {
                        errno,
                        step: sentence(&"UFFDIO_WRITEPROTECT of a guest's written pages"),
                    });
                }
            }
        }
        Err(BUSY)
    }

    /// Writes the page at an offset of the memory file to the file, and clears the page's bit. Call it for a touch by a
    /// processor of the guest: KVM tells the guest's process of such touches, and not the userfaultfd.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the guest has no memory file, or no range at that offset; [`Error::System`] if the system
    /// refuses; otherwise the errors of [`crate::Area::load`]. On an error the processor must not go on.
    pub fn fill_in_file(&self, offset: u64) -> Result<()> {
        const NO_FILE: Error = Error::Invalid(sentence(&"the guest has no memory file: create it with one"));
        const NOWHERE: Error = Error::Invalid(sentence(
            &"the guest has no memory at this offset: pass an offset of the memory file that is in a range",
        ));
        if self.file.is_none() {
            return Err(NO_FILE);
        }
        let state = &mut *self.state();
        let place = state.ranges.at_offset(offset).ok_or(NOWHERE)?;
        // The page may have been given back.
        self.read_all(state)?;
        if state.ranges.is_own(place) {
            self.clear_bits(state, place, 1)
        } else {
            self.with_buffer(|pages| self.write_to_file(state, place, pages))?
        }
    }
}
