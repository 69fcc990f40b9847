//! The comparisons after steps: counts with the expected counts, words and bytes with the expected pages.

use super::pages::pages;
use super::world::{AreaModel, BackingKind, World};
use crate::tests::shared::unless_zero;
use crate::zswap::word::WordKind;
use crate::{Counts, LoadFlags, PAGE_SIZE};

impl World {
    /// Compares the counts of an area, after each step on it.
    pub fn check_area(&mut self, at: usize) {
        let model = &mut self.areas[at];
        let stats = model.area.stats().expect("an area that is there");
        let counts = &stats.counts;
        assert_eq!(counts.pages(), model.held.len() as u64, "pages that are stored");
        let max = if model.max == 0 { u64::MAX } else { model.max };
        assert!(
            stats.max_bytes == unless_zero(model.max) && stats.used_bytes <= model.ceiling,
            "the area's limit is exceeded: {stats:?}"
        );
        model.ceiling = max.max(model.ceiling.min(stats.used_bytes));
        assert!(counts.pool_pages() > 0 || stats.used_bytes == 0, "{stats:?}");
        compare_events(counts, &model.tally);
    }

    /// Compares the whole zswap, now and then.
    pub fn check_all(&mut self) {
        let snapshot = self.zswap.snapshot().expect("statistics are not refused");
        let stats = &snapshot.zswap;
        let max = if self.max == 0 { u64::MAX } else { self.max };
        assert!(
            stats.max_bytes == unless_zero(self.max) && stats.used_bytes <= self.ceiling,
            "the limit is exceeded: {stats:?}"
        );
        self.ceiling = max.max(self.ceiling.min(stats.used_bytes));
        assert_eq!((stats.areas, snapshot.areas.len()), (self.areas.len() as u64, self.areas.len()));
        let sum = |of: fn(&Counts) -> u64| snapshot.areas.iter().map(|area| of(&area.stats.counts)).sum::<u64>();
        let gauges: [fn(&Counts) -> u64; 4] =
            [|c| c.compressed_pages, |c| c.raw_pages, |c| c.filled_pages, |c| c.file_pages];
        gauges.iter().for_each(|&of| assert_eq!(of(&stats.counts), sum(of)));
        assert_eq!(stats.used_bytes, snapshot.areas.iter().map(|area| area.stats.used_bytes).sum::<u64>());
        assert_eq!((stats.claims, self.zswap.area_count()), (self.claims.len() as u64, self.areas.len()));
        assert!(stats.file_bytes.is_multiple_of(PAGE_SIZE as u64));
        assert_eq!(
            stats.file_bytes == 0,
            stats.counts.file_pages == 0,
            "extents without pages, or pages without extents"
        );
        let objects = self.zswap.pool().stats().expect("statistics are not refused").objects;
        // An object that a claim has pinned is freed when the claim ends.
        assert!(objects >= stats.counts.pool_pages(), "an object is gone, and its page is not");
        assert!(objects <= stats.counts.pool_pages() + self.claims.len() as u64, "objects that no page names");
        self.areas.iter().for_each(check_words);
        self.check_tiers(stats.counts.file_pages);
    }

    /// Compares the bytes of every page, and of the pages that are only on the disk.
    pub fn check_bytes(&mut self) {
        let mut areas = std::mem::take(&mut self.areas);
        for model in &mut areas {
            for (&offset, held) in &model.held {
                let (mut page, on_file) = ([0; PAGE_SIZE], model.is_on_file(offset));
                let loaded = model.area.load(offset, &mut page, LoadFlags::KEEP);
                if on_file && loaded.is_err_and(|error| self.may_fail_on_tier(error)) {
                    model.tally.file_read_failures += 1;
                    continue;
                }
                assert!(loaded.is_ok() && page == pages()[held.page].bytes, "{loaded:?}");
                model.tally.loads += 1;
                model.tally.file_loads += u64::from(on_file);
                if let Some(running) = model.running.get_mut(&offset) {
                    running.loaded |= running.version == held.version;
                }
            }
            for (offset, page) in &model.gone {
                assert_eq!(model.disk.get(offset), Some(page), "an old version is on the disk");
            }
        }
        self.areas = areas;
    }
}

/// Compares the events that the model knows exactly. It does not know those of writebacks to a file that fails.
fn compare_events(counts: &Counts, tally: &Counts) {
    let events = |c: &Counts| {
        [c.stores, c.loads, c.takes, c.file_loads, c.absent_loads, c.invalidated, c.batch_stores, c.batches_failed]
    };
    assert_eq!(events(counts), events(tally), "stores, loads, takes, file loads, absent, invalidated, batches, failed");
    let more = |c: &Counts| [c.removed_by_failure, c.file_read_failures, c.decode_failures, c.written_back];
    assert_eq!(more(counts), more(tally), "removed by failure, file reads failed, decode failures, written back");
    let ends = |c: &Counts| [c.rescued, c.overtaken, c.writeback_exists, c.writeback_other];
    assert_eq!(ends(counts), ends(tally), "rescued, overtaken, exists, other");
    // Writes to a file fail as well, for lack of memory or of room.
    let refusals = |c: &Counts| [c.writeback_again, c.writeback_no_memory, c.writeback_io, c.writeback_no_space];
    assert!(refusals(counts).iter().zip(refusals(tally)).all(|(counted, known)| *counted >= known), "{counts:?}");
}

/// Compares the words of an area with its pages, and the slots that they name with the charge.
fn check_words(model: &AreaModel) {
    let mut counts = Counts::default();
    let mut used = 0;
    for (&offset, held) in &model.held {
        let (word, page) = (model.area.word_at(offset), &pages()[held.page]);
        assert_eq!(matches!(word.kind(), WordKind::Filled(_)), page.is_filled, "{word:?}");
        match word.kind() {
            WordKind::Empty => panic!("a page is gone: {word:?}"),
            WordKind::Filled(_) => counts.filled_pages += 1,
            WordKind::Backed(_) => counts.file_pages += 1,
            WordKind::Stored(_) if word.is_raw() => counts.raw_pages += 1,
            WordKind::Stored(_) => counts.compressed_pages += 1,
        }
        used += model.area.object_of(offset).map_or(0, |(_, bytes)| bytes as u64);
        assert_eq!(word.has_writeback(), model.running.contains_key(&offset), "{word:?}");
    }
    for offset in model.running.keys().filter(|offset| !model.held.contains_key(offset)) {
        let word = model.area.word_at(*offset);
        assert!(word.has_writeback() && word.kind() == WordKind::Empty, "{word:?}");
    }
    let stats = model.area.stats().expect("an area that is there");
    let gauges = |c: &Counts| [c.compressed_pages, c.raw_pages, c.filled_pages, c.file_pages];
    assert_eq!((gauges(&stats.counts), stats.used_bytes), (gauges(&counts), used), "pages by kind, and their bytes");
}

/// Returns how many pages a shrink wrote to a file, by its counts.
pub fn file_delta(world: &World) -> u64 {
    let count = |model: &AreaModel| model.area.stats().expect("an area that is there").counts.written_back;
    world.areas.iter().map(count).sum()
}

impl World {
    /// Notes, after a shrink to a file, which pages went there.
    pub fn note_file_writes(&mut self) {
        assert!(matches!(self.backing, BackingKind::File(_) | BackingKind::Tiers));
        for model in &mut self.areas {
            model.tally.written_back = model.area.stats().expect("an area that is there").counts.written_back;
        }
    }
}
