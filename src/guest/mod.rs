//! The memory of another process, filled from a snapshot that an area holds compressed.
//!
//! The kernel hands out touches before all other events, so a touch may be read before a removal that came first.
//! Therefore all events are read before any touch is served. A removal that begins after that makes the calls that fill
//! pages fail with EAGAIN, and all events are read again. So a page that its owner had given back before the touch is
//! never filled from the snapshot.
//!
//! A page that was filled or given back is the guest's own: if it is missing later, the guest has dropped it, and it
//! reads as zero.
//!
//! | file | what it knows |
//! |---|---|
//! | `options`, `stats` | the options of a guest, and its statistics |
//! | `ranges` | where a guest's memory is, which pages are its own, which were written |
//! | `file` | a guest's memory file, and the bitmap of pages that are not filled |
//! | `state` | what a guest consists of, and how its memory is handed over |
//! | `unknown` | the sentences that refuse events of an unknown kind |
//! | `events` | reading events: touches wait, and all others take effect at once |
//! | `fill` | serving one touch |
//! | `serve` | serving all touches, in turns |
//! | `dirty` | which pages were written |
//! | `guardian` | the process that guards guests when this one dies |

mod dirty;
pub(crate) mod events;
mod file;
mod fill;
mod guardian;
mod options;
pub(crate) mod ranges;
mod serve;
mod state;
mod stats;
mod unknown;

pub use self::{
    file::GuestFile,
    guardian::{Guardian, OnDeath, WatchId},
    options::{GuestOptions, Protect},
    ranges::GuestRange,
    serve::Served,
    state::Guest,
    stats::{GuestCounts, GuestStats},
};
