//! The memory of another process, filled from a snapshot that an area holds compressed.
//!
//! The kernel hands out touches before all other events, so a touch may be read before the removal that came first.
//! That is why everything that is there is read before any touch is served. A removal that begins after that makes the
//! calls that fill pages fail with EAGAIN, and then everything is read again. So no page that its owner had given back,
//! when it was touched, is filled from the snapshot.
//!
//! A page that was filled once, or given back, is the guest's own: if it is missing later, it was dropped, and reads as
//! zero.
//!
//! | file | what it knows |
//! |---|---|
//! | `options`, `stats` | how a guest is to be served; what was done for it |
//! | `ranges` | where its memory is, which pages are its own, which were written |
//! | `file` | its memory file, and the bitmap of pages that are not filled |
//! | `state` | what a guest consists of, and how its memory is handed over |
//! | `unknown` | the sentences that refuse events of an unknown kind |
//! | `events` | reading events: touches wait, and all else takes effect at once |
//! | `fill` | what is done for one touch |
//! | `serve` | serving touches, in turns |
//! | `dirty` | which pages were written |
//! | `guardian` | what becomes of guests when this process dies |

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
