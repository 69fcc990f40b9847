//! The allocators that are compared, behind one small interface.

use super::memory;
use std::ffi::{CStr, c_char};
use std::hint::black_box;
use std::ptr;
use zsalloc::plumbing::{MapMode, PoolCalls};
use zsalloc::{CompactBudget, Pool, PoolOptions};

/// An allocator. A token names an object: a handle, or an address.
pub trait Peer: Sync + Sized {
    /// Name in tables.
    const NAME: &'static str;

    /// Creates an allocator to measure. A pool is a new one.
    fn new() -> Self;

    /// Allocates an object and returns its token.
    fn alloc(&self, size: usize) -> usize;

    /// Frees an object.
    fn free(&self, token: usize);

    /// Maps an object. Its address is valid until [`Peer::unmap`].
    fn map(&self, token: usize) -> *mut u8;

    /// Ends the mapping of an object.
    fn unmap(&self, token: usize);

    /// Allocates an object and has `write` fill it.
    fn alloc_with(&self, size: usize, write: impl FnOnce(*mut u8)) -> usize;

    /// Gives free memory back to the system, as far as the allocator can.
    fn give_back(&self);

    /// Returns all bytes of memory that it takes, if it counts them in place of the system: a model, or the kernel.
    fn counted_memory(&self) -> Option<u64> {
        None
    }

    /// Returns the bytes of memory that are not part of the process's resident memory.
    fn memory_elsewhere(&self) -> u64 {
        0
    }

    /// Returns the bytes of tables by the allocator's own count; 0 if it has none.
    fn metadata_bytes(&self) -> u64 {
        0
    }
}

/// Allocates an object and writes its first and its last byte.
#[inline]
pub fn alloc_written<P: Peer>(peer: &P, size: usize) -> usize {
    peer.alloc_with(size, |at| {
        // SAFETY: the object has `size` bytes, at least one, and is the caller's.
        unsafe {
            at.write_volatile(1);
            at.add(size - 1).write_volatile(1);
        }
    })
}

/// A pool of this crate.
pub struct Zsalloc {
    /// The measured pool.
    pub pool: Pool,
    /// Whether its memory is a memory file.
    pub in_file: bool,
}

impl Zsalloc {
    /// Creates a pool with these options.
    pub fn with(options: &PoolOptions) -> Self {
        let pool = Pool::new("benchmark", options).unwrap_or_else(|error| super::give_up(&error.to_string()));
        Self { pool, in_file: false }
    }
}

impl Peer for Zsalloc {
    const NAME: &'static str = "zsalloc";

    fn new() -> Self {
        Self::with(&PoolOptions::default())
    }

    #[inline]
    fn alloc(&self, size: usize) -> usize {
        self.pool.malloc_raw(size).expect("memory") as usize
    }

    #[inline]
    fn free(&self, token: usize) {
        // SAFETY: no `Handle` was made of it.
        unsafe { self.pool.free_raw(token as u64) }.expect("a live handle");
    }

    #[inline]
    fn map(&self, token: usize) -> *mut u8 {
        self.pool.map_raw(token as u64, MapMode::Read).expect("a live handle")
    }

    #[inline]
    fn unmap(&self, token: usize) {
        // SAFETY: mapped by `map`, or by `malloc_mapped_raw` below.
        unsafe { self.pool.unmap_raw(token as u64) }.expect("a mapped handle");
    }

    #[inline]
    fn alloc_with(&self, size: usize, write: impl FnOnce(*mut u8)) -> usize {
        let (handle, at) = self.pool.malloc_mapped_raw(size).expect("memory");
        write(at);
        self.unmap(handle as usize);
        handle as usize
    }

    fn give_back(&self) {
        self.pool.compact(&CompactBudget::default()).expect("this process's pool");
    }

    fn memory_elsewhere(&self) -> u64 {
        if self.in_file { memory::file_bytes(self.pool.fd().expect("a memory file")) } else { 0 }
    }

    fn metadata_bytes(&self) -> u64 {
        self.pool.stats().expect("this process's pool").metadata_pages * 4096
    }
}

#[cfg(zsalloc_peers)]
use tikv_jemalloc_sys as jemalloc;

/// Stands in for jemalloc in a build without it. Never called: [`super::with_peers`] builds one with it.
#[cfg(not(zsalloc_peers))]
mod jemalloc {
    use std::ffi::{c_char, c_int, c_void};

    pub unsafe fn malloc(_: usize) -> *mut c_void {
        unreachable!()
    }

    pub unsafe fn free(_: *mut c_void) {
        unreachable!()
    }

    pub unsafe fn mallctl(_: *const c_char, _: *mut c_void, _: *mut usize, _: *mut c_void, _: usize) -> c_int {
        unreachable!()
    }
}

/// Calls jemalloc's functions directly.
pub struct Jemalloc;

impl Jemalloc {
    /// Returns its version.
    pub fn version() -> String {
        let mut version: *const c_char = ptr::null();
        let mut bytes = size_of_val(&version);
        // SAFETY: this name writes a pointer of this size.
        let result = unsafe {
            jemalloc::mallctl(c"version".as_ptr(), (&raw mut version).cast(), &raw mut bytes, ptr::null_mut(), 0)
        };
        assert_eq!(result, 0, "jemalloc has a version");
        // SAFETY: a constant text of jemalloc's.
        let version = unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned();
        // What follows names a commit.
        version.split('-').next().unwrap_or_default().to_owned()
    }
}

impl Peer for Jemalloc {
    const NAME: &'static str = "jemalloc";

    fn new() -> Self {
        Self
    }

    #[inline]
    fn alloc(&self, size: usize) -> usize {
        // SAFETY: a size that is not 0.
        checked(unsafe { jemalloc::malloc(size) })
    }

    #[inline]
    fn free(&self, token: usize) {
        // SAFETY: what `alloc` returned.
        unsafe { jemalloc::free(token as *mut _) };
    }

    #[inline]
    fn map(&self, token: usize) -> *mut u8 {
        token as *mut u8
    }

    #[inline]
    fn unmap(&self, _: usize) {}

    #[inline]
    fn alloc_with(&self, size: usize, write: impl FnOnce(*mut u8)) -> usize {
        let token = self.alloc(size);
        write(token as *mut u8);
        token
    }

    fn give_back(&self) {
        // 4096 is jemalloc's number for all arenas.
        for command in [c"thread.tcache.flush", c"arena.4096.purge"] {
            // SAFETY: a name of jemalloc's, and a command that reads and writes nothing.
            let result =
                unsafe { jemalloc::mallctl(command.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0) };
            assert_eq!(result, 0, "jemalloc refused {command:?}");
        }
    }
}

/// Calls the malloc of the C library.
pub struct Malloc;

impl Malloc {
    /// Returns the C library's name and version.
    pub fn version() -> String {
        #[cfg(target_env = "gnu")]
        // SAFETY: the function returns a constant text.
        return format!("glibc {}", unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy());
        #[cfg(not(target_env = "gnu"))]
        "the C library's malloc".to_owned()
    }
}

impl Peer for Malloc {
    const NAME: &'static str = "malloc";

    fn new() -> Self {
        Self
    }

    #[inline]
    fn alloc(&self, size: usize) -> usize {
        // Without black_box the compiler could remove the call, because it knows what malloc does.
        // SAFETY: a size that is not 0.
        checked(black_box(unsafe { libc::malloc(size) }))
    }

    #[inline]
    fn free(&self, token: usize) {
        // SAFETY: what `alloc` returned.
        unsafe { libc::free(black_box(token as *mut _)) };
    }

    #[inline]
    fn map(&self, token: usize) -> *mut u8 {
        token as *mut u8
    }

    #[inline]
    fn unmap(&self, _: usize) {}

    #[inline]
    fn alloc_with(&self, size: usize, write: impl FnOnce(*mut u8)) -> usize {
        let token = self.alloc(size);
        write(token as *mut u8);
        token
    }

    fn give_back(&self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: it takes no pointers.
        unsafe {
            libc::malloc_trim(0)
        };
    }
}

#[inline]
fn checked(at: *mut libc::c_void) -> usize {
    assert!(!at.is_null(), "memory");
    at as usize
}
