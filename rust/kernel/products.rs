//! Sums of products of float64 vectors: what the normal equations of a regression and their decomposition consist of.

use super::{Kernel, Simd};

/// Rows of a block.
pub(crate) const BLOCK_ROWS: usize = 4;
/// Columns computed at a time, with all sums in registers; a matrix is a multiple of this wide.
pub(crate) const BLOCK_COLUMNS: usize = 8;

/// Adds `V'V`, or subtracts it, to a block of rows of a symmetric matrix `[m, m]`, from its diagonal on:
/// `block[r, j] += sum over l of V[l, first + r] V[l, j]` for `j >= first`. A few elements left of the diagonal, which
/// nobody reads, change too.
///
/// Terms are added in ascending `l`, each product and each sum rounded by itself, so that every instruction set
/// computes the same bits.
pub(crate) struct AddProducts<'a> {
    /// `[BLOCK_ROWS, m]`.
    pub(crate) block: &'a mut [f64],
    /// The number of the block's first row.
    pub(crate) first: usize,
    /// `V`, `[len, m]`.
    pub(crate) vectors: &'a [f64],
    pub(crate) subtract: bool,
}

impl Kernel for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let AddProducts { block, first, vectors, subtract } = self;
        let m = block.len() / BLOCK_ROWS;
        for column in (first - first % BLOCK_COLUMNS..m).step_by(BLOCK_COLUMNS) {
            let mut sums = [[0.0; BLOCK_COLUMNS]; BLOCK_ROWS];
            for (row, sums) in block.chunks_exact(m).zip(&mut sums) {
                sums.copy_from_slice(&row[column..][..BLOCK_COLUMNS]);
            }
            if subtract {
                add_products(&mut sums, vectors, m, first, column, |sum, a, b| sum - a * b);
            } else {
                add_products(&mut sums, vectors, m, first, column, |sum, a, b| sum + a * b);
            }
            for (row, sums) in block.chunks_exact_mut(m).zip(&sums) {
                row[column..][..BLOCK_COLUMNS].copy_from_slice(sums);
            }
        }
    }
}

#[inline(always)]
fn add_products(
    sums: &mut [[f64; BLOCK_COLUMNS]; BLOCK_ROWS],
    vectors: &[f64],
    m: usize,
    first: usize,
    column: usize,
    add: impl Fn(f64, f64, f64) -> f64,
) {
    for vector in vectors.chunks_exact(m) {
        let a: [f64; BLOCK_ROWS] = vector[first..][..BLOCK_ROWS].try_into().expect("the block's columns");
        let b: [f64; BLOCK_COLUMNS] = vector[column..][..BLOCK_COLUMNS].try_into().expect("a block of columns");
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = add(*sum, a, b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Isa;

    #[test]
    fn every_instruction_set_adds_the_products_in_order() {
        for (len, m, first) in [(0, 8, 4), (1, 8, 0), (7, 24, 12), (29, 40, 32)] {
            let vectors: Vec<f64> = (0..len * m).map(|n| ((n * 37 % 101) as f64 - 50.3) / 7.1).collect();
            for subtract in [false, true] {
                let sign = if subtract { -1.0 } else { 1.0 };
                let mut expected = vec![0.7; BLOCK_ROWS * m];
                for (at, sum) in expected.iter_mut().enumerate() {
                    vectors.chunks_exact(m).for_each(|v| *sum += sign * v[first + at / m] * v[at % m]);
                }
                for isa in Isa::supported() {
                    let mut block = vec![0.7; BLOCK_ROWS * m];
                    isa.run(AddProducts { block: &mut block, first, vectors: &vectors, subtract });
                    for (got, expected) in block.chunks_exact(m).zip(expected.chunks_exact(m)) {
                        assert_eq!(got[first..], expected[first..], "{isa} {len} {m} {first} {subtract}");
                    }
                }
            }
        }
    }
}
