//! Recompression: what stayed cold is stored anew with a stronger codec, where that lands in a smaller class.

use super::area::{Area, AreaState, Call};
use super::codec::Codec;
use super::page::Objects;
use super::store::Charge;
use super::word::{Kind, PageWord};
use crate::error::Result;
use crate::sync::Ordering::Relaxed;

impl Area {
    /// Looks at up to `pages` pages in the pool, from where the last call ended, once around the area at most: those
    /// that were not used since are stored anew with `codec` if that takes a smaller slot, else marked, so that they
    /// are not tried again. Those that were used get a second chance. Returns how many became smaller.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the codec's level is wrong or the area was removed; [`crate::Error::NoMemory`] if
    /// there is no memory for the codec's contexts; [`crate::Error::Forked`] in a child without the pool. A page that
    /// finds no room in the pool for its new copy beside the old one stays as it is. The limits are no hindrance, for
    /// only the smaller copy is charged.
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
                && matches!(word.kind(), Kind::Stored(_))
            {
                looked += 1;
                smaller += u64::from(area.recompress_if_cold(&call, offset, word, codec));
            }
        }
        Ok(smaller)
    }
}

impl AreaState {
    fn recompress_if_cold(&self, call: &Call<'_>, offset: u64, seen: PageWord, codec: Codec) -> bool {
        let page = self.page(offset);
        // First of all: REFERENCED tells the end of a writeback that the page was loaded meanwhile.
        if seen.has_writeback() {
            return false;
        }
        if seen.is_referenced() {
            page.exchange_relaxed(seen, seen.with_referenced(false));
            return false;
        }
        if seen.is_marked() {
            return false;
        }
        let (word, pinned) = page.find(&self.shared.pool);
        let (Kind::Stored(handle), Some(pinned)) = (word.kind(), pinned) else { return false };
        let done = self.recompress_pinned(call, offset, word, pinned, codec);
        self.shared.pool.unpin(handle);
        let Some((new, bytes)) = done else { return false };
        // Only one of the two is charged: the old one, until the exchange.
        let smaller = self.replace_same(call, offset, word, new);
        let dropped = if smaller { word } else { new };
        if let Kind::Stored(handle) = dropped.kind() {
            let freed = self.free_uncharged(handle);
            self.uncharge(if smaller { freed - bytes } else { 0 });
        }
        smaller
    }

    /// The word of a smaller copy, if there is one to be had, and the bytes of its slot, which are not charged.
    fn recompress_pinned(
        &self,
        call: &Call<'_>,
        offset: u64,
        word: PageWord,
        pinned: (*const u8, usize),
        codec: Codec,
    ) -> Option<(PageWord, u64)> {
        let Ok(copy) = self.decode_aligned(offset, pinned) else {
            call.count(|counts| counts.decode_failures += 1);
            return None;
        };
        let mut context = self.shared.contexts.take();
        let pool = &self.shared.pool;
        let packed = context.compress(codec, &copy.0).and_then(|(stored, bytes)| {
            let slot = pool.class_size(bytes).ok()?;
            (slot < pinned.1).then_some((stored, bytes, slot as u64))
        });
        let Some((stored, bytes, slot_bytes)) = packed else {
            drop(context);
            if self.page(offset).exchange_relaxed(word, word.marked()) {
                call.count(|counts| counts.recompress_useless += 1);
            }
            return None;
        };
        let made = self.put(self.seed(offset), stored, &mut context, bytes, slot_bytes, Charge::Batch);
        made.ok().map(|word| (word, slot_bytes))
    }

    /// Puts the smaller copy in the place of the very version that it is of. It stays as cold as it was.
    fn replace_same(&self, call: &Call<'_>, offset: u64, word: PageWord, new: PageWord) -> bool {
        let mut shard = call.lock();
        let replaced = self.page(offset).exchange(word, new.with_referenced(false));
        if replaced {
            shard.counts.went(word);
            shard.counts.came(new);
            shard.counts.recompressed += 1;
        }
        replaced
    }
}
