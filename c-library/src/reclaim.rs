//! Functions that give memory back: compaction and the evict callback.

use super::export::export;
use super::structs::{zs_compact_budget, zs_evict_fn};
use super::zs_pool;
use std::ffi::{c_int, c_void};
use zsalloc::plumbing::{ForeignEvict, PoolCalls, Uncancelled, sentence};
use zsalloc::{Error, Result};

export! {
    /// Moves objects together and gives the memory that this empties back to the system. Stores in
    /// *pages_freed how many pages of 4096 bytes the system got. Mapped objects stay where they are, and
    /// no zs_map_object() with ZS_MM_RO waits. The call allocates no memory, so it works when there is
    /// none left.
    ///
    /// budget: how much this call may do. With NULL, or with no bound in it, the call runs to the end
    ///     and also gives back the empty pages that the pool would otherwise keep for reuse. When a
    ///     budget runs out, the next call continues where this one stopped.
    ///
    /// Only one call compacts a pool at a time. A second call returns 0 at once, with 0 pages.
    ///
    /// Errors:
    /// -EINVAL: pool or pages_freed is NULL, the budget's struct_size is wrong, or the budget sets a
    ///     field that this library does not know.
    /// -EPERM: this process is a forked child that has no copy of the pool.
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

    /// Sets the callback that zs_shrink() offers objects to, and its context. With evict NULL the pool
    /// has no callback. The pool never calls it on its own: when zs_malloc() fails with -ENOMEM, call
    /// zs_shrink() and try again.
    ///
    /// The callback has to find out what it was offered. It may map the object with ZS_MM_RO and read its
    /// bytes, if no other thread writes objects that are not new: put a key or an index into them. Or
    /// give each object a tag (zs_malloc_tagged) and call zs_get_tag(). Either fails with -EINVAL if
    /// another thread has just freed the object: then return any value.
    ///
    /// An object may be offered as soon as it is unmapped: also between the zs_unmap_object() that
    /// follows zs_malloc_mapped() or zs_malloc_tagged() and its entry in the program's own table. If the
    /// two are not one step, the callback returns -EAGAIN for a handle that the table does not have,
    /// which keeps the object.
    ///
    /// A cache that several threads use keeps these rules:
    /// - Allocate with zs_malloc_mapped() or zs_malloc_tagged(). Unmap the new object and enter it in the
    ///   index under the lock of the index: from the unmapping on it may be offered.
    /// - The thread that takes an entry out of the index, under the lock, frees the object.
    /// - The callback looks under the lock whether the index has this very handle. If not, another
    ///   thread has just taken it out and frees it, and the callback returns 0.
    /// - No thread holds the lock while it calls zs_shrink(), because the callback takes it.
    ///
    /// Once a callback has been set, the pool records which of its parts are used when. This costs
    /// zs_malloc() and zs_map_object() an occasional store.
    ///
    /// A zs_shrink() that is already running keeps the callback and the context it began with: keep the
    /// old context alive until it has returned.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL.
    /// -EPERM: this process is a forked child that has no copy of the pool.
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

    /// Offers objects to the evict callback, from the parts of the pool that have been unused longest,
    /// until `pages` pages of 4096 bytes have become free. Stores in *reclaimed how many did. That can
    /// be more than `pages`, and it can be fewer: when the callback refuses, objects are mapped, or none
    /// are left. Mapped objects are not offered. The pages go back to the system at once, except where
    /// the pool takes memory 2 MiB at a time: there it may reuse them, and keeps them until the whole 2
    /// MiB are unused.
    ///
    /// A part is a group of up to 64 objects of about the same size that lie together. For each part to
    /// evict, the call samples about 250 parts across the pool and takes the one unused longest among
    /// those sampled by this call and earlier ones. A pool of up to 200 parts thus loses its coldest
    /// part first, and a larger pool about its coldest. The cost of a call does not grow with the pool.
    ///
    /// Errors:
    /// -EINVAL: pool or reclaimed is NULL, or the pool has no callback.
    /// -EAGAIN: nothing could be evicted now.
    /// -ENOENT: nothing is stored.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_shrink(pool: *mut zs_pool, pages: u64, reclaimed: *mut u64) -> c_int {
        let _whole = Uncancelled::new();
        reclaimed.set(pool.shrink(pages)?)
    }
}

/// Calls the callback that [`zs_set_evict`] was given.
fn call(set: &ForeignEvict, handle: u64) -> Result<()> {
    const REFUSED: Error = Error::Again(sentence(&"the evict callback kept the object"));
    // SAFETY: `zs_set_evict` made the pointer from a function of this type, so it is not null.
    let function = unsafe { std::mem::transmute::<*const (), zs_evict_fn>(set.function) };
    let Some(function) = function else { return Err(REFUSED) };
    // SAFETY: function and context are those that the caller set together, and the pool is the one being shrunk.
    match unsafe { function(set.context.cast(), set.pool.as_ptr().cast(), handle) } {
        0 => Ok(()),
        _ => Err(REFUSED),
    }
}
