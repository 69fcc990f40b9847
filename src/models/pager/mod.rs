//! Loom models of the pager, on the product's own protocols: the claims of state words, the table of extents, the gate,
//! places, and lots. What only one thread may do at a time is done to a cell, whose races loom finds.

mod extents;
mod gate;
mod lots;
mod moves;
mod page;
mod place;

use super::race_of as race;
use crate::sync::Cell;

/// What a cell holds.
fn look<T: Copy>(cell: &Cell<T>) -> T {
    // SAFETY: the protocol keeps writers away; loom finds out if it does not.
    cell.with(|at| unsafe { *at })
}

/// Writes a cell.
fn put<T>(cell: &Cell<T>, value: T) {
    // SAFETY: the protocol keeps all others away; loom finds out if it does not.
    cell.with_mut(|at| unsafe { *at = value });
}
