//! The release of the kernel, and whether it swaps. Both are asked once, when a pager is created.

use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Returns the first two numbers of a release such as "6.12.40-generic".
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Returns the first two numbers of the kernel's release, or none if it does not say.
pub fn release() -> Option<(u32, u32)> {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the call writes the place, where all zeros are a value already.
    let name = unsafe {
        let told = libc::uname(name.as_mut_ptr());
        (told == 0).then(|| name.assume_init())?
    };
    // SAFETY: the system ends the text with a zero, and the place was all zeros before.
    let release = unsafe { CStr::from_ptr(name.release.as_ptr()) };
    parse(release.to_str().ok()?)
}

/// Whether the system has anything to swap to. The answer is that of /proc/swaps, without /proc.
pub fn has_swap() -> bool {
    let mut info = MaybeUninit::<libc::sysinfo>::zeroed();
    // SAFETY: the call writes the place, where all zeros are a value already.
    unsafe { libc::sysinfo(info.as_mut_ptr()) == 0 && info.assume_init().totalswap != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(parse("6.12.40-generic"), Some((6, 12)));
        assert_eq!(parse("5.14.0-427.el9.x86_64"), Some((5, 14)));
        assert_eq!(parse("6.16-rc1"), Some((6, 16)));
        assert!(["", "6", "six.one", "6.", ".6", "99999999999.1"].map(parse) == [None; 6]);
        assert!(release() >= Some((4, 0)));
    }

    #[test]
    fn swap_is_found_where_the_system_lists_it() {
        let Ok(list) = std::fs::read_to_string("/proc/swaps") else { return };
        assert_eq!(has_swap(), list.lines().count() > 1);
    }
}
