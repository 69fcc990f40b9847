//! Two pages whose entries share an extent. It ends once, with the last of them, and not before.

use super::super::orders::Start;
use super::super::{On, Op, race_on};

programs_of_neighbours! {
    load_vs_invalidate_of_the_neighbour, Backed, 5:
        [On::First(Op::Load), On::First(Op::Invalidate)], [On::Second(Op::Invalidate)];
    load_vs_store_of_the_neighbour, Backed, 5:
        [On::First(Op::Load)], [On::Second(Op::Store(201)), On::First(Op::Take)];
    two_removals_at_once, Backed, 5: [On::First(Op::Take)], [On::Second(Op::Invalidate)];
    two_removals_and_a_load, Backed, 2:
        [On::First(Op::Invalidate)], [On::Second(Op::Invalidate)], [On::First(Op::Load)];
    loads_while_the_slot_is_used_again, Backed, 3:
        [On::First(Op::Load), On::Second(Op::Load)],
        [On::First(Op::Invalidate), On::Second(Op::Store(201)), On::Second(Op::Written)];
    take_while_the_slot_is_used_again, Backed, 3:
        [On::First(Op::Take)], [On::Second(Op::Store(201)), On::First(Op::Store(202)), On::Both([true, true])];
    load_while_the_neighbours_writeback_uses_the_slot_again, Backed, 2:
        [On::First(Op::Load)], [On::First(Op::Invalidate)], [On::Second(Op::Store(201)), On::Second(Op::Written)];
    move_vs_invalidate_of_the_neighbour, Backed, 5:
        [On::First(Op::Clean), On::First(Op::Load)], [On::Second(Op::Invalidate)];
    moves_of_both, Backed, 2: [On::First(Op::Clean)], [On::Second(Op::Clean)], [On::First(Op::Load)];
    writeback_of_both_vs_a_removal_of_each, Stored, 2:
        [On::Both([true, true])], [On::First(Op::Invalidate)], [On::Second(Op::Take)];
    writeback_of_both_then_loads, Stored, 3:
        [On::Both([true, true]), On::First(Op::Load)], [On::Second(Op::Load), On::Second(Op::Invalidate)];
    writeback_of_both_vs_writeback_of_one, Stored, 3: [On::Both([true, true])], [On::Second(Op::Written)];
}
