//! Target: structs that begin with their size, of any size that a caller may claim, and the options in them.

use super::input::Input;
use crate::functions::*;
use crate::system::errno::{EINVAL, ENOMEM};
use crate::wrong::wrong;
use std::ptr::{NonNull, null, null_mut};

/// Makes a struct of its own size, in memory of exactly that size, so that a sanitizer notices reads past it. The flag
/// says whether the size is a valid one; if not, only the size itself is there.
fn as_passed(input: &mut Input<'_>) -> (Vec<u8>, bool) {
    let size = match input.u8() {
        0 => input.u64() as usize,
        1 => usize::from(input.u16()),
        _ => usize::from(input.u8()) * 8,
    };
    let right = (16..=4096).contains(&size) && size.is_multiple_of(8);
    let mut bytes = size.to_ne_bytes().to_vec();
    if right {
        bytes.extend_from_slice(input.bytes(size - 8));
        bytes.resize(size, 0);
    }
    bytes.shrink_to_fit();
    (bytes, right)
}

fn bytes_of<T>(value: &T) -> &[u8] {
    // SAFETY: these structs have no padding.
    unsafe { std::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }
}

/// Checks that the received struct is the passed one, with zeros for fields that were not passed.
fn read<T: SizedStruct>(passed: &[u8], right: bool) -> Option<T> {
    // SAFETY: as many bytes are there as the struct says, if that can be.
    let received = unsafe { Received::<T>::read(passed.as_ptr().cast(), wrong!("options")) };
    assert_eq!(received.is_ok(), right);
    let received = received.ok()?;
    let known = passed.len().min(size_of::<T>());
    let value = bytes_of(received.known());
    assert!(value[..known] == passed[..known] && value[known..].iter().all(|byte| *byte == 0));
    assert_eq!(received.all().is_ok(), passed[known..].iter().all(|byte| *byte == 0));
    received.all().ok().copied()
}

/// Checks that a struct is filled up to its size, and that its size stays.
fn fill<T: SizedStruct>(passed: &[u8], right: bool, stats: T) {
    let mut filled = passed.to_vec();
    let pointer = NonNull::new(filled.as_mut_ptr().cast::<T>()).unwrap();
    // SAFETY: as many bytes are there as the struct says, if that can be.
    let out = unsafe { StatsOut::new(pointer, wrong!("stats")) };
    assert_eq!(out.is_ok(), right);
    let Ok(out) = out else { return assert_eq!(filled, passed) };
    out.set(stats).unwrap();
    let known = passed.len().min(size_of::<T>());
    assert!(filled[..8] == passed[..8] && filled[8..known] == bytes_of(&stats)[8..known]);
    assert!(filled[known..].iter().all(|byte| *byte == 0));
}

/// Creates a pool if the options allow it. If not, there must be a sentence that says why.
fn create(mut options: zs_pool_options) {
    let mut pool = null_mut();
    let mut memory = Vec::new();
    options.struct_size = size_of::<zs_pool_options>();
    options.memory = match options.memory.is_null() {
        true => null_mut(),
        false => {
            options.memory_bytes %= 2 << 20;
            memory.resize(options.memory_bytes as usize + 4096, 0_u8);
            let unaligned = options.memory as usize & 1;
            (memory.as_mut_ptr() as usize).next_multiple_of(4096).wrapping_add(unaligned) as *mut _
        }
    };
    // The bits of the pointer are the flags of the tuning.
    let flags = options.tuning as usize as u32;
    let tuning = zs_pool_tuning { struct_size: size_of::<zs_pool_tuning>(), flags, reserved: [0; 9] };
    options.tuning = if options.tuning.is_null() { null() } else { &raw const tuning };
    // SAFETY: the memory that the options supply is there, with one byte less if it is not aligned; that is refused.
    let created = unsafe { zs_create_pool(c"fuzz".as_ptr(), &raw const options, &raw mut pool) };
    match created {
        // SAFETY: it was just created.
        0 => assert_eq!(unsafe { zs_destroy_pool(pool) }, 0),
        error => {
            assert_eq!(zs_last_errno(), error, "{error} has no sentence");
            // The system may have no huge pages in reserve.
            assert!([EINVAL, ENOMEM].contains(&-error) || options.backing == ZS_BACKING_HUGETLB, "{error}");
        }
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, _unused) = (input.u8() % 11, input.u8());
    let (passed, right) = as_passed(&mut input);
    match kind {
        0 => _ = read::<zs_pool_options>(&passed, right).map(create),
        1 => _ = read::<zs_compact_budget>(&passed, right),
        2 => _ = read::<zswap_options>(&passed, right),
        3 => _ = read::<zswap_area_options>(&passed, right),
        7 => _ = read::<zswap_tuning>(&passed, right),
        8 => _ = read::<zswap_tier_ops>(&passed, right),
        9 => _ = read::<zswap_tier_options>(&passed, right),
        10 => fill(&passed, right, zswap_tier_stats { tier: 1, damaged: u64::MAX, ..Default::default() }),
        4 => fill(&passed, right, zs_pool_stats { objects: 1, pages_reclaimed: u64::MAX, ..Default::default() }),
        5 => fill(&passed, right, zswap_stats { areas: 1, file_bytes: u64::MAX, ..Default::default() }),
        _ => fill(&passed, right, zswap_area_stats { area: 1, limit_hits: u64::MAX, ..Default::default() }),
    }
}
