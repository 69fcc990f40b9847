//! Extents whose put fails, or is answered late. A page whose put failed stays in the pool, and its extent ends. A page
//! that was replaced before the answer is not touched: nobody gets the older version.
//!
//! An extent that the second tier takes after the first one refused it has no model of its own: the first one's slot
//! is that of an extent that was refused, the second one's that of an extent that was written, and no step on the page
//! word comes between.

use super::super::orders::Start;
use super::super::{On, Op, race, race_on};

programs! {
    load_vs_refused, 5: [Op::Load], [Op::Refused, Op::Load];
    take_vs_refused, 5: [Op::Take], [Op::Refused];
    store_vs_refused, 5: [Op::Store(201)], [Op::Refused, Op::Load];
    invalidate_vs_refused, 5: [Op::Invalidate], [Op::Refused, Op::Load];
    writeback_vs_refused, 3: [Op::Written, Op::Load], [Op::Refused];
    refused_vs_refused, 3: [Op::Refused, Op::Load], [Op::Refused];
    refused_load_take, 2: [Op::Refused], [Op::Load], [Op::Take];
    refused_store_invalidate, 2: [Op::Refused], [Op::Store(201)], [Op::Invalidate];
    load_while_a_refused_extent_has_the_slot, 3: [Op::Load], [Op::Written, Op::Store(201), Op::Refused];
    load_while_a_refused_extent_and_the_next_have_the_slot, 2:
        [Op::Load], [Op::Written, Op::Store(201), Op::Refused, Op::Written];
    load_vs_refused_move, 5: [Op::Written, Op::Load], [Op::CleanRefused];
    take_vs_refused_move, 3: [Op::Written, Op::Take], [Op::CleanRefused];
    store_vs_refused_move, 5: [Op::Written, Op::Store(201)], [Op::CleanRefused];
    invalidate_vs_refused_move, 5: [Op::Written, Op::Invalidate], [Op::CleanRefused];
    refused_move_vs_move, 3: [Op::Written, Op::Clean], [Op::CleanRefused];

    answered_after_a_store, 5: [Op::Written], [Op::Store(201), Op::Load];
    answered_after_an_invalidate, 5: [Op::Written], [Op::Invalidate, Op::Load];
    answered_after_a_take, 3: [Op::Written], [Op::Take, Op::Load];
    answered_after_an_invalidate_and_a_store, 3: [Op::Written], [Op::Invalidate, Op::Store(201), Op::Load];
    answered_after_the_next_writeback_was_refused, 3: [Op::Written], [Op::Store(201), Op::Written, Op::Load];
    answered_late_beside_a_reader, 2: [Op::Written], [Op::Store(201)], [Op::Load, Op::Load];
}

programs_of_neighbours! {
    both_refused_vs_a_removal_of_each, Stored, 2:
        [On::Both([false, false])], [On::First(Op::Take)], [On::Second(Op::Store(201))];
    both_refused_vs_both_written, Stored, 2: [On::Both([false, false])], [On::Both([true, true])];
    one_refused_vs_load_of_each, Stored, 3:
        [On::Both([true, false])], [On::First(Op::Load), On::Second(Op::Load), On::First(Op::Invalidate)];
    one_answered_after_a_store, Stored, 5:
        [On::Both([true, true]), On::First(Op::Invalidate)], [On::Second(Op::Store(201)), On::Second(Op::Load)];
    refused_move_and_next_writeback_vs_move, Backed, 3:
        [On::First(Op::Clean)], [On::First(Op::CleanRefused), On::First(Op::Store(201)), On::First(Op::Written)];
}
