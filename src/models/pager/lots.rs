//! Lots: more threads want one than there are lots.

use super::{look, put, race};
use crate::pager::lots::{LOTS, Lots};
use crate::sync::Cell;

struct Scene {
    lots: Lots,
    pages: [Cell<u32>; LOTS],
}

fn decode(scene: &Scene) {
    let lot = scene.lots.take(1);
    put(&scene.pages[lot.index], look(&scene.pages[lot.index]) + 1);
}

#[test]
fn one_thread_has_a_lot() {
    let free = || Scene { lots: Lots::new(), pages: std::array::from_fn(|_| Cell::new(0)) };
    race(Some(3), free, &[decode, decode, decode], |scene| {
        assert_eq!(scene.pages.iter().map(look).sum::<u32>(), 3);
    });
}
