//! The narrow waist: kernels use instruction sets only through the traits in [`vector`], which one file per instruction
//! set implements.
//!
//! A value that implements [`Simd`] proves that the CPU has the instructions: the only constructors are `detect`
//! functions, which return an `Option`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float_env;
mod isa;
mod portable;
mod vector;

pub use float_env::StandardFloats;
pub use isa::Isa;
pub(crate) use isa::{IntegerCosts, IntegerIsa};
#[cfg(test)]
pub(crate) use portable::Portable;
pub(crate) use vector::{IntegerKernel, IntegerSimd, Kernel, Simd};
