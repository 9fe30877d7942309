//! The mean outer product of vectors, and its root.

use crate::error::{Result, filled};
use crate::kernel::Isa;
use crate::kernel::products::{AddProducts, BLOCK_COLUMNS, BLOCK_ROWS, Vectors};
use crate::pool::Call;

/// The length of vectors with padding.
pub(crate) fn padded(width: usize) -> usize {
    width.next_multiple_of(BLOCK_COLUMNS)
}

/// The Cholesky root of `S + W / count * mean variance * I`, `S` the mean outer product of `vectors`, `[count, padded
/// width]`: the covariance of vectors with mean 0, shrunk to a multiple of the identity, so that few vectors do not
/// count as knowledge about others. `[W, W]`, lower triangular.
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
pub(crate) fn root(isa: Isa, vectors: &[f64], width: usize, count: usize, call: Call<'_>) -> Result<Vec<f64>> {
    let m = padded(width);
    let mut squares = filled("covariance", m * m, 0.0)?;
    call.one_by_one(m / BLOCK_ROWS, |n, watch| {
        let first = n * BLOCK_ROWS;
        let block = &mut squares[first * m..][..BLOCK_ROWS * m];
        isa.run(AddProducts { block, first, vectors: Vectors::one_by_one(vectors, m), subtract: false });
        watch.stopped(vectors.len() * BLOCK_ROWS);
        Ok(())
    })?;
    let trace: f64 = (0..width).map(|i| squares[i * m + i]).sum();
    let variance = if trace > 0.0 { trace / (count * width) as f64 } else { 1.0 };
    let shrinkage = variance * width as f64 / count as f64;
    let mut root = filled("covariance", width * width, 0.0)?;
    call.one_by_one(width, |i, watch| {
        for j in 0..=i {
            // Rows are computed from the diagonal on: row j has column i.
            let (row_i, row_j) = (&root[i * width..][..j], &root[j * width..][..j]);
            let known: f64 = row_i.iter().zip(row_j).map(|(a, b)| a * b).sum();
            let covariance = squares[j * m + i] / count as f64;
            root[i * width + j] = match i == j {
                true => (covariance + shrinkage - known).max(shrinkage / 2.0).sqrt(),
                false => (covariance - known) / root[j * width + j],
            };
        }
        watch.stopped(i * i);
        Ok(())
    })?;
    Ok(root)
}
