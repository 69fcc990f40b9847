//! Serving one touch: fills a missing page, maps an unmapped one, or lifts a page's write protection.

use super::options::Protect;
use super::ranges::GuestPage;
use super::state::{Guest, GuestTouch};
use super::stats::GuestCounts;
use crate::error::{Error, Result, Sentence, sentence};
use crate::os::userfault::{Progress, Why};
use crate::os::{Errno, errno};
use crate::units::PAGE;
use crate::zswap::LoadFlags;

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

/// Whether the system's answer concerns the first page, and not the whole call.
fn is_answer(refused: Option<Errno>) -> bool {
    refused.is_none_or(|errno| matches!(errno.0, errno::EAGAIN | errno::EEXIST | errno::ESRCH))
}

impl Guest {
    /// Serves a touch.
    pub(super) fn answer(&mut self, touch: &GuestTouch) -> Result<Filled> {
        match touch.why {
            Why::Missing => self.fill(touch.at, touch.write),
            Why::Unmapped => self.map(touch.at, touch.write),
            Why::Protected => Ok(self.lift(touch.at)),
        }
    }

    /// Fills a missing page.
    fn fill(&mut self, at: usize, write: bool) -> Result<Filled> {
        match self.ranges.find(at) {
            // The table has all memory of the guest, so this address has no content.
            None => Ok(self.poison(at, |counts| &mut counts.strays)),
            Some(place) if self.ranges.is_own(place) => Ok(self.zero(place, at, write)),
            Some(place) => self.copy(place, at, write),
        }
    }

    /// Fills a page that the guest gave back with zeros.
    fn zero(&mut self, place: GuestPage, at: usize, write: bool) -> Filled {
        let done = self.put(place, write, |guest, protect| {
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
                self.counts.zeroed += 1;
                Filled::Done
            }
            Some(errno) => self.refused(at, errno, ZERO),
        }
    }

    /// Fills a page from the snapshot, and the pages after it if the guest seems to go through them in order.
    fn copy(&mut self, place: GuestPage, at: usize, write: bool) -> Result<Filled> {
        let wanted = match write && self.protects(place) {
            // The pages ahead would have to be protected, but not this one.
            true => 1,
            false if self.next.0 == at => self.next.1,
            false => 1,
        };
        let wanted = self.ranges.fresh(place, wanted.min(self.pages.len()));
        let loaded = match self.load(self.ranges.source(place), wanted) {
            Ok(loaded) => loaded,
            Err(Error::Damaged(_) | Error::Io(_) | Error::NotFound(_)) => {
                return Ok(self.poison(at, |counts| &mut counts.poisoned));
            }
            Err(error) => return Err(error),
        };
        let mut copied = self.put(place, write, |guest, protect| guest.copy_pages(at, loaded, protect));
        if loaded > 1 && copied.bytes == 0 && !is_answer(copied.stopped) {
            // The pages ahead may be in another mapping, and one call does not cross mappings.
            copied = self.put(place, write, |guest, protect| guest.copy_pages(at, 1, protect));
        }
        let pages = copied.bytes / PAGE;
        if pages == 0 {
            let errno = copied.stopped.unwrap_or(Errno(errno::EAGAIN));
            // Without a memory file the page was filled already, so it is the guest's own. With one, the file may hold
            // other bytes: the page is not marked, so that `map` writes the snapshot's page over it first.
            if errno.0 == errno::EEXIST && self.file.is_none() {
                self.ranges.make_own(place, 1);
            }
            return Ok(self.refused(at, errno, COPY));
        }
        self.ranges.make_own(place, pages);
        self.next = (at + pages * PAGE, pages * 2);
        self.counts.copied += 1;
        self.counts.copied_ahead += pages as u64 - 1;
        self.clear_bits(place, pages)?;
        Ok(Filled::Done)
    }

    /// Decodes pages of the snapshot: the first, and those after it up to one that fails. Returns how many.
    fn load(&mut self, from: u64, most: usize) -> Result<usize> {
        for (ahead, page) in self.pages[..most].iter_mut().enumerate() {
            match self.area.load_own(from + ahead as u64, page, LoadFlags::KEEP) {
                Ok(()) => {}
                Err(error) if ahead == 0 => return Err(error.into_error()),
                Err(_) => return Ok(ahead),
            }
        }
        Ok(most)
    }

    /// Fills missing pages with the decoded ones.
    fn copy_pages(&self, at: usize, pages: usize, protect: bool) -> Progress {
        let from = self.pages[..pages].as_ptr();
        // SAFETY: `pages` pages can be read at `from`. The guest's owner has handed its missing pages over to be
        // filled.
        unsafe { self.uffd.copy(at, from.cast(), pages * PAGE, protect) }
    }

    /// Maps a page that is in the memory file. If the guest handed the file over, and the page was not filled yet,
    /// writes the page of the snapshot to the file first.
    fn map(&mut self, at: usize, write: bool) -> Result<Filled> {
        let Some(place) = self.ranges.find(at) else {
            self.counts.strays += 1;
            return Ok(match self.uffd.continue_pages(at, PAGE, false).stopped {
                None => Filled::Done,
                Some(errno) => self.refused(at, errno, MAP),
            });
        };
        // The page was mapped before, and the system unmapped it, as it does when it splits or makes huge pages. That
        // loses whether the page was written. If the system tells of writes, the bit is right; otherwise the page
        // counts as written.
        let was_mapped = self.ranges.is_own(place);
        let write = write || was_mapped && !self.is_told;
        if self.file.is_some() && !was_mapped {
            match self.write_to_file(place) {
                Ok(()) => {}
                Err(Error::Damaged(_) | Error::Io(_) | Error::NotFound(_)) => {
                    return Ok(self.poison(at, |counts| &mut counts.poisoned));
                }
                Err(error) => return Err(error),
            }
        }
        let done = self.put(place, write, |guest, protect| guest.uffd.continue_pages(at, PAGE, protect));
        match done.stopped {
            None => {
                self.ranges.make_own(place, 1);
                self.counts.mapped += 1;
                Ok(Filled::Done)
            }
            // The page has left the file meanwhile, so it is missing.
            Some(Errno(errno::EFAULT)) => self.fill(at, write),
            Some(errno) => Ok(self.refused(at, errno, MAP)),
        }
    }

    /// Writes a page of the snapshot to the memory file. From then on it is the guest's own.
    pub(super) fn write_to_file(&mut self, place: GuestPage) -> Result<()> {
        let page = self.ranges.source(place);
        self.load(page, 1)?;
        let Some(file) = &self.file else { return Ok(()) };
        file.write(&self.os, page, &self.pages[0])?;
        self.ranges.make_own(place, 1);
        self.counts.written += 1;
        self.clear_bits(place, 1)
    }

    /// Clears the bits of filled pages, if the guest has a bitmap.
    pub(super) fn clear_bits(&self, place: GuestPage, pages: usize) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.clear(&self.os, self.ranges.source(place), pages as u64)
    }

    /// Lifts the protection of a page that is about to be written.
    fn lift(&mut self, at: usize) -> Filled {
        if let Err(errno) = self.uffd.protect(at, PAGE, false) {
            return self.refused(at, errno, LIFT);
        }
        self.is_told = true;
        match self.ranges.find(at) {
            Some(place) => {
                self.ranges.set_plain(place, false);
                self.ranges.make_dirty(place, 1);
                self.counts.unprotected += 1;
            }
            None => self.counts.strays += 1,
        }
        Filled::Done
    }

    /// Whether pages of the range of `place` are write-protected when they are filled.
    pub(super) fn protects(&self, place: GuestPage) -> bool {
        match self.protect {
            Protect::Always => true,
            Protect::Never => false,
            Protect::IfRegistered => !self.ranges.is_plain(place),
        }
    }

    /// Makes a call that puts pages in place, and has it protect them if writes have to be seen. A page that is about
    /// to be written is not protected, which would cost a second event: it becomes dirty at once.
    fn put(&mut self, place: GuestPage, write: bool, call: impl Fn(&Self, bool) -> Progress) -> Progress {
        let protect = !write && self.protects(place);
        let mut done = call(self, protect);
        if protect && done.bytes == 0 && done.stopped == Some(Errno(errno::EINVAL)) && self.protect != Protect::Always {
            // The system refuses to protect pages of a range that is not registered for it.
            done = call(self, false);
            if done.bytes > 0 {
                self.ranges.set_plain(place, true);
            }
        }
        if write && done.bytes > 0 {
            self.ranges.make_dirty(place, 1);
        }
        done
    }

    /// Poisons a page that has no content: a touch of it raises SIGBUS, and reads nothing.
    #[cold]
    fn poison(&mut self, at: usize, counter: impl Fn(&mut GuestCounts) -> &mut u64) -> Filled {
        const NO_POISON: Error = Error::Damaged(sentence(
            &"a guest's page has no content, and the system can't poison it: end the guest, or use Linux 6.6 or later",
        ));
        let mut poisoned = self.uffd.poison(at, PAGE);
        if poisoned.stopped == Some(Errno(errno::EEXIST)) && self.uffd.protect(at, PAGE, false).is_ok() {
            // If a missing page was protected, the system's note of that stands where the mark has to go.
            poisoned = self.uffd.poison(at, PAGE);
        }
        let Some(errno) = poisoned.stopped else {
            *counter(&mut self.counts) += 1;
            return Filled::Done;
        };
        match self.refused(at, errno, POISON) {
            Filled::Refused(_) => Filled::Stuck(NO_POISON),
            filled => filled,
        }
    }

    /// Decides what a refusal to put a page in place means.
    fn refused(&mut self, at: usize, refused: Errno, step: Sentence) -> Filled {
        match refused.0 {
            // There is a page already. A call that did nothing wakes no thread.
            errno::EEXIST => self.counts.present += 1,
            errno::EAGAIN => return Filled::Again,
            errno::ESRCH => return Filled::Ended,
            // The memory is gone, or no longer registered. The thread that waits finds out when it touches it again.
            errno::ENOENT => self.counts.stale += 1,
            _ => return Filled::Refused(Error::system(refused, step)),
        }
        let _ = self.uffd.wake(at, PAGE);
        Filled::Done
    }
}
