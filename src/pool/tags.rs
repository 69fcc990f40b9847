//! How handles of different pools are told apart.
//!
//! A tag of 16 bits is part of the handle's number: no two pools have the same at a time. [`super::Handle`] carries an
//! id beside the number, which no two pools ever have.

use crate::bitmap::{SharedBits, words_of};
use crate::error::{Error, Result, sentence};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The largest tag. The smallest is 1.
const TAGS: u32 = u16::MAX as u32;
const WORDS: usize = words_of(TAGS as usize + 1);

/// A bit for each tag that a pool has. Tags and ids are Relaxed throughout, because they order nothing.
static TAKEN: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
/// Where the next search begins, so that a tag is used again as late as possible.
static NEXT: AtomicU32 = AtomicU32::new(0);
static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// A pool's tag and id. The tag is free again when this is dropped.
pub struct Tag {
    tag: u16,
    id: u64,
}

impl Tag {
    /// Takes a tag that no other pool has, and a new id.
    ///
    /// # Errors
    /// [`Error::Again`] if there are 65,535 pools.
    pub fn take() -> Result<Self> {
        const ALL_TAKEN: Error =
            Error::Again(sentence(&"there are 65,535 pools, as many as handles can tell apart: drop one"));
        let first = NEXT.fetch_add(1, Relaxed) % TAGS;
        let free = |tag: &u32| SharedBits(&TAKEN).set(*tag as usize, Relaxed);
        let tag = (0..TAGS).map(|step| 1 + (first + step) % TAGS).find(free).ok_or(ALL_TAKEN)?;
        Ok(Self { tag: tag as u16, id: LAST_ID.fetch_add(1, Relaxed) + 1 })
    }

    /// Returns the tag, which is not 0.
    #[inline]
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Returns the id, which is not 0.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        SharedBits(&TAKEN).clear(usize::from(self.tag), Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Tags go round while one is in use: nobody else gets it.
    #[test]
    fn a_tag_is_not_given_out_while_it_is_in_use() {
        let kept = Tag::take().unwrap();
        for _ in 0..2 * TAGS {
            let other = Tag::take().unwrap();
            assert!(other.tag() != kept.tag() && other.tag() != 0 && other.id() > kept.id());
        }
    }

    /// A pool may have the tag that a dropped one had, and give out the same numbers. The compiler does not know, so
    /// the handle of the first must be refused: two handles of one object could be mapped to write at once.
    #[test]
    fn handles_of_a_dropped_pool_are_refused_by_the_next_one_with_its_tag() {
        let options = crate::PoolOptions { max_bytes: Some(1 << 20), ..crate::PoolOptions::default() };
        let first = crate::Pool::new("first", &options).unwrap();
        let (mut handle, tag) = (first.malloc(100).unwrap(), first.tag.tag());
        drop(first);
        let before = if tag == 1 { TAGS as u16 } else { tag - 1 };
        let next = loop {
            // Other tests take tags as well.
            if Tag::take().unwrap().tag() == before {
                let pool = crate::Pool::new("next", &options).unwrap();
                if pool.tag.tag() == tag {
                    break pool;
                }
            }
        };
        let mut own = next.malloc(100).unwrap();
        assert_eq!(own.raw(), handle.raw());
        let mut mapped = next.map_mut(&mut own).unwrap();
        assert!(matches!(next.map_mut(&mut handle).map(drop), Err(Error::Stale(_))));
        assert!(matches!(next.read(&handle, &mut [0]), Err(Error::Stale(_))));
        assert!(matches!(next.write(&mut handle, &[0]), Err(Error::Stale(_))));
        assert!(matches!(next.map(&handle).map(drop), Err(Error::Stale(_))));
        mapped[0] = 1;
        assert!(matches!(next.free(handle), Err(Error::Stale(_))));
    }
}
