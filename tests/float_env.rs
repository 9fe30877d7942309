//! A host program's settings in the floating-point control register change no result, and are still set afterwards.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![allow(unsafe_code, reason = "sets the control register, as a host program may")]

mod common;

use std::arch::asm;
use std::hint::black_box;

use common::{Shape, Tensor, bits, engine, tensors};
use neuralcf::filter::{Allow, Filter, ItemSet};
use neuralcf::{Call, Isa, Scale};

#[cfg(target_arch = "x86_64")]
mod register {
    use super::asm;

    /// Flush-to-zero and denormals-are-zero.
    pub(super) const FLUSH: u64 = 0x8040;
    pub(super) const ROUND_UP: u64 = 0x4000;
    /// All bits but the status flags.
    pub(super) const SETTINGS: u64 = 0xffc0;

    pub(super) fn read() -> u64 {
        let mut value = 0u32;
        // SAFETY: writes four bytes to a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value.into()
    }

    pub(super) fn write(value: u64) {
        let value = value as u32;
        // SAFETY: the value was read from the register, with settings added that the code between two writes does not
        // depend on.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod register {
    use super::asm;

    pub(super) const FLUSH: u64 = 1 << 24;
    pub(super) const ROUND_UP: u64 = 1 << 22;
    pub(super) const SETTINGS: u64 = u64::MAX;

    pub(super) fn read() -> u64 {
        let value;
        // SAFETY: FPCR is readable at every privilege level.
        unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nostack, preserves_flags)) };
        value
    }

    pub(super) fn write(value: u64) {
        // SAFETY: the value was read from the register, with settings added that the code between two writes does not
        // depend on.
        unsafe { asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

/// Runs `work` with `settings` added to those of the thread, and checks that they are still set afterwards.
fn under<R>(settings: u64, work: impl FnOnce() -> R) -> R {
    // Detects the settings: half of the smallest normal number is flushed, or a sum is rounded up.
    let probe = || {
        let half = black_box(f32::MIN_POSITIVE) * black_box(0.5);
        let sum = black_box(1.0) + black_box(1e-30f32);
        black_box([half.to_bits(), sum.to_bits()])
    };
    let (before, standard) = (register::read(), probe());
    register::write(before | settings);
    let changed = probe();
    let result = work();
    let after = register::read();
    register::write(before);
    assert_ne!(changed, standard, "the settings {settings:#x} had no effect");
    assert_eq!(after & register::SETTINGS, (before | settings) & register::SETTINGS, "settings afterwards");
    result
}

/// A model whose products, sums and logits are subnormal or nearly so, large enough for two threads.
fn subnormal() -> Vec<Tensor> {
    let mut tensors = tensors(&Shape::new(3, 2500, 8, (5, 4), &[32, 32, 32]), 7);
    for (name, _, values) in &mut tensors {
        let scale = match name.as_str() {
            name if name.starts_with("gmf") => 1e-19,
            "mlp.user_embedding.weight" | "mlp.item_embedding.weight" | "mlp.layers.0.weight" => 1e-20,
            name if name.ends_with("bias") => 1e-39,
            _ => 1.0,
        };
        values.iter_mut().for_each(|x| *x *= scale);
    }
    tensors
}

/// The results of every method, with the model laid out under the same settings: scores and integers, by name.
fn results(tensors: &[Tensor], isa: Isa, call: Call<'_>) -> Vec<(&'static str, Vec<u32>, Vec<i64>)> {
    let engine = engine(tensors, isa);
    let items: Vec<u32> = (0..2500).collect();
    let few = ItemSet::from_indices("items", &items[..200], items.len()).unwrap();
    let (all, listed) = (Filter::default(), Filter { allow: Some(Allow::Set(&few)), ..Filter::default() });
    let score = |items: &[u32], scale| {
        let user = engine.user(1, items.len()).unwrap();
        bits(&engine.score_batch(&user, &engine.items(items).unwrap(), scale, call).unwrap())
    };
    let top_k = |users, filter| {
        let top = engine.top_k(users, 50, filter, Scale::Logit, call).unwrap();
        (bits(&top.scores), top.ids)
    };
    let (user, five) = (engine.user(1, 1).unwrap(), engine.user(1, 5).unwrap());
    let vectors = engine.project(&engine.user_vectors(&engine.users(&[2, 0]).unwrap()).unwrap(), call).unwrap();
    let (scores, ids) = top_k(&user, &all);
    let (listed_scores, listed_ids) = top_k(&user, &listed);
    let (new_scores, new_ids) = top_k(&vectors.users(), &listed);
    vec![
        ("score_batch", score(&items, Scale::Logit), vec![]),
        ("probabilities", score(&items[..100], Scale::Probability), vec![]),
        ("top_k", scores, ids),
        ("top_k of listed items", listed_scores, listed_ids),
        ("top_k of user vectors", new_scores, new_ids),
        ("rank_of", vec![], engine.rank_of(&five, &engine.items(&items[..5]).unwrap(), &listed, call).unwrap()),
    ]
}

#[test]
fn host_settings_change_no_result_and_are_restored() {
    let tensors = subnormal();
    for isa in Isa::supported() {
        // The pool's worker inherits the first setting when it starts, so worker threads are tested too.
        let two = Call { threads: 2, ..Call::ALONE };
        let settings = [register::FLUSH, register::ROUND_UP, register::FLUSH | register::ROUND_UP];
        let got = settings.map(|settings| under(settings, || results(&tensors, isa, two)));
        let expected = results(&tensors, isa, Call::ALONE);
        let subnormal = expected[0].1.iter().filter(|&&x| f32::from_bits(x).is_subnormal()).count();
        assert!(subnormal > 1000, "{subnormal} of 2500 logits are subnormal");
        for (settings, got) in settings.iter().zip(got) {
            for (got, expected) in got.iter().zip(&expected) {
                assert!(got == expected, "{isa}: {} differs under the settings {settings:#x}", got.0);
            }
        }
    }
}
