//! Structs that begin with their size: how one is read or written whose caller knows an older or a newer version.

use std::mem::{MaybeUninit, size_of};
use std::ptr::NonNull;
use zsalloc::{Error, Result};

/// A struct of this header that begins with its size, and grows at its end from version to
/// version.
///
/// # Safety
/// It is `repr(C)`, begins with a `usize`, has no padding, and is valid whatever its bytes are.
pub unsafe trait SizedStruct: Copy {}

/// The size, and the first field that means something: no version ever had less.
const LEAST: usize = 16;
/// No version will have more; a larger number is not the size of a struct.
const MOST: usize = 4096;

/// The size that a struct says it has, if it can be one.
///
/// # Safety
/// `pointer` points to a `usize` at the least.
unsafe fn stated_size<T: SizedStruct>(pointer: *const T) -> Result<usize> {
    const WRONG: Error = Error::Invalid(&"struct_size is not the size of this struct: set it to its sizeof");
    // SAFETY: the caller vouches for it; C may have put it at any address.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    let plausible = (LEAST..=MOST).contains(&size) && size.is_multiple_of(8);
    if plausible { Ok(size) } else { Err(WRONG) }
}

/// A struct as its caller passed it: fields that an older caller does not know are 0.
pub struct Received<T> {
    /// The fields that we know.
    value: T,
    /// Whether a newer caller asks, in a field that we do not know, for something.
    asks_for_more: bool,
}

impl<T: SizedStruct> Received<T> {
    /// Copies the struct; one full of zeros for NULL.
    ///
    /// # Safety
    /// `pointer` is NULL, or points to as many bytes as the struct says it has.
    pub unsafe fn read(pointer: *const T) -> Result<Self> {
        let mut value = MaybeUninit::<T>::zeroed();
        let mut asks_for_more = false;
        if !pointer.is_null() {
            // SAFETY: the caller vouches for it.
            let size = unsafe { stated_size(pointer) }?;
            let (from, known) = (pointer.cast::<u8>(), size.min(size_of::<T>()));
            // SAFETY: `known` bytes are there on both sides.
            unsafe { std::ptr::copy_nonoverlapping(from, value.as_mut_ptr().cast(), known) };
            // SAFETY: these bytes are inside the struct.
            asks_for_more = (known..size).any(|at| unsafe { from.add(at).read() } != 0);
        }
        // SAFETY: any bytes are a valid struct.
        Ok(Self { value: unsafe { value.assume_init() }, asks_for_more })
    }

    /// The fields that we know, also when the caller set others.
    pub fn known(&self) -> &T {
        &self.value
    }

    /// The fields, if the caller set no others.
    pub fn all(&self) -> Result<&T> {
        const NEWER: Error = Error::Invalid(&"the struct has a field that this version of zsalloc does not know");
        if self.asks_for_more { Err(NEWER) } else { Ok(&self.value) }
    }
}

/// A struct of the caller's that is to be filled.
pub struct StatsOut<T> {
    pointer: NonNull<T>,
    size: usize,
}

impl<T: SizedStruct> StatsOut<T> {
    /// The struct at `pointer`, as long as it says.
    ///
    /// # Safety
    /// The bytes that it says it has are there, and writable.
    pub unsafe fn new(pointer: NonNull<T>) -> Result<Self> {
        // SAFETY: the caller vouches for it.
        let size = unsafe { stated_size(pointer.as_ptr()) }?;
        Ok(Self { pointer, size })
    }

    /// Fills the fields that the caller knows, and puts 0 into those that we do not. Its size
    /// stays what the caller set.
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
