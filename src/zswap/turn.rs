//! An area's turn in a shrink of all areas.
//!
//! A shrink may run in a signal handler, where a pager serves a touch, and there nothing may be freed. So it never is
//! the one that an area goes with, if the area is removed: [`super::Area::remove`] finds a call running for as long as
//! the shrink has its handle.

use super::area::Area;
use super::shared::Areas;
use crate::sync::Lock;

/// A handle of an area, and a call that runs on it for as long as there is the handle.
pub struct Turn<'a> {
    areas: &'a Lock<Areas>,
    area: Option<Area>,
    /// Where the call began.
    shard: usize,
}

impl<'a> Turn<'a> {
    /// The turn of the next area that is there, and how many there are.
    pub fn next(areas: &'a Lock<Areas>) -> Option<(Self, usize)> {
        let mut locked = areas.lock();
        let count = locked.list.len();
        for _ in 0..count {
            locked.cursor = (locked.cursor + 1) % count;
            let Some(area) = locked.list[locked.cursor].1.upgrade().map(Area) else { continue };
            // One that was removed is in the list until its remover, which has a handle as well, gets the lock.
            let Ok(shard) = area.0.begin().map(|call| call.keep_running()) else { continue };
            return Some((Self { areas, area: Some(area), shard }, count));
        }
        None
    }

    /// The area.
    pub fn area(&self) -> &Area {
        self.area.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(area) = self.area.take() else { return };
        let locked = self.areas.lock();
        // Who removes the area from here on takes the same lock before it lets go of its own handle.
        area.0.shards.end(self.shard);
        let last = area.0.into_inner();
        drop(locked);
        // The owners dropped theirs without removing the area. That takes the lock.
        drop(last);
    }
}
