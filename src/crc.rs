//! CRC-32C (Castagnoli), the check of iSCSI and ext4, with the processor's own instructions where it has them.
//!
//! The arithmetic is that of polynomials over one bit, modulo [`POLYNOMIAL`]. All polynomials are reflected: the
//! highest bit of a word is the coefficient of x^0. Bytes are a polynomial, and appending bytes multiplies it by a
//! power of x. *Folding* replaces bytes by a multiple of them that lies further back and leaves the same remainder.

/// The polynomial of CRC-32C, without its highest coefficient, which is that of x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Returns the check of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    !update(!0, bytes)
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn update(crc: u32, bytes: &[u8]) -> u32 {
    if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
        if bytes.len() >= x86::WIDE_FROM
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("vpclmulqdq")
        {
            // SAFETY: the processor has AVX-512F, VPCLMULQDQ, and what `fused` needs.
            return unsafe { x86::wide(crc, bytes) };
        }
        // SAFETY: the processor has SSE4.2 and PCLMULQDQ.
        return unsafe { x86::fused(crc, bytes) };
    }
    by_table(crc, bytes)
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
fn update(crc: u32, bytes: &[u8]) -> u32 {
    #[target_feature(enable = "crc")]
    fn by_words(crc: u32, bytes: &[u8]) -> u32 {
        use std::arch::aarch64::{__crc32cb, __crc32cd};
        let (words, rest) = bytes.as_chunks::<8>();
        let crc = words.iter().fold(crc, |crc, word| __crc32cd(crc, u64::from_le_bytes(*word)));
        rest.iter().fold(crc, |crc, byte| __crc32cb(crc, *byte))
    }
    if std::arch::is_aarch64_feature_detected!("crc") {
        // SAFETY: the processor has the instructions.
        return unsafe { by_words(crc, bytes) };
    }
    by_table(crc, bytes)
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn update(crc: u32, bytes: &[u8]) -> u32 {
    by_table(crc, bytes)
}

/// Returns a * b.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, 1 << 31);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = b >> 1 ^ if b & 1 != 0 { POLYNOMIAL } else { 0 };
        bit >>= 1;
    }
    product
}

/// Returns x^n.
const fn power(mut n: usize) -> u32 {
    let (mut result, mut square) = (1 << 31, 1 << 30);
    while n != 0 {
        if n & 1 != 0 {
            result = multiply(result, square);
        }
        square = multiply(square, square);
        n >>= 1;
    }
    result
}

/// Computes the check by tables, eight bytes at a time. Table `n` is for a byte that is followed by `n` bytes.
fn by_table(mut crc: u32, bytes: &[u8]) -> u32 {
    static TABLES: [[u32; 256]; 8] = {
        let mut tables = [[0; 256]; 8];
        let mut at = 0;
        while at < 8 * 256 {
            tables[at / 256][at % 256] = multiply(at as u32 % 256, power(8 * (at / 256) + 8));
            at += 1;
        }
        tables
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word) ^ u64::from(crc);
        crc = (0..8).fold(0, |crc, at| crc ^ TABLES[7 - at][(word >> (8 * at)) as usize & 0xff]);
    }
    rest.iter().fold(crc, |crc, byte| TABLES[0][(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    use super::power;
    use std::arch::asm;
    use std::arch::x86_64::*;

    /// The number of bytes from which on the widest registers are worth their start.
    pub const WIDE_FROM: usize = 256;

    /// Returns the factors of the two halves of 16 bytes, to fold these into 16 bytes that lie `bytes` bytes further
    /// back. A product of reflected words is one bit short, and 32 bits of each factor are missing: hence the 33.
    const fn folding(bytes: usize) -> [u64; 2] {
        [power(8 * bytes + 64 - 33) as u64, power(8 * bytes - 33) as u64]
    }

    /// Instructions that fold the block in one register by the factors in `zmm4` into another block, and leave that in
    /// the register. Takes a spare register.
    macro_rules! fold {
        ($folded:literal, $spare:literal, $next:literal) => {
            concat!(
                "vpclmulqdq zmm",
                $spare,
                ", zmm",
                $folded,
                ", zmm4, 0x00\n",
                "vpclmulqdq zmm",
                $folded,
                ", zmm",
                $folded,
                ", zmm4, 0x11\n",
                "vpternlogq zmm",
                $folded,
                ", zmm",
                $spare,
                ", ",
                $next,
                ", 0x96",
            )
        };
    }

    /// Folds all 64-byte blocks into one. The intrinsics for this are younger than the oldest compiler supported.
    ///
    /// # Safety
    /// The processor has AVX-512F, VPCLMULQDQ, and what [`by_words`] needs. There are [`WIDE_FROM`] bytes or more.
    pub unsafe fn wide(crc: u32, bytes: &[u8]) -> u32 {
        static FOUR_BLOCKS: [u64; 2] = folding(256);
        static ONE_BLOCK: [u64; 2] = folding(64);
        let (blocks, rest) = bytes.as_chunks::<64>();
        debug_assert!(blocks.len() >= 4);
        let mut folded = [0_u8; 64];
        // SAFETY: the code reads four blocks at once while there are as many, then one at a time. The constants are 16
        // bytes. It writes one block, to `folded`.
        unsafe {
            asm!(
                "vbroadcasti32x4 zmm4, [{four}]",
                "vmovd xmm0, {crc:e}",
                "vpxorq zmm0, zmm0, [{at}]",
                "vmovdqu64 zmm1, [{at} + 64]",
                "vmovdqu64 zmm2, [{at} + 128]",
                "vmovdqu64 zmm3, [{at} + 192]",
                "2:",
                "add {at}, 256",
                "sub {left}, 4",
                "cmp {left}, 4",
                "jb 3f",
                fold!("0", "5", "[{at}]"),
                fold!("1", "6", "[{at} + 64]"),
                fold!("2", "7", "[{at} + 128]"),
                fold!("3", "8", "[{at} + 192]"),
                "jmp 2b",
                // Four blocks to one, and what is left into that.
                "3:",
                "vbroadcasti32x4 zmm4, [{one}]",
                fold!("0", "5", "zmm1"),
                fold!("0", "5", "zmm2"),
                fold!("0", "5", "zmm3"),
                "4:",
                "sub {left}, 1",
                "jb 5f",
                fold!("0", "5", "[{at}]"),
                "add {at}, 64",
                "jmp 4b",
                "5:",
                "vmovdqu64 [{folded}], zmm0",
                "vzeroupper",
                four = in(reg) &FOUR_BLOCKS,
                one = in(reg) &ONE_BLOCK,
                crc = in(reg) crc,
                at = inout(reg) blocks.as_ptr() => _,
                left = inout(reg) blocks.len() => _,
                folded = in(reg) &mut folded,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _,
                out("xmm5") _, out("xmm6") _, out("xmm7") _, out("xmm8") _,
                options(nostack),
            );
            by_words(by_words(0, &folded), rest)
        }
    }

    /// Words of each of the three lanes in a round of [`fused`].
    const LANE_WORDS: usize = 5;
    const LANE: usize = 8 * LANE_WORDS;
    const ROUND: usize = 64 + 3 * LANE;
    /// The most rounds at once. They suffice for the largest object of a pool; longer inputs are cut.
    const MOST_ROUNDS: usize = 24;

    /// The factors that move a check over one, two and three lanes, by the number of rounds.
    static OVER_LANES: [[u32; 3]; MOST_ROUNDS + 1] = {
        let mut powers = [[0; 3]; MOST_ROUNDS + 1];
        let mut rounds = 1;
        while rounds <= MOST_ROUNDS {
            let bits = 8 * LANE * rounds;
            powers[rounds] = [power(bits - 33), power(2 * bits - 33), power(3 * bits - 33)];
            rounds += 1;
        }
        powers
    };

    /// Folds the first part by multiplication while the CRC instruction goes through three other parts. Different units
    /// of the processor do this at the same time. The CRC instruction takes three cycles, and one can begin in each.
    ///
    /// # Safety
    /// The processor has SSE 4.2 and PCLMULQDQ.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub fn fused(mut crc: u32, mut bytes: &[u8]) -> u32 {
        while bytes.len() >= 2 * ROUND {
            let rounds = (bytes.len() / ROUND).min(MOST_ROUNDS);
            let (these, rest) = bytes.split_at(rounds * ROUND);
            crc = rounds_of(crc, these, rounds);
            bytes = rest;
        }
        by_words(crc, bytes)
    }

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    #[inline]
    fn rounds_of(crc: u32, bytes: &[u8], rounds: usize) -> u32 {
        let (quads, words) = bytes.split_at(64 * rounds);
        let (first, lanes) = words.split_at(LANE * rounds);
        let (second, third) = lanes.split_at(LANE * rounds);
        let lanes = first.as_chunks::<LANE>().0.iter().zip(second.as_chunks::<LANE>().0).zip(third.as_chunks().0);
        let mut blocks = quads.as_chunks::<64>().0.iter();
        let [mut a, mut b, mut c] = [0; 3];
        let Some(block) = blocks.next() else { return by_words(crc, bytes) };
        let mut folded = quad(block);
        folded[0] = _mm_xor_si128(folded[0], _mm_cvtsi32_si128(crc as i32));
        let by = vector(&const { folding(64) });
        for ((first, second), third) in lanes {
            if let Some(block) = blocks.next() {
                let next = quad(block);
                (0..4).for_each(|at| folded[at] = fold(folded[at], by, next[at]));
            }
            for at in 0..LANE_WORDS {
                let word = |lane: &[u8; LANE]| u64::from_le_bytes(lane.as_chunks().0[at]);
                a = _mm_crc32_u64(a, word(first));
                b = _mm_crc32_u64(b, word(second));
                c = _mm_crc32_u64(c, word(third));
            }
        }
        let (by_one, by_two) = (vector(&const { folding(16) }), vector(&const { folding(32) }));
        let [x, y] = [fold(folded[0], by_one, folded[1]), fold(folded[2], by_one, folded[3])];
        let x = fold(x, by_two, y);
        let front = _mm_crc32_u64(0, _mm_cvtsi128_si64(x) as u64);
        let front = _mm_crc32_u64(front, _mm_extract_epi64::<1>(x) as u64);
        let [one, two, three] = OVER_LANES[rounds];
        let moved = |crc: u64, power: u32| {
            _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(crc as i64), _mm_cvtsi64_si128(power.into()))
        };
        let sum = _mm_xor_si128(_mm_xor_si128(moved(front, three), moved(a, two)), moved(b, one));
        (_mm_crc32_u64(0, _mm_cvtsi128_si64(sum) as u64) ^ c) as u32
    }

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    #[inline]
    fn vector(halves: &[u64; 2]) -> __m128i {
        _mm_set_epi64x(halves[1] as i64, halves[0] as i64)
    }

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    #[inline]
    fn quad(block: &[u8; 64]) -> [__m128i; 4] {
        // SAFETY: any bits are vectors, and both types have as many.
        unsafe { std::mem::transmute(*block) }
    }

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    #[inline]
    fn fold(folded: __m128i, by: __m128i, next: __m128i) -> __m128i {
        let halves = (_mm_clmulepi64_si128::<0x00>(folded, by), _mm_clmulepi64_si128::<0x11>(folded, by));
        _mm_xor_si128(_mm_xor_si128(halves.0, halves.1), next)
    }

    #[target_feature(enable = "sse4.2")]
    #[inline]
    fn by_words(crc: u32, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let crc = words.iter().fold(u64::from(crc), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word)));
        rest.iter().fold(crc as u32, |crc, byte| _mm_crc32_u8(crc, *byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, bit by bit.
    fn slowly(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| multiply(crc ^ u32::from(*byte), power(8)))
    }

    #[test]
    fn known_checks_are_computed() {
        // RFC 3720, B.4.
        let known: [(&[u8], u32); 4] =
            [(&[0; 32], 0x8a91_36aa), (&[0xff; 32], 0x62a8_ab43), (b"123456789", 0xe306_9283), (&[], 0)];
        for (bytes, check) in known {
            assert_eq!((crc32c(bytes), !by_table(!0, bytes), slowly(bytes)), (check, check, check));
        }
    }

    #[test]
    fn every_way_computes_the_same_for_every_length_and_alignment() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let lengths = (0..=700).chain((700..4200).step_by(13)).chain([4096, 4097, 4112, 9_990]);
        for (at, length) in lengths.enumerate() {
            let bytes = &bytes[at % 8..at % 8 + length];
            let check = slowly(bytes);
            assert_eq!((crc32c(bytes), !by_table(!0, bytes)), (check, check), "{length} bytes");
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
                // SAFETY: the processor has the instructions.
                assert_eq!(!unsafe { x86::fused(!0, bytes) }, check, "{length} bytes");
            }
        }
    }
}
