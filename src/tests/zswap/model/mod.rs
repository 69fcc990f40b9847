//! zswap beside ordered maps: random actions, and a comparison of results and statistics after each.
//!
//! `ZSALLOC_MODEL_SEED=n` replays a run, `ZSALLOC_MODEL_STEPS=n` sets its length. Ten million steps:
//! `ZSALLOC_MODEL_STEPS=10000000 cargo test --release --lib zswap_model -- --nocapture`.

mod action;
mod callback;
mod ops;
mod pages;
mod run;
mod tiers;
mod verify;
mod world;

use crate::tests::shared::number;
use run::Run;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many steps a test run takes: a few seconds.
const STEPS: u64 = if cfg!(debug_assertions) { 40_000 } else { 1_000_000 };

#[test]
fn zswap_model() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("now is after 1970").as_nanos() as u64;
    let seed = number("ZSALLOC_MODEL_SEED").unwrap_or_else(|| clock() % 1_000_000_000);
    let steps = number("ZSALLOC_MODEL_STEPS").unwrap_or(STEPS);
    println!("zswap model: ZSALLOC_MODEL_SEED={seed} ZSALLOC_MODEL_STEPS={steps}");
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.step();
    }
    run.finish();
}
