//! Loading a page: find it, pin it, check it, decode it; keep it stored, or take it.

use super::area::{Area, AreaState};
use super::codec::Target;
use super::page::NotTaken;
use super::patience::{NOT_NOW, Patience, in_callback};
use super::running_calls::RunningCall;
use super::store_load_failure::NotLoaded;
use super::word::{ExtentEntry, PageWord, WordKind};
use crate::error::{Error, Result, sentence};
use crate::units::PAGE;

/// What a load does beside loading: [`LoadFlags::KEEP`], which is the [`Default`], leaves the page stored;
/// [`LoadFlags::TAKE`] removes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadFlags {
    /// Whether the page is removed once it is loaded. Then the copy at the destination is the only one.
    pub exclusive: bool,
    /// Whether an exclusive load waits for a writeback of the page that is running. Other loads never wait.
    pub patience: Patience,
}

impl LoadFlags {
    /// Loads a page, which stays stored. Never waits for a writeback.
    pub const KEEP: Self = Self { exclusive: false, patience: Patience::Wait };
    /// Loads a page and removes it. Waits for a writeback of it that is running.
    pub const TAKE: Self = Self { exclusive: true, patience: Patience::Wait };

    fn may_wait(self) -> bool {
        self.patience == Patience::Wait && !in_callback()
    }
}

const ABSENT: Error = Error::NotFound(sentence(&"the page is not stored here"));

/// How an attempt to load a page ended.
enum Attempt {
    /// The page was loaded, and stays stored.
    Loaded,
    /// The page was loaded and removed; its word as it was.
    Taken(PageWord),
    /// The page was replaced meanwhile.
    Replaced,
}

/// How often an extent is pinned that a page word names before the word is believed to be damaged. The extent of a
/// sound word is there, unless it ended and another one got its name between the two reads of the word.
const PINS: usize = 4;

/// How many pages ahead of the one that is decoded a batch fetches the page word, the handle's word, and the object.
/// Each of the three is found by the one before.
const AHEAD: [usize; 3] = [6, 4, 2];
/// How many bytes of an object are fetched ahead: most of a page at the usual ratio. The processor fetches the rest.
const FETCHED: usize = 1024;

impl Area {
    /// Loads the page that is stored at `offset` into `page`. With [`LoadFlags::TAKE`] this is a *take*: the page is
    /// removed as well, and `page` is the only copy. Then a copy on the program's disk is old.
    ///
    /// If this fails, a stored page stays stored, and `page` is as it was. There are two exceptions. A take that finds
    /// the page gone, or being written back, after it was decoded may have written to `page`. So may a load of a
    /// damaged page in LZ4 whose check fits by chance, which happens once in 2^32 times.
    ///
    /// A load that is no take never waits, and may run while the page is written back. A take waits for a writeback of
    /// the page that is running: when it returns, what the caller writes to the page's place on disk stays. May be
    /// called from any thread, and from a writeback callback.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no page is stored at `offset`, because it was written back or never stored.
    /// [`Error::Damaged`] if it is damaged, [`Error::Io`] if its file can't be read. [`Error::Busy`] for a take in a
    /// callback of a page that is being written back, or if this thread holds the claim; [`Error::Again`] likewise with
    /// [`Patience::NoWait`]. [`Error::OutOfRange`] past the end of the area, [`Error::Removed`], [`Error::Forked`] in a
    /// child without the pool.
    #[inline]
    pub fn load(&self, offset: u64, page: &mut [u8; PAGE], flags: LoadFlags) -> Result<()> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.load_one(&call, offset, page, flags, Target::Callers).map_err(NotLoaded::into_error)
    }

    /// Loads into a page of the library's own, to which no fault keeps this thread from writing. Takes a page less of
    /// the stack than [`Area::load`], for pages in Zstandard and on the backing file.
    #[cfg(feature = "uffd")]
    pub(crate) fn load_own(&self, offset: u64, page: &mut [u8; PAGE], flags: LoadFlags) -> Result<(), NotLoaded> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.load_one(&call, offset, page, flags, Target::Own)
    }

    /// Loads into a page of the library's own in a signal handler, as [`Area::load_own`] does. A page on a tier of the
    /// program's own is not loaded: [`NotLoaded::NeedsThread`].
    #[cfg(feature = "uffd")]
    pub(crate) fn load_in_handler(
        &self,
        offset: u64,
        page: &mut [u8; PAGE],
        flags: LoadFlags,
    ) -> Result<(), NotLoaded> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.load_one(&call, offset, page, flags, Target::InHandler)
    }

    /// Loads pages from scattered offsets, each as [`Area::load`] does. This is faster than one by one: while a page is
    /// decoded, what the next ones need is fetched. All of them are tried. `result` is told the outcome of each, by its
    /// index in `offsets`.
    ///
    /// # Errors
    /// That of the first page that failed. [`Error::Invalid`] if there are not as many pages as offsets,
    /// [`Error::OutOfRange`] if an offset is past the end of the area: nothing was loaded then.
    pub fn load_scattered(
        &self,
        offsets: &[u64],
        pages: &mut [[u8; PAGE]],
        flags: LoadFlags,
        result: impl FnMut(usize, Result<()>),
    ) -> Result<()> {
        const UNEQUAL: Error = Error::Invalid(sentence(&"there have to be as many pages as offsets"));
        if offsets.len() != pages.len() {
            return Err(UNEQUAL);
        }
        let mut pages = pages.iter_mut();
        self.load_each(offsets.len(), |at| offsets[at], |_| pages.next().expect("as many"), flags, result)
    }

    /// Loads pages that follow each other, each as [`Area::load`] does, and faster than one by one. All of them are
    /// tried. `result` is told the outcome of each, by its index in `pages`.
    ///
    /// # Errors
    /// That of the first page that failed. [`Error::OutOfRange`] if the range ends past the end of the area: nothing
    /// was loaded then.
    pub fn load_pages(
        &self,
        offset: u64,
        pages: &mut [[u8; PAGE]],
        flags: LoadFlags,
        result: impl FnMut(usize, Result<()>),
    ) -> Result<()> {
        let count = pages.len();
        let call = self.0.begin_at(offset, count as u64)?;
        let mut pages = pages.iter_mut();
        let page = |_| pages.next().expect("as many");
        self.0.load_all(&call, count, |at| offset + at as u64, page, flags, result)
    }

    /// Loads `count` pages, of which the two functions return the offset and the destination.
    pub(super) fn load_each<'a>(
        &self,
        count: usize,
        offset: impl Fn(usize) -> u64,
        page: impl FnMut(usize) -> &'a mut [u8; PAGE],
        flags: LoadFlags,
        result: impl FnMut(usize, Result<()>),
    ) -> Result<()> {
        let highest = (0..count).map(&offset).max().unwrap_or(0);
        let call = self.0.begin_at(highest, u64::from(count > 0))?;
        self.0.load_all(&call, count, offset, page, flags, result)
    }
}

impl AreaState {
    /// Loads pages from offsets that the area has. Returns the first failure.
    fn load_all<'a>(
        &self,
        call: &RunningCall<'_>,
        count: usize,
        offset: impl Fn(usize) -> u64,
        mut page: impl FnMut(usize) -> &'a mut [u8; PAGE],
        flags: LoadFlags,
        mut result: impl FnMut(usize, Result<()>),
    ) -> Result<()> {
        let mut first = Ok(());
        (0..count.min(AHEAD[0])).for_each(|at| self.fetch_ahead(at, count, &offset));
        for at in 0..count {
            self.fetch_ahead(at + AHEAD[0], count, &offset);
            let done = self.load_one(call, offset(at), page(at), flags, Target::Callers).map_err(NotLoaded::into_error);
            first = first.and(done);
            result(at, done);
        }
        first
    }

    /// Asks the processor to fetch what page number `next` needs first, and what the pages before it need next.
    #[inline]
    fn fetch_ahead(&self, next: usize, count: usize, offset: impl Fn(usize) -> u64) {
        let pool = &self.shared.pool;
        let handle = |at: usize| match self.page(offset(at)).peek().kind() {
            WordKind::Stored(handle) => Some(pool.long_handle(handle)),
            _ => None,
        };
        let [words, handles, objects] = AHEAD;
        if next < count {
            self.index.prefetch(offset(next));
        }
        if let Some(handle) = (next + handles).checked_sub(words).filter(|&at| at < count).and_then(handle) {
            pool.prefetch(handle);
        }
        if let Some(handle) = (next + objects).checked_sub(words).filter(|&at| at < count).and_then(handle) {
            pool.prefetch_object(handle, FETCHED);
        }
    }

    /// Loads a page, and counts it.
    #[inline]
    fn load_one(
        &self,
        call: &RunningCall<'_>,
        offset: u64,
        page: &mut [u8; PAGE],
        flags: LoadFlags,
        target: Target,
    ) -> Result<(), NotLoaded> {
        loop {
            match self.try_load(call, offset, page, flags, target)? {
                Attempt::Loaded => {
                    call.count(|counts| counts.loads += 1);
                    return Ok(());
                }
                Attempt::Taken(old) => {
                    self.taken(offset, old);
                    return Ok(());
                }
                Attempt::Replaced => {}
            }
        }
    }

    /// Loads the version of a page that is there. It stays pinned until it was also taken.
    #[inline]
    fn try_load(
        &self,
        call: &RunningCall<'_>,
        offset: u64,
        page: &mut [u8; PAGE],
        flags: LoadFlags,
        target: Target,
    ) -> Result<Attempt, NotLoaded> {
        let word = self.page(offset);
        let (seen, pinned) = word.find(&self.shared.pool);
        if seen.kind() == WordKind::Empty {
            return Err(self.absent(call, offset, seen, flags).into());
        }
        match (seen.kind(), &pinned) {
            (WordKind::Backed(at), _) => return self.try_load_backed(call, (offset, seen, at), page, flags, target),
            (WordKind::Filled(pattern), _) => page.as_chunks_mut::<8>().0.fill(pattern.to_ne_bytes()),
            (_, Some(pinned)) => {
                let decoded = self.decode(offset, pinned, page, target);
                decoded.inspect_err(|_| call.count(|counts| counts.decode_failures += 1))?;
            }
            // An object is pinned whenever a word names one.
            (WordKind::Empty | WordKind::Stored(_), None) => return Ok(Attempt::Replaced),
        }
        self.loaded(call, offset, seen, flags)
    }

    /// Loads a page from its extent, which stays pinned until the page was also taken.
    #[cold]
    fn try_load_backed(
        &self,
        call: &RunningCall<'_>,
        (offset, seen, at): (u64, PageWord, ExtentEntry),
        page: &mut [u8; PAGE],
        flags: LoadFlags,
        target: Target,
    ) -> Result<Attempt, NotLoaded> {
        for _ in 0..PINS {
            let store = self.shared.tier_of(at);
            let pinned = store.as_ref().and_then(|store| store.pin(at));
            // A tier may have been removed meanwhile: then the page went before that.
            if !self.page(offset).is_still(seen) {
                return Ok(Attempt::Replaced);
            }
            if let (Some(store), Some(pinned)) = (&store, pinned) {
                self.read_entry(call, (store, &pinned), (offset, at), page, target)?;
                return self.loaded(call, offset, seen, flags);
            }
        }
        call.count(|counts| counts.file_read_failures += 1);
        Err(NotLoaded::Damaged)
    }

    /// Removes a page that was read, or notes that it was used.
    #[inline]
    fn loaded(
        &self,
        call: &RunningCall<'_>,
        offset: u64,
        seen: PageWord,
        flags: LoadFlags,
    ) -> Result<Attempt, NotLoaded> {
        if flags.exclusive {
            return Ok(self.take(call, offset, seen, flags)?);
        }
        self.page(offset).reference(seen);
        Ok(Attempt::Loaded)
    }

    /// Removes a page that was read.
    fn take(&self, call: &RunningCall<'_>, offset: u64, seen: PageWord, flags: LoadFlags) -> Result<Attempt> {
        let word = self.page(offset);
        if word.peek().must_be_awaited() {
            self.may_wait(offset)?;
        }
        let mut shard = call.lock();
        match word.take(seen, flags.may_wait()) {
            Ok(old) => {
                shard.counts.went(old);
                shard.counts.loads += 1;
                shard.counts.takes += 1;
                Ok(Attempt::Taken(old))
            }
            Err(NotTaken::Replaced) => Ok(Attempt::Replaced),
            Err(NotTaken::Awaited) => {
                drop(shard);
                self.may_wait(offset).and(Err(NOT_NOW))
            }
        }
    }

    /// Frees what a taken page had, and waits for the writeback that the take met.
    fn taken(&self, offset: u64, old: PageWord) {
        self.discard(old);
        if old.must_be_awaited() {
            self.page(offset).wait_for(old);
        }
    }

    /// Returns why a page that is not here can't be loaded. A take that meets the writeback of a page which another
    /// thread removed waits for that writeback all the same: its caller may go on to the page's place on disk.
    #[cold]
    fn absent(&self, call: &RunningCall<'_>, offset: u64, seen: PageWord, flags: LoadFlags) -> Error {
        if flags.exclusive && seen.must_be_awaited() {
            if let Err(refused) = self.may_wait(offset) {
                return refused;
            }
            if !flags.may_wait() {
                return NOT_NOW;
            }
            self.page(offset).wait_for(seen);
        }
        call.count(|counts| counts.absent_loads += 1);
        ABSENT
    }
}
