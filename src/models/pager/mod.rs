//! Loom models of the pager, on the product's own protocols: the claims of state words, the table of extents, the gate,
//! removable values, requests to lent threads, and buffers to decode to. What only one thread may do at a time is done
//! to a cell, whose races loom finds.

mod buffers;
mod extents;
mod free_reading;
mod gate;
mod hand;
mod moves;
mod page;
mod removable;
mod serving_threads;
mod tier_requests;

use super::race_of as race;
use crate::sync::Cell;

/// Reads a cell.
fn look<T: Copy>(cell: &Cell<T>) -> T {
    // SAFETY: the protocol keeps writers away. If it does not, loom finds out.
    cell.with(|at| unsafe { *at })
}

/// Writes a cell.
fn put<T>(cell: &Cell<T>, value: T) {
    // SAFETY: the protocol keeps all other threads away. If it does not, loom finds out.
    cell.with_mut(|at| unsafe { *at = value });
}
