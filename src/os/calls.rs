//! The kinds of calls to the system that can be refused.

/// The kinds of calls that tests can make fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
// Only the pager makes the calls at the end.
#[cfg_attr(not(feature = "uffd"), allow(dead_code))]
pub enum Call {
    /// Reserves or maps addresses.
    Map,
    /// Makes reserved addresses usable.
    Commit,
    /// Gives advice that changes nothing but speed or privacy.
    Advise,
    /// Gives memory back.
    Release,
    /// Creates a memory file, or sets its length.
    MemoryFile,
    /// Allocates memory for a part of a file.
    Allocate,
    /// Makes a page that forked children find wiped.
    ForkGuard,
    /// Reads a file of the caller's.
    Read,
    /// Writes a file of the caller's.
    Write,
    /// Makes a userfaultfd, or agrees with the system on its features.
    Userfault,
    /// Registers a range with a userfaultfd.
    Register,
    /// Unregisters a range.
    Unregister,
    /// Copies pages to where they are missing.
    CopyIn,
    /// Puts zeros where a page is missing.
    ZeroIn,
    /// Moves pages to where they are missing.
    Move,
    /// Protects pages from writes, or lifts the protection.
    Protect,
    /// Makes a page fail when it is touched.
    Poison,
    /// Maps pages that a memory file has.
    Continue,
    /// Wakes the threads that wait for a range.
    Wake,
    /// Makes a hole in a memory file.
    Punch,
    /// Reads the events of a userfaultfd.
    Events,
    /// Reads events by a call that does not wait, whatever the flags of the descriptor say.
    EventsAtOnce,
    /// Starts a thread.
    Thread,
}

/// How many kinds of [`Call`] there are.
#[cfg(any(test, fuzzing))]
pub const CALL_KINDS: usize = 23;
