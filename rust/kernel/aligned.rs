//! A buffer of lanes that starts on a cache line.

use std::ops::{Deref, DerefMut};

use super::{LANES, Lanes};
use crate::error::{Result, filled};

const CACHE_LINE: usize = 64;

/// `len` [`Lanes`], each on a cache line of its own; zero at first.
#[derive(Debug)]
pub(crate) struct Aligned {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// # Errors
    /// `Error::Memory` that names `what`.
    pub(crate) fn zeros(what: &str, len: usize) -> Result<Self> {
        let floats = len.checked_mul(LANES).and_then(|n| n.checked_add(LANES)).unwrap_or(usize::MAX);
        let buffer = filled(what, floats, 0.0f32)?;
        // The buffer is not moved or grown any more, so what is aligned now stays aligned.
        let start = buffer.as_ptr().align_offset(CACHE_LINE).min(LANES);
        Ok(Aligned { buffer, start, len })
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
