//! Sums of float64 vectors and of their products: what the normal equations of a regression and their decomposition
//! consist of.

use super::{Kernel, Simd};

/// Rows of a block.
pub(crate) const BLOCK_ROWS: usize = 4;
/// Columns computed at a time, with all sums in registers; a matrix is a multiple of this wide.
pub(crate) const BLOCK_COLUMNS: usize = 8;

/// `V`, vectors `[len, m]` in blocks of [`BLOCK_COLUMNS`] columns.
#[derive(Clone, Copy)]
pub(crate) struct Vectors<'a> {
    elements: &'a [f64],
    len: usize,
    /// From a block to the next one.
    to_block: usize,
    /// From a vector to the next one.
    to_vector: usize,
}

impl<'a> Vectors<'a> {
    /// Whole vectors one after the other, `[len, m]`.
    pub(crate) fn one_by_one(elements: &'a [f64], m: usize) -> Self {
        Vectors { elements, len: elements.len() / m, to_block: BLOCK_COLUMNS, to_vector: m }
    }

    /// One block of columns after the other, `[m / BLOCK_COLUMNS, len, BLOCK_COLUMNS]`: what a sum reads is side by
    /// side, whatever `m`.
    pub(crate) fn by_block(elements: &'a [f64], m: usize) -> Self {
        let to_block = elements.len() / (m / BLOCK_COLUMNS);
        Vectors { elements, len: to_block / BLOCK_COLUMNS, to_block, to_vector: BLOCK_COLUMNS }
    }

    /// The first `len` of them.
    pub(crate) fn first(self, len: usize) -> Self {
        Vectors { len, ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Of each vector, the columns of a block from `column` on, and what follows.
    #[inline(always)]
    fn columns_from(&self, column: usize) -> impl Iterator<Item = &'a [f64]> {
        let start = column / BLOCK_COLUMNS * self.to_block + column % BLOCK_COLUMNS;
        let elements = self.elements.get(start..).unwrap_or_default(); // without vectors there are no elements
        elements.chunks(self.to_vector).take(self.len)
    }
}

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
    /// `V`.
    pub(crate) vectors: Vectors<'a>,
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
                add_products(&mut sums, vectors, first, column, |sum, a, b| sum - a * b);
            } else {
                add_products(&mut sums, vectors, first, column, |sum, a, b| sum + a * b);
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
    vectors: Vectors<'_>,
    first: usize,
    column: usize,
    add: impl Fn(f64, f64, f64) -> f64,
) {
    for (a, b) in vectors.columns_from(first).zip(vectors.columns_from(column)) {
        let a: [f64; BLOCK_ROWS] = a[..BLOCK_ROWS].try_into().expect("the block's columns");
        let b: [f64; BLOCK_COLUMNS] = b[..BLOCK_COLUMNS].try_into().expect("a block of columns");
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = add(*sum, a, b);
            }
        }
    }
}

/// Adds rows, each times a factor, to `out`, in ascending order. Each product and each sum is rounded by itself.
pub(crate) struct AddRows<'a> {
    /// The factors, and the rows `[W]`.
    pub(crate) rows: &'a [(f64, &'a [f32])],
    /// `[W]`.
    pub(crate) out: &'a mut [f64],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let AddRows { rows, out } = self;
        let (fours, rest) = rows.as_chunks::<4>();
        for &[(x, a), (y, b), (z, c), (w, d)] in fours {
            let [a, b, c, d] = [a, b, c, d].map(|row| &row[..out.len()]);
            for k in 0..out.len() {
                out[k] = out[k] + x * f64::from(a[k]) + y * f64::from(b[k]) + z * f64::from(c[k]) + w * f64::from(d[k]);
            }
        }
        for (x, row) in rest {
            out.iter_mut().zip(*row).for_each(|(sum, &a)| *sum += x * f64::from(a));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Isa;

    #[test]
    fn every_instruction_set_adds_rows_in_order() {
        for (count, width) in [(0, 3), (1, 1), (4, 9), (11, 37)] {
            let values: Vec<f32> = (0..count * width).map(|n| ((n * 37 % 101) as f32 - 50.3) / 7.1).collect();
            let rows: Vec<(f64, &[f32])> =
                (0..count).map(|n| (1.0 / (n as f64 - 2.5), &values[n * width..][..width])).collect();
            let mut expected = vec![0.7; width];
            for &(factor, row) in &rows {
                expected.iter_mut().zip(row).for_each(|(sum, &x)| *sum += factor * f64::from(x));
            }
            for isa in Isa::supported() {
                let mut out = vec![0.7; width];
                isa.run(AddRows { rows: &rows, out: &mut out });
                assert_eq!(out, expected, "{isa} {count} {width}");
            }
        }
    }

    #[test]
    fn every_instruction_set_adds_the_products_in_order() {
        for (len, m, first) in [(0, 8, 4), (1, 8, 0), (7, 24, 12), (29, 40, 32)] {
            let vectors: Vec<f64> = (0..len * m).map(|n| ((n * 37 % 101) as f64 - 50.3) / 7.1).collect();
            let blocks: Vec<f64> = (0..m / BLOCK_COLUMNS)
                .flat_map(|block| vectors.chunks_exact(m).map(move |v| &v[block * BLOCK_COLUMNS..][..BLOCK_COLUMNS]))
                .flatten()
                .copied()
                .collect();
            for subtract in [false, true] {
                let sign = if subtract { -1.0 } else { 1.0 };
                let mut expected = vec![0.7; BLOCK_ROWS * m];
                for (at, sum) in expected.iter_mut().enumerate() {
                    vectors.chunks_exact(m).for_each(|v| *sum += sign * v[first + at / m] * v[at % m]);
                }
                for isa in Isa::supported() {
                    for vectors in [Vectors::one_by_one(&vectors, m), Vectors::by_block(&blocks, m)] {
                        let mut block = vec![0.7; BLOCK_ROWS * m];
                        isa.run(AddProducts { block: &mut block, first, vectors, subtract });
                        for (got, expected) in block.chunks_exact(m).zip(expected.chunks_exact(m)) {
                            assert_eq!(got[first..], expected[first..], "{isa} {len} {m} {first} {subtract}");
                        }
                    }
                }
            }
        }
    }
}
