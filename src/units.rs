//! The units everything else is counted in. The page size is named here and nowhere else.

/// Bytes in a page, the unit of all page counts of this crate.
pub const PAGE: usize = 4096;

/// A page at a multiple of its size: mincore, and files that are read and written past the page cache, take no other.
#[repr(C, align(4096))]
pub struct AlignedPage(pub [u8; PAGE]);
/// Bytes in a chunk: what one huge page backs, and what whole returns are made of.
pub const CHUNK: usize = 2 << 20;
/// Pages in a chunk.
pub const CHUNK_PAGES: usize = CHUNK / PAGE;
/// Most slots a zspage has, so that its occupancy is one 64-bit word.
pub const MAX_SLOTS: usize = 64;

/// How many pages `bytes` occupy, the last one counted whole.
pub const fn pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE)
}

/// Which size class: an index into the table of classes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClassIndex(pub u16);

/// Which zspage: an index into the zspage table of its pool, 28 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZspageId(pub u32);

impl ZspageId {
    /// The end of a list.
    pub const NONE: Self = Self(u32::MAX);
}

/// Where an object lies: which zspage, and which of its slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The zspage.
    pub zspage: ZspageId,
    /// The slot in it, below [`MAX_SLOTS`].
    pub slot: u8,
}

/// Which word of the handle table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandleIndex(pub u32);

impl HandleIndex {
    /// The end of a list; never the index of a word.
    pub const NONE: Self = Self(u32::MAX);
}
