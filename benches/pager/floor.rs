//! The least that a touch and an eviction can cost under userfaultfd. A handler of SIGBUS decodes the page from a flat
//! array of LZ4 blocks, and puts it in place by UFFDIO_COPY. Pages leave by batches: each is protected from writes,
//! copied by a call that fails where a page is missing, compressed and dropped. There is no pool, no check, no
//! statistics and no second thread. Runs in a process of its own.

use super::child::{Numbers, Order};
use super::common::plain::{Compressor, Packed};
use super::common::random::Random;
use super::common::region::Region;
use super::faults::Times;
use linux_raw_sys::general as raw;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Instant;
use zsalloc::PAGE_SIZE;

/// Pages that leave memory together.
const BATCH: usize = 32;

/// UFFDIO_WRITEPROTECT_MODE_WP, which the bindings do not have.
const PROTECT: u64 = 1;

/// What the handler needs.
struct Floor {
    uffd: OwnedFd,
    base: usize,
    pages: usize,
    packed: Packed,
    /// The page that the handler decodes to. Only one thread touches the memory.
    decoded: Region,
}

static FLOOR: OnceLock<Floor> = OnceLock::new();

/// Makes an ioctl of a userfaultfd whose argument the kernel reads and writes.
pub fn ioctl<T>(uffd: &OwnedFd, number: u32, argument: &mut T) -> Result<()> {
    let request = 3 << 30 | (size_of::<T>() as u32) << 16 | raw::UFFDIO << 8 | number;
    // SAFETY: the argument has the type of the ioctl.
    match unsafe { libc::ioctl(uffd.as_raw_fd(), request as _, std::ptr::from_mut(argument)) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Makes a userfaultfd whose touches raise SIGBUS, and registers a region.
pub fn register(region: &Region) -> Result<OwnedFd> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | raw::UFFD_USER_MODE_ONLY as i32;
    // SAFETY: the call takes a number, and returns a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor is new.
    let uffd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let features = raw::UFFD_FEATURE_SIGBUS as u64;
    ioctl(&uffd, raw::_UFFDIO_API, &mut raw::uffdio_api { api: raw::UFFD_API.into(), features, ioctls: 0 })?;
    let range = raw::uffdio_range { start: region.base() as u64, len: region.bytes() as u64 };
    let mode = u64::from(raw::UFFDIO_REGISTER_MODE_MISSING | raw::UFFDIO_REGISTER_MODE_WP);
    ioctl(&uffd, raw::_UFFDIO_REGISTER, &mut raw::uffdio_register { range, mode, ioctls: 0 })?;
    Ok(uffd)
}

/// Puts the touched page in its place.
extern "C" fn on_sigbus(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system passes a siginfo, which has an address when a fault raised the signal.
    let at = unsafe { (*info).si_addr() } as usize & !(PAGE_SIZE - 1);
    let floor = FLOOR.get().filter(|floor| at.wrapping_sub(floor.base) / PAGE_SIZE < floor.pages);
    let Some(floor) = floor else { std::process::abort() };
    // SAFETY: only the one thread that touches runs this, and it touches nothing here that can fault.
    let decoded = unsafe { &mut *floor.decoded.base().cast::<[u8; PAGE_SIZE]>() };
    floor.packed.decode((at - floor.base) / PAGE_SIZE, decoded);
    let (dst, src) = (at as u64, floor.decoded.base() as u64);
    let mut copy = raw::uffdio_copy { dst, src, len: PAGE_SIZE as u64, mode: 0, copy: 0 };
    if ioctl(&floor.uffd, raw::_UFFDIO_COPY, &mut copy).is_err() {
        std::process::abort();
    }
}

/// Installs a handler of SIGBUS with the flags and the mask that the pager's has.
pub fn install(handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void)) -> Result<()> {
    // SAFETY: all zeros are a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the mask may be written, and the action is complete.
    let result = unsafe {
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Opens a descriptor of this process.
pub fn this_process() -> Result<OwnedFd> {
    // SAFETY: the call takes numbers, and returns a new descriptor.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    if process < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor is new.
    Ok(unsafe { OwnedFd::from_raw_fd(process as i32) })
}

/// Drops pages by one call.
///
/// # Safety
/// Nobody needs the bytes of the pages.
pub unsafe fn drop_all(process: &OwnedFd, pages: &[libc::iovec]) -> Result<()> {
    let (process, count) = (process.as_raw_fd(), pages.len());
    // SAFETY: the caller vouches for the pages.
    match unsafe { libc::syscall(libc::SYS_process_madvise, process, pages.as_ptr(), count, libc::MADV_DONTNEED, 0) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes all pages out of memory, with what a pager that evicts in place can't do without.
fn evict_all(floor: &Floor, process: &OwnedFd) -> Result<()> {
    let mut compressor = Compressor::new();
    let mut copies = vec![[0; PAGE_SIZE]; BATCH];
    for first in (0..floor.pages).step_by(BATCH) {
        let count = BATCH.min(floor.pages - first);
        let (at, bytes) = (floor.base + first * PAGE_SIZE, count * PAGE_SIZE);
        let range = raw::uffdio_range { start: at as u64, len: bytes as u64 };
        let mode = PROTECT;
        ioctl(&floor.uffd, raw::_UFFDIO_WRITEPROTECT, &mut raw::uffdio_writeprotect { range, mode })?;
        let pages: [_; BATCH] = std::array::from_fn(|page| libc::iovec {
            iov_base: (at + page * PAGE_SIZE) as *mut libc::c_void,
            iov_len: PAGE_SIZE,
        });
        let local = libc::iovec { iov_base: copies.as_mut_ptr().cast(), iov_len: bytes };
        let remote = libc::iovec { iov_len: bytes, ..pages[0] };
        // SAFETY: the copies have room for as many bytes.
        let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
        if read != bytes as isize {
            return Err(Error::last_os_error());
        }
        copies[..count].iter().for_each(|copy| _ = std::hint::black_box(compressor.compress(copy)));
        // SAFETY: the pages come back from the flat array.
        unsafe { drop_all(process, &pages[..count]) }?;
    }
    Ok(())
}

/// Takes all pages out of memory three times, and touches them in random order.
pub fn measure(order: &Order) -> std::result::Result<Numbers, String> {
    let (data, region) = order.regions()?;
    let told = |what: &str, result: Result<()>| result.map_err(|error| format!("{what}: {error}"));
    // SAFETY: the mapping has that many pages, and nobody writes them.
    let pages = unsafe { std::slice::from_raw_parts(data.base().cast::<[u8; PAGE_SIZE]>(), region.pages()) };
    let packed = Packed::new(pages);
    let decoded = Region::new(1)?;
    decoded.fill(&data);
    let uffd = register(&region).map_err(|error| format!("userfaultfd: {error}"))?;
    let floor = Floor { uffd, base: region.base() as usize, pages: region.pages(), packed, decoded };
    let floor = FLOOR.get_or_init(|| floor);
    let process = this_process().map_err(|error| format!("pidfd_open: {error}"))?;
    told("sigaction", install(on_sigbus))?;
    region.fill(&data);
    let mut numbers = Numbers::new();
    let mut sequence: Vec<u32> = (0..region.pages() as u32).collect();
    let mut random = Random::new(order.get("seed")?);
    for round in ["first", "second", "read"] {
        let start = Instant::now();
        told("eviction", evict_all(floor, &process))?;
        numbers.insert(format!("{round}-evict"), start.elapsed().as_secs_f64() * 1e6 / region.pages() as f64);
        random.shuffle(&mut sequence);
        let mut times = Times::new(region.pages());
        sequence.iter().for_each(|&page| times.touch(&region, page as usize));
        times.tell(round, &mut numbers);
    }
    region.check(&data, 0)?;
    Ok(numbers)
}
