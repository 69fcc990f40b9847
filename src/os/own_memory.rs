//! Reading and writing memory of this process whose owner may unmap it or give it back meanwhile: no signal comes, and
//! nobody waits for a page that is missing.

use super::calls::Call;
use super::errno::{self, Errno, OsResult, last_errno};
use super::seam::Os;
use super::span::Span;
use crate::units::{AlignedPage, PAGE};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// The way by which such memory is read and written.
pub struct OwnMemory {
    os: Os,
    through: Through,
}

enum Through {
    /// process_vm_readv(2), which fails at a missing page, because touches are signals. If a jail forbids the call,
    /// from the start or later, the file is used.
    Call(Option<File>),
    /// /proc/self/mem, where a missing page is an error, whichever thread serves touches. process_vm_readv would wait
    /// for the page, perhaps in the very thread that serves.
    File(File),
    /// The call, right after the system has said that the page is there, because there is no /proc. If the owner gives
    /// the page back in between, the call waits.
    Asking,
}

impl Os {
    /// Reads memory of this process that its owner may unmap meanwhile: the read stops there, and no signal comes.
    /// Returns how many bytes it read. It reads no more than the first 64 ranges that are no neighbours.
    ///
    /// # Safety
    /// As many bytes as the spans have can be written at `to`.
    pub unsafe fn read_memory(&self, spans: &[Span], to: *mut u8) -> OsResult<usize> {
        /// The most ranges that are read by one call.
        const RANGES: usize = 64;
        if spans.is_empty() {
            return Ok(0);
        }
        self.may(Call::Read)?;
        // The system looks each range up by itself, so neighbours are read as one.
        let mut ranges = [Span::new(std::ptr::null_mut(), 0); RANGES];
        let (count, bytes) = Span::join(spans, &mut ranges);
        let local = libc::iovec { iov_base: to.cast(), iov_len: bytes };
        let count = count as libc::c_ulong;
        // SAFETY: a span is an iovec, and `count` of them can be read; the caller vouches for `to`; the system checks
        // the addresses of the spans.
        let done =
            unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, ranges.as_ptr().cast(), count, 0) };
        usize::try_from(done).map_err(|_| last_errno())
    }
}

impl OwnMemory {
    /// Chooses the way. `waits`: touches of missing pages wait for threads, and are no signals. A forked child must not
    /// use it: it would reach the parent's memory.
    pub fn new(os: &Os, waits: bool) -> OsResult<Self> {
        let file = Self::open(os)?;
        let through = match (waits, file) {
            (false, file) => Through::Call(file),
            (true, Some(file)) => Through::File(file),
            (true, None) => Through::Asking,
        };
        Ok(Self { os: os.clone(), through })
    }

    /// Opens /proc/self/mem. None: there is no /proc, or the file may not be opened.
    fn open(os: &Os) -> OsResult<Option<File>> {
        os.may(Call::MemoryFile)?;
        match File::options().read(true).write(true).open("/proc/self/mem") {
            Ok(file) => Ok(Some(file)),
            Err(error) => match error.raw_os_error() {
                Some(refused @ (errno::EMFILE | errno::ENFILE | errno::ENOMEM)) => Err(Errno(refused)),
                _ => Ok(None),
            },
        }
    }

    /// Reads a page to see whether that works here.
    ///
    /// Fails with `EPERM` if a jail forbids it, and otherwise with the system's errno, such as `ENOMEM`.
    pub fn check(&self) -> OsResult<()> {
        let (page, mut copy) = (AlignedPage([0; PAGE]), AlignedPage([0; PAGE]));
        let span = [Span::new(page.0.as_ptr().cast_mut(), PAGE)];
        let mut seen = [0];
        let asked = match self.through {
            Through::Asking => self.os.in_memory(page.0.as_ptr() as usize, &mut seen),
            Through::Call(_) | Through::File(_) => Ok(()),
        };
        let read = asked.and_then(|()| match &self.through {
            Through::File(file) => self.read_one(file, &page.0, &mut copy.0),
            // SAFETY: both are pages of this thread's stack.
            Through::Call(_) | Through::Asking => unsafe { self.os.read_memory(&span, copy.0.as_mut_ptr()) },
        });
        let read = match (read, &self.through) {
            (Err(refused), Through::Call(Some(file))) if Self::is_forbidden(refused) => {
                self.read_one(file, &page.0, &mut copy.0)
            }
            (read, _) => read,
        };
        match read {
            Ok(PAGE) => Ok(()),
            Ok(_) => Err(Errno(errno::EAGAIN)),
            Err(refused) if Self::is_forbidden(refused) => Err(Errno(errno::EPERM)),
            Err(refused) => Err(refused),
        }
    }

    /// Reads a page through the file. Returns how many bytes were read.
    fn read_one(&self, file: &File, page: &[u8; PAGE], copy: &mut [u8; PAGE]) -> OsResult<usize> {
        self.os.may(Call::Read)?;
        let read = file.read_at(copy, page.as_ptr() as u64);
        read.map_err(|error| Errno(error.raw_os_error().unwrap_or(errno::EIO)))
    }

    /// Whether the system refuses the call itself, and not just these arguments.
    fn is_forbidden(refused: Errno) -> bool {
        matches!(refused.0, errno::EPERM | errno::ENOSYS)
    }

    /// Reads pages, one after the other, to one place. Returns how many were read: it stops at the first that can't be.
    ///
    /// # Safety
    /// As many bytes as the spans have, each of which is a page, can be written at `to`.
    pub unsafe fn read_pages(&self, pages: &[Span], to: *mut u8) -> usize {
        match &self.through {
            // SAFETY: the caller vouches for `to`.
            Through::Call(file) => match (unsafe { self.os.read_memory(pages, to) }, file) {
                (Ok(read), _) => read / PAGE,
                // SAFETY: the caller vouches for `to`.
                (Err(refused), Some(file)) if Self::is_forbidden(refused) => unsafe { self.read_runs(file, pages, to) },
                (Err(_), _) => 0,
            },
            // SAFETY: the caller vouches for `to`.
            Through::File(file) => unsafe { self.read_runs(file, pages, to) },
            Through::Asking => {
                let there = |page: &&Span| {
                    let mut seen = [0];
                    self.os.in_memory(page.parts().0 as usize, &mut seen).is_ok() && seen[0] & 1 == 1
                };
                let there = pages.iter().take_while(there).count();
                // SAFETY: the caller vouches for `to`.
                unsafe { self.os.read_memory(&pages[..there], to) }.unwrap_or(0) / PAGE
            }
        }
    }

    /// Reads pages through the file, neighbours by one call.
    ///
    /// # Safety
    /// As for [`OwnMemory::read_pages`].
    unsafe fn read_runs(&self, file: &File, pages: &[Span], to: *mut u8) -> usize {
        if pages.is_empty() || self.os.may(Call::Read).is_err() {
            return 0;
        }
        let address = |page: usize| pages[page].parts().0 as usize;
        let mut first = 0;
        while first < pages.len() {
            let end = (first + 1..pages.len()).find(|&next| address(next) != address(next - 1) + PAGE);
            let wanted = (end.unwrap_or(pages.len()) - first) * PAGE;
            // SAFETY: the caller vouches for `to`; the system checks the address in the file.
            let read = unsafe {
                libc::pread(file.as_raw_fd(), to.add(first * PAGE).cast(), wanted, address(first) as libc::off_t)
            };
            let read = usize::try_from(read).unwrap_or(0);
            first += read / PAGE;
            if read < wanted {
                break;
            }
        }
        first
    }

    /// Writes zeros to a page. Fails with `EAGAIN` if the page was missing, or protected, at that moment.
    pub fn write_zeros(&self, at: usize) -> OsResult<()> {
        static ZEROS: [u8; PAGE] = [0; PAGE];
        let write_to = |file: &File| file.write_all_at(&ZEROS, at as u64).map_err(|_| Errno(errno::EAGAIN));
        if let Through::File(file) = &self.through {
            return write_to(file);
        }
        let local = libc::iovec { iov_base: ZEROS.as_ptr().cast_mut().cast(), iov_len: PAGE };
        let remote = libc::iovec { iov_base: at as *mut _, iov_len: PAGE };
        // SAFETY: the page of zeros can be read; the rest the system checks.
        let done = unsafe { libc::process_vm_writev(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
        if usize::try_from(done) == Ok(PAGE) {
            return Ok(());
        }
        match (last_errno(), &self.through) {
            (refused, Through::Call(Some(file))) if Self::is_forbidden(refused) => write_to(file),
            (refused, _) => Err(refused),
        }
    }
}
