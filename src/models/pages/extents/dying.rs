//! Several slots that die at once. Each ends once: none is lost from the list, and none is on it twice.

use super::{Extents, Pinned};
use crate::zswap::extents::slot::after;
use crate::zswap::word::ExtentEntry;
use loom::sync::Arc;
use loom::thread;

/// What a thread does to extents of one entry, the names of which it is given.
type Program = fn(&Extents, [ExtentEntry; 2]);

impl Extents {
    /// Takes the list of dying slots, and puts them there again, as for a tier that can't remove them now.
    fn put_off(&self) {
        let mut next = self.dying.exhume();
        while let Some(slot) = next {
            let link = &self.links[slot as usize];
            next = after(link);
            self.dying.bury(slot, link);
        }
    }

    /// Writes an extent whose page is gone already.
    fn write_in_vain(&self) {
        let extent = self.write(&[1]);
        self.drop_entry(extent.entry(0));
    }
}

/// Runs the programs, each in a thread, on two live extents, which are dead at the end: in every order, or in every
/// order of at most `preemptions` preemptions.
fn check(preemptions: Option<usize>, programs: &'static [Program]) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let extents = Arc::new(Extents::new());
        let names = [100, 150].map(|value| extents.write(&[value])).map(|extent: Pinned<'_>| extent.entry(0));
        let run = |program: Program| {
            let extents = extents.clone();
            move || program(&extents, names)
        };
        let threads: Vec<_> = programs[1..].iter().map(|&program| thread::spawn(run(program))).collect();
        run(programs[0])();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        extents.check_free(0);
    });
}

macro_rules! programs_of_slots {
    ($($name:ident, $most:expr; $($thread:expr),*;)*) => {$(
        #[test]
        fn $name() {
            check($most, &[$($thread),*]);
        }
    )*};
}

programs_of_slots! {
    two_die_at_once, None; |all, [a, _]| all.drop_entry(a), |all, [_, b]| all.drop_entry(b);
    two_die_while_a_third_thread_ends_them, None;
        |all, _| all.end_dying(), |all, [a, _]| all.drop_entry(a), |all, [_, b]| all.drop_entry(b);
    two_die_and_both_threads_end_them, None;
        |all, [a, _]| { all.drop_entry(a); all.end_dying() }, |all, [_, b]| { all.drop_entry(b); all.end_dying() };
    two_die_with_their_last_pins, Some(3);
        |all, [a, b]| { all.drop_entry(a); all.drop_entry(b) },
        |all, [a, _]| drop(all.try_pin(a)),
        |all, [_, b]| { drop(all.try_pin(b)); all.end_dying() };
    one_dies_again_while_another_is_buried, None;
        |all, [a, _]| { all.drop_entry(a); all.write_in_vain() }, |all, [_, b]| all.drop_entry(b);
    one_dies_again_while_two_threads_end_them, Some(3);
        |all, [a, _]| { all.drop_entry(a); all.write_in_vain() },
        |all, [_, b]| { all.drop_entry(b); all.end_dying() },
        |all, _| all.end_dying();
    removals_that_are_put_off, None;
        |all, _| { all.put_off(); all.end_dying() }, |all, [a, _]| all.drop_entry(a), |all, [_, b]| all.drop_entry(b);
    removals_that_two_threads_put_off, None;
        |all, [a, _]| { all.drop_entry(a); all.put_off() }, |all, [_, b]| { all.drop_entry(b); all.put_off() };
}
