//! Estimates what the users of a model are like, for fitting the vectors of new ones.

use std::sync::Arc;

use super::covariance::{padded, root};
use super::user_prior::UserPrior;
use super::{Engine, NewUsers};
use crate::error::{Result, collected, filled};
use crate::kernel::StandardFloats;
use crate::kernel::tangent::Tower;
use crate::kernel::weights::Packed;
use crate::pool::Call;

/// Users from whom the mean and the covariance are estimated, evenly spaced.
const MAX_USERS: usize = 4096;

/// The distribution of the model's user vectors.
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
fn user_prior(engine: &Engine, call: Call<'_>) -> Result<UserPrior> {
    let _settings = StandardFloats::enter();
    let (g, mu) = engine.user_widths();
    let width = g + mu;
    let users = engine.num_users().min(MAX_USERS);
    let mut vectors = filled("user vectors", users * padded(width), 0.0)?;
    for (n, vector) in vectors.chunks_exact_mut(padded(width)).enumerate() {
        let user = n * engine.num_users() / users;
        let tables = [&engine.user_gmf, &engine.user_mlp].into_iter().flatten();
        let values = tables.flat_map(|table| table.row(user)).copied();
        vector.iter_mut().zip(values).for_each(|(to, x)| *to = f64::from(x));
    }
    let mut mean = filled("user vectors", width, 0.0)?;
    vectors.chunks_exact(padded(width)).for_each(|vector| add(&mut mean, vector));
    mean.iter_mut().for_each(|x| *x /= users as f64);
    vectors.chunks_exact_mut(padded(width)).for_each(|vector| {
        vector.iter_mut().zip(&mean).for_each(|(x, mean)| *x -= mean);
    });
    let root = root(engine.isa, &vectors, width, users, call)?;
    let by_coordinate = by_coordinate(engine, &root, width)?;
    let columns = collected("covariance", (0..width * width).map(|at| root[at % width * width + at / width]))?;
    Ok(UserPrior { mean, root, columns, tower: Tower::new(&engine.network, by_coordinate, width)? })
}

fn add(sums: &mut [f64], values: &[f64]) {
    sums.iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
}

/// `[G + H0, W]`: how the GMF part and the first layer of a user depend on each coordinate.
fn by_coordinate(engine: &Engine, root: &[f64], width: usize) -> Result<Vec<f32>> {
    let (g, mu) = engine.user_widths();
    let h0 = engine.network.h0;
    let mut rows = filled("coordinates", (g + h0) * width, 0.0f32)?;
    let output = &engine.projection.output_gmf;
    for ((row, weight), root) in rows.chunks_exact_mut(width).zip(output).zip(root.chunks_exact(width)) {
        row.iter_mut().zip(root).for_each(|(to, x)| *to = (f64::from(*weight) * x) as f32);
    }
    let Some(layer) = &engine.projection.first_layer else { return Ok(rows) };
    let mut sums = filled("coordinates", width, 0.0)?;
    for (o, row) in rows[g * width..].chunks_exact_mut(width).enumerate() {
        sums.fill(0.0);
        for k in 0..mu {
            let weight = f64::from(layer.weight(o, k));
            sums.iter_mut().zip(&root[(g + k) * width..]).for_each(|(sum, x)| *sum += weight * x);
        }
        row.iter_mut().zip(&sums).for_each(|(to, x)| *to = *x as f32);
    }
    Ok(rows)
}

impl Engine {
    /// The same engine, which makes vectors of new users by fitting them to their histories, as a model without
    /// `history.safetensors` does.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn with_fitted_users(self, call: Call<'_>) -> Result<Self> {
        let new_users = NewUsers::fitted(Arc::new(user_prior(&self, call)?), &self.catalogue.rows)?;
        Ok(Engine { new_users, ..self })
    }

    /// The output layer's weights of the GMF block.
    pub(crate) fn output_gmf(&self) -> &[f32] {
        &self.projection.output_gmf
    }

    /// The two parts that scoring needs of a user with this vector, `[W]`: the half of the first layer, `[H0]`, and the
    /// GMF part times the output layer's weights, `[G]`.
    pub(crate) fn user_parts(&self, vector: &[f64], first: &mut [f32], gmf: &mut [f32]) {
        let (p_gmf, p_mlp) = vector.split_at(gmf.len());
        for ((to, p), weight) in gmf.iter_mut().zip(p_gmf).zip(&self.projection.output_gmf) {
            *to = (f64::from(*weight) * p) as f32;
        }
        let Some(layer) = &self.projection.first_layer else { return };
        for (o, (to, bias)) in first.iter_mut().zip(layer.bias()).enumerate() {
            *to = p_mlp.iter().enumerate().fold(f64::from(*bias), |sum, (k, p)| sum + weight(layer, o, k) * p) as f32;
        }
    }
}

fn weight(layer: &Packed, o: usize, k: usize) -> f64 {
    layer.weight(o, k).into()
}
