//! The operations on pages, and their expected results. The callback uses them too, from inside a shrink.

use super::pages::{self, pages};
use super::world::{AnyClaim, By, HeldClaim, Running, World};
use crate::plumbing::zswap as plumbing;
use crate::tests::zswap::PageBytes;
use crate::{Codec, Error, LoadFlags, PAGE_SIZE, Patience, Refusal, Result};

/// Fills a destination before a load.
const BEFORE: u8 = 0xc7;

fn assert_untouched(page: &PageBytes) {
    assert!(page.iter().all(|&byte| byte == BEFORE), "a load that failed has written to its destination");
}

/// Checks that a store may fail with this error.
fn assert_refused(world: &World, at: usize, error: Error, pages: &[usize]) {
    match error {
        Error::NoMemory(_) | Error::Limit(_) => {
            assert!(world.may_be_full(at, pages.len() as u64), "refused, and there is room: {error}")
        }
        Error::TooLarge(_) => {
            assert!(pages.iter().any(|&page| world.is_refused_for_good(at, page)), "{error}");
        }
        _ => panic!("{error:?}"),
    }
}

impl World {
    /// Whether a store that fails would wait for a claim that no thread ends.
    fn store_would_hang(&self, at: usize, offset: u64, count: u64) -> bool {
        let mut running = self.areas[at].running.range(offset..offset + count);
        !self.in_callback() && running.any(|(_, running)| running.by == By::Other)
    }

    pub fn store(&mut self, at: usize, offset: u64, page: usize) -> Result<()> {
        if !pages()[page].is_filled && self.store_would_hang(at, offset, 1) {
            return Ok(());
        }
        let result = self.areas[at].area.store(offset, &pages()[page].bytes);
        let version = self.version();
        if let Err(error) = result {
            assert!(!pages()[page].is_filled, "a filled page is never refused: {error}");
            assert_refused(self, at, error, &[page]);
            self.store_failed(at, offset);
            return Err(error);
        }
        assert!(!self.is_refused_for_good(at, page));
        self.areas[at].put(offset, page, version);
        self.areas[at].tally.stores += 1;
        Ok(())
    }

    /// Notes that the store of a page failed: the older page is gone as well, unless the area keeps it.
    fn store_failed(&mut self, at: usize, offset: u64) {
        let model = &mut self.areas[at];
        if model.options.keep_old {
            return;
        }
        model.tally.removed_by_failure += u64::from(model.drop_page(offset));
    }

    pub fn store_pages(&mut self, at: usize, offset: u64, which: &[usize]) -> Result<()> {
        if self.store_would_hang(at, offset, which.len() as u64) {
            return Ok(());
        }
        let bytes: Vec<PageBytes> = which.iter().map(|&page| pages()[page].bytes).collect();
        let result = self.areas[at].area.store_pages(offset, &bytes);
        let offsets = (offset..).zip(which);
        if let Err(error) = result {
            assert_refused(self, at, error, which);
            self.areas[at].tally.batches_failed += 1;
            offsets.for_each(|(offset, _)| self.store_failed(at, offset));
            return Err(error);
        }
        for (offset, &page) in offsets {
            assert!(!self.is_refused_for_good(at, page));
            let version = self.version();
            self.areas[at].put(offset, page, version);
        }
        let tally = &mut self.areas[at].tally;
        tally.stores += which.len() as u64;
        tally.batch_stores += which.len() as u64;
        Ok(())
    }

    pub fn load(&mut self, at: usize, offset: u64, flags: LoadFlags) -> Result<()> {
        let mut page = [BEFORE; PAGE_SIZE];
        if self.would_hang(at, offset, 1, flags) {
            return Ok(());
        }
        let on_file = self.areas[at].is_on_file(offset);
        let result = self.areas[at].area.load(offset, &mut page, flags);
        self.loaded(at, offset, flags, result, &page, on_file);
        result
    }

    /// Whether a take of these pages would wait for a claim that no thread ends.
    pub fn would_hang(&self, at: usize, offset: u64, count: u64, flags: LoadFlags) -> bool {
        let model = &self.areas[at];
        let mut running = model.running.range(offset..offset + count);
        flags.exclusive
            && running.any(|(&offset, _)| model.refusal(offset, flags.patience, self.in_callback()) == Some(None))
    }

    /// Compares the result of one load.
    pub fn loaded(
        &mut self,
        at: usize,
        offset: u64,
        flags: LoadFlags,
        result: Result<()>,
        page: &PageBytes,
        on_file: bool,
    ) {
        let in_callback = self.in_callback();
        let fails = on_file && result.is_err_and(|error| self.may_fail_on_tier(error));
        let model = &mut self.areas[at];
        let refusal = model.refusal(offset, flags.patience, in_callback).flatten().filter(|_| flags.exclusive);
        let Some(held) = model.held.get(&offset).copied() else {
            assert_untouched(page);
            match refusal {
                Some(refused) => refused.assert_is(&result),
                None => {
                    assert!(matches!(result, Err(Error::NotFound(_))), "{result:?}");
                    model.tally.absent_loads += 1;
                }
            }
            return;
        };
        if fails {
            assert_untouched(page);
            model.tally.file_read_failures += 1;
            return;
        }
        assert!(*page == pages()[held.page].bytes, "another page than was stored");
        model.tally.file_loads += u64::from(on_file);
        if let Some(refused) = refusal {
            return refused.assert_is(&result);
        }
        assert_eq!(result, Ok(()));
        model.tally.loads += 1;
        if flags.exclusive {
            model.tally.takes += 1;
            model.drop_page(offset);
        } else if let Some(running) = model.running.get_mut(&offset) {
            running.loaded |= running.version == held.version;
        }
    }

    pub fn load_pages(&mut self, at: usize, offsets: &[u64], contiguous: bool, flags: LoadFlags) -> Result<()> {
        if offsets.iter().any(|&offset| self.would_hang(at, offset, 1, flags)) {
            return Ok(());
        }
        let mut destination = vec![[BEFORE; PAGE_SIZE]; offsets.len()];
        let mut results = Vec::new();
        let on_file: Vec<_> = offsets.iter().map(|&offset| self.areas[at].is_on_file(offset)).collect();
        let area = &self.areas[at].area;
        let note = |place: usize, result| {
            assert_eq!(place, results.len());
            results.push(result);
        };
        let first = if contiguous {
            area.load_pages(offsets[0], &mut destination, flags, note)
        } else {
            area.load_scattered(offsets, &mut destination, flags, note)
        };
        assert_eq!(first, results.iter().copied().find(Result::is_err).unwrap_or(Ok(())));
        for (place, &offset) in offsets.iter().enumerate() {
            self.loaded(at, offset, flags, results[place], &destination[place], on_file[place]);
        }
        first
    }

    pub fn invalidate(&mut self, at: usize, offset: u64, count: u64, patience: Patience) -> Result<()> {
        let in_callback = self.in_callback();
        let model = &mut self.areas[at];
        let running = model.running.range(offset..offset + count);
        let refusals: Vec<_> =
            running.filter_map(|(&offset, _)| model.refusal(offset, patience, in_callback)).collect();
        if refusals.contains(&None) && !refusals.iter().any(Option::is_some) {
            return Ok(());
        }
        let result = model.area.invalidate(offset, count, patience);
        if let Some(refused) = refusals.into_iter().flatten().next() {
            refused.assert_is(&result);
            return result;
        }
        assert_eq!(result, Ok(()));
        model.gone.retain(|at, _| !(offset..offset + count).contains(at));
        let there: Vec<_> = model.held.range(offset..offset + count).map(|(&offset, _)| offset).collect();
        model.tally.invalidated += there.len() as u64;
        there.into_iter().for_each(|offset| _ = model.drop_page(offset));
        Ok(())
    }

    pub fn next_stored(&mut self, at: usize, from: u64) -> Result<()> {
        let model = &self.areas[at];
        let expected = model.held.range(from..).next().map(|(&offset, _)| offset);
        assert_eq!(model.area.stored_in(from..).next(), expected);
        let found = plumbing::next_stored(&model.area, from);
        assert_eq!(found.ok(), expected);
        assert!(found.is_ok() || matches!(found, Err(Error::NotFound(_))));
        found.map(drop)
    }

    /// Claims pages. One is claimed as Rust programs do, and more as C programs do. `other`: on a thread that ends
    /// before the claims do.
    pub fn begin(&mut self, at: usize, most: usize, other: bool) -> Result<()> {
        let mut claims = Vec::new();
        let mut bytes = vec![[BEFORE; PAGE_SIZE]; most];
        let area = self.areas[at].area.clone();
        let mut begin = || match &mut bytes[..] {
            [page] => {
                let claim = area.claim(page)?;
                claims.extend(claim.map(|claim| (claim.offset(), AnyClaim::Guard(claim))));
                Ok(claims.len())
            }
            pages => plumbing::begin_writeback(&area, pages, |claim| claims.push((claim.offset, AnyClaim::Raw(claim)))),
        };
        let begun = if other {
            std::thread::scope(|threads| threads.spawn(begin).join().expect("it does not panic"))
        } else {
            begin()
        };
        if self.areas[at].options.no_writeback {
            assert!(matches!(begun, Err(Error::Invalid(_))), "{begun:?}");
        } else if let Err(error) = begun {
            let room = if self.shape.max_claims == 0 { 4096 } else { self.shape.max_claims };
            assert!(matches!(error, Error::Busy(_)) && self.claims.len() == room, "{error:?}");
        }
        let count = begun?;
        let model = &mut self.areas[at];
        assert_eq!(count, claims.len());
        for ((offset, claim), page) in claims.into_iter().zip(&bytes) {
            let held = model.held[&offset];
            assert!(*page == pages()[held.page].bytes, "another page was claimed");
            let by = if other { By::Other } else { By::Me };
            let running = Running { by, page: held.page, version: held.version, loaded: false, sure: true };
            let before = model.running.insert(offset, running);
            assert!(before.is_none(), "two writebacks of one page");
            self.claims.push(HeldClaim { area: model.area.id(), offset, claim });
        }
        Ok(())
    }

    /// Ends a claim. `Ok` says that the embedder has written its page.
    pub fn end(&mut self, index: usize, result: std::result::Result<(), Refusal>) -> Result<()> {
        let HeldClaim { area, offset, claim } = self.claims.swap_remove(index);
        let at = self.find(area);
        let model = &mut self.areas[at];
        let expected = if result.is_ok() { model.goes(offset) } else { Some(false) };
        let gone = match (claim, result) {
            (AnyClaim::Raw(claim), _) => plumbing::end_writeback(&model.area, &claim, result).expect("it is held"),
            (AnyClaim::Guard(claim), Ok(())) => claim.written().expect("a guard is of a claim that is held"),
            // A claim that is dropped counts as refused with this.
            (AnyClaim::Guard(claim), Err(Refusal::Again)) => {
                drop(claim);
                false
            }
            (AnyClaim::Guard(claim), Err(refusal)) => {
                claim.refuse(refusal);
                false
            }
        };
        assert!(expected.is_none_or(|expected| expected == gone), "{expected:?} was expected: {gone}");
        match result {
            Ok(()) => model.end_written(offset, gone),
            Err(refusal) => {
                model.running.remove(&offset);
                count_refusal(&mut model.tally, refusal);
            }
        }
        Ok(())
    }

    pub fn recompress(&mut self, at: usize, pages: u64, codec: Codec) -> Result<()> {
        let before = self.areas[at].area.stats()?.counts.recompressed;
        let result = self.areas[at].area.recompress(pages, codec);
        let after = self.areas[at].area.stats()?.counts.recompressed;
        self.areas[at].running.values_mut().for_each(|running| running.sure = false);
        match result {
            Ok(count) => assert_eq!(count, after - before),
            Err(error) => {
                assert!(matches!(error, Error::NoMemory(_) | Error::Limit(_)) && self.may_be_full(at, 1), "{error:?}");
            }
        }
        result.map(drop)
    }

    /// Draws a page.
    pub fn draw_page(&mut self) -> usize {
        pages::draw(&mut self.rng)
    }
}

/// Counts a refusal as an area does.
pub fn count_refusal(tally: &mut crate::Counts, refusal: Refusal) {
    match refusal {
        Refusal::Exists => tally.writeback_exists += 1,
        Refusal::Again => tally.writeback_again += 1,
        Refusal::NoMemory => tally.writeback_no_memory += 1,
        Refusal::Io => tally.writeback_io += 1,
        Refusal::NoSpace => tally.writeback_no_space += 1,
        Refusal::Other(_) => tally.writeback_other += 1,
    }
}
