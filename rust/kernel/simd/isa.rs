//! Dispatch: chooses the instruction set once, at load, automatically or by name.

use std::{fmt, str::FromStr};

use super::float_env::StandardFloats;
use super::portable::Portable;
use super::{IntegerKernel, IntegerSimd, Kernel, Simd};
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};
use crate::error::{Error, Result};

/// An instruction set that this CPU supports.
#[derive(Clone, Copy, Debug)]
pub struct Isa(Choice);

#[derive(Clone, Copy, Debug)]
enum Choice {
    Portable(Portable<false>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<false>),
    #[cfg(target_arch = "aarch64")]
    Neon(Portable<true>),
}

impl Isa {
    /// The names of all instruction sets, supported here or not.
    pub const NAMES: [&str; 4] = ["portable", "avx2", "avx512", "neon"];

    /// The instruction sets that this CPU supports, the fastest first.
    pub fn supported() -> Vec<Isa> {
        let found = [
            #[cfg(target_arch = "x86_64")]
            Avx512::<false>::detect().map(Choice::Avx512),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Choice::Avx2),
            #[cfg(target_arch = "aarch64")]
            Some(Choice::Neon(Portable)),
            Some(Choice::Portable(Portable)),
        ];
        found.into_iter().flatten().map(Isa).collect()
    }

    /// The processor features that determine the supported instruction sets, and others that may matter later, each
    /// with whether this CPU has it.
    pub fn cpu_features() -> Vec<(&'static str, bool)> {
        #[cfg(target_arch = "x86_64")]
        macro_rules! features {
            ($($name:tt)*) => { vec![$(($name, std::arch::is_x86_feature_detected!($name))),*] };
        }
        #[cfg(target_arch = "x86_64")]
        return features!("sse4.2" "avx" "fma" "f16c" "avx2" "avxvnni" "avx512f" "avx512bw" "avx512vnni" "avx512bf16");
        #[cfg(target_arch = "aarch64")]
        return vec![("neon", true), ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod"))];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Vec::new()
    }

    /// The instruction set called `name`, else the one named by the environment variable `NEURALCF_ISA`, else the
    /// fastest.
    ///
    /// # Errors
    /// [`Error::Argument`] if the name is unknown or this CPU does not support the instruction set.
    pub fn choose(name: Option<&str>) -> Result<Isa> {
        if let Some(name) = name {
            return parse("isa", name);
        }
        match std::env::var("NEURALCF_ISA") {
            Ok(name) if !name.is_empty() => parse("environment variable NEURALCF_ISA", &name),
            _ => Ok(Isa::supported()[0]),
        }
    }

    /// `portable`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Choice::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Choice::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Choice::Neon(_) => "neon",
        }
    }

    /// The largest block of outputs whose sums fit into the registers.
    pub(crate) fn block(self) -> usize {
        fn block_of<S: Simd>(_: S) -> usize {
            S::BLOCK
        }
        match self.0 {
            Choice::Portable(s) => block_of(s),
            #[cfg(target_arch = "x86_64")]
            Choice::Avx2(s) => block_of(s),
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512(s) => block_of(s),
            #[cfg(target_arch = "aarch64")]
            Choice::Neon(s) => block_of(s),
        }
    }

    /// Runs `kernel` with this instruction set and the standard floating-point settings.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        let _settings = StandardFloats::enter();
        match self.0 {
            Choice::Portable(s) => s.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Choice::Avx2(s) => s.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512(s) => s.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Choice::Neon(s) => s.run(kernel),
        }
    }
}

/// The integer operations of an instruction set; a type of its own, because they may need further processor features.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegerIsa(IntegerChoice);

#[derive(Clone, Copy, Debug)]
enum IntegerChoice {
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<false>),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512<true>),
}

/// The cost of a multiply-add of each width, in float32 multiply-adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntegerCosts {
    pub(crate) int16: f64,
    pub(crate) int8: f64,
}

impl IntegerIsa {
    /// The integer operations of `isa`, the fastest first; none if integers would not be faster than float32.
    pub(crate) fn of(isa: Isa) -> Vec<Self> {
        match isa.0 {
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512(s) => {
                let vnni = Avx512::<true>::detect().map(IntegerChoice::Avx512Vnni);
                vnni.into_iter().chain([IntegerChoice::Avx512(s)]).map(IntegerIsa).collect()
            }
            #[cfg(target_arch = "x86_64")]
            Choice::Avx2(s) => vec![IntegerIsa(IntegerChoice::Avx2(s))],
            _ => Vec::new(),
        }
    }

    /// Whether int8 products are faster than int16 products.
    pub(crate) fn prefers_int8(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx512(_) => false,
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx2(_) | IntegerChoice::Avx512Vnni(_) => true,
        }
    }

    /// What multiply-adds of these integers cost, counted in instructions.
    pub(crate) fn costs(self) -> IntegerCosts {
        match self.0 {
            // Two products an instruction that takes one of the two multipliers (`vpmaddwd`), and an addition that
            // competes with it; four products take two multiplications (`vpmaddubsw`, `vpmaddwd`) and an addition.
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx2(_) => IntegerCosts { int16: 2.0 / 3.0, int8: 0.5 },
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx512(_) | IntegerChoice::Avx512Vnni(_) => IntegerCosts { int16: 0.5, int8: 0.25 },
        }
    }

    /// The largest uint8 that products of int8 take.
    pub(crate) fn max_byte(self) -> u8 {
        #[cfg(target_arch = "x86_64")]
        fn max_byte_of<S: IntegerSimd>(_: S) -> u8 {
            S::MAX_BYTE
        }
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx2(s) => max_byte_of(s),
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx512(s) => max_byte_of(s),
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx512Vnni(s) => max_byte_of(s),
        }
    }

    /// The largest block of outputs whose sums fit into the registers.
    pub(crate) fn block(self) -> usize {
        #[cfg(target_arch = "x86_64")]
        fn block_of<S: IntegerSimd>(_: S) -> usize {
            S::SUMS
        }
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx2(s) => block_of(s),
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx512(s) => block_of(s),
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx512Vnni(s) => block_of(s),
        }
    }

    /// Runs `kernel` with these operations and the standard floating-point settings.
    #[inline]
    pub(crate) fn run<K: IntegerKernel>(self, kernel: K) -> K::Output {
        let _settings = StandardFloats::enter();
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx2(s) => s.run_integers(kernel),
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx512(s) => s.run_integers(kernel),
            #[cfg(target_arch = "x86_64")]
            IntegerChoice::Avx512Vnni(s) => s.run_integers(kernel),
        }
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Isa> {
        parse("isa", name)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn parse(what: &str, name: &str) -> Result<Isa> {
    let supported = Isa::supported();
    if let Some(&isa) = supported.iter().find(|isa| isa.name() == name) {
        return Ok(isa);
    }
    let have: Vec<_> = supported.iter().map(|isa| isa.name()).collect();
    Err(Error::Argument(if Isa::NAMES.contains(&name) {
        format!("{what}: this CPU does not support {name:?}; it supports {}", have.join(", "))
    } else {
        format!("{what}: expected one of {}; got {name:?}", Isa::NAMES.join(", "))
    }))
}
