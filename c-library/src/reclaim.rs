//! Giving memory back: compaction and the evict callback.

use super::export::export;
use super::structs::{zs_compact_budget, zs_evict_fn};
use super::zs_pool;
use std::ffi::{c_int, c_void};
use zsalloc::plumbing::{ForeignEvict, Uncancelled};
use zsalloc::{Error, Result};

export! {
    /// Moves objects together and gives the memory that becomes free back to the system. Stores in
    /// *pages_freed how many pages of 4096 bytes the system really got. Objects that are mapped stay
    /// where they are, and nobody who maps to read waits. Takes no memory itself, so that it works when
    /// there is none.
    ///
    /// budget: how much this call may do; NULL, or no bound in it, to run to the end and to give back
    ///     also what the pool keeps empty to use it again soon. A call whose budget ran out goes on
    ///     where it stopped the next time. While one call works on a pool another one returns 0 at
    ///     once, with 0 pages.
    ///
    /// Errors:
    /// -EINVAL: pool or pages_freed is NULL, or the budget's struct_size is wrong or has a field that
    ///     is not known here.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_compact(
        pool: *mut zs_pool,
        budget: *const zs_compact_budget,
        pages_freed: *mut u64,
    ) -> c_int {
        pages_freed.set(pool.compact(&budget.all()?.into())?)
    }

    /// Sets the callback that zs_shrink() offers objects to, and its context; with evict NULL there is
    /// none. From the first callback on the pool notes which parts of it are used when, which costs
    /// zs_malloc() and zs_map_object() a store at times. The pool never calls it by itself: when
    /// zs_malloc() is -ENOMEM, call zs_shrink() and try again.
    ///
    /// A zs_shrink() that is running goes on with the callback and the context that it began with: keep
    /// an old context until it returned.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_set_evict(pool: *mut zs_pool, evict: zs_evict_fn, context: *mut c_void) -> c_int {
        let callback = evict.map(|function| {
            let (function, context) = (function as *const (), context.into_pointer().cast());
            ForeignEvict { caller: call, function, context, pool: pool.pointer().cast() }
        });
        pool.set_foreign_evict(callback)
    }

    /// Offers the objects of parts of the pool that were long unused to the evict callback, until
    /// `pages` pages of 4096 bytes of the pool became free. Stores in *reclaimed how many did, which
    /// can be more than asked, and also fewer: the callback refused, objects are mapped, or there are
    /// no more. Objects that are mapped are not offered. The pages go back to the system at once; but
    /// where memory is taken 2 MiB at a time the pool may use them again, and keeps them until all of
    /// the 2 MiB are unused.
    ///
    /// A part is the up to 64 objects of about one size that lie together. For each part that goes, the
    /// call looks at some 250 parts, spread over the pool, and takes the one that was longest unused of
    /// those that it and the calls before looked at. So a pool of up to 200 parts gives the coldest one
    /// first, a larger one about the coldest, and the call takes as long in a large pool as in a small
    /// one.
    ///
    /// Errors:
    /// -EINVAL: pool or reclaimed is NULL, or the pool has no callback.
    /// -EAGAIN: nothing could go now.
    /// -ENOENT: nothing is stored.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any, several at once. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_shrink(pool: *mut zs_pool, pages: u64, reclaimed: *mut u64) -> c_int {
        let _whole = Uncancelled::new();
        reclaimed.set(pool.shrink(pages)?)
    }
}

/// Calls a callback that [`zs_set_evict`] was given.
fn call(set: &ForeignEvict, handle: u64) -> Result<()> {
    const REFUSED: Error = Error::Again(&"the evict callback kept the object");
    // SAFETY: the pointer is of a function of this type, and none of them is null.
    let function = unsafe { std::mem::transmute::<*const (), zs_evict_fn>(set.function) };
    let Some(function) = function else { return Err(REFUSED) };
    // SAFETY: the function and its context are as the caller set them, and the pool is the one being shrunk.
    match unsafe { function(set.context.cast(), set.pool.as_ptr().cast(), handle) } {
        0 => Ok(()),
        _ => Err(REFUSED),
    }
}
