//! Divides a call over the catalogue into tasks.

use std::ops::Range;

use crate::csr::Csr;
use crate::engine::catalogue::Tiles;
use crate::pool::Call;
use crate::scan::{Query, USERS_PER_BLOCK};

/// The minimum tiles (or listed items) in a part of the catalogue.
const MIN_PART_LEN: usize = 64;

/// In a quantized scan, the minimum items in a part for each item wanted: with fewer, most items survive and are
/// rescored.
const MIN_ITEMS_PER_WANTED: usize = 8;

/// The tasks of a call: blocks of rows, and if there are few rows, parts of the catalogue.
pub(super) struct Plan<'a> {
    pub(super) call: Call<'a>,
    rows: usize,
    /// Rows in a block.
    pub(super) block: usize,
    /// The number of parts of the catalogue.
    pub(super) parts: usize,
    /// Tiles (or listed items) in a part.
    part_len: usize,
    /// Tiles (or listed items) in total.
    len: usize,
}

impl Plan<'_> {
    /// The rows and the part of the catalogue of a task. Tasks are ordered by block, so the outputs of a block are
    /// contiguous.
    pub(super) fn task(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (block, part) = (task / self.parts, task % self.parts);
        let (row, at) = (block * self.block, part * self.part_len);
        (row..self.rows.min(row + self.block), at..self.len.min(at + self.part_len))
    }

    /// The number of outputs of all tasks; the last block counts as a full one.
    pub(super) fn outputs(&self) -> usize {
        self.rows.next_multiple_of(self.block) * self.parts
    }

    /// The positions of a row's outputs, one for each part.
    pub(super) fn outputs_of(&self, row: usize) -> impl Iterator<Item = usize> {
        let (block, within) = (row / self.block, row % self.block);
        (0..self.parts).map(move |part| (block * self.parts + part) * self.block + within)
    }
}

impl Query<'_> {
    pub(super) fn plan<'c>(&self, call: Call<'c>, outputs: usize) -> Plan<'c> {
        let (rows, len) = (self.users.len(), self.len);
        let pairs = self.filter.candidates.map_or(rows.saturating_mul(self.max_items()), Csr::len);
        let call = self.engine.limit_threads(call, pairs);
        // Several tasks per thread balance the load. But each part of the catalogue costs every row a selection of its
        // own, so split the catalogue only if there are few blocks, and not into short parts.
        let block = rows.div_ceil(call.threads).clamp(1, USERS_PER_BLOCK);
        let blocks = rows.div_ceil(block).max(1);
        let wanted =
            if call.threads == 1 || blocks >= 2 * call.threads { 1 } else { (8 * call.threads).div_ceil(blocks) };
        let mut max_parts = len.div_ceil(MIN_PART_LEN).min(len * self.width / outputs);
        if !matches!(*self.engine.catalogue.tiles, Tiles::Float32(_)) {
            max_parts = max_parts.min((len * self.width / (MIN_ITEMS_PER_WANTED * outputs)).max(call.threads));
        }
        let part_len = len.div_ceil(wanted.min(max_parts).max(1)).max(1);
        Plan { call, rows, block, parts: len.div_ceil(part_len).max(1), part_len, len }
    }
}
