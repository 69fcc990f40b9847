//! What the machine has: memory and processors.

/// Returns the bytes of physical memory, or none if the system does not say. It is asked once, when a pool is created
/// without a capacity.
pub fn physical_memory() -> Option<u64> {
    // SAFETY: sysconf reads no memory of ours.
    let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).ok()?.checked_mul(u64::try_from(page).ok()?)
}

/// Returns the system's page size in bytes.
pub fn page_size() -> usize {
    // SAFETY: sysconf reads no memory of ours.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0)
}

/// Returns the processor that this thread runs on. It is a hint: the thread may have moved to another one by now.
#[inline]
pub fn current_cpu() -> usize {
    // SAFETY: the call reads no memory of ours.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Returns how many processors this process may use, at most 1,024. Reads no file and allocates nothing, where
/// `available_parallelism` would read the quota of a cgroup.
pub fn processors() -> usize {
    // SAFETY: a set of processors is a number of words; all zeros are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes no more than the set. It fails where there are more processors than the set has bits.
    match unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } {
        // SAFETY: the set was filled in.
        0 => unsafe { libc::CPU_COUNT(&set) }.max(1) as usize,
        _ => libc::CPU_SETSIZE as usize,
    }
}
