//! The writeback callback of the model. It does everything that a callback may do, to its own page and to others.

use super::ops::count_refusal;
use super::pages::index_of;
use super::world::{By, Running, World};
use crate::tests::zswap::PageBytes;
use crate::{Area, CompactBudget, Error, LoadFlags, Patience, Refusal, Result, ShrinkOptions, Zswap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the callback shares with the steps.
pub type Shared = Arc<Mutex<World>>;

/// Locks the world, also after a step that failed.
pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A panic that is part of the test.
struct Meant;

const REFUSALS: [Refusal; 7] = [
    Refusal::Exists,
    Refusal::Again,
    Refusal::NoMemory,
    Refusal::Io,
    Refusal::NoSpace,
    Refusal::Other(95),
    Refusal::Other(5),
];

/// Draws a refusal.
pub fn draw_refusal(world: &mut World) -> Refusal {
    world.rng.pick(&REFUSALS)
}

/// Makes the callback of this world. It holds the world weakly, because the world holds the zswap that holds it.
pub fn callback(
    world: &Shared,
) -> impl Fn(&Area, u64, &PageBytes) -> std::result::Result<(), Refusal> + Send + Sync + 'static {
    let world = Arc::downgrade(world);
    move |area: &Area, offset, page: &PageBytes| {
        let world = world.upgrade().expect("the world outlives its shrinks");
        catch_unwind(AssertUnwindSafe(|| write(&world, area, offset, page))).unwrap_or_else(|panic| {
            // zswap takes a panic for a refusal. If it was not meant to happen, the step has to know.
            lock(&world).failed |= !panic.is::<Meant>();
            resume_unwind(panic)
        })
    }
}

fn write(shared: &Shared, area: &Area, offset: u64, page: &PageBytes) -> std::result::Result<(), Refusal> {
    let acts = {
        let mut world = lock(shared);
        let at = world.find(area.id());
        world.depth += 1;
        let model = &mut world.areas[at];
        let held = model.held[&offset];
        assert_eq!(index_of(page), held.page, "another page was handed over");
        let running = Running { by: By::Callback, page: held.page, version: held.version, loaded: false, sure: true };
        assert!(model.running.insert(offset, running).is_none(), "two writebacks of one page");
        if world.rng.chance(80) { 0 } else { world.rng.between(1, 3) }
    };
    for _ in 0..acts {
        act(shared, area, offset);
    }
    let mut world = lock(shared);
    world.depth -= 1;
    let at = world.find(area.id());
    if world.rng.chance(85) {
        let model = &mut world.areas[at];
        let gone = model.goes(offset).expect("nothing is recompressed in a callback");
        model.end_written(offset, gone);
        *world.went.last_mut().expect("a shrink runs") += u64::from(gone);
        return Ok(());
    }
    let refusal = draw_refusal(&mut world);
    let model = &mut world.areas[at];
    model.running.remove(&offset);
    count_refusal(&mut model.tally, refusal);
    drop(world);
    if refusal == Refusal::Other(5) {
        resume_unwind(Box::new(Meant));
    }
    Err(refusal)
}

/// Does one thing that a callback may do.
fn act(shared: &Shared, area: &Area, own: u64) {
    let mut world = lock(shared);
    let own_area = world.find(area.id());
    let there = world.areas.len();
    let at = if world.rng.chance(60) { own_area } else { world.rng.below(there) };
    let rng = &mut world.rng;
    let (lot, mine) = (rng.below(100), at == own_area && rng.chance(50));
    let World { areas, rng, .. } = &mut *world;
    let offset = if mine { own } else { areas[at].draw_offset(rng) };
    let patience = rng.pick(&[Patience::Wait, Patience::NoWait]);
    match lot {
        0..30 => {
            let page = world.draw_page();
            _ = world.store(at, offset, page);
        }
        30..50 => _ = world.load(at, offset, LoadFlags::KEEP),
        50..65 => _ = world.load(at, offset, LoadFlags { exclusive: true, patience }),
        65..80 => _ = world.invalidate(at, offset, 1, patience),
        80..85 => _ = world.next_stored(at, offset),
        85..88 => {
            let compacted = world.zswap.compact(&CompactBudget { max_bytes_moved: Some(10_000), max_time: None });
            assert!(compacted.is_ok(), "{compacted:?}");
        }
        88..92 => assert!(matches!(area.remove(), Err(Error::Busy(_))), "a call runs on it"),
        _ if world.depth < 3 => {
            let zswap = world.zswap.clone();
            drop(world);
            _ = shrink(shared, &zswap, None, &plain(1));
        }
        _ => {}
    }
}

/// Shrinks one area or all, by the call without options if there are none. Returns how many pages went.
pub fn shrink_by(zswap: &Zswap, area: Option<&Area>, options: &ShrinkOptions) -> Result<u64> {
    if *options == plain(options.max_pages) {
        return area.map_or_else(|| zswap.shrink(options.max_pages), |area| area.shrink(options.max_pages));
    }
    let done = area.map_or_else(|| zswap.shrink_by(options), |area| area.shrink_by(options))?;
    assert!(options.max_bytes.is_none_or(|max| done.bytes <= max), "{done:?} by {options:?}");
    assert_eq!(done.pages > 0, done.bytes > 0, "{done:?}");
    Ok(done.pages)
}

/// The options of a shrink of up to so many pages.
pub fn plain(pages: u64) -> ShrinkOptions {
    ShrinkOptions { max_pages: pages, ..ShrinkOptions::default() }
}

/// Shrinks one area or all by the callback, and compares the result with the pages that went.
pub fn shrink(shared: &Shared, zswap: &Zswap, area: Option<&Area>, options: &ShrinkOptions) -> Result<()> {
    lock(shared).went.push(0);
    let result = shrink_by(zswap, area, options);
    let pages = options.max_pages;
    let mut world = lock(shared);
    let went = world.went.pop().expect("pushed above");
    assert!(!world.failed, "an assertion failed in a callback");
    match result {
        Ok(written) => assert!(written == went && written <= pages, "{written} of {pages}, {went} went"),
        Err(Error::Again(_) | Error::NotFound(_)) => assert_eq!(went, 0),
        Err(error) => {
            let never = area.is_some_and(|area| world.areas[world.find(area.id())].options.no_writeback);
            assert!(never && matches!(error, Error::Invalid(_)), "{error:?}");
        }
    }
    result.map(drop)
}
