//! Logits of sixteen items and their gradients by a user's coordinates: what fitting a user's vectors takes.
//!
//! Sums are fused and in ascending index, so that every instruction set computes the same bits. (A user's parts are
//! rounded otherwise than for a score, whose bits may differ.)

#![allow(clippy::needless_range_loop, reason = "closures are compiled without the target features")]

use super::weights::{Network, Packed};
use super::{Kernel, LANES, Lanes, Simd};
use crate::error::{Result, collected, filled, reserve, try_collected};

/// The layers after the two halves of the first, and how the user's parts depend on `W` coordinates.
#[derive(Debug, Clone)]
pub(crate) struct Tower {
    h0: usize,
    g: usize,
    layers: Vec<TowerLayer>,
    output: Vec<f32>,
    output_bias: f32,
    /// `[G + H0, W]`: the change of the GMF part and of the first layer by each coordinate.
    by_coordinate: Vec<f32>,
    coordinates: usize,
}

#[derive(Debug, Clone)]
struct TowerLayer {
    /// `[inputs, outputs]`.
    forwards: Vec<f32>,
    /// `[outputs, inputs]`.
    backwards: Vec<f32>,
    bias: Vec<f32>,
}

impl Tower {
    /// The tower of `network`, for users with `coordinates` coordinates.
    pub(crate) fn new(network: &Network, by_coordinate: Vec<f32>, coordinates: usize) -> Result<Self> {
        let layer = |packed: &Packed| {
            let (inputs, outputs) = (packed.inputs, packed.outputs);
            let weight = |o, k| packed.weight(o, k);
            let all = 0..inputs * outputs;
            Ok(TowerLayer {
                forwards: collected("layers", all.clone().map(|at| weight(at % outputs, at / outputs)))?,
                backwards: collected("layers", all.map(|at| weight(at / inputs, at % inputs)))?,
                bias: collected("layers", packed.bias().iter().copied())?,
            })
        };
        Ok(Tower {
            h0: network.h0,
            g: network.g,
            layers: try_collected("layers", network.layers.iter().map(layer))?,
            output: collected("layers", network.output_weight.iter().copied())?,
            output_bias: network.output_bias,
            by_coordinate,
            coordinates,
        })
    }

    /// Multiply-adds for one item, roughly.
    pub(crate) fn multiply_adds(&self) -> usize {
        let layers: usize = self.layers.iter().map(|layer| layer.forwards.len()).sum();
        2 * (layers + self.output.len()) + self.by_coordinate.len() + self.g
    }

    pub(crate) fn nbytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(|layer| 2 * layer.forwards.len() + layer.bias.len()).sum();
        (layers + self.output.len() + self.by_coordinate.len()) * size_of::<f32>()
    }
}

/// Buffers of [`Tangents`].
#[derive(Debug, Clone)]
pub(crate) struct TangentScratch {
    /// The activations of each layer.
    activations: Vec<Vec<Lanes>>,
    /// The gradients by the activations of each layer; before those of the first come the items' GMF features.
    gradients: Vec<Vec<Lanes>>,
}

impl TangentScratch {
    pub(crate) fn new(tower: &Tower) -> Result<Self> {
        let outputs = || tower.layers.iter().map(|layer| layer.bias.len());
        let of_layers = |first| {
            let mut layers = reserve("activations", 1 + tower.layers.len())?;
            for width in std::iter::once(first).chain(outputs()) {
                layers.push(filled("activations", width, [0.0; LANES])?);
            }
            Ok(layers)
        };
        Ok(TangentScratch { activations: of_layers(tower.h0)?, gradients: of_layers(tower.g + tower.h0)? })
    }
}

/// Computes the logits of a user and sixteen items, and their gradients.
pub(crate) struct Tangents<'a> {
    pub(crate) tower: &'a Tower,
    /// `[H0]`: the user's half of the first layer.
    pub(crate) first: &'a [f32],
    /// `[G]`: the user's GMF part, times the output layer's weights.
    pub(crate) gmf: &'a [f32],
    /// `[H0]` and `[G]`: those of the items.
    pub(crate) item_first: &'a [Lanes],
    pub(crate) item_gmf: &'a [Lanes],
    pub(crate) scratch: &'a mut TangentScratch,
    pub(crate) logits: &'a mut Lanes,
    /// `[W]`.
    pub(crate) gradients: &'a mut [Lanes],
}

impl Kernel for Tangents<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tangents { tower, first, gmf, item_first, item_gmf, scratch, logits, gradients } = self;
        let TangentScratch { activations, gradients: by_layer } = scratch;
        let mut logit = s.splat(tower.output_bias);
        for (user, item) in gmf.iter().zip(item_gmf) {
            logit = s.fma(s.splat(*user), s.load(item), logit);
        }
        for ((x, item), user) in activations[0].iter_mut().zip(item_first).zip(first) {
            s.store(s.relu(s.add(s.load(item), s.splat(*user))), x);
        }
        for (n, layer) in tower.layers.iter().enumerate() {
            let (before, after) = activations.split_at_mut(n + 1);
            let outputs = &mut after[0];
            for (x, bias) in outputs.iter_mut().zip(&layer.bias) {
                *x = [*bias; LANES];
            }
            multiply(s, &layer.forwards, &before[n], outputs);
            for x in outputs.iter_mut() {
                s.store(s.relu(s.load(x)), x);
            }
        }
        let last = tower.layers.len();
        let at = if last == 0 { tower.g } else { 0 };
        for (h, weight) in tower.output.iter().enumerate() {
            let x = &activations[last][h];
            logit = s.fma(s.splat(*weight), s.load(x), logit);
            by_layer[last][at + h] = where_positive(x, [*weight; LANES]);
        }
        s.store(logit, logits);
        for (n, layer) in tower.layers.iter().enumerate().rev() {
            let (before, after) = by_layer.split_at_mut(n + 1);
            let at = if n == 0 { tower.g } else { 0 };
            let inputs = &mut before[n][at..];
            inputs.fill([0.0; LANES]);
            multiply(s, &layer.backwards, &after[0], inputs);
            for (gradient, x) in inputs.iter_mut().zip(&activations[n]) {
                *gradient = where_positive(x, *gradient);
            }
        }
        by_layer[0][..tower.g].copy_from_slice(item_gmf);
        gradients.fill([0.0; LANES]);
        debug_assert_eq!(gradients.len(), tower.coordinates);
        multiply(s, &tower.by_coordinate, &by_layer[0], gradients);
    }
}

/// Adds `x M` to `out`, for `M` `[x, out]`.
#[inline(always)]
fn multiply<S: Simd>(s: S, matrix: &[f32], x: &[Lanes], out: &mut [Lanes]) {
    for (row, x) in matrix.chunks_exact(out.len()).zip(x) {
        let x = s.load(x);
        for (weight, out) in row.iter().zip(out.iter_mut()) {
            s.store(s.fma(s.splat(*weight), x, s.load(out)), out);
        }
    }
}

/// `values` in the lanes in which `x` is positive, 0 in the others.
#[inline(always)]
fn where_positive(x: &Lanes, values: Lanes) -> Lanes {
    let mut kept = [0.0; LANES];
    for lane in 0..LANES {
        kept[lane] = if x[lane] > 0.0 { values[lane] } else { 0.0 };
    }
    kept
}
