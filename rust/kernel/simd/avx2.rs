//! AVX2 with FMA and F16C: sixteen lanes are two registers.
#![allow(unsafe_code, reason = "intrinsics; an `Avx2` value exists only on a CPU that has them")]

use std::arch::x86_64::*;

use super::{IntegerKernel, IntegerSimd, Kernel, Simd};
use crate::kernel::{LANES, Lanes};

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// Lanes 0..8 and 8..16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32x16(__m256, __m256);

/// Lanes 0..8 and 8..16, of four bytes, two int16 or one int32 each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct I32x16(__m256i, __m256i);

impl Avx2 {
    /// The instruction set, if the CPU and the operating system support it.
    pub(crate) fn detect() -> Option<Self> {
        let found =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        found.then_some(Avx2(()))
    }
}

impl Simd for Avx2 {
    type V = F32x16;
    const BLOCK: usize = 5;

    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        // SAFETY: `self` proves AVX2.
        let half = unsafe { _mm256_set1_ps(x) };
        F32x16(half, half)
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> F32x16 {
        let (low, high) = from.split_at(8);
        // SAFETY: `self` proves AVX2; `low` is eight values, and the load requires no alignment.
        let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
        // SAFETY: as above, for `high`.
        let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
        F32x16(low, high)
    }

    #[inline(always)]
    fn load_lower_halves(self, low: &Lanes, high: &Lanes) -> F32x16 {
        // SAFETY: `self` proves AVX2; the reference is valid for 64 bytes, of which the load reads 32; it requires no
        // alignment.
        let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
        // SAFETY: as above, for `high`.
        let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
        F32x16(low, high)
    }

    #[inline(always)]
    fn store(self, v: F32x16, to: &mut Lanes) {
        let (low, high) = to.split_at_mut(8);
        // SAFETY: `self` proves AVX2; `low` is eight values, and the store requires no alignment.
        unsafe { _mm256_storeu_ps(low.as_mut_ptr(), v.0) };
        // SAFETY: as above, for `high`.
        unsafe { _mm256_storeu_ps(high.as_mut_ptr(), v.1) };
    }

    // No closures here: a closure is compiled without the target features, and is inlined less reliably than these
    // methods.

    #[inline(always)]
    fn add(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves AVX2.
        let low = unsafe { _mm256_add_ps(a.0, b.0) };
        // SAFETY: as above.
        let high = unsafe { _mm256_add_ps(a.1, b.1) };
        F32x16(low, high)
    }

    #[inline(always)]
    fn fma(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        // SAFETY: `self` proves FMA.
        let low = unsafe { _mm256_fmadd_ps(a.0, b.0, c.0) };
        // SAFETY: as above.
        let high = unsafe { _mm256_fmadd_ps(a.1, b.1, c.1) };
        F32x16(low, high)
    }

    #[inline(always)]
    fn relu(self, z: F32x16) -> F32x16 {
        let zero = self.splat(0.0);
        // SAFETY: `self` proves AVX2. (For two zeros, the instruction returns its second operand: +0.)
        let low = unsafe { _mm256_max_ps(z.0, zero.0) };
        // SAFETY: as above.
        let high = unsafe { _mm256_max_ps(z.1, zero.1) };
        F32x16(low, high)
    }

    #[inline(always)]
    fn at_least(self, a: F32x16, b: F32x16) -> u16 {
        // SAFETY: `self` proves AVX2.
        unsafe { at_least(a, b) }
    }

    #[inline(always)]
    fn transpose(self, rows: [F32x16; LANES]) -> [F32x16; LANES] {
        // SAFETY: `self` proves AVX2.
        unsafe { transpose(rows) }
    }

    #[inline(always)]
    fn prefetch(self, lines: &[Lanes], at: usize) {
        let line = lines.as_ptr().wrapping_add(at);
        // SAFETY: a prefetch reads nothing and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves both features, see `detect`.
        unsafe { run(self, kernel) }
    }
}

impl IntegerSimd for Avx2 {
    type Words = I32x16;
    type Sums = I32x16;
    type ShortSums = I32x16;
    const SUMS: usize = 5;
    const MAX_BYTE: u8 = 127;

    #[inline(always)]
    fn splat_word(self, word: u32) -> I32x16 {
        // SAFETY: `self` proves AVX2.
        let half = unsafe { _mm256_set1_epi32(word as i32) };
        I32x16(half, half)
    }

    #[inline(always)]
    fn load_words(self, from: &Lanes) -> I32x16 {
        let (low, high) = from.split_at(8);
        // SAFETY: `self` proves AVX2; `low` is 32 bytes, and the load requires no alignment.
        let low = unsafe { _mm256_loadu_si256(low.as_ptr().cast()) };
        // SAFETY: as above, for `high`.
        let high = unsafe { _mm256_loadu_si256(high.as_ptr().cast()) };
        I32x16(low, high)
    }

    #[inline(always)]
    fn store_words(self, words: I32x16, to: &mut Lanes) {
        let (low, high) = to.split_at_mut(8);
        // SAFETY: `self` proves AVX2; `low` is 32 bytes, and the store requires no alignment.
        unsafe { _mm256_storeu_si256(low.as_mut_ptr().cast(), words.0) };
        // SAFETY: as above, for `high`.
        unsafe { _mm256_storeu_si256(high.as_mut_ptr().cast(), words.1) };
    }

    #[inline(always)]
    fn load_f16(self, from: &Lanes) -> [F32x16; 2] {
        let (four, _) = from.as_chunks();
        // SAFETY: `self` proves AVX2 and F16C.
        unsafe { load_f16(four) }
    }

    #[inline(always)]
    fn load_bf16(self, from: &Lanes) -> [F32x16; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { halves(self.load_words(from)) }
    }

    #[inline(always)]
    fn nibbles(self, words: I32x16) -> [I32x16; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { nibbles(words) }
    }

    #[inline(always)]
    fn seven_bits(self, upper: I32x16, lower: I32x16) -> [I32x16; 2] {
        // SAFETY: `self` proves AVX2.
        let [a, b] = unsafe { seven_bits(upper.0, lower.0) };
        // SAFETY: as above.
        let [c, d] = unsafe { seven_bits(upper.1, lower.1) };
        [I32x16(a, c), I32x16(b, d)]
    }

    #[inline(always)]
    fn add_relu(self, a: I32x16, b: I32x16) -> I32x16 {
        // SAFETY: `self` proves AVX2.
        unsafe { add_relu(a, b) }
    }

    #[inline(always)]
    fn subtract_relu(self, a: I32x16, b: I32x16) -> I32x16 {
        // SAFETY: `self` proves AVX2. (The subtraction saturates at zero.)
        let low = unsafe { _mm256_subs_epu8(a.0, b.0) };
        // SAFETY: as above.
        let high = unsafe { _mm256_subs_epu8(a.1, b.1) };
        I32x16(low, high)
    }

    #[inline(always)]
    fn zero_sums(self) -> I32x16 {
        self.splat_word(0)
    }

    #[inline(always)]
    fn dot_i16(self, a: I32x16, b: I32x16, sums: I32x16) -> I32x16 {
        // SAFETY: `self` proves AVX2.
        unsafe { dot_i16(a, b, sums) }
    }

    #[inline(always)]
    fn dot_i8(self, a: I32x16, b: I32x16, sums: I32x16) -> I32x16 {
        // SAFETY: `self` proves AVX2.
        let low = unsafe { dot_i8(a.0, b.0, sums.0) };
        // SAFETY: as above.
        let high = unsafe { dot_i8(a.1, b.1, sums.1) };
        I32x16(low, high)
    }

    #[inline(always)]
    fn zero_short_sums(self) -> I32x16 {
        self.splat_word(0)
    }

    #[inline(always)]
    fn dot_u8(self, a: I32x16, b: I32x16, sums: I32x16) -> I32x16 {
        // SAFETY: `self` proves AVX2.
        unsafe { dot_u8(a, b, sums) }
    }

    #[inline(always)]
    fn widen(self, short: I32x16, sums: I32x16) -> I32x16 {
        self.dot_i16(short, self.splat_word(0x0001_0001), sums)
    }

    #[inline(always)]
    fn to_floats(self, sums: I32x16) -> F32x16 {
        // SAFETY: `self` proves AVX2.
        let low = unsafe { _mm256_cvtepi32_ps(sums.0) };
        // SAFETY: as above.
        let high = unsafe { _mm256_cvtepi32_ps(sums.1) };
        F32x16(low, high)
    }

    #[inline(always)]
    fn run_integers<K: IntegerKernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves the three features, see `detect`.
        unsafe { run_integers(self, kernel) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run_integers<K: IntegerKernel>(s: Avx2, kernel: K) -> K::Output {
    kernel.run(s)
}

/// Converts 32 half-precision values, from four parts of 128 bits.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load_f16(from: &[[f32; 4]]) -> [F32x16; 2] {
    [F32x16(eight_f16(&from[0]), eight_f16(&from[1])), F32x16(eight_f16(&from[2]), eight_f16(&from[3]))]
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn eight_f16(from: &[f32; 4]) -> __m256 {
    // SAFETY: the reference is valid for 16 bytes, and the load requires no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.as_ptr().cast()) })
}

/// The upper and the lower halves of words, as bfloat16 values.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(words: I32x16) -> [F32x16; 2] {
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let (low, high) = (_mm256_and_si256(words.0, upper), _mm256_and_si256(words.1, upper));
    let upper = F32x16(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
    let (low, high) = (_mm256_slli_epi32::<16>(words.0), _mm256_slli_epi32::<16>(words.1));
    [upper, F32x16(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))]
}

#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(words: I32x16) -> [I32x16; 2] {
    let mask = _mm256_set1_epi8(15);
    let low = I32x16(_mm256_and_si256(words.0, mask), _mm256_and_si256(words.1, mask));
    let (a, b) = (_mm256_srli_epi16::<4>(words.0), _mm256_srli_epi16::<4>(words.1));
    [low, I32x16(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask))]
}

/// No bit of a byte is shifted into another byte, except into bits that are masked.
#[inline]
#[target_feature(enable = "avx2")]
fn seven_bits(upper: __m256i, lower: __m256i) -> [__m256i; 2] {
    let (four, three) = (_mm256_set1_epi8(0x78), _mm256_set1_epi8(0x07));
    let first = _mm256_and_si256(_mm256_slli_epi16::<3>(upper), four);
    let second = _mm256_and_si256(_mm256_srli_epi16::<1>(upper), four);
    [
        _mm256_or_si256(first, _mm256_and_si256(_mm256_srli_epi16::<1>(lower), three)),
        _mm256_or_si256(second, _mm256_and_si256(_mm256_srli_epi16::<5>(lower), three)),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot_u8(a: I32x16, b: I32x16, sums: I32x16) -> I32x16 {
    let low = _mm256_add_epi16(sums.0, _mm256_maddubs_epi16(a.0, b.0));
    let high = _mm256_add_epi16(sums.1, _mm256_maddubs_epi16(a.1, b.1));
    I32x16(low, high)
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_relu(a: I32x16, b: I32x16) -> I32x16 {
    let zero = _mm256_setzero_si256();
    let low = _mm256_max_epi16(_mm256_adds_epi16(a.0, b.0), zero);
    let high = _mm256_max_epi16(_mm256_adds_epi16(a.1, b.1), zero);
    I32x16(low, high)
}

#[inline]
#[target_feature(enable = "avx2")]
fn dot_i16(a: I32x16, b: I32x16, sums: I32x16) -> I32x16 {
    let low = _mm256_add_epi32(sums.0, _mm256_madd_epi16(a.0, b.0));
    let high = _mm256_add_epi32(sums.1, _mm256_madd_epi16(a.1, b.1));
    I32x16(low, high)
}

/// Adds the products of two bytes in int16: at most `2 * 127 * 128`, which does not saturate.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_i8(a: __m256i, b: __m256i, sums: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(b, a);
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[target_feature(enable = "avx2,fma")]
fn run<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
    kernel.run(s)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn at_least(a: F32x16, b: F32x16) -> u16 {
    let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a.0, b.0));
    let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a.1, b.1));
    (low | high << 8) as u16
}

/// Transposes four blocks of eight by eight.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(rows: [F32x16; LANES]) -> [F32x16; LANES] {
    let (mut upper_low, mut upper_high) = ([rows[0].0; 8], [rows[0].1; 8]);
    let (mut lower_low, mut lower_high) = ([rows[0].0; 8], [rows[0].1; 8]);
    for i in 0..8 {
        (upper_low[i], upper_high[i]) = (rows[i].0, rows[i].1);
        (lower_low[i], lower_high[i]) = (rows[8 + i].0, rows[8 + i].1);
    }
    let (a, b) = (transpose8(upper_low), transpose8(upper_high));
    let (c, d) = (transpose8(lower_low), transpose8(lower_high));
    let mut out = rows;
    for i in 0..8 {
        (out[i], out[8 + i]) = (F32x16(a[i], c[i]), F32x16(b[i], d[i]));
    }
    out
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose8(r: [__m256; 8]) -> [__m256; 8] {
    let mut t = r;
    for i in (0..8).step_by(2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    // u[4i + j] holds, in its 128-bit part p, column 4p + j of rows 4i..4i+4.
    let mut u = t;
    for i in (0..8).step_by(4) {
        u[i] = _mm256_shuffle_ps::<0b01_00_01_00>(t[i], t[i + 2]);
        u[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(t[i], t[i + 2]);
        u[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(t[i + 1], t[i + 3]);
        u[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(t[i + 1], t[i + 3]);
    }
    let mut out = u;
    for j in 0..4 {
        out[j] = _mm256_permute2f128_ps::<0x20>(u[j], u[4 + j]);
        out[4 + j] = _mm256_permute2f128_ps::<0x31>(u[j], u[4 + j]);
    }
    out
}
