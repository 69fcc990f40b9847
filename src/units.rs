//! The units that everything else is counted in. Only this file names the page size.

/// Bytes in a page, the unit of all page counts of this crate.
pub const PAGE: usize = 4096;

/// A page at a multiple of its size, as mincore demands it, and files that are read and written past the page cache.
#[repr(C, align(4096))]
pub struct AlignedPage(pub [u8; PAGE]);
/// Bytes in a chunk, which one huge page backs.
pub const CHUNK: usize = 2 << 20;
/// Pages in a chunk.
pub const CHUNK_PAGES: usize = CHUNK / PAGE;
/// Chunks in a group, whose zspage records lie together. The records are packed from the front of their group, so that
/// few pages hold them, and those pages go back when compaction emptied the chunks of the group.
pub const GROUP_CHUNKS: usize = 8;
/// The most slots of a zspage, so that its occupancy is one 64-bit word.
pub const MAX_SLOTS: usize = 64;

/// Returns how many pages `bytes` bytes occupy. The last one counts whole.
pub const fn pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE)
}

/// The index of a size class in the table of classes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClassIndex(pub u16);

/// The index of a zspage in the zspage table of its pool, of 28 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZspageId(pub u32);

impl ZspageId {
    /// The number that stands for no zspage.
    pub const NONE: Self = Self(u32::MAX);
}

/// Where an object lies: a zspage, and one of its slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The zspage.
    pub zspage: ZspageId,
    /// The slot in it, below [`MAX_SLOTS`].
    pub slot: u8,
}

/// The index of a word in the handle table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandleIndex(pub u32);

impl HandleIndex {
    /// The end of a list, which is never the index of a word.
    pub const NONE: Self = Self(u32::MAX);
}
