//! `zs_last_error`, `zs_last_errno` and `zs_last_limit`: why the last call of a thread that failed did so.

use super::export::export;
use super::failure;
use std::ffi::{c_char, c_int};

export! {
    /// Returns an English sentence that says why the last call that failed in this thread did so: the
    /// function, what was wrong, what to do, and the error number, the system's own where the system
    /// refused. "no call has failed in this thread" before the first one. Never NULL. A call that
    /// succeeds changes nothing: ask after a failure only. A result of a page that
    /// zswap_load_pages() stores in an array is no failure of a call; the call's own result is.
    ///
    /// The string belongs to the thread. It stays as it is until another call fails in this thread, in
    /// its signal handlers too, or the thread ends. Copy it to keep it, and do not free it.
    ///
    /// Threads: any; allocates nothing and never waits. Callbacks: allowed. Signal handler: allowed.
    /// (If the library was loaded by dlopen(), the first call of a thread that fails, or this one, may
    /// allocate the thread's variables inside the C library. Call this function once in each thread
    /// whose handlers call others.)
    #[unsafe(no_mangle)]
    pub extern "C" fn zs_last_error() -> *const c_char {
        failure::text()
    }

    /// Returns the error number of the last call that failed in this thread, negative as functions
    /// return it: for functions that return a pointer, such as zs_map_object(). 0 if no call has failed.
    ///
    /// Threads: any; never waits. Callbacks: allowed. Signal handler: allowed, as zs_last_error().
    #[unsafe(no_mangle)]
    pub extern "C" fn zs_last_errno() -> c_int {
        failure::number()
    }

    /// Returns which limit refused the last call that failed in this thread: one of ZSWAP_LIMIT_*.
    /// ZSWAP_LIMIT_AREA and ZSWAP_LIMIT_ZSWAP: zswap_area_usage() says how many bytes have to go; if it
    /// says 0, another thread has made room, and the call may succeed now. ZSWAP_LIMIT_POOL: the pool has
    /// no room; zswap_area_usage() does not know of that. ZSWAP_LIMIT_NONE: another failure, such as a
    /// system that has no memory; or no call has failed.
    ///
    /// After a function of a pager, ZSWAP_LIMIT_ZSWAP means that compressed pages can't be stored: raise
    /// the limit by zspager_set_pool_limit(), or set a backing file.
    ///
    /// Threads: any; never waits. Callbacks: allowed. Signal handler: allowed, as zs_last_error().
    #[unsafe(no_mangle)]
    pub extern "C" fn zs_last_limit() -> u32 {
        failure::limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::note;
    use std::ffi::CStr;
    use zsalloc::Error;
    use zsalloc::plumbing::sentence;

    fn last() -> String {
        // SAFETY: the string ends with a NUL, and no call fails before it is copied.
        unsafe { CStr::from_ptr(zs_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn each_thread_has_its_own_last_error() {
        std::thread::spawn(|| {
            assert_eq!((last().as_str(), zs_last_errno()), ("no call has failed in this thread", 0));
            note(&"zs_free", Error::Busy(sentence(&"it is in use")));
            assert_eq!((last().as_str(), zs_last_errno()), ("zs_free(): it is in use (errno 16)", -16));
            std::thread::spawn(|| assert_eq!(last(), "no call has failed in this thread")).join().unwrap();
            note(&"zs_malloc", Error::NotFound(sentence(&"gone")));
            assert_eq!(last(), "zs_malloc(): gone (errno 2)");
            assert_eq!(last(), "zs_malloc(): gone (errno 2)");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_character() {
        std::thread::spawn(|| {
            let long: &'static str = String::leak("ü".repeat(1000));
            note(&"zs_free", Error::Busy(sentence(Box::leak(Box::new(long)))));
            let cut = last();
            assert!((510..512).contains(&cut.len()) && cut.ends_with('ü'), "{cut}");
        })
        .join()
        .unwrap();
    }
}
