//! Pools: creation, destruction, limits, and what they have.

use super::export::export;
use super::structs::{ZS_VERSION_MAJOR, ZS_VERSION_MINOR, ZS_VERSION_PATCH, zs_pool_options, zs_pool_stats};
use super::{options, zs_pool};
use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use zsalloc::Pool;
use zsalloc::plumbing::{Uncancelled, boxed};

export! {
    /// The version of the library: major << 16 | minor << 8 | patch.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub extern "C" fn zs_version() -> u32 {
        ZS_VERSION_MAJOR << 16 | ZS_VERSION_MINOR << 8 | ZS_VERSION_PATCH
    }

    /// Creates a pool and stores it in *pool. It begins with some ten pages, and takes memory from the
    /// system as it fills.
    ///
    /// name: for people, UTF-8, at most 249 bytes; a memory file shows it in /proc. It need not be
    ///     unique.
    /// options: NULL for the defaults.
    ///
    /// Errors:
    /// -EINVAL: name or pool is NULL, the name is too long or not UTF-8, or an option is wrong or
    ///     contradicts another.
    /// -ENOMEM: the system gives no addresses (give a smaller max_bytes, or raise RLIMIT_AS), or no
    ///     memory for the tables.
    /// Others come from the system as they are, among them -EMFILE and -ENFILE (a memory file was one
    /// too many), -ENOSYS and -EPERM (a jail forbids a system call), and -ENOSYS, -ENODEV or -EINVAL
    /// (there are no huge pages).
    /// If options.message is set, a sentence there says what it was, unless name or pool is NULL or
    /// struct_size is wrong.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_create_pool(
        name: *const c_char,
        options: *const zs_pool_options,
        pool: *mut *mut zs_pool,
    ) -> c_int {
        let _whole = Uncancelled::new();
        // SAFETY: the caller answers for the memory that the options supply.
        let request = options::name(name).and_then(|name| Ok((name, unsafe { options::convert(&options) }?)));
        let created = request.and_then(|(name, options)| boxed(zs_pool(Pool::new(name, &options)?)));
        let known = options.known();
        // SAFETY: the caller answers for the room for the message.
        let created = created.inspect_err(|&e| unsafe { options::tell(known.message, known.message_size, e) })?;
        pool.set(Box::into_raw(created))
    }

    /// Destroys a pool with all objects in it, and gives its memory back; supplied memory is the
    /// caller's again. What the callback of zs_set_evict() was given as its context is not used any
    /// more.
    ///
    /// No other call on the pool may be running, and none may come after it. In a forked child that did
    /// not get the pool it frees what the child has of it.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL.
    /// -EBUSY: an object is mapped. The pool stays as it was.
    ///
    /// Threads: one, when no other uses the pool. Evict callback: always -EBUSY.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_destroy_pool(pool: *mut zs_pool) -> c_int {
        pool.check_unmapped()?;
        let _whole = Uncancelled::new();
        // SAFETY: the pointer came from the Box in zs_create_pool, and the caller uses it no more.
        drop(unsafe { Box::from_raw(pool.pointer().as_ptr()) });
        Ok(())
    }

    /// Makes this a moment to fork while other threads use the pool: takes all of its locks, so that the
    /// child finds nothing half done, and keeps them until zs_fork_done(). Call that after fork(), in the
    /// parent and in the child, by the thread that called this. Other threads' calls wait meanwhile,
    /// except those that never wait. This thread makes no other call on the pool in between: it might
    /// wait for itself. Where several pools are prepared at a time, do so in one order everywhere. The
    /// pair may be called by handlers of pthread_atfork().
    ///
    /// After zs_fork_done() the child may call every function on the pool. Objects that other threads of
    /// the parent had mapped are mapped in the child as well. What other threads were allocating, freeing
    /// or offering to the evict callback at that moment stays taken in the child: a few objects, and
    /// parts of the pool, for each such thread.
    ///
    /// For a pool that children do not get (see FORK) both do nothing and return 0, and the child's calls
    /// are -EPERM as ever.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL.
    /// -EAGAIN: a lock was not had within a second. A zs_compact() without a budget may take that long.
    /// -EBUSY: this thread has called it already, without zs_fork_done().
    /// -EPERM: this process is a forked child that did not get the pool.
    /// If it fails, nothing has changed: a child that is forked nevertheless leaves the pool alone.
    ///
    /// Threads: any. Evict callback: allowed, but zs_fork_done() has to be called before it returns.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_fork_prepare(pool: *mut zs_pool) -> c_int {
        pool.fork_prepare()
    }

    /// Ends what zs_fork_prepare() began, after fork(), in the parent and in the child. It allocates
    /// nothing and waits for nobody.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL, or this thread has not called zs_fork_prepare().
    ///
    /// Threads: the one that called zs_fork_prepare(). Evict callback: as zs_fork_prepare().
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_fork_done(pool: *mut zs_pool) -> c_int {
        pool.fork_done()
    }

    /// Sets how many bytes of memory the pool may have, its tables included; 0: as many as it was
    /// created for. Fewer than it has is allowed: an allocation that needs memory is -ENOMEM then,
    /// until enough was freed. More than it was created for is allowed too; but it has only the
    /// addresses that it reserved at its creation, a quarter and 64 MiB more than it was to have, and
    /// once they are used up an allocation is -ENOMEM all the same.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_set_max_bytes(pool: *mut zs_pool, max_bytes: u64) -> c_int {
        pool.set_max_bytes(max_bytes)
    }

    /// Stores in *pages how many pages of 4096 bytes the pool has from the system, its tables included.
    /// One load; zs_pool_stats() tells more.
    ///
    /// Errors:
    /// -EINVAL: pool or pages is NULL.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_get_total_pages(pool: *mut zs_pool, pages: *mut u64) -> c_int {
        pages.set(pool.total_pages())
    }

    /// Fills *stats, whose struct_size the caller set. Fields that only a newer library knows become 0.
    ///
    /// Errors:
    /// -EINVAL: pool or stats is NULL, or struct_size is wrong.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any; takes some hundred short locks in turn. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_pool_stats(pool: *mut zs_pool, stats: *mut zs_pool_stats) -> c_int {
        stats.set(pool.stats()?.into())
    }

    /// Stores in *fd the descriptor of the pool's memory file, of a pool with ZS_BACKING_MEMFD or
    /// _HUGETLB. It stays the pool's, which closes it when it is destroyed: duplicate it to keep it,
    /// and do not close it.
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

    /// Stores in *class_size how many bytes an object of `size` bytes really has: it may use them all.
    ///
    /// Errors:
    /// -EINVAL: pool or class_size is NULL, or size is 0.
    /// -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE.
    ///
    /// Threads: any. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_lookup_class_size(pool: *mut zs_pool, size: usize, class_size: *mut usize) -> c_int {
        class_size.set(pool.class_size(size)?)
    }
}
