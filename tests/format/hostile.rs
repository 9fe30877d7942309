//! Fuzzing: reading a randomly mutated file returns a model or an error.

use std::fs;

use neuralcf::{Error, Result};

use super::builder::{directory, gmf, neumf, open, read, values, write};

/// The xorshift64* random number generator: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// Makes one change, most often in the header, where it matters most.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let bound = if self.below(4) > 0 { bytes.len().min(1000) } else { bytes.len() };
        let at = self.below(bound);
        let span = at..bytes.len().min(at + 1 + self.below(12));
        match self.below(7) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.below(256) as u8,
            2 => bytes[at] = br#"{}[]:,"0123456789.-eE\ tfn"#[self.below(26)],
            3 => drop(bytes.drain(span)),
            4 => bytes.truncate(at),
            5 => {
                let copy = bytes[span.clone()].to_vec();
                bytes.splice(at..at, copy);
            }
            // Replacing a digit keeps the JSON valid but changes a size, an offset or the header's length.
            _ => match bytes[at..].iter().position(u8::is_ascii_digit) {
                Some(digit) => bytes[at + digit] = b'0' + self.below(10) as u8,
                None => bytes[at] = 0,
            },
        }
    }
}

/// Counts models and rejections; any other error is a failure.
fn tally<T>(result: Result<T>, counts: &mut [usize; 2]) {
    match result {
        Ok(_) => counts[0] += 1,
        Err(Error::Format(text)) => {
            assert!(text.len() < 1000, "message too long: {text}");
            counts[1] += 1;
        }
        Err(Error::Memory(_)) => counts[1] += 1,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn mutated_models_are_read_or_rejected() {
    let mut bfloat16 = gmf();
    bfloat16.put(
        "gmf.item_embedding.weight",
        "BF16",
        &[4, 2],
        values(8).iter().flat_map(|v| v.to_le_bytes()).skip(2).take(16).collect(),
    );
    let valid = [neumf().bytes(), gmf().bytes(), bfloat16.bytes()];
    let mut random = Random(7);
    let mut counts = [0, 0];
    for run in 0..60_000 {
        let mut bytes = valid[run % valid.len()].clone();
        for _ in 0..=random.below(3) {
            random.mutate(&mut bytes);
        }
        tally(read(&bytes), &mut counts);
    }
    assert!(counts.iter().all(|&count| count > 1000), "accepted and rejected: {counts:?}");
}

#[test]
fn mutated_directories_are_read_or_rejected() {
    let place = tempfile::tempdir().unwrap();
    let files = directory("m");
    write(&files, place.path());
    let names = ["config.json", "seen.safetensors", "ids.safetensors"];
    let mut random = Random(8);
    let mut counts = [0, 0];
    for run in 0..6_000 {
        let name = names[run % names.len()];
        let mut bytes = files[name].clone();
        random.mutate(&mut bytes);
        fs::write(place.path().join(name), &bytes).unwrap();
        tally(open(place.path()), &mut counts);
        fs::write(place.path().join(name), &files[name]).unwrap();
    }
    assert!(counts.iter().all(|&count| count > 300), "accepted and rejected: {counts:?}");
}
