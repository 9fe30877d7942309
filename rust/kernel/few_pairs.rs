//! Scores pairs one after the other: the lanes of a vector are outputs of a layer, where elsewhere they are pairs. The
//! chains are the same, so are the bits. For a few pairs it is faster, as no lane is empty and nothing is transposed.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `layers`")]

use super::gather::PairUsers;
use super::row_table::ItemRows;
use super::weights::{Network, OutputLanes, Scratch};
use super::{Kernel, Lanes, Simd};

/// The most pairs for which this pays: a pair takes a quarter of the time of sixteen side by side, or less.
pub(crate) const FEW_PAIRS: usize = 4;

/// Computes the logits of pairs.
pub(crate) struct ScoreFewPairs<'a> {
    pub(crate) network: &'a Network,
    /// As many as items, or one for all.
    pub(crate) users: PairUsers<'a>,
    pub(crate) item_rows: &'a ItemRows,
    pub(crate) items: &'a [u32],
    pub(crate) logits: &'a mut [f32],
    pub(crate) scratch: &'a mut Scratch,
}

impl Kernel for ScoreFewPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ScoreFewPairs { network, users, item_rows, items, logits, scratch } = self;
        for n in 0..items.len() {
            logits[n] = score_pair(s, network, users.row(n), item_rows.row(items[n] as usize), scratch);
        }
    }
}

#[inline(always)]
fn score_pair<S: Simd>(s: S, network: &Network, user: &[Lanes], item: &[Lanes], scratch: &mut Scratch) -> f32 {
    let (b, a) = (&user[..network.gmf_at()], &item[..network.gmf_at()]);
    let (g, q) = (user[b.len()..].as_flattened(), item[b.len()..].as_flattened());
    let mut logit = dot(s, &g[..network.g], &q[..network.g], s.splat(network.output_bias));
    if network.h0 > 0 {
        let Scratch { from, to, .. } = scratch;
        for line in 0..b.len() {
            s.store(s.relu(s.add(s.load(&a[line]), s.load(&b[line]))), &mut to[line]);
        }
        for layer in &network.by_output {
            std::mem::swap(from, to);
            activations(s, layer, from.as_flattened(), to);
        }
        let weight = &network.output_weight[..];
        logit = dot(s, weight, &to.as_flattened()[..weight.len()], logit);
    }
    let mut out = [0.0; super::LANES];
    s.store(s.add(logit, s.splat(0.0)), &mut out);
    out[0]
}

/// `sum + a . b` in every lane, ascending.
#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32], mut sum: S::V) -> S::V {
    for k in 0..a.len().min(b.len()) {
        sum = s.fma(s.splat(a[k]), s.splat(b[k]), sum);
    }
    sum
}

/// Computes a layer and the ReLU of its outputs.
#[inline(always)]
fn activations<S: Simd>(s: S, layer: &OutputLanes, input: &[f32], to: &mut [Lanes]) {
    let input = &input[..layer.inputs];
    let (mut weight, mut at) = (&layer.weight[..], 0);
    while at < layer.bias.len() {
        macro_rules! of_size {
            ($($n:literal)*) => {
                match layer.block.min(layer.bias.len() - at) {
                    $($n => block_of::<S, $n>(s, weight, &layer.bias[at..], input, &mut to[at..]),)*
                    _ => unreachable!("a block has at most four vectors"),
                }
            };
        }
        let n = of_size!(1 2 3 4);
        weight = &weight[n * layer.inputs..];
        at += n;
    }
}

/// Computes the first `16 N` outputs; returns `N`.
#[inline(always)]
fn block_of<S: Simd, const N: usize>(s: S, weight: &[Lanes], bias: &[Lanes], input: &[f32], to: &mut [Lanes]) -> usize {
    let mut sums = [s.splat(0.0); N];
    for n in 0..N {
        sums[n] = s.load(&bias[n]);
    }
    let weight = &weight.as_chunks::<N>().0[..input.len()];
    for k in 0..input.len() {
        let x = s.splat(input[k]);
        for n in 0..N {
            sums[n] = s.fma(s.load(&weight[k][n]), x, sums[n]);
        }
    }
    for n in 0..N {
        s.store(s.relu(sums[n]), &mut to[n]);
    }
    N
}
