//! Keeps memory compressed: what zsmalloc and zswap do for the Linux kernel, this crate does for a program.
//!
//! There are three layers. Each can be used without those that follow it here:
//!
//! - A [`Pool`] holds objects of 1 to 4112 bytes, and moves them together so that freed memory goes back to the system.
//!   An object of 500 bytes or more takes at most 6 % more memory than its size. [`Pool::malloc`] says what a smaller
//!   one takes.
//! - A [`Zswap`] takes pages of 4096 bytes, compresses them into a pool, and gives them back. It keeps to limits, and
//!   writes back pages that were not used lately.
//! - A `Pager`, with the feature `uffd`, keeps memory that a program uses by address to a limit. Pages that were not
//!   used lately are compressed, and come back when they are touched.
//!
//! # Which layer
//!
//! | You have | Take |
//! |---|---|
//! | memory that is used by address: an array, a guest's memory | a `Pager` and its `map` |
//! | pages with numbers: a swap device, a cache of pages | a [`Zswap`] and an [`Area`] |
//! | small values that you compress yourself, such as those of a cache | a [`Pool`] |
//! | a virtual machine in another process, to restore from a snapshot | a `Guest` over an [`Area`] |
//!
//! # A cache over a pool
//!
//! ```
//! use std::collections::{HashMap, hash_map::Entry};
//! use std::sync::{Arc, Mutex};
//! use zsalloc::{Error, Handle, Pool, PoolOptions, PoolTuning, Verdict};
//!
//! # fn main() -> zsalloc::Result<()> {
//! // At most 4 MiB. Each object has a tag of 8 bytes: here its key.
//! let tuning = PoolTuning { tags: true, ..PoolTuning::default() };
//! let pool = Pool::new("cache", &PoolOptions { max_bytes: Some(4 << 20), tuning, ..PoolOptions::default() })?;
//! let index = Arc::new(Mutex::new(HashMap::<u64, Handle>::new()));
//! // `shrink` offers the values that were not used lately.
//! let shared = Arc::clone(&index);
//! pool.set_evict(move |victim| match shared.lock().unwrap().entry(victim.tag()) {
//!     Entry::Occupied(found) if victim.is(found.get()) => Verdict::Free(found.remove()),
//!     _ => Verdict::Gone,
//! })?;
//!
//! let allocate = |bytes: usize, key: u64| {
//!     for _ in 0..100 {
//!         match pool.malloc_tagged(bytes, key) {
//!             Err(Error::Limit(_)) => match pool.shrink(16) {
//!                 // No object can leave the pool at this moment. Other threads may free some.
//!                 Err(Error::Again(_) | Error::NotFound(_)) => std::thread::yield_now(),
//!                 shrunk => drop(shrunk?),
//!             },
//!             allocated => return allocated,
//!         }
//!     }
//!     pool.malloc_tagged(bytes, key)
//! };
//! let put = |key: u64, value: &[u8]| {
//!     // This may call `shrink`, whose callback locks the index. So the index is not locked here.
//!     let mut object = allocate(value.len(), key)?;
//!     object.copy_from_slice(value);
//!     // The pool may offer the object to the callback as soon as `finish` returns. The callback then waits for this
//!     // lock, and finds the object in the index.
//!     let mut entries = index.lock().unwrap();
//!     let old = entries.insert(key, object.finish());
//!     drop(entries);
//!     old.map_or(Ok(()), |old| pool.free(old))
//! };
//! let get = |key: u64| index.lock().unwrap().get(&key).map(|handle| pool.map(handle).map(|value| value.to_vec()));
//!
//! for key in 0..10_000 {
//!     put(key, &[key as u8; 1000])?;
//! }
//! assert_eq!(get(9_999), Some(Ok(vec![15; 1000])));
//! assert!(index.lock().unwrap().len() < 5_000);
//! # // Threads that put at once.
//! # std::thread::scope(|threads| {
//! #     let put_all = |first| (first..40_000).step_by(4).try_for_each(|key| put(key, &[key as u8; 1000]));
//! #     let all: Vec<_> = (0..4).map(|first| threads.spawn(move || put_all(first))).collect();
//! #     all.into_iter().try_for_each(|thread| thread.join().unwrap())
//! # })?;
//! # Ok(())
//! # }
//! ```
//!
//! A pool does not compress: put compressed bytes in. [`Pool::set_evict`] has the rules for such an index, and
//! `examples/compressed_cache.rs` in the repository is a whole cache, made to be copied.
//!
//! # Pages in and pages out
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::{Arc, Mutex};
//! use zsalloc::{AreaOptions, Error, LoadFlags, PAGE_SIZE, Zswap, ZswapOptions};
//!
//! # fn main() -> zsalloc::Result<()> {
//! // At most 64 MiB of compressed pages.
//! let zswap = Zswap::new("example", &ZswapOptions { max_bytes: Some(64 << 20), ..ZswapOptions::default() })?;
//! // Pages that were not used lately are written to a disk. In this example it is a map.
//! let disk = Arc::new(Mutex::new(HashMap::new()));
//! let written = disk.clone();
//! zswap.set_writeback(move |area, offset, page| {
//!     written.lock().unwrap().insert((area.id(), offset), *page);
//!     Ok(())
//! })?;
//! // An area for 4 GiB of pages. It takes memory only as pages are stored.
//! let area = zswap.add_area(1 << 20, &AreaOptions::default())?;
//!
//! let mut page = [0; PAGE_SIZE];
//! page[..5].copy_from_slice(b"hello");
//! let store = |offset: u64, page: &[u8; PAGE_SIZE]| {
//!     for _ in 0..100 {
//!         match area.store(offset, page) {
//!             // Writes 64 pages back, and then there is room for others.
//!             Err(Error::Limit(_)) => match zswap.shrink(64) {
//!                 // No page can be written back at this moment. Other threads may write some back.
//!                 Err(Error::Again(_) | Error::NotFound(_)) => std::thread::yield_now(),
//!                 shrunk => drop(shrunk?),
//!             },
//!             stored => return stored,
//!         }
//!     }
//!     area.store(offset, page)
//! };
//! store(42, &page)?;
//! zswap.shrink(1)?; // The page goes to the disk.
//! match area.load(42, &mut page, LoadFlags::KEEP) {
//!     Ok(()) => {}
//!     Err(Error::NotFound(_)) => page = disk.lock().unwrap()[&(area.id(), 42)],
//!     Err(error) => return Err(error),
//! }
//! assert_eq!(&page[..5], b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! After a store that failed, or a load that took the page out, the copy on the disk is stale: see [`Area::store`].
//!
//! # Memory that keeps to a limit
//!
//! This takes the feature `uffd`.
//!
//! ```
//! # #[cfg(feature = "uffd")]
//! # mod with_pager {
//! use zsalloc::{Duty, Pager, PagerOptions};
//!
//! # pub
//! fn sum_of_squares() -> zsalloc::Result<u64> {
//!     // At most 1 MiB of uncompressed pages. The compressed ones come on top: see `pool_bytes`.
//!     let pager = Pager::new("example", &PagerOptions { resident_bytes: Some(1 << 20), ..PagerOptions::default() })?;
//!     // A thread of the pager that compresses pages before a touch has to. It ends when this is dropped.
//!     let _lent = pager.lend(Duty::All)?;
//!     // 16 MiB of zeros, which deref to a slice of bytes.
//!     let mut memory = pager.map(16 << 20)?;
//!     for (number, bytes) in memory.chunks_exact_mut(8).enumerate() {
//!         bytes.copy_from_slice(&(number as u64).pow(2).to_ne_bytes());
//!     }
//!     Ok(memory.chunks_exact(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap())).sum())
//! }
//! # }
//! # #[cfg(not(feature = "uffd"))]
//! # fn main() {}
//! # #[cfg(feature = "uffd")]
//! # fn main() {
//! #     let may_lack_it = std::env::var_os("ZSALLOC_NO_SKIPS").is_none();
//! #     match with_pager::sum_of_squares() {
//! #         // EPERM or ENOSYS: this process may not use userfaultfd.
//! #         Err(zsalloc::Error::System { errno: 1 | 38, .. }) if may_lack_it => {}
//! #         sum => assert_eq!(sum, Ok((0..2_u64 << 20).map(|number| number * number).sum())),
//! #     }
//! # }
//! ```
//!
//! # Terms
//!
//! | Term | Meaning |
//! |---|---|
//! | **page** | 4096 bytes; the memory of a pool is counted in them too |
//! | **object** | 1 to 4112 bytes in a pool. Compaction may move it while it is not mapped |
//! | **handle** | the name of an object: [`Handle`], or its number. Never an address. A stale one is refused |
//! | **mapped** | an object is mapped while its bytes are borrowed, and stays where it is: keep that short |
//! | **compaction** | moves objects together, and gives the memory that becomes free back to the system |
//! | **zswap** | areas that share a pool, a limit, and a place to write pages back to |
//! | **area** | a fixed number of pages under their offsets, such as a swap device or a guest's memory |
//! | **offset** | the number of a page in an area, counted in pages |
//! | **writeback** | writes a page to a callback, a [`Claim`]'s owner or a tier, and removes it from the pool |
//! | **tier** | where pages go that leave the pool compressed: a file, or a [`Tier`] of the program's own |
//! | **shrink** | writes pages back, or evicts objects, that were not used lately, to make room |
//! | **region** | memory that is under a pager |
//! | **resident** | in memory, uncompressed |
//! | **held** | a page of a region is held while it has to stay resident, as during a system call |
//! | **lent** | a thread is lent to a pager while it works for it |
//!
//! # Errors and threads
//!
//! Every failure is an [`Error`]: a variant to match on, and a sentence for people that says what to do. No input makes
//! the crate panic. A [`Pool`], a [`Zswap`], an [`Area`] and a `Pager` are `Send` and `Sync`; an [`Area`] is a handle
//! to clone, and the others are shared in an [`Arc`](std::sync::Arc) or by reference. The crate starts no thread but by
//! `Pager::lend`, and decides nothing alone: the program says when to shrink and when to compact.
//!
//! Objects of one pool are not hidden from each other: a fresh object holds what was there before, unless the pool is
//! hardened.
//!
//! # Forks
//!
//! To fork a process whose threads use a pool or a zswap, call [`Pool::prepare_fork`] or [`Zswap::prepare_fork`], fork,
//! and drop what the call returned, in the parent and in the child. Then the child may use its copy. A child can't use
//! the parent's pagers, nor its pools in memory files: each such call fails with [`Error::Forked`].
//!
//! # Features
//!
//! | Feature | By default | What it adds |
//! |---|---|---|
//! | `uffd` | no | `Pager`, `Guest` and `Guardian`. They need Linux 5.11 or later |
//! | `zstd` | yes | the codec `Codec::Zstd` |
//! | `lz4-c` | yes | the C decoder of LZ4, which is faster than the one in Rust. Both read the same pages |
//! | `json` | yes | statistics as JSON, and serde's `Serialize` for their structs |
//!
//! The system is Linux with pages of 4 KiB. The repository has a library for C programs over this crate, and documents:
//!
//! - `docs/guarantees.md` says what each layer promises, and what your program has to do in return.
//! - `docs/benchmarks.md` has the commands that measure, and what they printed.
//! - `docs/tour.md` is for those who change the code: it has the terms and the modules.

#![deny(unsafe_code, missing_debug_implementations)]
// The tests that use all of the crate need all of its features.
#![cfg_attr(all(test, not(all(feature = "zstd", feature = "json"))), allow(dead_code))]
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
#[cfg(all(any(test, fuzzing), not(loom), feature = "uffd", feature = "zstd"))]
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod fuzzing;
mod geometry;
#[cfg(all(feature = "uffd", not(loom)))]
#[allow(unsafe_code)]
mod guest;
#[allow(unsafe_code)]
mod heap;
#[cfg(all(not(loom), feature = "json"))]
#[allow(unsafe_code)]
mod json;
#[cfg(not(loom))]
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
#[cfg(any(feature = "uffd", loom))]
mod parking;
mod per_processor;
#[allow(unsafe_code)]
mod pool;
#[cfg(all(feature = "uffd", not(loom)))]
mod readahead;
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
#[cfg(not(loom))]
pub use latency::{LATENCY_BUCKETS, LatencyHistogram};
#[cfg(all(feature = "uffd", not(loom)))]
pub use pager::{
    Duty, Eviction, EvictionInUse, FaultMode, HeldBytes, HeldBytesMut, HeldRange, Lent, LentWork, PagedMemory, Pager,
    PagerCounts, PagerOptions, PagerSnapshot, PagerStats, PagerTuning, Region, RegionOptions,
};
pub use pool::{
    CompactBudget, Handle, MAX_TAGGED_SIZE, Mapped, MappedMut, NewObject, Pool, PoolStats, Verdict, Victim,
};
#[cfg(not(loom))]
pub use pool::{
    fork::PoolForking,
    options::{Backing, HugePages, LentMemory, MIN_BYTES, PoolOptions, PoolTuning},
};

#[cfg(test)]
use pool::MapMode;
#[cfg(not(loom))]
pub use units::PAGE as PAGE_SIZE;
#[cfg(not(loom))]
pub use zswap::{
    Area, AreaOptions, AreaSnapshot, AreaStats, Claim, Codec, Counts, ExtentId, Forking, LoadFlags, MAX_AREA_PAGES,
    MAX_BATCH, MAX_CLAIMS, MAX_CONTEXTS, MAX_TIERS, Patience, Refusal, ShrinkDone, ShrinkOptions, Snapshot,
    StoredOffsets, Tier, TierFailure, TierOptions, TierResult, TierSnapshot, TierStats, Usage, Zswap, ZswapOptions,
    ZswapStats, ZswapTuning,
};

/// What the C library of this repository needs beside the public interface. It may change in every version.
#[cfg(not(loom))]
#[doc(hidden)]
pub mod plumbing {
    /// An error in two words, each of which is valid without the other: a signal handler may come between them.
    pub use crate::error::Described;
    /// Makes a sentence of an error from a constant text.
    pub use crate::error::sentence;
    /// A box whose lack of memory is an error, for what C holds pointers to.
    pub use crate::heap::boxed;
    /// A copy of a text. The lack of memory for it is an error.
    pub use crate::heap::text;
    /// A thread that `pthread_cancel` ends is a notion of C programs. The C functions hold it off also while they drop
    /// what they were passed.
    pub use crate::os::Uncancelled;
    /// Regions by number, holds as pairs of calls, and threads that are lent by a call.
    #[cfg(feature = "uffd")]
    pub use crate::pager::for_c::{PagerForC, RegionId};
    /// An evict callback that is no closure, so that setting it allocates nothing.
    pub use crate::pool::ForeignEvict;
    /// Objects by numbers, mappings without guards, and what C has no type for.
    pub use crate::pool::{MapMode, plumbing::PoolCalls};
    pub use crate::zswap::plumbing as zswap;
}

/// The example of the README is a test. It is of the pager.
#[cfg(all(doctest, feature = "uffd"))]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// The Rust programs of the document are tests. One is of the pager.
#[cfg(all(doctest, feature = "uffd"))]
#[doc = include_str!("../docs/first-programs.md")]
pub struct FirstPrograms;
