//! Pagers: creation, destruction, lent threads.

use super::options::{convert, duty as duty_of};
use super::pointers::PagerPointer;
use super::types::zspager_options;
use super::zspager;
use crate::export::export;
use crate::options;
use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;
use zsalloc::Pager;

export! {
    /// Creates a pager, without regions, and stores it in *pager. With ZSPAGER_FAULT_SIGBUS the first
    /// one of a process installs a handler of SIGBUS, which stays: see PAGER.
    ///
    /// name: for people, UTF-8, at most 249 bytes.
    /// options: NULL for the defaults, which have no limit.
    ///
    /// Errors:
    /// -EINVAL: name or pager is NULL, the name is too long or not UTF-8, or an option is wrong.
    /// -EPERM: no right to userfaultfd: ZSPAGER_FAULT_THREADS needs more than ZSPAGER_FAULT_SIGBUS.
    /// -ENOSYS: the system has no userfaultfd; or the dynamic linker does not keep the library loaded,
    ///     whose handler of SIGBUS would go with it.
    /// -ENOSPC: the process has 64 pagers with ZSPAGER_FAULT_SIGBUS already.
    /// -ENOMEM: the system gives no addresses, or no memory for the tables.
    /// Others come from the system, as those of zswap_create().
    /// If options->message is set, a sentence there says what it was, unless name or pager is NULL or
    /// struct_size is wrong.
    ///
    /// Threads: any. Callbacks: not allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_create(
        name: *const c_char,
        options: *const zspager_options,
        pager: *mut *mut zspager,
    ) -> c_int {
        // SAFETY: the caller answers for what the options point to.
        let converted = unsafe { convert(&options) };
        let created = converted.and_then(|converted| Pager::new(options::name(name)?, &converted));
        let created = created.and_then(PagerPointer::give);
        let known = options.known();
        // SAFETY: the caller answers for the room for the message.
        let created = created.inspect_err(|&e| unsafe { options::tell(known.message, known.message_size, e) })?;
        pager.set(created)
    }

    /// Brings all pages of all regions back to memory, whatever the limit says, and destroys the pager:
    /// the memory is as if there had been none.
    ///
    /// No other call on the pager may be running, and none may come after it. In a forked child it
    /// closes the child's duplicates of the pager's descriptors and frees its copies of the tables,
    /// but for what the handler of SIGBUS looks at, some 200 KiB; it does nothing to the parent.
    ///
    /// Errors:
    /// -EINVAL: pager is NULL.
    /// -EBUSY: threads are lent to it: give them back with zspager_stop(), and wait until they returned
    ///     from zspager_run(). It stays as it was.
    /// -EAGAIN: the system refused to bring a page back, or a page can't be read from the backing file.
    ///     The pager is still there, without the regions that it had brought back until then.
    /// -EIO: a page's copy is damaged: the page is lost, and everything else was done.
    ///
    /// Threads: one, when no other uses the pager; others may use its regions meanwhile. Callbacks: not
    /// allowed.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn zspager_destroy(pager: *mut zspager) -> c_int {
        // SAFETY: the caller uses it no more.
        unsafe { pager.destroy() }
    }

    /// Lends the calling thread to the pager: it returns after zspager_stop(). A lent thread must not
    /// touch memory of a region, and it runs no signal handlers, but those of faults of its own. It is
    /// not cancelled before it returned.
    ///
    /// With ZSPAGER_RUN_ALL or ZSPAGER_RUN_SERVE it reads what owners do with the memory of regions,
    /// which wait for that, and with ZSPAGER_FAULT_THREADS it brings pages back. At least one such
    /// thread should be there as long as there are regions; with ZSPAGER_FAULT_THREADS, without one who
    /// touches a page that is not in memory sleeps until there is. With ZSPAGER_RUN_EVICT it evicts
    /// ahead: one is enough.
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
        pager.lend(duty_of(duty)?)
    }

    /// Gives all lent threads back, and those that are lent later at once, until zspager_resume(). It
    /// does not wait for them, but none of them stays, even if that comes before they have returned.
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

    /// Lets threads be lent again, after zspager_stop(). A thread that calls zspager_run() while both
    /// are called may be found to come after both, and stays: wait for your threads before this.
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

    /// Stores in *fd the userfaultfd of the regions: to be recognised in /proc/self/fdinfo, or to be kept
    /// open by another process. It stays the pager's: do not read it or close it.
    ///
    /// It is not the only descriptor of a pager: DESCRIPTORS has the list. A program that closes
    /// descriptors that it does not know has to do so before it creates pagers, or in a forked child:
    /// without this one, pages that are not in memory read as zeros.
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
