//! Claims as guards: a page that the caller writes back, of one area or of all.

use super::area::Area;
use super::claims::RawClaim;
use super::writeback_refusal::Refusal;
use super::zswap::Zswap;
use crate::error::Result;
use crate::units::PAGE;
use std::fmt;

/// A page that the caller is writing back to where it keeps pages: on a disk, for example, by asynchronous I/O.
///
/// [`Area::claim`] and [`Zswap::claim`] return claims. [`Claim::written`] ends a claim whose page was written, and
/// [`Claim::refuse`] one whose page could not be written. A claim that is dropped otherwise, in a panic for example,
/// gives up: the page is kept, and counted as refused with [`Refusal::Again`]. Any thread may end or drop a claim.
/// A claim that is forgotten ([`std::mem::forget`]) never ends: [`Area::remove`] fails with [`crate::Error::Busy`] from
/// then on, and calls of other threads that wait for it, such as an invalidate with [`crate::Patience::Wait`], wait for
/// ever.
///
/// # While the claim lives
/// The page stays stored, and can be loaded and replaced. No other writeback of it begins. [`Area::invalidate`], a load
/// that takes the page, and a store of the page that fails wait until the claim ends. So a thread that ends claims must
/// not wait for a lock that another thread holds while it makes such a call. The thread that began the claim does not
/// wait, because it might be the one to end it: it gets [`crate::Error::Busy`], also if it has given the claim to
/// another thread. [`Area::remove`] is refused, and the claim keeps the area alive if all other handles are dropped.
///
/// # Whose the place on disk is
/// From the claim's beginning to its end the place that the page is written to belongs to the claim. So it must not end
/// before its write has: a write that is still on its way could land after a newer one. From the end on the place
/// belongs to the thread that acts on the page next, and that may be before [`Claim::written`] returns, because an
/// invalidate that waited goes on. So do not touch the place after the call, whatever it returns: neither write to it
/// nor free it.
///
/// A load that says [`crate::Error::NotFound`] does not tell whether the page is on disk or was never stored. A program
/// marks the pages that it has on disk, and sets the mark **before** it calls [`Claim::written`]: a load that comes
/// between the two would otherwise find the page nowhere. It clears the mark after an invalidate, after a load that
/// takes the page, and after a store that failed, because from then on the copy on disk is old. If several threads act
/// on a page at once, each of them keeps a lock of that page from the call to zswap until it has looked at the mark and
/// the disk. The thread that ends claims takes none of these locks.
///
/// # Examples
/// The loop of a writer. It ends at the first write that fails, because a page that was refused would be claimed again.
/// It may as well put each claim beside its page and end it in another thread.
///
/// ```
/// # use zsalloc::{PAGE_SIZE, Result, Zswap};
/// # fn write_page(area: u64, offset: u64, page: &[u8; PAGE_SIZE]) -> std::io::Result<()> { Ok(()) }
/// # fn mark(area: u64, offset: u64) {}
/// fn make_room(zswap: &Zswap) -> Result<()> {
///     let mut page = [0; PAGE_SIZE];
///     while zswap.usage().bytes_to_go > 0 {
///         let Some(claim) = zswap.claim(&mut page)? else { break };
///         match write_page(claim.area().id(), claim.offset(), &page) {
///             Ok(()) => {
///                 mark(claim.area().id(), claim.offset());
///                 claim.written()?;
///             }
///             Err(error) => {
///                 claim.refuse(error.into());
///                 break;
///             }
///         }
///     }
///     Ok(())
/// }
/// ```
///
/// A claim that is lost is a warning, which can be made an error:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fn lose(area: &zsalloc::Area, page: &mut [u8; zsalloc::PAGE_SIZE]) {
///     area.claim(page).unwrap().unwrap();
/// }
/// ```
///
/// ```
/// #![deny(unused_must_use)]
/// fn keep(area: &zsalloc::Area, page: &mut [u8; zsalloc::PAGE_SIZE]) -> zsalloc::Claim {
///     area.claim(page).unwrap().unwrap()
/// }
/// ```
///
/// A claim is ended once:
///
/// ```compile_fail,E0382
/// fn end_twice(claim: zsalloc::Claim) {
///     claim.refuse(zsalloc::Refusal::Io);
///     claim.written();
/// }
/// ```
#[must_use = "a claim that is dropped gives up, and its page stays in memory: end it with `written` or `refuse`"]
pub struct Claim {
    /// A handle, and not a borrow: a program keeps claims while their writes are on their way, in lists and in other
    /// threads. A borrow would tie each claim to the scope that began it, and to a handle that outlives it.
    area: Area,
    raw: RawClaim,
    ended: bool,
}

impl Claim {
    /// Makes the guard of a claim of this area.
    fn new(area: &Area, raw: RawClaim) -> Self {
        Self { area: area.clone(), raw, ended: false }
    }

    /// Returns the area that the page is of.
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// Returns which page of the area it is.
    pub fn offset(&self) -> u64 {
        self.raw.offset
    }

    /// Returns how many bytes of slots go if the page leaves the pool: so much less is in
    /// [`Usage::bytes_to_go`](crate::Usage::bytes_to_go) then. A caller that makes room claims pages until the sum is
    /// enough. It is the size that the page had when it was claimed.
    pub fn bytes(&self) -> u64 {
        self.raw.bytes
    }

    /// Ends the claim of a page that was written. Returns whether the page left the pool.
    ///
    /// False: it was loaded meanwhile and stays, or it was replaced or removed. The copy that was written is not needed
    /// then, and may be older than the page. Leave it where it is: its place may belong to another thread already. It
    /// does no harm while loads ask the zswap first.
    ///
    /// Waits for nothing. Callbacks may call this.
    ///
    /// # Errors
    /// In a forked child: [`crate::Error::Forked`] without the pool, and [`crate::Error::Stale`] with it, because
    /// claims are the parent's.
    pub fn written(mut self) -> Result<bool> {
        self.end(Ok(()))
    }

    /// Ends the claim of a page that was not written, and keeps the page. `refusal` is counted. With
    /// [`Refusal::Exists`] the page counts as used.
    ///
    /// Waits for nothing. Callbacks may call this. Does nothing in a forked child, where the claim has ended.
    pub fn refuse(mut self, refusal: Refusal) {
        // The only error is that the claim has ended, in a forked child.
        let _ = self.end(Err(refusal));
    }

    fn end(&mut self, result: Result<(), Refusal>) -> Result<bool> {
        self.ended = true;
        self.area.0.end_claim(&self.raw, result)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.ended {
            // As in `refuse`.
            let _ = self.end(Err(Refusal::Again));
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Claim")
            .field("area", &self.area)
            .field("offset", &self.raw.offset)
            .field("bytes", &self.raw.bytes)
            .finish()
    }
}

impl Area {
    /// Claims a page that was not used lately, and decodes it into `page`. The caller writes it to where it keeps pages
    /// and ends the claim, at any time and in any thread. Needs neither a callback nor a file.
    ///
    /// None: no page of the area can be claimed now. Every page is one that repeats a word, or on the library's own
    /// file, or claimed already, or damaged, or was used while this call looked for it. There is more to claim once
    /// pages were stored or claims have ended; a caller that asks again at once finds nothing again.
    ///
    /// Storing and loading mark a page as used. The search clears the marks that it passes, and claims the first page
    /// without one. It goes round the area twice at most, so the marks only say which page goes first: where all pages
    /// are marked, as after they were all stored, the first call clears all marks and claims the page that it began at.
    ///
    /// The page is decoded before it is claimed. So if the memory of `page` is missing, under a userfaultfd for
    /// example, the thread that brings it may invalidate any page of the area.
    ///
    /// # Errors
    /// [`crate::Error::Busy`] if as many claims are held as there is room for. [`crate::Error::Invalid`] if the area
    /// is never written back, [`crate::Error::Removed`], [`crate::Error::Forked`] in a child without the pool.
    pub fn claim(&self, page: &mut [u8; PAGE]) -> Result<Option<Claim>> {
        let mut claim = None;
        self.0.claim_some(std::slice::from_mut(page), |raw| claim = Some(Claim::new(self, raw)))?;
        Ok(claim)
    }
}

impl Zswap {
    /// Claims a page that was not used lately, as [`Area::claim`] does, of an area that may be written back.
    /// [`Claim::area`] says which.
    ///
    /// The areas take turns of 64 pages. An area that has met its own limit has its turn before the others, until
    /// enough of its pages are claimed for it to accept pages again. So an area that stores much, and meets its own
    /// limit by that, does not drain areas that store little. An area of which no page can be claimed is passed by.
    ///
    /// None: no page of any area can be claimed now. [`Area::claim`] says when that is.
    ///
    /// # Errors
    /// [`crate::Error::Busy`] if as many claims are held as there is room for, [`crate::Error::Forked`] in a child
    /// without the pool.
    pub fn claim(&self, page: &mut [u8; PAGE]) -> Result<Option<Claim>> {
        self.shared.claim_of_all(page, Claim::new)
    }
}
