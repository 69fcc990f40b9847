//! Whether a page may come in: the limits refuse it by an estimate before it is compressed, or by its size after that.

use super::area::AreaState;
use super::limit::{Charged, OverLimit};
use super::reservation::Reservation;
use super::running_calls::RunningCall;
use super::store_load_failure::NotStored;

impl AreaState {
    /// Refuses a page that is not expected to fit, before it is compressed.
    #[inline]
    pub(super) fn admit(&self, call: &RunningCall<'_>, estimate: u64) -> Result<(), NotStored> {
        match self.limits().admit(estimate) {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.refuse_early(call, refused, estimate, 1)),
        }
    }

    /// Charges a page to both limits.
    #[inline]
    pub(super) fn charge(&self, bytes: u64) -> Result<Charged<'_>, NotStored> {
        let charged = self.limits().charge(bytes);
        Ok(charged.inspect_err(|&refused| self.limits().meet(refused, bytes))?)
    }

    /// Reserves room for a batch of `pages` pages, which are expected to take `estimate` bytes in all.
    pub(super) fn reserve(
        &self,
        call: &RunningCall<'_>,
        estimate: u64,
        pages: u64,
    ) -> Result<Reservation<'_>, NotStored> {
        let limits = self.limits();
        let reserved = limits.admit(estimate).and_then(|()| Reservation::new(limits, &self.shared.batches, estimate));
        reserved.map_err(|refused| self.refuse_early(call, refused, estimate, pages))
    }

    /// Counts pages that are refused by their estimate.
    #[cold]
    fn refuse_early(&self, call: &RunningCall<'_>, refused: OverLimit, estimate: u64, pages: u64) -> NotStored {
        self.limits().meet(refused, estimate / pages.max(1));
        let refused = NotStored::from(refused);
        call.count(|counts| {
            refused.count(counts, pages);
            counts.refused_early += pages;
        });
        refused
    }
}
