//! Checks, without the pager's own counters, that its limit holds and that the work goes on.

use crate::World;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use zsalloc::PAGE_SIZE;

/// Number of samples after which a limit must hold. Not a time, because a machine that stops for a while stops its
/// pager too.
const SETTLED: u64 = 50;
/// How long the workers may make no progress.
const STUCK: Duration = Duration::from_secs(60);

/// Returns how many pages of a range are in memory.
fn in_memory(at: usize, bytes: usize, seen: &mut Vec<u8>) -> u64 {
    seen.resize(bytes / PAGE_SIZE, 0);
    // SAFETY: a byte for each page can be written.
    let asked = unsafe { libc::mincore(at as *mut _, bytes, seen.as_mut_ptr()) };
    if asked == 0 { seen.iter().map(|page| u64::from(page & 1)).sum() } else { 0 }
}

/// Samples every 10 ms until the work ends.
pub fn watch(world: &World) {
    let (mut seen, mut last) = (Vec::new(), (0, world.start.elapsed()));
    while !world.stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
        let steps = world.steps.load(Relaxed);
        if steps != last.0 {
            last = (steps, world.start.elapsed());
        } else if world.start.elapsed() - last.1 > STUCK {
            eprintln!("nothing was done for {STUCK:?} after {steps} steps: {}", world.pager.stats_json().unwrap());
            crate::trouble::restore_settings();
            std::process::abort();
        }
        check_limit(world, &mut seen);
        world.looks.fetch_add(1, Relaxed);
    }
}

fn check_limit(world: &World, seen: &mut Vec<u8>) {
    let is_settled = || {
        let looks = world.looks.load(Relaxed) - world.set_at.load(Relaxed);
        world.setting.load(Relaxed) == 0 && looks > SETTLED
    };
    let was_settled = is_settled();
    let (limit, before) = (world.limit.load(Relaxed), world.pager.stats().counts);
    let staging = world.pager.staging_range();
    let mut pages = in_memory(staging.start, staging.len(), seen);
    for slot in &world.slots {
        if let Ok(slot) = slot.0.try_read()
            && let Some(memory) = &*slot
        {
            pages += in_memory(memory.base, memory.bytes(), seen);
        }
    }
    let after = world.pager.stats().counts;
    // Pages that moved while they were counted are counted twice. This many may have moved.
    let moved = after.staged - before.staged + after.rescues - before.rescues;
    let settled = was_settled && is_settled() && world.limit.load(Relaxed) == limit;
    // Pages that can't leave may exceed the limit.
    let stays = world.pager.stats().immovable_bytes;
    let allowed = limit + limit / 50 + (1 << 20) + moved * PAGE_SIZE as u64 + stays;
    if settled && after.over_limit == before.over_limit {
        world.settled.fetch_add(1, Relaxed);
        let bytes = pages * PAGE_SIZE as u64;
        assert!(bytes <= allowed, "{bytes} bytes resident, {limit} the limit, {:?}", world.pager.stats());
    }
}
