//! The end of the handle table goes back to the system once every index there is free.

use super::PoolMemory;
use super::fifo::Fifo;
use super::handle_supply::{Handles, WORDS_OF_PAGE};
use crate::os::Backed;
use crate::sync::Locked;
use crate::units::{HandleIndex, PAGE, pages_of};
use std::mem;

/// How many pages of the table go back in one call to the system. The lock of the supply is held across it.
const PAGES_AT_ONCE: usize = 64;

impl PoolMemory {
    /// Leaves a free index, which is this thread's, for the supply. Never waits.
    pub fn leave_handle(&self, index: HandleIndex) {
        let word = self.word(index);
        self.left_handles.leave(index.0, |next| {
            // Relaxed: the word is this thread's, and the list's Release publishes it.
            word.0.store(word.peek().with_link(HandleIndex(next)).0, crate::sync::Ordering::Relaxed);
        });
    }

    /// Takes the indices that were left.
    pub(super) fn settle_left(&self, handles: &mut Locked<'_, Handles>) {
        if self.left_handles.any() {
            self.left_handles.take(|index| {
                let next = self.word(HandleIndex(index)).peek().link().0;
                handles.returned.push(self, HandleIndex(index));
                next
            });
        }
    }

    /// Returns how many pages of the handle table are charged.
    pub fn handle_pages(&self) -> usize {
        (self.handles.lock().charged / WORDS_OF_PAGE) as usize
    }

    /// Returns how many handle words are in use, or could be: the first index that was never given out, or went back.
    pub fn handle_end(&self) -> u32 {
        self.handles.lock().fresh
    }

    /// Sorts up to `most` free indices of the supply into those before `end` and the others. Returns whether all are
    /// sorted.
    pub fn sort_handles(&self, end: u32, most: u32) -> bool {
        let mut handles = self.handles.lock();
        self.settle_left(&mut handles);
        if handles.end != end {
            handles.end = end;
            for sorted in [mem::replace(&mut handles.low, Fifo::EMPTY), mem::replace(&mut handles.high, Fifo::EMPTY)] {
                handles.returned.append(self, sorted);
            }
        }
        for _ in 0..most {
            let Some(index) = handles.returned.pop(self) else { return true };
            let list = if index.0 < end { &mut handles.low } else { &mut handles.high };
            list.push(self, index);
        }
        handles.returned.count == 0
    }

    /// Takes a free index before the end for which the supply was sorted.
    pub fn low_handle(&self) -> Option<HandleIndex> {
        self.handles.lock().low.pop(self)
    }

    /// Returns the end of the part of the table that has words in use, if it lies after `end`; otherwise `end`.
    pub fn used_handle_end(&self, end: u32) -> u32 {
        let used = |&index: &u32| self.word(HandleIndex(index)).peek().state() != crate::word::ObjectState::Free;
        (end..self.handle_end()).rev().find(used).map_or(end, |index| index + 1)
    }

    /// Ends the table at the end for which the supply was sorted, if every index from there on is free and in the
    /// supply. Returns whether it did. [`PoolMemory::release_handles`] then gives the memory back.
    pub fn end_handles(&self, end: u32) -> bool {
        let mut handles = self.handles.lock();
        if handles.end != end || end > handles.fresh || handles.high.count != handles.fresh - end {
            return false;
        }
        handles.high = Fifo::EMPTY;
        handles.fresh = end;
        true
    }

    /// Gives back the pages behind the end of the table. Returns how many pages the system got.
    pub fn release_handles(&self) -> u64 {
        let kind = if self.huge_arena.is_some() { Backed::Anonymous } else { self.kind };
        let mut pages = 0;
        loop {
            let mut handles = self.handles.lock();
            let (keep, had) = (pages_of(handles.fresh as usize * 8), (handles.charged / WORDS_OF_PAGE) as usize);
            let going = had.saturating_sub(keep).min(PAGES_AT_ONCE);
            if going == 0 {
                return pages;
            }
            let at = self.table(self.layout.handle_table + (had - going) * PAGE);
            // SAFETY: no word in these pages is in use or on a list, and the lock keeps it so. A thread with a stale
            // handle may look at a word there: zero is a free word.
            let Ok(gone) = (unsafe { self.os.release(at, going * PAGE, kind) }) else { return pages };
            handles.charged -= going as u32 * WORDS_OF_PAGE;
            self.charge.give_back(going);
            pages += if gone { going as u64 } else { 0 };
        }
    }
}
