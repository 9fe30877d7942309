//! Digests of all bits of many results: every CPU and every instruction set must reproduce them.
//!
//! `tests/engine.rs` checks the bits against naive arithmetic on one machine; the constants here compare machines.
//! `make test-aarch64` and `make test-old-cpu` run this program on emulated ones.

mod common;

use common::{Random, Shape, bits, engine, fold_in, shapes, tensors};
use neuralcf::csr::Csr;
use neuralcf::filter::{Allow, Filter, ItemSet};
use neuralcf::histories::Histories;
use neuralcf::{Call, Isa, Scale};
use sha2::{Digest, Sha256};

/// These may change only if `common::shapes`, `common::tensors` or [`results`] changes.
const EXPECTED: [(&str, &str); 6] = [
    ("weights", "d2655433eec180d19eaf947d3fd795df1890b027f46fb7bef1350395f3113ce3"),
    ("logits", "26dc0d60977ed2ceb0b8d1b8d3cf46f973f3c23bd060b15a5ba49616e87b991b"),
    ("probabilities", "882478ff510c8c1b52e2379482a22e27e6a06b7343d4e90ef3f5181c0ee65657"),
    ("top-k ids", "31695f177504d67e78c4c352a9ab6cddbefc82d5a8dd11c8e9e47a024a8101c1"),
    ("ranks", "f8bcf1cf832c9368f96c02d768508689f7332fbeefc2b396a65ace31e82ee0a4"),
    ("user vectors", "496cfb7ff95cfe303288395bc46adb786817fd326e5980b1a32e7816ce085368"),
];

/// The bytes of the results of a model of each shape, in the parts of [`EXPECTED`].
fn results(isa: Isa) -> [Vec<u8>; 6] {
    let mut parts: [Vec<u8>; 6] = Default::default();
    for (shape, seed) in shapes().iter().zip(1000..) {
        for (part, bytes) in parts.iter_mut().zip(results_of(shape, seed, isa)) {
            part.extend(bytes);
        }
    }
    parts
}

fn results_of(shape: &Shape, seed: u64, isa: Isa) -> [Vec<u8>; 6] {
    let tensors = tensors(shape, seed);
    let engine = engine(&tensors, isa).with_fold_in(fold_in(shape, seed)).unwrap();
    let mut random = Random(seed);
    let (users, items): (Vec<u32>, Vec<u32>) =
        (0..500).map(|_| (random.below(shape.users) as u32, random.below(shape.items) as u32)).unzip();
    let users = engine.users(&users).unwrap();
    let score = |scale| engine.score_batch(&users, &engine.items(&items).unwrap(), scale, Call::ALONE).unwrap();

    let all: Vec<u32> = (0..shape.users as u32).collect();
    let (all, first) = (engine.users(&all).unwrap(), vec![0; shape.users]);
    let every_seventh: Vec<u32> = (0..shape.items as u32).step_by(7).collect();
    let few = ItemSet::from_indices("items", &every_seventh, shape.items).unwrap();
    let (mut ids, mut ranks) = (Vec::new(), Vec::new());
    for filter in [Filter::default(), Filter { allow: Some(Allow::Set(&few)), ..Filter::default() }] {
        ids.extend(engine.top_k(&all, 20, &filter, Scale::Logit, Call::ALONE).unwrap().ids);
        ranks.extend(engine.rank_of(&all, &engine.items(&first).unwrap(), &filter, Call::ALONE).unwrap());
    }
    // Histories of 0 to 39 items, fewer and more than the width of the ridge regression.
    let indptr = (0..41).scan(0, |end, n| Some(std::mem::replace(end, *end + n))).collect::<Vec<usize>>();
    let history = (0..indptr[40]).map(|_| random.below(shape.items) as u32).collect();
    let histories = Histories::new(Csr::new("histories", indptr, history, shape.items).unwrap());
    let vectors = engine.fold_in(&histories, Call::ALONE).unwrap();
    let vectors = [vectors.gmf, vectors.mlp].into_iter().flatten().flatten().collect::<Vec<f32>>();

    let of_floats = |values: &[f32]| bits(values).into_iter().flat_map(u32::to_le_bytes).collect();
    let of_integers = |values: Vec<i64>| values.into_iter().flat_map(i64::to_le_bytes).collect();
    [
        tensors.iter().flat_map(|(_, _, values)| -> Vec<u8> { of_floats(values) }).collect(),
        of_floats(&score(Scale::Logit)),
        of_floats(&score(Scale::Probability)),
        of_integers(ids),
        of_integers(ranks),
        of_floats(&vectors),
    ]
}

#[test]
fn every_instruction_set_reproduces_the_digests() {
    for isa in Isa::supported() {
        let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let digests: [String; 6] = results(isa).map(|part| hex(&part));
        let got: Vec<_> = EXPECTED.iter().zip(&digests).map(|((part, _), digest)| (*part, digest.as_str())).collect();
        assert_eq!(got, EXPECTED, "{isa}");
        println!("{isa}: the expected digests");
    }
}

/// For emulated machines, `NEURALCF_TEST_ISAS` states the expected instruction sets, so that a run cannot silently test
/// others.
#[test]
fn the_fastest_instruction_set_comes_first() {
    let names: Vec<_> = Isa::supported().into_iter().map(Isa::name).collect();
    let fastest_first: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["avx512", "avx2", "portable"],
        "aarch64" => &["neon", "portable"],
        _ => &["portable"],
    };
    assert!(!names.is_empty() && fastest_first.ends_with(&names), "{names:?}");
    if let Ok(expected) = std::env::var("NEURALCF_TEST_ISAS") {
        assert_eq!(names.join(" "), expected);
    }
    if std::env::var_os("NEURALCF_ISA").is_none() {
        assert_eq!(Isa::choose(None).unwrap().name(), names[0]);
    }
}
