//! What the users of a model are like, for fitting the vectors of new ones: their mean and covariance.

use crate::kernel::Isa;
use crate::kernel::factors::AddTriangle;
use crate::kernel::tangent::Tower;

/// The distribution of a model's user vectors: a vector is `mean + root z`, with `z` standard normal, both towers side
/// by side, `W = G + Mu`.
#[derive(Debug, Clone)]
pub(crate) struct UserPrior {
    /// `[W]`.
    pub(crate) mean: Vec<f64>,
    /// `[W, W]`, lower triangular: the Cholesky root of the covariance.
    pub(crate) root: Vec<f64>,
    /// The same, column by column.
    pub(crate) columns: Vec<f64>,
    /// How logits depend on `z`.
    pub(crate) tower: Tower,
}

impl UserPrior {
    pub(crate) fn width(&self) -> usize {
        self.mean.len()
    }

    pub(crate) fn nbytes(&self) -> usize {
        size_of_val(&self.mean[..]) + 2 * size_of_val(&self.root[..]) + self.tower.nbytes()
    }

    /// The vector of coordinates `z`.
    pub(crate) fn vector(&self, isa: Isa, z: &[f64], out: &mut [f64]) {
        out.copy_from_slice(&self.mean);
        self.add_root(isa, z, out);
    }

    /// Adds `root z` to `out`.
    pub(crate) fn add_root(&self, isa: Isa, z: &[f64], out: &mut [f64]) {
        isa.run(AddTriangle { rows: &self.columns, factors: z, lower: false, out });
    }

    /// Adds `root' x` to `out`.
    pub(crate) fn add_transposed(&self, isa: Isa, x: &[f64], out: &mut [f64]) {
        isa.run(AddTriangle { rows: &self.root, factors: x, lower: true, out });
    }
}
