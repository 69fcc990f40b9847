//! Random steps on a pool and on a hash map. Every structure is checked after each step.
//!
//! `ZSALLOC_MODEL_SEED=n` replays a run, `ZSALLOC_MODEL_STEPS=n` sets its length. Ten million steps:
//! `ZSALLOC_MODEL_STEPS=10000000 cargo test --release --lib model -- --nocapture`.
//! Runs whose seed is a multiple of 4 also compact by the clock, and may differ when they are replayed.

mod action;
mod evict;
mod run;
mod world;

use super::shared::number;
use run::Run;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many steps a test run takes: about ten seconds.
const STEPS: u64 = if cfg!(debug_assertions) { 60_000 } else { 1_000_000 };

#[test]
fn model() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("now is after 1970").as_nanos() as u64;
    let seed = number("ZSALLOC_MODEL_SEED").unwrap_or_else(|| clock() % 1_000_000_000);
    let steps = number("ZSALLOC_MODEL_STEPS").unwrap_or(STEPS);
    println!("model: ZSALLOC_MODEL_SEED={seed} ZSALLOC_MODEL_STEPS={steps}");
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
    }
    run.finish();
}
