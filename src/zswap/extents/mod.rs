//! Extents: what leaves the pool is written to a tier in large pieces, and read page by page.
//!
//! An extent is up to 64 entries, compressed as the pool had them, behind a header with a table. It is written once, by
//! one write, under a number that is never used again. A page word names the extent's slot and the entry. Each tier has
//! slots of its own, so the slot tells the tier.
//!
//! | file | what it knows |
//! |---|---|
//! | `slot` | the protocol of the word that decides how long an extent lives |
//! | `format` | the bytes of an extent |
//! | `blocks` | which blocks of the file are taken, and which were written |
//! | `extent_table` | the slots: words, numbers, places, lengths of entries |
//! | `file_tier` | the library's own file: writing, reading and punching out whole blocks |
//! | `own_tier` | a tier of the program's own: calls of it |
//! | `medium` | what extents are written to: one of the two |
//! | `buffers` | memory that extents are made in and read into |
//! | `cleaning` | when what is left of mostly dead extents is moved, and of which |
//! | `tier_stats` | what a tier has, and what happened on it |
//! | `store` | the extents of a tier: table, medium and buffers together |
//! | `tier_list` | the tiers in their order, and which slots each has |
//!
//! `fill_extents` of the folder above claims pages and writes their entries, and `clean_extents` moves entries.

pub mod slot;

#[cfg(not(loom))]
pub mod blocks;
#[cfg(not(loom))]
pub mod buffers;
#[cfg(not(loom))]
pub mod cleaning;
#[cfg(not(loom))]
pub mod extent_table;
#[cfg(not(loom))]
mod file_tier;
#[cfg(not(loom))]
pub mod format;
#[cfg(not(loom))]
pub mod medium;
#[cfg(not(loom))]
mod own_tier;
#[cfg(not(loom))]
pub mod store;
#[cfg(not(loom))]
pub mod tier_list;
#[cfg(not(loom))]
pub mod tier_stats;
