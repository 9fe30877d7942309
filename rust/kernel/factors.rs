//! Products of a matrix of items by factors, sixteen items side by side, with vectors: what a fit by conjugate
//! gradients consists of. Sums are fused and in a fixed order, so that every instruction set computes the same bits.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::{Kernel, LANES, Lanes, Simd};

/// Blocks of sixteen items that are multiplied side by side.
const BLOCKS: usize = 4;

/// Computes a number for each item: `out = M x`, for `M` `[items, W]`, in blocks of sixteen items, a line per factor.
pub(crate) struct TimesFactors<'a> {
    pub(crate) matrix: &'a [Lanes],
    /// `[W]`.
    pub(crate) x: &'a [f32],
    /// One line per block.
    pub(crate) out: &'a mut [Lanes],
}

impl Kernel for TimesFactors<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let TimesFactors { matrix, x, out } = self;
        let blocks = matrix.chunks(BLOCKS * x.len()).zip(out.chunks_mut(BLOCKS));
        for (lines, out) in blocks {
            let mut sums = [s.splat(0.0); BLOCKS];
            for k in 0..x.len() {
                let factor = s.splat(x[k]);
                for block in 0..BLOCKS {
                    // The last lines again where blocks are missing at the end.
                    let line = &lines[block.min(out.len() - 1) * x.len() + k];
                    sums[block] = s.fma(s.load(line), factor, sums[block]);
                }
            }
            for block in 0..out.len() {
                s.store(sums[block], &mut out[block]);
            }
        }
    }
}

/// Computes a number for each factor, as the sum of sixteen lanes: `out = M' u`, for the matrix of [`TimesFactors`].
pub(crate) struct TimesItems<'a> {
    pub(crate) matrix: &'a [Lanes],
    /// One line per block.
    pub(crate) u: &'a [Lanes],
    /// `[W]`.
    pub(crate) out: &'a mut [Lanes],
}

impl Kernel for TimesItems<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let TimesItems { matrix, u, out } = self;
        out.fill([0.0; LANES]);
        for (lines, u) in matrix.chunks(BLOCKS * out.len()).zip(u.chunks(BLOCKS)) {
            for k in 0..out.len() {
                let mut sum = s.load(&out[k]);
                for block in 0..u.len() {
                    sum = s.fma(s.load(&lines[block * out.len() + k]), s.load(&u[block]), sum);
                }
                s.store(sum, &mut out[k]);
            }
        }
    }
}

/// Adds rows of a triangular matrix `[W, W]`, each times a factor, to `out`, `[W]`, in ascending order. Each product
/// and each sum is rounded by itself.
pub(crate) struct AddTriangle<'a> {
    pub(crate) rows: &'a [f64],
    pub(crate) factors: &'a [f64],
    /// Whether a row is zero after its diagonal; if not, it is zero before.
    pub(crate) lower: bool,
    pub(crate) out: &'a mut [f64],
}

impl Kernel for AddTriangle<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        const ROWS: usize = 4;
        let AddTriangle { rows, factors, lower, out } = self;
        let width = out.len();
        for first in (0..width).step_by(ROWS) {
            let end = width.min(first + ROWS);
            let (from, to) = if lower { (0, end) } else { (first, width) };
            let out = &mut out[from..to];
            if end - first == ROWS {
                let row = |r: usize| &rows[(first + r) * width..][from..to];
                let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                let [x, y, z, w] = [factors[first], factors[first + 1], factors[first + 2], factors[first + 3]];
                for k in 0..out.len() {
                    out[k] = out[k] + x * a[k] + y * b[k] + z * c[k] + w * d[k];
                }
            } else {
                for r in first..end {
                    let row = &rows[r * width..][from..to];
                    for k in 0..out.len() {
                        out[k] += factors[r] * row[k];
                    }
                }
            }
        }
    }
}
