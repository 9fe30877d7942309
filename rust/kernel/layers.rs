//! Computes the layers of a network, for sixteen pairs side by side. `README.md` specifies the formulas and the order
//! of every sum.
//!
//! `H0` is the width of the first hidden layer, `H` of the last. A block is a group of outputs of a layer whose sums
//! stay in registers.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `Input`")]

use super::weights::{Network, PREFETCH_INTERVAL, Packed, PrefetchShare, Scratch};
use super::{Kernel, Lanes, Simd};

/// The source of a layer's inputs: one vector per input feature.
///
/// (Kernels loop over positions instead of using iterators with closures: a closure is compiled without the target
/// features, and LLVM does not inline it reliably. See "What did not help" in `README.md`.)
pub(super) trait Input<S: Simd>: Copy {
    fn len(self) -> usize;
    fn at(self, s: S, k: usize) -> S::V;

    /// Whether reading the inputs also prefetches.
    const PREFETCHES: bool = false;

    /// Prefetches the line assigned to input `k`.
    #[inline(always)]
    fn prefetch(self, _s: S, _k: usize) {}
}

/// Features stored in memory.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a>(pub(super) &'a [Lanes]);

impl<S: Simd> Input<S> for Stored<'_> {
    #[inline(always)]
    fn len(self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn at(self, s: S, k: usize) -> S::V {
        s.load(&self.0[k])
    }
}

/// Prefetches line `at` of the tile `ahead`, if it exists. Kernels prefetch line by line, between the multiply-adds: a
/// whole tile at once exceeds the lines a core can have in flight, and would stall it.
#[inline(always)]
pub(super) fn prefetch<S: Simd>(s: S, ahead: &[Lanes], at: usize) {
    if at < ahead.len() {
        s.prefetch(ahead, at);
    }
}

#[inline(always)]
pub(super) fn prefetch_all<S: Simd>(s: S, lines: &[Lanes]) {
    for at in 0..lines.len() {
        s.prefetch(lines, at);
    }
}

/// The first layer's activations of one user and sixteen items, computed on the fly, which is cheaper than storing
/// them.
#[derive(Clone, Copy)]
pub(super) struct FirstLayer<'a, const AHEAD: bool> {
    pub(super) items: &'a [Lanes],
    pub(super) user: &'a [f32],
    /// With `AHEAD`, the lines to prefetch. (`AHEAD` is a constant because testing for an empty slice costs 4 %.)
    pub(super) ahead: &'a [Lanes],
}

impl<S: Simd, const AHEAD: bool> Input<S> for FirstLayer<'_, AHEAD> {
    #[inline(always)]
    fn len(self) -> usize {
        self.items.len().min(self.user.len())
    }

    #[inline(always)]
    fn at(self, s: S, k: usize) -> S::V {
        s.relu(s.add(s.load(&self.items[k]), s.splat(self.user[k])))
    }

    const PREFETCHES: bool = AHEAD;

    #[inline(always)]
    fn prefetch(self, s: S, k: usize) {
        prefetch(s, self.ahead, k);
    }
}

/// The consumer of a block's sums.
pub(super) trait Sink<S: Simd> {
    fn take<const N: usize>(&mut self, s: S, first: usize, sums: [S::V; N]);
}

/// Stores the sums, without an activation.
struct StoreSums<'a>(&'a mut [Lanes]);

impl<S: Simd> Sink<S> for StoreSums<'_> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, s: S, first: usize, sums: [S::V; N]) {
        let to = &mut self.0[first..first + N];
        for n in 0..N {
            s.store(sums[n], &mut to[n]);
        }
    }
}

/// Stores the activations, the ReLU of the sums.
pub(super) struct StoreActivations<'a>(pub(super) &'a mut [Lanes]);

impl<S: Simd> Sink<S> for StoreActivations<'_> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, s: S, first: usize, sums: [S::V; N]) {
        let to = &mut self.0[first..first + N];
        for n in 0..N {
            s.store(s.relu(sums[n]), &mut to[n]);
        }
    }
}

/// Adds the weighted activations to the logits.
pub(super) struct AddToLogits<'a, S: Simd> {
    pub(super) weight: &'a [f32],
    pub(super) logits: S::V,
}

impl<S: Simd> Sink<S> for AddToLogits<'_, S> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, s: S, first: usize, sums: [S::V; N]) {
        let weight = &self.weight[first..first + N];
        for n in 0..N {
            self.logits = s.fma(s.splat(weight[n]), s.relu(sums[n]), self.logits);
        }
    }
}

/// Computes a layer: for each output, a chain from the bias over ascending inputs. Passes the sums to `sink` block by
/// block.
#[inline(always)]
fn layer<S: Simd, I: Input<S>>(s: S, layer: &Packed, input: I, sink: &mut impl Sink<S>) {
    let mut weight = &layer.weight[..];
    let mut prefetch_share = layer.prefetch_share;
    let mut first = 0;
    while first < layer.outputs {
        let n = layer.block.min(layer.outputs - first);
        let (block, rest) = weight.split_at(n * layer.inputs);
        let bias = &layer.bias[first..first + n];
        macro_rules! of_size {
            ($($n:literal)*) => {
                match n {
                    $($n => block_of::<S, I, $n>(s, block, bias, input, prefetch_share, first, sink),)*
                    _ => unreachable!("a block has at most 16 outputs"),
                }
            };
        }
        of_size!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        weight = rest;
        prefetch_share = prefetch_share.next();
        first += n;
    }
}

#[inline(always)]
fn block_of<S: Simd, I: Input<S>, const N: usize>(
    s: S,
    weight: &[f32],
    bias: &[f32],
    input: I,
    prefetch_share: PrefetchShare,
    first: usize,
    sink: &mut impl Sink<S>,
) {
    if N > S::BLOCK {
        unreachable!("blocks are packed for this instruction set's registers"); // so larger blocks are not compiled
    }
    let bias: &[f32; N] = bias.try_into().expect("one bias for each output of the block");
    let mut sums = [s.splat(0.0); N];
    for n in 0..N {
        sums[n] = s.splat(bias[n]);
    }
    let (weight, _) = weight.as_chunks::<N>();
    assert!(weight.len() == input.len(), "one input for each column of weights");
    let mut from = 0;
    while from < weight.len() {
        let to = if I::PREFETCHES { weight.len().min(from + PREFETCH_INTERVAL) } else { weight.len() };
        if I::PREFETCHES {
            let mut k = prefetch_share.first(from);
            while k < to {
                input.prefetch(s, k);
                k += prefetch_share.stride;
            }
        }
        for k in from..to {
            let x = input.at(s, k);
            for n in 0..N {
                sums[n] = s.fma(s.splat(weight[k][n]), x, sums[n]);
            }
        }
        from = to;
    }
    sink.take(s, first, sums);
}

/// Computes the hidden layers after the first, and the output layer's chain over the last. `first` provides the first
/// layer's activations; `logits` is the sum so far.
#[inline(always)]
pub(super) fn hidden<S: Simd>(
    s: S,
    network: &Network,
    first: impl Input<S>,
    logits: S::V,
    scratch: &mut Scratch,
) -> S::V {
    match &network.layers[..] {
        [] => chain(s, &network.output_weight, first, logits),
        [last] => {
            let mut output = AddToLogits { weight: &network.output_weight, logits };
            layer(s, last, first, &mut output);
            output.logits
        }
        [second, deeper @ ..] => {
            layer(s, second, first, &mut StoreActivations(&mut scratch.to));
            hidden_after(s, network, deeper, logits, scratch)
        }
    }
}

/// Computes the last layers of the network, `deeper`, at least one, and the output layer's chain. `scratch.to` holds
/// their input activations.
#[inline(always)]
pub(super) fn hidden_after<S: Simd>(
    s: S,
    network: &Network,
    deeper: &[Packed],
    logits: S::V,
    scratch: &mut Scratch,
) -> S::V {
    let (last, middle) = deeper.split_last().expect("at least one layer");
    if !middle.is_empty() {
        s.run(MiddleLayers { layers: middle, scratch });
    }
    // Alternate between the buffers: reused at once, one would make the next tile wait for this one (4 % of a scan).
    let Scratch { from, to, .. } = scratch;
    std::mem::swap(from, to);
    let mut output = AddToLogits { weight: &network.output_weight, logits };
    layer(s, last, Stored(&from[..last.inputs]), &mut output);
    output.logits
}

/// Computes layers from `scratch.to` to `scratch.to`: those that neither read the first layer's activations nor feed
/// the logits. A kernel of its own, so that it is compiled once per instruction set, not once per caller.
struct MiddleLayers<'a> {
    layers: &'a [Packed],
    scratch: &'a mut Scratch,
}

impl Kernel for MiddleLayers<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Scratch { from, to, .. } = self.scratch;
        for m in self.layers {
            std::mem::swap(from, to);
            layer(s, m, Stored(&from[..m.inputs]), &mut StoreActivations(to));
        }
    }
}

/// `sums + weight . input`, ascending.
#[inline(always)]
fn chain<S: Simd, I: Input<S>>(s: S, weight: &[f32], input: I, sums: S::V) -> S::V {
    let mut sums = sums;
    for k in 0..weight.len().min(input.len()) {
        if I::PREFETCHES {
            input.prefetch(s, k);
        }
        sums = s.fma(s.splat(weight[k]), input.at(s, k), sums);
    }
    sums
}

/// Computes a layer without activation, for sixteen embeddings side by side: projects embedding tables at load.
pub(crate) struct Project<'a> {
    pub(crate) layer: &'a Packed,
    /// One line per input feature.
    pub(crate) input: &'a [Lanes],
    /// One line per output feature.
    pub(crate) output: &'a mut [Lanes],
}

impl Kernel for Project<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        layer(s, self.layer, Stored(self.input), &mut StoreSums(self.output));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::kernel::simd::Portable;

    /// Zero inputs that count their prefetches.
    #[derive(Clone, Copy)]
    struct Counting<'a>(&'a RefCell<Vec<usize>>);

    impl<S: Simd> Input<S> for Counting<'_> {
        fn len(self) -> usize {
            self.0.borrow().len()
        }

        fn at(self, s: S, _k: usize) -> S::V {
            s.splat(0.0)
        }

        const PREFETCHES: bool = true;

        fn prefetch(self, _s: S, k: usize) {
            self.0.borrow_mut()[k] += 1;
        }
    }

    #[test]
    fn each_line_is_prefetched_once_for_any_layers() {
        for inputs in [1, 7, 15, 16, 17, 40, 130] {
            for outputs in (0..40).chain([97, 200]) {
                let s = Portable::<false>;
                let layer = || Packed::new(inputs, &vec![0.0; outputs], Portable::<false>::BLOCK, |_, _| 0.0).unwrap();
                let layers: Vec<Packed> = (outputs > 0).then(layer).into_iter().collect();
                let output_weight = vec![0.0; layers.first().map_or(inputs, |layer| layer.outputs)];
                let network =
                    Network { h0: inputs, g: 0, layers, by_output: Vec::new(), output_weight, output_bias: 0.0 };
                let (prefetched, mut scratch) = (RefCell::new(vec![0; inputs]), Scratch::default());
                scratch.fit(&network).unwrap();
                hidden(s, &network, Counting(&prefetched), s.splat(0.0), &mut scratch);
                assert_eq!(prefetched.into_inner(), vec![1; inputs], "{inputs} inputs, {outputs} outputs");
            }
        }
    }
}
