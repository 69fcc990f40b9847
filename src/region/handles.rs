//! The supply of handle indices, from which the classes take some at a time.

use super::Region;
use super::fifo::Fifo;
use crate::error::{Error, Result};
use crate::sync::{Locked, Ordering};
use crate::units::{HandleIndex, PAGE, pages_of};

/// What its lock guards.
pub struct Handles {
    /// Words never given out begin here.
    pub fresh: u32,
    /// Words that are readable and writable end here.
    pub committed: u32,
    /// Words that compaction took back from the classes.
    pub returned: Fifo,
}

/// Words of the handle table that are committed at a time: 1 MiB.
const WORD_STEP: u32 = 1 << 17;

/// There is none to fetch: the table is full, or the pool at its limit. Classes may have some that they do not use.
pub const NO_HANDLES: Error = Error::NoMemory(&"no handle is free, and the pool has no room for more");

impl Region {
    /// A free handle index for a class; none if the table or the pool is full.
    pub fn fetch_handle(&self) -> Result<HandleIndex> {
        let mut handles = self.handles.lock();
        match handles.returned.pop(self) {
            Some(index) => Ok(index),
            None if (handles.fresh as usize) < self.layout.words => {
                self.fresh_word(&mut handles).map_err(|_| NO_HANDLES)
            }
            None => Err(NO_HANDLES),
        }
    }

    fn fresh_word(&self, handles: &mut Locked<'_, Handles>) -> Result<HandleIndex> {
        let index = handles.fresh;
        if index == handles.committed {
            let words = WORD_STEP.min((self.layout.words as u32).saturating_sub(index));
            let bytes = pages_of(words as usize * size_of::<u64>()) * PAGE;
            self.commit_table(self.layout.handle_table + index as usize * size_of::<u64>(), bytes)?;
            handles.committed += words;
        }
        if (index as usize).is_multiple_of(PAGE / size_of::<u64>()) {
            self.charge.take(1)?;
        }
        handles.fresh += 1;
        // Release pairs with the Acquire in `word_count`.
        self.words.store(handles.fresh, Ordering::Release);
        Ok(HandleIndex(index))
    }

    /// Takes back the free indices that a class has too many of.
    pub fn take_back(&self, free: &mut Fifo) {
        if free.count == 0 {
            return;
        }
        self.handles.lock().returned.append(self, *free);
        *free = Fifo::EMPTY;
    }
}
