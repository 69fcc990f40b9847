//! The word alone, with movers that a pool with one compaction at a time does not have.

use crate::object::{Freed, Moved, ObjectWord};
use crate::sync::AtomicU64;
use crate::units::{Place, ZspageId};
use crate::word::ObjectState;
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A word, and how often the object of each generation was released.
struct Ghost {
    word: AtomicU64,
    released: [AtomicUsize; 2],
}

impl Ghost {
    fn word(&self) -> ObjectWord<'_> {
        ObjectWord(&self.word)
    }

    fn release(&self, generation: u16) {
        let before = self.released[generation as usize].fetch_add(1, Relaxed);
        assert_eq!(before, 0, "generation {generation} was released twice");
    }

    /// Moves the object of a generation, as the only mover of it.
    fn move_object(&self, generation: u16, from: Place, to: Place) {
        if let Some(moving) = self.word().begin_move(from)
            && self.word().settle_move(moving, to) == Moved::Freed
        {
            self.release(generation);
        }
    }
}

const fn place(slot: u8) -> Place {
    Place { zspage: ZspageId(0), slot }
}

/// While one mover copies, its object is freed, the index is used again, and another mover copies the next object,
/// which is freed under that copy. The first mover must not take this for the end of its own object.
#[test]
fn death_of_another_generation() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(|| {
        let ghost = Arc::new(Ghost { word: AtomicU64::new(0), released: Default::default() });
        assert_eq!(ghost.word().publish(place(0), 0), 0);
        let (reuser, freer) = (ghost.clone(), ghost.clone());
        let reuse = thread::spawn(move || {
            if reuser.word().pin_to_read(0).is_err() {
                return;
            }
            assert_eq!(reuser.word().free(0), Ok(Freed::Later));
            if reuser.word().unpin(0).unwrap().is_some() {
                reuser.release(0);
                assert_eq!(reuser.word().publish(place(2), 0), 1);
                reuser.move_object(1, place(2), place(3));
            }
        });
        let free = thread::spawn(move || {
            if let Ok(Freed::Now(_)) = freer.word().free(1) {
                freer.release(1);
            }
        });
        ghost.move_object(0, place(0), place(1));
        reuse.join().unwrap();
        free.join().unwrap();
        let word = ghost.word().peek();
        let released: Vec<_> = ghost.released.iter().map(|count| count.load(Relaxed)).collect();
        assert!(matches!(word.state(), ObjectState::Free | ObjectState::Live), "left {word:?}");
        assert_eq!(released.iter().sum::<usize>(), word.generation() as usize, "{released:?} with {word:?}");
    });
}
