//! Batches at the edge of a limit: the limit is never exceeded, and if one batch alone fits, one gets through.

use crate::zswap::limit::{ByteLimit, Limits};
use crate::zswap::reservation::{Batches, Reservation};
use loom::sync::Arc;
use loom::thread;

struct Scene {
    zswap: ByteLimit,
    area: ByteLimit,
    batches: Batches,
}

impl Scene {
    /// Runs a batch that reserves 1 by its estimate, and has `needs` pages of 1 each. Returns whether it got through.
    fn batch(&self, needs: u64) -> bool {
        let limits = Limits { zswap: &self.zswap, area: &self.area, part: 0 };
        let Ok(mut reservation) = Reservation::new(limits, &self.batches, 1) else { return false };
        for _ in 0..needs {
            if reservation.use_bytes(1).is_err() {
                return false;
            }
        }
        reservation.settle();
        true
    }
}

fn race(room: (u64, u64), needs: &'static [u64]) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(move || {
        let limits = Arc::new(Scene {
            zswap: ByteLimit::new(Some(room.0), 90, 1).unwrap(),
            area: ByteLimit::new(Some(room.1), 90, 1).unwrap(),
            batches: Batches::default(),
        });
        let run = |needs: u64| {
            let limits = limits.clone();
            thread::spawn(move || (needs, limits.batch(needs)))
        };
        let running: Vec<_> = needs[1..].iter().map(|&needs| run(needs)).collect();
        let mut ended = vec![(needs[0], limits.batch(needs[0]))];
        ended.extend(running.into_iter().map(|thread| thread.join().unwrap()));
        let used: u64 = ended.iter().filter(|(_, through)| *through).map(|(needs, _)| needs).sum();
        assert!(used > 0, "one of them gets through");
        assert!(used <= room.0.min(room.1));
        assert_eq!((limits.zswap.used(), limits.area.used()), (used, used), "what was not used went back");
    });
}

#[test]
fn two_that_fit_one_by_one() {
    race((2, 2), &[2, 2]);
}

#[test]
fn two_with_room_for_both() {
    race((4, 4), &[2, 2]);
}

#[test]
fn two_at_the_limit_of_the_area() {
    race((9, 2), &[2, 2]);
}
