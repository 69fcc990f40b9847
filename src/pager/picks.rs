//! The pages of one region that the clock hand picked to leave memory.

use super::extents::Extent;
use super::hand::Stretch;
use super::immovable::{Effort, Immovable};
use super::page::PageClaim;
use super::region::RegionState;
use super::state::{PageKind, PageState};
use crate::units::PAGE;

/// Pages that are picked at once, at most.
pub const PICKS: usize = 64;

/// What the hand passed by without picking it.
#[derive(Default)]
pub struct PassedBy {
    /// Regions that are full by their own limit.
    pub full: bool,
    /// Pages that other threads had claimed, and regions that come or go.
    pub claimed: bool,
}

/// Pages that the hand picked, of one extent, by rising addresses. Each is claimed until it left or stays.
pub struct Picks<'a> {
    region: &'a RegionState,
    extent: Extent,
    claims: [Option<PageClaim<'a>>; PICKS],
    /// The address of each page.
    pub at: [usize; PICKS],
    /// A bit for each page: whether a held page may lie before it.
    fences: u64,
    /// Whether a held page may lie behind the last page.
    fence: bool,
    /// Where the look for pages ended.
    looked_to: usize,
    /// A bit for each page: whether the system refused to protect it.
    unprotected: u64,
    /// How many pages were picked.
    pub count: usize,
    /// The version of the table of extents in which the addresses were looked up.
    pub version: u64,
}

/// The masks have a bit for each page.
const _: () = assert!(PICKS <= u64::BITS as usize);

impl<'a> Picks<'a> {
    /// No pages of an extent of a region yet, with the table of extents at `version`.
    pub fn new(region: &'a RegionState, extent: Extent, version: u64) -> Self {
        Self {
            region,
            extent,
            claims: [const { None }; PICKS],
            at: [0; PICKS],
            fences: 0,
            fence: false,
            looked_to: 0,
            unprotected: 0,
            count: 0,
            version,
        }
    }

    /// Picks pages of a stretch, from address `from` on, until `most` are picked. Pages that were used lately grow
    /// older instead. Returns where it ended.
    pub fn pick(
        &mut self,
        (stretch, from): (&Stretch, usize),
        most: usize,
        passed: &mut PassedBy,
        (immovable, effort): (&Immovable, &mut Effort),
    ) -> usize {
        // Other threads look at what lies between two stretches, and may find held pages there.
        self.fence |= from != self.looked_to;
        let mut at = from;
        // Another region, and a smaller one, may have the place by now. Its pages are let go again.
        let extent = &self.extent;
        let pages = self.region.pages().saturating_sub(extent.first) as usize;
        let end = stretch.end.min(extent.start.saturating_add(pages.saturating_mul(PAGE)));
        while at < end && self.count < most {
            let page = self.region.page(self.extent.page_at(at));
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
                    self.push(claim, at);
                } else {
                    passed.claimed = true;
                    self.fence = true;
                }
            }
            passed.claimed |= seen.kind() == PageKind::Busy;
            // A claimed page may be held, too.
            self.fence |= matches!(seen.kind(), PageKind::Resident(1..) | PageKind::Busy);
            at += PAGE;
        }
        self.looked_to = if at < end { at } else { stretch.end };
        self.looked_to
    }

    /// Adds a page.
    fn push(&mut self, claim: PageClaim<'a>, at: usize) {
        (self.claims[self.count], self.at[self.count]) = (Some(claim), at);
        self.fences |= u64::from(std::mem::take(&mut self.fence)) << self.count;
        self.count += 1;
    }

    /// The number of a page.
    pub fn page(&self, pick: usize) -> u64 {
        self.extent.page_at(self.at[pick])
    }

    /// The end of the picks from `first` on that no held page lies between.
    pub fn fenced(&self, first: usize) -> usize {
        (first + 1..self.count).find(|&next| self.fences >> next & 1 != 0).unwrap_or(self.count)
    }

    /// The end of the run of neighbours in memory that begins at `first`.
    pub fn run(&self, first: usize) -> usize {
        (first + 1..self.count).find(|&next| self.at[next] != self.at[next - 1] + PAGE).unwrap_or(self.count)
    }

    /// Notes that the system refused to protect a page.
    pub fn refuse(&mut self, pick: usize) {
        self.unprotected |= 1 << pick;
    }

    /// Whether a page is protected from writes.
    pub fn is_protected(&self, pick: usize) -> bool {
        self.unprotected >> pick & 1 == 0
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
