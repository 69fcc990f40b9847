//! Why the last call of a thread that failed did so.

use crate::limits::{ZSWAP_LIMIT_AREA, ZSWAP_LIMIT_NONE, ZSWAP_LIMIT_POOL, ZSWAP_LIMIT_ZSWAP};
use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};
use std::fmt::{self, Write};
use std::mem::size_of;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    compiler_fence,
};
use zsalloc::plumbing::Described;
use zsalloc::{Error, Limit, Sentence};

/// The name of a C function. A reference to a reference is one word.
pub type Function = &'static &'static str;

/// Notes that a call of this thread to `function` failed. Costs a few stores and one locked instruction, and
/// allocates nothing.
pub fn note(function: Function, error: Error) {
    LAST.with(|last| last.note(function, error));
}

/// Returns the sentence of this thread's last failure.
pub fn text() -> *const c_char {
    LAST.with(LastFailure::text)
}

/// Returns the number of this thread's last failure, negative, or 0.
pub fn number() -> c_int {
    LAST.with(LastFailure::number)
}

/// Returns which limit this thread's last failure met: one of `ZSWAP_LIMIT_*`.
pub fn limit() -> u32 {
    LAST.with(|last| last.limit.get())
}

/// Returns the number that C has for the limit that a call met, or that of none.
fn limit_of(error: Error) -> u32 {
    match error {
        Error::Limit(Limit::Area) => ZSWAP_LIMIT_AREA,
        Error::Limit(Limit::Zswap) => ZSWAP_LIMIT_ZSWAP,
        Error::Limit(Limit::Pool | Limit::Addresses | Limit::Tables) => ZSWAP_LIMIT_POOL,
        _ => ZSWAP_LIMIT_NONE,
    }
}

/// Room for the longest sentence of the crate, the longest name of a function and a number. What is longer is cut.
const ROOM: usize = 512;

thread_local! {
    // All zeros, so that it takes no place in the library's file.
    static LAST: LastFailure = const {
        LastFailure {
            count: AtomicU64::new(0),
            function: OneWord::new(None),
            sentence: OneWord::new(None),
            errno: OneWord::new(0),
            limit: OneWord::new(ZSWAP_LIMIT_NONE),
            written: OneWord::new(0),
            text: UnsafeCell::new([0; ROOM]),
        }
    };
}

/// One word of a thread, which a signal handler of the thread may read and write between any two instructions. Each
/// access is one load or store, which the compiler neither splits nor leaves out.
struct OneWord<T>(UnsafeCell<T>);

impl<T: Copy> OneWord<T> {
    const FITS: () = assert!(size_of::<T>() <= size_of::<usize>());

    const fn new(value: T) -> Self {
        let () = Self::FITS;
        Self(UnsafeCell::new(value))
    }

    fn get(&self) -> T {
        // SAFETY: only this thread and its handlers use the word, and none of them keeps a reference to it.
        unsafe { self.0.get().read_volatile() }
    }

    fn set(&self, value: T) {
        // SAFETY: only this thread and its handlers use the word, and none of them keeps a reference to it.
        unsafe { self.0.get().write_volatile(value) }
    }
}

/// The last failure of a thread. A signal handler of the thread may use it while the thread does. Each word is valid by
/// itself, whatever the others are; `count` tells whether they belong together.
struct LastFailure {
    /// How many failures there were. No other thread uses it: it is atomic so that no handler runs between the
    /// comparison and the store of `note`.
    count: AtomicU64,
    function: OneWord<Option<Function>>,
    sentence: OneWord<Option<Sentence>>,
    errno: OneWord<c_int>,
    limit: OneWord<u32>,
    /// The failure that `text` describes.
    written: OneWord<u64>,
    /// Ends with a NUL, and its last byte is always one.
    text: UnsafeCell<[u8; ROOM]>,
}

impl LastFailure {
    fn note(&self, function: Function, error: Error) {
        let Described { sentence, errno } = error.into();
        let limit = limit_of(error);
        loop {
            let count = self.count();
            self.function.set(Some(function));
            self.sentence.set(Some(sentence));
            self.errno.set(errno);
            self.limit.set(limit);
            // A handler whose own call failed in between may have left a mixture: write all of it again. It may also
            // have asked for its sentence, so this failure must not get a number that the handler's had.
            compiler_fence(SeqCst);
            if self.count.compare_exchange(count, count + 1, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// How many failures there were. The compiler moves no access of a word across this. The processor moves none that
    /// a handler of the same thread could see.
    fn count(&self) -> u64 {
        compiler_fence(SeqCst);
        let count = self.count.load(Relaxed);
        compiler_fence(SeqCst);
        count
    }

    fn number(&self) -> c_int {
        -self.errno.get()
    }

    /// Returns the sentence, which is put together when it is asked for.
    fn text(&self) -> *const c_char {
        let first = self.text.get().cast::<u8>();
        loop {
            let count = self.count();
            if count != 0 && count == self.written.get() {
                return first.cast();
            }
            let mut out = CutText { first, length: 0 };
            // An error says that the sentence was cut.
            let _ = self.describe(&mut out);
            out.end();
            // A call of a handler may have failed in between: write the sentence again.
            if self.count() == count {
                self.written.set(count);
                return first.cast();
            }
        }
    }

    fn describe(&self, out: &mut CutText) -> fmt::Result {
        let (Some(function), Some(sentence)) = (self.function.get(), self.sentence.get()) else {
            return out.write_str("no call has failed in this thread");
        };
        let errno = self.errno.get();
        write!(out, "{function}(): {}", Described { sentence, errno })
    }
}

/// A writer into the text of a thread that cuts at a character boundary. A handler may write to the same text
/// meanwhile, so there are no references to it.
struct CutText {
    first: *mut u8,
    length: usize,
}

impl CutText {
    /// Ends the text with a NUL.
    fn end(&self) {
        // SAFETY: the length is at most `ROOM - 1`.
        unsafe { self.first.add(self.length).write_volatile(0) };
    }
}

impl fmt::Write for CutText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = ROOM - 1 - self.length;
        let fits = (0..=room.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        for &byte in &text.as_bytes()[..fits] {
            // SAFETY: `length` is less than `ROOM - 1`, for `fits` is at most what is left.
            unsafe { self.first.add(self.length).write_volatile(byte) };
            self.length += 1;
        }
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
