//! Pages that the clock hand picked, of one region, until they have left or stay.

use super::page::Claim;
use super::staging::BLOCK;
use super::word::State;
use crate::units::PAGE;

/// Pages that the hand picked, of one region, by rising addresses.
pub(super) struct Picks<'a> {
    claims: [Option<Claim<'a>>; BLOCK],
    pub(super) at: [usize; BLOCK],
    pub(super) page: [u64; BLOCK],
    /// Whether a page that is held lies before it.
    fence: [bool; BLOCK],
    /// Whether the system refused to protect it.
    pub(super) unprotected: [bool; BLOCK],
    pub(super) count: usize,
    /// Of the table of extents, when the addresses were looked up there.
    pub(super) version: u64,
}

impl<'a> Picks<'a> {
    /// None yet, of a table of extents of this version.
    pub(super) fn new(version: u64) -> Self {
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

    /// Where a page that is held lies next after `first`, or the end.
    pub(super) fn fenced(&self, first: usize) -> usize {
        (first + 1..self.count).find(|&next| self.fence[next]).unwrap_or(self.count)
    }

    /// Picks a page. `fence`: a page that is held lies before it.
    pub(super) fn push(&mut self, claim: Claim<'a>, at: usize, page: u64, fence: bool) {
        (self.claims[self.count], self.at[self.count], self.page[self.count]) = (Some(claim), at, page);
        self.fence[self.count] = fence;
        self.count += 1;
    }

    /// Where the run ends that begins at `first`: neighbours in memory.
    pub(super) fn run(&self, first: usize) -> usize {
        (first + 1..self.count).find(|&next| self.at[next] != self.at[next - 1] + PAGE).unwrap_or(self.count)
    }

    /// The word that a page had, without the mark that it could not leave, which is taken off when it is picked.
    pub(super) fn was(&self, pick: usize) -> State {
        let was = self.claims[pick].as_ref().expect("it was picked").was();
        if was.is_immovable() { was.with_mark(false) } else { was }
    }

    /// Whether it had the mark.
    pub(super) fn is_retried(&self, pick: usize) -> bool {
        self.claims[pick].as_ref().expect("it was picked").was().is_immovable()
    }

    /// Ends a claim with what became of the page.
    pub(super) fn end(&mut self, pick: usize, state: State) {
        let mut claim = self.claims[pick].take().expect("it was picked");
        claim.set(state);
    }
}
