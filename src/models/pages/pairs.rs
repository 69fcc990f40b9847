//! Every pair of operations on one page, from each of three starts, in every order.

use super::orders::Start;
use super::{Op, race};

macro_rules! pairs {
    ($($name:ident: $first:expr, $second:expr;)*) => {$(
        #[test]
        fn $name() {
            for start in [Start::Empty, Start::Filled, Start::Stored] {
                race(None, start, false, &[&[$first], &[$second]]);
            }
        }
    )*};
}

pairs! {
    load_vs_load: Op::Load, Op::Load;
    load_vs_take: Op::Load, Op::Take;
    load_vs_store: Op::Load, Op::Store(201);
    load_vs_failed_store: Op::Load, Op::FailedStore;
    load_vs_invalidate: Op::Load, Op::Invalidate;
    load_vs_writeback: Op::Load, Op::Written;
    load_vs_failed_writeback: Op::Load, Op::Refused;
    take_vs_take: Op::Take, Op::Take;
    take_vs_store: Op::Take, Op::Store(201);
    take_vs_failed_store: Op::Take, Op::FailedStore;
    take_vs_invalidate: Op::Take, Op::Invalidate;
    take_vs_writeback: Op::Take, Op::Written;
    take_vs_failed_writeback: Op::Take, Op::Refused;
    store_vs_store: Op::Store(201), Op::Store(202);
    store_vs_failed_store: Op::Store(201), Op::FailedStore;
    store_vs_invalidate: Op::Store(201), Op::Invalidate;
    store_vs_writeback: Op::Store(201), Op::Written;
    store_vs_failed_writeback: Op::Store(201), Op::Refused;
    failed_store_vs_failed_store: Op::FailedStore, Op::FailedStore;
    failed_store_vs_invalidate: Op::FailedStore, Op::Invalidate;
    failed_store_vs_writeback: Op::FailedStore, Op::Written;
    failed_store_vs_failed_writeback: Op::FailedStore, Op::Refused;
    invalidate_vs_invalidate: Op::Invalidate, Op::Invalidate;
    invalidate_vs_writeback: Op::Invalidate, Op::Written;
    invalidate_vs_failed_writeback: Op::Invalidate, Op::Refused;
    writeback_vs_writeback: Op::Written, Op::Written;
    writeback_vs_failed_writeback: Op::Written, Op::Refused;
    failed_writeback_vs_failed_writeback: Op::Refused, Op::Refused;
}
