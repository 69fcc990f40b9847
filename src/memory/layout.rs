//! Where everything lies in the memory of a pool:
//! `super | chunk table | group table | zspage table | handle table | arena`.
//!
//! The layout is fixed when the pool is created, and written into the super page. So every lookup is arithmetic, and a
//! memory file means the same in any process.

use crate::geometry::RECORD_BYTES;
use crate::memory::arena::Chunk;
use crate::memory::groups::Group;
use crate::units::{CHUNK, CHUNK_PAGES, GROUP_CHUNKS, PAGE, pages_of};
use crate::word::MAX_ZSPAGES;

const GROUP_PAGES: usize = GROUP_CHUNKS * CHUNK_PAGES;

/// Where each table lies, in bytes from the start of the tables, and how much it has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Layout {
    /// Chunks of the arena.
    pub chunks: usize,
    /// Pages of the arena. In memory that the caller supplied the last chunk may be cut short.
    pub arena_pages: usize,
    /// How many zspage records a group has room for.
    pub group_records: usize,
    /// How many words the handle table has.
    pub words: usize,
    /// Where the chunk table begins.
    pub chunk_table: usize,
    /// Where the group table begins.
    pub group_table: usize,
    /// Where the zspage table begins.
    pub zspage_table: usize,
    /// Where the handle table begins.
    pub handle_table: usize,
    /// Where the tables end.
    pub tables_end: usize,
}

/// The objects and zspages for which the tables are large enough.
#[derive(Clone, Copy)]
struct Demand {
    /// Bytes of the smallest objects of which a full pool has enough handles.
    object_bytes: usize,
    /// Pages of the smallest zspages of which a full pool has enough records.
    zspage_pages: usize,
}

const _: () = {
    assert!((GROUP_PAGES / WORST.zspage_pages * RECORD_BYTES).is_multiple_of(PAGE));
    assert!((GROUP_PAGES / USUAL.zspage_pages * RECORD_BYTES).is_multiple_of(PAGE));
};

/// For tables in addresses that cost nothing: everything that fits the arena has its handle and its record.
const WORST: Demand = Demand { object_bytes: PAGE / crate::units::MAX_SLOTS, zspage_pages: 1 };
/// For tables in memory that the caller supplied: enough for objects of half a kilobyte and more.
const USUAL: Demand = Demand { object_bytes: 512, zspage_pages: 4 };

impl Layout {
    /// The layout of a pool of at most `capacity` bytes in addresses of its own. The arena has a quarter more, and 64
    /// MiB: zspages are committed as they are touched, so zspages that are not full take addresses and no memory.
    pub fn for_capacity(capacity: u64) -> Option<Self> {
        let arena = usize::try_from(capacity.checked_add(capacity / 4)?).ok()?.checked_add(32 * CHUNK)?;
        let layout = Self::with_arena(arena.div_ceil(CHUNK) * CHUNK_PAGES, WORST);
        (layout.chunks.div_ceil(GROUP_CHUNKS) * layout.group_records <= MAX_ZSPAGES).then_some(layout)
    }

    /// The layout of `bytes` bytes of memory that hold the tables and the arena. It has the largest arena that leaves
    /// room for its tables.
    pub fn within(bytes: usize) -> Option<Self> {
        let (mut low, mut high) = (0, bytes / PAGE);
        while low < high {
            let middle = (low + high).div_ceil(2);
            let fits = Self::with_arena(middle, USUAL).tables_end + middle * PAGE <= bytes;
            (low, high) = if fits { (middle, high) } else { (low, middle - 1) };
        }
        (low >= crate::geometry::MAX_ZSPAGE_PAGES).then(|| Self::with_arena(low, USUAL))
    }

    fn with_arena(arena_pages: usize, demand: Demand) -> Self {
        let chunks = arena_pages.div_ceil(CHUNK_PAGES);
        let groups = chunks.div_ceil(GROUP_CHUNKS);
        let group_records = GROUP_PAGES / demand.zspage_pages;
        let words = (arena_pages * PAGE / demand.object_bytes).min(u32::MAX as usize - 1);
        let whole_pages = |bytes: usize| pages_of(bytes) * PAGE;
        let chunk_table = PAGE;
        let group_table = chunk_table + whole_pages(chunks * size_of::<Chunk>());
        let zspage_table = group_table + whole_pages(groups * size_of::<Group>());
        let handle_table = zspage_table + groups * group_records * RECORD_BYTES;
        let tables_end = handle_table + whole_pages(words * size_of::<u64>());
        Self {
            chunks,
            arena_pages,
            group_records,
            words,
            chunk_table,
            group_table,
            zspage_table,
            handle_table,
            tables_end,
        }
    }

    /// Returns the bytes of the zspage table that a group has for its records. They are whole pages, so that they can
    /// go back by themselves, and the same for each group, so that the address of a record follows from its id.
    pub const fn group_record_bytes(&self) -> usize {
        self.group_records * RECORD_BYTES
    }

    /// Returns where the record of a zspage lies.
    pub const fn record(&self, group: usize, local: usize) -> usize {
        self.zspage_table + group * self.group_record_bytes() + local * RECORD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_has_a_layout_unless_words_cannot_name_its_zspages() {
        assert!(Layout::for_capacity(256 << 30).is_some());
        assert!(Layout::for_capacity(8 << 40).is_none());
        assert!(Layout::for_capacity(u64::MAX / 2).is_none() && Layout::for_capacity(u64::MAX).is_none());
    }

    #[test]
    fn lent_memory_is_filled_and_not_overrun() {
        for bytes in [1 << 20, 3 << 20, (64 << 20) + 12345, 1 << 30] {
            let layout = Layout::within(bytes).unwrap();
            let used = layout.tables_end + layout.arena_pages * PAGE;
            assert!(used <= bytes && used + 4 * CHUNK.min(bytes / 4) > bytes, "{used} of {bytes}");
        }
        assert_eq!(Layout::within(100 << 10), None);
    }
}
