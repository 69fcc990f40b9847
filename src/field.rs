//! Fields of packed words. No other file shifts by the position of one of these fields.
//!
//! The fields of a word are declared one after the other, and asserted to lie apart at compile time:
//!
//! ```text
//! const KIND: Field = Field::first(2);
//! const COUNT: Field = KIND.then(30);
//! const _: () = assert!(Field::fill(&[KIND, COUNT], 32));
//! ```

/// Some bits of a word of up to 64 bits, as a number.
#[derive(Clone, Copy)]
pub struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    /// The field of `bits` bits from bit `shift` on.
    const fn new(shift: u32, bits: u32) -> Self {
        assert!(bits > 0 && shift + bits <= u64::BITS, "a field lies inside its word");
        Self { shift, bits }
    }

    /// The field of the lowest `bits` bits.
    pub const fn first(bits: u32) -> Self {
        Self::new(0, bits)
    }

    /// The field of `bits` bits that follows this one.
    pub const fn then(self, bits: u32) -> Self {
        Self::new(self.shift + self.bits, bits)
    }

    /// Returns how many bits it has.
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// Returns the largest value that it can have.
    pub const fn max(self) -> u64 {
        u64::MAX >> (u64::BITS - self.bits)
    }

    /// Returns its bits in a word.
    pub const fn mask(self) -> u64 {
        self.max() << self.shift
    }

    /// Returns its value in a word.
    #[inline]
    pub const fn get(self, word: u64) -> u64 {
        (word & self.mask()) >> self.shift
    }

    /// Returns a word with this value in it.
    #[inline]
    pub const fn set(self, word: u64, value: u64) -> u64 {
        debug_assert!(value >> (self.bits - 1) >> 1 == 0, "the value has no more bits than its field");
        (word & !self.mask()) | value << self.shift
    }

    /// Returns whether no bit is in two of the fields.
    pub const fn are_apart(fields: &[Self]) -> bool {
        let (mut taken, mut at) = (0, 0);
        while at < fields.len() {
            if taken & fields[at].mask() != 0 {
                return false;
            }
            taken |= fields[at].mask();
            at += 1;
        }
        true
    }

    /// Returns whether each of the lowest `bits` bits is in exactly one of the fields, and no other bit is.
    pub const fn fill(fields: &[Self], bits: u32) -> bool {
        let (mut taken, mut at) = (0, 0);
        while at < fields.len() {
            taken |= fields[at].mask();
            at += 1;
        }
        Self::are_apart(fields) && taken == Self::first(bits).mask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: Field = Field::first(3);
    const MIDDLE: Field = LOW.then(28);
    const HIGH: Field = MIDDLE.then(33);

    #[test]
    fn a_value_is_read_as_it_was_written_and_others_stay() {
        let word = HIGH.set(MIDDLE.set(LOW.set(0, 5), MIDDLE.max()), 1 << 32);
        assert_eq!((LOW.get(word), MIDDLE.get(word), HIGH.get(word)), (5, (1 << 28) - 1, 1 << 32));
        let word = MIDDLE.set(word, 0);
        assert_eq!((LOW.get(word), MIDDLE.get(word), HIGH.get(word)), (5, 0, 1 << 32));
        let whole = Field::first(64);
        assert_eq!((whole.set(7, u64::MAX), whole.get(u64::MAX), whole.max()), (u64::MAX, u64::MAX, u64::MAX));
    }

    #[test]
    fn fields_that_overlap_or_leave_bits_out_are_found() {
        assert!(Field::fill(&[HIGH, LOW, MIDDLE], 64) && Field::fill(&[LOW, MIDDLE], 31));
        assert!(!Field::fill(&[LOW, HIGH], 64) && !Field::fill(&[LOW, MIDDLE], 32));
        assert!(Field::are_apart(&[LOW, HIGH]) && !Field::are_apart(&[LOW, MIDDLE, Field::new(30, 2)]));
    }
}
