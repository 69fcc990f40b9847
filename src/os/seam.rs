//! The value that calls go through which tests make fail: it makes the n-th call of a kind fail.

use super::calls::Call;
use super::errno::OsResult;
#[cfg(any(test, fuzzing))]
use super::injected::{Faults, of_this_thread};
#[cfg(any(test, fuzzing))]
use std::sync::Arc;

/// The calls to the system that one pool, pager or guest makes.
#[derive(Clone)]
#[cfg_attr(not(any(test, fuzzing)), derive(Default))]
pub struct Os {
    /// Counts the calls, and makes some of them fail.
    #[cfg(any(test, fuzzing))]
    pub faults: Option<Arc<Faults>>,
}

#[cfg(any(test, fuzzing))]
impl Default for Os {
    /// Takes the faults that [`given`](super::injected::given) has set for this thread.
    fn default() -> Self {
        Self { faults: of_this_thread() }
    }
}

impl Os {
    #[cfg(not(any(test, fuzzing)))]
    pub(super) fn may(&self, _: Call) -> OsResult<()> {
        Ok(())
    }

    /// Counts a call of this kind; fails if a test wants it to fail.
    #[cfg(any(test, fuzzing))]
    pub(super) fn may(&self, call: Call) -> OsResult<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.count(call))
    }
}
