//! Dot products in four bits against the float32 scan: the same bits for any vectors. And the bounds that guarantee it.

mod common;

use common::{Random, Shape, Tensor, bits, engine, engine_with, tensors};
use neuralcf::csr::Csr;
use neuralcf::filter::{Exclude, Filter, ItemSet};
use neuralcf::{Call, Engine, Isa, Scale, ScanPrecision, TopK, Users};

const TWO: Call<'static> = Call { threads: 2, ..Call::ALONE };

/// Edits the vectors of users, the vectors of items, and the bias.
type Attack = (&'static str, fn(&mut [f32], &mut [f32], &mut f32, &mut Random, usize));

const ATTACKS: [Attack; 17] = [
    ("unchanged", |_, _, _, _, _| ()),
    ("every item twice", |_, items, _, _, d| {
        let half = items.len() / d / 2 * d;
        items.copy_within(0..half, half);
    }),
    ("some items are zero", |_, items, _, random, d| {
        items.chunks_exact_mut(d).filter(|_| random.below(3) == 0).for_each(|item| item.fill(0.0));
    }),
    ("norms over six decades", |_, items, _, random, d| {
        items.chunks_exact_mut(d).for_each(|item| {
            let size = 10f32.powi(random.below(7) as i32 - 3);
            item.iter_mut().for_each(|q| *q *= size);
        });
    }),
    ("features over six decades", |_, items, _, random, d| {
        let sizes: Vec<f32> = (0..d).map(|_| 10f32.powi(random.below(7) as i32 - 3)).collect();
        items.iter_mut().enumerate().for_each(|(at, q)| *q *= sizes[at % d]);
    }),
    ("users with one feature", |users, _, _, random, d| {
        users.chunks_exact_mut(d).for_each(|user| {
            user.fill(0.0);
            user[random.below(d)] = random.float();
        });
    }),
    ("users of 1e-12 and 1e8", |users, _, _, _, d| {
        let sizes = [1e-12, 1e8, 0.0];
        users.chunks_exact_mut(d).enumerate().for_each(|(u, user)| user.iter_mut().for_each(|p| *p *= sizes[u % 3]));
    }),
    ("subnormal items", |_, items, bias, _, _| {
        *bias = 0.0;
        items.iter_mut().for_each(|q| *q *= 1e-41);
    }),
    ("subnormal users", |users, _, bias, _, _| {
        *bias = 0.0;
        users.iter_mut().for_each(|p| *p *= 1e-41);
    }),
    ("products underflow", |users, items, bias, _, _| {
        *bias = 0.0;
        users.iter_mut().chain(items).for_each(|x| *x *= 1e-22);
    }),
    ("near overflow", |users, items, _, _, _| users.iter_mut().chain(items).for_each(|x| *x *= 1e17)),
    ("all items are equal", |_, items, _, _, _| items.fill(0.3)),
    ("items differ in the last bits", |_, items, _, random, _| {
        items.iter_mut().for_each(|q| *q = f32::from_bits(0.25f32.to_bits() ^ random.below(4) as u32));
    }),
    ("all features are positive", |users, items, _, _, _| users.iter_mut().chain(items).for_each(|x| *x = x.abs())),
    ("the bias is large", |_, _, bias, _, _| *bias = -3e5),
    ("each item's error is parallel to a user", |users, items, _, random, d| {
        // Values on the edges of the coarse codes' cells, all on the same side.
        users.fill(1.0);
        items.chunks_exact_mut(d).for_each(|item| {
            item.iter_mut().for_each(|q| *q = (random.below(13) as f32 - 6.0) / 8.0 + 0.004);
            item[0] = 0.99609375;
        });
    }),
    ("each user's error is parallel to an item", |users, items, bias, _, d| {
        *bias = 0.0;
        users.chunks_exact_mut(d).for_each(|user| {
            user.iter_mut().enumerate().for_each(|(j, p)| *p = if j == 0 { 127.0 } else { 0.49 });
        });
        items.iter_mut().for_each(|q| *q = 0.9375);
    }),
];

fn attacked(shape: &Shape, seed: u64, (_, change): Attack) -> Vec<Tensor> {
    let mut tensors = tensors(shape, seed);
    let [users, items, weight, bias] = &mut tensors[..] else { panic!("the tensors of a GMF") };
    weight.2.fill(1.0);
    change(&mut users.2, &mut items.2, &mut bias.2[0], &mut Random(seed), shape.g);
    tensors
}

fn shapes() -> Vec<Shape> {
    [(1, 1, 3), (2, 17, 3), (7, 2000, 9), (63, 1500, 4), (65, 2100, 70), (256, 5000, 12), (1000, 700, 3)]
        .map(|(g, items, users)| Shape::new(users, items, g, (0, 0), &[]))
        .to_vec()
}

fn exact_logits(engine: &Engine, users: &Users<'_>, row: usize) -> Vec<f32> {
    let items: Vec<u32> = (0..engine.num_items() as u32).collect();
    let user = engine.user(users.index(row).unwrap(), items.len()).unwrap();
    engine.score_batch(&user, &engine.items(&items).unwrap(), Scale::Logit, Call::ALONE).unwrap()
}

/// The largest errors of the users' estimates in four, seven and eight bits as fractions of their bounds.
fn fractions_of_bounds(engine: &Engine, users: &Users<'_>, what: &str) -> [f64; 3] {
    let mut fractions = [0.0; 3];
    for row in 0..users.len() {
        let Some(proven) = engine.proven_dots(users, row) else { continue };
        for (fraction, proven) in fractions.iter_mut().zip(proven) {
            for (item, ([lower, upper], exact)) in proven.into_iter().zip(exact_logits(engine, users, row)).enumerate()
            {
                let exact = f64::from(exact);
                assert!(
                    lower <= exact && exact <= upper,
                    "{what} row {row} item {item}: {exact:e} not in {lower:e} to {upper:e}"
                );
                *fraction = f64::max(*fraction, (2.0 * exact - lower - upper).abs() / (upper - lower));
            }
        }
    }
    fractions
}

fn assert_equal(expected: &TopK, got: &TopK, what: &str) {
    assert_eq!(expected.ids, got.ids, "{what}");
    assert_eq!(bits(&expected.scores), bits(&got.scores), "{what}");
}

#[test]
fn results_equal_the_float32_scan_for_any_vectors() {
    let mut largest = [0.0; 3];
    for (seed, shape) in shapes().iter().enumerate() {
        for attack in ATTACKS {
            let tensors = attacked(shape, seed as u64, attack);
            let mut random = Random(99 + seed as u64);
            let users: Vec<u32> = (0..shape.users as u32).collect();
            let items: Vec<u32> = users.iter().map(|_| random.below(shape.items) as u32).collect();
            let mut csr = |share: usize| {
                let (mut indptr, mut indices) = (vec![0], Vec::new());
                for _ in &users {
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
                let what = format!("{}; {shape:?} {isa}", attack.0);
                let engines = [ScanPrecision::Float32, ScanPrecision::Int4].map(|p| engine_with(&tensors, isa, p));
                if engines[1].scan_precision() == ScanPrecision::Float32 {
                    assert_eq!(isa.name(), "portable", "{what}");
                    continue;
                }
                let fractions = fractions_of_bounds(&engines[1], &engines[1].users(&users).unwrap(), &what);
                println!("{what}: largest error / bound: {fractions:.3?}");
                (0..3).for_each(|n| largest[n] = f64::max(largest[n], fractions[n]));
                for (filter, call) in filters.iter().zip([Call::ALONE, TWO, TWO]) {
                    for k in [1, 10, 100, shape.items - 1, shape.items] {
                        let tops = engines.each_ref().map(|engine| {
                            let users = engine.users(&users).unwrap();
                            engine.top_k(&users, k.max(1), filter, Scale::Logit, call).unwrap()
                        });
                        assert_equal(&tops[0], &tops[1], &format!("{what} k {k}"));
                    }
                    let ranks = engines.each_ref().map(|engine| {
                        let (users, items) = (engine.users(&users).unwrap(), engine.items(&items).unwrap());
                        engine.rank_of(&users, &items, filter, call).unwrap()
                    });
                    assert_eq!(ranks[0], ranks[1], "{what}");
                }
            }
        }
    }
    assert!(largest.iter().all(|&fraction| fraction > 0.9), "no attack comes close to the bounds: {largest:?}");
}

#[test]
fn ten_thousand_random_queries_equal_the_float32_scan() {
    let isa = Isa::choose(None).unwrap();
    let mut random = Random(5);
    for round in 0..100 {
        let (d, items) = (1 + random.below(140), 1 + random.below(2500));
        let shape = Shape::new(100, items, d, (0, 0), &[]);
        let tensors = attacked(&shape, round, ATTACKS[round as usize % ATTACKS.len()]);
        let engines = [ScanPrecision::Float32, ScanPrecision::Int4].map(|p| engine_with(&tensors, isa, p));
        let k = 1 + random.below(60);
        let users: Vec<u32> = (0..100).collect();
        let one_by_one = engines.each_ref().map(|engine| {
            let top = |&user| {
                engine.top_k(&engine.user(user, 1).unwrap(), k, &Filter::default(), Scale::Logit, Call::ALONE).unwrap()
            };
            users.iter().map(top).collect::<Vec<TopK>>()
        });
        for (expected, got) in one_by_one[0].iter().zip(&one_by_one[1]) {
            assert_equal(expected, got, &format!("round {round}: {} {shape:?} k {k}", ATTACKS[round as usize % 17].0));
        }
        let batch = engines.each_ref().map(|engine| {
            engine.top_k(&engine.users(&users).unwrap(), k, &Filter::default(), Scale::Probability, TWO).unwrap()
        });
        assert_equal(&batch[0], &batch[1], &format!("round {round}"));
    }
}

#[test]
fn four_bits_are_chosen_where_they_pay() {
    for isa in Isa::supported() {
        let has = isa.name() != "portable" && isa.name() != "neon";
        let expected = |precision| if has { precision } else { ScanPrecision::Float32 };
        let large = attacked(&Shape::new(20, 3000, 64, (0, 0), &[]), 1, ATTACKS[0]);
        let small = attacked(&Shape::new(20, 300, 64, (0, 0), &[]), 1, ATTACKS[0]);
        let equal = attacked(&Shape::new(20, 3000, 64, (0, 0), &[]), 1, ATTACKS[11]);
        let wide = attacked(&Shape::new(2, 20, 8193, (0, 0), &[]), 1, ATTACKS[0]);
        assert_eq!(engine(&large, isa).scan_precision(), expected(ScanPrecision::Int4));
        assert_eq!(engine(&small, isa).scan_precision(), ScanPrecision::Float32);
        assert_eq!(engine(&equal, isa).scan_precision(), ScanPrecision::Float32, "all items survive");
        if has {
            let reasons = [&large, &small].map(|tensors| engine(tensors, isa).scan_reason().to_string());
            assert!(reasons[0].contains("items are refined") && reasons[1].contains("too small"), "{reasons:?}");
            let [tiles, rows, ..] = engine(&large, isa).nbytes();
            assert!(tiles.1 + rows.1 <= 2 * size_of::<f32>() * 3000 * 64, "twice the float32 table");
        }
        for precision in [ScanPrecision::Int8, ScanPrecision::Int16, ScanPrecision::Float32] {
            assert_eq!(engine_with(&large, isa, precision).scan_precision(), ScanPrecision::Float32);
        }
        assert_eq!(engine_with(&small, isa, ScanPrecision::Int4).scan_precision(), expected(ScanPrecision::Int4));
        assert_eq!(engine_with(&wide, isa, ScanPrecision::Int4).scan_precision(), ScanPrecision::Float32);
        let deep = tensors(&Shape::new(2, 2000, 8, (8, 8), &[16, 8]), 1);
        assert_ne!(engine_with(&deep, isa, ScanPrecision::Int4).scan_precision(), ScanPrecision::Int4);
        let bytes = |precision: ScanPrecision| engine_with(&large, isa, precision).nbytes()[0].1;
        assert!(!has || bytes(ScanPrecision::Int4) < bytes(ScanPrecision::Float32) / 2);
    }
}
