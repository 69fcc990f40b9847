//! Holding parts of regions: what is held stays in its place, for the system to read and write, until it is released.

use super::core::Core;
use super::extents::Extent;
use super::fault::{Served, Want};
use super::page::Claim;
use super::word::{Kind, MAX_HOLDS};
use crate::error::{Error, Result};
use crate::sync::{Ordering::Relaxed, Wait};
use crate::units::PAGE;

/// Most holds of a page. A state word has room for some more, which as many threads may add at once that all found the
/// page to be held less often.
pub(crate) const MOST_HOLDS: u32 = MAX_HOLDS - 0xffff;
/// How often pages are made writable that the system refuses: some milliseconds.
const TRIES: u32 = 20;
const NO_REGION: Error = Error::Invalid(&"a part of the range is in no region");

impl Core {
    /// The whole pages of a range, if all of them are in regions.
    pub(super) fn check_range(&self, at: usize, bytes: usize) -> Result<(usize, usize)> {
        let (start, end) = whole_pages(at, bytes)?;
        if self.covers(start, end) { Ok((start, end)) } else { Err(NO_REGION) }
    }

    /// Whether regions have all of a range.
    fn covers(&self, start: usize, end: usize) -> bool {
        let has_all = || {
            let covered: usize = self.extents.within(start, end).map(|part| part.end - part.start).sum();
            covered == end - start
        };
        // The owner of a range that moves goes on once the event was read. It may come here before the event takes
        // effect, which the thread that read it sees to before it lets the lock of events go.
        has_all() || {
            self.read_events();
            has_all()
        }
    }

    /// Brings a range to memory, and keeps it there.
    pub fn hold(&self, at: usize, bytes: usize) -> Result<()> {
        const TOO_MUCH: Error = Error::NoSpace(&"more would be held than may be at the same time");
        const TOO_OFTEN: Error = Error::NoSpace(&"a page of the range is held as often as can be counted: release it");
        let (start, end) = self.check_range(at, bytes)?;
        for at in (start..end).step_by(PAGE) {
            let held = match self.holds_of(at) {
                0 if self.holds_no_more() => Err(TOO_MUCH),
                MOST_HOLDS.. => Err(TOO_OFTEN),
                0 => {
                    self.isolate(at);
                    self.hold_page(at)
                }
                _ => self.hold_page(at),
            };
            if let Err(error) = held {
                self.release_range(start, at);
                return Err(error);
            }
        }
        // An eviction that began before may just now have protected them for nothing; none that begins now will.
        drop(self.hand.lock());
        let mut wait = Wait::default();
        for _ in 0..TRIES {
            let refused = |part: Extent| self.uffd.protect(part.start, part.end - part.start, false).is_err();
            if !self.extents.within(start, end).any(refused) {
                break;
            }
            // An event has to be read first, or the range is not what it was. Else a system call finds it protected.
            self.read_events();
            wait.a_moment();
        }
        self.keep_mapped(start, end);
        Ok(())
    }

    /// Whether as many pages are held as may be. Pages that were unmapped may be counted still.
    fn holds_no_more(&self) -> bool {
        let is_full = || self.held.load(Relaxed) >= self.max_held;
        if is_full() {
            self.do_all_work();
        }
        is_full()
    }

    /// How often the page of an address is held.
    fn holds_of(&self, at: usize) -> u32 {
        if let Some(Kind::Resident(holds)) = self.kind_at(at) { holds } else { 0 }
    }

    fn hold_page(&self, at: usize) -> Result<()> {
        match self.serve(at, Want { write: true, hold: true }) {
            Served::Done => Ok(()),
            Served::Unknown => Err(NO_REGION),
            Served::Failed(error) => Err(error),
        }
    }

    /// A page that this thread has claimed and put in place is held once more.
    pub fn hold_claimed(&self, claim: &mut Claim<'_>) {
        let Kind::Resident(holds) = claim.becomes().kind() else { return };
        let state = self.unmarked(claim.becomes());
        if holds == 0 {
            self.held.fetch_add(1, Relaxed);
        }
        claim.set(state.with_holds((holds + 1).min(MAX_HOLDS)));
    }

    /// Ends a hold, of what is left of its range: a part may have been unmapped meanwhile, or its region removed.
    pub fn release(&self, at: usize, bytes: usize) -> Result<()> {
        let (start, end) = whole_pages(at, bytes)?;
        let all = self.covers(start, end);
        // What the system writes to a page that was discarded while it was held stays: a discard that is under way
        // must not find the page to be held no more.
        self.wait_for_discards(start, end);
        self.release_range(start, end);
        if all { Ok(()) } else { Err(NO_REGION) }
    }

    fn release_range(&self, start: usize, end: usize) {
        let mut at = start;
        loop {
            let version = self.extents.version();
            let Some(part) = self.extents.within(at, end).next() else { return };
            if self.release_part(&part, version) {
                at = part.end;
            }
        }
    }

    /// Ends a hold of each page of a part that was found in the table of extents of that version. False: the table is
    /// another by now, and the part may be a region's that is gone, whose place another one has.
    pub(crate) fn release_part(&self, part: &Extent, version: u64) -> bool {
        let region = self.places[part.region].enter();
        // A region's parts leave the table before it leaves its place: this one stays while this thread is in it.
        if self.extents.version() != version {
            return false;
        }
        let Some(region) = region else { return true };
        for at in (part.start..part.end).step_by(PAGE) {
            let mut claim = region.page(part.page_at(at)).claim();
            let Kind::Resident(holds @ 1..) = claim.was().kind() else { continue };
            claim.set(claim.was().with_holds(holds - 1));
            self.held.fetch_sub(u64::from(holds == 1), Relaxed);
        }
        true
    }
}

/// Where the pages begin and end that a range touches. No bytes touch none.
fn whole_pages(at: usize, bytes: usize) -> Result<(usize, usize)> {
    let start = at & !(PAGE - 1);
    let end = at.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(PAGE)).ok_or(NO_REGION)?;
    Ok((start, if bytes == 0 { start } else { end }))
}
