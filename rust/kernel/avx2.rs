//! AVX2 with FMA: sixteen lanes are two registers.
#![allow(unsafe_code, reason = "intrinsics; an `Avx2` value exists only on a CPU that has them")]

use std::arch::x86_64::*;

use super::{Kernel, LANES, Lanes, Simd};

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// Lanes 0..8 and 8..16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves(__m256, __m256);

impl Avx2 {
    /// The instruction set, where the CPU and the operating system have it.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2(()))
    }
}

impl Simd for Avx2 {
    type V = Halves;
    const BLOCK: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> Halves {
        // SAFETY: `self` proves AVX2.
        let half = unsafe { _mm256_set1_ps(x) };
        Halves(half, half)
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> Halves {
        let (low, high) = from.split_at(8);
        // SAFETY: `self` proves AVX2; `low` is eight values, and the load asks for no alignment.
        let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
        // SAFETY: as above, for `high`.
        let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
        Halves(low, high)
    }

    #[inline(always)]
    fn store(self, v: Halves, to: &mut Lanes) {
        let (low, high) = to.split_at_mut(8);
        // SAFETY: `self` proves AVX2; `low` is eight values, and the store asks for no alignment.
        unsafe { _mm256_storeu_ps(low.as_mut_ptr(), v.0) };
        // SAFETY: as above, for `high`.
        unsafe { _mm256_storeu_ps(high.as_mut_ptr(), v.1) };
    }

    #[inline(always)]
    fn add(self, a: Halves, b: Halves) -> Halves {
        // SAFETY: `self` proves AVX2.
        both(a, b, |x, y| unsafe { _mm256_add_ps(x, y) })
    }

    #[inline(always)]
    fn fma(self, a: Halves, b: Halves, c: Halves) -> Halves {
        // SAFETY: `self` proves FMA.
        let fma = |x, y, z| unsafe { _mm256_fmadd_ps(x, y, z) };
        Halves(fma(a.0, b.0, c.0), fma(a.1, b.1, c.1))
    }

    #[inline(always)]
    fn relu(self, z: Halves) -> Halves {
        // SAFETY: `self` proves AVX2. (The instruction gives its second operand for equal zeros: +0.)
        both(z, self.splat(0.0), |x, zero| unsafe { _mm256_max_ps(x, zero) })
    }

    #[inline(always)]
    fn at_least(self, a: Halves, b: Halves) -> u16 {
        // SAFETY: `self` proves AVX2.
        let truth = both(a, b, |x, y| unsafe { _mm256_cmp_ps::<_CMP_GE_OQ>(x, y) });
        // SAFETY: `self` proves AVX2.
        let bits = |half| unsafe { _mm256_movemask_ps(half) };
        (bits(truth.0) | bits(truth.1) << 8) as u16
    }

    #[inline(always)]
    fn transpose(self, rows: [Halves; LANES]) -> [Halves; LANES] {
        // SAFETY: `self` proves AVX2.
        let square = |from: usize, half: fn(Halves) -> __m256| unsafe {
            transpose8(std::array::from_fn(|i| half(rows[from + i])))
        };
        let (low, high) = (|h: Halves| h.0, |h: Halves| h.1);
        let (a, b) = (square(0, low), square(0, high));
        let (c, d) = (square(8, low), square(8, high));
        std::array::from_fn(|n| if n < 8 { Halves(a[n], c[n]) } else { Halves(b[n - 8], d[n - 8]) })
    }

    #[inline(always)]
    fn prefetch(self, at: &Lanes) {
        // SAFETY: a prefetch reads nothing and cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.as_ptr().cast()) }
    }

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves both features, see `detect`.
        unsafe { run(self, kernel) }
    }
}

#[inline(always)]
fn both(a: Halves, b: Halves, op: impl Fn(__m256, __m256) -> __m256) -> Halves {
    Halves(op(a.0, b.0), op(a.1, b.1))
}

#[target_feature(enable = "avx2,fma")]
fn run<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
    kernel.run(s)
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
