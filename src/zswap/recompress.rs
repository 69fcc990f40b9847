//! Recompression: pages that stayed cold are stored anew with a stronger codec, if that takes a smaller slot.

use super::allocate::Packed;
use super::area::{Area, AreaState};
use super::codec::{Codec, Target};
use super::pool_objects::{self, NewEntry, PinnedObject};
use super::running_calls::RunningCall;
use super::word::{PageWord, WordKind};
use crate::error::Result;
use crate::sync::Ordering::Relaxed;
use crate::units::{AlignedPage, PAGE};

impl Area {
    /// Looks at up to `pages` pages in the pool, from where the last call ended, once around the area at most. Pages
    /// that were not used since are stored anew with `codec` if that takes a smaller slot; otherwise they are marked,
    /// so that they are not tried again. Pages that were used get a second chance. Returns how many became smaller.
    ///
    /// A page that finds no room in the pool for its new copy beside the old one stays as it is. The limits do not
    /// hinder it: only the smaller copy is charged.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the codec's level is wrong; [`crate::Error::Removed`]; [`crate::Error::NoMemory`]
    /// if there is no memory for the codec's contexts; [`crate::Error::Forked`] in a child without the pool.
    pub fn recompress(&self, pages: u64, codec: Codec) -> Result<u64> {
        let area = &self.0;
        let call = area.begin()?;
        area.shared.contexts.prepare(codec)?;
        let end = area.index.pages();
        let (mut at, mut left, mut smaller) = (area.recompress_hand.load(Relaxed), end, 0);
        let mut looked = 0;
        while left > 0 && looked < pages {
            let found = area.index.next_used(at, end);
            let next = found.map_or(end, |(offset, _)| offset + 1);
            left = left.saturating_sub((next - at).max(1));
            at = if next == end { 0 } else { next };
            area.recompress_hand.store(at, Relaxed);
            if let Some((offset, word)) = found
                && matches!(word.kind(), WordKind::Stored(_))
            {
                looked += 1;
                smaller += u64::from(area.recompress_if_cold(&call, offset, word, codec));
            }
        }
        Ok(smaller)
    }
}

impl AreaState {
    fn recompress_if_cold(&self, call: &RunningCall<'_>, offset: u64, seen: PageWord, codec: Codec) -> bool {
        let page = self.page(offset);
        // Before REFERENCED is cleared: it tells the end of a writeback that the page was loaded meanwhile.
        if seen.has_writeback() {
            return false;
        }
        if seen.is_referenced() {
            page.exchange_relaxed(seen, seen.with_second_chance());
            return false;
        }
        if seen.is_vain_to_recompress() {
            return false;
        }
        let (word, Some(pinned)) = page.find(&self.shared.pool) else { return false };
        let Some(copy) = self.smaller_copy(call, offset, word, &pinned, codec) else { return false };
        if !self.replace_same(call, offset, word, copy.word()) {
            return false;
        }
        drop(pinned);
        // Of the two only the old one was charged.
        let bytes = copy.slot_bytes();
        copy.keep();
        if let WordKind::Stored(handle) = word.kind() {
            self.limits().uncharge(pool_objects::free(&self.shared.pool, handle) - bytes);
        }
        true
    }

    /// Makes a smaller copy of a pinned page, which is not charged. None if the codec makes none, or there is no room.
    fn smaller_copy(
        &self,
        call: &RunningCall<'_>,
        offset: u64,
        word: PageWord,
        pinned: &PinnedObject<'_>,
        codec: Codec,
    ) -> Option<NewEntry<'_>> {
        let mut page = AlignedPage([0; PAGE]);
        if self.decode(offset, pinned, &mut page.0, Target::Own).is_err() {
            call.count(|counts| counts.decode_failures += 1);
            return None;
        }
        let mut context = self.shared.contexts.take();
        let packed = context.compress(codec, &page.0).and_then(|(stored, bytes)| {
            let slot_bytes = self.shared.pool.class_size(bytes).ok()?;
            (slot_bytes < pinned.slot().len()).then_some(Packed { stored, bytes, slot_bytes })
        });
        let Some(packed) = packed else {
            drop(context);
            if self.page(offset).exchange_relaxed(word, word.noted_vain_to_recompress()) {
                call.count(|counts| counts.recompress_useless += 1);
            }
            return None;
        };
        self.put(self.seed(offset), packed, &mut context).ok()
    }

    /// Puts the smaller copy in the place of the very version that it is a copy of, which is still pinned. The page
    /// stays as cold as it was.
    fn replace_same(&self, call: &RunningCall<'_>, offset: u64, word: PageWord, new: PageWord) -> bool {
        let mut shard = call.lock();
        let replaced = self.page(offset).exchange(word, new.with_referenced(false).with_age(word.age()));
        if replaced {
            shard.counts.went(word);
            shard.counts.came(new);
            shard.counts.recompressed += 1;
        }
        replaced
    }
}
