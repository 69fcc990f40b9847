//! The round of the pages through a zswap, measuring time and memory.
//!
//! Plain LZ4 takes turns with it, so that both meet the same machine. While zswap stores or loads some pages, plain LZ4
//! is half of all pages ahead, so that neither warms the caches for the other.

use super::plain::Plain;
use super::random::Random;
use super::report::{Compaction, Report, Step, file_loads};
use super::tiers::TierFile;
use super::times::Times;
use super::turns::Turns;
use super::{PAGE, Problem, Result, memory};
use indicatif::ProgressBar;
use std::ops::Range;
use std::time::Instant;
use zsalloc::{Area, AreaOptions, Codec, CompactBudget, Error, LoadFlags, Patience, Zswap, ZswapOptions, ZswapStats};

/// Pages to write back when the limit is reached.
const WRITTEN_AT_ONCE: u64 = 256;
/// How often in a row writeback may write nothing when all pages are to leave memory: at first the clock hand may do
/// no more than clear marks.
const IDLE: usize = 8;

/// Settings of the zswap.
#[derive(Default)]
pub struct Plan<'a> {
    /// How many bytes stored pages may take. `None`: no limit.
    pub limit: Option<u64>,
    /// The codec.
    pub codec: Codec,
    /// The files that pages are written back to, in this order. Without a limit all pages are.
    pub tiers: &'a [TierFile],
}

/// The zswap and its area, which keep their memory until the caller drops this.
pub struct Stored {
    pub zswap: Zswap,
    pub area: Area,
}

struct Round<'a> {
    pages: &'a [[u8; PAGE]],
    progress: &'a ProgressBar,
    stored: Stored,
    has_tiers: bool,
    plain: Plain,
    store: Times,
    plain_store: Times,
    load: Times,
    plain_load: Times,
    /// Which pages were loaded from tiers.
    from_file: Vec<bool>,
    /// The stored pages, in the order in which they are loaded.
    order: Vec<u32>,
    baseline: u64,
    report: Report,
}

/// Sends `pages` through a new zswap.
pub fn round(pages: &[[u8; PAGE]], plan: &Plan<'_>, progress: &ProgressBar) -> Result<(Report, Stored)> {
    let mut round = Round::new(pages, plan, progress)?;
    round.store_all()?;
    round.note("stored")?;
    if plan.limit.is_none() && !plan.tiers.is_empty() {
        round.write_all()?;
        round.note("left memory")?;
    }
    round.count()?;
    round.load_all()?;
    round.summarise()?;
    round.load_in_order()?;
    let removed = round.remove_half()?;
    round.note("half removed")?;
    round.store_again(&removed)?;
    round.compact()?;
    round.note("compacted")?;
    round.verify_rest()?;
    Ok((round.report, round.stored))
}

impl<'a> Round<'a> {
    /// Allocates and touches all memory that the round needs, except what plain LZ4 fills; then measures the process's
    /// memory; then creates the zswap.
    fn new(pages: &'a [[u8; PAGE]], plan: &Plan<'_>, progress: &'a ProgressBar) -> Result<Self> {
        let no_memory = |_| Problem::Refused("out of memory for the tables of the pages".to_owned());
        let (mut from_file, mut order) = (Vec::new(), Vec::new());
        from_file.try_reserve_exact(pages.len()).map_err(no_memory)?;
        order.try_reserve_exact(pages.len()).map_err(no_memory)?;
        from_file.resize(pages.len(), true);
        from_file.fill(false);
        order.extend(0..pages.len() as u32);
        let times = || Times::new(pages.len());
        let (store, plain_store, load, plain_load) = (times()?, times()?, times()?, times()?);
        let plain = Plain::new(pages.len())?;
        progress.set_length(pages.len() as u64 * 2);
        let report = Report { limit: plan.limit, steps: Vec::with_capacity(4), ..Report::default() };
        let baseline = memory::resident()? + plain.bytes();
        let stored = create(pages.len(), plan)?;
        let has_tiers = !plan.tiers.is_empty();
        Ok(Self {
            pages,
            progress,
            stored,
            has_tiers,
            plain,
            store,
            plain_store,
            load,
            plain_load,
            from_file,
            order,
            baseline,
            report,
        })
    }

    fn store_all(&mut self) -> Result<()> {
        self.progress.set_message("storing");
        let turns = Turns::new(self.pages.len());
        for turn in 0..turns.count {
            let now = turns.at(turn);
            self.progress.inc(now.len() as u64);
            for page in now {
                if self.report.stopped.is_none() && self.store_page(page)? {
                    self.report.held += 1;
                }
            }
            self.store_plain(turns.ahead(turn));
        }
        self.order.retain(|&page| (page as usize) < self.report.held);
        self.plain.touch_rest();
        Ok(())
    }

    /// Stores a page. Returns whether it was taken.
    fn store_page(&mut self, page: usize) -> Result<bool> {
        loop {
            let begin = Instant::now();
            let stored = self.stored.area.store(page as u64, &self.pages[page]);
            let time = begin.elapsed();
            match stored {
                Ok(()) => {
                    self.store.note(page, time);
                    return Ok(true);
                }
                Err(full @ (Error::Limit(_) | Error::NoMemory(_))) => {
                    if let Err(why) = self.make_room(WRITTEN_AT_ONCE)? {
                        let met = if self.limit_hits()? > 0 { "the limit is met" } else { full.text() };
                        let why = format!("{met}, and {why}");
                        self.report.stopped = Some(why);
                        return Ok(false);
                    }
                }
                Err(error) => return Err(damaged("a page could not be stored", error)),
            }
        }
    }

    /// Lets all pages leave memory, as far as the tiers have room.
    fn write_all(&mut self) -> Result<()> {
        self.progress.set_message("writing back");
        let (mut idle, mut why) = (0, None);
        while idle < IDLE && self.stats()?.counts.pool_pages() > 0 {
            (idle, why) = match self.make_room(self.pages.len() as u64)? {
                Ok(()) => (0, None),
                Err(reason) => (idle + 1, Some(reason)),
            };
        }
        self.report.kept = why;
        Ok(())
    }

    /// Writes some pages back. Returns a reason if that is impossible.
    fn make_room(&mut self, pages: u64) -> Result<std::result::Result<(), &'static str>> {
        if !self.has_tiers {
            return Ok(Err("there is no tier (--tier file:PATH)"));
        }
        let begin = Instant::now();
        let written = self.stored.zswap.shrink(pages);
        self.report.writeback += begin.elapsed();
        match written {
            Ok(_) => Ok(Ok(())),
            Err(error @ (Error::Again(_) | Error::NotFound(_))) => {
                let counts = self.stats()?.counts;
                Ok(Err(match () {
                    () if counts.writeback_no_space > 0 => "the tiers have no room for more",
                    () if counts.writeback_io > 0 => "no tier can be written",
                    () => error.text(),
                }))
            }
            Err(error) => Err(damaged("pages could not be written back", error)),
        }
    }

    fn limit_hits(&self) -> Result<u64> {
        self.stats().map(|stats| stats.limit_hits)
    }

    fn stats(&self) -> Result<ZswapStats> {
        self.stored.zswap.stats().map_err(|error| damaged("the zswap's statistics can't be read", error))
    }

    /// Stores pages with plain LZ4: those that zswap took, or may still take.
    fn store_plain(&mut self, pages: Range<usize>) {
        let end = if self.report.stopped.is_some() { self.report.held } else { self.pages.len() };
        for page in pages.start..pages.end.min(end) {
            let begin = Instant::now();
            self.plain.store(page, &self.pages[page]);
            self.plain_store.note(page, begin.elapsed());
        }
    }

    /// Counts what became of the pages.
    fn count(&mut self) -> Result<()> {
        let stats = self.stats()?;
        self.report.counts = stats.counts;
        self.report.limit_hits = stats.limit_hits;
        Ok(())
    }

    fn load_all(&mut self) -> Result<()> {
        self.progress.set_length((self.pages.len() + self.order.len()) as u64);
        self.progress.set_message("loading");
        Random(2).shuffle(&mut self.order);
        let order = std::mem::take(&mut self.order);
        let turns = Turns::new(order.len());
        let mut room = Box::new([0; PAGE]);
        for turn in 0..turns.count {
            for &page in &order[turns.at(turn)] {
                self.load_page(page as usize, &mut room)?;
            }
            for &page in &order[turns.ahead(turn)] {
                self.load_plain(page as usize, &mut room)?;
            }
            self.progress.inc(turns.at(turn).len() as u64);
        }
        self.order = order;
        Ok(())
    }

    fn load_page(&mut self, page: usize, room: &mut [u8; PAGE]) -> Result<()> {
        let watched = self.report.counts.written_back > 0;
        let before = if watched { file_loads(&self.stored.area)? } else { 0 };
        let begin = Instant::now();
        let loaded = self.stored.area.load(page as u64, room, LoadFlags::KEEP);
        self.load.note(page, begin.elapsed());
        loaded.map_err(|error| damaged(&format!("page {page} could not be loaded"), error))?;
        self.from_file[page] = watched && file_loads(&self.stored.area)? > before;
        self.verify(page, room)
    }

    fn load_plain(&mut self, page: usize, room: &mut [u8; PAGE]) -> Result<()> {
        let begin = Instant::now();
        let loaded = self.plain.load(page, room);
        self.plain_load.note(page, begin.elapsed());
        match loaded && *room == self.pages[page] {
            true => Ok(()),
            false => Err(Problem::Damaged(format!("plain LZ4 does not give page {page} back"))),
        }
    }

    fn verify(&mut self, page: usize, loaded: &[u8; PAGE]) -> Result<()> {
        if *loaded != self.pages[page] {
            return Err(Problem::Damaged(format!("page {page} is not what was stored")));
        }
        self.report.verified += 1;
        Ok(())
    }

    /// Loads the pages on tiers in order.
    fn load_in_order(&mut self) -> Result<()> {
        let on_tiers: Vec<_> = (0..self.report.held).filter(|&page| self.from_file[page]).collect();
        let mut room = Box::new([0; PAGE]);
        for &page in &on_tiers {
            self.load_page(page, &mut room)?;
        }
        self.report.calls.file_load_in_order = self.load.of(on_tiers.into_iter());
        Ok(())
    }

    fn summarise(&mut self) -> Result<()> {
        let held = 0..self.report.held;
        let in_memory = || held.clone().filter(|&page| !self.from_file[page]);
        let calls = &mut self.report.calls;
        calls.store = self.store.of(held.clone());
        calls.plain_store = self.plain_store.of(held.clone());
        calls.load = self.load.of(in_memory());
        calls.plain_load = self.plain_load.of(in_memory());
        calls.file_load = self.load.of(held.clone().filter(|&page| self.from_file[page]));
        let untold = |error| damaged("the statistics of the tiers can't be read", error);
        self.report.tiers = self.stored.zswap.snapshot().map_err(untold)?.tiers;
        Ok(())
    }

    /// Removes the half of the pages that were loaded last.
    fn remove_half(&mut self) -> Result<Vec<u32>> {
        let mut half = self.order.split_off(self.order.len().div_ceil(2));
        let begin = Instant::now();
        half.iter().try_for_each(|&page| self.remove(page))?;
        self.report.removed = (begin.elapsed(), half.len() as u64);
        half.sort_unstable();
        Ok(half)
    }

    fn remove(&self, page: u32) -> Result<()> {
        let removed = self.stored.area.invalidate(page.into(), 1, Patience::Wait);
        removed.map_err(|error| damaged("a page could not be removed", error))
    }

    /// Stores the removed pages again, into memory that the pool already has, loads them, and removes them for good.
    /// Not with a limit: there the first stores already reused memory.
    fn store_again(&mut self, removed: &[u32]) -> Result<()> {
        if self.report.limit.is_some() {
            return Ok(());
        }
        let turns = Turns::new(removed.len());
        for turn in 0..turns.count {
            for &page in &removed[turns.at(turn)] {
                if !self.store_page(page as usize)? {
                    return Err(Problem::Refused("out of memory for pages that there was room for before".to_owned()));
                }
            }
            for &page in &removed[turns.ahead(turn)] {
                self.store_plain(page as usize..page as usize + 1);
            }
        }
        let mut room = Box::new([0; PAGE]);
        for &page in removed {
            let loaded = self.stored.area.load(page.into(), &mut room, LoadFlags::TAKE);
            loaded.map_err(|error| damaged(&format!("page {page} could not be taken"), error))?;
            self.verify(page as usize, &room)?;
        }
        let pages = || removed.iter().map(|&page| page as usize);
        self.report.calls.store_again = self.store.of(pages());
        self.report.calls.plain_store_again = self.plain_store.of(pages());
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        self.progress.set_message("compacting");
        let failed = |error| damaged("the zswap could not be compacted", error);
        let zswap = &self.stored.zswap;
        let before = zswap.pool_stats().map_err(failed)?.objects_moved;
        let begin = Instant::now();
        let pages = zswap.compact(&CompactBudget::default()).map_err(failed)?;
        let time = begin.elapsed();
        let objects_moved = zswap.pool_stats().map_err(failed)?.objects_moved - before;
        self.report.compaction = Compaction { pages, objects_moved, time };
        Ok(())
    }

    /// Checks that the remaining pages are still right, and that the removed ones are gone.
    fn verify_rest(&mut self) -> Result<()> {
        self.progress.set_message("verifying");
        let mut room = Box::new([0; PAGE]);
        self.order.sort_unstable();
        let area = self.stored.area.clone();
        let mut stored = area.stored();
        for page in std::mem::take(&mut self.order) {
            let found = stored.next().ok_or_else(|| Problem::Damaged("a page is gone".to_owned()))?;
            if found != u64::from(page) {
                return Err(Problem::Damaged(format!("page {found} is stored where page {page} should be next")));
            }
            let loaded = area.load(found, &mut room, LoadFlags::KEEP);
            loaded.map_err(|error| damaged(&format!("page {page} could not be loaded"), error))?;
            self.verify(page as usize, &room)?;
        }
        match stored.next() {
            None => Ok(()),
            Some(_) => Err(Problem::Damaged("a page that was removed is still there".to_owned())),
        }
    }

    fn note(&mut self, name: &'static str) -> Result<()> {
        self.report.steps.push(Step::new(name, &self.stored.zswap, self.baseline)?);
        Ok(())
    }
}

/// Creates a zswap with one area of `pages` pages.
fn create(pages: usize, plan: &Plan<'_>) -> Result<Stored> {
    let refused = |error: Error| Problem::Refused(format!("the zswap could not be created: {error}"));
    let options = ZswapOptions { max_bytes: plan.limit, codec: plan.codec, ..ZswapOptions::default() };
    let zswap = Zswap::new("store_pages", &options).map_err(refused)?;
    let area = zswap.add_area(pages as u64, &AreaOptions::default()).map_err(refused)?;
    for tier in plan.tiers {
        let (path, (file, bytes)) = (tier.path().display().to_string(), tier.descriptor());
        let added = zswap.add_file_tier(&path, file, bytes);
        added.map_err(|error| Problem::Refused(format!("the file {path} can't be a tier: {error}")))?;
    }
    Ok(Stored { zswap, area })
}

fn damaged(what: &str, error: Error) -> Problem {
    Problem::Damaged(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::random::pages;
    use super::super::tiers::Named;
    use super::*;

    fn run(pages: &[[u8; PAGE]], plan: &Plan<'_>) -> (Report, Stored) {
        round(pages, plan, &ProgressBar::hidden()).unwrap()
    }

    #[test]
    fn a_round_counts_and_verifies_everything() {
        let (report, stored) = run(&pages(1000), &Plan::default());
        assert_eq!((report.held, report.stopped), (1000, None));
        let counts = report.counts;
        assert_eq!((counts.filled_pages, counts.raw_pages, counts.compressed_pages), (200, 200, 600));
        assert_eq!(report.verified, 1000 + 500 + 500);
        assert_eq!(report.calls.store_again.map(|summary| summary.count), Some(500));
        let summaries = [report.calls.store, report.calls.plain_store, report.calls.load, report.calls.plain_load];
        assert!(summaries.iter().all(|summary| summary.is_some_and(|summary| summary.count == 1000)));
        assert_eq!(report.calls.file_load, None);
        let names: Vec<_> = report.steps.iter().map(|step| (step.name, step.pages)).collect();
        assert_eq!(names, [("stored", 1000), ("half removed", 500), ("compacted", 500)]);
        assert!(report.compaction.pages > 0 && report.steps[2].pool_bytes < report.steps[1].pool_bytes);
        assert_eq!(stored.area.stats().unwrap().counts.pages(), 500);
    }

    /// Creates a file for each size.
    fn tiers(test: &str, sizes: &[Option<u64>]) -> Vec<TierFile> {
        let path = |tier| std::env::temp_dir().join(format!("store_pages-{test}-{tier}-{}", std::process::id()));
        let named = sizes.iter().enumerate().map(|(tier, &bytes)| Named { path: path(tier), bytes });
        TierFile::open(&named.collect::<Vec<_>>(), false, 4 << 20, &[]).unwrap()
    }

    #[test]
    fn pages_go_to_a_file_and_come_back() {
        let file = tiers("file", &[None]);
        let (report, stored) = run(&pages(1000), &Plan { limit: Some(1 << 20), tiers: &file, ..Plan::default() });
        let written = report.counts.written_back;
        assert_eq!((report.held, report.stopped, report.verified), (1000, None, 1500 + written));
        assert!(written > 200 && report.limit_hits > 0);
        assert!(report.calls.file_load.unwrap().count as u64 == written);
        assert!(report.calls.file_load_in_order.unwrap().count as u64 == written);
        assert!(stored.zswap.stats().unwrap().used_bytes <= 1 << 20);
        drop(stored);
        // A file that is too small is filled, and then no more pages are taken.
        let file = tiers("small", &[Some(10 << 12)]);
        let (report, _stored) = run(&pages(1000), &Plan { limit: Some(1 << 20), tiers: &file, ..Plan::default() });
        assert!((10..40).contains(&report.counts.written_back), "{}", report.counts.written_back);
        assert!(report.held < 1000 && report.verified > report.held as u64);
        assert!(report.stopped.is_some_and(|why| why.contains("no room")));
    }

    #[test]
    fn without_a_limit_all_pages_leave_memory() {
        let files = tiers("all", &[Some(1 << 20), None]);
        let (report, _stored) = run(&pages(1000), &Plan { tiers: &files, ..Plan::default() });
        assert_eq!((report.counts.written_back, report.counts.pool_pages(), report.kept), (800, 0, None));
        let of_tiers: Vec<_> = report.tiers.iter().map(|tier| tier.stats.pages).collect();
        assert!(of_tiers.len() == 2 && of_tiers.iter().sum::<u64>() == 800 && !of_tiers.contains(&0), "{of_tiers:?}");
        assert!(report.tiers[0].stats.bytes <= 1 << 20 && report.tiers[0].name.contains("store_pages-all-0"));
        assert!(report.tiers.iter().all(|tier| tier.stats.loads >= tier.stats.pages));
        let names: Vec<_> = report.steps.iter().map(|step| (step.name, step.pages, step.file_pages)).collect();
        assert_eq!(names[..2], [("stored", 1000, 0), ("left memory", 200, 800)]);
        assert_eq!(report.verified, 1000 + 800 + 500 + 500);
        // What has no room on the tiers stays in memory.
        let files = tiers("kept", &[Some(1 << 20)]);
        let (report, _stored) = run(&pages(1000), &Plan { tiers: &files, ..Plan::default() });
        assert!(report.counts.pool_pages() > 0 && report.kept.is_some_and(|why| why.contains("no room")));
    }

    #[test]
    fn without_a_file_the_limit_stops_the_round() {
        let (report, _stored) = run(&pages(1000), &Plan { limit: Some(1 << 20), ..Plan::default() });
        assert!(report.held > 300 && report.held < 1000 && report.stopped.is_some());
        assert_eq!(report.calls.plain_load.unwrap().count, report.held);
        assert!(report.steps[0].slot_bytes <= 1 << 20);
        // In this limit no page fits.
        let tiny = round(&pages(10), &Plan { limit: Some(1), ..Plan::default() }, &ProgressBar::hidden());
        assert!(matches!(tiny, Err(Problem::Refused(_))));
    }

    #[test]
    fn a_wrong_page_is_noticed() {
        let pages = pages(10);
        let progress = ProgressBar::hidden();
        let mut round = Round::new(&pages, &Plan::default(), &progress).unwrap();
        round.store_all().unwrap();
        round.load_all().unwrap();
        let mut other = pages[7];
        other[PAGE - 1] ^= 1;
        round.stored.area.store(7, &other).unwrap();
        assert!(matches!(round.load_all(), Err(Problem::Damaged(_))));
        assert!(matches!(round.verify_rest(), Err(Problem::Damaged(_))));
    }

    #[test]
    fn pages_of_one_word_only_need_no_pool() {
        let (report, _stored) = run(&[[0; PAGE], [0x5a; PAGE]], &Plan { codec: Codec::Raw, ..Plan::default() });
        assert_eq!((report.counts.filled_pages, report.held, report.verified), (2, 2, 4));
        assert_eq!(report.steps[0].ratio(), None);
    }
}
