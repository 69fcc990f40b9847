//! Serving one touch: fills a missing page, maps an unmapped one, or lifts a page's write protection.

use super::options::Protect;
use super::ranges::GuestPage;
use super::state::{Guest, GuestState, GuestTouch};
use super::stats::GuestCounts;
use crate::error::{Error, Result, Sentence, sentence};
use crate::os::userfault::{Progress, Why};
use crate::os::{Errno, errno};
use crate::units::PAGE;
use crate::zswap::LoadFlags;
use std::sync::MutexGuard;

/// The outcome of serving a touch.
pub enum Filled {
    /// The touch is served.
    Done,
    /// An event has to be read first.
    Again,
    /// The guest's process has ended.
    Ended,
    /// The system refused; a later try may succeed.
    Refused(Error),
    /// The page has no content, and the system can't poison it. The thread that touched it waits for ever, rather than
    /// read zeros.
    Stuck(Error),
}

const COPY: Sentence = sentence(&"UFFDIO_COPY to a guest's memory");
const ZERO: Sentence = sentence(&"UFFDIO_ZEROPAGE of a guest's memory");
const MAP: Sentence = sentence(&"UFFDIO_CONTINUE of a guest's memory");
const LIFT: Sentence = sentence(&"UFFDIO_WRITEPROTECT of a guest's memory");
const POISON: Sentence = sentence(&"UFFDIO_POISON of a guest's memory");
static ZEROS: [u8; PAGE] = [0; PAGE];

/// How many pages were decoded, or why the first one was not.
type Decoded = Result<usize>;

/// Whether the system's answer concerns the first page, and not the whole call.
fn is_answer(refused: Option<Errno>) -> bool {
    refused.is_none_or(|errno| matches!(errno.0, errno::EAGAIN | errno::EEXIST | errno::ESRCH))
}

impl Guest {
    /// Decodes the pages that a touch is likely to need, without the lock. Returns how many, or why not; none if the
    /// touch needs none, or if the guest has a memory file: its pages are written there once, under the lock.
    pub(super) fn decode<'a>(
        &'a self,
        state: MutexGuard<'a, GuestState>,
        touch: &GuestTouch,
        pages: &mut [[u8; PAGE]],
    ) -> (MutexGuard<'a, GuestState>, Option<Decoded>) {
        let place = state.ranges.find(touch.at).filter(|place| !state.ranges.is_own(*place));
        let Some(place) = place.filter(|_| touch.why == Why::Missing && self.file.is_none()) else {
            return (state, None);
        };
        let (wanted, from) = (self.wanted(&state, place, touch.at, touch.write), state.ranges.source(place));
        drop(state);
        let decoded = self.load(from, &mut pages[..wanted]);
        (self.state(), Some(decoded))
    }

    /// Serves a touch. `pages` has the pages that were decoded for it.
    pub(super) fn answer(
        &self,
        state: &mut GuestState,
        touch: &GuestTouch,
        pages: &mut [[u8; PAGE]],
        decoded: Option<Decoded>,
    ) -> Result<Filled> {
        match touch.why {
            Why::Missing => self.fill(state, touch.at, touch.write, pages, decoded),
            Why::Unmapped => self.map(state, touch.at, touch.write, pages),
            Why::Protected => Ok(self.lift(state, touch.at)),
        }
    }

    /// Fills a missing page.
    fn fill(
        &self,
        state: &mut GuestState,
        at: usize,
        write: bool,
        pages: &mut [[u8; PAGE]],
        decoded: Option<Decoded>,
    ) -> Result<Filled> {
        match state.ranges.find(at) {
            // The table has all memory of the guest, so this address has no content.
            None => Ok(self.poison(state, at, |counts| &mut counts.strays)),
            Some(place) if state.ranges.is_own(place) => Ok(self.zero(state, place, at, write)),
            Some(place) => {
                let decoded = decoded.unwrap_or_else(|| {
                    let wanted = self.wanted(state, place, at, write);
                    self.load(state.ranges.source(place), &mut pages[..wanted])
                });
                self.copy(state, place, at, write, decoded.map(|count| &pages[..count]))
            }
        }
    }

    /// Fills a page that the guest gave back with zeros.
    fn zero(&self, state: &mut GuestState, place: GuestPage, at: usize, write: bool) -> Filled {
        let done = self.put(state, place, write, |guest, protect| {
            // UFFDIO_ZEROPAGE can't protect, and if the missing page was protected it fails with EEXIST.
            let zeroed = (!protect).then(|| guest.uffd.zero(at, PAGE));
            match zeroed {
                Some(zeroed) if zeroed.stopped != Some(Errno(errno::EEXIST)) => zeroed,
                // SAFETY: a page can be read at `ZEROS`. The guest's owner has handed its missing pages over to be
                // filled.
                _ => unsafe { guest.uffd.copy(at, ZEROS.as_ptr(), PAGE, protect) },
            }
        });
        match done.stopped {
            None => {
                state.counts.zeroed += 1;
                Filled::Done
            }
            Some(errno) => self.refused(state, at, errno, ZERO),
        }
    }

    /// Returns how many pages a touch of a page of the snapshot fills: those after it too if the guest seems to go
    /// through them in order.
    fn wanted(&self, state: &GuestState, place: GuestPage, at: usize, write: bool) -> usize {
        let wanted = match write && self.protects(state, place) {
            // The pages ahead would have to be protected, but not this one.
            true => 1,
            false => self.ahead.window((at / PAGE) as u64),
        };
        state.ranges.fresh(place, wanted.min(self.at_once))
    }

    /// Fills a page from the snapshot, and those after it that were decoded with it.
    fn copy(
        &self,
        state: &mut GuestState,
        place: GuestPage,
        at: usize,
        write: bool,
        decoded: std::result::Result<&[[u8; PAGE]], Error>,
    ) -> Result<Filled> {
        let pages = match decoded {
            Ok(pages) => pages,
            Err(Error::Damaged(_) | Error::Io(_) | Error::NotFound(_)) => {
                return Ok(self.poison(state, at, |counts| &mut counts.poisoned));
            }
            Err(error) => return Err(error),
        };
        // Pages may have been given back, or filled by another thread, while these were decoded.
        let pages = &pages[..state.ranges.fresh(place, pages.len())];
        let loaded = pages.len();
        let mut copied = self.put(state, place, write, |guest, protect| guest.copy_pages(at, pages, protect));
        if loaded > 1 && copied.bytes == 0 && !is_answer(copied.stopped) {
            // The pages ahead may be in another mapping, and one call does not cross mappings.
            copied = self.put(state, place, write, |guest, protect| guest.copy_pages(at, &pages[..1], protect));
        }
        let pages = copied.bytes / PAGE;
        if pages == 0 {
            let errno = copied.stopped.unwrap_or(Errno(errno::EAGAIN));
            // Without a memory file the page was filled already, so it is the guest's own. With one, the file may hold
            // other bytes: the page is not marked, so that `map` writes the snapshot's page over it first.
            if errno.0 == errno::EEXIST && self.file.is_none() {
                state.ranges.make_own(place, 1);
            }
            return Ok(self.refused(state, at, errno, COPY));
        }
        state.ranges.make_own(place, pages);
        self.ahead.loaded((at / PAGE) as u64, pages, self.at_once);
        state.counts.copied += 1;
        state.counts.copied_ahead += pages as u64 - 1;
        self.clear_bits(state, place, pages)?;
        Ok(Filled::Done)
    }

    /// Decodes pages of the snapshot: the first, and those after it up to one that fails. Returns how many.
    fn load(&self, from: u64, pages: &mut [[u8; PAGE]]) -> Decoded {
        for (ahead, page) in pages.iter_mut().enumerate() {
            match self.area.load_own(from + ahead as u64, page, LoadFlags::KEEP) {
                Ok(()) => {}
                Err(error) if ahead == 0 => return Err(error.into_error()),
                Err(_) => return Ok(ahead),
            }
        }
        Ok(pages.len())
    }

    /// Fills missing pages with decoded ones.
    fn copy_pages(&self, at: usize, pages: &[[u8; PAGE]], protect: bool) -> Progress {
        // SAFETY: the pages can be read. The guest's owner has handed its missing pages over to be filled.
        unsafe { self.uffd.copy(at, pages.as_ptr().cast(), size_of_val(pages), protect) }
    }

    /// Maps a page that is in the memory file. If the guest handed the file over, and the page was not filled yet,
    /// writes the page of the snapshot to the file first.
    fn map(&self, state: &mut GuestState, at: usize, write: bool, pages: &mut [[u8; PAGE]]) -> Result<Filled> {
        let Some(place) = state.ranges.find(at) else {
            state.counts.strays += 1;
            return Ok(match self.uffd.continue_pages(at, PAGE, false).stopped {
                None => Filled::Done,
                Some(errno) => self.refused(state, at, errno, MAP),
            });
        };
        // The page was mapped before, and the system unmapped it, as it does when it splits or makes huge pages. That
        // loses whether the page was written. If the system tells of writes, the bit is right; otherwise the page
        // counts as written.
        let was_mapped = state.ranges.is_own(place);
        let write = write || was_mapped && !state.is_told;
        if self.file.is_some() && !was_mapped {
            match self.write_to_file(state, place, pages) {
                Ok(()) => {}
                Err(Error::Damaged(_) | Error::Io(_) | Error::NotFound(_)) => {
                    return Ok(self.poison(state, at, |counts| &mut counts.poisoned));
                }
                Err(error) => return Err(error),
            }
        }
        let done = self.put(state, place, write, |guest, protect| guest.uffd.continue_pages(at, PAGE, protect));
        match done.stopped {
            None => {
                state.ranges.make_own(place, 1);
                state.counts.mapped += 1;
                Ok(Filled::Done)
            }
            // The page has left the file meanwhile, so it is missing.
            Some(Errno(errno::EFAULT)) => self.fill(state, at, write, pages, None),
            Some(errno) => Ok(self.refused(state, at, errno, MAP)),
        }
    }

    /// Writes a page of the snapshot to the memory file. From then on it is the guest's own.
    pub(super) fn write_to_file(
        &self,
        state: &mut GuestState,
        place: GuestPage,
        pages: &mut [[u8; PAGE]],
    ) -> Result<()> {
        let page = state.ranges.source(place);
        self.load(page, &mut pages[..1])?;
        let Some(file) = &self.file else { return Ok(()) };
        file.write(&self.os, page, &pages[0])?;
        state.ranges.make_own(place, 1);
        state.counts.written += 1;
        self.clear_bits(state, place, 1)
    }

    /// Clears the bits of filled pages, if the guest has a bitmap.
    pub(super) fn clear_bits(&self, state: &GuestState, place: GuestPage, pages: usize) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.clear(&self.os, state.ranges.source(place), pages as u64)
    }

    /// Lifts the protection of a page that is about to be written.
    fn lift(&self, state: &mut GuestState, at: usize) -> Filled {
        if let Err(errno) = self.uffd.protect(at, PAGE, false) {
            return self.refused(state, at, errno, LIFT);
        }
        state.is_told = true;
        match state.ranges.find(at) {
            Some(place) => {
                state.ranges.set_plain(place, false);
                state.ranges.make_dirty(place, 1);
                state.counts.unprotected += 1;
            }
            None => state.counts.strays += 1,
        }
        Filled::Done
    }

    /// Whether pages of the range of `place` are write-protected when they are filled.
    fn protects(&self, state: &GuestState, place: GuestPage) -> bool {
        match self.protect {
            Protect::Always => true,
            Protect::Never => false,
            Protect::IfRegistered => !state.ranges.is_plain(place),
        }
    }

    /// Makes a call that puts pages in place, and has it protect them if writes have to be seen. A page that is about
    /// to be written is not protected, which would cost a second event: it becomes dirty at once.
    fn put(
        &self,
        state: &mut GuestState,
        place: GuestPage,
        write: bool,
        call: impl Fn(&Self, bool) -> Progress,
    ) -> Progress {
        let protect = !write && self.protects(state, place);
        let mut done = call(self, protect);
        if protect && done.bytes == 0 && done.stopped == Some(Errno(errno::EINVAL)) && self.protect != Protect::Always {
            // The system refuses to protect pages of a range that is not registered for it.
            done = call(self, false);
            if done.bytes > 0 {
                state.ranges.set_plain(place, true);
            }
        }
        if write && done.bytes > 0 {
            state.ranges.make_dirty(place, 1);
        }
        done
    }

    /// Poisons a page that has no content: a touch of it raises SIGBUS, and reads nothing.
    #[cold]
    fn poison(&self, state: &mut GuestState, at: usize, counter: impl Fn(&mut GuestCounts) -> &mut u64) -> Filled {
        const NO_POISON: Error = Error::Damaged(sentence(
            &"a guest's page has no content, and the system can't poison it: end the guest, or use Linux 6.6 or later",
        ));
        let mut poisoned = self.uffd.poison(at, PAGE);
        if poisoned.stopped == Some(Errno(errno::EEXIST)) && self.uffd.protect(at, PAGE, false).is_ok() {
            // If a missing page was protected, the system's note of that stands where the mark has to go.
            poisoned = self.uffd.poison(at, PAGE);
        }
        let Some(errno) = poisoned.stopped else {
            *counter(&mut state.counts) += 1;
            return Filled::Done;
        };
        match self.refused(state, at, errno, POISON) {
            Filled::Refused(_) => Filled::Stuck(NO_POISON),
            filled => filled,
        }
    }

    /// Decides what a refusal to put a page in place means.
    fn refused(&self, state: &mut GuestState, at: usize, refused: Errno, step: Sentence) -> Filled {
        match refused.0 {
            // There is a page already. A call that did nothing wakes no thread.
            errno::EEXIST => state.counts.present += 1,
            errno::EAGAIN => return Filled::Again,
            errno::ESRCH => return Filled::Ended,
            // The memory is gone, or no longer registered. The thread that waits finds out when it touches it again.
            errno::ENOENT => state.counts.stale += 1,
            _ => return Filled::Refused(Error::system(refused, step)),
        }
        let _ = self.uffd.wake(at, PAGE);
        Filled::Done
    }
}
