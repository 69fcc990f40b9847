//! Converts the pool options of C to [`PoolOptions`](zsalloc::PoolOptions).

use super::sized::{Received, unless_zero};
use super::structs::{
    ZS_BACKING_ANONYMOUS, ZS_BACKING_HUGETLB, ZS_BACKING_MEMFD, ZS_BACKING_MEMORY, ZS_POOL_DONTFORK, ZS_POOL_HARDENED,
    ZS_POOL_HUGE_ALWAYS, ZS_POOL_HUGE_NEVER, ZS_POOL_NO_ADVICE, ZS_POOL_RELEASABLE, ZS_POOL_TAGGED, zs_pool_options,
    zs_pool_tuning,
};
use super::wrong::wrong;
use std::ffi::{CStr, c_char};
use zsalloc::plumbing::sentence;
use zsalloc::{Backing, Error, HugePages, LentMemory, PoolOptions, PoolTuning, Result};

/// The error for options of any kind whose reserved fields are not 0.
pub const RESERVED: Error =
    Error::Invalid(sentence(&"a reserved field of the options is not 0: set the whole struct to 0 first"));

const FLAGS: u32 = ZS_POOL_HARDENED | ZS_POOL_RELEASABLE;
const TUNING_FLAGS: u32 =
    ZS_POOL_HUGE_NEVER | ZS_POOL_HUGE_ALWAYS | ZS_POOL_DONTFORK | ZS_POOL_NO_ADVICE | ZS_POOL_TAGGED;

/// The longest name that the system accepts for a memory file. All pools keep to it, so that whether a name is valid
/// does not depend on the backing.
const MOST_NAME_BYTES: usize = 249;

/// Returns the name of a pool, or an error if it is not a valid one.
pub fn name(name: &CStr) -> Result<&str> {
    const LONG: Error = Error::Invalid(sentence(&"the name is longer than 249 bytes"));
    const STRANGE: Error = Error::Invalid(sentence(&"the name is not UTF-8"));
    if name.count_bytes() > MOST_NAME_BYTES {
        return Err(LONG);
    }
    name.to_str().map_err(|_| STRANGE)
}

/// Returns a name that may be NULL for none, which is empty.
///
/// # Safety
/// The name is NULL, or a C string that lives for `'a`.
pub unsafe fn name_or_none<'a>(passed: *const c_char) -> Result<&'a str> {
    // SAFETY: the caller promises it.
    if passed.is_null() { Ok("") } else { name(unsafe { CStr::from_ptr(passed) }) }
}

/// Converts the options, if they do not contradict each other.
///
/// # Safety
/// The tuning is NULL or what the header says, and memory that the options supply is for this pool alone.
pub unsafe fn convert(received: &Received<zs_pool_options>) -> Result<PoolOptions> {
    let options = received.all()?;
    // SAFETY: the caller promises that a tuning that is not NULL is as the header says.
    let tuning = unsafe { Received::read(options.tuning, wrong!("options->tuning")) }?;
    let tuning = tuning.all()?;
    check_flags(options, tuning)?;
    let has = |flag: u32| tuning.flags & flag != 0;
    // SAFETY: the caller promises that the memory is for this pool alone.
    let backing = unsafe { backing(options) }?;
    let huge_pages = match (has(ZS_POOL_HUGE_NEVER), has(ZS_POOL_HUGE_ALWAYS)) {
        (true, _) => HugePages::Never,
        (_, true) => HugePages::Always,
        _ => HugePages::WhenLarge,
    };
    Ok(PoolOptions {
        max_bytes: unless_zero(options.max_bytes),
        backing,
        hardened: options.flags & ZS_POOL_HARDENED != 0,
        tuning: PoolTuning {
            huge_pages,
            dont_fork: has(ZS_POOL_DONTFORK),
            no_advice: has(ZS_POOL_NO_ADVICE),
            tags: has(ZS_POOL_TAGGED),
        },
    })
}

fn check_flags(options: &zs_pool_options, tuning: &zs_pool_tuning) -> Result<()> {
    const OF_TUNING: Error = Error::Invalid(sentence(
        &"zs_pool_options.flags sets a flag of zs_pool_tuning.flags: pass it there, and the struct in .tuning",
    ));
    const OF_OPTIONS: Error =
        Error::Invalid(sentence(&"zs_pool_tuning.flags sets a flag of zs_pool_options.flags: pass it there"));
    const UNKNOWN: Error = Error::Invalid(sentence(&"the pool's options set an unknown flag"));
    const BOTH: Error = Error::Invalid(sentence(&"ZS_POOL_HUGE_NEVER and ZS_POOL_HUGE_ALWAYS exclude each other"));
    const NOTHING_BUT_HUGE: Error = Error::Invalid(sentence(
        &"ZS_POOL_HUGE_NEVER is impossible with ZS_BACKING_HUGETLB, which has only huge pages",
    ));
    const NO_ADVICE: Error = Error::Invalid(sentence(
        &"ZS_POOL_HUGE_ALWAYS is not allowed with ZS_BACKING_MEMORY: supply memory that has huge pages",
    ));
    const NOT_SUPPLIED: Error = Error::Invalid(sentence(&"ZS_POOL_RELEASABLE needs ZS_BACKING_MEMORY"));
    const NOT_ASKED_FOR: Error =
        Error::Invalid(sentence(&"memory or memory_bytes is set, but the backing is not ZS_BACKING_MEMORY"));
    let has = |flag: u32| tuning.flags & flag != 0;
    let supplied = options.backing == ZS_BACKING_MEMORY;
    let wrong = [
        (options.reserved != [0; 4] || tuning.reserved != [0; 9], RESERVED),
        ((options.flags | tuning.flags) & !(FLAGS | TUNING_FLAGS) != 0, UNKNOWN),
        (options.flags & TUNING_FLAGS != 0, OF_TUNING),
        (has(FLAGS), OF_OPTIONS),
        (has(ZS_POOL_HUGE_NEVER) && has(ZS_POOL_HUGE_ALWAYS), BOTH),
        (has(ZS_POOL_HUGE_NEVER) && options.backing == ZS_BACKING_HUGETLB, NOTHING_BUT_HUGE),
        (has(ZS_POOL_HUGE_ALWAYS) && supplied, NO_ADVICE),
        (options.flags & ZS_POOL_RELEASABLE != 0 && !supplied, NOT_SUPPLIED),
        (!supplied && (!options.memory.is_null() || options.memory_bytes != 0), NOT_ASKED_FOR),
    ];
    wrong.into_iter().find(|(is_wrong, _)| *is_wrong).map_or(Ok(()), |(_, error)| Err(error))
}

/// Converts the backing.
///
/// # Safety
/// Memory that the options supply is for this pool alone, as the header requires.
unsafe fn backing(options: &zs_pool_options) -> Result<Backing> {
    const UNKNOWN: Error = Error::Invalid(sentence(&"backing is not one of ZS_BACKING_*"));
    const LARGE: Error = Error::Invalid(sentence(&"memory_bytes reaches past the end of the address space"));
    match options.backing {
        ZS_BACKING_ANONYMOUS => Ok(Backing::Anonymous),
        ZS_BACKING_MEMFD => Ok(Backing::MemoryFile),
        ZS_BACKING_HUGETLB => Ok(Backing::HugePages),
        ZS_BACKING_MEMORY => {
            let bytes = usize::try_from(options.memory_bytes).ok();
            let end = bytes.and_then(|bytes| (options.memory as usize).checked_add(bytes));
            let (Some(bytes), Some(_)) = (bytes, end) else { return Err(LARGE) };
            // SAFETY: the caller promises that the memory is for this pool alone.
            let memory = unsafe {
                LentMemory::for_one_pool(options.memory.cast(), bytes, options.flags & ZS_POOL_RELEASABLE != 0)
            };
            Ok(Backing::Lent(memory))
        }
        _ => Err(UNKNOWN),
    }
}
