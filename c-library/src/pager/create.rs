//! Functions that create and destroy pagers and lend threads to them.

use super::options::{convert, duty as duty_of};
use super::pointers::PagerPointer;
use super::types::zspager_options;
use super::zspager;
use crate::export::export;
use crate::options;
use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use zsalloc::Pager;
use zsalloc::plumbing::PagerForC;

export! {
    /// Creates a pager without regions and stores it in *pager. With ZSPAGER_FAULT_SIGBUS, the first
    /// pager of a process installs a SIGBUS handler that stays: see PAGER.
    ///
    /// name: for people, in UTF-8, at most 249 bytes.
    /// options: NULL for the defaults, which set no limit.
    ///
    /// Errors:
    /// -EINVAL: name or pager is NULL, the name is too long or not UTF-8, or an option is wrong.
    /// -EPERM: the process may not use userfaultfd. ZSPAGER_FAULT_THREADS needs more rights than
    ///     ZSPAGER_FAULT_SIGBUS.
    /// -ENOSYS: the system has no userfaultfd, or the dynamic linker can't keep the library loaded, and
    ///     its SIGBUS handler would vanish with it.
    /// -ENOMEM: the system gives no addresses, or no memory for the tables; or the process already has
    ///     64 pagers with ZSPAGER_FAULT_SIGBUS.
    /// The system's own errors are returned as they are: see zs_create_pool().
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_create(
        name: *const c_char,
        options: *const zspager_options,
        pager: *mut *mut zspager,
    ) -> c_int {
        // SAFETY: the C caller is responsible for what the options point to.
        let converted = unsafe { convert(&options) };
        let created = converted.and_then(|converted| Pager::new(options::name(name)?, &converted));
        let created = created.and_then(PagerPointer::give);
        pager.set(created?)
    }

    /// Brings all pages of all regions back to memory, whatever the limit, and destroys the pager.
    /// Afterwards the memory is as if there had been no pager.
    ///
    /// No other call on the pager may run at the same time or come later. In a forked child this closes
    /// the child's duplicates of the pager's descriptors and frees its copies of the tables, except
    /// about 200 KiB that the SIGBUS handler looks at. It has no effect on the parent.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL.
    /// -EBUSY: threads are lent to the pager. Call zspager_stop(), and wait until they have returned
    ///     from zspager_run(). Nothing has changed.
    /// -EAGAIN: the system refused to bring a page back, or a page can't be read from the backing file.
    ///     The pager still exists, without the regions that were already removed.
    /// -EBADMSG: a page's copy is damaged. That page is lost; everything else was done.
    ///
    /// Threads: one, while no other uses the pager; others may use its regions meanwhile. Callbacks: not
    /// allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_destroy(pager: *mut zspager) -> c_int {
        // SAFETY: the caller does not use it again.
        unsafe { pager.destroy() }
    }

    /// Lends the calling thread to the pager until zspager_stop() is called. A lent thread must not
    /// touch memory of a region. It runs no signal handlers, except for faults of its own, and is not
    /// cancelled before it has returned.
    ///
    /// With ZSPAGER_RUN_ALL or ZSPAGER_RUN_SERVE, the thread reads what the program does with the memory
    /// of regions (munmap(), mremap(), madvise()); the program waits for that. With
    /// ZSPAGER_FAULT_THREADS it also brings pages back. Keep at least one such thread as long as there
    /// are regions: with ZSPAGER_FAULT_THREADS, without one, a thread that touches a page that is not in
    /// memory sleeps until there is one. With ZSPAGER_RUN_EVICT, the thread evicts ahead; one is enough.
    /// With ZSPAGER_RUN_TIERS, it calls tiers for touches that are served in a signal handler, and
    /// writes to them: zspager_add_tier() needs it. ZSPAGER_RUN_ALL does all of this.
    ///
    /// duty: one of ZSPAGER_RUN_*.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL, or there is no such duty.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any, several at once. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_run(pager: *mut zspager, duty: u32) -> c_int {
        pager.run(duty_of(duty)?)
    }

    /// Makes all lent threads return, and threads that are lent later return at once, until
    /// zspager_resume(). Does not wait for them. Every thread that is lent now returns, even if
    /// zspager_resume() is called before it has.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_stop(pager: *mut zspager) -> c_int {
        pager.check_usable()?;
        pager.stop();
        Ok(())
    }

    /// Allows threads to be lent again after zspager_stop(). A thread that calls zspager_run() while
    /// both are being called may stay: wait for your threads to return before you resume.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL.
    /// -EPERM: this process is a forked child.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_resume(pager: *mut zspager) -> c_int {
        pager.check_usable()?;
        pager.resume();
        Ok(())
    }

    /// Stores the userfaultfd of the regions in *fd, so that the program can recognise it in
    /// /proc/self/fdinfo, or have another process keep it open. It stays the pager's: do not read or
    /// close it.
    ///
    /// A pager has other descriptors as well: DESCRIPTORS lists them. A program that closes descriptors
    /// it does not know must do so before it creates pagers, or in a forked child: without the
    /// userfaultfd, pages that are not in memory read as zeros.
    ///
    /// Errors:
    /// -EINVAL: pager or fd is NULL.
    ///
    /// Threads: any. Callbacks: allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_descriptor(pager: *mut zspager, fd: *mut c_int) -> c_int {
        fd.set(pager.descriptor().as_raw_fd())
    }
}
