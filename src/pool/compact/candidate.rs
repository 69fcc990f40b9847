//! The order in which compaction fills and empties zspages, as a number.

use crate::field::Field;
use crate::units::ZspageId;
use crate::word::MAX_ZSPAGES;

/// A zspage that compaction may fill or empty. The smaller it sorts, the sooner it is filled. The larger it sorts, the
/// sooner it is emptied.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate(u64);

const ID: Field = Field::first(28);
const CHUNK: Field = ID.then(24);
const EMPTINESS: Field = CHUNK.then(2);
const OUTLIER: Field = EMPTINESS.then(2);

const _: () = assert!(MAX_ZSPAGES as u64 - 1 == ID.max());
const _: () = assert!(Field::are_apart(&[ID, CHUNK, EMPTINESS, OUTLIER]));

impl Candidate {
    /// No zspage. It sorts last.
    pub const NONE: Self = Self(u64::MAX);

    /// A zspage with the `emptiness` of its chunk, 0 to 3. `outlier` is 0 if the zspage is much fuller than the average
    /// of its class, 2 if it is much sparser, and else 1.
    pub fn new(outlier: u64, emptiness: u64, chunk: usize, id: ZspageId) -> Self {
        let place = CHUNK.set(ID.set(0, id.0.into()), chunk as u64);
        Self(OUTLIER.set(EMPTINESS.set(place, emptiness), outlier))
    }

    /// Returns the zspage.
    pub fn id(self) -> ZspageId {
        ZspageId(ID.get(self.0) as u32)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::units::CHUNK as CHUNK_BYTES;

    #[test]
    fn order_is_by_outlier_then_emptiness_then_chunk_up_to_the_largest_of_each() {
        // The most memory that can be supplied is 4 TiB.
        let last_chunk = (4 << 40) / CHUNK_BYTES - 1;
        let last_id = ZspageId(MAX_ZSPAGES as u32 - 1);
        let mut all = Vec::new();
        for outlier in 0..3 {
            for emptiness in 0..4 {
                for chunk in [0, 1, (1 << 20) - 1, 1 << 20, last_chunk] {
                    for id in [ZspageId(0), ZspageId(1), last_id] {
                        assert_eq!(Candidate::new(outlier, emptiness, chunk, id).id(), id);
                        all.push(Candidate::new(outlier, emptiness, chunk, id));
                    }
                }
            }
        }
        assert!(all.is_sorted() && all.iter().all(|&candidate| candidate < Candidate::NONE));
    }
}
