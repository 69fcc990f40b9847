//! Cost of touching a page that waits in the staging range. Runs in a process of its own.

use super::child::{Numbers, Order};
use super::common::random::Random;
use super::faults::Times;
use super::sides::{Side, side};

/// Stages part of a region, and touches it in random order.
pub fn measure(order: &Order) -> Result<Numbers, String> {
    let (data, region) = order.regions()?;
    let Side::Ours(lent) = side(order, &region, region.pages(), &[])? else {
        return Err("only the pager has a staging range".into());
    };
    region.fill(&data);
    // Staged pages are compressed only when they exceed the staging range's share.
    let mut tries = 0;
    while lent.pager.stats().staged_bytes * 2 < region.bytes() as u64 && tries < 100 {
        let _ = lent.pager.evict(1);
        tries += 1;
    }
    let in_place = region.in_place();
    // The clock hand goes through rising addresses, and the first pages that it took have been compressed.
    let first = 2 * lent.pager.stats().counts.stored as usize;
    let mut sequence: Vec<usize> = (first..region.pages()).filter(|&page| !in_place[page]).collect();
    Random::new(order.get("seed")?).shuffle(&mut sequence);
    let mut times = Times::new(sequence.len());
    sequence.iter().for_each(|&page| times.touch(&region, page));
    let mut numbers = Numbers::new();
    times.tell("rescue", &mut numbers);
    numbers.insert("missing".into(), sequence.len() as f64);
    numbers.insert("rescues".into(), lent.snapshot().pager.counts.rescues as f64);
    region.check(&data, 0)?;
    Ok(numbers)
}
