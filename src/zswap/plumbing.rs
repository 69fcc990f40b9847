//! What the C library needs of zswap beside the public calls: claims as numbers, areas as pointers, pages at any
//! address, forks in two calls. It may change in every version.

pub use super::area::PAST_END;
pub use super::claims::RawClaim;
pub use super::shared::ForeignWriteback;
pub use super::usage::usage_of_all;

use super::area::Area;
use super::load::LoadFlags;
use super::shared::WritebackTarget;
use super::writeback_refusal::Refusal;
use super::zswap::Zswap;
use crate::error::Result;
use crate::heap::Counted;
use crate::units::PAGE;
use std::ptr::NonNull;

/// Checks that this process can use the zswap. Every call checks this by itself.
///
/// # Errors
/// [`crate::Error::Forked`] in a child without the pool.
pub fn check_usable(zswap: &Zswap) -> Result<()> {
    zswap.shared.pool.check_usable()
}

/// Sets a writeback callback of C's, as [`Zswap::set_writeback`] does. Allocates nothing.
///
/// # Errors
/// Those of [`Zswap::clear_writeback`].
pub fn set_foreign_writeback(zswap: &Zswap, writeback: Option<ForeignWriteback>) -> Result<()> {
    zswap.set_target(writeback.map_or(WritebackTarget::None, WritebackTarget::Foreign))
}

/// Does what [`Zswap::prepare_fork`] does, without a guard: [`fork_done`] ends it. For handlers of `pthread_atfork`,
/// which can't pass a value from one to the next.
///
/// # Errors
/// Those of [`Zswap::prepare_fork`].
pub fn fork_prepare(zswap: &Zswap) -> Result<()> {
    zswap.fork.prepare(&zswap.shared)
}

/// Ends a fork that [`fork_prepare`] prepared: lets calls begin again, in the parent and in the child.
///
/// # Errors
/// [`crate::Error::Invalid`] if this thread has prepared no fork.
pub fn fork_done(zswap: &Zswap) -> Result<()> {
    zswap.fork.end(&zswap.shared)
}

/// Turns a handle into a pointer. [`area_from_raw`] turns it back.
pub fn area_into_raw(area: Area) -> NonNull<()> {
    area.0.into_raw()
}

/// Returns the pointer that [`area_into_raw`] returns. It is the same for all clones of an area.
pub fn area_as_raw(area: &Area) -> NonNull<()> {
    area.0.as_raw()
}

/// Returns the handle that a pointer is of.
///
/// # Safety
/// The pointer came from [`area_into_raw`], or from [`area_as_raw`] of a handle that still lives. What this returns is
/// dropped at most once for each [`area_into_raw`], and is not used after that.
pub unsafe fn area_from_raw(pointer: NonNull<()>) -> Area {
    // SAFETY: the caller vouches for the pointer.
    Area(unsafe { Counted::from_raw(pointer) })
}

/// Stores a page, as [`Area::store`] does, from memory that other threads may be writing.
///
/// # Errors
/// Those of [`Area::store`].
///
/// # Safety
/// 4096 bytes can be read at `page`, which need not be aligned.
#[inline]
pub unsafe fn store_from(area: &Area, offset: u64, page: *const u8) -> Result<()> {
    // SAFETY: the caller vouches for the page.
    unsafe { area.store_from(offset, page) }
}

/// Stores pages, as [`Area::store_pages`] does, from memory that other threads may be writing.
///
/// # Errors
/// Those of [`Area::store_pages`].
///
/// # Safety
/// `count` times 4096 bytes can be read at `pages`.
pub unsafe fn store_pages_from(area: &Area, offset: u64, pages: *const u8, count: usize) -> Result<()> {
    // SAFETY: the caller vouches for the pages.
    unsafe { area.store_pages_from(offset, pages, count) }
}

/// Loads `count` pages. The two functions return the offset and the destination of each, because C's arrays of offsets
/// and pages can lie at any address, so that there are no slices of them.
///
/// # Errors
/// Those of [`Area::load_scattered`].
pub fn load_each<'a>(
    area: &Area,
    count: usize,
    offset: impl Fn(usize) -> u64,
    page: impl FnMut(usize) -> &'a mut [u8; PAGE],
    flags: LoadFlags,
    result: impl FnMut(usize, Result<()>),
) -> Result<()> {
    area.load_each(count, offset, page, flags, result)
}

/// Returns the first offset, from `from` on, that has a page: in the pool, filled, or on a tier.
///
/// # Errors
/// [`crate::Error::NotFound`] if there is none, [`crate::Error::Removed`],
/// [`crate::Error::Forked`] in a child without the pool.
pub fn next_stored(area: &Area, from: u64) -> Result<u64> {
    area.next_stored(from, area.pages())
}

/// Claims pages of an area, as [`Area::claim`] does, up to as many as `pages` has room for, and decodes them into
/// `pages`. Tells of each claim. Returns how many it claimed. [`end_writeback`] ends a claim; one that is never ended
/// goes with its area.
///
/// Where the memory of `pages` is missing, the thread that brings it may remove any page but those that this call has
/// claimed before: it would wait for this thread, which waits for it.
///
/// # Errors
/// Those of [`Area::claim`]. None was claimed then.
pub fn begin_writeback(area: &Area, pages: &mut [[u8; PAGE]], claimed: impl FnMut(RawClaim)) -> Result<usize> {
    area.0.claim_some(pages, claimed)
}

/// Claims a page of any area, as [`Zswap::claim`] does, and decodes it into `page`. Returns what `keep` makes of its
/// area and its claim. C has the area's pointer already: [`area_as_raw`] returns it.
///
/// # Errors
/// Those of [`Zswap::claim`].
pub fn begin_writeback_of_all<R>(
    zswap: &Zswap,
    page: &mut [u8; PAGE],
    keep: impl Fn(&Area, RawClaim) -> R,
) -> Result<Option<R>> {
    zswap.shared.claim_of_all(page, keep)
}

/// Ends a claim. `Ok` removes the page, which was written, unless it was loaded, stored or removed meanwhile. `Err`
/// keeps it. Returns whether the page was removed.
///
/// # Errors
/// [`crate::Error::Stale`] if the claim was ended before or is not one of this area; [`crate::Error::Forked`] in a
/// child without the pool.
pub fn end_writeback(area: &Area, claim: &RawClaim, result: Result<(), Refusal>) -> Result<bool> {
    area.0.end_claim(claim, result)
}
