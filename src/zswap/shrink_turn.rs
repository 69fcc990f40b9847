//! An area's turn in a shrink of all areas.
//!
//! A shrink can run in the SIGBUS handler, which must not free. So it must never drop the last handle of a removed
//! area: while the shrink has its handle a call runs, and [`Area::remove`] is refused.

use super::area::Area;
use super::running_calls::RunningCall;
use super::shared::Areas;
use crate::sync::Lock;

/// A handle of an area, and a call that runs on it.
pub struct ShrinkTurn<'a> {
    areas: &'a Lock<Areas>,
    area: Option<Area>,
    /// The shard in which the call began.
    shard: usize,
}

impl<'a> ShrinkTurn<'a> {
    /// Takes the turn of the next area that is there. Also returns how many areas there are.
    pub fn next(areas: &'a Lock<Areas>) -> Option<(Self, usize)> {
        let mut locked = areas.lock();
        let count = locked.list.len();
        for _ in 0..count {
            locked.cursor = (locked.cursor + 1) % count;
            let Some(area) = locked.list[locked.cursor].1.upgrade().map(Area) else { continue };
            // A removed area stays in the list until the thread that removes it, which has a handle, gets the lock.
            let Ok(shard) = area.0.begin().map(RunningCall::into_shard) else { continue };
            return Some((Self { areas, area: Some(area), shard }, count));
        }
        None
    }

    /// Returns the area whose turn it is.
    pub fn area(&self) -> &Area {
        self.area.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for ShrinkTurn<'_> {
    fn drop(&mut self) {
        let Some(area) = self.area.take() else { return };
        let locked = self.areas.lock();
        // A thread that removes the area from here on takes this lock before it drops its own handle.
        drop(RunningCall::resume(&area.0.shards, self.shard));
        let last = area.0.into_inner();
        drop(locked);
        // If this is the last handle, because the owners dropped theirs, dropping it removes the area, which takes this
        // lock.
        drop(last);
    }
}
