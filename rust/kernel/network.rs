//! The arithmetic of a score, once: `README.md` gives the formulas and the order of every sum.
//!
//! `I` items, `G` GMF width, `H` width of a hidden layer; a tile is sixteen items, feature by feature, `H0` first-layer features and
//! then `G` GMF features.

#![allow(clippy::needless_range_loop, reason = "positions, not iterators with closures: see `Input`")]

use super::hits::Hits;
use super::{Kernel, LANES, Lanes, Simd};

/// A layer's weights in the order in which the kernel reads them: blocks of outputs; within a block, input by input, one weight
/// for each output of the block.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    block: usize,
    /// The first block's.
    turn: Turn,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Inputs between which lines are asked for: few at a time, since a core can have only some under way; not with each input, since a
/// branch in the innermost loop costs registers.
const STRETCH: usize = 16;

/// With which inputs a block of outputs asks for lines. Every block reads all of a layer's inputs; they take turns, so that each line is
/// asked for once and at an even pace.
#[derive(Debug, Clone, Copy)]
struct Turn {
    block: usize,
    every: usize,
}

impl Turn {
    /// Of the first of `blocks` blocks.
    fn first_of(blocks: usize) -> Self {
        Turn { block: 0, every: blocks.min(STRETCH) }
    }

    /// Of the next block. Those behind the first `every` ask for nothing.
    #[inline(always)]
    fn next(self) -> Self {
        Turn { block: self.block + 1, ..self }
    }

    /// The first of the block's inputs from `from` on, which begins a stretch; the others follow at distances of `every`.
    #[inline(always)]
    fn first(self, from: usize) -> usize {
        if self.block < self.every { from + self.block } else { usize::MAX }
    }
}

impl Packed {
    /// Packs `weight(output, input)` and `bias` for blocks of at most `most` outputs.
    pub(crate) fn new(inputs: usize, bias: &[f32], most: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let outputs = bias.len();
        let block = block_size(outputs, most);
        let mut packed = Vec::with_capacity(inputs * outputs);
        for first in (0..outputs).step_by(block) {
            for k in 0..inputs {
                packed.extend((first..outputs.min(first + block)).map(|o| weight(o, k)));
            }
        }
        let turn = Turn::first_of(outputs.div_ceil(block));
        Packed { inputs, outputs, block, turn, weight: packed, bias: bias.to_vec() }
    }

    /// The weight of input `k` in output `o`.
    pub(crate) fn weight(&self, o: usize, k: usize) -> f32 {
        let first = o / self.block * self.block;
        let n = self.block.min(self.outputs - first);
        self.weight[first * self.inputs + k * n + (o - first)]
    }

    pub(crate) fn bias(&self) -> &[f32] {
        &self.bias
    }

    pub(crate) fn nbytes(&self) -> usize {
        size_of_val(&self.weight[..]) + size_of_val(&self.bias[..])
    }
}

/// Blocks of equal size (but for the last), as few as hold all outputs; but two where each still has chains enough to hide the latency
/// of a multiply-add: the end of one then overlaps the beginning of the other.
pub(super) fn block_size(outputs: usize, most: usize) -> usize {
    const ENOUGH: usize = 8; // six would do, and blocks of six are no faster than one of twelve
    let least = if outputs >= 2 * ENOUGH { 2 } else { 1 };
    outputs.div_ceil(outputs.div_ceil(most).max(least))
}

/// What follows the first layer.
#[derive(Debug)]
pub(crate) struct Network {
    /// Width of the first layer; 0 in a model without an MLP.
    pub(crate) h0: usize,
    /// GMF width; 0 in a model without a GMF part.
    pub(crate) g: usize,
    /// Hidden layers after the first.
    pub(crate) layers: Vec<Packed>,
    /// The output layer's weights on the last hidden layer; those on the GMF part are folded into the user.
    pub(crate) output_weight: Vec<f32>,
    pub(crate) output_bias: f32,
}

impl Network {
    /// Features of a tile, in [`Lanes`].
    pub(crate) fn tile_len(&self) -> usize {
        self.h0 + self.g
    }

    /// Multiply-adds for one pair.
    pub(crate) fn multiply_adds(&self) -> usize {
        self.g + self.output_weight.len() + self.layers.iter().map(|layer| layer.inputs * layer.outputs).sum::<usize>()
    }

    /// The widest layer whose activations may have to be stored.
    fn widest(&self) -> usize {
        self.layers.iter().map(|layer| layer.inputs).max().unwrap_or(0).max(self.h0)
    }

    pub(crate) fn nbytes(&self) -> usize {
        self.layers.iter().map(Packed::nbytes).sum::<usize>() + size_of_val(&self.output_weight[..])
    }
}

/// Room for the activations of the first layer and of two neighbouring ones; grows to what a network needs and is then reused.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(super) first: Vec<Lanes>,
    from: Vec<Lanes>,
    pub(super) to: Vec<Lanes>,
}

impl Scratch {
    /// Makes room for `network`.
    pub(crate) fn fit(&mut self, network: &Network) {
        let len = network.widest().next_multiple_of(LANES);
        if self.from.len() < len {
            for buffer in [&mut self.first, &mut self.from, &mut self.to] {
                buffer.resize(len, [0.0; LANES]);
            }
        }
    }
}

/// Where a layer reads its inputs: one vector for each input feature.
///
/// (Loops over positions, not iterators with closures: a closure is compiled without the instruction set's features, and whether
/// it is then inlined is the compiler's mood. See `README.md`, what did not help.)
pub(super) trait Input<S: Simd>: Copy {
    fn len(self) -> usize;
    fn at(self, s: S, k: usize) -> S::V;

    /// Whether something is asked for meanwhile.
    const ASKS: bool = false;

    /// Asks for what comes with input `k`.
    #[inline(always)]
    fn ask(self, _s: S, _k: usize) {}
}

/// Features as they lie in memory.
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

/// Asks for line `at` of the tile `ahead`, where there is one. Line by line, between the multiply-adds: a whole tile at once is more
/// than a core can have under way, and it would wait.
#[inline(always)]
pub(super) fn prefetch<S: Simd>(s: S, ahead: &[Lanes], at: usize) {
    if at < ahead.len() {
        s.prefetch(ahead, at);
    }
}

#[inline(always)]
fn prefetch_all<S: Simd>(s: S, lines: &[Lanes]) {
    for at in 0..lines.len() {
        s.prefetch(lines, at);
    }
}

/// The first layer's activations of one user and sixteen items, computed as they are read: cheaper than storing them.
#[derive(Clone, Copy)]
struct FirstLayer<'a, const AHEAD: bool> {
    items: &'a [Lanes],
    user: &'a [f32],
    /// With `AHEAD`: the lines that are asked for meanwhile. (Without it, looking whether there are any would cost 4 %.)
    ahead: &'a [Lanes],
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

    const ASKS: bool = AHEAD;

    #[inline(always)]
    fn ask(self, s: S, k: usize) {
        prefetch(s, self.ahead, k);
    }
}

/// What becomes of a block's sums.
pub(super) trait Sink<S: Simd> {
    fn take<const N: usize>(&mut self, s: S, first: usize, sums: [S::V; N]);
}

/// Writes the sums as they are.
struct Sums<'a>(&'a mut [Lanes]);

impl<S: Simd> Sink<S> for Sums<'_> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, s: S, first: usize, sums: [S::V; N]) {
        let to = &mut self.0[first..first + N];
        for n in 0..N {
            s.store(sums[n], &mut to[n]);
        }
    }
}

/// Writes the activations.
pub(super) struct Activations<'a>(pub(super) &'a mut [Lanes]);

impl<S: Simd> Sink<S> for Activations<'_> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, s: S, first: usize, sums: [S::V; N]) {
        let to = &mut self.0[first..first + N];
        for n in 0..N {
            s.store(s.relu(sums[n]), &mut to[n]);
        }
    }
}

/// Adds the activations, weighted, to the logits.
pub(super) struct Output<'a, S: Simd> {
    pub(super) weight: &'a [f32],
    pub(super) logits: S::V,
}

impl<S: Simd> Sink<S> for Output<'_, S> {
    #[inline(always)]
    fn take<const N: usize>(&mut self, s: S, first: usize, sums: [S::V; N]) {
        let weight = &self.weight[first..first + N];
        for n in 0..N {
            self.logits = s.fma(s.splat(weight[n]), s.relu(sums[n]), self.logits);
        }
    }
}

/// One layer: for each output a chain from the bias, inputs ascending; block after block into `sink`.
#[inline(always)]
fn layer<S: Simd, I: Input<S>>(s: S, layer: &Packed, input: I, sink: &mut impl Sink<S>) {
    let mut weight = &layer.weight[..];
    let mut turn = layer.turn;
    let mut first = 0;
    while first < layer.outputs {
        let n = layer.block.min(layer.outputs - first);
        let (block, rest) = weight.split_at(n * layer.inputs);
        let bias = &layer.bias[first..first + n];
        macro_rules! of_size {
            ($($n:literal)*) => {
                match n {
                    $($n => block_of::<S, I, $n>(s, block, bias, input, turn, first, sink),)*
                    _ => unreachable!("a block has at most 16 outputs"),
                }
            };
        }
        of_size!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        weight = rest;
        turn = turn.next();
        first += n;
    }
}

#[inline(always)]
fn block_of<S: Simd, I: Input<S>, const N: usize>(
    s: S,
    weight: &[f32],
    bias: &[f32],
    input: I,
    turn: Turn,
    first: usize,
    sink: &mut impl Sink<S>,
) {
    if N > S::BLOCK {
        unreachable!("packed for other registers"); // and so not compiled
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
        let to = if I::ASKS { weight.len().min(from + STRETCH) } else { weight.len() };
        if I::ASKS {
            let mut k = turn.first(from);
            while k < to {
                input.ask(s, k);
                k += turn.every;
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

/// The hidden layers after the first, and the output layer's chain over the last of them. `first` gives the first layer's
/// activations, `logits` what the chain has summed before.
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
            let mut output = Output { weight: &network.output_weight, logits };
            layer(s, last, first, &mut output);
            output.logits
        }
        [second, deeper @ ..] => {
            layer(s, second, first, &mut Activations(&mut scratch.to));
            hidden_after(s, network, deeper, logits, scratch)
        }
    }
}

/// The layers `deeper`, which are the last of the network and at least one, and the output layer's chain. `scratch.to` holds the
/// activations before them.
#[inline(always)]
pub(super) fn hidden_after<S: Simd>(
    s: S,
    network: &Network,
    deeper: &[Packed],
    logits: S::V,
    scratch: &mut Scratch,
) -> S::V {
    let Scratch { from, to, .. } = scratch;
    let (last, middle) = deeper.split_last().expect("at least one layer");
    std::mem::swap(from, to);
    for m in middle {
        layer(s, m, Stored(&from[..m.inputs]), &mut Activations(to));
        std::mem::swap(from, to);
    }
    let mut output = Output { weight: &network.output_weight, logits };
    layer(s, last, Stored(&from[..last.inputs]), &mut output);
    output.logits
}

/// `sums + weight . input`, ascending.
#[inline(always)]
fn chain<S: Simd, I: Input<S>>(s: S, weight: &[f32], input: I, sums: S::V) -> S::V {
    let mut sums = sums;
    for k in 0..weight.len().min(input.len()) {
        if I::ASKS {
            input.ask(s, k);
        }
        sums = s.fma(s.splat(weight[k]), input.at(s, k), sums);
    }
    sums
}

/// The logits of some users and the items of a panel of tiles: which of them reach a threshold.
pub(crate) struct Scan<'a> {
    pub(crate) network: &'a Network,
    pub(crate) tiles: &'a [Lanes],
    /// The tiles that will be read after these: fetched from memory meanwhile.
    pub(crate) ahead: &'a [Lanes],
    /// The users: first-layer features and GMF features.
    pub(crate) users: &'a [(&'a [f32], &'a [f32])],
    pub(crate) scratch: &'a mut Scratch,
    /// One for each user.
    pub(crate) hits: &'a mut [Hits],
}

/// Tiles whose chains run side by side: a single chain would wait for each multiply-add to finish.
const SIDE_BY_SIDE: usize = 4;

/// Users that share the reading of a tile where it is read for few multiply-adds, and where the registers hold all chains.
const TOGETHER: usize = 4;

/// From so many users on, each asks for a few of the lines that are read later.
const MANY: usize = 8;

impl Kernel for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (users, tile_len) = (self.users.len(), self.network.tile_len());
        let (share, mut user) = if users >= MANY {
            (tile_len.div_ceil(users), 0)
        } else if self.ahead.is_empty() {
            (0, 0)
        } else {
            (0, self.some_users::<S, true>(s, 0, 0))
        };
        while user < users {
            user = self.some_users::<S, false>(s, user, share);
        }
    }
}

impl Scan<'_> {
    /// User `user` and, where they share the reading of tiles, the next; returns who comes then. With `AHEAD` they ask for all that is
    /// read later, line by line, else for `share` lines of a tile at once.
    #[inline(always)]
    fn some_users<S: Simd, const AHEAD: bool>(&mut self, s: S, user: usize, share: usize) -> usize {
        let together = TOGETHER * SIDE_BY_SIDE <= S::BLOCK && self.network.layers.is_empty();
        if together && user + TOGETHER <= self.users.len() {
            self.all_tiles::<S, AHEAD, TOGETHER>(s, user, share);
            user + TOGETHER
        } else {
            self.all_tiles::<S, AHEAD, 1>(s, user, share);
            user + 1
        }
    }

    /// Users `user..user + U` and all tiles.
    #[inline(always)]
    fn all_tiles<S: Simd, const AHEAD: bool, const U: usize>(&mut self, s: S, user: usize, share: usize) {
        let tiles = self.tiles.len() / self.network.tile_len();
        let whole = tiles - tiles % SIDE_BY_SIDE;
        for tile in (0..whole).step_by(SIDE_BY_SIDE) {
            self.some_tiles::<S, AHEAD, U, SIDE_BY_SIDE>(s, user, share, tile);
        }
        for tile in whole..tiles {
            self.some_tiles::<S, AHEAD, U, 1>(s, user, share, tile);
        }
    }

    /// Of these, tiles `tile..tile + T`. `U` is 1 where layers follow the first.
    #[inline(always)]
    fn some_tiles<S: Simd, const AHEAD: bool, const U: usize, const T: usize>(
        &mut self,
        s: S,
        user: usize,
        share: usize,
        tile: usize,
    ) {
        let Scan { network, scratch, .. } = self;
        let (h0, tile_len) = (network.h0, network.tile_len());
        for t in 0..T {
            for line in user * share..tile_len.min((user + U) * share) {
                prefetch(s, self.ahead, (tile + t) * tile_len + line);
            }
        }
        let (mut b, mut g) = ([&[][..]; U], [&[][..]; U]);
        for u in 0..U {
            (b[u], g[u]) = self.users[user + u];
        }
        let (mut items, mut ahead) = ([self.tiles; T], [&[][..]; T]);
        for t in 0..T {
            let at = (tile + t) * tile_len;
            items[t] = &self.tiles[at..][..tile_len];
            if AHEAD {
                ahead[t] = self.ahead.get(at..at + tile_len).unwrap_or_default();
            }
        }

        let mut logits = [[s.splat(network.output_bias); T]; U];
        for j in 0..network.g {
            let mut q = [s.splat(0.0); T];
            for t in 0..T {
                q[t] = s.load(&items[t][h0 + j]);
            }
            for u in 0..U {
                let g = s.splat(g[u][j]);
                for t in 0..T {
                    logits[u][t] = s.fma(g, q[t], logits[u][t]);
                }
            }
        }
        if network.layers.is_empty() {
            for t in 0..T {
                prefetch_all(s, ahead[t].get(h0..).unwrap_or_default());
            }
            for k in 0..h0 {
                let w = s.splat(network.output_weight[k]);
                let mut a = [w; T];
                for t in 0..T {
                    prefetch(s, ahead[t], k);
                    a[t] = s.load(&items[t][k]);
                }
                for u in 0..U {
                    let b = s.splat(b[u][k]);
                    for t in 0..T {
                        logits[u][t] = s.fma(w, s.relu(s.add(a[t], b)), logits[u][t]);
                    }
                }
            }
        } else if U == 1 {
            for t in 0..T {
                prefetch_all(s, ahead[t].get(h0..).unwrap_or_default());
                let first_layer = FirstLayer::<AHEAD> { items: &items[t][..h0], user: b[0], ahead: ahead[t] };
                logits[0][t] = hidden(s, network, first_layer, logits[0][t], scratch);
            }
        }
        for u in 0..U {
            let hits = &mut self.hits[user + u];
            for t in 0..T {
                hits.look(s, tile + t, s.add(logits[u][t], s.splat(0.0)));
            }
        }
    }
}

/// One layer without activation, for sixteen embeddings side by side: how a table is projected when a model is loaded.
pub(crate) struct Project<'a> {
    pub(crate) layer: &'a Packed,
    /// One for each input feature.
    pub(crate) input: &'a [Lanes],
    /// One for each output feature.
    pub(crate) output: &'a mut [Lanes],
}

impl Kernel for Project<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        layer(s, self.layer, Stored(self.input), &mut Sums(self.output));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::simd::Portable;
    use super::*;

    /// Inputs of zero that count how often each was asked for.
    #[derive(Clone, Copy)]
    struct Counting<'a>(&'a RefCell<Vec<usize>>);

    impl<S: Simd> Input<S> for Counting<'_> {
        fn len(self) -> usize {
            self.0.borrow().len()
        }

        fn at(self, s: S, _k: usize) -> S::V {
            s.splat(0.0)
        }

        const ASKS: bool = true;

        fn ask(self, _s: S, k: usize) {
            self.0.borrow_mut()[k] += 1;
        }
    }

    #[test]
    fn each_line_is_asked_for_once_whatever_the_layers() {
        for inputs in [1, 7, 15, 16, 17, 40, 130] {
            for outputs in (0..40).chain([97, 200]) {
                let s = Portable::<false>;
                let layer = || Packed::new(inputs, &vec![0.0; outputs], Portable::<false>::BLOCK, |_, _| 0.0);
                let layers: Vec<Packed> = (outputs > 0).then(layer).into_iter().collect();
                let output_weight = vec![0.0; layers.first().map_or(inputs, |layer| layer.outputs)];
                let network = Network { h0: inputs, g: 0, layers, output_weight, output_bias: 0.0 };
                let (asked, mut scratch) = (RefCell::new(vec![0; inputs]), Scratch::default());
                scratch.fit(&network);
                hidden(s, &network, Counting(&asked), s.splat(0.0), &mut scratch);
                assert_eq!(asked.into_inner(), vec![1; inputs], "{inputs} inputs, {outputs} outputs");
            }
        }
    }
}
