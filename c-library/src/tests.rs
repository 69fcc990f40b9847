//! Failures that no C program can provoke.

use super::export::export;
use crate::system::errno;
use std::ffi::c_int;
use zsalloc::Error;
use zsalloc::plumbing::sentence;

export! {
    /// Panics if `how` is 1, fails if it is 2.
    pub unsafe extern "C" fn may_panic(how: u32) -> c_int {
        match how {
            1 => panic!("the test asked for it"),
            2 => Err(Error::Busy(sentence(&"the test asked for it"))),
            _ => Ok(()),
        }
    }

    /// Panics if `how` is 1.
    pub extern "C" fn may_panic_plainly(how: u32) -> u32 {
        assert_ne!(how, 1, "the test asked for it");
        7
    }
}

#[test]
fn no_panic_crosses_to_c() {
    // SAFETY: the function takes a number.
    let result = |how| unsafe { may_panic(how) };
    assert_eq!((result(0), result(1), result(2)), (0, -errno::EIO, -errno::EBUSY));
    assert_eq!((may_panic_plainly(0), may_panic_plainly(1)), (7, 0));
}
