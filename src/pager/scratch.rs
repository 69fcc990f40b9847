//! Buffers that pages are decoded to before they are put in place. Each belongs to one thread at a time.

use super::page::PageClaim;
use crate::error::{Error, Result, not_given};
use crate::os::userfault::{Progress, Userfault};
use crate::os::{Advice, Mapping, Os};
use crate::per_processor::{Lease, PerProcessor};
use crate::sync::Rank;
use crate::units::PAGE;

/// Pages of one buffer, which is how many pages one call puts in place.
pub const BUFFER_PAGES: usize = 16;

/// The number of buffers, which is how many threads may decode at once.
const BUFFERS: usize = 64;

/// All buffers, in one mapping.
pub struct Scratch {
    mapping: Mapping,
    buffers: PerProcessor<()>,
}

// SAFETY: a buffer is one thread's while it is taken.
unsafe impl Sync for Scratch {}
// SAFETY: the mapping belongs to this value, and goes where it goes.
unsafe impl Send for Scratch {}

/// A buffer that is this thread's until this is dropped.
pub struct PageBuffer<'a> {
    scratch: &'a Scratch,
    lease: Lease<'a, ()>,
}

impl Scratch {
    /// Reserves the buffers. They take memory as they are used.
    pub fn new(os: &Os) -> Result<Self> {
        const NO_MEMORY: Error = Error::NoMemory(not_given!("the system gives no memory to decode pages in"));
        let bytes = BUFFERS * BUFFER_PAGES * PAGE;
        let mapping = os.reserve(bytes, PAGE).map_err(|_| NO_MEMORY)?;
        os.commit(mapping.base().as_ptr(), bytes).map_err(|_| NO_MEMORY)?;
        let _ = os.advise(mapping.base().as_ptr(), bytes, Advice::NotHuge);
        let _ = os.advise(mapping.base().as_ptr(), bytes, Advice::DontDump);
        Ok(Self { mapping, buffers: PerProcessor::new(Rank::Scratch, BUFFERS, || Ok(()))? })
    }

    /// The address of the buffers, and their bytes.
    pub fn range(&self) -> (usize, usize) {
        (self.mapping.base().as_ptr() as usize, BUFFERS * BUFFER_PAGES * PAGE)
    }

    /// Takes a buffer: this processor's, if it is free.
    #[inline]
    pub fn take(&self) -> PageBuffer<'_> {
        PageBuffer { scratch: self, lease: self.buffers.take() }
    }
}

impl PageBuffer<'_> {
    /// The address of one of the buffer's pages.
    #[inline]
    pub fn address(&self, at: usize) -> *mut u8 {
        assert!(at < BUFFER_PAGES);
        // SAFETY: the page is inside the mapping.
        unsafe { self.scratch.mapping.base().as_ptr().add((self.lease.index() * BUFFER_PAGES + at) * PAGE) }
    }

    /// One of the buffer's pages.
    #[inline]
    pub fn page(&mut self, at: usize) -> &mut [u8; PAGE] {
        // SAFETY: the buffer is this thread's, and is borrowed exclusively.
        unsafe { &mut *self.address(at).cast() }
    }

    /// Copies the first `count` pages of the buffer to the missing pages from address `at` on, write-protected if
    /// `protect`. The caller has claimed these pages, the first by `_claim`.
    #[inline]
    pub fn copy_in(
        &self,
        uffd: &Userfault,
        at: usize,
        count: usize,
        protect: bool,
        _claim: &PageClaim<'_>,
    ) -> Progress {
        assert!(count <= BUFFER_PAGES);
        // SAFETY: the buffer has `count` pages, and the claims make the missing ones this thread's.
        unsafe { uffd.copy(at, self.address(0), count * PAGE, protect) }
    }
}
