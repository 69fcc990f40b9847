//! zswap: pages in, pages out.

mod basics;
mod model;

use crate::{Area, AreaOptions, PAGE_SIZE, Zswap, ZswapOptions};

pub type PageBytes = [u8; PAGE_SIZE];

/// A page that LZ4 makes some 700 bytes of, different for each number.
pub fn compressible(number: u64) -> PageBytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::array::from_fn(|at| {
        if at % 8 == 0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        if at % 64 < 8 { state as u8 } else { (number as u8).wrapping_add((at / 64) as u8) }
    })
}

/// A page that no codec makes shorter, different for each number.
pub fn noise(number: u64) -> PageBytes {
    let mut state = number.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

/// A zswap with one area of so many pages.
pub fn with_area(pages: u64, options: &ZswapOptions) -> (Zswap, Area) {
    let zswap = Zswap::new("test", options).unwrap();
    let area = zswap.add_area(pages, &AreaOptions::default()).unwrap();
    (zswap, area)
}
