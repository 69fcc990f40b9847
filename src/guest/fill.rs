//! What is done for a touch: a missing page is filled, one that is only unmapped is mapped, and one that is protected
//! from writes is so no more.

use super::options::Protect;
use super::ranges::GuestPage;
use super::state::{Guest, Touch};
use super::stats::GuestCounts;
use crate::error::{Error, Result, Sentence};
use crate::os::userfault::{Progress, Why};
use crate::os::{Errno, errno};
use crate::units::PAGE;
use crate::zswap::LoadFlags;

/// How serving a touch went.
pub enum Filled {
    /// The touch is served.
    Done,
    /// An event has to be read first.
    Again,
    /// There is no process any more.
    Ended,
    /// The system refuses; it may not later.
    Refused(Error),
    /// The page has no content, and the system can't poison it: whoever touched it waits for ever, and reads no zeros.
    Stuck(Error),
}

const COPY: Sentence = &"UFFDIO_COPY to a guest's memory";
const ZERO: Sentence = &"UFFDIO_ZEROPAGE of a guest's memory";
const MAP: Sentence = &"UFFDIO_CONTINUE of a guest's memory";
const LIFT: Sentence = &"UFFDIO_WRITEPROTECT of a guest's memory";
const POISON: Sentence = &"UFFDIO_POISON of a guest's memory";
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Whether the system's answer is about the first page, and not about the call.
fn is_answer(refused: Option<Errno>) -> bool {
    refused.is_none_or(|errno| matches!(errno.0, errno::EAGAIN | errno::EEXIST | errno::ESRCH))
}

impl Guest {
    pub(super) fn answer(&mut self, touch: &Touch) -> Result<Filled> {
        match touch.why {
            Why::Missing => self.fill(touch.at, touch.write),
            Why::Unmapped => self.map(touch.at, touch.write),
            Why::Protected => Ok(self.lift(touch.at)),
        }
    }

    fn fill(&mut self, at: usize, write: bool) -> Result<Filled> {
        match self.ranges.find(at) {
            // The table says what there is: this has no content.
            None => Ok(self.poison(at, |counts| &mut counts.strays)),
            Some(place) if self.ranges.is_own(place) => Ok(self.zero(place, at, write)),
            Some(place) => self.copy(place, at, write),
        }
    }

    /// Fills a page that the guest gave back.
    fn zero(&mut self, place: GuestPage, at: usize, write: bool) -> Filled {
        let done = self.put(place, write, |guest, protect| {
            // There is no UFFDIO_ZEROPAGE that protects, and where a missing page was protected it answers EEXIST.
            let zeroed = (!protect).then(|| guest.uffd.zero(at, PAGE));
            match zeroed {
                Some(zeroed) if zeroed.stopped != Some(Errno(errno::EEXIST)) => zeroed,
                // SAFETY: a page can be read there. The guest's owner handed the missing pages over to be filled.
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

    /// Fills a page from the snapshot, and those after it if the guest seems to go through them in order.
    fn copy(&mut self, place: GuestPage, at: usize, write: bool) -> Result<Filled> {
        let wanted = match write && self.protects(place) {
            // Those ahead would have to be protected, unlike this one.
            true => 1,
            false if self.next.0 == at => self.next.1,
            false => 1,
        };
        let wanted = self.ranges.fresh(place, wanted.min(self.pages.len()));
        let loaded = match self.load(self.ranges.source(place), wanted) {
            Ok(loaded) => loaded,
            Err(Error::Io(_) | Error::NotFound(_)) => return Ok(self.poison(at, |counts| &mut counts.poisoned)),
            Err(error) => return Err(error),
        };
        let mut copied = self.put(place, write, |guest, protect| guest.copy_pages(at, loaded, protect));
        if loaded > 1 && copied.bytes == 0 && !is_answer(copied.stopped) {
            // What follows may be mapped another way, and one call does not go beyond that.
            copied = self.put(place, write, |guest, protect| guest.copy_pages(at, 1, protect));
        }
        let pages = copied.bytes / PAGE;
        if pages == 0 {
            let errno = copied.stopped.unwrap_or(Errno(errno::EAGAIN));
            // A page that is in the memory file, and not from here, is overwritten before it is mapped.
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

    /// Decodes pages of the snapshot, the first one and as many of those after it as can be. How many.
    fn load(&mut self, from: u64, most: usize) -> Result<usize> {
        for (ahead, page) in self.pages[..most].iter_mut().enumerate() {
            match self.area.load_own(from + ahead as u64, page, LoadFlags::KEEP) {
                Ok(()) => {}
                Err(error) if ahead == 0 => return Err(error),
                Err(_) => return Ok(ahead),
            }
        }
        Ok(most)
    }

    fn copy_pages(&self, at: usize, pages: usize, protect: bool) -> Progress {
        let from = self.pages[..pages].as_ptr();
        // SAFETY: so many pages can be read there. Its owner handed the missing pages over to be filled.
        unsafe { self.uffd.copy(at, from.cast(), pages * PAGE, protect) }
    }

    /// Maps a page that the memory file has. If the guest handed the file over, and the page was not filled yet, its
    /// bytes are written to the file first.
    fn map(&mut self, at: usize, write: bool) -> Result<Filled> {
        let Some(place) = self.ranges.find(at) else {
            self.counts.strays += 1;
            return Ok(match self.uffd.continue_pages(at, PAGE, false).stopped {
                None => Filled::Done,
                Some(errno) => self.refused(at, errno, MAP),
            });
        };
        // It was mapped before, and the system unmapped it, as when it splits or makes huge pages: that loses whether
        // it was written. Where this thread is told of writes it knows; elsewhere it is taken for written.
        let was_mapped = self.ranges.is_own(place);
        let write = write || was_mapped && !self.is_told;
        if self.file.is_some() && !was_mapped {
            match self.write_to_file(place) {
                Ok(()) => {}
                Err(Error::Io(_) | Error::NotFound(_)) => return Ok(self.poison(at, |counts| &mut counts.poisoned)),
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
            // It left the file meanwhile, so it is missing.
            Some(Errno(errno::EFAULT)) => self.fill(at, write),
            Some(errno) => Ok(self.refused(at, errno, MAP)),
        }
    }

    /// Writes a page of the snapshot to the memory file. It is the guest's own from then on.
    pub(super) fn write_to_file(&mut self, place: GuestPage) -> Result<()> {
        let page = self.ranges.source(place);
        self.load(page, 1)?;
        let Some(file) = &self.file else { return Ok(()) };
        file.write(&self.os, page, &self.pages[0])?;
        self.ranges.make_own(place, 1);
        self.counts.written += 1;
        self.clear_bits(place, 1)
    }

    /// Clears the bits of pages that are filled, if the guest has a bitmap.
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

    /// Whether pages of a range are put in place protected from writes.
    pub(super) fn protects(&self, place: GuestPage) -> bool {
        match self.protect {
            Protect::Always => true,
            Protect::Never => false,
            Protect::IfRegistered => !self.ranges.is_plain(place),
        }
    }

    /// Makes a call that puts pages in place, protected if writes are to be seen. The page that is about to be written
    /// is not protected, which would take a second event: it is dirty at once.
    fn put(&mut self, place: GuestPage, write: bool, call: impl Fn(&Self, bool) -> Progress) -> Progress {
        let protect = !write && self.protects(place);
        let mut done = call(self, protect);
        if protect && done.bytes == 0 && done.stopped == Some(Errno(errno::EINVAL)) && self.protect != Protect::Always {
            // The system protects nothing in a range that is not registered for it.
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

    /// Makes a page that has no content fail: whoever touches it gets SIGBUS, and reads nothing.
    #[cold]
    fn poison(&mut self, at: usize, counter: impl Fn(&mut GuestCounts) -> &mut u64) -> Filled {
        const NO_POISON: Error = Error::Io(&"a guest's page has no content, and the system can't poison it");
        let mut poisoned = self.uffd.poison(at, PAGE);
        if poisoned.stopped == Some(Errno(errno::EEXIST)) && self.uffd.protect(at, PAGE, false).is_ok() {
            // Where a missing page was protected, the system has noted that in the place of the mark.
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

    /// What it means that the system refused to put a page in place.
    fn refused(&mut self, at: usize, refused: Errno, step: Sentence) -> Filled {
        match refused.0 {
            // There is a page already. Nobody is woken by a call that did nothing.
            errno::EEXIST => self.counts.present += 1,
            errno::EAGAIN => return Filled::Again,
            errno::ESRCH => return Filled::Ended,
            // The memory is gone, or is not under the userfaultfd any more: who waits finds out by touching it again.
            errno::ENOENT => self.counts.stale += 1,
            _ => return Filled::Refused(Error::system(refused, step)),
        }
        let _ = self.uffd.wake(at, PAGE);
        Filled::Done
    }
}
