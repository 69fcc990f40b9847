//! Memory of this process that is read and written while its owner may unmap it or give it back: no signal comes, and
//! nobody waits for a page that is missing.

use super::{Call, Errno, Os, Result, Span, errno, last_errno};
use crate::units::{AlignedPage, PAGE};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// How it is read and written.
pub struct OwnMemory {
    os: Os,
    through: Through,
}

enum Through {
    /// By process_vm_readv(2), which fails at a page that is missing: touches are signals. By the file where a jail
    /// forbids the call, from the start or from some time on.
    Call(Option<File>),
    /// By /proc/self/mem, where a page that is missing is an error, whoever serves touches: process_vm_readv would
    /// wait for it, and who waits may be the very thread that serves.
    File(File),
    /// By the call, when the system has just said that the page is there: there is no /proc. Should its owner give it
    /// back in between, the call waits.
    Asking,
}

impl OwnMemory {
    /// In a process whose touches of missing pages wait for threads, or are signals. After a fork it is the parent's
    /// memory that a child would reach by it.
    pub fn new(os: &Os, waits: bool) -> Result<Self> {
        let file = Self::open(os)?;
        let through = match (waits, file) {
            (false, file) => Through::Call(file),
            (true, Some(file)) => Through::File(file),
            (true, None) => Through::Asking,
        };
        Ok(Self { os: os.clone(), through })
    }

    /// None: there is no /proc, or it may not be opened.
    fn open(os: &Os) -> Result<Option<File>> {
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
    /// `EPERM`: a jail forbids it. Other error numbers are the system's, such as `ENOMEM`.
    pub fn check(&self) -> Result<()> {
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

    /// Reads a page by the file. How many bytes.
    fn read_one(&self, file: &File, page: &[u8; PAGE], copy: &mut [u8; PAGE]) -> Result<usize> {
        self.os.may(Call::Read)?;
        let read = file.read_at(copy, page.as_ptr() as u64);
        read.map_err(|error| Errno(error.raw_os_error().unwrap_or(errno::EIO)))
    }

    /// Whether a system call was refused whatever it was asked for.
    fn is_forbidden(refused: Errno) -> bool {
        matches!(refused.0, errno::EPERM | errno::ENOSYS)
    }

    /// Reads pages, one after the other, to one place. How many, up to the first that can't be read.
    ///
    /// # Safety
    /// As many bytes as the spans have, each of which is a page, can be written at `to`.
    pub unsafe fn read_pages(&self, pages: &[Span], to: *mut u8) -> usize {
        match &self.through {
            // SAFETY: the caller vouches for `to`.
            Through::Call(file) => match (unsafe { self.os.read_memory(pages, to) }, file) {
                (Ok(read), _) => read / PAGE,
                // SAFETY: as above.
                (Err(refused), Some(file)) if Self::is_forbidden(refused) => unsafe { self.read_runs(file, pages, to) },
                (Err(_), _) => 0,
            },
            // SAFETY: as above.
            Through::File(file) => unsafe { self.read_runs(file, pages, to) },
            Through::Asking => {
                let there = |page: &&Span| {
                    let mut seen = [0];
                    self.os.in_memory(page.parts().0 as usize, &mut seen).is_ok() && seen[0] & 1 == 1
                };
                let there = pages.iter().take_while(there).count();
                // SAFETY: as above.
                unsafe { self.os.read_memory(&pages[..there], to) }.unwrap_or(0) / PAGE
            }
        }
    }

    /// # Safety
    /// As for [`OwnMemory::read_pages`].
    unsafe fn read_runs(&self, file: &File, pages: &[Span], to: *mut u8) -> usize {
        if pages.is_empty() || self.os.may(Call::Read).is_err() {
            return 0;
        }
        let address = |page: usize| pages[page].parts().0 as usize;
        let mut first = 0;
        while first < pages.len() {
            // Neighbours are read by one call.
            let end = (first + 1..pages.len()).find(|&next| address(next) != address(next - 1) + PAGE);
            let wanted = (end.unwrap_or(pages.len()) - first) * PAGE;
            // SAFETY: the caller vouches for so many bytes; the rest the system checks.
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

    /// Writes zeros to a page. `EAGAIN`: it was not there, or not to be written, just now.
    pub fn write_zeros(&self, at: usize) -> Result<()> {
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
