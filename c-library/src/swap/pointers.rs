//! The arguments that only zswap's functions have: zswaps, areas, arrays, claims.

use super::types::{zswap_area_stats, zswap_claim, zswap_stats, zswap_writeback_fn};
use crate::bytes::Bytes;
use crate::export::{Argument, Call, NULL, Output, Plain, any_value_will_do, fills_statistics};
use crate::{zswap, zswap_area};
use std::ffi::{c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use zsalloc::plumbing::boxed;
use zsalloc::{Area, Claim, Error, Result, Zswap};

any_value_will_do!(i32, zswap_writeback_fn);
fills_statistics!(zswap_stats, zswap_area_stats);

impl Output for *mut zswap {}
impl Output for *mut zswap_area {}

impl Plain for u64 {
    const AFTER_FAILURE: Self = 0;
}

impl Plain for *mut c_void {
    const AFTER_FAILURE: Self = std::ptr::null_mut();
}

/// A zswap that C named.
pub struct ZswapPointer(NonNull<zswap>);

impl ZswapPointer {
    /// The pointer for C, which holds the zswap from now on.
    pub fn give(rust: Zswap) -> Result<*mut zswap> {
        boxed(zswap { rust }).map(Box::into_raw)
    }

    /// Destroys it.
    ///
    /// # Safety
    /// The caller uses it no more.
    pub unsafe fn destroy(self) {
        // SAFETY: the pointer came from the Box in `give`, and the caller uses it no more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Deref for ZswapPointer {
    type Target = Zswap;
    #[inline]
    fn deref(&self) -> &Zswap {
        // SAFETY: the caller passed one that was created and not destroyed yet, and it stays so throughout the call.
        unsafe { &self.0.as_ref().rust }
    }
}

impl<'call> Argument<'call> for *mut zswap {
    type Checked = ZswapPointer;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<ZswapPointer> {
        NonNull::new(self).map(ZswapPointer).ok_or(NULL)
    }
}

/// An area that C named: borrowed, for C goes on to hold it.
pub struct AreaPointer(ManuallyDrop<Area>);

impl AreaPointer {
    /// The pointer for C, which holds the area from now on.
    pub fn give(area: Area) -> *mut zswap_area {
        area.into_raw().as_ptr().cast()
    }

    /// The pointer that C has of an area that it holds.
    pub fn of(area: &Area) -> *mut zswap_area {
        area.as_raw().as_ptr().cast()
    }

    /// C holds it no more.
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
    unsafe fn check(self, _: &'call Call) -> Result<AreaPointer> {
        let pointer = NonNull::new(self).ok_or(NULL)?;
        // SAFETY: the caller passed one that came from `AreaPointer::give` and is held still. Nothing is counted here,
        // and nothing is dropped, unless by `let_go`.
        Ok(AreaPointer(ManuallyDrop::new(unsafe { Area::from_raw(pointer.cast()) })))
    }
}

/// An array that C passed with, in another argument, how many elements it has. C may have put it at any address.
pub struct Array<T>(NonNull<T>);

impl<T: Copy> Array<T> {
    /// One of `count` elements; those of none need no address.
    pub fn new(pointer: *mut T, count: usize) -> Result<Self> {
        const NO_ARRAY: Error = Error::Invalid(&"an array is NULL");
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self(pointer)),
            None if count == 0 => Ok(Self(NonNull::dangling())),
            None => Err(NO_ARRAY),
        }
    }

    /// An element.
    ///
    /// # Safety
    /// The array has it.
    #[inline]
    pub unsafe fn get(&self, at: usize) -> T {
        // SAFETY: the caller vouches for it.
        unsafe { self.0.as_ptr().add(at).read_unaligned() }
    }

    /// Sets an element.
    ///
    /// # Safety
    /// The array has it, and can be written.
    #[inline]
    pub unsafe fn set(&self, at: usize, value: T) {
        // SAFETY: the caller vouches for it.
        unsafe { self.0.as_ptr().add(at).write_unaligned(value) }
    }
}

/// A pointer to an array whose length is not known yet.
pub struct Elements<T>(*mut T);

impl<T: Copy> Elements<T> {
    /// That there are `count` of them is the caller's word.
    #[inline]
    pub fn array(self, count: usize) -> Result<Array<T>> {
        Array::new(self.0, count)
    }
}

impl<'call> Argument<'call> for *const u64 {
    type Checked = Elements<u64>;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<Elements<u64>> {
        Ok(Elements(self.cast_mut()))
    }
}

impl<'call> Argument<'call> for *const *mut c_void {
    type Checked = Elements<*mut c_void>;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<Elements<*mut c_void>> {
        Ok(Elements(self.cast_mut()))
    }
}

impl<'call> Argument<'call> for *mut zswap_claim {
    type Checked = Elements<zswap_claim>;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<Elements<zswap_claim>> {
        Ok(Elements(self))
    }
}

impl<'call> Argument<'call> for *const zswap_claim {
    type Checked = Claim;
    unsafe fn check(self, _: &'call Call) -> Result<Claim> {
        let pointer = NonNull::new(self.cast_mut()).ok_or(NULL)?;
        // SAFETY: the caller passed a claim; C may have put it at any address.
        let zswap_claim { offset, ticket } = unsafe { pointer.as_ptr().read_unaligned() };
        Ok(Claim { offset, ticket })
    }
}

/// Numbers that C may want to know or not, as many as another argument says.
pub struct Wanted(Option<NonNull<i32>>);

impl Wanted {
    /// Tells the number at a place, if it is wanted.
    ///
    /// # Safety
    /// An array that was passed has that place.
    #[inline]
    pub unsafe fn tell(&self, at: usize, number: c_int) {
        if let Some(first) = self.0 {
            // SAFETY: the caller vouches for it; C may have put it at any address.
            unsafe { first.as_ptr().add(at).write_unaligned(number) };
        }
    }
}

impl<'call> Argument<'call> for Option<NonNull<i32>> {
    type Checked = Wanted;
    #[inline]
    unsafe fn check(self, _: &'call Call) -> Result<Wanted> {
        Ok(Wanted(self))
    }
}

impl<'call> Argument<'call> for *mut c_char {
    type Checked = Bytes<*mut u8>;
    unsafe fn check(self, _: &'call Call) -> Result<Bytes<*mut u8>> {
        Ok(Bytes::new(self.cast()))
    }
}
