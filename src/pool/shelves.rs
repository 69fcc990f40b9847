//! The shelves of the classes, as a pool uses them. What they are is told in `size_class/shelf.rs`.

use super::Pool;
use crate::size_class::{Shelved, SizeClass, Vacated};
use crate::units::HandleIndex;

/// Keeps the shelves of a class closed while it lives. It is dropped with no lock of the class held.
#[must_use = "the shelves are open again once it is dropped"]
pub struct PausedShelves<'a> {
    pool: &'a Pool,
    class: &'a SizeClass,
}

impl Drop for PausedShelves<'_> {
    fn drop(&mut self) {
        self.class.lock(&self.pool.memory).resume_shelves(&self.pool.shelves);
    }
}

impl Pool {
    /// Puts the index of a freed object on this processor's shelf. Returns false if it must go to its class.
    #[inline(never)]
    pub(super) fn release_to_shelf(&self, class: &SizeClass, index: HandleIndex) -> bool {
        match class.put_on_shelf(&self.memory, &self.shelves, index) {
            Shelved::Kept => true,
            Shelved::Refused => false,
            Shelved::MadeRoom(vacated) => {
                self.give_back_all(class, vacated);
                true
            }
        }
    }

    #[cold]
    fn give_back_all(&self, class: &SizeClass, vacated: Vacated) {
        vacated.into_zspages().for_each(|emptied| _ = self.give_back(class, Some(emptied)));
    }

    /// Closes the shelves of a class and puts back what is on them, before its zspages are emptied: no slot of an
    /// isolated zspage is used again, and the slots that compaction and shrinks find taken have objects.
    pub(crate) fn pause_shelves<'a>(&'a self, class: &'a SizeClass) -> PausedShelves<'a> {
        let has_shelves = class.lock(&self.memory).pause_shelves(&self.shelves);
        if has_shelves {
            self.close_shelves(class);
        }
        PausedShelves { pool: self, class }
    }

    /// Gives all shelves of the pool up, and the indices that processors keep for them. Returns whether there were any.
    /// Classes whose shelves are paused keep them: those are closed.
    pub(crate) fn give_shelves_up(&self) -> bool {
        if !self.shelves.are_any_in_use() {
            return false;
        }
        for class in &self.classes {
            if self.shelves.are_in_use(class.index()) && class.lock(&self.memory).give_shelves_up(&self.shelves) {
                self.close_shelves(class);
            }
        }
        self.shelves.return_stocks(&self.memory);
        true
    }

    fn close_shelves(&self, class: &SizeClass) {
        for processor in 0..self.shelves.processors() {
            let vacated = class.lock(&self.memory).close_shelf(&self.memory, &self.shelves, processor);
            self.give_back_all(class, vacated);
        }
    }
}
