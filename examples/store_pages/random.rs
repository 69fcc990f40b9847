//! Numbers that look random and are the same in every run, so that figures can be compared.

/// The splitmix64 generator.
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Puts `items` in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (2..=items.len()).rev() {
            items.swap(end - 1, self.below(end));
        }
    }
}

/// Makes pages of all kinds for tests: a fifth repeats a word, a fifth does not compress, the others compress more or
/// less.
#[cfg(test)]
pub fn pages(count: usize) -> Vec<[u8; super::PAGE]> {
    let mut random = Random(3);
    let page = |kind: usize| {
        let mut page = [kind as u8; super::PAGE];
        page[..kind % 5 * 1024].fill_with(|| random.next() as u8);
        page
    };
    (0..count).map(page).collect()
}
