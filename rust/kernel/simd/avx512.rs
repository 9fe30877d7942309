//! AVX-512: sixteen lanes are one register. Integers need AVX-512BW, and are faster with VNNI.
#![allow(unsafe_code, reason = "intrinsics; an `Avx512` value exists only on a CPU that has them")]

use std::arch::x86_64::*;

use super::{IntegerKernel, IntegerSimd, Kernel, Simd};
use crate::kernel::{LANES, Lanes};

/// Proof that the CPU has AVX-512F, AVX-512BW, AVX2 and FMA, and with `VNNI` also AVX-512 VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512<const VNNI: bool>(());

impl<const VNNI: bool> Avx512<VNNI> {
    /// The instruction set, if the CPU and the operating system support it. (A CPU with AVX-512F but not BW falls back
    /// to AVX2.)
    pub(crate) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && (!VNNI || is_x86_feature_detected!("avx512vnni"));
        found.then_some(Avx512(()))
    }
}

impl<const VNNI: bool> Simd for Avx512<VNNI> {
    type V = __m512;
    const BLOCK: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> __m512 {
        // SAFETY: `self` proves AVX-512F; the reference is valid for 64 bytes, and the load requires no alignment.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_lower_halves(self, low: &Lanes, high: &Lanes) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { load_lower_halves(low, high) }
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut Lanes) {
        // SAFETY: `self` proves AVX-512F; the reference is valid for 64 bytes, and the store requires no alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn relu(self, z: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { relu(z) }
    }

    #[inline(always)]
    fn at_least(self, a: __m512, b: __m512) -> u16 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b) }
    }

    #[inline(always)]
    fn transpose(self, rows: [__m512; LANES]) -> [__m512; LANES] {
        // SAFETY: `self` proves AVX-512F.
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
        // SAFETY: `self` proves the three features, see `detect`.
        unsafe { run(Avx512(()), kernel) }
    }
}

#[target_feature(enable = "avx512f,avx2,fma")]
fn run<K: Kernel>(s: Avx512<false>, kernel: K) -> K::Output {
    kernel.run(s)
}

impl<const VNNI: bool> IntegerSimd for Avx512<VNNI> {
    type Words = __m512i;
    type Sums = __m512i;
    type ShortSums = __m512i;
    const SUMS: usize = 16;
    const MAX_BYTE: u8 = 255;

    #[inline(always)]
    fn splat_word(self, word: u32) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_set1_epi32(word as i32) }
    }

    #[inline(always)]
    fn load_words(self, from: &Lanes) -> __m512i {
        // SAFETY: `self` proves AVX-512F; the reference is valid for 64 bytes, and the load requires no alignment.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_words(self, words: __m512i, to: &mut Lanes) {
        // SAFETY: `self` proves AVX-512F; the reference is valid for 64 bytes, and the store requires no alignment.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), words) }
    }

    #[inline(always)]
    fn load_f16(self, from: &Lanes) -> [__m512; 2] {
        let (two, _) = from.as_chunks();
        // SAFETY: `self` proves AVX-512F.
        let low = unsafe { sixteen_f16(&two[0]) };
        // SAFETY: as above.
        let high = unsafe { sixteen_f16(&two[1]) };
        [low, high]
    }

    #[inline(always)]
    fn load_bf16(self, from: &Lanes) -> [__m512; 2] {
        // SAFETY: `self` proves AVX-512F.
        unsafe { halves(self.load_words(from)) }
    }

    #[inline(always)]
    fn nibbles(self, words: __m512i) -> [__m512i; 2] {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { nibbles(words) }
    }

    #[inline(always)]
    fn seven_bits(self, upper: __m512i, lower: __m512i) -> [__m512i; 2] {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { seven_bits(upper, lower) }
    }

    #[inline(always)]
    fn add_relu(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512BW.
        unsafe { add_relu(a, b) }
    }

    #[inline(always)]
    fn subtract_relu(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512BW. (The subtraction saturates at zero.)
        unsafe { _mm512_subs_epu8(a, b) }
    }

    #[inline(always)]
    fn zero_sums(self) -> __m512i {
        self.splat_word(0)
    }

    #[inline(always)]
    fn dot_i16(self, a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
        if VNNI {
            // SAFETY: `self` proves AVX-512 VNNI.
            unsafe { _mm512_dpwssd_epi32(sums, a, b) }
        } else {
            // SAFETY: `self` proves AVX-512BW.
            unsafe { multiply_then_add(a, b, sums) }
        }
    }

    #[inline(always)]
    fn dot_i8(self, a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
        if VNNI {
            // SAFETY: `self` proves AVX-512 VNNI. (The unsigned bytes come first.)
            unsafe { _mm512_dpbusd_epi32(sums, b, a) }
        } else {
            // SAFETY: `self` proves AVX-512BW.
            unsafe { multiply_bytes_then_add(a, b, sums) }
        }
    }

    #[inline(always)]
    fn zero_short_sums(self) -> __m512i {
        self.splat_word(0)
    }

    #[inline(always)]
    fn dot_u8(self, a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
        if VNNI {
            // SAFETY: `self` proves AVX-512 VNNI. (The sums are int32 at once.)
            unsafe { _mm512_dpbusd_epi32(sums, a, b) }
        } else {
            // SAFETY: `self` proves AVX-512BW.
            unsafe { dot_u8(a, b, sums) }
        }
    }

    #[inline(always)]
    fn widen(self, short: __m512i, sums: __m512i) -> __m512i {
        if VNNI {
            // SAFETY: `self` proves AVX-512F.
            unsafe { _mm512_add_epi32(sums, short) }
        } else {
            // SAFETY: `self` proves AVX-512BW.
            unsafe { multiply_then_add(short, self.splat_word(0x0001_0001), sums) }
        }
    }

    #[inline(always)]
    fn to_floats(self, sums: __m512i) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    fn run_integers<K: IntegerKernel>(self, kernel: K) -> K::Output {
        if VNNI {
            // SAFETY: `self` proves the five features, see `detect`.
            unsafe { run_with_vnni(self, kernel) }
        } else {
            // SAFETY: `self` proves the four features, see `detect`.
            unsafe { run_integers(self, kernel) }
        }
    }
}

/// Converts sixteen half-precision values.
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen_f16(from: &[f32; 8]) -> __m512 {
    // SAFETY: the reference is valid for 32 bytes, and the load requires no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
fn run_with_vnni<const VNNI: bool, K: IntegerKernel>(s: Avx512<VNNI>, kernel: K) -> K::Output {
    kernel.run(s)
}

#[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
fn run_integers<const VNNI: bool, K: IntegerKernel>(s: Avx512<VNNI>, kernel: K) -> K::Output {
    kernel.run(s)
}

/// The upper and the lower halves of words, as bfloat16 values.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(words: __m512i) -> [__m512; 2] {
    let upper = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
    [_mm512_castsi512_ps(upper), _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn nibbles(words: __m512i) -> [__m512i; 2] {
    let mask = _mm512_set1_epi8(15);
    [_mm512_and_si512(words, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(words), mask)]
}

/// No bit of a byte is shifted into another byte, except into bits that are masked.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn seven_bits(upper: __m512i, lower: __m512i) -> [__m512i; 2] {
    let (four, three) = (_mm512_set1_epi8(0x78), _mm512_set1_epi8(0x07));
    let first = _mm512_and_si512(_mm512_slli_epi16::<3>(upper), four);
    let second = _mm512_and_si512(_mm512_srli_epi16::<1>(upper), four);
    [
        _mm512_or_si512(first, _mm512_and_si512(_mm512_srli_epi16::<1>(lower), three)),
        _mm512_or_si512(second, _mm512_and_si512(_mm512_srli_epi16::<5>(lower), three)),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn dot_u8(a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
    _mm512_add_epi16(sums, _mm512_maddubs_epi16(a, b))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_relu(a: __m512i, b: __m512i) -> __m512i {
    _mm512_max_epi16(_mm512_adds_epi16(a, b), _mm512_setzero_si512())
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn multiply_then_add(a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
    _mm512_add_epi32(sums, _mm512_madd_epi16(a, b))
}

/// Multiplies the even and the odd bytes as int16, because `vpmaddubsw` would saturate.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn multiply_bytes_then_add(a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
    let even = (_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(a)), _mm512_and_si512(b, _mm512_set1_epi16(0xff)));
    let odd = (_mm512_srai_epi16::<8>(a), _mm512_srli_epi16::<8>(b));
    multiply_then_add(even.0, even.1, multiply_then_add(odd.0, odd.1, sums))
}

/// The bits of -0 and of negative values, read as an integer, are negative; all others are not. Integer comparisons use
/// other execution units than multiply-adds.
#[inline]
#[target_feature(enable = "avx512f")]
fn relu(z: __m512) -> __m512 {
    _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(z), _mm512_setzero_si512()))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_lower_halves(low: &Lanes, high: &Lanes) -> __m512 {
    // SAFETY: the reference is valid for 64 bytes, of which the load reads 32; it requires no alignment.
    let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
    // SAFETY: as above, for `high`.
    let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
    let (low, high) = (_mm512_castps_pd(_mm512_castps256_ps512(low)), _mm256_castps_pd(high));
    _mm512_castpd_ps(_mm512_insertf64x4::<1>(low, high))
}

/// Four steps, each doubling the size of the transposed blocks: two within 128-bit parts, two of whole parts.
#[inline]
#[target_feature(enable = "avx512f,avx2,fma")]
fn transpose(r: [__m512; LANES]) -> [__m512; LANES] {
    let mut t = r;
    for i in (0..LANES).step_by(2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    // After this step, rows 4i..4i+4 hold, in each 128-bit part p, columns 4p..4p+4 of those rows: u[4i + j] has column
    // 4p + j.
    let mut u = t;
    for i in (0..LANES).step_by(4) {
        let (a, b) = (_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2]));
        let (c, d) = (_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3]));
        u[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        u[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        u[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
        u[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
    }
    let mut out = u;
    for j in 0..4 {
        // First parts (0, 2) and (1, 3) of rows 0..8 and of rows 8..16, then all parts of a column.
        let low_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(u[j], u[4 + j]);
        let low_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(u[j], u[4 + j]);
        let high_even = _mm512_shuffle_f32x4::<0b10_00_10_00>(u[8 + j], u[12 + j]);
        let high_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(u[8 + j], u[12 + j]);
        out[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low_even, high_even);
        out[4 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low_odd, high_odd);
        out[8 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low_even, high_even);
        out[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low_odd, high_odd);
    }
    out
}
