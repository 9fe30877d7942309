//! `fold_in`: vectors of new users from their histories, as `format/README.md` specifies them; for a model without
//! `history.safetensors`, as the module `fit_user` does.
//!
//! All sums are float64, from 0, in ascending index (items of the history, then `d`), each product and each sum rounded
//! by itself; the result is rounded to float32 once. So a history gives the same bits in any batch, on any number of
//! threads and with any instruction set.
//!
//! Ridge regression. With `G = H R` `[n, d]`, `H` the history's rows, `R = diag(diagonal + l2)^-1/2`, the solution of
//! `(H'H + R^-2) x = H'1` is `x = R (I + G'G)^-1 G'1 = R G' (I + G G')^-1 1`. The smaller matrix is decomposed,
//! `[d, d]` or `[n, n]`. Neither has an eigenvalue below 1, so the Cholesky decomposition cannot fail.
//!
//! A weight `w` of an item counts as `w` such items: the rows of `H` and the ones are multiplied by the roots of the
//! weights, and `n` is their sum.

use super::fit_user::{self, fit_user};
use super::normal_equations::{padded, place, solve, stop_if_asked};
use crate::engine::{Engine, NewUsers, UserVectors};
use crate::error::{Error, Result, collected, filled, reserve};
use crate::format::{FoldIn, Linear, Ridge};
use crate::histories::{Histories, History};
use crate::kernel::products::{AddRows, BLOCK_COLUMNS, Vectors};
use crate::kernel::{Isa, StandardFloats};
use crate::pool::{Call, Watch};

impl Engine {
    /// The vectors of users with these histories, which need not be users of the model.
    ///
    /// # Errors
    /// [`Error::Argument`] for an engine without a way to do it ([`Engine::with_fold_in`],
    /// [`Engine::with_fitted_users`]), for histories of another number of items, and if vectors would overflow float32;
    /// [`Error::Memory`]; [`Error::Interrupted`].
    pub fn fold_in(&self, histories: &Histories, call: Call<'_>) -> Result<UserVectors> {
        let rows = histories.rows();
        if rows.columns() != self.num_items() {
            let (got, expected) = (rows.columns(), self.num_items());
            return Err(Error::Argument(format!("histories: expected rows of {expected} items, got rows of {got}")));
        }
        for row in 0..rows.rows() {
            self.check_not_removed("histories.indices", rows.row(row))?;
        }
        let (gmf_width, mlp_width) = self.user_widths();
        let (rows, width) = (rows.rows(), gmf_width + mlp_width);
        let call = self.limit_threads_for(call, self.fold_in_work(histories));
        let vectors = call.in_chunks("user vectors", rows.saturating_mul(width), width, 0.0, |row, out, watch| {
            let _settings = StandardFloats::enter();
            let history = histories.row(row);
            match &self.new_users {
                NewUsers::Encoders(fold_in) => {
                    fold_in_one(self.isa, fold_in, history.below(fold_in.num_items()), out, watch)?;
                }
                NewUsers::Fitted { prior, negatives } => fit_user(self, prior, negatives, history, out, watch)?,
                NewUsers::Unknown => {
                    return Err(Error::Argument("fold_in: this engine was built without a way to do it".into()));
                }
            }
            match out.iter().all(|x| x.is_finite()) {
                true => Ok(()),
                false => Err(Error::Argument(format!("histories: row {row}: its vectors overflow float32"))),
            }
        })?;
        if mlp_width == 0 {
            return Ok(UserVectors { rows, gmf: Some(vectors), mlp: None });
        }
        let part = |from: usize, width: usize| {
            let mut values = reserve("user vectors", rows * width)?;
            vectors.chunks_exact(gmf_width + mlp_width).for_each(|row| values.extend_from_slice(&row[from..][..width]));
            Ok((width > 0).then_some(values))
        };
        Ok(UserVectors { rows, gmf: part(0, gmf_width)?, mlp: part(gmf_width, mlp_width)? })
    }

    /// Multiply-adds of [`Engine::fold_in`], roughly.
    pub fn fold_in_work(&self, histories: &Histories) -> usize {
        let of_encoders = |fold_in: &FoldIn, n: usize| {
            let of_ridge = |ridge: &Ridge| {
                let d = ridge.items.width();
                n.max(d) * n.min(d).pow(2) / 2 + d * fold_in.width()
            };
            fold_in.linear.len() * n * fold_in.width() + fold_in.ridge.iter().map(of_ridge).sum::<usize>()
        };
        let work = |n: usize| match &self.new_users {
            NewUsers::Unknown => 0,
            NewUsers::Encoders(fold_in) => of_encoders(fold_in, n),
            NewUsers::Fitted { prior, negatives } => fit_user::work(prior, n + negatives.len()),
        };
        (0..histories.rows().rows()).map(|row| work(histories.row(row).items.len())).fold(0, usize::saturating_add)
    }
}

fn fold_in_one(isa: Isa, fold_in: &FoldIn, history: History<'_>, out: &mut [f32], watch: &Watch<'_>) -> Result<()> {
    if history.items.is_empty() {
        out.copy_from_slice(&fold_in.empty);
        return Ok(());
    }
    let mut sums = collected("user vector", fold_in.bias.iter().copied().map(f64::from))?;
    for Linear { items, exponent } in &fold_in.linear {
        let mut term = filled("user vector", sums.len(), 0.0)?;
        let rows = collected("history", history.weighted().map(|(item, weight)| (weight, items.row(item))))?;
        isa.run(AddRows { rows: &rows, out: &mut term });
        stop_if_asked(watch, rows.len() * term.len())?;
        let scale = inverse_power(history.total(), *exponent);
        sums.iter_mut().zip(term).for_each(|(sum, term)| *sum += scale * term);
    }
    for ridge in &fold_in.ridge {
        let x = regress(isa, ridge, history, watch)?;
        let mut term = filled("user vector", sums.len(), 0.0)?;
        let rows = collected("user vector", x.iter().enumerate().map(|(c, &x)| (x, ridge.output.row(c))))?;
        isa.run(AddRows { rows: &rows, out: &mut term });
        sums.iter_mut().zip(term).for_each(|(sum, term)| *sum += term);
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
    Ok(())
}

/// `n^(-quarters / 4)`, from square roots, which are rounded alike everywhere.
fn inverse_power(n: f64, quarters: u8) -> f64 {
    let (half, quarter) = (n.sqrt(), n.sqrt().sqrt());
    1.0 / [1.0, quarter, half, half * quarter, n][usize::from(quarters)]
}

/// Solves `(H'H + diag(diagonal + l2)) x = H'1`, with the rows weighted: `[d]`.
fn regress(isa: Isa, ridge: &Ridge, history: History<'_>, watch: &Watch<'_>) -> Result<Vec<f64>> {
    let (n, d) = (history.items.len(), ridge.items.width());
    let l2 = f64::from(ridge.l2[0]) + f64::from(ridge.l2[1]) * history.total();
    let of_dimension = |&x: &f32| 1.0 / (f64::from(x) + l2).sqrt();
    let scale = collected("normal equations", ridge.diagonal.iter().map(of_dimension))?;
    // V is G if n > d, else G', so that V'V is the smaller matrix.
    let by_item = n > d;
    let m = padded(n.min(d));
    let len = n.max(d);
    let mut vectors = filled("normal equations", len * m, 0.0)?; // one block of columns after the other
    for (j, (item, weight)) in history.weighted().enumerate() {
        let root = weight.sqrt();
        let row = ridge.items.row(item).iter().zip(&scale).map(|(&q, scale)| f64::from(q) * scale * root);
        if by_item {
            let blocks = vectors.chunks_exact_mut(len * BLOCK_COLUMNS);
            blocks.flat_map(|b| &mut b[j * BLOCK_COLUMNS..][..BLOCK_COLUMNS]).zip(row).for_each(|(to, x)| *to = x);
        } else {
            vectors[place(j, len)..].iter_mut().step_by(BLOCK_COLUMNS).zip(row).for_each(|(to, x)| *to = x);
        }
        stop_if_asked(watch, d)?;
    }
    let roots = || history.weighted().map(|(_, weight)| weight.sqrt());
    let blocks = || vectors.chunks_exact(len * BLOCK_COLUMNS).map(|block| block.chunks_exact(BLOCK_COLUMNS));
    let mut y = filled("normal equations", m, 0.0)?;
    if by_item {
        for (y, block) in y.chunks_exact_mut(BLOCK_COLUMNS).zip(blocks()) {
            for (part, root) in block.zip(roots()) {
                y.iter_mut().zip(part).for_each(|(sum, x)| *sum += root * x);
            }
        }
    } else {
        y.iter_mut().zip(roots()).for_each(|(y, root)| *y = root);
    }
    solve(isa, Vectors::by_block(&vectors, m), &mut y, watch)?;
    let mut x = match by_item {
        true => y,
        false => {
            let mut x = filled("normal equations", d, 0.0)?;
            for (y, block) in y.chunks_exact(BLOCK_COLUMNS).zip(blocks()) {
                for (sum, part) in x.iter_mut().zip(block) {
                    *sum = part.iter().zip(y).fold(*sum, |sum, (x, y)| sum + x * y);
                }
            }
            x
        }
    };
    x.truncate(d);
    x.iter_mut().zip(scale).for_each(|(x, scale)| *x *= scale);
    Ok(x)
}
