//! The bits of a page word. No other file shifts by a field's position.
//!
//! | state | payload |
//! |---|---|
//! | EMPTY | none: the page is not here |
//! | FILLED | what the page repeats |
//! | STORED | index and generation of its handle |
//! | BACKED | its entry in an extent: the extent's slot, the entry's number, and the slot's generation |
//!
//! | flag | says |
//! |---|---|
//! | REFERENCED | the page was used since the clock hand last passed: it gets a second chance |
//! | WRITEBACK, CLAIM | a writeback of this offset runs, of this version of the page or of one before it; its number |
//! | AGE | STORED: how often time passed for the page since it was stored or used, at most 3 |
//! | OWN | that writeback owns its place on disk, so nobody waits for it |
//! | MARK | FILLED: the pattern has 32 bits. STORED: a stronger codec gains nothing |
//! | RAW | STORED: the page is stored as it came |
//! | FROZEN | the stretch of the index that the word is in is being given back |

use crate::field::Field;
use crate::word::HANDLE_BITS;

const STATE: Field = Field::first(2);
const REFERENCED: Field = STATE.then(1);
const WRITEBACK: Field = REFERENCED.then(1);
const MARK: Field = WRITEBACK.then(1);
const RAW: Field = MARK.then(1);
const FROZEN: Field = RAW.then(1);
const OWN: Field = FROZEN.then(1);
const AGE: Field = OWN.then(2);
const CLAIM: Field = AGE.then(6);
const PAYLOAD: Field = CLAIM.then(HANDLE_BITS);
const _: () = assert!(Field::fill(&[STATE, REFERENCED, WRITEBACK, MARK, RAW, FROZEN, OWN, AGE, CLAIM, PAYLOAD], 64));

/// The payload of a BACKED word.
const SLOT: Field = Field::first(26);
const ENTRY: Field = SLOT.then(6);
const SLOT_GENERATION: Field = ENTRY.then(16);
const _: () = assert!(Field::fill(&[SLOT, ENTRY, SLOT_GENERATION], HANDLE_BITS));

/// Belongs to the offset and not to the version of its page: no store and no removal clears it.
const STICKY: u64 = WRITEBACK.mask() | OWN.mask() | CLAIM.mask() | FROZEN.mask();
/// Tells one version of a page from another.
const VERSION: u64 = STATE.mask() | PAYLOAD.mask() | RAW.mask();

/// The age of the pages that were longest unused.
pub const MAX_AGE: u8 = AGE.max() as u8;
/// Most extents of a zswap at a time.
pub const MAX_EXTENTS: usize = SLOT.max() as usize + 1;
/// Most entries of an extent.
pub const MAX_ENTRIES: usize = ENTRY.max() as usize + 1;

/// An entry of an extent: where a page is that left the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtentEntry {
    /// The extent's slot in the table of extents.
    pub slot: u32,
    /// The number of the entry in its extent.
    pub entry: u8,
    /// Which of the extents that had this slot one after the other.
    pub generation: u16,
}

/// Where a page is, as its word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WordKind {
    /// The page is not here.
    Empty,
    /// It repeats this word.
    Filled(u64),
    /// In the pool, behind this short handle: the low [`HANDLE_BITS`] bits of the handle, without the pool's tag.
    Stored(u64),
    /// In an extent, on a tier.
    Backed(ExtentEntry),
}

/// The one word of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageWord(pub u64);

impl PageWord {
    /// Not here, and no writeback runs.
    pub const EMPTY: Self = Self(0);
    /// Not here, and the stretch of the index is being given back.
    pub const FROZEN: Self = Self(FROZEN.mask());

    const fn new(state: u64, payload: u64) -> Self {
        Self(PAYLOAD.set(STATE.set(0, state), payload))
    }

    /// Makes the word of a page that repeats `pattern`, or none if the pattern does not fit. A number of 48 bits with
    /// its sign fits (so that addresses do), and any 32 bits twice.
    pub fn filled(pattern: u64) -> Option<Self> {
        let spare = 64 - HANDLE_BITS;
        if (pattern as i64) << spare >> spare == pattern as i64 {
            return Some(Self::new(1, pattern << spare >> spare));
        }
        (pattern >> 32 == pattern & 0xffff_ffff).then(|| Self(MARK.set(Self::new(1, pattern >> 32).0, 1)))
    }

    /// Makes the word of a page in the pool, REFERENCED. `raw`: it is stored as it came.
    pub const fn stored(short_handle: u64, raw: bool) -> Self {
        Self(RAW.set(REFERENCED.set(Self::new(2, short_handle).0, 1), raw as u64))
    }

    /// Returns the STORED word with another handle of its object.
    pub const fn renamed(self, short_handle: u64) -> Self {
        Self(PAYLOAD.set(self.0, short_handle))
    }

    /// Makes the word of a page in an extent.
    pub const fn backed(at: ExtentEntry) -> Self {
        Self::new(3, SLOT_GENERATION.set(ENTRY.set(at.slot as u64, at.entry as u64), at.generation as u64))
    }

    /// Returns where the page is.
    #[inline]
    pub const fn kind(self) -> WordKind {
        let payload = PAYLOAD.get(self.0);
        let spare = 64 - HANDLE_BITS;
        match STATE.get(self.0) {
            0 => WordKind::Empty,
            1 if self.is_filled_with_32_bits() => WordKind::Filled(payload << 32 | payload),
            1 => WordKind::Filled(((payload << spare) as i64 >> spare) as u64),
            2 => WordKind::Stored(payload),
            _ => WordKind::Backed(ExtentEntry {
                slot: SLOT.get(payload) as u32,
                entry: ENTRY.get(payload) as u8,
                generation: SLOT_GENERATION.get(payload) as u16,
            }),
        }
    }

    /// Whether both words name the same version of the page. Flags may differ.
    pub const fn is_version_of(self, other: Self) -> bool {
        (self.0 ^ other.0) & VERSION == 0
    }

    /// Whether the page was loaded or stored since the clock hand last passed.
    pub const fn is_referenced(self) -> bool {
        REFERENCED.get(self.0) == 1
    }

    /// Returns the word with REFERENCED set or cleared.
    pub const fn with_referenced(self, referenced: bool) -> Self {
        Self(REFERENCED.set(self.0, referenced as u64))
    }

    /// Returns how often time passed for the page since it was used. A REFERENCED page was used since time last passed.
    pub const fn age(self) -> u8 {
        if self.is_referenced() { 0 } else { AGE.get(self.0) as u8 }
    }

    /// Returns the word with this age, at most [`MAX_AGE`].
    pub const fn with_age(self, age: u8) -> Self {
        let age = age as u64;
        Self(AGE.set(self.0, if age < AGE.max() { age } else { AGE.max() }))
    }

    /// Returns the word after its page was passed by because it was used: the page has a second chance, and no age.
    pub const fn with_second_chance(self) -> Self {
        self.with_referenced(false).with_age(0)
    }

    /// Returns the word after time passed for its page.
    pub const fn after_a_while(self) -> Self {
        if self.is_referenced() { self.with_second_chance() } else { self.with_age(self.age() + 1) }
    }

    /// Whether the pattern of a FILLED word is 32 bits that repeat.
    const fn is_filled_with_32_bits(self) -> bool {
        MARK.get(self.0) == 1
    }

    /// Whether recompression of the STORED page gained nothing.
    pub const fn is_vain_to_recompress(self) -> bool {
        MARK.get(self.0) == 1
    }

    /// Returns a STORED word with the note that recompression gains nothing.
    pub const fn noted_vain_to_recompress(self) -> Self {
        Self(MARK.set(self.0, 1))
    }

    /// Whether the page is stored as it came.
    pub const fn is_raw(self) -> bool {
        RAW.get(self.0) == 1
    }

    /// Whether the stretch of the index is being given back.
    pub const fn is_frozen(self) -> bool {
        FROZEN.get(self.0) == 1
    }

    /// Whether a writeback of this offset runs.
    pub const fn has_writeback(self) -> bool {
        WRITEBACK.get(self.0) == 1
    }

    /// Whether a writeback runs that has to end before the offset is the caller's again.
    pub const fn must_be_awaited(self) -> bool {
        self.has_writeback() && OWN.get(self.0) == 0
    }

    /// Returns the number of the writeback that runs. It comes round after 64 claims.
    pub const fn claim(self) -> u8 {
        CLAIM.get(self.0) as u8
    }

    /// Returns the word claimed for writeback. It has the low bits of the claim's number. `own`: only this claim writes
    /// to its place on disk.
    pub const fn claimed(self, claim: u8, own: bool) -> Self {
        Self(OWN.set(CLAIM.set(WRITEBACK.set(self.0, 1), claim as u64 & CLAIM.max()), own as u64))
    }

    /// Returns what stays when the page goes.
    pub const fn removed(self) -> Self {
        Self(self.0 & STICKY)
    }

    /// Returns the word after `new` replaced its page.
    pub const fn replaced_by(self, new: Self) -> Self {
        Self(new.0 | self.0 & STICKY)
    }
}

/// Mask of the bits that a removal keeps.
pub const KEPT_BY_REMOVAL: u64 = STICKY;
/// Mask of the bits that the end of a writeback keeps.
pub const KEPT_BY_END: u64 = !(WRITEBACK.mask() | OWN.mask() | CLAIM.mask());
/// Mask of the bits that the end of a freeze keeps.
pub const KEPT_BY_THAW: u64 = !FROZEN.mask();

impl std::fmt::Debug for PageWord {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", self.kind())?;
        let flags = [
            (self.is_referenced(), " referenced"),
            (MARK.get(self.0) == 1, " marked"),
            (self.is_raw(), " raw"),
            (self.is_frozen(), " frozen"),
        ];
        flags.iter().filter(|(set, _)| *set).try_for_each(|(_, name)| out.write_str(name))?;
        if self.age() > 0 {
            write!(out, " age {}", self.age())?;
        }
        if self.has_writeback() { write!(out, " writeback {}", self.claim()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_come_back_as_they_were() {
        let fits =
            [0, 1, 0x7fff_ffff_ffff, u64::MAX, 0xffff_8000_0000_0000, 0xdead_beef_dead_beef, 0x8000_0000_8000_0000];
        for pattern in fits {
            assert_eq!(PageWord::filled(pattern).map(PageWord::kind), Some(WordKind::Filled(pattern)));
        }
        for pattern in [0x8000_0000_0000, 0x0001_0000_0000_0000, 0xdead_beef_dead_bee0] {
            assert_eq!(PageWord::filled(pattern), None);
        }
    }

    #[test]
    fn a_removal_and_a_replacement_keep_what_belongs_to_the_offset() {
        let word = PageWord::stored(0x1234_5678_9abc, true).with_age(2).claimed(0xa5, false);
        assert_eq!(word.kind(), WordKind::Stored(0x1234_5678_9abc));
        assert_eq!((word.removed().kind(), word.removed().claim()), (WordKind::Empty, 0x25));
        let replaced = word.replaced_by(PageWord::filled(7).unwrap());
        assert_eq!((replaced.kind(), replaced.claim()), (WordKind::Filled(7), 0x25));
        assert_eq!(PageWord(replaced.0 & KEPT_BY_END), PageWord::filled(7).unwrap());
        assert!(PageWord::FROZEN.removed().is_frozen());
        assert_eq!(PageWord::EMPTY.0, 0);
        for (slot, entry, generation) in [((1 << 26) - 1, 0, u16::MAX), (0, 63, 0), (5, 6, 7)] {
            let at = ExtentEntry { slot, entry, generation };
            assert_eq!(PageWord::backed(at).kind(), WordKind::Backed(at));
        }
    }

    #[test]
    fn a_page_ages_until_it_is_used_or_replaced() {
        let stored = PageWord::stored(5, true);
        assert_eq!((stored.is_referenced(), stored.age()), (true, 0));
        let mut word = stored;
        for age in [0, 1, 2, 3, 3] {
            word = word.after_a_while();
            assert_eq!((word.is_referenced(), word.age()), (false, age), "{word:?}");
            assert!(word.is_version_of(stored));
        }
        let used = word.with_referenced(true);
        assert_eq!((used.age(), used.after_a_while().age(), used.after_a_while().after_a_while().age()), (0, 0, 1));
        assert_eq!(word.renamed(6).age(), 3);
        assert_eq!(word.claimed(63, true).age(), 3);
        assert_eq!(PageWord(word.claimed(63, true).0 & KEPT_BY_END), word);
        assert_eq!(word.replaced_by(PageWord::stored(6, false).with_referenced(false)).age(), 0);
        assert_eq!(word.removed(), PageWord::EMPTY);
    }
}
