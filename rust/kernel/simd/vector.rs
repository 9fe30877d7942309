//! The operations that the kernels need, as narrow traits, which one file per instruction set implements.

use crate::kernel::{LANES, Lanes};

/// The operations that the arithmetic needs, on vectors of [`LANES`] float32 values.
///
/// Every operation is exact or rounds once, to nearest, ties to even, so all instruction sets compute the same bits.
pub(crate) trait Simd: Copy {
    /// Sixteen float32 values in registers.
    type V: Copy;

    /// How many accumulators of type `V` fit into the registers besides the operands: the largest block of outputs.
    const BLOCK: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Loads sixteen values.
    fn load(self, from: &Lanes) -> Self::V;
    /// Loads the first eight values of `low` into the lower eight lanes, and the first eight of `high` into the upper
    /// eight.
    fn load_lower_halves(self, low: &Lanes, high: &Lanes) -> Self::V;
    /// Stores sixteen values.
    fn store(self, v: Self::V, to: &mut Lanes);
    /// `a + b`, rounded once.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `z > 0 ? z : 0`; the zero is positive. `z` is never a NaN.
    fn relu(self, z: Self::V) -> Self::V;
    /// Bit `l` is set if `a[l] >= b[l]`.
    fn at_least(self, a: Self::V, b: Self::V) -> u16;
    /// Lane `l` of vector `n` becomes lane `n` of vector `l`.
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES];
    /// Prefetches `lines[at]`, if it exists, into the L2 cache.
    fn prefetch(self, lines: &[Lanes], at: usize);
    /// Runs `kernel`, compiled for this instruction set.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;
}

/// Work that is generic over the instruction set. `run` must be `#[inline(always)]`: it is compiled into the function
/// that enables the instructions.
pub(crate) trait Kernel {
    /// The result.
    type Output;
    /// Runs with the operations of `s`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// The additional operations of the quantized scan, on lanes that hold a word of two int16 or four 8-bit values, or one
/// int32. They are exact, so all instruction sets compute the same bits.
pub(crate) trait IntegerSimd: Simd {
    /// Sixteen words.
    type Words: Copy;
    /// Sixteen int32.
    type Sums: Copy;
    /// Short sums of products of bytes: int16 for every other pair of bytes if that is faster, else as `Sums`.
    type ShortSums: Copy;

    /// As [`Simd::BLOCK`], for accumulators of type `Sums`.
    const SUMS: usize;
    /// The largest uint8 that [`IntegerSimd::dot_i8`] takes: 127 where the products of two bytes are added in int16,
    /// which larger ones would overflow.
    const MAX_BYTE: u8;

    /// `word` in every lane; its first value is in the lowest bits.
    fn splat_word(self, word: u32) -> Self::Words;
    /// Loads sixteen words, stored in the bits of float32 values.
    fn load_words(self, from: &Lanes) -> Self::Words;
    /// Stores sixteen words, in the bits of float32 values.
    fn store_words(self, words: Self::Words, to: &mut Lanes);
    /// Loads sixteen half-precision values from each half of a line; they are stored in the bits of float32 values.
    fn load_f16(self, from: &Lanes) -> [Self::V; 2];
    /// Loads sixteen bfloat16 values from the upper and from the lower halves of the words of a line.
    fn load_bf16(self, from: &Lanes) -> [Self::V; 2];
    /// The lower and the upper four bits of each byte, as bytes.
    fn nibbles(self, words: Self::Words) -> [Self::Words; 2];
    /// The upper seven bits of bytes whose upper and lower four bits are nibbles of `upper` and `lower`: of the bytes
    /// of the lower nibbles, and of those of the upper nibbles.
    fn seven_bits(self, upper: Self::Words, lower: Self::Words) -> [Self::Words; 2];
    /// Of int16: `max(a + b, 0)`; the addition saturates.
    fn add_relu(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Of uint8: `max(a - b, 0)`.
    fn subtract_relu(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Zero in every lane.
    fn zero_sums(self) -> Self::Sums;
    /// Of int16: `sums + a[0] * b[0] + a[1] * b[1]` modulo 2^32.
    fn dot_i16(self, a: Self::Words, b: Self::Words, sums: Self::Sums) -> Self::Sums;
    /// Of int8 and uint8, the latter at most [`IntegerSimd::MAX_BYTE`]: `sums + a[0] * b[0] + ... + a[3] * b[3]` modulo
    /// 2^32.
    fn dot_i8(self, a: Self::Words, b: Self::Words, sums: Self::Sums) -> Self::Sums;
    /// Zero in every lane.
    fn zero_short_sums(self) -> Self::ShortSums;
    /// Of uint8 and int8: adds `a[0] * b[0] + a[1] * b[1]` and `a[2] * b[2] + a[3] * b[3]`. Each of the two must lie
    /// within int16, and so must their sums by the time of [`IntegerSimd::widen`]; before, they may overflow.
    fn dot_u8(self, a: Self::Words, b: Self::Words, sums: Self::ShortSums) -> Self::ShortSums;
    /// Adds short sums to `sums`.
    fn widen(self, short: Self::ShortSums, sums: Self::Sums) -> Self::Sums;
    /// The sums as float32, rounded once.
    fn to_floats(self, sums: Self::Sums) -> Self::V;
    /// Runs `kernel`, compiled for this instruction set.
    fn run_integers<K: IntegerKernel>(self, kernel: K) -> K::Output;
}

/// As [`Kernel`], for work that needs integer operations.
pub(crate) trait IntegerKernel {
    /// The result.
    type Output;
    /// Runs with the operations of `s`.
    fn run<S: IntegerSimd>(self, s: S) -> Self::Output;
}
