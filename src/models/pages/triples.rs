//! Operations of three threads on one page, with a few preemptions. It takes more than two threads to reuse a handle
//! under a claim, a pin or a wait.

use super::orders::Start;
use super::{FIRST, Numbers, Op, Scene, race};
use crate::sync::{AtomicU32, Ordering::Relaxed};
use crate::zswap::page::Frozen;
use crate::zswap::word::{PageWord, WordKind};
use loom::sync::Arc;
use loom::thread;

macro_rules! triples {
    ($($name:ident, $most:literal: $($thread:expr),*;)*) => {$(
        #[test]
        fn $name() {
            race(Some($most), Start::Stored, false, &[$(&$thread),*]);
        }
    )*};
}

triples! {
    writeback_and_two_stores, 3: [Op::Written], [Op::Store(201), Op::Store(202)];
    writeback_store_store, 3: [Op::Written], [Op::Store(201)], [Op::Store(202)];
    take_and_two_stores, 3: [Op::Take], [Op::Store(201), Op::Store(202)];
    load_and_two_stores, 3: [Op::Load], [Op::Store(201), Op::Store(202)];
    load_take_store, 3: [Op::Load], [Op::Take], [Op::Store(201)];
    load_invalidate_store, 3: [Op::Load], [Op::Invalidate, Op::Store(201)];
    writeback_invalidate_take, 1: [Op::Written], [Op::Invalidate], [Op::Take];
    writeback_invalidate_then_store, 3: [Op::Written], [Op::Invalidate, Op::Store(201)];
    writeback_invalidate_load, 3: [Op::Written], [Op::Invalidate], [Op::Load];
    writeback_store_invalidate, 3: [Op::Written], [Op::Store(201)], [Op::Invalidate];
    writeback_store_writeback, 3: [Op::Written], [Op::Store(201)], [Op::Written];
    writeback_store_failed_writeback, 3: [Op::Written], [Op::Store(201)], [Op::Refused];
    two_writebacks_and_a_store_that_failed, 3: [Op::Written, Op::Written], [Op::Store(201), Op::FailedStore];
    invalidate_waits_while_another_writeback_begins, 3: [Op::Refused, Op::Refused], [Op::Store(201)], [Op::Invalidate];
    writeback_load_take, 2: [Op::Written], [Op::Load], [Op::Take];
    writeback_failed_store_load, 3: [Op::Refused], [Op::FailedStore], [Op::Load];
    take_store_writeback, 3: [Op::Take], [Op::Store(201)], [Op::Written];
    take_take_store, 3: [Op::Take], [Op::Take], [Op::Store(201)];
}

/// A removal waits for the callback that it met, and not for one that began after that. If it did, this would never
/// end.
#[test]
fn a_wait_ends_with_its_claim() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 2_000;
    builder.check(|| {
        let scene = Arc::new(Scene::new([Start::Stored, Start::Empty], false, Numbers::Apart));
        let returned = Arc::new(AtomicU32::new(0));
        let (other, tell) = (scene.clone(), returned.clone());
        let removal = thread::spawn(move || {
            other.run(other.page(0), Op::Invalidate);
            tell.store(1, Relaxed);
        });
        let page = scene.page(0);
        if let Some((claimed, pinned)) = page.find_and_claim(&scene.heap, 1, false, |_, _| true) {
            scene.fill_callback(1);
            let met = page.peek().kind() == WordKind::Empty;
            page.end(claimed);
            drop(pinned);
            if met {
                let new = PageWord::stored(scene.heap.allocate(FIRST + 1), false);
                assert!(matches!(page.publish(new), Ok(_) | Err(Frozen)));
                let (claimed, _pinned) =
                    page.find_and_claim(&scene.heap, 2, false, |_, _| true).expect("nobody else claims");
                while returned.load(Relaxed) == 0 {
                    thread::yield_now();
                }
                page.end(claimed);
            }
        }
        removal.join().unwrap();
    });
}
