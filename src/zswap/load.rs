//! Loading a page: find, pin, check, decode; to keep it or to take it.

use super::area::{Area, AreaState, Call};
use super::codec::Target;
use super::page::{NotTaken, Objects};
use super::remove::Patience;
use super::waiting::{self, NOT_NOW};
use super::word::{Kind, PageWord};
use crate::error::{Error, Result};
use crate::units::PAGE;

/// How pages are loaded. [`Default`]: they stay stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadFlags {
    /// The page is removed once it is loaded: the destination is where it lives from then on.
    pub exclusive: bool,
    /// Whether an exclusive load waits for a writeback of the page that is running. Others never wait.
    pub patience: Patience,
}

impl LoadFlags {
    /// The page stays stored.
    pub const KEEP: Self = Self { exclusive: false, patience: Patience::Wait };
    /// The page is removed.
    pub const TAKE: Self = Self { exclusive: true, patience: Patience::Wait };

    fn may_wait(self) -> bool {
        self.patience == Patience::Wait && !waiting::in_callback()
    }
}

const ABSENT: Error = Error::NotFound(&"the page is not stored here");

/// Whether what a word names was read.
pub(super) enum Read {
    /// It was, and is right.
    Done,
    /// The page went meanwhile: there is something new to read.
    Stale,
}

/// How an attempt to load a page ended.
enum Outcome {
    Loaded,
    /// With the word as it was.
    Taken(PageWord),
    Replaced,
}

/// How many pages ahead of the one that is decoded a batch asks for the page word, for the handle's word, and for the
/// object: each is found by the one before.
const AHEAD: [usize; 3] = [6, 4, 2];
/// Bytes of an object that are fetched ahead: most of a page at the usual ratio; its processor fetches the rest.
const FETCHED: usize = 1024;

impl Area {
    /// Loads a page. If this fails, the page stays stored, and the destination is as it was; but a take that finds the
    /// page gone, or being written back, after it was decoded may have written to it. So may a load of an entry in LZ4
    /// whose check is right although it is damaged, which happens once in 2^32 times.
    ///
    /// A load never waits, and may run while the page is written back. A take waits for a writeback of the page that is
    /// running: when it returns, what the caller writes to the page's place on disk stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the page is not here. [`Error::Io`] if it is damaged, or its file can't be read.
    /// [`Error::Busy`] for a take in a callback of a page that is being written back, or if this thread holds the
    /// claim; [`Error::Again`] likewise with [`Patience::NoWait`]. [`Error::Invalid`] past the end of the area, or if
    /// it was removed; [`Error::Forked`] in a child without the pool.
    #[inline]
    pub fn load(&self, offset: u64, page: &mut [u8; PAGE], flags: LoadFlags) -> Result<()> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.load_one(&call, offset, page, flags, Target::Callers)
    }

    /// [`Area::load`] to a page of the library's own, which no fault keeps this thread from writing. Takes a page less
    /// of the stack, for pages in Zstandard and on the backing file.
    #[cfg(feature = "uffd")]
    pub(crate) fn load_own(&self, offset: u64, page: &mut [u8; PAGE], flags: LoadFlags) -> Result<()> {
        let call = self.0.begin_at(offset, 1)?;
        self.0.load_one(&call, offset, page, flags, Target::Own)
    }

    /// Loads pages from scattered offsets, each as [`Area::load`] does, faster than one by one: what the next ones need
    /// is fetched while one is decoded. All of them are tried; `result` is told what became of each, by its place in
    /// `offsets`.
    ///
    /// # Errors
    /// That of the first page that failed. [`Error::Invalid`] if there are not as many pages as offsets, or an offset
    /// is past the end of the area: nothing was loaded then.
    pub fn load_scattered(
        &self,
        offsets: &[u64],
        pages: &mut [[u8; PAGE]],
        flags: LoadFlags,
        result: impl FnMut(usize, Result<()>),
    ) -> Result<()> {
        const UNEQUAL: Error = Error::Invalid(&"there have to be as many pages as offsets");
        if offsets.len() != pages.len() {
            return Err(UNEQUAL);
        }
        let mut pages = pages.iter_mut();
        self.load_each(offsets.len(), |at| offsets[at], |_| pages.next().expect("as many"), flags, result)
    }

    /// [`Area::load_scattered`] of pages that follow each other.
    ///
    /// # Errors
    /// As there.
    pub fn load_pages(
        &self,
        offset: u64,
        pages: &mut [[u8; PAGE]],
        flags: LoadFlags,
        result: impl FnMut(usize, Result<()>),
    ) -> Result<()> {
        let count = pages.len();
        drop(self.0.begin_at(offset, count as u64)?);
        let mut pages = pages.iter_mut();
        self.load_each(count, |at| offset + at as u64, |_| pages.next().expect("as many"), flags, result)
    }

    /// Loads pages, each from the offset and to the page that its number tells. For the C library, whose arrays of
    /// offsets and pages can lie at any address, so that there are no slices of them.
    #[doc(hidden)]
    pub fn load_each<'a>(
        &self,
        count: usize,
        offset: impl Fn(usize) -> u64,
        mut page: impl FnMut(usize) -> &'a mut [u8; PAGE],
        flags: LoadFlags,
        mut result: impl FnMut(usize, Result<()>),
    ) -> Result<()> {
        let area = &self.0;
        let highest = (0..count).map(&offset).max().unwrap_or(0);
        let call = area.begin_at(highest, u64::from(count > 0))?;
        let mut first = Ok(());
        (0..count.min(AHEAD[0])).for_each(|at| area.fetch_ahead(at, count, &offset));
        for at in 0..count {
            area.fetch_ahead(at + AHEAD[0], count, &offset);
            let done = area.load_one(&call, offset(at), page(at), flags, Target::Callers);
            first = first.and(done);
            result(at, done);
        }
        first
    }
}

impl AreaState {
    /// Asks for what page number `next` needs first, and for what those before it need next.
    #[inline]
    fn fetch_ahead(&self, next: usize, count: usize, offset: impl Fn(usize) -> u64) {
        let pool = &self.shared.pool;
        let handle = |at: usize| match self.page(offset(at)).peek().kind() {
            Kind::Stored(handle) => Some(pool.long_handle(handle)),
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
        call: &Call<'_>,
        offset: u64,
        page: &mut [u8; PAGE],
        flags: LoadFlags,
        target: Target,
    ) -> Result<()> {
        let word = self.page(offset);
        loop {
            let (seen, pinned) = word.find(&self.shared.pool);
            if seen.kind() == Kind::Empty {
                return self.absent(call, offset, seen, flags);
            }
            let read = self.read(call, offset, seen, pinned, page, target);
            let outcome = read.and_then(|read| match read {
                Read::Stale => Ok(Outcome::Replaced),
                Read::Done if flags.exclusive => self.take(call, offset, seen, flags),
                Read::Done => {
                    word.reference(seen);
                    Ok(Outcome::Loaded)
                }
            });
            if let Kind::Stored(handle) = seen.kind() {
                self.shared.pool.unpin(handle);
            }
            match outcome? {
                Outcome::Loaded => {
                    call.count(|counts| counts.loads += 1);
                    return Ok(());
                }
                Outcome::Taken(old) => {
                    let reread = self.reread_if_reused(offset, old, page, target);
                    self.taken(offset, old);
                    return reread;
                }
                Outcome::Replaced => {}
            }
        }
    }

    /// Reads what a word names into `page`.
    #[inline]
    fn read(
        &self,
        call: &Call<'_>,
        offset: u64,
        seen: PageWord,
        pinned: Option<(*const u8, usize)>,
        page: &mut [u8; PAGE],
        target: Target,
    ) -> Result<Read> {
        if let Some(pinned) = pinned {
            let decoded = self.decode(offset, pinned, page, target);
            return decoded.map(|()| Read::Done).inspect_err(|_| call.count(|counts| counts.decode_failures += 1));
        }
        match seen.kind() {
            Kind::Filled(pattern) => page.as_chunks_mut::<8>().0.fill(pattern.to_ne_bytes()),
            Kind::Backed(slot) => return self.read_from_file(call, offset, seen, slot, page, target),
            Kind::Empty | Kind::Stored(_) => return Ok(Read::Stale),
        }
        Ok(Read::Done)
    }

    /// Removes a page that was read.
    fn take(&self, call: &Call<'_>, offset: u64, seen: PageWord, flags: LoadFlags) -> Result<Outcome> {
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
                Ok(Outcome::Taken(old))
            }
            Err(NotTaken::Replaced) => Ok(Outcome::Replaced),
            Err(NotTaken::Awaited) => {
                drop(shard);
                self.may_wait(offset).and(Err(NOT_NOW))
            }
        }
    }

    /// After a take: frees what the page had, and waits for the writeback that it met.
    fn taken(&self, offset: u64, old: PageWord) {
        self.discard(old);
        if old.must_be_awaited() {
            self.page(offset).wait_for(old);
        }
    }

    /// The page is not here. A take that meets the writeback of a page that another removed waits for it all the same:
    /// its caller may go on to the disk.
    #[cold]
    fn absent(&self, call: &Call<'_>, offset: u64, seen: PageWord, flags: LoadFlags) -> Result<()> {
        if flags.exclusive && seen.must_be_awaited() {
            self.may_wait(offset)?;
            if !flags.may_wait() {
                return Err(NOT_NOW);
            }
            self.page(offset).wait_for(seen);
        }
        call.count(|counts| counts.absent_loads += 1);
        Err(ABSENT)
    }
}
