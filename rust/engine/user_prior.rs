//! What the users of a model are like, for fitting the vectors of new ones: their mean and covariance.

use crate::kernel::tangent::Tower;

/// The distribution of a model's user vectors: a vector is `mean + root z`, with `z` standard normal, both towers side
/// by side, `W = G + Mu`.
#[derive(Debug, Clone)]
pub(crate) struct UserPrior {
    /// `[W]`.
    pub(crate) mean: Vec<f64>,
    /// `[W, W]`, lower triangular: the Cholesky root of the covariance.
    pub(crate) root: Vec<f64>,
    /// How logits depend on `z`.
    pub(crate) tower: Tower,
}

impl UserPrior {
    pub(crate) fn width(&self) -> usize {
        self.mean.len()
    }

    pub(crate) fn nbytes(&self) -> usize {
        size_of_val(&self.mean[..]) + size_of_val(&self.root[..]) + self.tower.nbytes()
    }

    /// The vector of coordinates `z`.
    pub(crate) fn vector(&self, z: &[f64], out: &mut [f64]) {
        for ((out, mean), row) in out.iter_mut().zip(&self.mean).zip(self.root.chunks_exact(z.len())) {
            *out = row.iter().zip(z).fold(*mean, |sum, (c, z)| sum + c * z);
        }
    }
}
