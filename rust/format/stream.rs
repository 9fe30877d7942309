//! Reads a file once, sequentially, through a small buffer; hashes it on the way, and can be interrupted.

use std::io::{ErrorKind, Read};

use half::{bf16, f16, slice::HalfFloatSliceExt};
use sha2::{Digest, Sha256};

use super::digest;
use super::dtype::Dtype;
use super::interrupts::{Check, Interrupts};
use crate::error::{Error, Result, filled, reserve};

/// Bytes read at a time: they stay in the L2 cache from reading through hashing to converting.
const PIECE: usize = 128 << 10;

/// The bytes of one file, read in order, each once.
pub(super) struct Stream<'a> {
    reader: &'a mut dyn Read,
    length: u64,
    digest: Sha256,
    buffer: Vec<u8>,
    interrupts: Interrupts<'a>,
}

impl<'a> Stream<'a> {
    /// Reads `reader`, which holds `length` bytes.
    pub(super) fn new(reader: &'a mut dyn Read, length: u64, check: &'a mut Check<'a>) -> Self {
        Stream { reader, length, digest: Sha256::new(), buffer: Vec::new(), interrupts: Interrupts::new(check) }
    }

    /// The length of the whole file in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The next `count` bytes; the caller must have checked `count` against the length of the file.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&[u8]> {
        if self.buffer.len() < count {
            self.buffer = filled("read buffer", count.max(PIECE), 0)?;
        }
        let mut done = 0;
        while done < count {
            self.poll()?;
            match self.reader.read(&mut self.buffer[done..count.min(done + PIECE)]) {
                Ok(0) => {
                    return Err(Error::Format(format!(
                        "the file ends early: it was {} bytes long when opened, and was truncated while being read",
                        self.length
                    )));
                }
                Ok(read) => {
                    done += read;
                    self.interrupts.count(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => self.interrupts.hasten(),
                Err(source) => return Err(Error::Io { doing: "cannot read".to_owned(), source }),
            }
        }
        let bytes = &self.buffer[..count];
        self.digest.update(bytes);
        Ok(bytes)
    }

    /// The next `count` bytes, as by [`Stream::bytes`], with the interrupt check for what is done with them.
    pub(super) fn bytes_and_interrupts(&mut self, count: usize) -> Result<(&[u8], &mut Interrupts<'a>)> {
        self.bytes(count)?;
        Ok((&self.buffer[..count], &mut self.interrupts))
    }

    /// Starts the digest again: with `prefix`, then the last `count` bytes read, in which `own`, the file's own digest,
    /// is blank.
    pub(super) fn blank_in_digest(&mut self, prefix: &[u8], count: usize, own: &str) -> Result<()> {
        self.digest = Sha256::new_with_prefix(prefix);
        digest::update_with_blank(&mut self.digest, &self.buffer[..count], own)
    }

    /// SHA-256, in hexadecimal, of all bytes read.
    pub(super) fn digest(&mut self) -> String {
        digest::hexadecimal(self.digest.finalize_reset())
    }

    /// Reads the next `out.len()` elements of a floating-point tensor, widened (exactly) to float32.
    pub(super) fn floats(&mut self, dtype: Dtype, out: &mut [f32]) -> Result<()> {
        for out in out.chunks_mut(PIECE / size_of::<f32>()) {
            let bytes = self.bytes(out.len() * dtype.size())?;
            match dtype {
                Dtype::F32 => {
                    let (values, _) = bytes.as_chunks();
                    out.iter_mut().zip(values).for_each(|(out, value)| *out = f32::from_le_bytes(*value));
                }
                Dtype::F16 => widen(bytes, out, f16::from_le_bytes, |half, out| half.convert_to_f32_slice(out)),
                Dtype::Bf16 => widen(bytes, out, bf16::from_le_bytes, |half, out| half.convert_to_f32_slice(out)),
                Dtype::F64 | Dtype::I64 | Dtype::I32 | Dtype::U8 => {
                    return Err(Error::Internal(format!("{dtype:?} read as float32")));
                }
            }
        }
        Ok(())
    }

    /// Reads the next `count` elements of `N` bytes each into a vector.
    pub(super) fn collect<const N: usize, T>(
        &mut self,
        what: &str,
        count: usize,
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        let mut elements = reserve(what, count)?;
        while elements.len() < count {
            let piece = (count - elements.len()).min(PIECE / N);
            let (values, _) = self.bytes(piece * N)?.as_chunks();
            elements.extend(values.iter().map(|value| convert(*value)));
        }
        Ok(elements)
    }

    /// Reports `bytes` of work other than reading, and calls the interrupt check if it is due.
    pub(super) fn worked(&mut self, bytes: usize) -> Result<()> {
        self.interrupts.count(bytes);
        if self.interrupts.due_by_bytes() { self.poll() } else { Ok(()) }
    }

    /// Calls the interrupt check if it is due.
    pub(super) fn poll(&mut self) -> Result<()> {
        self.interrupts.poll()
    }
}

/// Widens little-endian 16-bit floats, in batches on the stack, so that the conversion is vectorised.
fn widen<H: Copy + Default>(bytes: &[u8], out: &mut [f32], from: fn([u8; 2]) -> H, convert: impl Fn(&[H], &mut [f32])) {
    let mut stack = [H::default(); 1024];
    let (bytes, _) = bytes.as_chunks();
    for (bytes, out) in bytes.chunks(stack.len()).zip(out.chunks_mut(stack.len())) {
        let halves = &mut stack[..bytes.len()];
        halves.iter_mut().zip(bytes).for_each(|(half, bytes)| *half = from(*bytes));
        convert(halves, out);
    }
}
