//! AVX-512F: sixteen lanes are one register.
#![allow(unsafe_code, reason = "intrinsics; an `Avx512` value exists only on a CPU that has them")]

use std::arch::x86_64::*;

use super::{Kernel, LANES, Lanes, Simd};

/// Proof that the CPU has AVX-512F, AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The instruction set, where the CPU and the operating system have it.
    pub(crate) fn detect() -> Option<Self> {
        let found =
            is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        found.then_some(Avx512(()))
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const BLOCK: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> __m512 {
        // SAFETY: `self` proves AVX-512F; the reference is valid for 64 bytes, and the load asks for no alignment.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut Lanes) {
        // SAFETY: `self` proves AVX-512F; the reference is valid for 64 bytes, and the store asks for no alignment.
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
        let zero = self.splat(0.0);
        // SAFETY: `self` proves AVX-512F. (The instruction gives its second operand for equal zeros: +0.)
        unsafe { _mm512_max_ps(z, zero) }
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
    fn prefetch(self, at: &Lanes) {
        // SAFETY: a prefetch reads nothing and cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.as_ptr().cast()) }
    }

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves the three features, see `detect`.
        unsafe { run(self, kernel) }
    }
}

#[target_feature(enable = "avx512f,avx2,fma")]
fn run<K: Kernel>(s: Avx512, kernel: K) -> K::Output {
    kernel.run(s)
}

/// Four steps, each doubling the size of the squares that are in place: pairs, quads, and two of whole 128-bit parts.
#[inline]
#[target_feature(enable = "avx512f,avx2,fma")]
fn transpose(r: [__m512; LANES]) -> [__m512; LANES] {
    let mut t = r;
    for i in (0..LANES).step_by(2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    // Rows 4i..4i+4 hold, in each 128-bit part p, columns 4p..4p+4 of those rows after this step: u[4i + j] has column 4p + j.
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
        // Parts (0, 2) and (1, 3) of rows 0..8 and of rows 8..16, then the parts of one column together.
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
