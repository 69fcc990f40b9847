//! Objects: allocation, freeing, mapping, and copying.

use super::export::export;
use super::structs::{ZS_MM_RO, ZS_MM_RW, ZS_MM_WO, zs_handle_t};
use super::zs_pool;
use std::ffi::{c_int, c_void};
use zsalloc::{Error, MapMode, Result};

export! {
    /// Allocates an object of `size` bytes, 1 to ZS_MAX_ALLOC_SIZE, and stores its handle in *handle.
    /// Its bytes are undefined until they are written.
    ///
    /// Errors, after which nothing has changed:
    /// -EINVAL: pool or handle is NULL, or size is 0.
    /// -ENOSPC: size is more than ZS_MAX_ALLOC_SIZE.
    /// -ENOMEM: the pool is at its limit, or the system gives no memory. Free, compact or shrink, then
    ///     try again.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_malloc(pool: *mut zs_pool, size: usize, handle: *mut zs_handle_t) -> c_int {
        handle.set(pool.malloc_raw(size)?)
    }

    /// Allocates an object and maps it to read and write, in one: zs_malloc() and zs_map_object() with
    /// nothing in between, so that zs_shrink() can't offer the object to the evict callback before it
    /// is written. Stores the handle in *handle and the address of the object, a multiple of 16, in
    /// *object. Ends with zs_unmap_object().
    ///
    /// Errors:
    /// -EINVAL: pool, handle or object is NULL, or size is 0.
    /// -ENOSPC, -ENOMEM, -EPERM: as zs_malloc().
    ///
    /// Threads: any. Evict callback: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_malloc_mapped(
        pool: *mut zs_pool,
        size: usize,
        handle: *mut zs_handle_t,
        object: *mut *mut c_void,
    ) -> c_int {
        let (new, address) = pool.malloc_mapped_raw(size)?;
        handle.set(new)?;
        object.set(address.cast())
    }

    /// Frees an object. Its handle is stale from now on. An object that is mapped stays readable and
    /// writable where it is until its last zs_unmap_object(), which is still allowed, releases it.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL, or the handle is 0, stale, freed already, or of another pool.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_free(pool: *mut zs_pool, handle: zs_handle_t) -> c_int {
        // SAFETY: C has no `Handle`s.
        unsafe { pool.free_raw(handle) }
    }

    /// Maps an object: stores its address, a multiple of 16, in *object, and keeps it there until
    /// zs_unmap_object() was called as often as this. An object may be mapped by several at once, at
    /// most 4,095 times, in any mixture of modes and for as long as they like; who writes while others
    /// read or write has to agree with them. All of zs_lookup_class_size() bytes may be used.
    ///
    /// mode: ZS_MM_RW, ZS_MM_RO or ZS_MM_WO. Writing to an object that was mapped with ZS_MM_RO may be
    ///     lost.
    ///
    /// Errors:
    /// -EINVAL: pool or object is NULL, there is no such mode, or the handle is 0, stale, freed, or of
    ///     another pool.
    /// -EBUSY: the object is mapped 4,095 times already.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any. ZS_MM_RO never waits; the others wait if zs_compact() is moving this very object,
    /// for that one copy.
    /// Evict callback: allowed. Signal handler: allowed with ZS_MM_RO.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_map_object(
        pool: *mut zs_pool,
        handle: zs_handle_t,
        mode: u32,
        object: *mut *mut c_void,
    ) -> c_int {
        object.set(pool.map_raw(handle, map_mode(mode)?)?.cast())
    }

    /// Ends one mapping of an object; after the last one its address means nothing any more. Any thread
    /// may end it. If the object was freed while it was mapped, the last unmap releases it.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL, or the object is not mapped, or the handle is 0, stale, or of another
    ///     pool.
    /// -EPERM: this process is a forked child that did not get the pool.
    ///
    /// Threads: any; never waits. Evict callback: allowed. Signal handler: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zs_unmap_object(pool: *mut zs_pool, handle: zs_handle_t) -> c_int {
        // SAFETY: C has no guards; that the mapping is the caller's to end is the caller's to know.
        unsafe { pool.unmap_raw(handle) }
    }

    /// Copies the first `size` bytes of an object into buffer.
    ///
    /// Errors:
    /// -EINVAL: pool is NULL, buffer is NULL and size is not 0, size is more than the object has
    ///     (zs_lookup_class_size() of what it was allocated with), or the handle is 0, stale, freed, or
    ///     of another pool. Nothing was copied.
    /// -EBUSY: the object is mapped 4,095 times already.
    /// -EPERM: this process is a forked child that did not get the pool.
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

    /// Copies `size` bytes from buffer into the front of an object; the bytes after them stay. The
    /// buffer may change meanwhile: then what the object gets is some mixture.
    ///
    /// Errors: as zs_obj_read().
    ///
    /// Threads: any; waits if zs_compact() is moving this very object, for that one copy. Evict
    /// callback: allowed.
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

/// What a mode's number means.
#[inline]
fn map_mode(mode: u32) -> Result<MapMode> {
    const NO_SUCH_MODE: Error = Error::Invalid(&"there is no such mapping mode");
    match mode {
        ZS_MM_RW => Ok(MapMode::ReadWrite),
        ZS_MM_RO => Ok(MapMode::Read),
        ZS_MM_WO => Ok(MapMode::Write),
        _ => Err(NO_SUCH_MODE),
    }
}
