//! Fuzzes a single model file, from its first byte to first answers.
#![no_main]

mod answers;

use libfuzzer_sys::fuzz_target;
use neuralcf::format::{Opened, read_model};

fuzz_target!(|data: &[u8]| {
    let mut bytes = data;
    if let Ok(model) = read_model(&mut bytes, data.len() as u64, &mut || Ok(())) {
        let none = String::new();
        answers::check(Opened {
            model,
            seen: None,
            history: None,
            users: None,
            items: None,
            model_id: None,
            index: None,
            digest: none,
            weights_digest: None,
        });
    }
});
