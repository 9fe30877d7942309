//! The roofline: peak rates of the kernels' operations, for benchmarks to compare with.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::{Aligned, IntegerIsa, IntegerKernel, IntegerSimd, Isa, Kernel, LANES, Lanes, Simd};
use crate::error::Result;

/// Independent chains in registers: enough to hide the latency of a multiply-add.
const CHAINS: usize = 12;

/// As [`CHAINS`], if a vector takes two of sixteen registers.
const CHAINS_IN_PAIRS: usize = 5;

/// Lines that operands are loaded from; they stay in the L1 cache.
const LINES: usize = 32;

/// The prefetch distance in lines, for a table larger than a core's private caches.
const PREFETCH_DISTANCE: usize = 64;

/// Lines of a table that may fit into a core's private caches, where prefetching would only cost time.
const PRIVATE_CACHE_LINES: usize = 1 << 14;

/// Measures the two resources of a scan in isolation: multiply-adds, and sequential reads of memory.
#[derive(Debug)]
pub struct Roofline {
    isa: Isa,
    lines: Aligned,
}

impl Roofline {
    /// Prepares for an instruction set, with a table of about `bytes` bytes to read.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    pub fn new(isa: Isa, bytes: usize) -> Result<Self> {
        let lines = (bytes / size_of::<Lanes>()).next_multiple_of(LINES).max(LINES);
        let mut lines = Aligned::zeros("roofline", lines)?;
        lines.fill([1.0; LANES]); // an unwritten page may have no memory behind it, and take no time to read
        Ok(Roofline { isa, lines })
    }

    /// Runs `rounds` rounds of float32 multiply-adds in registers; returns their number.
    pub fn multiply_adds(&self, rounds: usize) -> usize {
        self.isa.run(MultiplyAdds(rounds))
    }

    /// As [`Roofline::multiply_adds`], each preceded by an addition and a ReLU, as in a model with one hidden layer.
    pub fn rectified_multiply_adds(&self, rounds: usize) -> usize {
        self.isa.run(RectifiedMultiplyAdds { rounds, lines: &self.lines[..LINES] })
    }

    /// Runs `rounds` rounds of int16 multiply-adds; returns their number. `None` if float32 is as fast.
    pub fn multiply_adds_int16(&self, rounds: usize) -> Option<usize> {
        let isa = IntegerIsa::of(self.isa).first().copied()?;
        Some(isa.run(IntegerMultiplyAdds::<false> { rounds, lines: &self.lines[..LINES] }))
    }

    /// Runs `rounds` rounds of int8 multiply-adds; returns their number. `None` if int16 is as fast.
    pub fn multiply_adds_int8(&self, rounds: usize) -> Option<usize> {
        let isa = IntegerIsa::of(self.isa).first().copied().filter(|isa| isa.prefers_int8())?;
        Some(isa.run(IntegerMultiplyAdds::<true> { rounds, lines: &self.lines[..LINES] }))
    }

    /// Reads the table once, sequentially; returns its size in bytes.
    pub fn read(&self) -> usize {
        std::hint::black_box(self.isa.run(Read(&self.lines)));
        size_of_val(&self.lines[..])
    }
}

struct MultiplyAdds(usize);

impl MultiplyAdds {
    #[inline(always)]
    fn run_chains<S: Simd, const N: usize>(self, s: S) -> usize {
        let (factor, term) = (s.splat(std::hint::black_box(0.5)), s.splat(std::hint::black_box(1.0)));
        let mut sums = [term; N];
        for _ in 0..self.0 {
            for n in 0..N {
                sums[n] = s.fma(sums[n], factor, term);
            }
        }
        let mut values = [[0.0; LANES]; N];
        for n in 0..N {
            s.store(sums[n], &mut values[n]);
        }
        std::hint::black_box(values);
        self.0 * N * LANES
    }
}

impl Kernel for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        if S::BLOCK >= CHAINS { self.run_chains::<S, CHAINS>(s) } else { self.run_chains::<S, CHAINS_IN_PAIRS>(s) }
    }
}

struct RectifiedMultiplyAdds<'a> {
    rounds: usize,
    lines: &'a [Lanes],
}

impl RectifiedMultiplyAdds<'_> {
    /// `N * N` chains: each of `N` values of items with each of `N` values of users.
    #[inline(always)]
    fn run_chains<S: Simd, const N: usize>(self, s: S) -> usize {
        let factor = s.splat(std::hint::black_box(0.5));
        let mut sums = [[s.splat(0.0); N]; N];
        for round in 0..self.rounds {
            let mut a = [factor; N];
            for t in 0..N {
                a[t] = s.load(&self.lines[(round + t) % LINES]);
            }
            for u in 0..N {
                let b = s.splat(self.lines[round % LINES][u]);
                for t in 0..N {
                    sums[u][t] = s.fma(factor, s.relu(s.add(a[t], b)), sums[u][t]);
                }
            }
        }
        let mut values = [[[0.0; LANES]; N]; N];
        for u in 0..N {
            for t in 0..N {
                s.store(sums[u][t], &mut values[u][t]);
            }
        }
        std::hint::black_box(values);
        self.rounds * N * N * LANES
    }
}

impl Kernel for RectifiedMultiplyAdds<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        if S::BLOCK >= CHAINS { self.run_chains::<S, 4>(s) } else { self.run_chains::<S, 2>(s) }
    }
}

struct IntegerMultiplyAdds<'a, const INT8: bool> {
    rounds: usize,
    lines: &'a [Lanes],
}

impl<const INT8: bool> IntegerMultiplyAdds<'_, INT8> {
    #[inline(always)]
    fn run_chains<S: IntegerSimd, const N: usize>(self, s: S) -> usize {
        let weight = s.splat_word(std::hint::black_box(0x0001_0001));
        let mut sums = [s.zero_sums(); N];
        for round in 0..self.rounds {
            let x = s.load_words(&self.lines[round % LINES]);
            for n in 0..N {
                sums[n] = if INT8 { s.dot_i8(weight, x, sums[n]) } else { s.dot_i16(weight, x, sums[n]) };
            }
        }
        let mut values = [[0.0; LANES]; N];
        for n in 0..N {
            s.store(s.to_floats(sums[n]), &mut values[n]);
        }
        std::hint::black_box(values);
        self.rounds * N * if INT8 { 4 } else { 2 } * LANES
    }
}

impl<const INT8: bool> IntegerKernel for IntegerMultiplyAdds<'_, INT8> {
    type Output = usize;

    #[inline(always)]
    fn run<S: IntegerSimd>(self, s: S) -> usize {
        if S::SUMS >= CHAINS { self.run_chains::<S, CHAINS>(s) } else { self.run_chains::<S, CHAINS_IN_PAIRS>(s) }
    }
}

struct Read<'a>(&'a [Lanes]);

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.splat(0.0); CHAINS_IN_PAIRS];
        let (blocks, _) = self.0.as_chunks::<CHAINS_IN_PAIRS>();
        for block in 0..blocks.len() {
            if self.0.len() > PRIVATE_CACHE_LINES {
                for n in 0..CHAINS_IN_PAIRS {
                    s.prefetch(self.0, block * CHAINS_IN_PAIRS + n + PREFETCH_DISTANCE);
                }
            }
            for n in 0..CHAINS_IN_PAIRS {
                sums[n] = s.add(sums[n], s.load(&blocks[block][n]));
            }
        }
        let mut total = s.splat(0.0);
        for n in 0..CHAINS_IN_PAIRS {
            total = s.add(total, sums[n]);
        }
        let mut lanes = [0.0; LANES];
        s.store(total, &mut lanes);
        lanes[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_does_the_work_it_reports() {
        for isa in Isa::supported() {
            let roofline = Roofline::new(isa, 1 << 16).unwrap();
            let lanes = isa.run(Read(&roofline.lines[..CHAINS_IN_PAIRS * 20]));
            assert_eq!(lanes, (CHAINS_IN_PAIRS * 20) as f32, "{isa}");
            assert_eq!(roofline.read(), 1 << 16);
            for done in [roofline.multiply_adds(7), roofline.rectified_multiply_adds(7)] {
                assert!(done > 0 && done % (7 * LANES) == 0, "{isa}");
            }
            let integers = roofline.multiply_adds_int16(7);
            assert_eq!(integers.is_some(), !IntegerIsa::of(isa).is_empty());
            assert!(integers.is_none_or(|done| done > 0 && done % (7 * 2 * LANES) == 0));
            assert!(roofline.multiply_adds_int8(7).is_none_or(|done| Some(done) == integers.map(|done| 2 * done)));
        }
    }
}
