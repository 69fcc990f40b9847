//! Options: values that make no sense are refused with a sentence that says what to do, and none is none.

use super::shared::{options, store};
use crate::{
    AreaOptions, Backing, CompactBudget, Error, MIN_BYTES, PAGE_SIZE, Pool, PoolOptions, Zswap, ZswapOptions,
    ZswapTuning,
};
use std::fmt::Debug;
use std::time::Duration;

/// Asserts that a call is refused as an invalid one, with each of these words in its sentence.
pub fn refused<T: Debug>(result: Result<T, Error>, words: &[&str]) {
    let Err(error @ Error::Invalid(_)) = result else { panic!("not refused: {result:?}") };
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text} does not say {words:?}");
}

fn pool(options: &PoolOptions) -> Result<(), Error> {
    Pool::new("options", options).map(|_| ())
}

fn zswap(options: &ZswapOptions) -> Result<(), Error> {
    Zswap::new("options", options).map(|_| ())
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    for max_bytes in [0, 1, MIN_BYTES - 1] {
        refused(pool(&options(max_bytes, Backing::Anonymous)), &["max_bytes", "1 MiB", "leave it out"]);
    }
    for max_bytes in [0, 1, 64, 4111] {
        let max_bytes = Some(max_bytes);
        refused(zswap(&ZswapOptions { max_bytes, ..Default::default() }), &["max_bytes", "4112", "leave it out"]);
        let zswap = Zswap::new("options", &ZswapOptions::default()).unwrap();
        let area = zswap.add_area(1, &AreaOptions { max_bytes, ..Default::default() });
        refused(area.map(|_| ()), &["max_bytes", "4112", "leave it out"]);
    }
}

#[test]
fn a_limit_that_lets_nothing_in_is_refused_and_the_one_before_stays() {
    let pool = Pool::new("options", &options(8 << 20, Backing::Anonymous)).unwrap();
    refused(pool.set_max_bytes(Some(0)), &["0 bytes", "None"]);
    assert_eq!(pool.stats().unwrap().max_bytes, 8 << 20);
    let zswap = Zswap::new("options", &ZswapOptions { max_bytes: Some(8 << 20), ..Default::default() }).unwrap();
    let area = zswap.add_area(1, &AreaOptions { max_bytes: Some(1 << 20), ..Default::default() }).unwrap();
    for bytes in [0, 1, 5, 4111] {
        refused(zswap.set_limit(Some(bytes)), &["4112", "None"]);
        refused(area.set_limit(Some(bytes)), &["4112", "None"]);
    }
    assert_eq!((zswap.stats().unwrap().max_bytes, area.stats().unwrap().max_bytes), (Some(8 << 20), Some(1 << 20)));
}

#[test]
fn no_limit_is_none_and_null_in_json() {
    let zswap = Zswap::new("options", &ZswapOptions::default()).unwrap();
    let area = zswap.add_area(1, &AreaOptions::default()).unwrap();
    assert_eq!((zswap.stats().unwrap().max_bytes, area.stats().unwrap().max_bytes), (None, None));
    let json: serde_json::Value = serde_json::from_str(&zswap.stats_json().unwrap()).unwrap();
    assert!(json["zswap"]["max_bytes"].is_null() && json["areas"][0]["max_bytes"].is_null(), "{json}");
    zswap.set_limit(Some(1 << 20)).unwrap();
    assert_eq!(zswap.stats().unwrap().max_bytes, Some(1 << 20));
    zswap.set_limit(None).unwrap();
    area.store(0, &[0; PAGE_SIZE]).unwrap();
    assert_eq!(zswap.stats().unwrap().max_bytes, None);
}

#[test]
fn tuning_that_makes_no_sense_is_refused() {
    let tuned = |tuning: ZswapTuning| zswap(&ZswapOptions { tuning, ..Default::default() });
    for percent in [0, 101, 255] {
        let accept_percent = Some(percent);
        refused(
            tuned(ZswapTuning { accept_percent, ..Default::default() }),
            &["accept_percent", "leave it out for 90"],
        );
    }
    refused(tuned(ZswapTuning { headroom_percent: Some(0), ..Default::default() }), &["headroom_percent", "12.5"]);
    for contexts in [0, 65, usize::MAX] {
        refused(tuned(ZswapTuning { contexts: Some(contexts), ..Default::default() }), &["64 contexts", "leave"]);
    }
    for claims in [0, 65537, usize::MAX] {
        refused(tuned(ZswapTuning { max_claims: Some(claims), ..Default::default() }), &["65536 claims", "leave"]);
    }
}

#[test]
fn a_budget_of_nothing_moves_nothing() {
    let pool = Pool::new("options", &options(64 << 20, Backing::Anonymous)).unwrap();
    let handles: Vec<u64> = (0..4000).map(|key| store(&pool, key, 1000).unwrap()).collect();
    for &handle in handles.iter().filter(|&handle| handle % 3 != 0) {
        super::shared::free(&pool, handle).unwrap();
    }
    for budget in [
        CompactBudget { max_bytes_moved: Some(0), max_time: None },
        CompactBudget { max_bytes_moved: None, max_time: Some(Duration::ZERO) },
    ] {
        pool.compact(&budget).unwrap();
        assert!(pool.stats().unwrap().objects_moved <= 1, "{budget:?}");
    }
    assert!(pool.compact(&CompactBudget::default()).unwrap() > 0);
}
