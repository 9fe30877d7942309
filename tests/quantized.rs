//! Quantized scans against the float32 scan: the same bits for any weights. And the error bounds that guarantee it.

mod common;

use std::path::Path;

use common::{Random, Shape, Tensor, engine, engine_with, tensors};
use neuralcf::csr::Csr;
use neuralcf::filter::{Exclude, Filter, ItemSet};
use neuralcf::{Call, Engine, Isa, Scale, ScanPrecision, Users, format};

const TWO: Call<'static> = Call { threads: 2, ..Call::ALONE };

/// Two or more hidden layers: odd widths, sizes of one, partial blocks, more than one part of the catalogue.
fn shapes() -> Vec<Shape> {
    vec![
        Shape::new(3, 17, 0, (1, 2), &[1, 1]),
        Shape::new(5, 3000, 8, (32, 32), &[32, 16, 8]),
        Shape::new(7, 333, 17, (33, 20), &[50, 27, 13, 5]),
        Shape::new(2, 5000, 3, (7, 9), &[19, 23]),
        Shape::new(70, 45, 20, (16, 16), &[64, 48, 32, 16, 16]),
    ]
}

/// An adversarial model that tries to break the bound.
type Attack = (&'static str, fn(&mut [Tensor], &mut Random));

fn edit(tensors: &mut [Tensor], names: &str, mut change: impl FnMut(usize, usize, &mut f32)) {
    for (_, shape, values) in tensors.iter_mut().filter(|tensor| tensor.0.contains(names)) {
        let width = *shape.last().unwrap();
        values.iter_mut().enumerate().for_each(|(at, x)| change(at / width, at % width, x));
    }
}

/// Makes every first-layer feature the sum of one user value and one item value, and all weights positive, so that
/// errors accumulate instead of cancelling.
fn accumulate(tensors: &mut [Tensor], mut user: impl FnMut(usize) -> f32, mut item: impl FnMut(usize) -> f32) {
    edit(tensors, "weight", |_, _, w| *w = w.abs());
    edit(tensors, "bias", |_, _, b| *b = 0.0);
    edit(tensors, "layers.1.weight", |_, _, w| *w = 1.0);
    edit(tensors, "mlp.user_embedding", |u, _, p| *p = user(u));
    edit(tensors, "mlp.item_embedding", |i, k, q| *q = if k == 0 { item(i) } else { 0.0 });
    let users = tensors.iter().find(|tensor| tensor.0 == "mlp.user_embedding.weight").unwrap().1[1];
    edit(tensors, "layers.0.weight", |_, k, w| *w = if k == 0 || k == users { 1.0 } else { 0.0 });
}

/// Random powers of ten from `low` to `high`, one per unit.
fn powers(random: &mut Random, low: i32, high: i32) -> Vec<f32> {
    (0..256).map(|_| 10f32.powi(low + random.below((high - low) as usize + 1) as i32)).collect()
}

const ATTACKS: [Attack; 17] = [
    ("unchanged", |_, _| ()),
    ("activations of all sizes, rescaled by the next layer", |tensors, random| {
        let size = powers(random, -15, 15);
        edit(tensors, "layers.0.weight", |o, _, w| *w *= size[o]);
        edit(tensors, "layers.0.bias", |_, o, b| *b *= size[o]);
        edit(tensors, "layers.1.weight", |_, k, w| *w /= size[k]);
    }),
    ("activations of all sizes", |tensors, random| {
        let size = powers(random, -30, 15);
        edit(tensors, "layers.0", |o, k, w| *w *= size[o.max(k) % 7]);
    }),
    ("outputs of all sizes", |tensors, random| {
        let size = powers(random, -30, 15);
        edit(tensors, "layers.1.weight", |o, _, w| *w *= size[o]);
    }),
    ("one feature dominates", |tensors, _| {
        edit(tensors, "layers.0.weight", |o, _, w| *w *= if o == 0 { 1e6 } else { 1.0 })
    }),
    ("one weight dominates", |tensors, _| {
        edit(tensors, "layers.1.weight", |o, k, w| *w *= if o + k == 0 { 1e6 } else { 1.0 })
    }),
    ("every sum as large as possible", |tensors, _| {
        edit(tensors, "weight", |_, _, w| *w = w.abs().max(0.9));
        edit(tensors, "bias", |_, _, b| *b = 0.0);
    }),
    ("units active for few items or none", |tensors, random| {
        let depth = powers(random, -3, 1);
        edit(tensors, "layers.0.bias", |_, o, b| *b = -depth[o]);
    }),
    ("no unit is ever active", |tensors, _| edit(tensors, "layers.0.bias", |_, _, b| *b = -1e3)),
    ("every item's activations half a step of int8 off, the same way", |tensors, random| {
        accumulate(tensors, |_| 0.0, |i| if i == 0 { 254.0 } else { random.below(253) as f32 + 0.4999 });
    }),
    ("every user's activations half a step of int8 off, the same way", |tensors, _| {
        let user = |u| if u == 0 { 127.0 } else { (u % 126) as f32 + 0.4999 };
        accumulate(tensors, user, |i| if i == 0 { 127.0 } else { (i % 127) as f32 });
    }),
    ("every weight half a step of int8 off, the same way", |tensors, _| {
        accumulate(tensors, |_| 0.0, |i| (i % 2 * 254) as f32);
        edit(tensors, "layers.1.weight", |_, k, w| *w = if k == 0 { 1.0 } else { 64.4999 / 127.0 });
    }),
    ("all items are equal", |tensors, _| edit(tensors, "item_embedding", |_, _, q| *q = 0.25)),
    ("items differ in the last bits", |tensors, random| {
        edit(tensors, "item_embedding", |_, k, q| {
            *q = f32::from_bits((0.25 + k as f32).to_bits() ^ random.below(4) as u32)
        });
    }),
    ("items tie in groups", |tensors, _| {
        edit(tensors, "item_embedding", |i, k, q| *q = ((i * 7 + k) % 5) as f32 / 4.0)
    }),
    ("embeddings near underflow", |tensors, _| {
        edit(tensors, "embedding", |_, _, x| *x *= 1e-30);
        edit(tensors, "bias", |_, _, b| *b = 0.0);
    }),
    ("embeddings near overflow", |tensors, _| edit(tensors, "embedding", |_, _, x| *x *= 1e15)),
];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn exact_logits(engine: &Engine, users: &Users<'_>, row: usize) -> Vec<f32> {
    let items: Vec<u32> = (0..engine.num_items() as u32).collect();
    let user = engine.user(users.index(row).unwrap(), items.len()).unwrap();
    engine.score_batch(&user, &engine.items(&items).unwrap(), Scale::Logit, Call::ALONE).unwrap()
}

/// The largest error of the users' estimates as a fraction of its bound; `None` if there are no estimates.
fn fraction_of_bound(engine: &Engine, users: &Users<'_>, what: &str) -> Option<f64> {
    let mut fraction = None;
    for row in 0..users.len() {
        let Some(proven) = engine.proven(users, row) else { continue };
        for (item, ([lower, upper], exact)) in proven.into_iter().zip(exact_logits(engine, users, row)).enumerate() {
            let exact = f64::from(exact);
            assert!(
                lower <= exact && exact <= upper,
                "{what} row {row} item {item}: {exact:e} not in {lower:e} to {upper:e}"
            );
            let off = (2.0 * exact - lower - upper).abs() / (upper - lower);
            fraction = Some(f64::max(fraction.unwrap_or(0.0), off));
        }
    }
    fraction
}

#[test]
fn results_equal_the_float32_scan_for_any_weights() {
    for (seed, shape) in shapes().iter().enumerate() {
        for (attack, change) in ATTACKS {
            let mut random = Random(seed as u64);
            let mut tensors = tensors(shape, seed as u64);
            change(&mut tensors, &mut random);
            let rows = shape.users.min(6);
            let users: Vec<u32> = (0..rows as u32).collect();
            let items: Vec<u32> = (0..rows).map(|_| random.below(shape.items) as u32).collect();
            let mut csr = |share: usize| {
                let (mut indptr, mut indices) = (vec![0], Vec::new());
                for _ in 0..rows {
                    indices.extend((0..shape.items as u32).filter(|_| random.below(100) < share));
                    indptr.push(indices.len());
                }
                Csr::new("rows", indptr, indices, shape.items).unwrap()
            };
            let (excluded, candidates) = (csr(30), csr(40));
            let denied: Vec<u32> = (0..shape.items as u32).step_by(3).collect();
            let denied = ItemSet::from_indices("deny", &denied, shape.items).unwrap();
            let deny = Some(&denied);
            let filters = [
                Filter::default(),
                Filter { exclude: Some(Exclude::Rows(&excluded)), deny, ..Filter::default() },
                Filter { candidates: Some(&candidates), deny, ..Filter::default() },
            ];
            for isa in Isa::supported() {
                let what = format!("{attack}; {shape:?} {isa}");
                let engines = [ScanPrecision::Float32, ScanPrecision::Int16, ScanPrecision::Int8]
                    .map(|precision| engine_with(&tensors, isa, precision));
                if engines[1].scan_precision() == ScanPrecision::Float32 {
                    println!("{what}: no quantized scan");
                    continue;
                }
                for engine in &engines[1..] {
                    let fraction = fraction_of_bound(engine, &engine.users(&users).unwrap(), &what);
                    println!("{what}: {:?}, largest error / bound {fraction:.2?}", engine.scan_precision());
                }
                for (filter, call) in filters.iter().zip([TWO, Call::ALONE, TWO]) {
                    for k in [1, 10, shape.items.div_ceil(20), shape.items / 5, shape.items + 3] {
                        let tops = engines.each_ref().map(|engine| {
                            engine.top_k(&engine.users(&users).unwrap(), k, filter, Scale::Logit, call).unwrap()
                        });
                        for top in &tops[1..] {
                            assert_eq!(tops[0].ids, top.ids, "{what} k {k}");
                            assert_eq!(bits(&tops[0].scores), bits(&top.scores), "{what} k {k}");
                        }
                    }
                    let ranks = engines.each_ref().map(|engine| {
                        engine
                            .rank_of(&engine.users(&users).unwrap(), &engine.items(&items).unwrap(), filter, call)
                            .unwrap()
                    });
                    assert!(ranks[0] == ranks[1] && ranks[0] == ranks[2], "{what} {ranks:?}");
                }
            }
        }
    }
}

#[test]
fn the_scan_precision_suits_the_model_and_the_instruction_set() {
    let large = tensors(&Shape::new(2, 2000, 8, (32, 32), &[32, 16, 8]), 1);
    let small = tensors(&Shape::new(2, 100, 8, (32, 32), &[32, 16, 8]), 1);
    let shallow = tensors(&Shape::new(2, 2000, 8, (32, 32), &[32]), 1);
    let mut similar = large.clone();
    edit(&mut similar, "item_embedding", |i, _, q| *q = 0.25 + i as f32 * 1e-7);
    for isa in Isa::supported() {
        let has = ["avx2", "avx512"].contains(&isa.name());
        let expected = |precision| if has { precision } else { ScanPrecision::Float32 };
        let int8 = isa.name() == "avx2" || Isa::cpu_features().contains(&("avx512vnni", true));
        assert_eq!(
            engine(&large, isa).scan_precision(),
            expected(if int8 { ScanPrecision::Int8 } else { ScanPrecision::Int16 })
        );
        assert_eq!(engine(&small, isa).scan_precision(), ScanPrecision::Float32);
        for precision in [ScanPrecision::Int8, ScanPrecision::Int16] {
            assert_eq!(engine_with(&small, isa, precision).scan_precision(), expected(precision));
            assert_eq!(engine_with(&shallow, isa, precision).scan_precision(), ScanPrecision::Float32);
        }
        assert_eq!(engine_with(&large, isa, ScanPrecision::Float32).scan_precision(), ScanPrecision::Float32);
        assert_eq!(
            engine(&similar, isa).scan_precision(),
            ScanPrecision::Float32,
            "all items survive a quantized scan"
        );
        let bytes = |precision| engine_with(&large, isa, precision).nbytes()[0].1;
        let [float32, int16, int8] = [ScanPrecision::Float32, ScanPrecision::Int16, ScanPrecision::Int8].map(bytes);
        assert!(!has || int16 < float32 * 2 / 3 && int8 < float32, "{int8} {int16} {float32}");
    }
}

#[test]
fn users_outside_the_models_range_are_scored_in_float32() {
    let tensors = tensors(&Shape::new(9, 2000, 4, (8, 8), &[40, 30]), 3);
    for isa in Isa::supported() {
        let engines = [ScanPrecision::Float32, ScanPrecision::Int16, ScanPrecision::Int8]
            .map(|precision| engine_with(&tensors, isa, precision));
        for (factor, inside) in [(0.5, true), (1.0, true), (1e3, false), (1e12, false)] {
            let answers = engines.each_ref().map(|engine| {
                let mut vectors = engine.user_vectors(&engine.users(&[3, 5]).unwrap()).unwrap();
                vectors.mlp.as_mut().unwrap().iter_mut().for_each(|x| *x *= factor);
                let projected = engine.project(&vectors, Call::ALONE).unwrap();
                let users = projected.users();
                if engine.scan_precision() != ScanPrecision::Float32 && factor != 0.5 {
                    assert_eq!(engine.proven(&users, 0).is_some(), inside, "{isa} {factor}");
                }
                let top = engine.top_k(&users, 20, &Filter::default(), Scale::Logit, TWO).unwrap();
                (top, engine.rank_of(&users, &engine.items(&[7, 8]).unwrap(), &Filter::default(), TWO).unwrap())
            });
            assert!(answers[0] == answers[1] && answers[0] == answers[2], "{isa} {factor}");
        }
    }
}

/// The mean share of items that survive the bound, given the exact top ten.
fn share_surviving(engine: &Engine, users: usize) -> f64 {
    let step = engine.num_users().div_ceil(users);
    let users: Vec<u32> = (0..engine.num_users() as u32).step_by(step).collect();
    let users = engine.users(&users).unwrap();
    let top = engine.top_k(&users, 10, &Filter::default(), Scale::Logit, TWO).unwrap();
    let share = |row: usize| {
        let proven = engine.proven(&users, row).expect("a user of the model");
        let last = f64::from(top.scores[row * 10 + 9]);
        proven.iter().filter(|[_, upper]| *upper >= last).count() as f64 / proven.len() as f64
    };
    (0..users.len()).map(share).sum::<f64>() / users.len() as f64
}

#[test]
fn few_items_survive_the_bounds() {
    let isa = Isa::choose(None).unwrap();
    let a = tensors(&Shape::new(2000, 100_000, 8, (32, 32), &[32, 16, 8]), 1);
    let b = tensors(&Shape::new(200, 20_000, 64, (128, 128), &[128, 64]), 1);
    let seven_bits = isa.name() == "avx2";
    let int8_limit = if seven_bits { 0.006 } else { 0.002 };
    for (precision, limit) in [(ScanPrecision::Int16, 0.002), (ScanPrecision::Int8, int8_limit)] {
        for (name, tensors) in [("A", &a), ("B", &b)] {
            let engine = engine_with(tensors, isa, precision);
            if engine.scan_precision() == ScanPrecision::Float32 {
                println!("skipped: {isa} has no quantized scan");
                return;
            }
            let share = share_surviving(&engine, 50);
            println!(
                "random weights {name}, {} items, {precision:?}: {:.4} % survive",
                engine.num_items(),
                100.0 * share
            );
            assert!(share < limit, "{share}");
        }
        for (name, [eight, seven]) in [("mlp8", [0.08, 0.2]), ("neumf8_init", [0.03, 0.06])] {
            let int8_limit = if seven_bits { seven } else { eight };
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../shared/data/ncf-weights/{name}.safetensors"));
            if !path.exists() {
                println!("skipped: {} is absent", path.display());
                continue;
            }
            let model = format::open(&path, &mut || Ok(())).unwrap().model;
            let engine = Engine::new(model, None, isa, precision, Call::ALONE).unwrap();
            assert_eq!(engine.scan_precision(), precision);
            let share = share_surviving(&engine, 300);
            println!("{name}, {} items, {precision:?}: {:.4} % survive", engine.num_items(), 100.0 * share);
            assert!(share < if precision == ScanPrecision::Int8 { int8_limit } else { 0.02 }, "{name}: {share}");
        }
    }
}
