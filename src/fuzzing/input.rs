//! Takes numbers from an input.

/// The rest of an input. Once it has ended, all numbers are 0.
#[derive(Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn has_ended(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all bytes that are left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Takes the next `count` bytes, or fewer if the input ends before.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Takes a number of `size` bytes, in little-endian order.
    fn number(&mut self, size: usize) -> u64 {
        self.bytes(size).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Takes a number of one byte.
    pub fn u8(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// Takes a number of two bytes.
    pub fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    /// Takes a number of eight bytes.
    pub fn u64(&mut self) -> u64 {
        self.number(8)
    }

    /// Takes a number of one byte, and makes it less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.u8()) % end.max(1)
    }

    /// Cuts the rest into `count` parts.
    pub fn parts(self, count: usize) -> impl Iterator<Item = Input<'a>> {
        let size = self.0.len().div_ceil(count).max(1);
        (0..count).map(move |part| Input(self.0.chunks(size).nth(part).unwrap_or_default()))
    }
}
