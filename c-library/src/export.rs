//! What every exported function does before and after its work, so that none can lack it.

use super::bytes::Bytes;
use super::sized::{Received, SizedStruct};
use super::zs_pool;
use crate::system::errno;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use zsalloc::{Error, Pool, Result};

/// Exports functions to C. A function that returns `c_int` has a body that is a `Result<()>`: `Ok` returns 0, `Err`
/// the negative errno, and a panic -EIO. Its body sees each argument as [`Argument::check`] returns it, so that a type
/// without checks does not compile. An unsafe function that returns something else has a body that is a `Result` of
/// that, and returns [`Plain::AFTER_FAILURE`] for `Err` and for a panic; a safe one has plain arguments and the panic
/// barrier only.
macro_rules! export {
    () => {};
    ($(#[$meta:meta])* pub unsafe extern "C" fn $name:ident($($argument:ident: $kind:ty),* $(,)?) -> c_int $body:block
     $($rest:tt)*) => {
        $(#[$meta])*
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
            $crate::export::returning(|call| {
                // SAFETY: the C caller answers for what it passes, as the header tells it to.
                $(let $argument = unsafe { <$kind as $crate::export::Argument>::check($argument, call) }?;)*
                $body
            })
        }
        export! { $($rest)* }
    };
    ($(#[$meta:meta])* pub unsafe extern "C" fn $name:ident($($argument:ident: $kind:ty),* $(,)?) -> $result:ty
     $body:block $($rest:tt)*) => {
        $(#[$meta])*
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
            $crate::export::telling(|call| {
                // SAFETY: the C caller answers for what it passes, as the header tells it to.
                $(let $argument = unsafe { <$kind as $crate::export::Argument>::check($argument, call) }?;)*
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

/// One call from C; what its pointers are borrowed for.
pub struct Call(());

/// Runs the body of a function, and turns how it ended into what C gets.
#[inline]
pub fn returning(body: impl FnOnce(&Call) -> Result<()>) -> c_int {
    match catch_unwind(AssertUnwindSafe(|| body(&Call(())))) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => failed(error),
        Err(_) => -errno::EIO,
    }
}

/// Not inlined, so that what succeeds is told apart by one comparison.
#[cold]
fn failed(error: Error) -> c_int {
    -error.errno()
}

/// What a function that returns no error number returns should it fail or panic all the same.
pub trait Plain {
    /// That.
    const AFTER_FAILURE: Self;
}

impl Plain for u32 {
    const AFTER_FAILURE: Self = 0;
}

impl Plain for *const c_char {
    const AFTER_FAILURE: Self = c"zsalloc failed inside".as_ptr();
}

/// Runs the body of a function that can't fail.
pub fn plain<T: Plain>(body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(T::AFTER_FAILURE)
}

/// Runs the body of a function that has no way to say why it failed.
#[inline]
pub fn telling<T: Plain>(body: impl FnOnce(&Call) -> Result<T>) -> T {
    let done = catch_unwind(AssertUnwindSafe(|| body(&Call(()))));
    done.ok().and_then(Result::ok).unwrap_or(T::AFTER_FAILURE)
}

pub const NULL: Error = Error::Invalid(&"a pointer is NULL");

/// A type that C passes, and what has to hold before a body may see it.
pub trait Argument<'call>: Sized {
    /// What the body sees.
    type Checked: 'call;

    /// Checks it.
    ///
    /// # Safety
    /// A pointer that is not NULL points to what its function's documentation says, throughout `call`.
    unsafe fn check(self, call: &'call Call) -> Result<Self::Checked>;
}

macro_rules! any_value_will_do {
    ($($kind:ty),*) => {$(
        impl<'call> $crate::export::Argument<'call> for $kind {
            type Checked = Self;
            #[inline]
            unsafe fn check(self, _: &'call $crate::export::Call) -> zsalloc::Result<Self> {
                Ok(self)
            }
        }
    )*};
}
pub(super) use any_value_will_do;
any_value_will_do!(u32, u64, usize);

/// A pool that C named. Keeps the pointer, which a reference may not be turned back into.
pub struct PoolPointer(NonNull<zs_pool>);

impl PoolPointer {
    /// The pointer, as C has it.
    pub fn pointer(&self) -> NonNull<zs_pool> {
        self.0
    }
}

impl Deref for PoolPointer {
    type Target = Pool;
    #[inline]
    fn deref(&self) -> &Pool {
        // SAFETY: the caller passed a pool that was created and not destroyed yet, and it stays so throughout the call.
        unsafe { &self.0.as_ref().0 }
    }
}

impl<'call> Argument<'call> for *mut zs_pool {
    type Checked = PoolPointer;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<PoolPointer> {
        NonNull::new(self).map(PoolPointer).ok_or(NULL)
    }
}

/// Where a result goes; written once the work is done, so that a call that fails leaves it alone.
pub struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// Stores the result.
    #[inline]
    pub fn set(&self, value: T) -> Result<()> {
        // SAFETY: the caller passed a place for one; C may have put it at any address.
        unsafe { self.0.as_ptr().write_unaligned(value) };
        Ok(())
    }
}

/// What can be a result.
pub trait Output {}
impl Output for u64 {}
impl Output for usize {}
impl Output for c_int {}
impl Output for *mut c_void {}
impl Output for *mut zs_pool {}

impl<'call, T: Output + 'call> Argument<'call> for *mut T {
    type Checked = Out<T>;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<Out<T>> {
        NonNull::new(self).map(Out).ok_or(NULL)
    }
}

impl<'call> Argument<'call> for *const c_char {
    type Checked = &'call CStr;
    unsafe fn check(self, _: &'call Call) -> Result<&'call CStr> {
        if self.is_null() {
            return Err(NULL);
        }
        // SAFETY: the caller passed a string that ends with a NUL.
        Ok(unsafe { CStr::from_ptr(self) })
    }
}

impl<'call> Argument<'call> for *mut c_void {
    type Checked = Bytes<*mut u8>;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<Self::Checked> {
        Ok(Bytes::new(self.cast()))
    }
}

impl<'call> Argument<'call> for *const c_void {
    type Checked = Bytes<*const u8>;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<Self::Checked> {
        Ok(Bytes::new(self.cast()))
    }
}

impl<'call, T: SizedStruct + 'call> Argument<'call> for *const T {
    type Checked = Received<T>;
    unsafe fn check(self, _: &'call Call) -> Result<Received<T>> {
        // SAFETY: the caller passed NULL, or a struct as long as it says.
        unsafe { Received::read(self) }
    }
}

/// Lets functions fill such structs.
macro_rules! fills_statistics {
    ($($kind:ty),*) => {$(
        impl<'call> $crate::export::Argument<'call> for *mut $kind {
            type Checked = $crate::sized::StatsOut<$kind>;
            unsafe fn check(self, _: &'call $crate::export::Call) -> zsalloc::Result<Self::Checked> {
                let pointer = std::ptr::NonNull::new(self).ok_or($crate::export::NULL)?;
                // SAFETY: the caller passed a struct as long as it says.
                unsafe { $crate::sized::StatsOut::new(pointer) }
            }
        }
    )*};
}
pub(super) use fills_statistics;
