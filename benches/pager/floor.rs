//! The least that a touch can cost under userfaultfd: a handler of SIGBUS that decodes the page from a flat array of
//! LZ4 blocks, and puts it in place by UFFDIO_COPY. It has no pool, no check, no statistics and no second thread. Runs
//! in a process of its own.

use super::child::{Numbers, Order};
use super::common::plain::Packed;
use super::common::random::Random;
use super::common::region::Region;
use super::faults::Times;
use linux_raw_sys::general as raw;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use zsalloc::PAGE_SIZE;

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
    let mode = raw::UFFDIO_REGISTER_MODE_MISSING as u64;
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
    assert!(FLOOR.set(floor).is_ok(), "a process measures once");
    told("sigaction", install(on_sigbus))?;
    let mut numbers = Numbers::new();
    let mut sequence: Vec<u32> = (0..region.pages() as u32).collect();
    let mut random = Random::new(order.get("seed")?);
    for round in ["first", "second", "read"] {
        // SAFETY: the pages come back from the flat array.
        let dropped = unsafe { libc::madvise(region.base().cast(), region.bytes(), libc::MADV_DONTNEED) };
        told("madvise", if dropped == 0 { Ok(()) } else { Err(Error::last_os_error()) })?;
        random.shuffle(&mut sequence);
        let mut times = Times::new(region.pages());
        sequence.iter().for_each(|&page| times.touch(&region, page as usize));
        times.tell(round, &mut numbers);
    }
    region.check(&data, 0)?;
    Ok(numbers)
}
