//! A small tier of the tests' own: extents in a table, and faults that a test asks for.

use crate::{ExtentId, Tier, TierFailure, TierResult};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What the tier does wrong, and what it was asked. Shared with the test.
#[derive(Default)]
pub struct OwnTierState {
    extents: Mutex<BTreeMap<ExtentId, Vec<u8>>>,
    /// Every name that was put, removed ones included.
    names: Mutex<BTreeSet<ExtentId>>,
    /// Answers each put with Full, after it kept nothing.
    pub full: AtomicBool,
    /// Answers every call with Away. What was put has arrived all the same.
    pub away: AtomicBool,
    /// Answers each get with Damaged.
    pub lost: AtomicBool,
    /// How long each call takes, in microseconds.
    pub slow: AtomicU64,
    /// Bytes that there is room for, if not 0.
    pub room: AtomicU64,
    /// Calls of get.
    pub gets: AtomicU64,
    /// Bytes that get returned.
    pub got_bytes: AtomicU64,
    /// Runs in each put.
    pub in_put: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

/// The tier itself.
pub struct OwnTier(pub Arc<OwnTierState>);

impl OwnTierState {
    pub fn extents(&self) -> MutexGuard<'_, BTreeMap<ExtentId, Vec<u8>>> {
        self.extents.lock().unwrap()
    }

    fn begin(&self) -> TierResult {
        match self.slow.load(SeqCst) {
            0 => {}
            time => std::thread::sleep(Duration::from_micros(time)),
        }
        if self.away.load(SeqCst) { Err(TierFailure::Away) } else { Ok(()) }
    }
}

impl Tier for OwnTier {
    fn put(&self, extent: ExtentId, bytes: &[u8]) -> TierResult {
        if let Some(act) = &mut *self.0.in_put.lock().unwrap() {
            act();
        }
        assert!(self.0.names.lock().unwrap().insert(extent), "{extent:?} was put before");
        if self.0.full.load(SeqCst) {
            return Err(TierFailure::Full);
        }
        self.0.extents().insert(extent, bytes.to_vec());
        self.0.begin()
    }

    fn get(&self, extent: ExtentId, from: usize, bytes: &mut [u8]) -> TierResult {
        self.0.begin()?;
        self.0.gets.fetch_add(1, SeqCst);
        self.0.got_bytes.fetch_add(bytes.len() as u64, SeqCst);
        if self.0.lost.load(SeqCst) {
            return Err(TierFailure::Damaged);
        }
        let extents = self.0.extents();
        let all = extents.get(&extent).ok_or(TierFailure::Damaged)?;
        bytes.copy_from_slice(&all[from..from + bytes.len()]);
        Ok(())
    }

    fn remove(&self, extent: ExtentId) -> TierResult {
        self.0.begin()?;
        self.0.extents().remove(&extent);
        Ok(())
    }

    fn room(&self) -> u64 {
        match self.0.room.load(SeqCst) {
            0 => u64::MAX,
            room => room.saturating_sub(self.0.extents().values().map(|bytes| bytes.len() as u64).sum()),
        }
    }
}
