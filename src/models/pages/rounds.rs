//! Numbers of claims that come round: a thread may wait through a later writeback, and nothing else goes wrong.

use super::orders::Start;
use super::{FIRST, Numbers, Op, ROUND, Scene, race_with};
use crate::zswap::page::Frozen;
use crate::zswap::word::{PageWord, WordKind};
use loom::sync::Arc;
use loom::thread;

macro_rules! programs {
    ($($name:ident, $most:literal, $own_file:literal: $($thread:expr),*;)*) => {$(
        #[test]
        fn $name() {
            race_with(Numbers::Alike, Some($most), Start::Stored, $own_file, &[$(&$thread),*]);
        }
    )*};
}

programs! {
    two_writebacks_and_a_take, 3, false: [Op::Refused, Op::Written], [Op::Take];
    two_writebacks_and_an_invalidate, 3, false: [Op::Refused, Op::Written], [Op::Invalidate];
    two_writebacks_and_a_store_that_failed, 3, false: [Op::Written, Op::Written], [Op::Store(201), Op::FailedStore];
    writebacks_of_two_versions, 3, false: [Op::Written, Op::Written], [Op::Store(201), Op::Store(202)];
    writeback_store_writeback, 2, false: [Op::Written], [Op::Store(201)], [Op::Written];
    invalidate_waits_while_another_writeback_begins, 2, false: [Op::Refused, Op::Refused], [Op::Store(201)],
        [Op::Invalidate];
    written_moved_and_replaced, 3, true: [Op::Written, Op::Store(201), Op::Written], [Op::Clean];
    written_twice_and_taken, 3, true: [Op::Written, Op::Store(201), Op::Written], [Op::Take];
}

/// A removal may take the next writeback of the same number for the one that it met. It returns when that one ends.
#[test]
fn a_wait_ends_with_the_next_claim_of_the_same_number() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 2_000;
    builder.check(|| {
        let scene = Arc::new(Scene::new([Start::Stored, Start::Empty], false, Numbers::Alike));
        let other = scene.clone();
        let removal = thread::spawn(move || other.run(other.page(0), Op::Invalidate));
        let page = scene.page(0);
        let mut next = None;
        if let Some((claimed, pinned)) = page.find_and_claim(&scene.heap, 1, false, |_, _| true) {
            let met = page.peek().kind() == WordKind::Empty;
            page.end(claimed);
            drop(pinned);
            if met {
                let handle = scene.heap.allocate(FIRST + 1);
                assert!(matches!(page.publish(PageWord::stored(handle, false)), Ok(_) | Err(Frozen)));
                let (again, _pinned) =
                    page.find_and_claim(&scene.heap, 1 + ROUND, false, |_, _| true).expect("nobody else claims");
                assert_eq!(again.claim(), claimed.claim(), "the number came round");
                page.end(again);
                next = Some(FIRST + 1);
            }
        }
        removal.join().unwrap();
        assert_eq!(scene.end()[0].0, next.unwrap_or(0), "the removal took the page that it met, and no other");
    });
}
