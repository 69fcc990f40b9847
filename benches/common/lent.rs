//! A pager over one region of a benchmark, with threads that are lent to it.

use super::region::Region;
use std::sync::Arc;
use std::thread::JoinHandle;
use zsalloc::{Duty, Pager, PagerOptions, PagerSnapshot, RegionOptions};

/// A pager with one region and with threads that are lent to it.
pub struct Lent {
    /// The pager.
    pub pager: Arc<Pager>,
    threads: Vec<JoinHandle<()>>,
}

impl Lent {
    /// Creates the pager, adds the region, and lends one thread for each duty.
    pub fn new(region: &Region, options: &PagerOptions, duties: &[Duty]) -> Result<Self, String> {
        let pager = Arc::new(Pager::new("bench", options).map_err(|error| error.to_string())?);
        // SAFETY: the memory is used through these addresses alone, and is unmapped after the pager is dropped.
        let added = unsafe { pager.add_region(region.base(), region.bytes(), &RegionOptions::default()) };
        added.map_err(|error| error.to_string())?;
        let lend = |&duty: &Duty| {
            let pager = pager.clone();
            std::thread::spawn(move || pager.run(duty).expect("not a forked process"))
        };
        let threads = duties.iter().map(lend).collect();
        Ok(Self { pager, threads })
    }

    /// Returns the pager's statistics.
    pub fn snapshot(&self) -> PagerSnapshot {
        self.pager.snapshot().expect("not a forked process")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pager.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
