//! Pages that are decoded to before they are put in place: one for each thread that does so at this moment.

use super::lots::{LOTS, Lots, Taken};
use crate::error::{Error, Result, not_given};
use crate::os::{self, Advice, Mapping, Os};
use crate::units::PAGE;

/// Pages of one lot: so many are put in place at once.
pub const LOT: usize = 16;

/// The lots.
pub struct Scratch {
    mapping: Mapping,
    lots: Lots,
}

// SAFETY: a lot is one thread's while it is taken.
unsafe impl Sync for Scratch {}
// SAFETY: as above.
unsafe impl Send for Scratch {}

/// A lot that is this thread's.
pub struct Lot<'a> {
    scratch: &'a Scratch,
    taken: Taken<'a>,
}

impl Scratch {
    /// Takes memory as it is used.
    pub fn new(os: &Os) -> Result<Self> {
        const NO_MEMORY: Error = Error::NoMemory(not_given!("the system gives no memory to decode pages in"));
        let bytes = LOTS * LOT * PAGE;
        let mapping = os.reserve(bytes, PAGE).map_err(|_| NO_MEMORY)?;
        os.commit(mapping.base().as_ptr(), bytes).map_err(|_| NO_MEMORY)?;
        let _ = os.advise(mapping.base().as_ptr(), bytes, Advice::NotHuge);
        let _ = os.advise(mapping.base().as_ptr(), bytes, Advice::DontDump);
        Ok(Self { mapping, lots: Lots::new() })
    }

    /// Where they lie, and their bytes.
    pub fn range(&self) -> (usize, usize) {
        (self.mapping.base().as_ptr() as usize, LOTS * LOT * PAGE)
    }

    /// Takes a lot: this processor's, if it is free.
    #[inline]
    pub fn take(&self) -> Lot<'_> {
        Lot { scratch: self, taken: self.lots.take(os::current_cpu() % LOTS) }
    }
}

impl Lot<'_> {
    /// The address of one of its pages.
    #[inline]
    pub fn address(&self, at: usize) -> *mut u8 {
        assert!(at < LOT);
        // SAFETY: the page is inside the mapping.
        unsafe { self.scratch.mapping.base().as_ptr().add((self.taken.index * LOT + at) * PAGE) }
    }

    /// One of its pages.
    #[inline]
    pub fn page(&mut self, at: usize) -> &mut [u8; PAGE] {
        // SAFETY: the lot is this thread's, and is borrowed alone.
        unsafe { &mut *self.address(at).cast() }
    }
}
