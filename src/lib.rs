//! Compressed pages in memory: what the Linux kernel's zsmalloc and zswap are, as a library, in Rust and in C.
//!
//! There are three layers, and each can be used without those above it:
//!
//! - A [`Pool`] holds objects of 1 to [`MAX_ALLOC_SIZE`] bytes in hardly more memory than they have bytes.
//! - A [`Zswap`] takes pages, compresses them into a pool, and gives them back. It keeps to limits, and writes back
//!   pages that were not used lately.
//! - A `Pager`, with the feature `uffd` on Linux, keeps the memory of a program or a virtual machine to a limit. Pages
//!   that were not used lately go to a zswap, and come back when they are touched.
//!
//! This page has the terms and the map of the modules. In the repository, `docs/design.md` follows a page through the
//! layers and says why each layer is as it is. `docs/protocols.md` lists every word of memory that decides a race, and
//! the order of locks. `CONTRIBUTING.md` says how to change the code.
//!
//! # Glossary
//!
//! **Page** means 4096 bytes of the caller's. The memory of a pool is counted in pages of 4096 bytes as well. A *huge
//! page* is the system's, of 2 MiB. **Region** means a region of a pager.
//!
//! | Term | Meaning |
//! |---|---|
//! | **pool** | objects of one user, with their limit and their memory |
//! | **object** | 1 to [`MAX_ALLOC_SIZE`] bytes in a pool, which compaction may move while nobody has them mapped |
//! | **handle** | names an object by a number: an index, a generation, and the tag of its pool; never an address |
//! | **generation** | a count of how often an index or a place was used, so that a stale name is refused |
//! | **handle word** | 64 bits for each object, the truth about it: state, pins, generation, place |
//! | **pin** | keeps an object in its place; every mapping is one |
//! | **size class** | all objects of about one size, with one lock |
//! | **zspage** | a run of pages of one size class, cut into at most 64 equal slots |
//! | **slot** | the part of a zspage that holds one object |
//! | **chunk** | 2 MiB of a pool's addresses, which one huge page can back; zspages lie in chunks |
//! | **zswap** | areas that share a pool, limits, and a place to write pages back to |
//! | **area** | a fixed number of pages under their offsets, such as a swap device or a guest's memory |
//! | **page word** | 64 bits for each offset of an area, the truth about its page: where it is, and its claim |
//! | **entry** | a stored page as an object of the pool: a header with a check, then what the codec made of the page |
//! | **writeback** | moves a page from the pool to a callback or a file, to make room; *claimed* while it runs |
//! | **pager** | regions that share a limit on what is in memory, a zswap, and a staging range |
//! | **region** | memory of the program that is under a pager |
//! | **extent** | a range of addresses that belongs to a region |
//! | **state word** | 32 bits per page of a region, the truth about it: empty, resident, staged, stored, poisoned |
//! | **staging range** | pages moved out of their regions, which wait, uncompressed, to be touched or compressed |
//!
//! # From an offset to bytes
//!
//! ```text
//!  area: page words
//!  ┌───────┬───────┬───────┐
//!  │ EMPTY │FILLED │STORED │          an offset is the index of its page word
//!  └───────┴───────┴───┬───┘
//!     ┌────────────────┘
//!     ▼
//!  handle ──► handle table          zspage table                 arena (chunks of 2 MiB)
//!  index,     ┌───────────────┐     ┌─────────────────────┐      ┌──────────────────────────────┐
//!  generation,│ LIVE pins 0   │     │ class, first page   │─────►│ slot 0 │ slot 1 │ slot 2 │ ... │
//!  tag        │ gen 7         │────►│ taken slots (u64)   │      └──────────────────────────────┘
//!             │ zspage, slot  │     │ slot ► handle index │
//!             └───────▲───────┘     └──────────┬──────────┘
//!                     └────────────────────────┘
//! ```
//!
//! The words are the truth. Bitmaps, lists, counts and free lists are derived from them, and locks guard only those.
//!
//! # The modules
//!
//! Each module imports only from those above it in this table. `tests/tidy.rs` checks that.
//!
//! | module | what it knows |
//! |---|---|
//! | `units` | pages, chunks, and what is counted in them |
//! | `os` | the system: the only module that names `libc` |
//! | `error` | error numbers and sentences |
//! | `sync` | atomics, cells, locks and their ranks, for the product and for loom |
//! | `heap` | memory of the global allocator, whose lack is an error |
//! | `per_processor` | values for each processor, of which a thread takes its own, or any, or waits |
//! | `bitmap` | bits, in words of their own or in words that threads share |
//! | `buckets` | records in doubly linked lists, and which lists have any |
//! | `field` | the fields of packed words |
//! | `json` | statistics as JSON |
//! | `latency` | how long touches took, as a histogram; with the feature `uffd` |
//! | `crc` | CRC-32C, the check of a stored page |
//! | `word` | the bits of handles and handle words |
//! | `geometry` | the slots and pages of each size class, computed at compile time |
//! | `object` | the protocol of the handle word: every race about an object is decided there |
//! | `zspage` | a zspage's record |
//! | `memory` | the memory of a pool: layout, limit, chunks, runs, the way to the system and back |
//! | `size_class` | a size class's lists and free handles |
//! | `pool` | the control flow: malloc, map, free, compact, shrink |
//! | `zswap` | pages: areas, page words, codecs, limits, writeback |
//! | `guest` | memory of another process, from a snapshot in an area, and its guardian; with the feature `uffd` |
//! | `pager` | memory that keeps to a limit: regions, touches, eviction; with the feature `uffd` |
//!
//! `c-library/` is a package of its own: the C functions, each of a few lines over the public calls of this crate.
//!
//! # Errors and threads
//!
//! Every failure is an [`Error`] with an error number and a sentence. No input makes the crate panic. A [`Pool`], a
//! [`Zswap`] and an [`Area`] are `Send + Sync`, and each method says where it may be called.
//!
//! A process whose threads use a pool or a zswap forks between [`Pool::prepare_fork`] or [`Zswap::prepare_fork`] and
//! the drop of what that returns. Then the child may use its copy. Children get no pager, and no pool in a memory file.
//!
//! Objects of one pool are not hidden from each other: a fresh object holds what was there before, unless the pool is
//! hardened.

#![deny(unsafe_code)]
// The models use a part of the crate.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod bitmap;
mod buckets;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod crc;
mod error;
mod field;
// What is called with input that a fuzzer made up: see fuzz/ and .ci/fuzz. The tests replay what was found.
#[cfg(all(any(test, fuzzing), not(loom), feature = "uffd"))]
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod fuzzing;
mod geometry;
#[cfg(all(feature = "uffd", not(loom)))]
#[allow(unsafe_code)]
mod guest;
#[allow(unsafe_code)]
mod heap;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod json;
#[cfg(all(feature = "uffd", not(loom)))]
mod latency;
#[allow(unsafe_code)]
mod memory;
#[cfg(all(test, loom))]
#[allow(unsafe_code)]
mod models;
#[allow(unsafe_code)]
mod object;
#[allow(unsafe_code)]
mod os;
// Under loom it is its protocols alone, for the models.
#[cfg(any(feature = "uffd", loom))]
#[allow(unsafe_code)]
mod pager;
mod per_processor;
#[allow(unsafe_code)]
mod pool;
#[allow(unsafe_code)]
mod size_class;
#[allow(unsafe_code)]
mod sync;
#[cfg(all(test, not(loom)))]
#[allow(unsafe_code)]
mod tests;
mod units;
mod word;
#[allow(unsafe_code)]
mod zspage;
#[allow(unsafe_code)]
mod zswap;

pub use error::{Error, Limit, Result, Sentence};
pub use geometry::MAX_ALLOC_SIZE;
#[cfg(all(feature = "uffd", not(loom)))]
pub use guest::{
    Guardian, Guest, GuestCounts, GuestFile, GuestOptions, GuestRange, GuestStats, OnDeath, Protect, Served, WatchId,
};
#[cfg(all(feature = "uffd", not(loom)))]
pub use latency::{LATENCY_BUCKETS, LatencyHistogram};
#[cfg(all(feature = "uffd", not(loom)))]
pub use pager::{
    Duty, Eviction, FaultMode, HeldBytes, HeldBytesMut, HeldRange, Lent, LentWork, PagedMemory, Pager, PagerCounts,
    PagerOptions, PagerSnapshot, PagerStats, PagerTuning, Region, RegionOptions,
};
pub use pool::{CompactBudget, Evict, Handle, MapMode, Mapped, MappedMut, NewObject, Pool, PoolStats};
#[cfg(not(loom))]
pub use pool::{
    fork::PoolForking,
    options::{Backing, HugePages, LentMemory, MIN_BYTES, PoolOptions, PoolTuning},
};

#[cfg(not(loom))]
pub use units::PAGE as PAGE_SIZE;
pub use word::HANDLE_BITS;
#[cfg(not(loom))]
pub use zswap::{
    Area, AreaOptions, AreaStats, Claim, Codec, Counts, Forking, LoadFlags, MAX_AREA_PAGES, MAX_BATCH, MAX_CLAIMS,
    MAX_CONTEXTS, Patience, Refusal, Snapshot, StoredOffsets, Usage, Zswap, ZswapOptions, ZswapStats, ZswapTuning,
};

/// What the C library of this repository needs beside the public interface. It may change in every version.
#[cfg(not(loom))]
#[doc(hidden)]
pub mod plumbing {
    /// Makes a sentence of an error from a constant text.
    pub use crate::error::sentence;
    /// A box whose lack of memory is an error, for what C holds pointers to.
    pub use crate::heap::boxed;
    /// A thread that `pthread_cancel` ends is a notion of C programs. The C functions hold it off also while they drop
    /// what they were passed.
    pub use crate::os::Uncancelled;
    /// Regions by number, holds as pairs of calls, and threads that are lent by a call.
    #[cfg(feature = "uffd")]
    pub use crate::pager::for_c::{PagerForC, RegionId};
    /// A callback without the `Arc` that a closure is in, for making one aborts without memory.
    pub use crate::pool::ForeignEvict;
    pub use crate::zswap::plumbing as zswap;
}

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
