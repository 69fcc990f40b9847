//! A stored page: a header of 5 bytes, then what the codec made of the page.
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | check: CRC-32C of all that follows, xored with a seed of the area and the offset |
//! | 4 | bytes of the slot after the entry, 6 bits; codec, 2 bits |
//!
//! The length is counted from the slot's end: the smallest slot has 64 bytes, and each other slot has at most 32 more
//! than the next smaller one, so 6 bits are enough.
//!
//! The seed makes the entry of another page fail as surely as a damaged one. The check comes before the decoder, so a
//! damaged page is never decoded and the destination stays as it was.

use crate::crc::crc32c;
use crate::units::PAGE;

/// Bytes before the payload.
pub const HEADER: usize = 5;
/// Bytes of the longest entry: a page as it came.
pub const MAX_ENTRY: usize = HEADER + PAGE;

const SLACK_BITS: u32 = 6;
const _: () = assert!(MAX_ENTRY <= crate::geometry::MAX_ALLOC_SIZE);

/// Tells whose entry it is, so that another page's entry fails the check. It differs for each offset of an area, and
/// between areas as far as 32 bits can.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// Makes the seed of a page of an area.
    #[inline]
    pub fn new(area: u64, offset: u64) -> Self {
        // Offsets of one area that share their high half differ in the low one, which is xored in as it is.
        let high = (area << 32 | offset >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((high >> 32) as u32 ^ high as u32 ^ offset as u32)
    }

    /// Makes the seed of a page's entry in an extent of this number, from the seed that the entry has in the pool. So
    /// the entry of another time fails, although it is the same page's: numbers of extents are never used again.
    pub fn in_extent(self, pool: u64, extent: u64, entry: usize) -> Self {
        let number = extent << 6 | entry as u64;
        // The low half is xored in as it is: extents that follow each other always differ.
        let mixed = (pool ^ number >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(self.0 ^ number as u32 ^ (mixed >> 32) as u32)
    }

    /// Returns the check of `bytes`.
    #[inline]
    pub fn check(self, bytes: &[u8]) -> u32 {
        self.0 ^ crc32c(bytes)
    }
}

/// How the payload of an entry was made: two bits of its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stored {
    /// The page as it came.
    Raw = 1,
    /// LZ4 block format.
    Lz4 = 2,
    /// A Zstandard frame.
    Zstd = 3,
}

impl Stored {
    /// Returns what two bits of a header mean.
    fn from_bits(bits: u8) -> Option<Self> {
        [Self::Raw, Self::Lz4, Self::Zstd].into_iter().find(|stored| *stored as u8 == bits)
    }
}

/// Fills in the header of an entry that has its payload. The entry goes to a slot of `slot_bytes` bytes.
#[inline]
pub fn seal(entry: &mut [u8], slot_bytes: usize, seed: Seed, stored: Stored) {
    let slack = slot_bytes - entry.len();
    debug_assert!(slack < 1 << SLACK_BITS);
    entry[4] = slack as u8 | (stored as u8) << SLACK_BITS;
    let check = seed.check(&entry[4..]);
    entry[..4].copy_from_slice(&check.to_le_bytes());
}

/// Returns the payload of an entry and how to decode it, or none if its check is wrong.
#[inline]
pub fn open(slot: &[u8], seed: Seed) -> Option<(Stored, &[u8])> {
    // A slot of the pool is longer. What was read from a file may have any length.
    let form = *slot.get(HEADER - 1)?;
    let slack = usize::from(form & ((1 << SLACK_BITS) - 1));
    let body = slot.get(4..slot.len().checked_sub(slack)?)?;
    // A damaged byte can claim that nothing follows the check, not even this byte.
    let payload = body.get(1..)?;
    let check = u32::from_le_bytes([slot[0], slot[1], slot[2], slot[3]]);
    if seed.check(body) != check {
        return None;
    }
    Some((Stored::from_bits(form >> SLACK_BITS)?, payload))
}

/// Returns a whole entry without what follows it in its slot, or none if its check is wrong.
pub fn whole(slot: &[u8], seed: Seed) -> Option<&[u8]> {
    let (_, payload) = open(slot, seed)?;
    slot.get(..HEADER + payload.len())
}

/// Gives a whole entry the check that `seed` asks for, for a place where nothing follows it.
pub fn reseal(entry: &mut [u8], seed: Seed) {
    entry[4] = entry[4] >> SLACK_BITS << SLACK_BITS;
    let check = seed.check(&entry[4..]);
    entry[..4].copy_from_slice(&check.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_bound_to_its_extent() {
        let (pool, payload) = (Seed::new(1, 2), [7; 100]);
        let mut slot = [0; 112];
        slot[HEADER..HEADER + 100].copy_from_slice(&payload);
        seal(&mut slot[..HEADER + 100], 112, pool, Stored::Lz4);
        let mut entry = whole(&slot, pool).unwrap().to_vec();
        assert_eq!(entry.len(), HEADER + 100);
        let bound = pool.in_extent(3, 4, 5);
        reseal(&mut entry, bound);
        assert!(open(&entry, bound) == Some((Stored::Lz4, &payload[..])));
        for other in [(2, 4, 5), (3, 5, 5), (3, 4, 6), (3, 3, 5), (3, 4 + (1 << 26), 5), (3, 4 + (1 << 40), 5)] {
            assert!(open(&entry, pool.in_extent(other.0, other.1, other.2)).is_none(), "{other:?}");
        }
        assert!(open(&entry, pool).is_none() && open(&entry, Seed::new(1, 3).in_extent(3, 4, 5)).is_none());
    }

    #[test]
    fn bytes_that_are_too_short_for_a_header_are_refused() {
        for bytes in 0..=HEADER {
            assert!(open(&[0; HEADER][..bytes], Seed::new(1, 2)).is_none(), "{bytes}");
        }
    }

    /// Damage can make a slot say that nothing but its first four bytes is the entry.
    #[test]
    fn a_slot_without_a_payload_is_refused() {
        for slot_bytes in 64..68 {
            let mut slot = vec![0; slot_bytes];
            slot[4] = (slot_bytes - 4) as u8 | (Stored::Raw as u8) << SLACK_BITS;
            let check = Seed::new(1, 2).check(&[]);
            slot[..4].copy_from_slice(&check.to_le_bytes());
            assert!(open(&slot, Seed::new(1, 2)).is_none(), "{slot_bytes}");
        }
    }

    #[test]
    fn any_change_of_any_bit_is_refused() {
        let mut slot = [0xa5; 128];
        let payload: Vec<u8> = (0..110).collect();
        slot[HEADER..HEADER + payload.len()].copy_from_slice(&payload);
        seal(&mut slot[..HEADER + payload.len()], 128, Seed::new(1, 2), Stored::Lz4);
        assert!(open(&slot, Seed::new(1, 2)) == Some((Stored::Lz4, &payload[..])));
        for bit in 0..(HEADER + payload.len()) * 8 {
            slot[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&slot, Seed::new(1, 2)).is_none(), "bit {bit}");
            slot[bit / 8] ^= 1 << (bit % 8);
        }
        for (area, offset) in [(1, 3), (2, 2), (0, 2), (1, 2 + (1 << 32))] {
            assert!(open(&slot, Seed::new(area, offset)).is_none());
        }
    }
}
