//! A network's weights, packed in the order that the kernels read them.

use std::cell::Cell;

use super::{LANES, Lanes};
use crate::error::{Result, collected, filled, reserve};

/// A layer's weights in the order that the kernels read them: block by block of outputs; within a block, input by
/// input, one weight per output of the block.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(super) block: usize,
    /// The prefetches of the first block.
    pub(super) prefetch_share: PrefetchShare,
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// Inputs of a layer between two bursts of prefetches. Bursts are short, because a core can have only a few lines in
/// flight. There is not one prefetch per input, because a branch in the innermost loop costs registers.
pub(super) const PREFETCH_INTERVAL: usize = 16;

/// The inputs at which a block of outputs prefetches. Every block reads all inputs of a layer, so the blocks share the
/// prefetches: each line is prefetched once, at an even rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrefetchShare {
    block: usize,
    pub(super) stride: usize,
}

impl PrefetchShare {
    /// The share of the first of `blocks` blocks.
    fn for_blocks(blocks: usize) -> Self {
        PrefetchShare { block: 0, stride: blocks.min(PREFETCH_INTERVAL) }
    }

    /// The share of the next block. Blocks after the first `stride` prefetch nothing.
    #[inline(always)]
    pub(super) fn next(self) -> Self {
        PrefetchShare { block: self.block + 1, ..self }
    }

    /// The first input at which the block prefetches, from input `from` on; the others follow at intervals of `stride`.
    #[inline(always)]
    pub(super) fn first(self, from: usize) -> usize {
        if self.block < self.stride { from + self.block } else { usize::MAX }
    }
}

impl Packed {
    /// Packs `weight(output, input)` and `bias` in blocks of at most `max_block` outputs.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn new(
        inputs: usize,
        bias: &[f32],
        max_block: usize,
        weight: impl Fn(usize, usize) -> f32,
    ) -> Result<Self> {
        let outputs = bias.len();
        let block = block_size(outputs, max_block);
        let mut packed = reserve("packed weights", inputs * outputs)?;
        for first in (0..outputs).step_by(block) {
            for k in 0..inputs {
                packed.extend((first..outputs.min(first + block)).map(|o| weight(o, k)));
            }
        }
        let prefetch_share = PrefetchShare::for_blocks(outputs.div_ceil(block));
        let bias = collected("packed weights", bias.iter().copied())?;
        Ok(Packed { inputs, outputs, block, prefetch_share, weight: packed, bias })
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

/// A layer's weights, sixteen outputs side by side: block by block of vectors of outputs; within a block, input by
/// input. The last vector is padded with zeros.
#[derive(Debug)]
pub(crate) struct OutputLanes {
    pub(super) inputs: usize,
    /// Vectors of outputs in a block.
    pub(super) block: usize,
    pub(super) weight: Vec<Lanes>,
    pub(super) bias: Vec<Lanes>,
}

impl OutputLanes {
    /// The vectors of a block: as many sums hide the latency of a multiply-add.
    const BLOCK: usize = 4;

    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn new(layer: &Packed) -> Result<Self> {
        let vectors = layer.outputs.div_ceil(LANES);
        let lanes = |vector: usize, of: &dyn Fn(usize) -> f32| -> Lanes {
            std::array::from_fn(|l| Some(vector * LANES + l).filter(|&o| o < layer.outputs).map_or(0.0, of))
        };
        let mut weight = reserve("packed weights", vectors * layer.inputs)?;
        for first in (0..vectors).step_by(Self::BLOCK) {
            for k in 0..layer.inputs {
                let block = first..vectors.min(first + Self::BLOCK);
                weight.extend(block.map(|vector| lanes(vector, &|o| layer.weight(o, k))));
            }
        }
        let bias = collected("packed weights", (0..vectors).map(|vector| lanes(vector, &|o| layer.bias[o])))?;
        Ok(OutputLanes { inputs: layer.inputs, block: Self::BLOCK, weight, bias })
    }

    fn nbytes(&self) -> usize {
        size_of_val(&self.weight[..]) + size_of_val(&self.bias[..])
    }
}

/// The block size: as few blocks as hold all outputs, of equal size except the last. But at least two if each still has
/// enough chains to hide the latency of a multiply-add: then the end of one overlaps the start of the next.
pub(super) fn block_size(outputs: usize, max_block: usize) -> usize {
    const MIN_CHAINS: usize = 8; // six hide the latency too, but two blocks of six are no faster than one of twelve
    let min_blocks = if outputs >= 2 * MIN_CHAINS { 2 } else { 1 };
    outputs.div_ceil(outputs.div_ceil(max_block).max(min_blocks))
}

/// The layers computed for each pair: everything after the two halves of the first layer.
#[derive(Debug)]
pub(crate) struct Network {
    /// Width of the first layer; 0 in a model without an MLP.
    pub(crate) h0: usize,
    /// GMF width; 0 in a model without a GMF block.
    pub(crate) g: usize,
    /// Hidden layers after the first.
    pub(crate) layers: Vec<Packed>,
    /// The same layers for single pairs.
    pub(crate) by_output: Vec<OutputLanes>,
    /// The output layer's weights of the last hidden layer; those of the GMF block are folded into the users.
    pub(crate) output_weight: Vec<f32>,
    pub(crate) output_bias: f32,
}

impl Network {
    /// Length of a float32 tile, in [`Lanes`]: one per feature.
    pub(crate) fn tile_len(&self) -> usize {
        self.h0 + self.g
    }

    /// Multiply-adds for one pair.
    pub(crate) fn multiply_adds(&self) -> usize {
        self.g + self.output_weight.len() + self.layers.iter().map(|layer| layer.inputs * layer.outputs).sum::<usize>()
    }

    /// The most lines that the activations of a layer may take: one for each, or for the last layer's, which are only
    /// stored for single pairs, one for sixteen.
    fn widest(&self) -> usize {
        self.layers.iter().map(|layer| layer.inputs.max(layer.outputs.div_ceil(LANES))).max().unwrap_or(0).max(self.h0)
    }

    pub(crate) fn nbytes(&self) -> usize {
        let by_output: usize = self.by_output.iter().map(OutputLanes::nbytes).sum();
        self.layers.iter().map(Packed::nbytes).sum::<usize>() + by_output + size_of_val(&self.output_weight[..])
    }
}

/// Buffers for the activations of the first layer and of two consecutive layers; they grow as needed and are reused.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(super) first: Vec<Lanes>,
    pub(super) from: Vec<Lanes>,
    pub(super) to: Vec<Lanes>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

impl Scratch {
    /// Lends the thread's scratch buffers, large enough for `network`, to `work`. (They are moved out meanwhile,
    /// because an interrupt check may run code that calls the engine again.)
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn lend<R>(network: &Network, work: impl FnOnce(&mut Scratch) -> R) -> Result<R> {
        let mut scratch = SCRATCH.take();
        scratch.fit(network)?;
        let result = work(&mut scratch);
        SCRATCH.set(scratch);
        Ok(result)
    }

    /// Grows the buffers to fit `network`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(crate) fn fit(&mut self, network: &Network) -> Result<()> {
        let len = network.widest().next_multiple_of(LANES);
        for buffer in [&mut self.first, &mut self.from, &mut self.to] {
            if buffer.len() < len {
                *buffer = filled("activations", len, [0.0; LANES])?;
            }
        }
        Ok(())
    }
}
