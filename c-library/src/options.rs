//! From the options that C passes to those of a [`Pool`](zsalloc::Pool).

use super::sized::Received;
use super::structs::{
    ZS_BACKING_ANONYMOUS, ZS_BACKING_HUGETLB, ZS_BACKING_MEMFD, ZS_BACKING_MEMORY, ZS_POOL_DONTFORK, ZS_POOL_HARDENED,
    ZS_POOL_HUGE_ALWAYS, ZS_POOL_HUGE_NEVER, ZS_POOL_NO_ADVICE, ZS_POOL_RELEASABLE, zs_pool_options,
};
use std::ffi::{CStr, c_char};
use std::fmt::{self, Write};
use std::mem::MaybeUninit;
use std::slice;
use zsalloc::{Backing, Error, HugePages, LentMemory, PoolOptions, Result};

/// The error for options of any kind whose reserved fields are not 0.
pub const RESERVED: Error = Error::Invalid(&"a reserved field of the options is not 0");

const ALL_FLAGS: u32 = ZS_POOL_HUGE_NEVER
    | ZS_POOL_HUGE_ALWAYS
    | ZS_POOL_DONTFORK
    | ZS_POOL_NO_ADVICE
    | ZS_POOL_HARDENED
    | ZS_POOL_RELEASABLE;

/// What the system accepts as the name of a memory file; for all pools, so that a name is right or wrong by itself.
const MOST_NAME_BYTES: usize = 249;

/// The name, if it can be one.
pub fn name(name: &CStr) -> Result<&str> {
    const LONG: Error = Error::Invalid(&"the pool's name has more than 249 bytes");
    const STRANGE: Error = Error::Invalid(&"the pool's name is not UTF-8");
    if name.count_bytes() > MOST_NAME_BYTES {
        return Err(LONG);
    }
    name.to_str().map_err(|_| STRANGE)
}

/// The options, if they agree with each other.
///
/// # Safety
/// The memory that they supply, if any, is the pool's alone, as the header asks.
pub unsafe fn convert(received: &Received<zs_pool_options>) -> Result<PoolOptions> {
    let options = received.all()?;
    let has = |flag: u32| options.flags & flag != 0;
    check_flags(options)?;
    // SAFETY: the caller vouches for the memory.
    let backing = unsafe { backing(options) }?;
    let huge_pages = match (has(ZS_POOL_HUGE_NEVER), has(ZS_POOL_HUGE_ALWAYS)) {
        (true, _) => HugePages::Never,
        (_, true) => HugePages::Always,
        _ => HugePages::WhenLarge,
    };
    Ok(PoolOptions {
        max_bytes: options.max_bytes,
        backing,
        huge_pages,
        dont_fork: has(ZS_POOL_DONTFORK),
        no_advice: has(ZS_POOL_NO_ADVICE),
        hardened: has(ZS_POOL_HARDENED),
    })
}

fn check_flags(options: &zs_pool_options) -> Result<()> {
    let has = |flag: u32| options.flags & flag != 0;
    const UNKNOWN: Error = Error::Invalid(&"the options have a flag that does not exist");
    const BOTH: Error = Error::Invalid(&"huge pages are asked for both always and never");
    const NOTHING_BUT_HUGE: Error =
        Error::Invalid(&"ZS_POOL_HUGE_NEVER contradicts ZS_BACKING_HUGETLB, which is nothing but huge pages");
    const NO_ADVICE: Error =
        Error::Invalid(&"ZS_POOL_HUGE_ALWAYS is not for ZS_BACKING_MEMORY: supply memory that has huge pages");
    const NOT_SUPPLIED: Error = Error::Invalid(&"ZS_POOL_RELEASABLE is for ZS_BACKING_MEMORY only");
    const NOT_ASKED_FOR: Error = Error::Invalid(&"memory is supplied, but the backing is not ZS_BACKING_MEMORY");
    let supplied = options.backing == ZS_BACKING_MEMORY;
    let wrong = [
        (options.reserved != [0; 4], RESERVED),
        (options.flags & !ALL_FLAGS != 0, UNKNOWN),
        (has(ZS_POOL_HUGE_NEVER) && has(ZS_POOL_HUGE_ALWAYS), BOTH),
        (has(ZS_POOL_HUGE_NEVER) && options.backing == ZS_BACKING_HUGETLB, NOTHING_BUT_HUGE),
        (has(ZS_POOL_HUGE_ALWAYS) && supplied, NO_ADVICE),
        (has(ZS_POOL_RELEASABLE) && !supplied, NOT_SUPPLIED),
        (!supplied && (!options.memory.is_null() || options.memory_bytes != 0), NOT_ASKED_FOR),
    ];
    wrong.into_iter().find(|(is_wrong, _)| *is_wrong).map_or(Ok(()), |(_, error)| Err(error))
}

/// # Safety
/// As [`convert`].
unsafe fn backing(options: &zs_pool_options) -> Result<Backing> {
    const UNKNOWN: Error = Error::Invalid(&"the options have a backing that does not exist");
    const LARGE: Error = Error::Invalid(&"memory_bytes is more than there are addresses");
    match options.backing {
        ZS_BACKING_ANONYMOUS => Ok(Backing::Anonymous),
        ZS_BACKING_MEMFD => Ok(Backing::MemoryFile),
        ZS_BACKING_HUGETLB => Ok(Backing::HugePages),
        ZS_BACKING_MEMORY => {
            let bytes = usize::try_from(options.memory_bytes).ok();
            let end = bytes.and_then(|bytes| (options.memory as usize).checked_add(bytes));
            let (Some(bytes), Some(_)) = (bytes, end) else { return Err(LARGE) };
            // SAFETY: the caller vouches for the memory.
            let memory = unsafe {
                LentMemory::for_one_pool(options.memory.cast(), bytes, options.flags & ZS_POOL_RELEASABLE != 0)
            };
            Ok(Backing::Lent(memory))
        }
        _ => Err(UNKNOWN),
    }
}

/// Writes why a creation failed where its options want it.
///
/// # Safety
/// `message` is NULL, or has room for `size` bytes.
pub unsafe fn tell(message: *mut c_char, size: usize, error: Error) {
    let Some(most) = size.checked_sub(1) else { return };
    if message.is_null() {
        return;
    }
    // SAFETY: the caller vouches for so much room, and one byte more for the NUL.
    let room = unsafe { slice::from_raw_parts_mut(message.cast::<MaybeUninit<u8>>(), most) };
    let mut written = Cut { room, length: 0 };
    // Err: the sentence was cut off.
    let _ = write!(written, "{error}");
    let end = written.length;
    // SAFETY: as above; `end` is at most `most`.
    unsafe { message.add(end).write(0) };
}

/// Text that is cut off where its room ends.
struct Cut<'a> {
    room: &'a mut [MaybeUninit<u8>],
    length: usize,
}

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.room[self.length..];
        let fits = (0..=room.len().min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        let end = fits.unwrap_or(0);
        room.iter_mut().zip(&text.as_bytes()[..end]).for_each(|(to, &from)| _ = to.write(from));
        self.length += end;
        if end == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
