//! Structs that begin with their size. A caller may have been compiled with an older or newer version of the struct.

use super::wrong::Wrong;
use std::mem::{MaybeUninit, size_of};
use std::ptr::NonNull;
use zsalloc::Result;

/// A struct of the header that begins with its size and grows at its end from version to version.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize`, has no padding, and any bytes are a valid value.
pub unsafe trait SizedStruct: Copy {}

/// The smallest size that any version of a struct had: its size field and its first real field.
const LEAST: usize = 16;
/// No version of a struct will be larger. A larger number is not a size.
const MOST: usize = 4096;

/// Returns the size that a struct says it has, if it can be one.
///
/// # Safety
/// `pointer` points to at least a `usize`.
unsafe fn stated_size<T: SizedStruct>(pointer: *const T, wrong: &'static Wrong) -> Result<usize> {
    // SAFETY: the caller promises a `usize` there. C may have put it at any address.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    let plausible = (LEAST..=MOST).contains(&size) && size.is_multiple_of(8);
    if plausible { Ok(size) } else { Err(wrong.size) }
}

/// A struct as its caller passed it. Fields that an older caller does not know are 0.
pub struct Received<T> {
    /// The fields that this library knows.
    value: T,
    /// Whether a newer caller set a field that this library does not know.
    asks_for_more: bool,
    /// The errors that name the pointer to it.
    wrong: &'static Wrong,
}

impl<T: SizedStruct> Received<T> {
    /// Copies the struct. NULL yields a struct of zeros.
    ///
    /// # Safety
    /// `pointer` is NULL, or points to as many bytes as the struct says it has.
    pub unsafe fn read(pointer: *const T, wrong: &'static Wrong) -> Result<Self> {
        let mut value = MaybeUninit::<T>::zeroed();
        let mut asks_for_more = false;
        if !pointer.is_null() {
            // SAFETY: the caller promises at least the struct's size field.
            let size = unsafe { stated_size(pointer, wrong) }?;
            let (from, known) = (pointer.cast::<u8>(), size.min(size_of::<T>()));
            // SAFETY: `known` bytes are there on both sides.
            unsafe { std::ptr::copy_nonoverlapping(from, value.as_mut_ptr().cast(), known) };
            // SAFETY: these bytes are inside the struct.
            asks_for_more = (known..size).any(|at| unsafe { from.add(at).read() } != 0);
        }
        // SAFETY: any bytes are a valid struct.
        Ok(Self { value: unsafe { value.assume_init() }, asks_for_more, wrong })
    }

    /// Returns the fields that this library knows, even if the caller set others.
    #[cfg(any(test, fuzzing))]
    pub fn known(&self) -> &T {
        &self.value
    }

    /// Returns the fields, or an error if the caller set a field that this library does not know.
    pub fn all(&self) -> Result<&T> {
        if self.asks_for_more { Err(self.wrong.newer) } else { Ok(&self.value) }
    }
}

/// Returns the value of a field in which 0 stands for the default, or for no limit.
pub fn unless_zero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// A struct of the caller's for a function to fill.
pub struct StatsOut<T> {
    pointer: NonNull<T>,
    size: usize,
}

impl<T: SizedStruct> StatsOut<T> {
    /// Takes the struct at `pointer`, which says how long it is.
    ///
    /// # Safety
    /// As many bytes as the struct says are there and writable.
    pub unsafe fn new(pointer: NonNull<T>, wrong: &'static Wrong) -> Result<Self> {
        // SAFETY: the caller promises at least the struct's size field.
        let size = unsafe { stated_size(pointer.as_ptr(), wrong) }?;
        Ok(Self { pointer, size })
    }

    /// Fills the fields that the caller knows, and writes 0 to those that this library does not
    /// know. The struct's size field stays as the caller set it.
    pub fn set(&self, stats: T) -> Result<()> {
        let first = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        let (from, to) = ((&raw const stats).cast::<u8>(), self.pointer.as_ptr().cast::<u8>());
        // SAFETY: `known` bytes are there on both sides, `size` in the caller's struct.
        unsafe {
            std::ptr::copy_nonoverlapping(from.add(first), to.add(first), known - first);
            to.add(known).write_bytes(0, self.size - known);
        }
        Ok(())
    }
}
