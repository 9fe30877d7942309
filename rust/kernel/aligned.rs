//! A cache-aligned buffer of lanes.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use super::{LANES, Lanes};
use crate::error::{Error, Result, filled};

const CACHE_LINE: usize = 64;

/// Buffers of at least a huge page are mapped with pages of their own.
const HUGE_PAGE: usize = 2 << 20;

/// A buffer of [`Lanes`], each on its own cache line. Large buffers use huge pages if available: otherwise TLB misses
/// would dominate random reads of rows.
#[derive(Debug)]
pub(crate) struct Aligned {
    memory: Memory,
    /// The index of the first float on a cache line boundary.
    start: usize,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    Small(Vec<f32>),
    Large(MmapMut),
}

impl Aligned {
    /// `len` lanes of zeros; pages of large buffers are allocated when they are first written.
    ///
    /// # Errors
    /// [`Error::Memory`] naming `what` they were for.
    pub(crate) fn zeros(what: &str, len: usize) -> Result<Self> {
        let bytes = len.saturating_mul(size_of::<Lanes>());
        if bytes < HUGE_PAGE {
            let floats = filled(what, (len + 1) * LANES, 0.0)?;
            // The vector never reallocates, so the alignment lasts.
            let start = floats.as_ptr().align_offset(CACHE_LINE).min(LANES);
            return Ok(Aligned { memory: Memory::Small(floats), start, len });
        }
        let pages = MmapMut::map_anon(bytes);
        let pages = pages.map_err(|_| Error::Memory(format!("{what}: cannot reserve {bytes} bytes")))?;
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage); // only advice: on error, normal pages work too
        Ok(Aligned { memory: Memory::Large(pages), start: 0, len })
    }

    /// A copy.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let mut copy = Aligned::zeros("copy", self.len)?;
        copy.copy_from_slice(self);
        Ok(copy)
    }

    fn floats(&self) -> &[f32] {
        match &self.memory {
            Memory::Small(floats) => floats,
            Memory::Large(pages) => bytemuck::cast_slice(pages),
        }
    }

    pub(crate) fn nbytes(&self) -> usize {
        size_of_val(self.floats())
    }
}

impl Default for Aligned {
    fn default() -> Self {
        Aligned { memory: Memory::Small(Vec::new()), start: 0, len: 0 }
    }
}

impl Deref for Aligned {
    type Target = [Lanes];

    fn deref(&self) -> &[Lanes] {
        &self.floats()[self.start..].as_chunks().0[..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [Lanes] {
        let floats = match &mut self.memory {
            Memory::Small(floats) => &mut floats[..],
            Memory::Large(pages) => bytemuck::cast_slice_mut(pages),
        };
        &mut floats[self.start..].as_chunks_mut().0[..self.len]
    }
}
