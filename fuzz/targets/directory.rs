//! Fuzzes a model directory. An input holds its files one after the other, each after its length, 4 bytes
//! little-endian; a length of 2^32 - 1 leaves a file out.
#![no_main]

mod answers;

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use neuralcf::format::open;

const NAMES: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "seen.safetensors",
    "history.safetensors",
    "ids.safetensors",
    "index.safetensors",
];

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let base = if fs::exists("/dev/shm").unwrap_or(false) { "/dev/shm".into() } else { std::env::temp_dir() };
    let place = base.join(format!("neuralcf-fuzz-{}", std::process::id()));
    fs::create_dir_all(&place).expect("a temporary directory");
    place
});

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    for name in NAMES {
        let path = PLACE.join(name);
        let _ = fs::remove_file(&path);
        let Some((length, after)) = rest.split_first_chunk() else { continue };
        let length = u32::from_le_bytes(*length) as usize;
        rest = after;
        if length != u32::MAX as usize {
            let (content, after) = rest.split_at(length.min(rest.len()));
            fs::write(path, content).expect("a file in the temporary directory");
            rest = after;
        }
    }
    if let Ok(opened) = open(&PLACE, &mut || Ok(())) {
        answers::check(opened);
    }
});
