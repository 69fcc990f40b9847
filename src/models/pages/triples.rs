//! What three threads do to one page, with a few preemptions: a reuse of the handle under a claim, a pin or a wait needs
//! more than two.

use super::orders::Start;
use super::{Op, race};

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
