//! The C library of this repository, built for this benchmark and loaded as any program may load it.

use super::give_up;
use super::peers::Peer;
use libc::{c_char, c_int, c_void};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::ptr;

/// Builds the library with the profile of this benchmark, and returns its path.
fn build() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_else(|error| give_up(&error.to_string()));
    let profile = program.ancestors().nth(2).unwrap_or_else(|| give_up("a benchmark lies in the folder of a profile"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/c-library/Cargo.toml")]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap_or(profile));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    match cargo.status() {
        Ok(status) if status.success() => profile.join("libzsalloc.so"),
        _ => give_up("The C library can't be built: run cargo build --release to see why."),
    }
}

/// The path of the library: what follows `--library` on the command line, or one that is built now.
pub fn path() -> PathBuf {
    super::option("--library").map_or_else(build, PathBuf::from)
}

/// The library, loaded.
pub struct Loaded(*mut c_void);

impl Loaded {
    /// Loads the library that [`path`] names.
    pub fn new() -> Self {
        let path = path();
        let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_else(|error| give_up(&error.to_string()));
        // SAFETY: a string that ends with a NUL; the library's constructors are its own.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            give_up(&format!("{} can't be loaded.", path.display()));
        }
        Self(library)
    }

    /// The address of a function.
    ///
    /// # Safety
    /// `F` is the type of a pointer to the function of that name.
    pub unsafe fn function<F: Copy>(&self, name: &CStr) -> F {
        // SAFETY: the library is never unloaded, and the name ends with a NUL.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if address.is_null() {
            give_up(&format!("The C library has no {name:?}."));
        }
        assert_eq!(size_of::<F>(), size_of_val(&address), "a pointer to a function");
        // SAFETY: of one size, as just seen, and of that type, as the caller says.
        unsafe { ptr::from_ref(&address).cast::<F>().read() }
    }
}

type Malloc = unsafe extern "C" fn(*mut c_void, usize, *mut u64) -> c_int;
type MallocMapped = unsafe extern "C" fn(*mut c_void, usize, *mut u64) -> *mut c_void;
type OfHandle = unsafe extern "C" fn(*mut c_void, u64) -> c_int;
type Map = unsafe extern "C" fn(*mut c_void, u64, u32) -> *mut c_void;
type CreatePool = unsafe extern "C" fn(*const c_char, *const c_void, *mut *mut c_void) -> c_int;
type Compact = unsafe extern "C" fn(*mut c_void, *const c_void, *mut u64) -> c_int;

/// `ZS_MM_RO` of the header.
const READ: u32 = 1;

/// A pool of the C library, with default options.
pub struct CLibrary {
    pool: *mut c_void,
    malloc: Malloc,
    malloc_mapped: MallocMapped,
    free: OfHandle,
    map: Map,
    unmap: OfHandle,
    compact: Compact,
}

// SAFETY: the header says that every one of these functions may be called by any thread.
unsafe impl Sync for CLibrary {}

/// Panics if a call failed.
#[inline]
pub fn succeeded(result: c_int) {
    assert_eq!(result, 0, "a call of the C library failed");
}

impl Peer for CLibrary {
    const NAME: &'static str = "zsalloc from C";

    fn new() -> Self {
        let library = Loaded::new();
        let mut pool = ptr::null_mut();
        // SAFETY: the types are those of include/zsalloc.h, and NULL options are the defaults.
        unsafe {
            let create: CreatePool = library.function(c"zs_create_pool");
            succeeded(create(c"benchmark".as_ptr(), ptr::null(), &mut pool));
            Self {
                pool,
                malloc: library.function(c"zs_malloc"),
                malloc_mapped: library.function(c"zs_malloc_mapped"),
                free: library.function(c"zs_free"),
                map: library.function(c"zs_map_object"),
                unmap: library.function(c"zs_unmap_object"),
                compact: library.function(c"zs_compact"),
            }
        }
    }

    #[inline]
    fn alloc(&self, size: usize) -> usize {
        let mut handle = 0;
        // SAFETY: a pool that is never destroyed, and a place for the handle.
        succeeded(unsafe { (self.malloc)(self.pool, size, &mut handle) });
        handle as usize
    }

    #[inline]
    fn free(&self, token: usize) {
        // SAFETY: as in `alloc`.
        succeeded(unsafe { (self.free)(self.pool, token as u64) });
    }

    #[inline]
    fn map(&self, token: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let object = unsafe { (self.map)(self.pool, token as u64, READ) };
        assert!(!object.is_null(), "a call of the C library failed");
        object.cast()
    }

    #[inline]
    fn unmap(&self, token: usize) {
        // SAFETY: as in `alloc`; the caller mapped it.
        succeeded(unsafe { (self.unmap)(self.pool, token as u64) });
    }

    #[inline]
    fn alloc_with(&self, size: usize, write: impl FnOnce(*mut u8)) -> usize {
        let mut handle = 0;
        // SAFETY: as in `alloc`.
        let object = unsafe { (self.malloc_mapped)(self.pool, size, &mut handle) };
        assert!(!object.is_null(), "a call of the C library failed");
        write(object.cast());
        self.unmap(handle as usize);
        handle as usize
    }

    fn give_back(&self) {
        let mut pages = 0;
        // SAFETY: as in `alloc`, with a place for the count; a budget that is NULL is no bound.
        succeeded(unsafe { (self.compact)(self.pool, ptr::null(), &mut pages) });
    }
}
