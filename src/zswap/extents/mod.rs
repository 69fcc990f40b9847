//! Extents: what leaves the pool is written to the library's own file in large pieces, and read page by page.
//!
//! An extent is up to 64 entries, compressed as the pool had them, behind a header with a table. It is written once, by
//! one write, under a number that is never used again. A page word names the extent's slot and the entry.
//!
//! | file | what it knows |
//! |---|---|
//! | `slot` | the protocol of the word that decides how long an extent lives |
//! | `format` | the bytes of an extent |
//! | `blocks` | which blocks of the file are taken, and which were written |
//! | `extent_table` | the slots: words, numbers, places, lengths of entries |
//! | `file_tier` | the file: writing, reading and punching out whole blocks |
//! | `buffers` | memory that extents are made in and read into |
//! | `cleaning` | when what is left of mostly dead extents is moved, and of which |
//! | `store` | the extents of a zswap: table, file and buffers together |
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
pub mod store;
