//! Low handle indices for stored pages, so that the handle table becomes shorter after many pages have gone.
//!
//! After most pages have gone at random, the objects that are left have indices all over the handle table, 8 bytes for
//! each page that there ever was. The objects of a pool keep their handles, because a program holds them. A zswap's
//! handles are in its page words alone: a walk over all areas gives each object with a high index a low one, by a
//! compare-and-swap of its page word. Then the end of the table goes back to the system. A call that is cut short goes
//! on where it stopped.

use super::area::Area;
use super::shared::{PackingHand, Shared};
use super::walk::Walk;
use super::word::{PageWord, WordKind};
use crate::error::Result;
use crate::pool::{Allowance, Pool};
use crate::sync::Ordering::Relaxed;

/// How many free indices are sorted with the lock of the supply held.
const SORT_AT_ONCE: u32 = 1024;
/// What the steps count for in a budget of bytes moved: an index that is sorted, an object that gets another index, and
/// a page word that is looked at.
const SORT_BYTES: u64 = 8;
const RENAME_BYTES: u64 = 64;
const LOOK_BYTES: u64 = 1;
/// How many page words are looked at between two looks at the clock.
const LOOKS: u64 = 512;

/// The budget is spent.
struct Spent;

fn spend(left: &mut Allowance, bytes: u64) -> Result<(), Spent> {
    left.spend(bytes);
    if left.is_spent() { Err(Spent) } else { Ok(()) }
}

/// How a walk over the areas ended.
enum Walked {
    /// Every object that could be renamed has a low index.
    Done,
    /// There is no low index left: more pages came than had gone.
    NoneLeft,
}

/// Makes the handle table shorter, if that pays, with what the pool's compaction left of its budget. Returns how many
/// pages the system got.
pub(super) fn pack(shared: &Shared, left: &mut Allowance) -> u64 {
    // The areas stay, and no other thread packs.
    let walk = Walk::new(shared);
    let hand = &shared.packing;
    if hand.end.load(Relaxed) == 0 {
        let Some(end) = shared.pool.shorter_handle_table() else { return 0 };
        hand.end.store(end, Relaxed);
        hand.area.store(0, Relaxed);
        hand.offset.store(0, Relaxed);
        shared.pool.gather_handles();
    }
    match pack_from(shared, &walk, hand, left) {
        Ok(pages) => {
            hand.end.store(0, Relaxed);
            pages
        }
        Err(Spent) => 0,
    }
}

fn pack_from(shared: &Shared, walk: &Walk<'_>, hand: &PackingHand, left: &mut Allowance) -> Result<u64, Spent> {
    let (pool, end) = (&shared.pool, hand.end.load(Relaxed));
    sort(pool, end, left)?;
    let mut walked = Ok(Walked::Done);
    walk.each(|area, _| {
        if matches!(walked, Ok(Walked::Done)) && area.id() >= hand.area.load(Relaxed) {
            walked = pack_area(area, end, hand, left);
        }
    });
    if let Walked::NoneLeft = walked? {
        return Ok(0);
    }
    // Indices that classes took meanwhile.
    pool.gather_handles();
    sort(pool, end, left)?;
    // A page that is being written back keeps its index, and so does one that was stored meanwhile.
    let used = pool.used_handle_end(end);
    if used > end {
        sort(pool, used, left)?;
    }
    Ok(pool.end_handle_table(used).unwrap_or(0))
}

fn sort(pool: &Pool, end: u32, left: &mut Allowance) -> Result<(), Spent> {
    while !pool.sort_handles(end, SORT_AT_ONCE) {
        spend(left, u64::from(SORT_AT_ONCE) * SORT_BYTES)?;
    }
    Ok(())
}

/// Gives low indices to the pages of an area, from the hand on.
fn pack_area(area: &Area, end: u32, hand: &PackingHand, left: &mut Allowance) -> Result<Walked, Spent> {
    // An area that was removed has no pages.
    let Ok(_call) = area.0.begin_within() else { return Ok(Walked::Done) };
    let index = &area.0.index;
    if hand.area.swap(area.id(), Relaxed) != area.id() {
        hand.offset.store(0, Relaxed);
    }
    let (mut at, mut looked) = (hand.offset.load(Relaxed), 0);
    while let Some((offset, word)) = index.next_used(at, index.pages()) {
        looked += offset + 1 - at;
        at = offset + 1;
        if is_behind(word, end) {
            match rename(area, offset, end) {
                Some(renamed) => spend(left, u64::from(renamed) * RENAME_BYTES)?,
                None => return Ok(Walked::NoneLeft),
            }
        }
        hand.offset.store(at, Relaxed);
        if looked >= LOOKS {
            spend(left, LOOK_BYTES * std::mem::take(&mut looked))?;
        }
    }
    hand.area.store(area.id() + 1, Relaxed);
    hand.offset.store(0, Relaxed);
    Ok(Walked::Done)
}

fn is_behind(word: PageWord, end: u32) -> bool {
    matches!(word.kind(), WordKind::Stored(handle) if Pool::is_behind(handle, end))
}

/// Gives the object of a page a low index. Returns whether it did, or none if no such index is left.
fn rename(area: &Area, offset: u64, end: u32) -> Option<bool> {
    let (page, pool) = (area.0.page(offset), &area.0.shared.pool);
    let (word, Some(pinned)) = page.find(pool) else { return Some(false) };
    if word.has_writeback() || !is_behind(word, end) {
        return Some(false);
    }
    let to = pool.low_handle()?;
    let renamed = pool.rename(pinned.handle(), to, |handle| page.rename(word, Pool::short_handle(handle)));
    debug_assert!(renamed.is_ok());
    if renamed != Ok(true) {
        pool.leave_handle(to);
    }
    Some(renamed == Ok(true))
}
