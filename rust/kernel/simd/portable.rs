//! The fallback for every CPU: sixteen lanes as an array. The compiler vectorises the loops, with SSE2 on x86-64 and
//! NEON on aarch64.

use super::{Kernel, Simd};
use crate::kernel::{LANES, Lanes};

/// The portable instruction set. With `HARDWARE_FMA`, `f32::mul_add` is one instruction in the target's baseline;
/// otherwise it would be a slow library call, so the fused multiply-add is computed in float64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable<const HARDWARE_FMA: bool>;

impl<const HARDWARE_FMA: bool> Simd for Portable<HARDWARE_FMA> {
    type V = Lanes;
    const BLOCK: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> Lanes {
        *from
    }

    #[inline(always)]
    fn load_lower_halves(self, low: &Lanes, high: &Lanes) -> Lanes {
        std::array::from_fn(|l| if l < LANES / 2 { low[l] } else { high[l - LANES / 2] })
    }

    #[inline(always)]
    fn store(self, v: Lanes, to: &mut Lanes) {
        *to = v;
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        std::array::from_fn(|l| a[l] + b[l])
    }

    #[inline(always)]
    fn fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        if HARDWARE_FMA {
            std::array::from_fn(|l| a[l].mul_add(b[l], c[l]))
        } else {
            std::array::from_fn(|l| fma_through_f64(a[l], b[l], c[l]))
        }
    }

    #[inline(always)]
    fn relu(self, z: Lanes) -> Lanes {
        z.map(|x| if x > 0.0 { x } else { 0.0 })
    }

    #[inline(always)]
    fn at_least(self, a: Lanes, b: Lanes) -> u16 {
        (0..LANES).fold(0, |mask, l| mask | (u16::from(a[l] >= b[l]) << l))
    }

    #[inline(always)]
    fn transpose(self, rows: [Lanes; LANES]) -> [Lanes; LANES] {
        std::array::from_fn(|n| std::array::from_fn(|l| rows[l][n]))
    }

    #[inline(always)]
    fn prefetch(self, _lines: &[Lanes], _at: usize) {}

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        run(self, kernel)
    }
}

fn run<const HARDWARE_FMA: bool, K: Kernel>(s: Portable<HARDWARE_FMA>, kernel: K) -> K::Output {
    kernel.run(s)
}

/// `a * b + c`, rounded once to float32, for finite operands.
///
/// The product of two float32 values is exact in float64. The sum is rounded *to odd*: if it is inexact, the last bit
/// of the truncated sum is set. A value rounded to odd with at least two extra bits rounds to float32 like the exact
/// value (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd",
/// 2008).
#[inline(always)]
fn fma_through_f64(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // Knuth's TwoSum: `sum + error` is exactly `product + c`.
    let c_part = sum - product;
    let error = (product - (sum - c_part)) + (c - c_part);
    let bits = sum.to_bits();
    let inexact = error != 0.0;
    let even = bits & 1 == 0;
    // If an even `sum` has a larger magnitude than the exact value, step towards zero, otherwise away from zero; either
    // way the result is odd.
    let away = (error > 0.0) == (sum > 0.0);
    let odd = if away { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    f64::from_bits(if inexact && even { odd } else { bits }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finite() -> impl Strategy<Value = f32> {
        any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| x.is_finite())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]
        #[test]
        fn fma_is_correctly_rounded(a in finite(), b in finite(), c in finite(), near in any::<bool>()) {
            // In half of the cases `c` is close to `-a * b`, where a double rounding would show.
            let product = a * b;
            let nearby = f32::from_bits((-product).to_bits() ^ (c.to_bits() & 7));
            let c = if near && product.is_finite() { nearby } else { c };
            prop_assert_eq!(fma_through_f64(a, b, c).to_bits(), a.mul_add(b, c).to_bits(), "{} {} {}", a, b, c);
        }
    }

    #[test]
    fn fma_rounds_ties_and_subnormals_once() {
        let tiny = f32::from_bits(1);
        let halfway = f32::from_bits(0x3f80_0001);
        for (a, b, c) in [
            (halfway, halfway, tiny),
            (halfway, halfway, -tiny),
            (tiny, 0.5, 0.0),
            (tiny, 0.5, tiny),
            (tiny, tiny, -tiny),
            (f32::MIN_POSITIVE, 0.75, -tiny),
            (1.0, 1.0, -1.0),
            (-0.0, 1.0, 0.0),
            (-0.0, 1.0, -0.0),
        ] {
            assert_eq!(fma_through_f64(a, b, c).to_bits(), a.mul_add(b, c).to_bits(), "{a} {b} {c}");
        }
    }
}
