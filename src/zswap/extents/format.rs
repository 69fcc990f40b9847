//! The bytes of an extent: a header, a table of its entries, and the entries as the pool holds them.
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | `zsextent` |
//! | 8..12 | version of the format: 1 |
//! | 12..16 | how many entries there are |
//! | 16..24 | number of the zswap, drawn at random when it got its file |
//! | 24..32 | number of the extent, which the zswap never uses again |
//! | 32..40 | bytes of the extent, without the zeros that fill its last block |
//! | 40..60 | zeros |
//! | 60..64 | CRC-32C of bytes 0..60 and of the table |
//! | 64..1088 | the table: for each of up to 64 entries its area, 8 bytes; its offset, 6 bytes; its length, 2 bytes |
//! | 1088.. | the entries |
//!
//! All numbers are little-endian. An entry has the form of `entry.rs`, and its check is made over the two numbers and
//! its place in the table as well: the bytes of another extent fail it, also if they are an older version of the page.

use super::super::entry::{self, Seed};
use super::super::word::MAX_ENTRIES;
use crate::crc::crc32c;
use crate::units::PAGE;

/// Bytes of a block, the unit of writes.
pub const BLOCK: usize = PAGE;
/// Most blocks of an extent: 32 pages that do not compress have room.
pub const MAX_BLOCKS: usize = 33;
/// Most bytes of an extent.
pub const MAX_BYTES: usize = MAX_BLOCKS * BLOCK;

/// Cleaning ends an extent of this many entries at a block's end.
const MANY_ENTRIES: usize = 48;
/// How many bytes of the last block may stay empty then. With some 1100 bytes for an entry, two extents of three end
/// so.
const SPARE: usize = 256;

const MAGIC: [u8; 8] = *b"zsextent";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const TABLE_ENTRY: usize = 16;
/// Where the entries begin.
pub const FIRST_ENTRY: usize = HEADER + MAX_ENTRIES * TABLE_ENTRY;

/// Which page an entry is of, and how long the entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryOf {
    pub area: u64,
    pub offset: u64,
    pub bytes: usize,
}

impl EntryOf {
    fn seed(&self) -> Seed {
        Seed::new(self.area, self.offset)
    }

    fn put(&self, to: &mut [u8]) {
        to[..8].copy_from_slice(&self.area.to_le_bytes());
        to[8..14].copy_from_slice(&self.offset.to_le_bytes()[..6]);
        to[14..].copy_from_slice(&(self.bytes as u16).to_le_bytes());
    }

    fn get(from: &[u8]) -> Self {
        let mut offset = [0; 8];
        offset[..6].copy_from_slice(&from[8..14]);
        Self {
            area: word_at(from, 0),
            offset: u64::from_le_bytes(offset),
            bytes: usize::from(u16::from_le_bytes([from[14], from[15]])),
        }
    }
}

// Offsets have 6 bytes in the table, lengths 2.
const _: () = assert!(super::super::index::MAX_PAGES <= 1 << 48 && entry::MAX_ENTRY <= u16::MAX as usize);

fn word_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn half_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// An extent that is being made, in a buffer of [`MAX_BYTES`].
pub struct Builder<'a> {
    bytes: &'a mut [u8],
    count: usize,
    end: usize,
}

impl<'a> Builder<'a> {
    /// Begins an extent without entries.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        debug_assert_eq!(bytes.len(), MAX_BYTES);
        Self { bytes, count: 0, end: FIRST_ENTRY }
    }

    /// Goes on with an extent of `count` entries that was begun in the same buffer.
    pub fn resume(bytes: &'a mut [u8], count: usize) -> Self {
        let mut builder = Self::new(bytes);
        builder.end += (0..count).map(|number| builder.entry(number).bytes).sum::<usize>();
        builder.count = count;
        builder
    }

    /// Returns how many entries there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether every page has room for its entry, however long that is.
    pub fn has_room(&self) -> bool {
        self.count < MAX_ENTRIES && self.end + entry::MAX_ENTRY <= MAX_BYTES
    }

    /// Whether the extent has many entries and fills its last block. One more entry would leave most of another block
    /// empty.
    pub fn fills_its_blocks(&self) -> bool {
        self.count >= MANY_ENTRIES && self.blocks() * BLOCK - self.end < SPARE
    }

    /// Adds a whole entry, as the pool holds it. The caller has asked whether there is room.
    pub fn push(&mut self, area: u64, offset: u64, whole: &[u8]) {
        EntryOf { area, offset, bytes: whole.len() }
            .put(&mut self.bytes[HEADER + self.count * TABLE_ENTRY..][..TABLE_ENTRY]);
        self.bytes[self.end..][..whole.len()].copy_from_slice(whole);
        self.end += whole.len();
        self.count += 1;
    }

    /// Takes the last entries away until `count` are left.
    pub fn truncate(&mut self, count: usize) {
        while self.count > count {
            self.count -= 1;
            self.end -= self.entry(self.count).bytes;
        }
    }

    /// Returns an entry of the table.
    pub fn entry(&self, number: usize) -> EntryOf {
        EntryOf::get(&self.bytes[HEADER + number * TABLE_ENTRY..][..TABLE_ENTRY])
    }

    /// Returns how many blocks the extent takes.
    pub fn blocks(&self) -> usize {
        self.end.div_ceil(BLOCK)
    }

    /// Returns how many bytes the extent has, without the rest of its last block.
    pub fn bytes(&self) -> usize {
        self.end
    }

    /// Returns how many blocks an extent of the first `count` entries would take.
    pub fn blocks_of(&self, count: usize) -> usize {
        let entries = (0..count.min(self.count)).map(|number| self.entry(number).bytes).sum::<usize>();
        (FIRST_ENTRY + entries).div_ceil(BLOCK)
    }

    /// Returns how many entries fit into this many blocks.
    pub fn fitting(&self, blocks: usize) -> usize {
        let mut end = FIRST_ENTRY;
        let fits = |&number: &usize| {
            end += self.entry(number).bytes;
            end <= blocks * BLOCK
        };
        (0..self.count).take_while(fits).count()
    }

    /// Fills in the header, and binds the entries to the extent of this number. Returns the bytes of its blocks.
    pub fn seal(&mut self, pool: u64, extent: u64) -> &[u8] {
        let mut at = FIRST_ENTRY;
        for number in 0..self.count {
            let of = self.entry(number);
            entry::reseal(&mut self.bytes[at..at + of.bytes], of.seed().in_extent(pool, extent, number));
            at += of.bytes;
        }
        let blocks = self.blocks();
        self.bytes[self.end..blocks * BLOCK].fill(0);
        self.bytes[HEADER + self.count * TABLE_ENTRY..FIRST_ENTRY].fill(0);
        let header = &mut self.bytes[..HEADER];
        header.fill(0);
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(self.count as u32).to_le_bytes());
        header[16..24].copy_from_slice(&pool.to_le_bytes());
        header[24..32].copy_from_slice(&extent.to_le_bytes());
        header[32..40].copy_from_slice(&(self.end as u64).to_le_bytes());
        let check = check_of(self.bytes);
        self.bytes[60..64].copy_from_slice(&check.to_le_bytes());
        &self.bytes[..blocks * BLOCK]
    }
}

/// Returns the check of a header and of the table behind it.
fn check_of(bytes: &[u8]) -> u32 {
    crc32c(&bytes[..60]) ^ crc32c(&bytes[HEADER..FIRST_ENTRY]).rotate_left(1)
}

/// Returns how many entries a whole extent has, if its header is right and is that of this extent.
pub fn open(bytes: &[u8], pool: u64, extent: u64) -> Option<usize> {
    let count = half_at(bytes, 12) as usize;
    let is_right = bytes[..8] == MAGIC
        && half_at(bytes, 8) == VERSION
        && (word_at(bytes, 16), word_at(bytes, 24)) == (pool, extent)
        && half_at(bytes, 60) == check_of(bytes);
    (is_right && count <= MAX_ENTRIES).then_some(count)
}

/// Returns the entries of a whole extent whose header is right, each with its bytes, up to one that is too long for a
/// page's.
pub fn entries(bytes: &[u8], count: usize) -> impl Iterator<Item = (EntryOf, &[u8])> {
    let mut at = FIRST_ENTRY;
    (0..count).map_while(move |number| {
        let of = EntryOf::get(&bytes[HEADER + number * TABLE_ENTRY..][..TABLE_ENTRY]);
        let entry = bytes.get(at..at + of.bytes).filter(|entry| entry.len() <= entry::MAX_ENTRY)?;
        at += of.bytes;
        Some((of, entry))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::Stored;
    use super::*;

    fn whole(area: u64, offset: u64, payload: &[u8]) -> Vec<u8> {
        let mut entry = vec![0; entry::HEADER];
        entry.extend_from_slice(payload);
        let length = entry.len();
        entry::seal(&mut entry, length, Seed::new(area, offset), Stored::Lz4);
        entry
    }

    #[test]
    fn an_extent_comes_back_as_it_was_made() {
        let mut buffer = vec![0xa5; MAX_BYTES];
        let mut builder = Builder::new(&mut buffer);
        let payloads: Vec<Vec<u8>> = (0..MAX_ENTRIES).map(|at| vec![at as u8; 10 + at * 37]).collect();
        let pages = |at: usize| (at as u64 % 3, (1 << 37) + at as u64);
        for (at, payload) in payloads.iter().enumerate() {
            builder.push(pages(at).0, pages(at).1, &whole(pages(at).0, pages(at).1, payload));
        }
        assert!(!builder.has_room());
        assert_eq!((builder.fitting(builder.blocks()), builder.fitting(0)), (MAX_ENTRIES, 0));
        let bytes = builder.seal(11, 12).to_vec();
        assert!(bytes.len().is_multiple_of(BLOCK));
        assert_eq!(open(&bytes, 11, 12), Some(MAX_ENTRIES));
        assert_eq!((open(&bytes, 11, 13), open(&bytes, 10, 12)), (None, None));
        let found = entries(&bytes, MAX_ENTRIES).enumerate().map(|(at, (of, entry))| {
            assert_eq!((of.area, of.offset), pages(at));
            let seed = Seed::new(of.area, of.offset).in_extent(11, 12, at);
            assert!(entry::open(entry, seed) == Some((Stored::Lz4, &payloads[at][..])), "entry {at}");
        });
        assert_eq!(found.count(), MAX_ENTRIES);
        for at in (0..FIRST_ENTRY).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(open(&damaged, 11, 12), None, "byte {at}");
        }
    }

    #[test]
    fn entries_that_are_taken_away_leave_no_trace() {
        let (mut some, mut all) = (vec![0; MAX_BYTES], vec![0; MAX_BYTES]);
        let entry = whole(1, 2, &[3; 3000]);
        let mut builder = Builder::new(&mut all);
        (0..9).for_each(|_| builder.push(1, 2, &entry));
        assert_eq!(builder.fitting(4), 5);
        builder.truncate(5);
        let mut five = Builder::new(&mut some);
        (0..5).for_each(|_| five.push(1, 2, &entry));
        assert!(builder.seal(1, 1) == five.seal(1, 1));
    }

    #[test]
    fn thirty_two_pages_that_do_not_compress_have_room() {
        let mut buffer = vec![0; MAX_BYTES];
        let mut builder = Builder::new(&mut buffer);
        while builder.has_room() {
            builder.push(1, 2, &[0; entry::MAX_ENTRY]);
        }
        assert_eq!(builder.count(), 32);
    }
}
