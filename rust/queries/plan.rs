//! How a call over the catalogue is divided into tasks.

use std::ops::Range;

use crate::csr::Csr;
use crate::engine::catalogue::Tiles;
use crate::pool::Call;
use crate::scan::{Query, USERS_PER_BLOCK};

/// Tiles (or listed items) in the shortest part of the catalogue that is worth a task.
const SHORTEST_PART: usize = 64;

/// Where the scan is quantized, a part of the catalogue has at least so many times the items that are wanted: its survivors are scored once
/// more.
const SPARSE: usize = 8;

/// How a call is divided into tasks: blocks of rows, and where there are few rows, parts of the catalogue.
pub(super) struct Plan<'a> {
    pub(super) call: Call<'a>,
    rows: usize,
    /// RowTable in a block.
    pub(super) block: usize,
    /// Parts of the catalogue.
    pub(super) parts: usize,
    /// Tiles (or listed items) in a part.
    part_len: usize,
    /// Tiles (or listed items) in all.
    len: usize,
}

impl Plan<'_> {
    /// The rows of a task and its part of the catalogue. Blocks vary slowest, so a block's outputs lie together.
    pub(super) fn task(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (block, part) = (task / self.parts, task % self.parts);
        let (row, at) = (block * self.block, part * self.part_len);
        (row..self.rows.min(row + self.block), at..self.len.min(at + self.part_len))
    }

    /// How many outputs all tasks have: the last block counts as a whole one.
    pub(super) fn outputs(&self) -> usize {
        self.rows.next_multiple_of(self.block) * self.parts
    }

    /// Where the outputs of a row lie, one for each part.
    pub(super) fn outputs_of(&self, row: usize) -> impl Iterator<Item = usize> {
        let (block, within) = (row / self.block, row % self.block);
        (0..self.parts).map(move |part| (block * self.parts + part) * self.block + within)
    }
}

impl Query<'_> {
    pub(super) fn plan<'c>(&self, call: Call<'c>, outputs: usize) -> Plan<'c> {
        let (rows, len) = (self.users.len(), self.len);
        let pairs = self.filter.candidates.map_or(rows.saturating_mul(self.most()), Csr::len);
        let call = self.engine.sized(call, pairs);
        // Several tasks for each thread even out what else the machine does; but every part of the catalogue costs each row a
        // selection of its own, so there are parts only where there are few blocks, and none is short.
        let block = rows.div_ceil(call.threads).clamp(1, USERS_PER_BLOCK);
        let blocks = rows.div_ceil(block).max(1);
        let enough =
            if call.threads == 1 || blocks >= 2 * call.threads { 1 } else { (8 * call.threads).div_ceil(blocks) };
        let mut most = len.div_ceil(SHORTEST_PART).min(len * self.width / outputs);
        if matches!(self.engine.catalogue.tiles, Tiles::Quantized(_)) {
            most = most.min((len * self.width / (SPARSE * outputs)).max(call.threads)); // quantized scans pay where few items are wanted
        }
        let part_len = len.div_ceil(enough.min(most).max(1)).max(1);
        Plan { call, rows, block, parts: len.div_ceil(part_len).max(1), part_len, len }
    }
}
