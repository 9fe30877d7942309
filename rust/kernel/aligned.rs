//! A buffer of lanes that starts on a cache line.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use super::{LANES, Lanes};
use crate::error::{Error, Result, filled};

const CACHE_LINE: usize = 64;

/// Bytes from which a buffer is worth pages of its own: the size of a huge one.
const LARGE: usize = 2 << 20;

/// Some [`Lanes`], each on a cache line of its own. Large ones lie in huge pages where the system has them: reading rows here and
/// there would else spend its time looking up addresses.
#[derive(Debug)]
pub(crate) struct Aligned {
    memory: Memory,
    /// The first float that is used.
    start: usize,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    Small(Vec<f32>),
    Large(MmapMut),
}

impl Aligned {
    /// `len` lanes of zeros; large ones take memory when they are first written.
    ///
    /// # Errors
    /// [`Error::Memory`] that names `what` they were for.
    pub(crate) fn zeros(what: &str, len: usize) -> Result<Self> {
        let bytes = len.saturating_mul(size_of::<Lanes>());
        if bytes < LARGE {
            let floats = filled(what, (len + 1) * LANES, 0.0)?;
            // The vector is not moved or grown any more, so what is aligned now stays aligned.
            let start = floats.as_ptr().align_offset(CACHE_LINE).min(LANES);
            return Ok(Aligned { memory: Memory::Small(floats), start, len });
        }
        let pages = MmapMut::map_anon(bytes);
        let pages = pages.map_err(|_| Error::Memory(format!("{what}: cannot reserve {bytes} bytes")))?;
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage); // where it is refused, small pages do
        Ok(Aligned { memory: Memory::Large(pages), start: 0, len })
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
