//! What all fits of a user have in common: the items and their weights, and damped steps.

use crate::error::{Result, collected, reserve};
use crate::histories::History;
use crate::pool::Watch;

/// Weight of the negatives, for each unit of weight in the history.
const NEGATIVES: f64 = 4.0;

/// Steps, and gradients computed, at most.
pub(super) const STEPS: usize = 3;
const GRADIENTS: usize = 6;

/// Takes steps from `best`, which is 0, as long as they make the gradient shorter.
pub(super) fn descend(fit: &mut impl Steps, best: &mut [f64], watch: &Watch<'_>) -> Result<()> {
    let mut z = collected("user vector", best.iter().copied())?;
    let (mut shortest, mut steps) = (f64::INFINITY, 0);
    for _ in 0..GRADIENTS {
        let length = fit.differentiate(&z, watch)?;
        if length >= shortest || length.is_nan() {
            z.iter_mut().zip(&*best).for_each(|(z, best)| *z = 0.5 * (*z + best));
            continue;
        }
        best.copy_from_slice(&z);
        if steps == STEPS {
            break;
        }
        (shortest, steps) = (length, steps + 1);
        fit.step(&mut z, watch)?;
    }
    Ok(())
}

/// A fit of `z`.
pub(super) trait Steps {
    /// Computes the gradient at `z`; returns its squared length.
    fn differentiate(&mut self, z: &[f64], watch: &Watch<'_>) -> Result<f64>;
    /// Takes a whole step from `z`, at which the gradient has been computed.
    fn step(&mut self, z: &mut [f64], watch: &Watch<'_>) -> Result<()>;
}

/// The items that a user is fitted to.
pub(super) struct Examples {
    /// The history, then the negatives.
    pub(super) items: Vec<usize>,
    pub(super) weights: Vec<f64>,
    /// How many of the items are the history.
    pub(super) positives: usize,
}

impl Examples {
    pub(super) fn new(negatives: &[u32], history: History<'_>) -> Result<Self> {
        let positives = history.items.len();
        let mut items = reserve("items of a history", positives + negatives.len())?;
        let mut weights = reserve("weights of a history", positives + negatives.len())?;
        for (item, weight) in history.weighted() {
            items.push(item);
            weights.push(weight);
        }
        let negatives = negatives.iter().filter(|item| history.items.binary_search(item).is_err());
        items.extend(negatives.map(|&item| item as usize));
        let weight = NEGATIVES * history.total() / (items.len() - positives).max(1) as f64;
        weights.resize(items.len(), weight);
        Ok(Examples { items, weights, positives })
    }
}
