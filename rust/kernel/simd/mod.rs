//! The waist: the traits in [`vector`] are all that the kernels know of an instruction set, one file for each implements them.
//!
//! A value that implements [`Simd`] is the proof that the CPU has its instructions: the only constructors are `detect` functions that
//! return an `Option`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float_env;
mod isa;
mod portable;
mod vector;

pub(crate) use float_env::StandardFloats;
pub(crate) use isa::IntegerIsa;
pub use isa::Isa;
#[cfg(test)]
pub(crate) use portable::Portable;
pub(crate) use vector::{IntegerKernel, IntegerSimd, Kernel, Simd};
