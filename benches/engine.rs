//! The engine's own speed: `cargo bench`. One thread unless the name says otherwise; throughput is in pairs.
//!
//! The answer is checked against another entrance before anything is timed.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{Random, Shape, engine, engine_with, tensors};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use neuralcf::filter::Filter;
use neuralcf::{Call, Engine, Isa, Pass, Scale};

const USERS: usize = 20_000;

fn shapes(items: usize) -> Vec<(&'static str, Shape)> {
    vec![
        ("A", Shape::new(USERS, items, 8, (32, 32), &[32, 16, 8])),
        ("B", Shape::new(USERS, items, 64, (128, 128), &[128, 64])),
        ("gmf-40", Shape::new(USERS, items, 40, (0, 0), &[])),
        ("odd", Shape::new(USERS, items, 17, (33, 20), &[50, 27, 13, 5])),
    ]
}

/// The first entries of a top-k list have the scores that `score_batch` gives them.
fn check(engine: &Engine) {
    let user = engine.user(1, 1).unwrap();
    let top = engine.top_k(&user, 10, &Filter::default(), Scale::Logit, Call::ALONE).unwrap();
    let items: Vec<u32> = top.ids.iter().map(|&id| id as u32).collect();
    let users = engine.user(1, items.len()).unwrap();
    assert_eq!(engine.score_batch(&users, &items, Scale::Logit, Call::ALONE).unwrap(), top.scores);
}

fn scan(c: &mut Criterion) {
    for (name, shape) in shapes(100_000) {
        let tensors = tensors(&shape, 1);
        for isa in Isa::supported().into_iter().filter(|isa| isa.name() != "portable") {
            for pass in [Pass::Float32, Pass::Int16] {
                let engine = engine_with(&tensors, isa, pass);
                if engine.pass() != pass {
                    continue;
                }
                check(&engine);
                let mut group = c.benchmark_group(format!("top10/{name}/100k"));
                for (label, rows, threads) in [("1 user", 1, 1), ("1 user, 2 threads", 1, 2), ("64 users", 64, 1)] {
                    let users: Vec<u32> = (0..rows).collect();
                    group.throughput(Throughput::Elements(u64::from(rows) * shape.items as u64));
                    group.bench_function(BenchmarkId::new(format!("{isa} {pass:?}"), label), |b| {
                        let call = Call { threads, ..Call::ALONE };
                        let users = engine.users(&users).unwrap();
                        b.iter(|| engine.top_k(&users, 10, &Filter::default(), Scale::Probability, call).unwrap());
                    });
                }
            }
        }
    }
}

fn pairs(c: &mut Criterion) {
    for (name, shape) in shapes(100_000).into_iter().take(2) {
        let engine = engine(&tensors(&shape, 1), Isa::choose(None).unwrap());
        check(&engine);
        let mut random = Random(7);
        let (users, items): (Vec<u32>, Vec<u32>) =
            (0..1_000_000).map(|_| (random.below(USERS) as u32, random.below(shape.items) as u32)).unzip();
        let mut group = c.benchmark_group(format!("score_batch/{name}"));
        for pairs in [1, 16, 100, 10_000, 1_000_000] {
            group.throughput(Throughput::Elements(pairs as u64));
            for threads in [1, 2] {
                group.bench_function(BenchmarkId::new(format!("{threads} threads"), pairs), |b| {
                    let call = Call { threads, ..Call::ALONE };
                    let users = engine.users(&users[..pairs]).unwrap();
                    b.iter(|| {
                        engine.score_batch(&users, black_box(&items[..pairs]), Scale::Probability, call).unwrap()
                    });
                });
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = scan, pairs
}
criterion_main!(benches);
