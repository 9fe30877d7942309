//! The engine against naive arithmetic: the same bits from every method, instruction set and number of threads.

mod common;

use common::{Random, Shape, bits, engine, logit, shapes, tensors};
use neuralcf::csr::Csr;
use neuralcf::filter::{Allow, Exclude, Filter, ItemSet};
use neuralcf::{Call, Engine, IndexCheck, Isa, Scale, UserVectors, Users};

fn isas() -> Vec<Isa> {
    let isas = Isa::supported();
    println!("instruction sets tested: {isas:?}");
    isas
}

const TWO: Call<'static> = Call { threads: 2, ..Call::ALONE };

#[test]
fn score_batch_computes_the_specified_bits() {
    for (seed, shape) in shapes().iter().enumerate() {
        let tensors = tensors(shape, seed as u64);
        let mut random = Random(seed as u64);
        let (users, items): (Vec<u32>, Vec<u32>) =
            (0..777).map(|_| (random.below(shape.users) as u32, random.below(shape.items) as u32)).unzip();
        let expected: Vec<f32> =
            users.iter().zip(&items).map(|(&u, &i)| logit(&tensors, u as usize, i as usize)).collect();
        let mut probabilities = Vec::new();
        for isa in isas() {
            let engine = engine(&tensors, isa);
            let all = engine.users(&users).unwrap();
            let got = engine.score_batch(&all, &engine.items(&items).unwrap(), Scale::Logit, Call::ALONE).unwrap();
            assert_eq!(bits(&got), bits(&expected), "{shape:?} {isa}");
            for at in [0, 5, 776] {
                let one = engine.user(users[at], 1).unwrap();
                let got = engine
                    .score_batch(&one, &engine.items(&items[at..=at]).unwrap(), Scale::Logit, Call::ALONE)
                    .unwrap();
                assert_eq!(bits(&got), bits(&expected[at..=at]), "{shape:?} {isa}");
            }
            for few in 0..=5 {
                let (of, at) = (engine.users(&users[..few]).unwrap(), engine.items(&items[..few]).unwrap());
                let got = engine.score_batch(&of, &at, Scale::Logit, Call::ALONE).unwrap();
                assert_eq!(bits(&got), bits(&expected[..few]), "{shape:?} {isa}, {few} pairs");
            }
            probabilities.push(bits(
                &engine.score_batch(&all, &engine.items(&items).unwrap(), Scale::Probability, TWO).unwrap(),
            ));
        }
        assert!(probabilities.windows(2).all(|pair| pair[0] == pair[1]), "{shape:?}");
    }
}

/// The expected result of `top_k`: score every item, drop the filtered ones, sort.
fn brute_force(engine: &Engine, users: &Users<'_>, row: usize, kept: impl Fn(u32) -> bool) -> (Vec<i64>, Vec<f32>) {
    let items: Vec<u32> = (0..engine.num_items() as u32).collect();
    let user = engine.user(users.index(row).expect("users of the model"), items.len()).unwrap();
    let scores = engine.score_batch(&user, &engine.items(&items).unwrap(), Scale::Logit, Call::ALONE).unwrap();
    let mut all: Vec<(f32, u32)> = scores.into_iter().zip(items).filter(|&(_, item)| kept(item)).collect();
    all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
    all.into_iter().map(|(score, item)| (i64::from(item), score)).unzip()
}

#[test]
fn top_k_and_rank_of_equal_scoring_all_items_and_sorting() {
    for (seed, shape) in shapes().iter().flat_map(|shape| [shape, shape]).enumerate() {
        let tensors = tensors(shape, seed as u64);
        let mut random = Random(seed as u64 + 100);
        let rows = if seed % 2 == 0 { 1 + random.below(4) } else { 5 + random.below(5) }; // up to four share tile loads
        let users: Vec<u32> = (0..rows).map(|_| random.below(shape.users) as u32).collect();
        let mut csr = |share: usize| {
            let mut indptr = vec![0];
            let mut indices = Vec::new();
            for _ in 0..rows {
                indices.extend((0..shape.items as u32).filter(|_| random.below(100) < share));
                indptr.push(indices.len());
            }
            Csr::new("rows", indptr, indices, shape.items).unwrap()
        };
        let (excluded, candidates) = (csr(30), csr(40));
        let set = |from: u32, step: usize| {
            let items: Vec<u32> = (from..shape.items as u32).step_by(step).collect();
            ItemSet::from_indices("items", &items, shape.items).unwrap()
        };
        let (odd, sevenths) = (set(1, 2), set(0, 7));
        let (thirds, even) = (set(0, 3), set(0, 2));
        let check = IndexCheck { what: "allow", noun: "item", bound: shape.items };
        let last = shape.items as u32 - 1;
        let few = check.all(vec![last, 0, last / 2, last, 0]).unwrap();
        let most = check.all((1..=last).rev().collect::<Vec<u32>>()).unwrap();
        let filters = [
            Filter::default(),
            Filter { exclude: Some(Exclude::Rows(&excluded)), ..Filter::default() },
            Filter { allow: Some(Allow::Set(&odd)), deny: Some(&thirds), ..Filter::default() },
            Filter { allow: Some(Allow::Set(&sevenths)), exclude: Some(Exclude::Rows(&excluded)), ..Filter::default() },
            Filter { allow: Some(Allow::Listed(&few)), ..Filter::default() },
            Filter { allow: Some(Allow::Listed(&few)), deny: Some(&thirds), ..Filter::default() },
            Filter { allow: Some(Allow::Listed(&most)), deny: Some(&even), ..Filter::default() },
            Filter { candidates: Some(&candidates), deny: Some(&even), ..Filter::default() },
            Filter { candidates: Some(&candidates), exclude: Some(Exclude::Rows(&excluded)), ..Filter::default() },
        ];
        for isa in isas() {
            let engine = engine(&tensors, isa);
            let users = engine.users(&users).unwrap();
            for (filter, case) in filters.iter().zip(0..) {
                for (k, call) in [(1, TWO), (10, Call::ALONE), (shape.items + 3, TWO)] {
                    let got = engine.top_k(&users, k, filter, Scale::Logit, call).unwrap();
                    for row in 0..rows {
                        let kept = |item: u32| {
                            filter.allow.is_none_or(|allow| match allow {
                                Allow::Set(set) => set.contains(item),
                                Allow::Listed(listed) => listed.values().contains(&item),
                            }) && filter.deny.is_none_or(|set| !set.contains(item))
                                && filter.candidates.is_none_or(|csr| csr.row(row).contains(&item))
                                && (filter.exclude.is_none() || !excluded.row(row).contains(&item))
                        };
                        let (mut ids, mut scores) = brute_force(&engine, &users, row, kept);
                        let all = (ids.clone(), scores.clone());
                        ids.resize(k, -1);
                        scores.resize(k, f32::NEG_INFINITY);
                        let what = format!("{shape:?} {isa} filter {case} k {k} row {row}");
                        assert_eq!(got.ids[row * k..][..k], ids, "{what}");
                        assert_eq!(bits(&got.scores[row * k..][..k]), bits(&scores), "{what}");

                        let item = (row * 31) % shape.items;
                        let target = logit(&tensors, users.index(row).unwrap() as usize, item);
                        let rivals = all.0.iter().zip(&all.1);
                        let rank = rivals.filter(|&(&id, &score)| id != item as i64 && score >= target).count();
                        let items: Vec<u32> = (0..rows).map(|row| ((row * 31) % shape.items) as u32).collect();
                        let ranks = engine.rank_of(&users, &engine.items(&items).unwrap(), filter, call).unwrap();
                        assert_eq!(ranks[row], rank as i64, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn ties_are_ordered_by_index_and_count_against_the_rank() {
    let shape = Shape::new(1, 5000, 2, (2, 2), &[3]);
    let mut tensors = tensors(&shape, 1);
    for (name, _, values) in &mut tensors {
        if name.contains("item_embedding") {
            values.fill(0.25);
        }
    }
    for isa in isas() {
        let engine = engine(&tensors, isa);
        let user = engine.user(0, 1).unwrap();
        let got = engine.top_k(&user, 2000, &Filter::default(), Scale::Logit, TWO).unwrap();
        assert_eq!(got.ids, (0..2000).collect::<Vec<i64>>());
        assert_eq!(engine.rank_of(&user, &engine.items(&[4321]).unwrap(), &Filter::default(), TWO).unwrap(), [4999]);
    }
}

#[test]
fn user_vectors_give_the_same_results_as_users() {
    for (seed, shape) in shapes().iter().enumerate() {
        let tensors = tensors(shape, seed as u64);
        for isa in isas() {
            let engine = engine(&tensors, isa);
            let indices: Vec<u32> = (0..shape.users as u32).rev().collect();
            let vectors = engine.user_vectors(&engine.users(&indices).unwrap()).unwrap();
            let projected = engine.project(&vectors, TWO).unwrap();
            let (given, stored) = (projected.users(), engine.users(&indices).unwrap());
            let top = |users| engine.top_k(users, 5, &Filter::default(), Scale::Probability, Call::ALONE).unwrap();
            assert_eq!(top(&given), top(&stored), "{shape:?} {isa}");
            let items = vec![0; shape.users];
            let score =
                |users| engine.score_batch(users, &engine.items(&items).unwrap(), Scale::Logit, Call::ALONE).unwrap();
            assert_eq!(bits(&score(&given)), bits(&score(&stored)));
        }
    }
}

#[test]
fn user_vectors_are_checked() {
    let tensors = tensors(&Shape::new(2, 9, 3, (2, 2), &[4]), 0);
    let engine = engine(&tensors, isas()[0]);
    let good = engine.user_vectors(&engine.user(0, 1).unwrap()).unwrap();
    let rejected = |vectors: UserVectors, expected: &str| {
        let error = engine.project(&vectors, Call::ALONE).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    rejected(UserVectors { gmf: None, ..good.clone() }, "users.gmf: expected [1, 3] values, got None");
    rejected(
        UserVectors { mlp: Some(vec![0.0; 3]), ..good.clone() },
        "users.mlp: expected [1, 2] values, got 3 in total",
    );
    rejected(UserVectors { mlp: Some(vec![0.0, f32::NAN]), ..good.clone() }, "got NaN at [0, 1]");
    rejected(UserVectors { gmf: Some(vec![f32::MAX; 3]), ..good }, "float32");
}
