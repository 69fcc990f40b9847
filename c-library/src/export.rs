//! What every exported function does before and after its own work. The macro [`export!`] adds it, so no function can
//! lack it.

use super::bytes::Bytes;
use super::failure::{Function, note};
use super::sized::{Received, SizedStruct};
use super::wrong::Wrong;
use super::zs_pool;
use crate::system::errno;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use zsalloc::plumbing::sentence;
use zsalloc::{Error, Pool, Result};

/// Exports functions to C.
///
/// A function that returns `c_int` has a body of type `Result<()>`: `Ok` returns 0, `Err` the negative errno, and a
/// panic -EIO. An unsafe function that returns another type has a body that is a `Result` of that type, and returns
/// [`Plain::AFTER_FAILURE`] for `Err` and for a panic. Both note why they failed, for `zs_last_error`. A safe function
/// has plain arguments, and only the panic barrier.
///
/// The body of an unsafe function sees each argument as [`Argument::check`] returned it. An argument type without
/// checks does not compile.
macro_rules! export {
    () => {};
    ($(#[$meta:meta])* pub unsafe extern "C" fn $name:ident($($argument:ident: $kind:ty),* $(,)?) -> c_int $body:block
     $($rest:tt)*) => {
        $(#[$meta])*
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
            $crate::export::returning(&stringify!($name), |call| {
                $crate::export::check_arguments!(call, $($argument: $kind),*);
                $body
            })
        }
        export! { $($rest)* }
    };
    ($(#[$meta:meta])* pub unsafe extern "C" fn $name:ident($($argument:ident: $kind:ty),* $(,)?) -> $result:ty
     $body:block $($rest:tt)*) => {
        $(#[$meta])*
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
            $crate::export::telling(&stringify!($name), |call| {
                $crate::export::check_arguments!(call, $($argument: $kind),*);
                $body
            })
        }
        export! { $($rest)* }
    };
    ($(#[$meta:meta])* pub extern "C" fn $name:ident($($argument:ident: $kind:ty),* $(,)?) -> $result:ty $body:block
     $($rest:tt)*) => {
        $(#[$meta])*
        pub extern "C" fn $name($($argument: $kind),*) -> $result {
            $crate::export::plain(|| $body)
        }
        export! { $($rest)* }
    };
}
pub(super) use export;

/// Replaces each argument by what its check returns.
macro_rules! check_arguments {
    ($call:ident, $($argument:ident: $kind:ty),*) => {$(
        let $argument = {
            let wrong = $crate::wrong::wrong!(stringify!($argument));
            // SAFETY: the C caller is responsible for its arguments, as the header says.
            unsafe { <$kind as $crate::export::Argument>::check($argument, $call, wrong) }?
        };
    )*};
}
pub(super) use check_arguments;

/// One call from C. Pointers that C passes are borrowed for its duration.
pub struct CallFromC(());

/// The error after a panic.
const BUG: Error =
    Error::Io(sentence(&"a bug in zsalloc was caught, and stderr has the reason: stop using the object"));

/// Runs the body of a function, and converts its outcome to what C gets.
#[inline]
pub fn returning(function: Function, body: impl FnOnce(&CallFromC) -> Result<()>) -> c_int {
    match catch_unwind(AssertUnwindSafe(|| body(&CallFromC(())))) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => failed(function, error),
        Err(_) => failed(function, BUG),
    }
}

/// Notes an error of this thread and returns it as a number. Not inlined, so that success costs one comparison.
#[cold]
fn failed(function: Function, error: Error) -> c_int {
    note(function, error);
    -error.errno()
}

/// The value returned on failure by functions that can't return an errno.
pub trait Plain {
    /// Returned after an error or a panic.
    const AFTER_FAILURE: Self;
}

impl Plain for u32 {
    const AFTER_FAILURE: Self = 0;
}

impl Plain for c_int {
    const AFTER_FAILURE: Self = -errno::EIO;
}

impl Plain for *const c_char {
    const AFTER_FAILURE: Self = c"zsalloc failed inside".as_ptr();
}

impl Plain for *mut c_void {
    const AFTER_FAILURE: Self = std::ptr::null_mut();
}

/// Runs the body of a function that can't fail.
pub fn plain<T: Plain>(body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(T::AFTER_FAILURE)
}

/// Runs the body of a function that returns no number. C learns from `zs_last_errno` why it failed.
#[inline]
pub fn telling<T: Plain>(function: Function, body: impl FnOnce(&CallFromC) -> Result<T>) -> T {
    match catch_unwind(AssertUnwindSafe(|| body(&CallFromC(())))) {
        Ok(Ok(value)) => return value,
        Ok(Err(error)) => failed(function, error),
        Err(_) => failed(function, BUG),
    };
    T::AFTER_FAILURE
}

/// A type that C passes, with the checks that it must pass before a body may see it.
pub trait Argument<'call>: Sized {
    /// What the body sees.
    type Checked: 'call;

    /// Checks the argument.
    ///
    /// # Safety
    /// A pointer that is not NULL points to what its function's documentation says, throughout `call`.
    unsafe fn check(self, call: &'call CallFromC, wrong: &'static Wrong) -> Result<Self::Checked>;
}

macro_rules! any_value_will_do {
    ($($kind:ty),*) => {$(
        impl<'call> $crate::export::Argument<'call> for $kind {
            type Checked = Self;
            #[inline]
            unsafe fn check(
                self,
                _: &'call $crate::export::CallFromC,
                _: &'static $crate::wrong::Wrong,
            ) -> zsalloc::Result<Self> {
                Ok(self)
            }
        }
    )*};
}
pub(super) use any_value_will_do;
any_value_will_do!(u32, u64, usize);

/// A pool that C passed. Keeps the pointer, because a reference can't be turned back into one to
/// free.
pub struct PoolPointer(NonNull<zs_pool>);

impl PoolPointer {
    /// Returns the pointer, as C has it.
    pub fn pointer(&self) -> NonNull<zs_pool> {
        self.0
    }
}

impl Deref for PoolPointer {
    type Target = Pool;
    #[inline]
    fn deref(&self) -> &Pool {
        // SAFETY: the caller passed a pool that was created and lives throughout the call.
        unsafe { &self.0.as_ref().0 }
    }
}

impl<'call> Argument<'call> for *mut zs_pool {
    type Checked = PoolPointer;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<PoolPointer> {
        NonNull::new(self).map(PoolPointer).ok_or(wrong.null)
    }
}

/// Where a result goes. It is written after the work is done, so a call that fails leaves it alone.
pub struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// Stores the result.
    #[inline]
    pub fn set(&self, value: T) -> Result<()> {
        // SAFETY: the caller passed a place for the result. C may have put it at any address.
        unsafe { self.0.as_ptr().write_unaligned(value) };
        Ok(())
    }
}

/// A type that can be a result.
pub trait Output {}
impl Output for u64 {}
impl Output for usize {}
impl Output for c_int {}
impl Output for *mut zs_pool {}

impl<'call, T: Output + 'call> Argument<'call> for *mut T {
    type Checked = Out<T>;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<Out<T>> {
        NonNull::new(self).map(Out).ok_or(wrong.null)
    }
}

impl<'call> Argument<'call> for *const c_char {
    type Checked = &'call CStr;
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<&'call CStr> {
        if self.is_null() {
            return Err(wrong.null);
        }
        // SAFETY: the caller passed a string that ends with a NUL.
        Ok(unsafe { CStr::from_ptr(self) })
    }
}

impl<'call> Argument<'call> for *mut c_void {
    type Checked = Bytes<*mut u8>;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<Self::Checked> {
        Ok(Bytes::new(self.cast(), wrong))
    }
}

impl<'call> Argument<'call> for *const c_void {
    type Checked = Bytes<*const u8>;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<Self::Checked> {
        Ok(Bytes::new(self.cast(), wrong))
    }
}

impl<'call, T: SizedStruct + 'call> Argument<'call> for *const T {
    type Checked = Received<T>;
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<Received<T>> {
        // SAFETY: the caller passed NULL, or a struct as long as it says.
        unsafe { Received::read(self, wrong) }
    }
}

/// Lets functions fill structs of statistics.
macro_rules! fills_statistics {
    ($($kind:ty),*) => {$(
        impl<'call> $crate::export::Argument<'call> for *mut $kind {
            type Checked = $crate::sized::StatsOut<$kind>;
            unsafe fn check(
                self,
                _: &'call $crate::export::CallFromC,
                wrong: &'static $crate::wrong::Wrong,
            ) -> zsalloc::Result<Self::Checked> {
                let pointer = std::ptr::NonNull::new(self).ok_or(wrong.null)?;
                // SAFETY: the caller passed a struct as long as it says.
                unsafe { $crate::sized::StatsOut::new(pointer, wrong) }
            }
        }
    )*};
}
pub(super) use fills_statistics;
