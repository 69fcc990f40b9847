//! Keeping this code loaded: it is part of a shared library, which `dlclose` may unload, or of the program.

use super::errno::{Errno, OsResult, last_errno};
use std::mem::MaybeUninit;

/// Returns the base address and the name of the object that an address lies in, as the dynamic linker knows them.
fn object_of(at: *const libc::c_void) -> Option<(usize, *const libc::c_char)> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the place lives through the call, and all zeros are a value of its type.
    let info = unsafe {
        let found = libc::dladdr(at, info.as_mut_ptr());
        (found != 0).then(|| info.assume_init())?
    };
    (!info.dli_fname.is_null()).then_some((info.dli_fbase as usize, info.dli_fname))
}

/// Whether the object that begins at `base` is the program itself, which is never unloaded.
fn is_the_program(base: usize) -> bool {
    // SAFETY: the call reads no memory of ours.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as *const libc::c_void;
    object_of(headers).is_none_or(|(program, _)| program == base)
}

/// Keeps the object that has `code` in memory until the process ends, even if the program calls dlclose. Must not be
/// called from a signal handler.
///
/// Fails with `ENOMEM` if the dynamic linker has no memory for it, and with `ENOSYS` if it can't do it.
pub fn keep_loaded(code: *const libc::c_void) -> OsResult<()> {
    // An address that is in no object is in a program without a dynamic linker.
    let Some((base, name)) = object_of(code) else { return Ok(()) };
    if is_the_program(base) {
        return Ok(());
    }
    let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: the name is a C string of the dynamic linker's, which lives as long as the object does. Nothing is
    // loaded, so no code of another object runs.
    let object = unsafe {
        // dlopen sets no errno, but malloc does if it fails inside.
        *libc::__errno_location() = 0;
        libc::dlopen(name, flags)
    };
    if object.is_null() && last_errno().0 == libc::ENOMEM {
        return Err(Errno(libc::ENOMEM));
    }
    if object.is_null() || !begins_at(object, base) {
        return Err(Errno(libc::ENOSYS));
    }
    // The handle stays open: its count keeps the object as well.
    Ok(())
}

/// Whether the object of a handle begins at `base`, and is not another one of the same name.
#[cfg(target_env = "gnu")]
fn begins_at(object: *mut libc::c_void, base: usize) -> bool {
    /// The front of `struct link_map` of link.h.
    #[repr(C)]
    struct LinkMap {
        offset: usize,
        name: *const libc::c_char,
        dynamic: *const libc::c_void,
    }
    // The C library's fields are of one word each.
    static_assertions::const_assert_eq!(std::mem::offset_of!(LinkMap, dynamic), 2 * size_of::<usize>());
    let mut map = std::ptr::null_mut::<LinkMap>();
    // SAFETY: the handle is one of dlopen's, and the call writes a pointer to the object's map, which lives as long as
    // the object.
    let told = unsafe { libc::dlinfo(object, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
    // SAFETY: null, or a map that lives as long as the object.
    told == 0 && unsafe { map.as_ref() }.is_some_and(|map| object_of(map.dynamic).is_some_and(|(at, _)| at == base))
}

/// C libraries other than glibc never unload an object.
#[cfg(not(target_env = "gnu"))]
fn begins_at(_: *mut libc::c_void, _: usize) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_itself_needs_no_pin() {
        let code = program_itself_needs_no_pin as *const () as *const libc::c_void;
        let (base, _) = object_of(code).unwrap();
        assert!(is_the_program(base));
        assert_eq!(keep_loaded(code), Ok(()));
    }

    #[test]
    fn library_is_found_by_the_name_that_it_was_loaded_by() {
        let code = libc::malloc as *const () as *const libc::c_void;
        let (base, _) = object_of(code).unwrap();
        assert!(!is_the_program(base));
        assert_eq!(keep_loaded(code), Ok(()));
    }
}
