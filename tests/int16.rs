//! The scan in integers against the scan in float32: equal bits, whatever the weights; and the bound that makes it so.

mod common;

use std::path::Path;

use common::{Random, Shape, Tensor, engine, engine_with, tensors};
use neuralcf::filter::{Csr, Exclude, Filter, ItemSet};
use neuralcf::{Call, Engine, Isa, Pass, Scale, Users, format};

const TWO: Call<'static> = Call { threads: 2, ..Call::ALONE };

/// Two hidden layers or more: odd widths, one of everything, blocks that are not full, more than a part of the catalogue.
fn shapes() -> Vec<Shape> {
    vec![
        Shape::new(3, 17, 0, (1, 2), &[1, 1]),
        Shape::new(5, 3000, 8, (32, 32), &[32, 16, 8]),
        Shape::new(7, 333, 17, (33, 20), &[50, 27, 13, 5]),
        Shape::new(2, 5000, 3, (7, 9), &[19, 23]),
        Shape::new(70, 45, 20, (16, 16), &[64, 48, 32, 16, 16]),
    ]
}

/// A model that somebody who wants to break the bound might train.
type Attack = (&'static str, fn(&mut [Tensor], &mut Random));

fn edit(tensors: &mut [Tensor], names: &str, mut change: impl FnMut(usize, usize, &mut f32)) {
    for (_, shape, values) in tensors.iter_mut().filter(|tensor| tensor.0.contains(names)) {
        let width = *shape.last().unwrap();
        values.iter_mut().enumerate().for_each(|(at, x)| change(at / width, at % width, x));
    }
}

/// Powers of ten from `low` to `high`, one for each of many units.
fn powers(random: &mut Random, low: i32, high: i32) -> Vec<f32> {
    (0..256).map(|_| 10f32.powi(low + random.below((high - low) as usize + 1) as i32)).collect()
}

const ATTACKS: [Attack; 14] = [
    ("as it is", |_, _| ()),
    ("activations of all sizes, made even by the next layer", |tensors, random| {
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
    ("every sum as large as it can be", |tensors, _| {
        edit(tensors, "weight", |_, _, w| *w = w.abs().max(0.9));
        edit(tensors, "bias", |_, _, b| *b = 0.0);
    }),
    ("units that few or none wake", |tensors, random| {
        let depth = powers(random, -3, 1);
        edit(tensors, "layers.0.bias", |_, o, b| *b = -depth[o]);
    }),
    ("no unit ever wakes", |tensors, _| edit(tensors, "layers.0.bias", |_, _, b| *b = -1e3)),
    ("all items are equal", |tensors, _| edit(tensors, "item_embedding", |_, _, q| *q = 0.25)),
    ("items differ in the last bits", |tensors, random| {
        edit(tensors, "item_embedding", |_, k, q| {
            *q = f32::from_bits((0.25 + k as f32).to_bits() ^ random.below(4) as u32)
        });
    }),
    ("items tie in groups", |tensors, _| {
        edit(tensors, "item_embedding", |i, k, q| *q = ((i * 7 + k) % 5) as f32 / 4.0)
    }),
    ("embeddings near nothing", |tensors, _| {
        edit(tensors, "embedding", |_, _, x| *x *= 1e-30);
        edit(tensors, "bias", |_, _, b| *b = 0.0);
    }),
    ("embeddings near everything", |tensors, _| edit(tensors, "embedding", |_, _, x| *x *= 1e15)),
];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn exact(engine: &Engine, users: &Users<'_>, row: usize) -> Vec<f32> {
    let items: Vec<u32> = (0..engine.num_items() as u32).collect();
    let user = engine.user(users.index(row).unwrap(), items.len()).unwrap();
    engine.score_batch(&user, &items, Scale::Logit, Call::ALONE).unwrap()
}

/// The largest error of the estimates of some users, as a share of its bound; `None` where there are no estimates.
fn used_of_bound(engine: &Engine, users: &Users<'_>, what: &str) -> Option<f64> {
    let mut used = None;
    for row in 0..users.len() {
        let Some((estimates, error)) = engine.estimates(users, row) else { continue };
        for (item, (estimate, exact)) in estimates.into_iter().zip(exact(engine, users, row)).enumerate() {
            let off = (f64::from(estimate) - f64::from(exact)).abs();
            assert!(off <= error, "{what} row {row} item {item}: {estimate:e} for {exact:e}, bound {error:e}");
            used = Some(f64::max(used.unwrap_or(0.0), off / error));
        }
    }
    used
}

#[test]
fn answers_are_those_of_float32_whatever_the_weights() {
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
                let engines = [Pass::Float32, Pass::Int16].map(|pass| engine_with(&tensors, isa, pass));
                let [float32, int16] = &engines;
                let used = used_of_bound(int16, &int16.users(&users).unwrap(), &what);
                println!("{what}: {:?}, largest error / bound {used:.2?}", int16.pass());
                let [float32, int16] = [float32, int16].map(|engine| (engine, engine.users(&users).unwrap()));
                for (filter, call) in filters.iter().zip([TWO, Call::ALONE, TWO]) {
                    for k in [1, 10, shape.items.div_ceil(20), shape.items / 5, shape.items + 3] {
                        let [expected, got] = [&float32, &int16]
                            .map(|(engine, users)| engine.top_k(users, k, filter, Scale::Logit, call).unwrap());
                        assert_eq!(expected.ids, got.ids, "{what} k {k}");
                        assert_eq!(bits(&expected.scores), bits(&got.scores), "{what} k {k}");
                    }
                    let [expected, got] =
                        [&float32, &int16].map(|(engine, users)| engine.rank_of(users, &items, filter, call).unwrap());
                    assert_eq!(expected, got, "{what}");
                }
            }
        }
    }
}

#[test]
fn integers_are_used_where_the_instruction_set_has_them() {
    let large = tensors(&Shape::new(2, 2000, 8, (32, 32), &[32, 16, 8]), 1);
    let small = tensors(&Shape::new(2, 100, 8, (32, 32), &[32, 16, 8]), 1);
    let shallow = tensors(&Shape::new(2, 2000, 8, (32, 32), &[32]), 1);
    for isa in Isa::supported() {
        let expected = if ["avx2", "avx512"].contains(&isa.name()) { Pass::Int16 } else { Pass::Float32 };
        assert_eq!(engine(&large, isa).pass(), expected);
        assert_eq!(engine(&small, isa).pass(), Pass::Float32);
        assert_eq!(engine_with(&small, isa, Pass::Int16).pass(), expected);
        assert_eq!(engine_with(&large, isa, Pass::Float32).pass(), Pass::Float32);
        assert_eq!(engine_with(&shallow, isa, Pass::Int16).pass(), Pass::Float32);
        let [float32, int16] = [Pass::Float32, Pass::Int16].map(|pass| engine_with(&large, isa, pass).nbytes()[0].1);
        assert!(expected == Pass::Float32 || int16 < float32 * 2 / 3, "{int16} {float32}");
    }
}

#[test]
fn a_user_beyond_the_models_own_is_scored_in_float32() {
    let tensors = tensors(&Shape::new(9, 2000, 4, (8, 8), &[40, 30]), 3);
    for isa in Isa::supported() {
        let engines = [Pass::Float32, Pass::Int16].map(|pass| engine_with(&tensors, isa, pass));
        for (factor, inside) in [(0.5, true), (1.0, true), (1e3, false), (1e12, false)] {
            let answers = engines.each_ref().map(|engine| {
                let mut vectors = engine.user_vectors(&[3, 5]).unwrap();
                vectors.mlp.as_mut().unwrap().iter_mut().for_each(|x| *x *= factor);
                let projected = engine.project(&vectors, Call::ALONE).unwrap();
                let users = projected.users();
                if engine.pass() == Pass::Int16 && factor != 0.5 {
                    assert_eq!(engine.estimates(&users, 0).is_some(), inside, "{isa} {factor}");
                }
                let top = engine.top_k(&users, 20, &Filter::default(), Scale::Logit, TWO).unwrap();
                (top, engine.rank_of(&users, &[7, 8], &Filter::default(), TWO).unwrap())
            });
            assert_eq!(answers[0], answers[1], "{isa} {factor}");
        }
    }
}

/// The mean share of items that the bound leaves open when the best ten are known.
fn share_open(engine: &Engine, users: usize) -> f64 {
    let step = engine.num_users().div_ceil(users);
    let users: Vec<u32> = (0..engine.num_users() as u32).step_by(step).collect();
    let users = engine.users(&users).unwrap();
    let top = engine.top_k(&users, 10, &Filter::default(), Scale::Logit, TWO).unwrap();
    let share = |row: usize| {
        let (estimates, error) = engine.estimates(&users, row).expect("a user of the model");
        let floor = f64::from(top.scores[row * 10 + 9]) - error;
        estimates.iter().filter(|&&x| f64::from(x) >= floor).count() as f64 / estimates.len() as f64
    };
    (0..users.len()).map(share).sum::<f64>() / users.len() as f64
}

#[test]
fn the_bound_leaves_little_open() {
    let isa = Isa::choose(None).unwrap();
    let a = tensors(&Shape::new(2000, 100_000, 8, (32, 32), &[32, 16, 8]), 1);
    let engine = engine_with(&a, isa, Pass::Int16);
    if engine.pass() == Pass::Float32 {
        println!("skipped: {isa} has no integers");
        return;
    }
    let share = share_open(&engine, 50);
    println!("random weights, 100,000 items: {:.4} % open", 100.0 * share);
    assert!(share < 0.002, "{share}");
    for name in ["mlp8", "neumf8_init"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../shared/data/ncf-weights/{name}.safetensors"));
        if !path.exists() {
            println!("skipped: {} is absent", path.display());
            continue;
        }
        let model = format::open(&path, &mut || Ok(())).unwrap().model;
        let engine = Engine::new(model, None, isa, Pass::Auto, Call::ALONE).unwrap();
        assert_eq!(engine.pass(), Pass::Int16);
        let share = share_open(&engine, 300);
        println!("{name}, {} items: {:.4} % open", engine.num_items(), 100.0 * share);
        assert!(share < 0.02, "{name}: {share}");
    }
}
