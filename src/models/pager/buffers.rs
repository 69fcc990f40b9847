//! Buffers to decode to: more threads want one than there are.

use super::{look, put, race};
use crate::per_processor::PerProcessor;
use crate::sync::{Cell, Rank};

const BUFFERS: usize = 2;

struct Scene {
    buffers: PerProcessor<()>,
    pages: [Cell<u32>; BUFFERS],
}

fn free() -> Scene {
    Scene {
        buffers: PerProcessor::new(Rank::Scratch, BUFFERS, || Ok(())).unwrap(),
        pages: std::array::from_fn(|_| Cell::new(0)),
    }
}

fn decode(scene: &Scene) {
    let buffer = scene.buffers.take_from(1);
    put(&scene.pages[buffer.index()], look(&scene.pages[buffer.index()]) + 1);
}

#[test]
fn one_thread_has_a_buffer() {
    race(Some(3), free, &[decode, decode, decode], |scene| {
        assert_eq!(scene.pages.iter().map(look).sum::<u32>(), 3);
    });
}
