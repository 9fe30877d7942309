//! The fit of a new user of a model without an MLP, whose logits are linear in the user's vector: Newton steps by
//! conjugate gradients (Hestenes, Stiefel 1952), which multiply by the items' factors and never form the gradients by
//! `z` or their products. `fit_user.rs` has what is minimised.

use super::descent::{Examples, Steps};
use super::normal_equations::{dot, stop_if_asked};
use crate::engine::Engine;
use crate::engine::user_prior::UserPrior;
use crate::error::{Result, filled};
use crate::kernel::factors::{TimesFactors, TimesItems};
use crate::kernel::sigmoid::Sigmoid;
use crate::kernel::{LANES, Lanes};
use crate::pool::Watch;

/// A step is known well enough when its residual is this much shorter than the gradient.
const TOLERANCE: f64 = 0.03;

/// The most products of a step.
const PRODUCTS: usize = 100;

/// The state of a fit. All arrays of items are in blocks of sixteen.
pub(super) struct FitDots<'a> {
    engine: &'a Engine,
    prior: &'a UserPrior,
    examples: Examples,
    /// The items' factors, a line for each factor of a block.
    factors: Vec<Lanes>,
    probabilities: Vec<Lanes>,
    /// What the items' rows are multiplied by, and products of theirs.
    of_items: Vec<Lanes>,
    of_factors: Vec<Lanes>,
    narrow: Vec<f32>,
    wide: Vec<f64>,
    gradient: Vec<f64>,
}

impl<'a> FitDots<'a> {
    pub(super) fn new(engine: &'a Engine, prior: &'a UserPrior, examples: Examples) -> Result<Self> {
        let (width, blocks) = (prior.width(), examples.items.len().div_ceil(LANES));
        let mut factors = filled("factors of items", blocks * width, [0.0; LANES])?;
        for (block, items) in factors.chunks_exact_mut(width).zip(examples.items.chunks(LANES)) {
            for (lane, &item) in items.iter().enumerate() {
                let (_, q) = engine.network.split_row(engine.catalogue.rows.row(item));
                block.iter_mut().zip(q).for_each(|(line, &x)| line[lane] = x);
            }
        }
        Ok(FitDots {
            engine,
            prior,
            examples,
            factors,
            probabilities: filled("probabilities", blocks, [0.0; LANES])?,
            of_items: filled("logits", blocks, [0.0; LANES])?,
            of_factors: filled("sums", width, [0.0; LANES])?,
            narrow: filled("user", width, 0.0)?,
            wide: filled("user", width, 0.0)?,
            gradient: filled("gradient", width, 0.0)?,
        })
    }

    /// Adds to `out` what a number for each item, in `of_items`, contributes to it: the gradient by `z` of their sum.
    fn add_by_items(&mut self, out: &mut [f64]) {
        let matrix = &self.factors;
        self.engine.isa.run(TimesItems { matrix, u: &self.of_items, out: &mut self.of_factors });
        for ((wide, lanes), weight) in self.wide.iter_mut().zip(&self.of_factors).zip(self.engine.output_gmf()) {
            *wide = lanes.iter().fold(0.0, |sum, &x| sum + f64::from(x)) * f64::from(*weight);
        }
        self.prior.add_transposed(self.engine.isa, &self.wide, out);
    }
}

impl Steps for FitDots<'_> {
    fn differentiate(&mut self, z: &[f64], watch: &Watch<'_>) -> Result<f64> {
        let Examples { weights, positives, .. } = &self.examples;
        self.prior.vector(self.engine.isa, z, &mut self.wide);
        self.engine.user_parts(&self.wide, &mut [], &mut self.narrow);
        let matrix = &self.factors;
        self.engine.isa.run(TimesFactors { matrix, x: &self.narrow, out: &mut self.probabilities });
        let bias = self.engine.network.output_bias;
        self.probabilities.as_flattened_mut().iter_mut().for_each(|logit| *logit += bias);
        self.engine.isa.run(Sigmoid(self.probabilities.as_flattened_mut()));
        let of_items = self.of_items.as_flattened_mut().iter_mut().zip(self.probabilities.as_flattened());
        for (at, ((to, &p), weight)) in of_items.zip(weights).enumerate() {
            let label = if at < *positives { 1.0 } else { 0.0 };
            *to = (weight * (f64::from(p) - label)) as f32;
        }
        let mut gradient = std::mem::take(&mut self.gradient);
        gradient.copy_from_slice(z);
        self.add_by_items(&mut gradient);
        self.gradient = gradient;
        stop_if_asked(watch, 2 * matrix_work(&self.factors))?;
        Ok(dot(&self.gradient, &self.gradient))
    }

    fn step(&mut self, z: &mut [f64], watch: &Watch<'_>) -> Result<()> {
        let mut residual = std::mem::take(&mut self.gradient);
        let mut direction = residual.clone();
        let mut product = filled("product", z.len(), 0.0)?;
        let mut length = dot(&residual, &residual);
        let enough = TOLERANCE * TOLERANCE * length;
        for _ in 0..PRODUCTS {
            if length <= enough || length == 0.0 {
                break;
            }
            // (I + J'DJ) direction
            self.wide.fill(0.0);
            self.prior.add_root(self.engine.isa, &direction, &mut self.wide);
            for ((to, x), weight) in self.narrow.iter_mut().zip(&self.wide).zip(self.engine.output_gmf()) {
                *to = (f64::from(*weight) * x) as f32;
            }
            let matrix = &self.factors;
            self.engine.isa.run(TimesFactors { matrix, x: &self.narrow, out: &mut self.of_items });
            let of_items = self.of_items.as_flattened_mut().iter_mut().zip(self.probabilities.as_flattened());
            for ((to, &p), weight) in of_items.zip(&self.examples.weights) {
                let p = f64::from(p);
                *to = (f64::from(*to) * weight * p * (1.0 - p)) as f32;
            }
            product.copy_from_slice(&direction);
            self.add_by_items(&mut product);
            let share = length / dot(&direction, &product);
            z.iter_mut().zip(&direction).for_each(|(z, d)| *z -= share * d);
            residual.iter_mut().zip(&product).for_each(|(r, p)| *r -= share * p);
            let shorter = dot(&residual, &residual);
            direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + shorter / length * *d);
            length = shorter;
            stop_if_asked(watch, 2 * matrix_work(&self.factors))?;
        }
        self.gradient = residual;
        Ok(())
    }
}

fn matrix_work(factors: &[Lanes]) -> usize {
    factors.len() * LANES
}
