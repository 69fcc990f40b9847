//! Arguments that only zswap's functions have: zswaps, areas, arrays, claims.

use super::types::{zswap_area_stats, zswap_claim, zswap_load_request, zswap_stats, zswap_usage, zswap_writeback_fn};
use crate::bytes::Bytes;
use crate::export::{Argument, CallFromC, Output, Plain, any_value_will_do, fills_statistics};
use crate::wrong::{Wrong, wrong};
use crate::{zswap, zswap_area};
use std::ffi::{c_char, c_int};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use zsalloc::plumbing::boxed;
use zsalloc::plumbing::zswap::{RawClaim, area_as_raw, area_from_raw, area_into_raw};
use zsalloc::{Area, Result, Zswap};

any_value_will_do!(c_int, zswap_writeback_fn);
fills_statistics!(zswap_stats, zswap_area_stats, zswap_usage);

impl Output for *mut zswap {}
impl Output for *mut zswap_area {}

impl Plain for u64 {
    const AFTER_FAILURE: Self = 0;
}

/// A zswap that C passed.
pub struct ZswapPointer(NonNull<zswap>);

impl ZswapPointer {
    /// Returns the pointer for C, which owns the zswap from now on.
    pub fn give(rust: Zswap) -> Result<*mut zswap> {
        boxed(zswap { rust }).map(Box::into_raw)
    }

    /// Destroys the zswap.
    ///
    /// # Safety
    /// The caller does not use the zswap after this.
    pub unsafe fn destroy(self) {
        // SAFETY: the pointer came from the Box in `give`, and the caller does not use it again.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Deref for ZswapPointer {
    type Target = Zswap;
    #[inline]
    fn deref(&self) -> &Zswap {
        // SAFETY: the caller passed a zswap that was created and lives throughout the call.
        unsafe { &self.0.as_ref().rust }
    }
}

impl<'call> Argument<'call> for *mut zswap {
    type Checked = ZswapPointer;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<ZswapPointer> {
        NonNull::new(self).map(ZswapPointer).ok_or(wrong.null)
    }
}

/// An area that C passed. Borrowed: C still owns it.
pub struct AreaPointer(ManuallyDrop<Area>);

impl AreaPointer {
    /// Returns the pointer for C, which owns the area from now on.
    pub fn give(area: Area) -> *mut zswap_area {
        area_into_raw(area).as_ptr().cast()
    }

    /// Returns the pointer that C has to an area it owns.
    pub fn of(area: &Area) -> *mut zswap_area {
        area_as_raw(area).as_ptr().cast()
    }

    /// Takes the area back from C and drops it.
    pub fn let_go(self) {
        drop(ManuallyDrop::into_inner(self.0));
    }
}

impl Deref for AreaPointer {
    type Target = Area;
    #[inline]
    fn deref(&self) -> &Area {
        &self.0
    }
}

impl<'call> Argument<'call> for *mut zswap_area {
    type Checked = AreaPointer;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<AreaPointer> {
        let pointer = NonNull::new(self).ok_or(wrong.null)?;
        // SAFETY: the pointer came from `AreaPointer::give`, and C still owns the area. Nothing is counted or dropped
        // here; only `let_go` drops it.
        Ok(AreaPointer(ManuallyDrop::new(unsafe { area_from_raw(pointer.cast()) })))
    }
}

/// An array that C passed, whose length is in another argument. C may have put it at any address.
pub struct Array<T>(NonNull<T>);

impl<T: Copy> Array<T> {
    /// Takes an array of `count` elements. NULL is an error unless `count` is 0.
    fn new(pointer: *mut T, count: usize, wrong: &'static Wrong) -> Result<Self> {
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self(pointer)),
            None if count == 0 => Ok(Self(NonNull::dangling())),
            None => Err(wrong.null),
        }
    }

    /// Reads an element.
    ///
    /// # Safety
    /// The array has an element `at`.
    #[inline]
    pub unsafe fn get(&self, at: usize) -> T {
        // SAFETY: the caller promises that the element exists.
        unsafe { self.0.as_ptr().add(at).read_unaligned() }
    }

    /// Writes an element.
    ///
    /// # Safety
    /// The array has an element `at`, and it is writable.
    #[inline]
    pub unsafe fn set(&self, at: usize, value: T) {
        // SAFETY: the caller promises that the element exists and is writable.
        unsafe { self.0.as_ptr().add(at).write_unaligned(value) }
    }
}

/// A pointer to an array, before its length is known.
pub struct Elements<T> {
    pointer: *mut T,
    wrong: &'static Wrong,
}

impl<T: Copy> Elements<T> {
    /// Takes the array with its length, which the caller promises.
    #[inline]
    pub fn array(self, count: usize) -> Result<Array<T>> {
        Array::new(self.pointer, count, self.wrong)
    }
}

impl<'call> Argument<'call> for *mut zswap_load_request {
    type Checked = Elements<zswap_load_request>;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<Elements<zswap_load_request>> {
        Ok(Elements { pointer: self, wrong })
    }
}

impl<'call> Argument<'call> for *mut zswap_claim {
    type Checked = Elements<zswap_claim>;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<Elements<zswap_claim>> {
        Ok(Elements { pointer: self, wrong })
    }
}

/// A claim that C passed, and the area that it is of. Borrowed: C still owns the area.
pub struct PassedClaim {
    /// The area.
    pub area: AreaPointer,
    /// The claim.
    pub raw: RawClaim,
}

impl<'call> Argument<'call> for *const zswap_claim {
    type Checked = PassedClaim;
    unsafe fn check(self, call: &'call CallFromC, wrong: &'static Wrong) -> Result<PassedClaim> {
        let pointer = NonNull::new(self.cast_mut()).ok_or(wrong.null)?;
        // SAFETY: the caller passed a claim; C may have put it at any address.
        let zswap_claim { area, offset, ticket, bytes } = unsafe { pointer.as_ptr().read_unaligned() };
        // SAFETY: the caller promises that the area of a claim still exists.
        let area = unsafe { area.check(call, wrong!("claim->area")) }?;
        Ok(PassedClaim { area, raw: RawClaim { offset, ticket, bytes } })
    }
}

/// An optional array of results. Its length is in another argument.
pub struct Wanted<T>(Option<NonNull<T>>);

impl<T: Output> Wanted<T> {
    /// Stores a number, if C passed an array.
    ///
    /// # Safety
    /// An array that was passed has an element `at`.
    #[inline]
    pub unsafe fn tell(&self, at: usize, number: T) {
        if let Some(first) = self.0 {
            // SAFETY: the caller promises that the element exists. C may have put it at any address.
            unsafe { first.as_ptr().add(at).write_unaligned(number) };
        }
    }
}

impl<'call, T: Output + 'call> Argument<'call> for Option<NonNull<T>> {
    type Checked = Wanted<T>;
    #[inline]
    unsafe fn check(self, _: &'call CallFromC, _: &'static Wrong) -> Result<Wanted<T>> {
        Ok(Wanted(self))
    }
}

impl<'call> Argument<'call> for *mut c_char {
    type Checked = Bytes<*mut u8>;
    unsafe fn check(self, _: &'call CallFromC, wrong: &'static Wrong) -> Result<Bytes<*mut u8>> {
        Ok(Bytes::new(self.cast(), wrong))
    }
}
