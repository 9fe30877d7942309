//! A buffer of lanes that starts on a cache line.

use std::ops::{Deref, DerefMut};

use super::{LANES, Lanes};

const CACHE_LINE: usize = 64;

/// Some [`Lanes`], each on a cache line of its own.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// How many floats hold `len` lanes, wherever they begin.
    pub(crate) fn room_for(len: usize) -> usize {
        len.saturating_mul(LANES).saturating_add(LANES)
    }

    /// As many lanes as `buffer` has room for.
    pub(crate) fn within(buffer: Vec<f32>) -> Self {
        // The buffer is not moved or grown any more, so what is aligned now stays aligned.
        let start = buffer.as_ptr().align_offset(CACHE_LINE).min(LANES);
        let len = (buffer.len() / LANES).saturating_sub(1);
        Aligned { buffer, start, len }
    }

    pub(crate) fn nbytes(&self) -> usize {
        size_of_val(&self.buffer[..])
    }
}

impl Deref for Aligned {
    type Target = [Lanes];

    fn deref(&self) -> &[Lanes] {
        &self.buffer[self.start..].as_chunks().0[..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [Lanes] {
        &mut self.buffer[self.start..].as_chunks_mut().0[..self.len]
    }
}
