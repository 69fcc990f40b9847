//! The pager: keeps memory to a limit through userfaultfd, over zswap's public interface.
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
//! Each arrow is a claim of the page's state word: the word is BUSY meanwhile, and as before if anything fails.
//!
//! Pages that are evicted in place, and those of memory files, go from RESIDENT to STORED without a stop between:
//! protect, copy, compress, drop. A page whose copy in zswap is clean is dropped without being compressed, and a load
//! may keep that copy. A STORED page whose copy turns out to be damaged becomes POISONED. Only a discard, or the end of
//! the region, changes that.
//!
//! # The files
//!
//! Each line may import from the lines above it, and nothing imports in a circle: `tests/tidy.rs` checks that.
//!
//! The protocols, which loom's models run as well:
//!
//! | file | what it knows |
//! |---|---|
//! | `state`, `page` | the bits of a state word, and its protocol: claims |
//! | `extents` | which addresses belong to which region |
//! | `presence`, `removable` | which threads are in something, and values that wait for them before they go |
//! | `gate` | keeps threads from moving pages while events take effect |
//! | `hand` | the clock hand, and the lanes of threads that pick pages |
//! | `free_reading` | whether messages may be read without the gate |
//! | `serving_threads` | which of the threads that serve touches are awake, parked or poll |
//! | `tier_requests` | what touches ask of threads that may call tiers |
//!
//! The values that a pager is made of:
//!
//! | file | what it knows |
//! |---|---|
//! | `time` | the time, for what is remembered for a while |
//! | `options`, `counts` | what a caller may ask for, and the statistics that it gets |
//! | `scratch` | pages to decode to |
//! | `region` | a region with its state words and its area of zswap |
//! | `staging` | the staging range |
//! | `account` | how many pages are in memory, and how many may be |
//! | `hold_count`, `kept_copies` | how many pages are held; copies in zswap of pages in memory |
//! | `immovable` | pages that can't leave |
//! | `picks`, `hand_turn` | what the clock hand picked, and what one turn did |
//! | `backlog`, `inbox` | pages of large events that wait; messages that were read, behind the lock of events |
//! | `lent_count`, `spin` | lent threads, and how long they spin before they sleep |
//! | `upkeep` | what the pool needs from them |
//! | `away_wait` | how long a touch waits for a tier that is away |
//! | `core` | all of them together |
//!
//! The verbs, each a part of `impl Core`:
//!
//! | file | what it does |
//! |---|---|
//! | `forget` | drops copies from zswap |
//! | `file_pages` | takes pages out of a memory file, and maps those that are in it |
//! | `store` | stores a page, and makes room for it in the pool |
//! | `fault`, `load` | serve a touch; the part of it that decodes |
//! | `tier_touches` | the touches that another thread has to serve, because they need a tier of the program's own |
//! | `evict`, `stage`, `compress`, `in_place` | eviction: its course, and its three ways |
//! | `tend` | keeps the pool compact |
//! | `room` | makes room for a page that comes |
//! | `events`, `discard_by_event`, `large_events` | reads events; discards pages that owners gave back, few or many |
//! | `hold`, `discard_call` | holds parts of regions; gives parts of regions back |
//! | `check_memory`, `add_region` | tells which memory can be a region; adds regions |
//! | `map_region`, `remove_region` | maps memory for regions; removes regions |
//! | `lent_work` | what a lent thread does |
//! | `late_touches`, `sigbus_pagers` | touches of memory that was just removed; the handler of SIGBUS |
//! | `fork_child` | what a forked child lets go of |
//! | `open_pager` | what a pager and its regions share, and the closing of it |
//! | `pager_calls`, `create`, `snapshot`, `tier_calls` | the public calls on a pager |
//! | `lent_guard`, `hold_guards`, `region_guard`, `region_calls` | lent threads, holds and regions, as guards |
//! | `paged_memory` | memory that the pager maps itself |
//! | `for_c` | the same by numbers and pairs of calls, for the C library |

// The protocols: loom's models run on them as well.
pub(crate) mod extents;
pub(crate) mod free_reading;
pub(crate) mod gate;
pub(crate) mod hand;
pub(crate) mod page;
pub(crate) mod presence;
pub(crate) mod removable;
pub(crate) mod serving_threads;
pub(crate) mod state;
pub(crate) mod tier_requests;

#[cfg(not(loom))]
pub(crate) mod account;
#[cfg(not(loom))]
mod add_region;
#[cfg(not(loom))]
mod away_wait;
#[cfg(not(loom))]
pub(crate) mod backlog;
#[cfg(not(loom))]
mod check_memory;
#[cfg(not(loom))]
mod compress;
#[cfg(not(loom))]
pub(crate) mod core;
#[cfg(not(loom))]
mod counts;
#[cfg(not(loom))]
mod create;
#[cfg(not(loom))]
mod discard_by_event;
#[cfg(not(loom))]
mod discard_call;
#[cfg(not(loom))]
pub(crate) mod events;
#[cfg(not(loom))]
pub(crate) mod evict;
#[cfg(not(loom))]
pub(crate) mod fault;
#[cfg(not(loom))]
mod file_pages;
#[cfg(not(loom))]
pub(crate) mod for_c;
#[cfg(not(loom))]
mod forget;
#[cfg(not(loom))]
mod fork_child;
#[cfg(not(loom))]
mod hand_turn;
#[cfg(not(loom))]
pub(crate) mod hold;
#[cfg(not(loom))]
mod hold_count;
#[cfg(not(loom))]
mod hold_guards;
#[cfg(not(loom))]
mod immovable;
#[cfg(not(loom))]
mod in_place;
#[cfg(not(loom))]
pub(crate) mod inbox;
#[cfg(not(loom))]
mod kept_copies;
#[cfg(not(loom))]
mod large_events;
#[cfg(not(loom))]
mod late_touches;
#[cfg(not(loom))]
mod lent_count;
#[cfg(not(loom))]
mod lent_guard;
#[cfg(not(loom))]
mod lent_work;
#[cfg(not(loom))]
mod load;
#[cfg(not(loom))]
mod map_region;
#[cfg(not(loom))]
pub(crate) mod open_pager;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
pub(crate) mod paged_memory;
#[cfg(not(loom))]
mod pager_calls;
#[cfg(not(loom))]
mod picks;
#[cfg(not(loom))]
pub(crate) mod region;
#[cfg(not(loom))]
mod region_calls;
#[cfg(not(loom))]
mod region_guard;
#[cfg(not(loom))]
mod remove_region;
#[cfg(not(loom))]
mod room;
#[cfg(not(loom))]
mod scratch;
#[cfg(not(loom))]
mod sigbus_pagers;
#[cfg(not(loom))]
mod snapshot;
#[cfg(not(loom))]
mod spin;
#[cfg(not(loom))]
mod stage;
#[cfg(not(loom))]
pub(crate) mod staging;
#[cfg(not(loom))]
mod store;
#[cfg(not(loom))]
mod tend;
#[cfg(not(loom))]
mod tier_calls;
#[cfg(not(loom))]
mod tier_touches;
#[cfg(not(loom))]
mod time;
#[cfg(not(loom))]
mod upkeep;

#[cfg(not(loom))]
pub use self::{
    counts::{PagerCounts, PagerStats},
    hold_guards::{HeldBytes, HeldBytesMut, HeldRange},
    lent_guard::{Lent, LentWork},
    options::{Duty, Eviction, EvictionInUse, FaultMode, PagerOptions, PagerTuning, RegionOptions},
    paged_memory::PagedMemory,
    pager_calls::Pager,
    region_guard::Region,
    snapshot::PagerSnapshot,
};
