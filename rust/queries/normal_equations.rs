//! Normal equations of small regressions, in float64: the Cholesky decomposition, with the same bits everywhere.

use crate::error::{Error, Result, filled};
use crate::kernel::Isa;
use crate::kernel::products::{AddProducts, BLOCK_COLUMNS, BLOCK_ROWS, Vectors};
use crate::pool::Watch;

/// The length of `n` columns with padding, which become equations `y = 0`: an odd number of blocks, so that vectors one
/// by one do not compete for the same lines of the cache.
pub(super) fn padded(n: usize) -> usize {
    (n.div_ceil(BLOCK_COLUMNS) | 1) * BLOCK_COLUMNS
}

/// Where a column of the first of `len` vectors is in [`Vectors::by_block`]; the other vectors follow in steps of
/// [`BLOCK_COLUMNS`].
pub(super) fn place(column: usize, len: usize) -> usize {
    column / BLOCK_COLUMNS * len * BLOCK_COLUMNS + column % BLOCK_COLUMNS
}

/// Solves `(I + V'V) y = right` in place of `right`, `[m]`, by the Cholesky decomposition `U'U`, for `V` `[len, m]`.
pub(super) fn solve(isa: Isa, vectors: Vectors<'_>, right: &mut [f64], watch: &Watch<'_>) -> Result<()> {
    let m = right.len();
    let y = right;
    let mut upper = filled("normal equations", m * m, 0.0)?; // one block of columns after the other
    let mut block = filled("normal equations", BLOCK_ROWS * m, 0.0)?;
    for first in (0..m).step_by(BLOCK_ROWS) {
        block.fill(0.0);
        (0..BLOCK_ROWS).for_each(|r| block[r * m + first + r] = 1.0);
        let above = Vectors::by_block(&upper, m).first(first);
        isa.run(AddProducts { block: &mut block, first, vectors, subtract: false });
        isa.run(AddProducts { block: &mut block, first, vectors: above, subtract: true });
        for r in 0..BLOCK_ROWS {
            let i = first + r;
            let (before, row) = block.split_at_mut(r * m);
            let row = &mut row[i..m];
            for other in before.chunks_exact(m) {
                let factor = other[i];
                row.iter_mut().zip(&other[i..]).for_each(|(x, u)| *x -= factor * u);
            }
            let pivot = row[0].max(1.0).sqrt(); // only rounding takes it below 1
            row.iter_mut().for_each(|u| *u /= pivot);
            row[0] = pivot;
            // Forwards, U'z = right: z_i is known now; its share is taken out of what follows.
            y[i] /= pivot;
            let z = y[i];
            y[i + 1..].iter_mut().zip(&row[1..]).for_each(|(y, u)| *y -= z * u);
        }
        for (column, to) in upper.chunks_exact_mut(m * BLOCK_COLUMNS).enumerate() {
            let to = to[first * BLOCK_COLUMNS..].chunks_exact_mut(BLOCK_COLUMNS);
            to.zip(block.chunks_exact(m)).for_each(|(to, row)| {
                to.copy_from_slice(&row[column * BLOCK_COLUMNS..][..BLOCK_COLUMNS]);
            });
        }
        stop_if_asked(watch, (vectors.len() + first) * BLOCK_ROWS * (m - first))?;
    }
    // Backwards, U y = z: y_i is known now; its share is taken out of what is before.
    for i in (0..m).rev() {
        let column = upper[place(i, m)..].iter().step_by(BLOCK_COLUMNS);
        let (before, from) = y.split_at_mut(i);
        from[0] /= upper[place(i, m) + i * BLOCK_COLUMNS];
        before.iter_mut().zip(column).for_each(|(y, u)| *y -= u * from[0]);
    }
    Ok(())
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// # Errors
/// [`Error::Interrupted`].
pub(super) fn stop_if_asked(watch: &Watch<'_>, multiply_adds: usize) -> Result<()> {
    if watch.stopped(multiply_adds) { Err(Error::Interrupted) } else { Ok(()) }
}
