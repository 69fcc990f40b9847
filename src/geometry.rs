//! The geometry of each size class: how large a slot is, and how many pages a zspage has. Computed at compile time.

use crate::units::{ClassIndex, MAX_SLOTS, PAGE};

/// The largest object, in bytes: a page and a small header.
pub const MAX_ALLOC_SIZE: usize = PAGE + 16;
/// Bytes of the smallest slot.
const MIN_SLOT: usize = PAGE / MAX_SLOTS;
/// Slot sizes are multiples of this, and so are the addresses of objects.
pub const ALIGN: usize = 16;
/// From this size on, classes are two steps apart. The rounding costs the same share of an object, and only half as
/// many classes keep a zspage that is partly empty.
const WIDE_FROM: usize = PAGE / 2;
/// Bytes of a zspage's record in the zspage table. A class weighs them against the unused tail of its zspages.
pub const RECORD_BYTES: usize = 320;
/// The most pages of a zspage.
pub const MAX_ZSPAGE_PAGES: usize = 64;

/// The geometry of a size class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Bytes of a slot.
    pub slot_bytes: u16,
    /// Pages of a zspage.
    pub pages: u8,
    /// Slots in a zspage.
    pub slots: u8,
    /// 8 / `slots` as a fraction of 2^16, rounded up. It tells which eighth of a zspage is full without a division.
    eighths: u16,
}

impl Geometry {
    /// Returns how many pages the first `slots` slots of a zspage touch.
    pub const fn pages_of_slots(self, slots: usize) -> usize {
        crate::units::pages_of(slots * self.slot_bytes as usize)
    }

    /// Returns how many whole eighths of its slots are taken in a zspage with `count` taken slots.
    #[inline]
    pub const fn eighths_full(self, count: u8) -> u8 {
        ((count as u32 * self.eighths as u32) >> 16) as u8
    }

    /// Returns where a slot begins, in bytes from the start of its zspage.
    #[inline]
    pub const fn offset(self, slot: u8) -> usize {
        slot as usize * self.slot_bytes as usize
    }

    /// Chooses the zspage that costs the fewest bytes for each slot, with its tail and its record. Of equals it chooses
    /// the longest, which shares its record among the most slots. On the LZ4 sizes of real pages that is worth 0.3 % of
    /// density over the shortest, and the weight of the record hardly matters (`cargo bench --bench density`).
    const fn with_slot(slot_bytes: usize) -> Self {
        let (mut best_bytes, mut best_pages, mut best_slots) = (usize::MAX / MAX_SLOTS, 0, 1);
        let mut pages = 1;
        while pages <= MAX_ZSPAGE_PAGES {
            let slots = pages * PAGE / slot_bytes;
            let bytes = pages * PAGE + RECORD_BYTES;
            if slots > 0 && slots <= MAX_SLOTS && bytes * best_slots <= best_bytes * slots {
                (best_bytes, best_pages, best_slots) = (bytes, pages, slots);
            }
            pages += 1;
        }
        let eighths = (8usize << 16).div_ceil(best_slots) as u16;
        Self { slot_bytes: slot_bytes as u16, pages: best_pages as u8, slots: best_slots as u8, eighths }
    }
}

/// Returns the bytes of a slot of the class with this index.
const fn slot_bytes(index: usize) -> usize {
    let narrow = (WIDE_FROM - MIN_SLOT) / ALIGN;
    let wide = WIDE_FROM + index.saturating_sub(narrow) * 2 * ALIGN;
    let bytes = if index < narrow { MIN_SLOT + index * ALIGN } else { wide };
    if bytes < MAX_ALLOC_SIZE { bytes } else { MAX_ALLOC_SIZE }
}

/// How many size classes there are. Under loom there are two, with zspages of two slots, because models are about races
/// and not about sizes.
pub const CLASS_COUNT: usize = if cfg!(loom) { 2 } else { class_of(MAX_ALLOC_SIZE).0 as usize + 1 };

/// The geometries of the size classes, smallest first.
pub const CLASSES: [Geometry; CLASS_COUNT] = {
    let mut classes = [Geometry { slot_bytes: 0, pages: 0, slots: 0, eighths: 0 }; CLASS_COUNT];
    let mut index = 0;
    while index < CLASS_COUNT {
        classes[index] = Geometry::with_slot(slot_bytes(index));
        if cfg!(loom) {
            classes[index].slots = 2;
            classes[index].eighths = 4 << 13;
        }
        index += 1;
    }
    classes
};

#[cfg(not(loom))]
const _: () = {
    let mut index = 0;
    while index < CLASS_COUNT {
        let class = CLASSES[index];
        let used = class.slots as usize * class.slot_bytes as usize;
        let room = class.pages as usize * PAGE;
        assert!(used <= room, "the slots fit their zspage");
        assert!(room - used < room / 50, "less than 2 % of a zspage is unused");
        assert!(class.slots >= 32 && class.slots as usize <= MAX_SLOTS);
        assert!((class.slot_bytes as usize).is_multiple_of(ALIGN));
        let mut count = 0;
        while count < class.slots {
            assert!(class.eighths_full(count) as usize == count as usize * 8 / class.slots as usize);
            count += 1;
        }
        assert!(index == 0 || CLASSES[index - 1].slot_bytes < class.slot_bytes, "classes are in order");
        index += 1;
    }
    assert!(CLASSES[0].slot_bytes as usize == MIN_SLOT);
    assert!(CLASSES[CLASS_COUNT - 1].slot_bytes as usize >= MAX_ALLOC_SIZE, "every size has a class");
};

/// Returns the class of objects of `size` bytes, 1 to [`MAX_ALLOC_SIZE`].
#[inline]
pub const fn class_of(size: usize) -> ClassIndex {
    let size = if size < MIN_SLOT { MIN_SLOT } else { size };
    let index = if size <= WIDE_FROM {
        (size - MIN_SLOT).div_ceil(ALIGN)
    } else {
        (WIDE_FROM - MIN_SLOT) / ALIGN + (size - WIDE_FROM).div_ceil(2 * ALIGN)
    };
    ClassIndex(index as u16)
}

/// Returns the geometry of the class with this index.
#[inline]
pub fn of(index: ClassIndex) -> Geometry {
    CLASSES[index.0 as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class_it_fits() {
        for size in 1..=MAX_ALLOC_SIZE {
            let index = class_of(size);
            assert!(of(index).slot_bytes as usize >= size, "{size} fits its slot");
            if index.0 > 0 {
                assert!((CLASSES[index.0 as usize - 1].slot_bytes as usize) < size, "{size} fits no smaller slot");
            }
        }
    }
}
