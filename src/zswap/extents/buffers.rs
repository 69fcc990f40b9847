//! Memory that extents are made in and read into. It is reserved when the file is set, and comes as it is touched.

use super::blocks::BlockRun;
use super::extent_table::PinnedExtent;
use super::file_tier::FileTier;
use super::format::{BLOCK, MAX_BYTES};
use crate::error::{Error, Result, not_given};
use crate::os::{Errno, Mapping, Os};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::units::PAGE;
use std::ops::Range;

/// Blocks that are read at once when entries are read in order.
const AHEAD: usize = 16;

/// Memory of its own, at a multiple of the page size.
pub struct Buffer {
    mapping: Mapping,
    bytes: usize,
    /// How many bytes were touched.
    touched: usize,
}

impl Buffer {
    fn new(os: &Os, bytes: usize) -> Result<Self> {
        const NO_BUFFER: Error =
            Error::NoMemory(not_given!("the system gives no addresses for the buffers of the file"));
        let mapping = os.sparse_memory(bytes).map_err(|_| NO_BUFFER)?;
        Ok(Self { mapping, bytes, touched: 0 })
    }

    /// Makes a buffer for a whole extent.
    pub fn of_extent(os: &Os) -> Result<Self> {
        Self::new(os, MAX_BYTES)
    }

    /// Returns all bytes. They hold what was there last.
    pub fn all(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has this many bytes, and is this buffer's alone.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.base().as_ptr(), self.bytes) }
    }

    /// Notes that the first `bytes` bytes were touched. `sum` has the bytes of all buffers.
    pub fn note(&mut self, bytes: usize, sum: &AtomicU64) {
        let pages = bytes.next_multiple_of(PAGE);
        if pages > self.touched {
            sum.fetch_add((pages - self.touched) as u64, Relaxed);
            self.touched = pages;
        }
    }
}

/// What one thread reads extents into. It keeps what was read last: entries that are read in order are read ahead.
pub struct ReadBuffer {
    buffer: Buffer,
    /// The extent that the buffer has a part of; 0: none.
    extent: u64,
    /// Which of its blocks.
    blocks: Range<usize>,
    /// The entry that was asked for last.
    last: (u64, usize),
}

impl ReadBuffer {
    /// Makes a buffer that nothing was read into.
    pub fn new(os: &Os) -> Result<Self> {
        Ok(Self { buffer: Buffer::new(os, AHEAD * BLOCK)?, extent: 0, blocks: 0..0, last: (0, 0) })
    }

    /// Forgets what was read.
    pub fn forget(&mut self) {
        self.extent = 0;
    }

    /// Returns the bytes of an entry, and reads them first if they are not here. If the entry before it was asked for
    /// just before, reads those behind it as well.
    pub fn entry(
        &mut self,
        file: &FileTier,
        pinned: &PinnedExtent<'_>,
        entry: usize,
        sum: &AtomicU64,
    ) -> Result<&[u8], Errno> {
        let (extent, run, range) = (pinned.id(), pinned.run(), pinned.range(entry));
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        let in_order = self.last == (extent, entry.wrapping_sub(1));
        self.last = (extent, entry);
        if self.extent != extent || blocks.start < self.blocks.start || blocks.end > self.blocks.end {
            let end = if in_order { (blocks.start + AHEAD).min(run.count) } else { blocks.end };
            self.read(file, run, blocks.start..end.max(blocks.end), sum)?;
            self.extent = extent;
        }
        let start = range.start - self.blocks.start * BLOCK;
        Ok(&self.buffer.all()[start..start + range.len()])
    }

    fn read(&mut self, file: &FileTier, run: BlockRun, blocks: Range<usize>, sum: &AtomicU64) -> Result<(), Errno> {
        self.forget();
        let bytes = blocks.len() * BLOCK;
        self.buffer.note(bytes, sum);
        file.get(run, blocks.start, &mut self.buffer.all()[..bytes])?;
        self.blocks = blocks;
        Ok(())
    }
}
