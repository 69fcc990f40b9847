//! Functions that create, destroy, limit and describe pools.

use super::export::export;
use super::structs::{ZS_VERSION_MAJOR, ZS_VERSION_MINOR, ZS_VERSION_PATCH, zs_pool_options, zs_pool_stats};
use super::{options, sized, zs_pool};
use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use zsalloc::Pool;
use zsalloc::plumbing::{PoolCalls, Uncancelled, boxed};

export! {
    /// Returns the version of the library: major << 16 | minor << 8 | patch.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub extern "C" fn zs_version() -> u32 {
        ZS_VERSION_MAJOR << 16 | ZS_VERSION_MINOR << 8 | ZS_VERSION_PATCH
    }

    /// Creates a pool and stores it in *pool. It begins with about ten pages, and takes memory from the
    /// system as it fills.
    ///
    /// name: for people, in UTF-8, at most 249 bytes. A memory file shows it in /proc. It need not be
    ///     unique.
    /// options: NULL for the defaults.
    ///
    /// Errors:
    /// -EINVAL: name or pool is NULL, the name is too long or not UTF-8, or an option is wrong or
    ///     contradicts another.
    /// -ENOMEM: the system gives no addresses (set a smaller max_bytes, or raise RLIMIT_AS), or no
    ///     memory for the tables.
    /// The system's own errors are returned as they are, among them -EMFILE and -ENFILE (no descriptor
    /// for a memory file), -ENOSYS and -EPERM (a jail forbids a system call), and -ENOSYS, -ENODEV or
    /// -EINVAL (the system has no huge pages).
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_create_pool(
        name: *const c_char,
        options: *const zs_pool_options,
        pool: *mut *mut zs_pool,
    ) -> c_int {
        let _whole = Uncancelled::new();
        // SAFETY: the C caller is responsible for memory that the options supply.
        let request = options::name(name).and_then(|name| Ok((name, unsafe { options::convert(&options) }?)));
        let created = request.and_then(|(name, options)| boxed(zs_pool(Pool::new(name, &options)?)));
        pool.set(Box::into_raw(created?))
    }

    /// Destroys a pool with all its objects and gives its memory back. Supplied memory is the caller's
    /// again. The context of zs_set_evict() is not used after this.
    ///
    /// No other call on the pool may run at the same time or come later. In a forked child that has no
    /// copy of the pool, this frees what the child has of it.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL.
    /// -EBUSY: an object is mapped. Nothing has changed.
    ///
    /// Threads: one, while no other uses the pool. Evict callback: always -EBUSY.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_destroy_pool(pool: *mut zs_pool) -> c_int {
        pool.check_unmapped()?;
        let _whole = Uncancelled::new();
        // SAFETY: the pointer came from the Box in zs_create_pool, and the caller does not use it again.
        drop(unsafe { Box::from_raw(pool.pointer().as_ptr()) });
        Ok(())
    }

    /// Prepares a fork() while other threads use the pool: takes all locks of the pool, so that the
    /// child finds nothing half done, and keeps them until zs_fork_done(). The thread that prepared must
    /// call zs_fork_done() after fork(), in the parent and in the child. In between it must make no
    /// other call on the pool: it might wait for itself. Calls of other threads wait, except those that
    /// never wait. To prepare several pools, always use the same order. Handlers of pthread_atfork() may
    /// call the pair.
    ///
    /// After zs_fork_done() the child may call every function on the pool. Objects that other threads of
    /// the parent had mapped are mapped in the child as well. What other threads were allocating,
    /// freeing or offering to the evict callback at that moment stays allocated in the child: a few
    /// objects, and parts of the pool, for each such thread.
    ///
    /// For a pool that children do not get (see FORK), both functions do nothing and return 0, and the
    /// child's calls fail with -EPERM as always.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL.
    /// -EAGAIN: a lock was not free within a second. A zs_compact() without a budget may hold one that
    ///     long.
    /// -EBUSY: this thread has already prepared a fork of this pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    /// On failure nothing has changed. A child that is forked nevertheless must not use the pool.
    ///
    /// Threads: any. Evict callback: allowed, but it must call zs_fork_done() before it returns.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_fork_prepare(pool: *mut zs_pool) -> c_int {
        pool.fork_prepare()
    }

    /// Ends what zs_fork_prepare() began, after fork(), in the parent and in the child. Allocates
    /// nothing and never waits.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL, or this thread has not called zs_fork_prepare().
    ///
    /// Threads: the one that called zs_fork_prepare(). Evict callback: allowed, if it called
    /// zs_fork_prepare().
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_fork_done(pool: *mut zs_pool) -> c_int {
        pool.fork_done()
    }

    /// Sets how many bytes of memory the pool may have, its tables included. 0: as many as it was
    /// created for. A limit below what it has is allowed: allocations that need memory then fail with
    /// -ENOMEM until enough was freed. A limit above what it was created for is allowed too, but the
    /// pool has only the addresses it reserved at creation, a quarter and 64 MiB more than it was
    /// created for: when they are used up, allocations fail with -ENOMEM all the same.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_set_max_bytes(pool: *mut zs_pool, max_bytes: u64) -> c_int {
        pool.set_max_bytes(sized::unless_zero(max_bytes))
    }

    /// Stores in *pages how many pages of 4096 bytes the pool has from the system, its tables included.
    /// Costs one load from memory; zs_pool_stats() tells more.
    ///
    /// Errors:
    /// -EINVAL: pool or pages is NULL.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_get_total_pages(pool: *mut zs_pool, pages: *mut u64) -> c_int {
        pages.set(pool.total_pages())
    }

    /// Fills *stats. Set its struct_size first. Fields that this library does not know become 0.
    ///
    /// Errors:
    /// -EINVAL: pool or stats is NULL, or struct_size is wrong.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; takes a few hundred short locks, one after another. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_pool_stats(pool: *mut zs_pool, stats: *mut zs_pool_stats) -> c_int {
        stats.set(pool.stats()?.into())
    }

    /// Stores in *fd the descriptor of the pool's memory file (ZS_BACKING_MEMFD or ZS_BACKING_HUGETLB).
    /// It stays the pool's, which closes it when it is destroyed. Do not close it; duplicate it to keep
    /// it.
    ///
    /// Errors:
    /// -EINVAL: pool or fd is NULL.
    /// -ENOENT: the pool is not in a memory file.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_pool_fd(pool: *mut zs_pool, fd: *mut c_int) -> c_int {
        fd.set(pool.fd()?.as_raw_fd())
    }

    /// Stores in *class_size how many bytes an object allocated with `size` really has. All of them may
    /// be used.
    ///
    /// Errors:
    /// -EINVAL: pool or class_size is NULL, or size is 0.
    /// -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE, or than ZS_MAX_TAGGED_SIZE in a pool with tags.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_lookup_class_size(pool: *mut zs_pool, size: usize, class_size: *mut usize) -> c_int {
        class_size.set(pool.class_size(size)?)
    }
}
