//! Memory that extents are made in and read into. It is reserved when the file is set, and comes as it is touched.

use super::extent_table::PinnedExtent;
use super::format::{BLOCK, MAX_BYTES};
use super::medium::{Medium, MediumError, Placed};
use crate::error::{Error, Result, not_given};
use crate::os::{Mapping, Os};
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
        const NO_BUFFER: Error = Error::NoMemory(not_given!("the system gives no addresses for the buffers of a tier"));
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
    /// Which of its bytes.
    bytes: Range<usize>,
    /// The entry that was asked for last.
    last: (u64, usize),
}

impl ReadBuffer {
    /// Makes a buffer that nothing was read into.
    pub fn new(os: &Os) -> Result<Self> {
        Ok(Self { buffer: Buffer::new(os, AHEAD * BLOCK)?, extent: 0, bytes: 0..0, last: (0, 0) })
    }

    /// Forgets what was read.
    pub fn forget(&mut self) {
        self.extent = 0;
    }

    /// Returns the bytes of an entry, and reads them first if they are not here. If the entry before it was asked for
    /// just before, reads those behind it as well.
    pub fn entry(
        &mut self,
        medium: &Medium,
        pinned: &PinnedExtent<'_>,
        entry: usize,
        sum: &AtomicU64,
    ) -> Result<&[u8], MediumError> {
        let (extent, range) = (pinned.id(), pinned.range(entry));
        let in_order = self.last == (extent, entry.wrapping_sub(1));
        self.last = (extent, entry);
        if self.extent != extent || range.start < self.bytes.start || range.end > self.bytes.end {
            let end = if in_order { range.start / BLOCK * BLOCK + AHEAD * BLOCK } else { range.end };
            let placed = pinned.placed();
            self.read(medium, placed, medium.span(placed, range.start..end.max(range.end)), sum)?;
        }
        let start = range.start - self.bytes.start;
        Ok(&self.buffer.all()[start..start + range.len()])
    }

    fn read(
        &mut self,
        medium: &Medium,
        placed: Placed,
        bytes: Range<usize>,
        sum: &AtomicU64,
    ) -> Result<(), MediumError> {
        self.forget();
        self.buffer.note(bytes.len(), sum);
        medium.get(placed, bytes.clone(), self.buffer.all())?;
        (self.extent, self.bytes) = (placed.number, bytes);
        Ok(())
    }
}
