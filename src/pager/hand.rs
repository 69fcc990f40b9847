//! The clock hand: where it stands, and the pages of one region that it picked to leave memory.

use super::extents::Extent;
use super::immovable::{Effort, Immovable};
use super::page::PageClaim;
use super::region::RegionState;
use super::staging::BLOCK;
use super::state::{PageKind, PageState};
use crate::sync::Ordering::Relaxed;
use crate::units::PAGE;

/// State words that are looked at with the lock of the hand held, at most.
const LOOKS: usize = 4096;

/// The address where the clock hand stands. It begins at the lowest.
#[derive(Default)]
pub struct Hand(pub usize);

/// What the hand passed by without picking it.
#[derive(Default)]
pub struct PassedBy {
    /// Regions that are full by their own limit.
    pub full: bool,
    /// Pages that other threads had claimed, and regions that come or go.
    pub claimed: bool,
}

/// Pages that the hand picked, of one region, by rising addresses. Each is claimed until it left or stays.
pub struct Picks<'a> {
    claims: [Option<PageClaim<'a>>; BLOCK],
    /// The address of each page.
    pub at: [usize; BLOCK],
    /// The number of each page.
    pub page: [u64; BLOCK],
    /// Whether a held page lies before it.
    fence: [bool; BLOCK],
    /// Whether the system refused to protect it.
    pub unprotected: [bool; BLOCK],
    /// How many pages were picked.
    pub count: usize,
    /// The version of the table of extents in which the addresses were looked up.
    pub version: u64,
}

impl<'a> Picks<'a> {
    /// No pages yet, with the table of extents at `version`.
    pub fn new(version: u64) -> Self {
        Self {
            claims: [const { None }; BLOCK],
            at: [0; BLOCK],
            page: [0; BLOCK],
            fence: [false; BLOCK],
            unprotected: [false; BLOCK],
            count: 0,
            version,
        }
    }

    /// Picks up to `most` pages of an extent, from address `from` on. Pages that were used lately grow older instead.
    /// Returns where the hand stands then.
    pub fn pick(
        &mut self,
        (region, extent, from): (&'a RegionState, &Extent, usize),
        most: usize,
        passed: &mut PassedBy,
        (immovable, effort): (&Immovable, &mut Effort),
    ) -> usize {
        let mut fence = false;
        if region.closing.load(Relaxed) {
            passed.claimed = true;
            return extent.end;
        }
        let mut at = from;
        // Another region, and a smaller one, may have the place by now. Its pages are let go again.
        let end = extent
            .end
            .min(from + LOOKS * PAGE)
            .min(extent.start + (region.pages().saturating_sub(extent.first)) as usize * PAGE);
        while at < end && self.count < most {
            let number = extent.page_at(at);
            let page = region.page(number);
            let seen = page.peek();
            let passes = seen.is_immovable() && !immovable.may_retry(effort);
            if seen.kind() == PageKind::Resident(0) && !passes {
                if seen.age() > 0 && !seen.is_immovable() {
                    page.grow_older(seen);
                } else if let Some(mut claim) = page.try_claim(seen) {
                    if seen.is_immovable() {
                        immovable.retry(effort);
                        claim.set(immovable.unmarked(seen));
                    }
                    self.push(claim, at, number, std::mem::take(&mut fence));
                } else {
                    passed.claimed = true;
                }
            }
            passed.claimed |= seen.kind() == PageKind::Busy;
            // A claimed page may be held, too.
            fence |= matches!(seen.kind(), PageKind::Resident(1..) | PageKind::Busy);
            at += PAGE;
        }
        at
    }

    /// Adds a page. `fence`: a held page lies before it.
    fn push(&mut self, claim: PageClaim<'a>, at: usize, page: u64, fence: bool) {
        (self.claims[self.count], self.at[self.count], self.page[self.count]) = (Some(claim), at, page);
        self.fence[self.count] = fence;
        self.count += 1;
    }

    /// The end of the picks from `first` on that no held page lies between.
    pub fn fenced(&self, first: usize) -> usize {
        (first + 1..self.count).find(|&next| self.fence[next]).unwrap_or(self.count)
    }

    /// The end of the run of neighbours in memory that begins at `first`.
    pub fn run(&self, first: usize) -> usize {
        (first + 1..self.count).find(|&next| self.at[next] != self.at[next - 1] + PAGE).unwrap_or(self.count)
    }

    /// The state that a page had, without the mark of an immovable page, which was removed when it was picked.
    pub fn was(&self, pick: usize) -> PageState {
        let was = self.claims[pick].as_ref().expect("it was picked").was();
        if was.is_immovable() { was.with_mark(false) } else { was }
    }

    /// Whether the page had the mark of an immovable page.
    pub fn is_retried(&self, pick: usize) -> bool {
        self.claims[pick].as_ref().expect("it was picked").was().is_immovable()
    }

    /// Ends the claim of a page with its new state.
    pub fn end(&mut self, pick: usize, state: PageState) {
        let mut claim = self.claims[pick].take().expect("it was picked");
        claim.set(state);
    }
}
