//! The pager: memory that outgrows its limit, through userfaultfd, over zswap's public interface.
//!
//! # The path of a page
//!
//! ```text
//!               touch: zeros                       hand: UFFDIO_MOVE                 oldest: compress
//!  EMPTY ─────────────────────────► RESIDENT ─────────────────────► STAGED ─────────────────────► STORED
//!    ▲                               ▲  ▲  ▲                           │                             │
//!    │ discard, from everywhere      │  │  └───── touch: UFFDIO_MOVE ──┘                             │
//!                                    │  └──────── touch: decode, UFFDIO_COPY, then remove from zswap ┘
//! ```
//!
//! Each arrow is a claim of the page's state word: BUSY meanwhile, and as before if anything fails.
//!
//! In place, and for memory files, RESIDENT becomes STORED with no stop between: protect, copy, compress, drop. A page
//! whose copy in zswap is clean is dropped without being compressed, and a load may keep that copy. A STORED page whose
//! copy turns out to be damaged becomes POISONED: only a discard, or the end of the region, makes it another.
//!
//! | file | what it knows |
//! |---|---|
//! | `word` | the bits of a state word |
//! | `page` | the protocol of the state word: claims |
//! | `region`, `regions` | a region and its words; adding and removing them |
//! | `place`, `users` | where a region is found; who is there, for who takes it away and has to wait until they left |
//! | `check` | whether memory is of a kind that can be a region |
//! | `hold`, `discard` | parts that stay in their places; parts that are given back |
//! | `extents` | which addresses are whose |
//! | `fault` | serving a touch |
//! | `evict`, `picks`, `staging` | the clock hand, what it picked, the staging range, compressing |
//! | `copy_out` | eviction in place, and where pages can't be moved |
//! | `file_pages` | how a page leaves a memory file, and how one that is in the file gets mapped |
//! | `immovable` | pages that could not leave, and when they are tried again |
//! | `copies` | copies that zswap has of pages that are in memory |
//! | `events`, `gate` | what owners do with their memory; nobody moves pages meanwhile |
//! | `work`, `large_events` | the pages of large events, which are seen to in parts |
//! | `run`, `registry`, `removed` | lent threads; the handler of SIGBUS, and touches that come too late for it |
//! | `core`, `counts`, `clock` | the parts, the account of resident pages, statistics, the time |
//! | `scratch`, `lots` | pages to decode to; which thread has which |
//! | `forked` | what a forked child has of a pager |
//! | `create`, `snapshot`, `options` | the public calls; statistics with those of its zswap; how it is to be |

// The protocols: loom's models run on them as well.
pub(crate) mod extents;
pub(crate) mod gate;
pub(crate) mod lots;
pub(crate) mod page;
pub(crate) mod place;
pub(crate) mod users;
pub(crate) mod word;

#[cfg(not(loom))]
mod check;
#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod copies;
#[cfg(not(loom))]
mod copy_out;
#[cfg(not(loom))]
pub(crate) mod core;
#[cfg(not(loom))]
mod counts;
#[cfg(not(loom))]
mod create;
#[cfg(not(loom))]
mod discard;
#[cfg(not(loom))]
pub(crate) mod events;
#[cfg(not(loom))]
pub(crate) mod evict;
#[cfg(not(loom))]
pub(crate) mod fault;
#[cfg(not(loom))]
mod file_pages;
#[cfg(not(loom))]
mod forked;
#[cfg(not(loom))]
pub(crate) mod hold;
#[cfg(not(loom))]
mod immovable;
#[cfg(not(loom))]
mod large_events;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod picks;
#[cfg(not(loom))]
pub(crate) mod region;
#[cfg(not(loom))]
mod regions;
#[cfg(not(loom))]
mod registry;
#[cfg(not(loom))]
mod removed;
#[cfg(not(loom))]
mod run;
#[cfg(not(loom))]
mod scratch;
#[cfg(not(loom))]
mod snapshot;
#[cfg(not(loom))]
pub(crate) mod staging;
#[cfg(not(loom))]
pub(crate) mod work;

#[cfg(not(loom))]
pub use self::{
    counts::{PagerCounts, PagerStats},
    create::Pager,
    options::{Duty, FaultMode, PagerOptions, RegionOptions},
    region::RegionId,
    snapshot::PagerSnapshot,
};
