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
//! | file | what it knows |
//! |---|---|
//! | `word` | the bits of a state word |
//! | `page` | the protocol of the state word: claims |
//! | `region`, `regions` | a region and its words; adding and removing them |
//! | `hold`, `discard` | parts that stay in their places; parts that are given back |
//! | `extents` | which addresses are whose |
//! | `fault` | serving a touch |
//! | `evict`, `staging` | the clock hand, the staging range, compressing |
//! | `copy_out` | eviction where pages can't be moved |
//! | `copies` | copies that zswap has of pages that are in memory |
//! | `events`, `gate` | what owners do with their memory; nobody moves pages meanwhile |
//! | `run`, `registry` | lent threads; the handler of SIGBUS |
//! | `core`, `counts`, `scratch` | the parts, the account of resident pages, statistics, pages to decode to |
//! | `guardian` | what becomes of other processes' memory when this one dies |
//! | `guest` | memory of another process, from a snapshot that zswap holds; it needs none of the others |
//! | `create`, `options` | the public calls; how it is to be |

mod copies;
mod copy_out;
pub(crate) mod core;
mod counts;
mod create;
mod discard;
mod events;
pub(crate) mod evict;
mod extents;
pub(crate) mod fault;
mod gate;
mod guardian;
mod guest;
mod hold;
mod options;
mod page;
pub(crate) mod region;
mod regions;
mod registry;
mod run;
mod scratch;
pub(crate) mod staging;
pub(crate) mod word;

pub use self::{
    counts::{LATENCY_BUCKETS, LatencyHistogram, PagerCounts, PagerStats},
    create::{Pager, PagerSnapshot, RegionId},
    guardian::{Guardian, OnDeath, WatchId},
    guest::{Guest, GuestCounts, GuestOptions, GuestRange, GuestStats, Served},
    options::{Duty, FaultMode, PagerOptions, RegionOptions, Removal},
};
