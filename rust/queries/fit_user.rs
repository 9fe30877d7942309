//! Vectors of new users for models without `history.safetensors`: fitted to their histories, with the items fixed.
//!
//! With `f_i(x)` the logit of item `i` for a user with vectors `x` (both towers side by side), the vectors minimise
//!
//! ```text
//! sum over i in the history of w_i log(1 + exp(-f_i))  +  sum over j in N of w log(1 + exp(f_j))  +  z'z / 2
//! x = mean + root z
//! ```
//!
//! which is the loss of the paper (binary cross-entropy with four sampled negatives for each interaction, He et al.,
//! WWW 2017, eq. 7) and the normal distribution of the model's users as a prior. `w_i` are the history's weights, `N`
//! up to 256 items, evenly spaced over the catalogue, without those of the history; their weights `w` are equal and sum
//! to four times those of the history. A user without items gets the mean.
//!
//! From `z = 0`, three damped Gauss-Newton steps: `z -= (I + J'DJ)^-1 r`, with `J` the gradients of the logits by `z`,
//! `D` the weights times `p (1 - p)`, `r = z + J'(weights (p - y))` the gradient. For a model without an MLP they are
//! Newton steps, found by conjugate gradients up to 3 % of the gradient's length (`fit_dots.rs`). A step that does not
//! make the gradient shorter is halved; six gradients are computed at most, and the shortest one's `z` is the result.

use super::descent::{Examples, STEPS, Steps, descend};
use super::fit_dots::FitDots;
use super::normal_equations::{padded, solve, stop_if_asked};
use crate::engine::Engine;
use crate::engine::user_prior::UserPrior;
use crate::error::{Result, filled};
use crate::histories::History;
use crate::kernel::products::Vectors;
use crate::kernel::sigmoid::Sigmoid;
use crate::kernel::tangent::{TangentScratch, Tangents};
use crate::kernel::{LANES, Lanes};
use crate::pool::Watch;

/// Multiply-adds of fitting a user to `n` items, the negatives included, roughly.
pub(super) fn work(prior: &UserPrior, n: usize) -> usize {
    let width = prior.width();
    (STEPS + 1) * n * (prior.tower.multiply_adds() + width * width)
}

/// The vectors of a user with this history, both towers side by side.
pub(super) fn fit_user(
    engine: &Engine,
    prior: &UserPrior,
    negatives: &[u32],
    history: History<'_>,
    out: &mut [f32],
    watch: &Watch<'_>,
) -> Result<()> {
    let width = prior.width();
    let mut best = filled("user vector", width, 0.0)?;
    if !history.items.is_empty() {
        let examples = Examples::new(negatives, history)?;
        match engine.network.h0 {
            0 => descend(&mut FitDots::new(engine, prior, examples)?, &mut best, watch)?,
            _ => descend(&mut Fit::new(engine, prior, examples)?, &mut best, watch)?,
        }
    }
    let mut vector = filled("user vector", width, 0.0)?;
    prior.vector(engine.isa, &best, &mut vector);
    out.iter_mut().zip(vector).for_each(|(out, x)| *out = x as f32);
    Ok(())
}

/// The state of a fit by the gradients of the logits, which depend on `z`.
struct Fit<'a> {
    engine: &'a Engine,
    prior: &'a UserPrior,
    examples: Examples,
    /// `[items, padded W]`: gradients of the logits, then those times the roots of `D`.
    gradients: Vec<f64>,
    /// The probabilities of the items.
    probabilities: Vec<f32>,
    /// `[padded W]`: the gradient of the loss.
    gradient: Vec<f64>,
    scratch: TangentScratch,
    lanes: Vec<Lanes>,
}

impl<'a> Fit<'a> {
    fn new(engine: &'a Engine, prior: &'a UserPrior, examples: Examples) -> Result<Self> {
        let m = padded(prior.width());
        let network = &engine.network;
        Ok(Fit {
            engine,
            prior,
            gradients: filled("gradients", examples.items.len() * m, 0.0)?,
            probabilities: filled("probabilities", examples.items.len(), 0.0)?,
            gradient: filled("gradient", m, 0.0)?,
            scratch: TangentScratch::new(&prior.tower)?,
            lanes: filled("gradients", network.h0 + network.g + prior.width(), [0.0; LANES])?,
            examples,
        })
    }
}

impl Steps for Fit<'_> {
    fn differentiate(&mut self, z: &[f64], watch: &Watch<'_>) -> Result<f64> {
        let (engine, width) = (self.engine, z.len());
        let (h0, g, m) = (engine.network.h0, engine.network.g, self.gradient.len());
        let mut vector = filled("user vector", width, 0.0)?;
        self.prior.vector(engine.isa, z, &mut vector);
        let (mut first, mut gmf) = (filled("user", h0, 0.0)?, filled("user", g, 0.0)?);
        engine.user_parts(&vector, &mut first, &mut gmf);
        let (item_first, rest) = self.lanes.split_at_mut(h0);
        let (item_gmf, by_coordinate) = rest.split_at_mut(g);
        for ((items, probabilities), gradients) in self
            .examples
            .items
            .chunks(LANES)
            .zip(self.probabilities.chunks_mut(LANES))
            .zip(self.gradients.chunks_mut(LANES * m))
        {
            for (lane, &item) in items.iter().enumerate() {
                let (a, q) = engine.network.split_row(engine.catalogue.rows.row(item));
                item_first.iter_mut().zip(a).for_each(|(to, &x)| to[lane] = x);
                item_gmf.iter_mut().zip(q).for_each(|(to, &x)| to[lane] = x);
            }
            let mut logits = [0.0; LANES];
            engine.isa.run(Tangents {
                tower: &self.prior.tower,
                first: &first,
                gmf: &gmf,
                item_first,
                item_gmf,
                scratch: &mut self.scratch,
                logits: &mut logits,
                gradients: by_coordinate,
            });
            probabilities.copy_from_slice(&logits[..items.len()]);
            for (lane, gradient) in gradients.chunks_exact_mut(m).enumerate() {
                gradient.iter_mut().zip(&*by_coordinate).for_each(|(to, x)| *to = x[lane].into());
            }
            stop_if_asked(watch, LANES * self.prior.tower.multiply_adds())?;
        }
        engine.isa.run(Sigmoid(&mut self.probabilities));
        self.gradient.fill(0.0);
        self.gradient[..width].copy_from_slice(z);
        for (at, gradient) in self.gradients.chunks_exact(m).enumerate() {
            let label = if at < self.examples.positives { 1.0 } else { 0.0 };
            let factor = self.examples.weights[at] * (f64::from(self.probabilities[at]) - label);
            self.gradient.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += factor * x);
        }
        Ok(self.gradient.iter().fold(0.0, |sum, x| sum + x * x))
    }

    fn step(&mut self, z: &mut [f64], watch: &Watch<'_>) -> Result<()> {
        for (at, gradient) in self.gradients.chunks_exact_mut(self.gradient.len()).enumerate() {
            let p = f64::from(self.probabilities[at]);
            let root = (self.examples.weights[at] * p * (1.0 - p)).sqrt();
            gradient.iter_mut().for_each(|x| *x *= root);
        }
        let vectors = Vectors::one_by_one(&self.gradients, self.gradient.len());
        solve(self.engine.isa, vectors, &mut self.gradient, watch)?;
        z.iter_mut().zip(&self.gradient).for_each(|(z, step)| *z -= step);
        Ok(())
    }
}
