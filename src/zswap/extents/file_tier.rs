//! The file that extents are written to: whole blocks, lowest free run first, past the page cache.

use super::blocks::{BlockCounts, BlockGroup, BlockRun, Blocks, GROUP};
use super::format::{BLOCK, MAX_BLOCKS};
use crate::error::{Error, Result, not_given, sentence};
use crate::os::{Errno, FileId, Mapping, Os, PageCache, errno};
use crate::sync::{AtomicU32, Lock, Ordering::Relaxed, Rank};
use crate::units::{PAGE, pages_of};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Blocks that were written and are free, which may take room on the disk: 1 MiB.
const LOT: u64 = (1 << 20) / BLOCK as u64;
/// How many of them are left when a lot was punched out: those that are taken next.
const LEFT: u64 = LOT / 2;

/// Blocks that are set aside for cleaning: room for an extent. Without them a full file would stay full however many of
/// its pages went. Files of less than eight extents have none.
const SET_ASIDE: u64 = MAX_BLOCKS as u64;

/// The file of a zswap.
pub struct FileTier {
    fd: ManuallyDrop<OwnedFd>,
    /// Which file `fd` was when it was set.
    id: FileId,
    os: Os,
    blocks: u64,
    /// The groups of blocks.
    mapping: Mapping,
    counts: Lock<BlockCounts>,
    /// How the file is read and written: a [`PageCache`].
    cache: AtomicU32,
}

impl FileTier {
    /// Takes the first `bytes` bytes of a file. They are the library's from now on.
    pub fn new(os: Os, fd: BorrowedFd<'_>, bytes: u64) -> Result<Self> {
        const SIZE: Error =
            Error::Invalid(sentence(&"the backing file's bytes have to be 4096 at least, and 16 TiB at most"));
        const NO_FILE: Error = Error::Invalid(sentence(
            &"the backing file has to be open for reading and writing (O_RDWR), and not for appending (O_APPEND)",
        ));
        const NO_KIND: Error = Error::Invalid(sentence(&"the backing file has to be a regular file or a block device"));
        const NO_MEMORY: Error =
            Error::NoMemory(not_given!("there is no memory for the map of the backing file's blocks"));
        if !(BLOCK as u64..=16 << 40).contains(&bytes) {
            return Err(SIZE);
        }
        let blocks = bytes / BLOCK as u64;
        let kept = os.keeps_what_is_written(fd);
        if !kept.map_err(|errno| Error::system(errno, sentence(&"asking how the backing file was opened")))? {
            return Err(NO_FILE);
        }
        let id = os.file_id(fd).map_err(|errno| Error::system(errno, sentence(&"fstat of the backing file")))?;
        if !id.has_places() {
            return Err(NO_KIND);
        }
        let (fd, cache) = match os.open_past_cache(fd, id) {
            Some(fd) => (fd, PageCache::Direct),
            None => {
                let fd = os.duplicate(fd);
                let fd = fd.map_err(|errno| Error::system(errno, sentence(&"duplicating the backing file")))?;
                (fd, PageCache::DropBehind)
            }
        };
        let bytes = pages_of(Self::groups_of(blocks) * size_of::<BlockGroup>()) * PAGE;
        let mapping = os.sparse_memory(bytes).map_err(|_| NO_MEMORY)?;
        let counts = Lock::new(Rank::FileSlots, BlockCounts::default());
        let cache = AtomicU32::new(cache as u32);
        Ok(Self { fd: ManuallyDrop::new(fd), id, os, blocks, mapping, counts, cache })
    }

    fn groups_of(blocks: u64) -> usize {
        blocks.div_ceil(GROUP as u64) as usize
    }

    fn groups(&self) -> &[BlockGroup] {
        // SAFETY: the mapping has this many groups, all of atomics. Zero is one.
        unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr().cast(), Self::groups_of(self.blocks)) }
    }

    fn with_blocks<R>(&self, act: impl FnOnce(&mut Blocks<'_>) -> R) -> R {
        let mut counts = self.counts.lock();
        act(&mut Blocks { groups: self.groups(), blocks: self.blocks, counts: &mut counts })
    }

    /// Returns how many blocks the file may have.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the bytes of memory that the map of blocks takes.
    pub fn table_bytes(&self) -> u64 {
        (pages_of(self.counts.lock().fresh * size_of::<BlockGroup>()) * PAGE) as u64
    }

    /// Whether the descriptor is still that of the file. The program may have closed it, and opened another file that
    /// got its number.
    pub fn is_there(&self) -> bool {
        self.os.file_id(self.fd.as_fd()).is_ok_and(|id| id == self.id)
    }

    fn set_aside(&self) -> u64 {
        if self.blocks < 8 * SET_ASIDE { 0 } else { SET_ASIDE }
    }

    /// Whether there may be no room for a whole extent besides what is set aside.
    pub fn is_nearly_full(&self) -> bool {
        self.counts.lock().taken + MAX_BLOCKS as u64 + self.set_aside() > self.blocks
    }

    /// Takes the lowest run of `wanted` blocks, or else the longest of at least `least`. `cleans`: what is set aside
    /// may be taken.
    pub fn take(&self, wanted: usize, least: usize, cleans: bool) -> Option<BlockRun> {
        let set_aside = if cleans { 0 } else { self.set_aside() };
        self.with_blocks(|blocks| {
            let free = (self.blocks - blocks.counts.taken).saturating_sub(set_aside);
            let wanted = (wanted as u64).min(free) as usize;
            (wanted >= least).then(|| blocks.take(wanted, least)).flatten()
        })
    }

    /// Gives a run back. The file may have been written there.
    pub fn give_back(&self, run: BlockRun) {
        self.with_blocks(|blocks| blocks.give_back(run, true));
    }

    /// Punches out blocks that were written and are free, if there is a lot of them. The highest go first.
    pub fn punch(&self) {
        if self.counts.lock().stale <= LOT || !self.is_there() {
            return;
        }
        while let Some(run) =
            self.with_blocks(|blocks| (blocks.counts.stale > LEFT).then(|| blocks.take_stale()).flatten())
        {
            // A file system that knows no holes keeps the room. It is not asked again for these blocks.
            let _ = self.os.punch_hole(&self.fd, run.first * BLOCK as u64, (run.count * BLOCK) as u64);
            self.with_blocks(|blocks| blocks.give_back_punched(run));
        }
    }

    /// Writes whole blocks. Returns how many bytes were written, and what stopped the write.
    pub fn put(&self, run: BlockRun, bytes: &[u8]) -> (usize, Option<Errno>) {
        debug_assert_eq!(bytes.len(), run.count * BLOCK);
        let start = run.first * BLOCK as u64;
        self.transfer(bytes.len(), |done, cache| {
            self.os.write_past_cache(&self.fd, &bytes[done..], start + done as u64, cache)
        })
    }

    /// Reads whole blocks of a run, from block `from` of it on. A file that ends before them can't be read there.
    pub fn get(&self, run: BlockRun, from: usize, bytes: &mut [u8]) -> Result<(), Errno> {
        let start = (run.first + from as u64) * BLOCK as u64;
        let (_, error) = self.transfer(bytes.len(), |done, cache| {
            self.os.read_past_cache(&self.fd, &mut bytes[done..], start + done as u64, cache)
        });
        error.map_or(Ok(()), Err)
    }

    /// Reads or writes by calls of `some`, each of which may do a part, until all `bytes` bytes are done. Where the
    /// page cache can't be passed by, it is used from then on. Returns how many bytes were done, and what stopped the
    /// rest.
    fn transfer(
        &self,
        bytes: usize,
        mut some: impl FnMut(usize, PageCache) -> Result<usize, Errno>,
    ) -> (usize, Option<Errno>) {
        let mut done = 0;
        while done < bytes {
            let cache = PageCache::from_number(self.cache.load(Relaxed));
            match some(done, cache) {
                Ok(0) => return (done, Some(Errno(errno::EIO))),
                Ok(more) => done += more,
                Err(Errno(errno::EINTR)) => {}
                Err(Errno(errno::EOPNOTSUPP | errno::ENOSYS | errno::EPERM)) if cache == PageCache::DropBehind => {
                    self.cache.store(PageCache::Used as u32, Relaxed);
                }
                Err(error) => return (done, Some(error)),
            }
        }
        (done, None)
    }
}

impl Drop for FileTier {
    fn drop(&mut self) {
        // A descriptor that has become another file's is not the library's to close.
        if self.is_there() {
            // SAFETY: the descriptor is dropped once, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

#[cfg(test)]
impl FileTier {
    /// Whether the file is open with `O_DIRECT`.
    pub fn is_direct(&self) -> bool {
        PageCache::from_number(self.cache.load(Relaxed)) == PageCache::Direct
    }

    /// Returns the number of the library's own descriptor.
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&*self.fd)
    }
}
