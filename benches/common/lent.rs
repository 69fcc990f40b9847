//! A pager over one region of a benchmark, with threads that are lent to it.

use super::region::Region;
use zsalloc::{Duty, Pager, PagerOptions, PagerSnapshot, RegionOptions};

/// A pager with one region and with threads that are lent to it.
pub struct Lent {
    /// The pager.
    pub pager: Pager,
    _region: zsalloc::Region,
    _lent: Vec<zsalloc::Lent>,
}

impl Lent {
    /// Creates the pager, adds the region, and lends one thread for each duty.
    pub fn new(region: &Region, options: &PagerOptions, duties: &[Duty]) -> Result<Self, String> {
        Self::of(region, options, &RegionOptions::default(), duties)
    }

    /// Does the same with options for the region.
    pub fn of(
        region: &Region,
        options: &PagerOptions,
        of_region: &RegionOptions<'_>,
        duties: &[Duty],
    ) -> Result<Self, String> {
        let pager = Pager::new("bench", options).map_err(|error| error.to_string())?;
        let lent = duties.iter().map(|&duty| pager.lend(duty)).collect::<zsalloc::Result<_>>();
        let lent = lent.map_err(|error| error.to_string())?;
        // SAFETY: the memory is used through these addresses alone, and is unmapped after this is dropped.
        let added = unsafe { pager.add_region(region.base(), region.bytes(), of_region) };
        let region = added.map_err(|error| error.to_string())?;
        Ok(Self { pager, _region: region, _lent: lent })
    }

    /// Returns the pager's statistics.
    pub fn snapshot(&self) -> PagerSnapshot {
        self.pager.snapshot().expect("not a forked process")
    }
}
