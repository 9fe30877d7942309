//! The sigmoid, with the same bits on every machine.

use super::{Kernel, Simd};

/// Replaces each logit by its probability.
pub(crate) struct Sigmoid<'a>(pub(crate) &'a mut [f32]);

impl Kernel for Sigmoid<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        for x in self.0 {
            *x = sigmoid(*x);
        }
    }
}

/// `1 / (1 + exp(-x))`, computed in float64 from additions, multiplications and one division, each rounded
/// individually, so that the result depends on no library or instruction set. Accurate to one unit in the last place of
/// float32, and monotone: it never decreases as `x` grows. NaN stays NaN.
///
/// With `t = exp(-|x|)`, it is `1 / (1 + t)` for positive and `t / (1 + t)` for negative `x`, which keeps the precision
/// of small probabilities.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let t = exp_of_negative(-f64::from(x.abs()));
    let numerator = if x < 0.0 { t } else { 1.0 };
    (numerator / (1.0 + t)) as f32
}

/// `exp(z)` for `z <= 0`, with a relative error below 1e-11; `z` is clamped to -110, where `exp` is far below the
/// smallest float32.
///
/// `exp(z) = 2^n exp(r)`, with `n` the integer nearest to `z / ln 2` and `|r| <= ln 2 / 2`, and the Taylor series of
/// `exp(r)` up to the tenth power.
#[inline(always)]
fn exp_of_negative(z: f64) -> f64 {
    /// Added to a small number, it leaves the nearest integer in the low bits of the sum.
    const TO_INTEGER: f64 = (3u64 << 51) as f64;
    /// ln 2 truncated to 32 bits, so that its products with small integers are exact, and the remainder.
    const LN_2_HIGH: f64 = f64::from_bits(std::f64::consts::LN_2.to_bits() & !0x1f_ffff);
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10 + (6.931_471_803_691_238e-1 - LN_2_HIGH);

    let z = if z < -110.0 { -110.0 } else { z };
    let shifted = z * std::f64::consts::LOG2_E + TO_INTEGER;
    let n = shifted - TO_INTEGER;
    let r = (z - n * LN_2_HIGH) - n * LN_2_LOW;

    let mut series = 1.0 / 3_628_800.0;
    for reciprocal in
        [1.0 / 362_880.0, 1.0 / 40_320.0, 1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]
    {
        series = series * r + reciprocal;
    }
    // 2^n: move the integer from the low bits of `shifted` to the exponent.
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    series * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Isa;

    /// The float32 with this number, in ascending order.
    fn float(number: u32) -> f32 {
        f32::from_bits(if number >> 31 == 0 { !number } else { number & !(1 << 31) })
    }

    #[test]
    fn monotone_over_all_floats() {
        const BLOCK: u32 = 1 << 12;
        let isa = Isa::supported()[0];
        let check = |blocks: std::ops::Range<u32>| {
            let mut last = 0.0;
            for block in blocks {
                let x: [f32; BLOCK as usize] = std::array::from_fn(|i| float(block * BLOCK + i as u32));
                // NaNs have the lowest and the highest numbers; an infinity is the first or last value of its block.
                if x.iter().all(|x| x.is_nan()) {
                    continue;
                }
                let mut y = x;
                isa.run(Sigmoid(&mut y));
                for (x, y) in x.into_iter().zip(y).filter(|(x, _)| !x.is_nan()) {
                    assert!(y >= last, "sigmoid({x:e}) = {y:e} < {last:e}");
                    last = y;
                }
            }
            last
        };
        let middle = 1 << 19;
        let (lower, upper) = std::thread::scope(|scope| {
            let lower = scope.spawn(|| check(0..middle));
            let upper = check(middle - 1..2 * middle);
            (lower.join().unwrap(), upper)
        });
        assert_eq!((lower, upper), (0.5, 1.0));
    }

    #[test]
    fn limits_and_middle() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(-0.0), 0.5);
        for big in [120.0, 1e30, f32::MAX, f32::INFINITY] {
            assert_eq!(sigmoid(big), 1.0);
            assert_eq!(sigmoid(-big), 0.0);
            assert_eq!(sigmoid(-big).to_bits(), 0);
        }
        assert!(sigmoid(f32::NAN).is_nan());
        assert!(sigmoid(-100.0) > 0.0);
    }

    #[test]
    fn accurate_to_one_unit_in_the_last_place() {
        for step in -1_040_000..1_040_000 {
            let x = step as f32 * 1e-4;
            let exact = if x < 0.0 {
                f64::from(x).exp() / (1.0 + f64::from(x).exp())
            } else {
                1.0 / (1.0 + (-f64::from(x)).exp())
            };
            let (got, unit) = (f64::from(sigmoid(x)), f64::from((exact as f32).next_up()) - f64::from(exact as f32));
            assert!((got - exact).abs() <= unit, "sigmoid({x}) = {got:e}, exact {exact:e}");
            assert!((got - exact).abs() <= 1e-6);
        }
    }
}
