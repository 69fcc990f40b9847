//! Shrinks that choose pages, and the ages by which they do.

use crate::export::{export, fills_statistics};
use crate::options::RESERVED;
use crate::sized::{Received, SizedStruct, unless_zero};
use crate::{zswap, zswap_area};
use std::ffi::c_int;
use std::mem::offset_of;
use zsalloc::plumbing::{Uncancelled, sentence};
use zsalloc::{Error, Result, ShrinkDone, ShrinkOptions};

/// Maximum of zswap_shrink_options.min_age, and the age of the pages that were longest unused.
pub const ZSWAP_MAX_AGE: u32 = 3;
const _: () = assert!(ZSWAP_MAX_AGE == ShrinkOptions::MAX_AGE as u32);

/// zswap_shrink_options.flags: pages that did not compress go first, because they make the most room.
/// Those that were used lately are not among them. The other pages follow, as far as more may go.
pub const ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST: u32 = 1;

/// What zswap_shrink_by() and zswap_shrink_area_by() write back. Set the whole struct to 0, then
/// struct_size, then the fields that differ from the default.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_shrink_options {
    /// Set to sizeof(struct zswap_shrink_options).
    pub struct_size: usize,
    /// How many pages may leave the pool. 0: no limit.
    pub max_pages: u64,
    /// How many bytes of slots may become free, as zswap_stats.used_bytes counts them. A page that
    /// would take the sum beyond this stays. 0: no limit.
    pub max_bytes: u64,
    /// Only pages of this age and older, at most ZSWAP_MAX_AGE: see zswap_age(). 0: pages of all ages,
    /// where pages that were used have a second chance as in zswap_shrink(). From 1 on, pages that were
    /// used stay, and keep the mark that says so.
    pub min_age: u32,
    /// ZSWAP_SHRINK_* flags, combined with |.
    pub flags: u32,
    /// Reserved for later versions: set to 0.
    pub reserved: [u64; 4],
}

/// What a shrink has done: see zswap_shrink_by().
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct zswap_shrunk {
    /// sizeof(struct zswap_shrunk), set by the caller.
    pub struct_size: usize,
    /// Pages that left the pool.
    pub pages: u64,
    /// Bytes of slots that became free in the pool.
    pub bytes: u64,
}

// SAFETY: 64-bit integers, and a pair of 32-bit integers.
unsafe impl SizedStruct for zswap_shrink_options {}
// SAFETY: 64-bit integers.
unsafe impl SizedStruct for zswap_shrunk {}

const _: () = assert!(size_of::<zswap_shrink_options>() == offset_of!(zswap_shrink_options, reserved) + 32);
const _: () = assert!(offset_of!(zswap_shrink_options, reserved) == offset_of!(zswap_shrink_options, min_age) + 8);

fills_statistics!(zswap_shrunk);

impl From<ShrinkDone> for zswap_shrunk {
    fn from(done: ShrinkDone) -> Self {
        Self { struct_size: size_of::<Self>(), pages: done.pages, bytes: done.bytes }
    }
}

/// Converts the options of a shrink. Zswap itself checks the age.
fn convert(received: &Received<zswap_shrink_options>) -> Result<ShrinkOptions> {
    const UNKNOWN: Error = Error::Invalid(sentence(&"the shrink's options set an unknown flag"));
    let options = received.all()?;
    if options.reserved != [0; 4] {
        return Err(RESERVED);
    }
    if options.flags & !ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST != 0 {
        return Err(UNKNOWN);
    }
    Ok(ShrinkOptions {
        max_pages: unless_zero(options.max_pages).unwrap_or(u64::MAX),
        max_bytes: unless_zero(options.max_bytes),
        // Each age that is too much is refused alike.
        min_age: options.min_age.min(ZSWAP_MAX_AGE + 1) as u8,
        incompressible_first: options.flags & ZSWAP_SHRINK_INCOMPRESSIBLE_FIRST != 0,
    })
}

export! {
    /// Writes back the pages that the options choose, from all areas in turn, as zswap_shrink() does,
    /// until as much has left the pool as the options allow. Fills *shrunk with what did, which may be
    /// less. Set its struct_size first.
    ///
    /// max_bytes is never exceeded. The first page that would exceed it ends the turn of its area,
    /// unless no page has gone yet: then it is passed by, and a smaller one may go.
    ///
    /// options: NULL for the defaults, which write back all pages that can go.
    ///
    /// Errors:
    /// -EINVAL: zswap or shrunk is NULL, a struct_size is wrong, min_age is more than ZSWAP_MAX_AGE, a
    ///     flag is unknown, or there is neither a callback nor a backing file or another tier.
    /// -EBUSY: this is a function of a tier.
    /// -EAGAIN: no page could go now: none is old enough, none is as small as max_bytes, the callback
    ///     refused, no tier has room or can be reached, or pages are in use.
    /// -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
    ///     Nothing was written.
    /// -ENOENT: no page is in the pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
    /// Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_shrink_by(
        zswap: *mut zswap,
        options: *const zswap_shrink_options,
        shrunk: *mut zswap_shrunk,
    ) -> c_int {
        let _whole = Uncancelled::new();
        shrunk.set(zswap.shrink_by(&convert(&options)?)?.into())
    }

    /// Writes back the pages of one area that the options choose, as zswap_shrink_by() does for all
    /// areas. Fills *shrunk with what left the pool. Set its struct_size first.
    ///
    /// options: NULL for the defaults, which write back all pages that can go.
    ///
    /// Errors:
    /// -EINVAL: area or shrunk is NULL, a struct_size is wrong, min_age is more than ZSWAP_MAX_AGE, a
    ///     flag is unknown, there is neither a callback nor a backing file or another tier, or the area
    ///     has ZSWAP_AREA_NO_WRITEBACK.
    /// -EBUSY: this is a function of a tier.
    /// -EAGAIN: no page of the area could go now: none is old enough, none is as small as max_bytes,
    ///     the callback refused, no tier has room or can be reached, or pages are in use.
    /// -EIO: the library's descriptor of the backing file was closed, or now refers to another file.
    ///     Nothing was written.
    /// -ENOENT: no page of the area is in the pool.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any, several at once; takes as long as its work, and ends even if every page is refused.
    /// Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_shrink_area_by(
        area: *mut zswap_area,
        options: *const zswap_shrink_options,
        shrunk: *mut zswap_shrunk,
    ) -> c_int {
        let _whole = Uncancelled::new();
        shrunk.set(area.shrink_by(&convert(&options)?)?.into())
    }

    /// Lets time pass for the pages of the area that are in the pool. A page that was stored or loaded
    /// since the last call has age 0 from then on; the others become older by one, up to ZSWAP_MAX_AGE.
    /// zswap_shrink_options.min_age says which ages a shrink takes. Pages that are being written back
    /// stay as they are, and an area for which this is never called has pages of age 0 alone.
    ///
    /// The library has no clock of its own: call this at an interval that suits the program, such as a
    /// minute. A page that was not used has age 3 after four calls: the first one takes back the mark that
    /// the store has left. As a shrink does when it passes, a call clears the mark of a page that was used:
    /// zswap_shrink() takes that page without another chance.
    ///
    /// Errors:
    /// -EINVAL: area is NULL.
    /// -EPERM: this process is a forked child that has no copy of the pool.
    ///
    /// Threads: any; takes no lock, and time in proportion to the pages that are stored. Callbacks:
    /// allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zswap_age(area: *mut zswap_area) -> c_int {
        area.age()
    }
}
