//! Functions that allocate, free, map and copy objects.

use super::export::export;
use super::structs::{ZS_MM_RO, ZS_MM_RW, ZS_MM_WO, zs_handle_t};
use super::zs_pool;
use std::ffi::{c_int, c_void};
use zsalloc::plumbing::{MapMode, PoolCalls, sentence};
use zsalloc::{Error, Result};

export! {
    /// Allocates an object of `size` bytes, 1 to ZS_MAX_ALLOC_SIZE, and stores its handle in *handle.
    /// The object's bytes are undefined until they are written.
    ///
    /// An object of 500 bytes or more takes at most 6 % more memory than it has bytes, once there are
    /// many, tables included. A smaller one takes more: 1 to 64 bytes take 77, 100 take 131, 200 take
    /// 222, and 256 take 269. To keep small values, pack several into one object.
    ///
    /// Errors, after which nothing has changed:
    /// -EINVAL: pool or handle is NULL, or size is 0.
    /// -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE, or than ZS_MAX_TAGGED_SIZE in a pool with tags.
    /// -ENOMEM: the pool is at its limit, or the system has no memory. Free, compact or shrink, then try
    ///     again.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_malloc(pool: *mut zs_pool, size: usize, handle: *mut zs_handle_t) -> c_int {
        handle.set(pool.malloc_raw(size)?)
    }

    /// Allocates an object and maps it for reading and writing. This is zs_malloc() and zs_map_object()
    /// in one step, so zs_shrink() can't offer the object to the evict callback before it is written.
    /// Stores the handle in *handle and returns the object's address, a multiple of 16. End the mapping
    /// with zs_unmap_object().
    ///
    /// Returns NULL if it fails, after which nothing has changed. zs_last_errno() returns the number:
    /// -EINVAL: pool or handle is NULL, or size is 0.
    /// -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE, or than ZS_MAX_TAGGED_SIZE in a pool with tags.
    /// -ENOMEM: the pool is at its limit, or the system has no memory. Free, compact or shrink, then try
    ///     again.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_malloc_mapped(
        pool: *mut zs_pool,
        size: usize,
        handle: *mut zs_handle_t,
    ) -> *mut c_void {
        let (new, address) = pool.malloc_mapped_raw(size)?;
        handle.set(new)?;
        Ok(address.cast())
    }

    /// Allocates an object with a tag and maps it, otherwise as zs_malloc_mapped() does. The tag is 8
    /// bytes of the program's, such as a pointer, an index or a hash. zs_get_tag() tells it, in the evict
    /// callback too. It never changes. The pool has to be created with ZS_POOL_TAGGED, and size is
    /// at most ZS_MAX_TAGGED_SIZE. In such a pool, objects that zs_malloc() and zs_malloc_mapped()
    /// allocate have the tag 0.
    ///
    /// Returns NULL if it fails, after which nothing has changed. zs_last_errno() returns the number:
    /// -EINVAL: pool or handle is NULL, size is 0, or the pool was created without ZS_POOL_TAGGED.
    /// -ENOSPC: size is more than ZS_MAX_TAGGED_SIZE.
    /// -ENOMEM: the pool is at its limit, or the system has no memory. Free, compact or shrink, then try
    ///     again.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_malloc_tagged(
        pool: *mut zs_pool,
        size: usize,
        tag: u64,
        handle: *mut zs_handle_t,
    ) -> *mut c_void {
        let (new, address) = pool.malloc_tagged_raw(size, tag)?;
        handle.set(new)?;
        Ok(address.cast())
    }

    /// Stores in *tag the tag that an object was allocated with: see zs_malloc_tagged().
    ///
    /// Errors:
    /// -EINVAL: pool or tag is NULL, the handle is 0, stale, freed, or of another pool, or the pool was
    ///     created without ZS_POOL_TAGGED.
    /// -EBUSY: the object is already mapped 4,095 times.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; never waits. Evict callback: allowed; in it, -EINVAL for the handle that it was
    /// called with means that another thread has just freed the object. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_get_tag(pool: *mut zs_pool, handle: zs_handle_t, tag: *mut u64) -> c_int {
        tag.set(pool.tag_raw(handle)?)
    }

    /// Frees an object. Its handle is stale from now on. If the object is mapped, its address stays
    /// readable and writable until the last zs_unmap_object(), which is still allowed and releases the
    /// object.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL, or the handle is 0, stale, already freed, or of another pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_free(pool: *mut zs_pool, handle: zs_handle_t) -> c_int {
        // SAFETY: C has no `Handle`s.
        unsafe { pool.free_raw(handle) }
    }

    /// Maps an object: returns its address, a multiple of 16. The object stays at that address until
    /// zs_unmap_object() has been called as often as this function. It may be mapped up to 4,095 times
    /// at once, by any threads, in any mixture of modes, and for any time. Threads that write while
    /// others read or write must agree among themselves. All of zs_lookup_class_size() bytes may be
    /// used.
    ///
    /// mode: ZS_MM_RW, ZS_MM_RO or ZS_MM_WO. What is written through a ZS_MM_RO mapping may be lost.
    ///
    /// Returns NULL if it fails, after which nothing has changed. zs_last_errno() returns the number:
    /// -EINVAL: pool is NULL, the mode is unknown, or the handle is 0, stale, freed, or of another pool.
    /// -EBUSY: the object is already mapped 4,095 times.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any. ZS_MM_RO never waits; the other modes wait only while zs_compact() copies this very
    /// object.
    /// Evict callback: allowed. Signal handler: allowed with ZS_MM_RO.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_map_object(pool: *mut zs_pool, handle: zs_handle_t, mode: u32) -> *mut c_void {
        Ok(pool.map_raw(handle, map_mode(mode)?)?.cast())
    }

    /// Ends one mapping of an object. After the last one, its address is no longer valid. Any thread may
    /// end a mapping. If the object was freed while mapped, the last unmap releases it.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL, the object is not mapped, or the handle is 0, stale, or of another pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_unmap_object(pool: *mut zs_pool, handle: zs_handle_t) -> c_int {
        // SAFETY: C has no guards; that the mapping is the caller's to end is the caller's to know.
        unsafe { pool.unmap_raw(handle) }
    }

    /// Copies the first `size` bytes of an object into buffer.
    ///
    /// Errors, after which nothing was copied:
    /// -EINVAL: pool is NULL, buffer is NULL and size is not 0, size is more than the object has
    ///     (zs_lookup_class_size() of the size it was allocated with), or the handle is 0, stale, freed,
    ///     or of another pool.
    /// -EBUSY: the object is already mapped 4,095 times.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_obj_read(
        pool: *mut zs_pool,
        handle: zs_handle_t,
        buffer: *mut c_void,
        size: usize,
    ) -> c_int {
        let buffer = buffer.room_for(size)?;
        // SAFETY: the caller has room for that many bytes.
        unsafe { pool.read_to(handle, buffer, size) }
    }

    /// Copies `size` bytes from buffer to the beginning of an object. The bytes after them keep their
    /// values. The buffer may change meanwhile: then the object gets a mixture.
    ///
    /// Errors, after which nothing was copied:
    /// -EINVAL: pool is NULL, buffer is NULL and size is not 0, size is more than the object has
    ///     (zs_lookup_class_size() of the size it was allocated with), or the handle is 0, stale, freed,
    ///     or of another pool.
    /// -EBUSY: the object is already mapped 4,095 times.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; waits only while zs_compact() copies this very object. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_obj_write(
        pool: *mut zs_pool,
        handle: zs_handle_t,
        buffer: *const c_void,
        size: usize,
    ) -> c_int {
        let buffer = buffer.of_size(size)?;
        // SAFETY: the caller has that many bytes there.
        unsafe { pool.write_from(handle, buffer, size) }
    }
}

/// Returns the mapping mode for a number.
#[inline]
fn map_mode(mode: u32) -> Result<MapMode> {
    const NO_SUCH_MODE: Error = Error::Invalid(sentence(&"mode is not one of ZS_MM_RW, ZS_MM_RO and ZS_MM_WO"));
    match mode {
        ZS_MM_RW => Ok(MapMode::ReadWrite),
        ZS_MM_RO => Ok(MapMode::Read),
        ZS_MM_WO => Ok(MapMode::Write),
        _ => Err(NO_SUCH_MODE),
    }
}
