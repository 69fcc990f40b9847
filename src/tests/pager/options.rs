//! The pager's options: values that make no sense are refused with a sentence that says what to do.

use super::{Memory, Running, limited};
use crate::pager::{FaultMode, Pager, PagerOptions, PagerTuning, RegionOptions};
use crate::tests::options::refused;

fn create(options: &PagerOptions) -> Result<(), crate::Error> {
    Pager::new("options", options).map(|_| ())
}

#[test]
fn a_resident_limit_below_the_least_is_refused_and_the_one_before_stays() {
    let pager = Pager::new("options", &limited(64, FaultMode::Sigbus)).unwrap();
    for bytes in [0, 5, 4096, (64 << 10) - 1] {
        let resident_bytes = Some(bytes);
        refused(create(&PagerOptions { resident_bytes, ..Default::default() }), &["64 KiB", "leave it out"]);
        refused(pager.set_resident_limit(resident_bytes), &["64 KiB", "leave it out"]);
    }
    assert_eq!(pager.stats().resident_limit_bytes, Some(64 * 4096));
    pager.set_resident_limit(Some(64 << 10)).unwrap();
    assert_eq!(pager.stats().resident_limit_bytes, Some(64 << 10));
    for bytes in [None, Some(u64::MAX)] {
        pager.set_resident_limit(bytes).unwrap();
        assert_eq!(pager.stats().resident_limit_bytes, None, "{bytes:?}");
    }
    for bytes in [0, 5, 4111] {
        refused(pager.set_pool_limit(Some(bytes)), &["4112", "None"]);
    }
    pager.set_pool_limit(Some(4112)).unwrap();
}

#[test]
fn other_options_that_make_no_sense_are_refused() {
    let tuned = |tuning: PagerTuning| create(&PagerOptions { tuning, ..Default::default() });
    for percent in [0, 91, 255] {
        let staged_percent = Some(percent);
        refused(
            tuned(PagerTuning { staged_percent, ..Default::default() }),
            &["staged_percent", "leave it out for 10"],
        );
    }
    for bytes in [0, 1, 4095] {
        let max_held_bytes = Some(bytes);
        refused(tuned(PagerTuning { max_held_bytes, ..Default::default() }), &["max_held_bytes", "leave it out"]);
    }
    for regions in [0, 65537, usize::MAX] {
        let max_regions = Some(regions);
        refused(tuned(PagerTuning { max_regions, ..Default::default() }), &["max_regions", "leave it out for 1024"]);
    }
    refused(create(&PagerOptions { pool_bytes: Some(5), ..Default::default() }), &["4112", "leave it out"]);
}

#[test]
fn a_region_s_limit_that_makes_no_sense_is_refused() {
    let memory = Memory::new(4);
    let running = Running::new(&limited(64, FaultMode::Sigbus), &[]);
    let options = RegionOptions { max_stored_bytes: Some(0), ..Default::default() };
    // SAFETY: the memory is the test's, and nothing is added.
    refused(unsafe { running.pager.add_region(memory.at(0), memory.bytes(), &options) }, &["4112", "leave it out"]);
}

/// Private pages leave memory where they are, unless the options say that they are moved.
#[test]
fn pages_are_evicted_in_place_unless_moving_is_chosen() {
    for (options, moves) in [
        (PagerOptions { resident_bytes: Some(64 * 4096), ..Default::default() }, false),
        (limited(64, FaultMode::Sigbus), true),
    ] {
        let pager = Pager::new("options", &options).unwrap();
        let can_move = pager.0.moves;
        assert!(moves || !can_move);
        let mut memory = pager.map(256 * 4096).unwrap();
        memory.iter_mut().step_by(4096).enumerate().for_each(|(page, byte)| *byte = (page % 255) as u8 + 1);
        let counts = pager.stats().counts;
        assert!(counts.stored > 0 && (counts.staged > 0) == can_move, "{counts:?}");
        assert!(memory.iter().step_by(4096).enumerate().all(|(page, byte)| *byte == (page % 255) as u8 + 1));
    }
}
