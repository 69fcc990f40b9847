//! Compressed pages in memory: what the Linux kernel's zsmalloc and zswap are, as a library, in Rust and in C.
//!
//! Three layers. A [`Pool`] holds objects of 1 to [`MAX_ALLOC_SIZE`] bytes in hardly more memory than they have bytes.
//! A [`Zswap`] takes pages, compresses them into a pool, and gives them back; it keeps to limits, and writes back what
//! was not used lately. A `Pager`, with the feature `uffd` on Linux, keeps the memory of a program or a virtual machine
//! to a limit: pages that were not used lately go to a zswap, and come back when they are touched.
//!
//! # The nouns
//!
//! | noun | what it is | where |
//! |---|---|---|
//! | **pager** | regions that share a limit on what is in memory, a zswap, and a staging range | `pager/` |
//! | **region** of a pager | memory that is under it, and a state word for each of its pages | `pager/region.rs` |
//! | **state word** | where a page's bytes are: nowhere, in place, staged, stored, lost; or claimed | `pager/word.rs` |
//! | **staging range** | the inactive list: pages out of their places, not compressed yet | `pager/staging.rs` |
//! | **zswap** | areas that share a pool, a limit, contexts, and a place to write back to | `zswap/` |
//! | **area** | a fixed number of pages under their offsets: a swap device, a guest's memory | `zswap/area.rs` |
//! | **page word** | what is at an offset, and who writes it back: 64 bits, the truth about a page | `zswap/word.rs` |
//! | **entry** | a stored page, one object of the pool: its check, its codec, what that made of it | `zswap/entry.rs` |
//! | **context** | what it takes to compress, for one thread at a time; as many as processors | `zswap/codec.rs` |
//! | **claim** | a writeback of one page that has begun and not ended | `zswap/writeback.rs`, `zswap/claims.rs` |
//! | **pool** | the objects of one user, their limit, their memory | `pool/` |
//! | **object** | 1 to [`MAX_ALLOC_SIZE`] bytes, moved by compaction while nobody has it mapped | |
//! | **handle** | the name of an object: index of its word, generation, tag of its pool; never an address | `word.rs` |
//! | **handle word** | state, pins, generation, place: the truth about an object, in 64 bits | `word.rs`, `object.rs` |
//! | **size class** | objects of about one size; its zspages by fullness, behind one lock | `classes.rs`, `class.rs` |
//! | **zspage** | a run of pages cut into equal slots, at most 64, so that its occupancy is one word | `zspage.rs` |
//! | **chunk** | 2 MiB of the arena: what a huge page backs | `region/arena.rs` |
//! | **region** of a pool | its addresses: tables, then the arena | `region/` |
//!
//! # The picture
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
//!             └───────▲───────┘     └──────────┬──────────┘      one region: super page │ chunk, group,
//!                     └────────────────────────┘                 zspage, handle tables │ arena
//! ```
//!
//! The words are the truth. Bitmaps, lists, counts and free lists are derived from them, and locks guard only those.
//!
//! # The flows of pages
//!
//! - **store**: copy the page into a context; is it one word again and again? Ask the limits, compress, charge the
//!   limits with the slot, malloc, write the entry; publish the page word by a compare-and-swap, and free what it named
//!   before. A store that fails removes what was there.
//! - **load**: read the page word, pin what it names, read the word again: another version, and it starts again. Check
//!   the entry, decode it, unpin. To **take** is to load, and then to empty the word while the object is still pinned.
//! - **invalidate**: empty the words, free what they named. It, a take and a failed store wait for a writeback of
//!   their page that runs.
//! - **shrink**: the clock hand goes over an area's page words; what was used since it last came by gets a second
//!   chance, anything else is decoded, claimed and handed to the callback, or written to the library's own file. Once
//!   that went well the word becomes EMPTY, or names the place on the file, and the object is freed; unless the page
//!   was used or replaced meanwhile.
//!
//! With a pager:
//!
//! - **touch** of a page that is not in its place: by its state word it is moved back from the staging range, or
//!   decoded from zswap and copied in, or zeros; only then does its copy in zswap go. In the thread that touches, by
//!   SIGBUS, or in a thread that the program lent.
//! - **evict**: the clock hand picks pages that were not used lately, and moves them to the staging range; the oldest
//!   there are compressed. Evicted in place, a page is protected, compressed and dropped where it is: so are memory
//!   files, and private memory if the options say so or the system can't move. A page that was only read since it came
//!   may have kept its copy, and is dropped.
//!
//! `pager/mod.rs` shows the path of a page through it. `zswap/mod.rs` shows the path of a page, and which file knows
//! what; `zswap/page.rs` has each step's orderings.
//!
//! # The flows of objects
//!
//! - **malloc**: take the class's lock; a free slot in its fullest zspage, and a free handle index; let go; publish the
//!   word (FREE to LIVE). No zspage has room: a run of pages in the fullest chunk that has one, outside the lock.
//! - **map**: one compare-and-swap adds a pin; zspage and slot give the address. **unmap**: one takes it off; the last
//!   one of an object that was freed meanwhile releases it.
//! - **free**: one compare-and-swap, LIVE to FREE (pinned: to DYING), and the object is gone; then its slot and
//!   index go back to the class, if the lock is free, else to a list that its next holder empties. An empty zspage goes
//!   back to the system.
//! - **compact**: isolate a zspage that pays; for each object a slot elsewhere, LIVE to MOVING, copy, MOVING to LIVE at
//!   the new place; a pin that came in between makes it give up. Empty zspages and trailing pages go back.
//! - **shrink**: look at some zspages, spread over all; of those that were looked at lately, isolate the one that was
//!   longest unused; pin each of its objects and offer it to the callback, with no lock held.
//!
//! # The order of locks
//!
//! The events of a pager; its clock hand; the blocks of its staging range; a fork that is prepared; the one walk over
//! the areas of a zswap, the areas, and an area's part of a walk; a lane, which a batch, or the library's own file, has
//! its pages in; a context; the evict callback of a pool; compaction, which is only ever tried, and waited for before a
//! fork alone; the zspages that a shrink takes next; class, handles, arena; the places on the library's own file;
//! claims; a part of an area's statistics, which is held while a page word changes and is counted. `sync.rs` has them
//! as an enum, from the first to the last that a thread may take, and debug builds check it.
//!
//! No lock is held while a callback runs. Of those of a pool none is held across the copy of an object, and the arena's
//! alone across a return of memory: of the pages of records, and of a whole chunk that a free emptied. Readers, frees
//! and unmaps of objects take no lock that they would wait for. A context is held while a page is compressed, and
//! while Zstandard decodes one, and a lane across all of a batch and the writes to the library's own file.
//!
//! # The modules
//!
//! Each imports only from those above it; a test holds them to it.
//!
//! | module | what it knows |
//! |---|---|
//! | `units` | pages, chunks, and what is counted in them |
//! | `os` | the system: the only module that names `libc` |
//! | `error` | error numbers and sentences |
//! | `sync` | atomics, cells, locks and their ranks, for the product and for loom |
//! | `heap` | memory of the global allocator, whose lack is an error |
//! | `json` | statistics as JSON |
//! | `word` | the bits of handles and handle words |
//! | `classes` | the table of size classes, computed at compile time |
//! | `object` | the protocol of the handle word: every race about an object is decided there |
//! | `zspage` | a zspage's record |
//! | `region` | the memory: layout, limit, chunks, runs, the way to the system and back |
//! | `class` | a size class's lists and free handles |
//! | `pool` | the control flow: malloc, map, free, compact, shrink |
//! | `zswap` | pages: areas, page words, codecs, limits, writeback |
//! | `pager` | memory that keeps to a limit: regions, touches, eviction; with the feature `uffd` |
//! | `capi` | the C functions, and nothing but them |
//!
//! # Errors and threads
//!
//! A process whose threads use a pool or a zswap forks between [`Pool::prepare_fork`] or [`Zswap::prepare_fork`] and
//! the drop of what that returns: then the child may use its copy. Children get no pager, and no pool in a memory file.
//!
//! Every failure is an [`Error`] with an errno and a sentence; no input makes the crate panic. A [`Pool`], a [`Zswap`]
//! and an [`Area`] are `Send + Sync`, and each method says what may be called where.
//!
//! Objects of one pool are not hidden from each other: fresh objects hold what was there before, unless the pool is
//! hardened.

#![deny(unsafe_code)]

#[cfg(not(loom))]
#[allow(unsafe_code)]
mod capi;
#[allow(unsafe_code)]
mod class;
mod classes;
mod error;
// What is called with input that a fuzzer made up: see fuzz/ and .ci/fuzz. The tests replay what was found.
#[cfg(all(any(test, fuzzing), not(loom), feature = "uffd"))]
#[allow(unsafe_code)]
#[doc(hidden)]
pub mod fuzzing;
#[allow(unsafe_code)]
mod heap;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod json;
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
#[allow(unsafe_code)]
mod pool;
#[allow(unsafe_code)]
mod region;
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

pub use classes::MAX_ALLOC_SIZE;
pub use error::{Error, Result};
#[cfg(all(feature = "uffd", not(loom)))]
pub use pager::{
    Duty, FaultMode, Guardian, Guest, GuestCounts, GuestFile, GuestOptions, GuestRange, GuestStats, LATENCY_BUCKETS,
    LatencyHistogram, OnDeath, Pager, PagerCounts, PagerOptions, PagerSnapshot, PagerStats, Protect, RegionId,
    RegionOptions, Served, WatchId,
};
pub use pool::{CompactBudget, Evict, Handle, MapMode, Mapped, MappedMut, NewObject, Pool, PoolStats};
#[cfg(not(loom))]
pub use pool::{
    fork::PoolForking,
    options::{Backing, HugePages, LentMemory, MIN_BYTES, PoolOptions},
};

#[cfg(not(loom))]
pub use units::PAGE as PAGE_SIZE;
pub use word::HANDLE_BITS;
#[cfg(not(loom))]
pub use zswap::{
    Area, AreaOptions, AreaStats, Claim, Codec, Counts, Forking, LoadFlags, MAX_AREA_PAGES, MAX_BATCH, Patience,
    Refusal, Snapshot, Writeback, Zswap, ZswapOptions, ZswapStats,
};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
