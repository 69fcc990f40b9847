//! Records in buckets: a doubly linked list for each bucket, and which buckets have any.
//!
//! A record is named by its index. The records lie elsewhere: [`Links`] finds the link of one. A record is in one
//! bucket at a time, and its owner knows in which.

use crate::bitmap::Bitmap;

/// The end of a list; never the index of a record.
pub const NONE: u32 = u32::MAX;

/// The neighbours of a record in its bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Link {
    next: u32,
    prev: u32,
}

impl Link {
    /// The link of a record that is in no bucket.
    pub const NONE: Self = Self { next: NONE, prev: NONE };

    /// Returns the record after this one, or [`NONE`].
    #[inline]
    pub const fn next(self) -> u32 {
        self.next
    }
}

/// Where the links of records are.
pub trait Links {
    /// Returns the link of a record.
    fn link(&mut self, index: u32) -> &mut Link;
}

/// `COUNT` buckets, and a bit for each that has records. `WORDS` times 64 bits are that many at least.
pub struct Buckets<const COUNT: usize, const WORDS: usize> {
    first: [u32; COUNT],
    filled: Bitmap<WORDS>,
}

impl<const COUNT: usize, const WORDS: usize> Buckets<COUNT, WORDS> {
    const ENOUGH_BITS: () = assert!(COUNT <= Bitmap::<WORDS>::LEN);

    /// All buckets empty.
    pub const EMPTY: Self = {
        let () = Self::ENOUGH_BITS;
        Self { first: [NONE; COUNT], filled: Bitmap::EMPTY }
    };

    /// Puts a record that is in no bucket first in a bucket.
    #[inline]
    pub fn push(&mut self, links: &mut impl Links, bucket: usize, index: u32) {
        let next = self.first[bucket];
        if next != NONE {
            links.link(next).prev = index;
        }
        *links.link(index) = Link { next, prev: NONE };
        self.first[bucket] = index;
        self.filled.set(bucket);
    }

    /// Takes a record out of the bucket that it is in.
    #[inline]
    pub fn remove(&mut self, links: &mut impl Links, bucket: usize, index: u32) {
        let Link { next, prev } = *links.link(index);
        if next != NONE {
            links.link(next).prev = prev;
        }
        if prev != NONE {
            links.link(prev).next = next;
            return;
        }
        self.first[bucket] = next;
        if next == NONE {
            self.filled.clear(bucket);
        }
    }

    /// Returns the first record of a bucket, or [`NONE`].
    #[inline]
    pub fn first(&self, bucket: usize) -> u32 {
        self.first[bucket]
    }

    /// Returns the first record of the highest bucket below `end` that has any.
    #[inline]
    pub fn highest_below(&self, end: usize) -> Option<u32> {
        self.filled.highest_set_below(end).map(|bucket| self.first[bucket])
    }

    /// Returns the buckets from `from` on that have records, lowest first.
    pub fn filled_from(&self, from: usize) -> impl Iterator<Item = usize> + '_ {
        let mut from = from;
        std::iter::from_fn(move || {
            let bucket = self.filled.next_set(from)?;
            from = bucket + 1;
            Some(bucket)
        })
    }

    /// Returns the records of a bucket. Panics if its links or its bit are wrong.
    #[cfg(test)]
    pub fn check(&self, bucket: usize, link: impl Fn(u32) -> Link) -> Vec<u32> {
        let (mut found, mut at, mut before) = (Vec::new(), self.first[bucket], NONE);
        while at != NONE {
            assert_eq!(link(at).prev, before, "record {at} of bucket {bucket} has another one before it");
            assert!(!found.contains(&at) || found.len() > 1 << 16, "bucket {bucket} is a circle");
            found.push(at);
            (before, at) = (at, link(at).next);
        }
        assert_eq!(self.filled.is_set(bucket), !found.is_empty(), "the bit of bucket {bucket} is wrong");
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Links for Vec<Link> {
        fn link(&mut self, index: u32) -> &mut Link {
            &mut self[index as usize]
        }
    }

    #[test]
    fn records_are_where_a_list_of_lists_has_them() {
        let mut links = vec![Link::NONE; 50];
        let mut buckets = Buckets::<70, 2>::EMPTY;
        let mut lists = vec![Vec::new(); 70];
        let mut is_in = vec![None; 50];
        let mut seed = 3_u64;
        for _ in 0..5000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (record, bucket) = ((seed >> 33) as usize % 50, (seed >> 45) as usize % 70);
            match is_in[record].take() {
                None => {
                    buckets.push(&mut links, bucket, record as u32);
                    lists[bucket].insert(0, record as u32);
                    is_in[record] = Some(bucket);
                }
                Some(bucket) => {
                    buckets.remove(&mut links, bucket, record as u32);
                    lists[bucket].retain(|at| *at as usize != record);
                }
            }
            let filled = |from: usize| (from..70).filter(|&at: &usize| !lists[at].is_empty());
            assert!(buckets.filled_from(bucket).eq(filled(bucket)));
            assert_eq!(buckets.highest_below(bucket), filled(0).rfind(|&at| at < bucket).map(|at| lists[at][0]));
            assert_eq!(buckets.first(bucket), lists[bucket].first().copied().unwrap_or(NONE));
        }
        let link = |at: u32| links[at as usize];
        assert!((0..70).all(|bucket| buckets.check(bucket, link) == lists[bucket]));
    }
}
