//! The engine without Python: `cargo bench --bench engine`. Prints Criterion's lines, then a table with the roofline
//! limits.
//!
//! `cargo bench --bench engine -- scan` runs one group of `scan`, `dots`, `ranking`, `pairs`, `filters` and `load`;
//! `-- --quick` takes fewer samples. `ENGINE_CSV=FILE` also writes the table to a file. Results are checked against
//! another method before timing.

#[path = "../tests/common/mod.rs"]
mod common;
mod roofline;

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Random, Shape, Tensor, engine_with, model, tensors};
use criterion::{BenchmarkId, Criterion, Throughput};
use neuralcf::csr::Csr;
use neuralcf::filter::{Allow, Exclude, Filter, ItemSet};
use neuralcf::{Call, Engine, Isa, Roofline, Scale, ScanPrecision};
use roofline::{Integers, Limits, Rates, Report, Row, Work};

const USERS: usize = 20_000;

fn shape_a(items: usize) -> Shape {
    Shape::new(USERS, items, 8, (32, 32), &[32, 16, 8])
}

fn shape_b(items: usize) -> Shape {
    Shape::new(USERS, items, 64, (128, 128), &[128, 64])
}

/// The two shapes of the published figures, and unusual ones.
fn shapes(items: usize) -> Vec<(&'static str, Shape)> {
    vec![
        ("A", shape_a(items)),
        ("B", shape_b(items)),
        ("C64", Shape::new(USERS, items, 64, (0, 0), &[])),
        ("C128", Shape::new(USERS, items, 128, (0, 0), &[])),
        ("C256", Shape::new(USERS, items, 256, (0, 0), &[])),
        ("gmf-40", Shape::new(USERS, items, 40, (0, 0), &[])),
        ("mlp-48", Shape::new(USERS, items, 0, (24, 24), &[24, 12])),
        ("odd", Shape::new(USERS, items, 17, (33, 20), &[50, 27, 13, 5])),
        ("hidden-200", Shape::new(USERS, items, 0, (32, 32), &[200])),
        ("deep-512", Shape::new(USERS, items, 0, (256, 256), &[256, 128, 64, 32, 16])),
    ]
}

/// Multiply-adds per pair: those of the second layer, and all others. Those of the first layer are done at load.
fn multiply_adds(shape: &Shape) -> (usize, usize) {
    let layer = |n: usize| shape.layers.get(n).map_or(0, |outputs| shape.layers[n - 1] * outputs);
    let later: usize = (2..shape.layers.len()).map(layer).sum();
    (layer(1), shape.g + later + shape.layers.last().copied().unwrap_or(0))
}

fn bytes(engine: &Engine, part: &str) -> usize {
    engine.nbytes().iter().find(|(name, _)| *name == part).expect("a part of the engine").1
}

/// The work of a scan per pair, with its share of reading the tiles once for all users of a block.
fn scan_work(shape: &Shape, engine: &Engine, users: usize, threads: usize) -> Work {
    let (second, others) = multiply_adds(shape);
    let (tiles, bytes_per_pair) = (bytes(engine, "item_tiles"), engine.scan_bytes_per_item() as f64);
    if engine.scan_precision() == ScanPrecision::Int4 {
        // How many items are multiplied in how many bits depends on the users; each row reads all codes at most once.
        let codes = (bytes_per_pair * shape.items as f64) as usize;
        return Work { streams: vec![(codes, bytes_per_pair / users as f64)], threads, ..Work::default() };
    }
    let integers = match engine.scan_precision() {
        ScanPrecision::Int8 => Some((Integers::Int8, second)),
        ScanPrecision::Int16 => Some((Integers::Int16, second)),
        _ => None,
    };
    let float32 = if integers.is_some() { others } else { second + others };
    let mut streams = vec![(tiles, bytes_per_pair / users as f64)];
    if users > 1 {
        streams.push((Engine::PANEL_BYTES, bytes_per_pair / engine.users_per_load() as f64));
    }
    let rectified = shape.layers.len() == 1;
    Work { float32, rectified, integers, streams, threads }
}

/// The work of a single pair, which reads the user's row and the item's row.
fn pair_work(shape: &Shape, engine: &Engine, pairs: usize, threads: usize) -> Work {
    let (second, others) = multiply_adds(shape);
    let (item_rows, user_rows) = (bytes(engine, "item_rows"), bytes(engine, "user_rows"));
    let bytes_per_pair = item_rows / shape.items + user_rows / shape.users;
    let streams = vec![((pairs * bytes_per_pair).min(item_rows + user_rows), bytes_per_pair as f64)];
    Work { float32: second + others, streams, threads, ..Work::default() }
}

/// Checks the scores of a top-k list against `score_batch`.
fn check(engine: &Engine) {
    let user = engine.user(1, 1).unwrap();
    let top = engine.top_k(&user, 10, &Filter::default(), Scale::Logit, Call::ALONE).unwrap();
    let items: Vec<u32> = top.ids.iter().map(|&id| id as u32).collect();
    let users = engine.user(1, items.len()).unwrap();
    assert_eq!(
        engine.score_batch(&users, &engine.items(&items).unwrap(), Scale::Logit, Call::ALONE).unwrap(),
        top.scores
    );
}

/// An engine that is built and checked when the first benchmark needs it.
fn lazily(shape: Shape, precision: ScanPrecision) -> LazyCell<Engine, impl FnOnce() -> Engine> {
    LazyCell::new(move || {
        let engine = engine_with(&tensors(&shape, 1), Isa::choose(None).unwrap(), precision);
        check(&engine);
        engine
    })
}

/// Criterion and the table.
struct Bench {
    criterion: Criterion,
    report: Report,
}

impl Bench {
    /// Times `call` and adds the completed row to the table. `work` is the untimed setup; if it returns the work per
    /// pair, the machine's rates are measured between the samples.
    fn time(&mut self, row: Row, work: impl Fn() -> Option<Work>, mut call: impl FnMut()) {
        let (mut limits, mut best): (Option<Limits>, f64) = (None, f64::INFINITY);
        let mut group = self.criterion.benchmark_group(format!("{}/{}", row.group, row.shape));
        group.throughput(Throughput::Elements(row.pairs as u64));
        let name = format!("{} items, {} users, {} threads", row.items, row.users, row.threads);
        group.bench_function(BenchmarkId::new(&row.variant, name), |b| {
            if best.is_infinite() {
                limits = work().map(|work| Limits::new(Isa::choose(None).unwrap(), &work));
            }
            limits.iter_mut().for_each(Limits::measure);
            b.iter_custom(|calls| {
                let started = Instant::now();
                (0..calls).for_each(|_| call());
                let elapsed = started.elapsed();
                best = best.min(elapsed.as_nanos() as f64 / calls as f64);
                elapsed
            });
        });
        group.finish();
        if best.is_finite() {
            let (limit, rates) = (limits.as_ref().map(Limits::limit), limits.as_ref().map(Limits::rates));
            let rates = rates.unwrap_or_default();
            self.report.0.push(Row { nanoseconds: best, limit, rates, ..row });
        }
    }
}

fn row(group: &'static str, shape: &'static str, variant: impl Into<String>, items: usize) -> Row {
    let variant = variant.into();
    let (users, threads, pairs) = (1, 1, items);
    Row { group, shape, variant, items, users, threads, pairs, nanoseconds: 0.0, limit: None, rates: Rates::default() }
}

const PRECISIONS: [ScanPrecision; 4] =
    [ScanPrecision::Float32, ScanPrecision::Int16, ScanPrecision::Int8, ScanPrecision::Int4];

/// Whether a model of `shape` can be scanned in `precision`, and `precision` is faster than wider ones.
fn has_precision(shape: &Shape, precision: ScanPrecision) -> bool {
    let (tiny, isa) = (Shape { users: 2, items: 16, ..shape.clone() }, Isa::choose(None).unwrap());
    let faster = precision != ScanPrecision::Int8 || Roofline::new(isa, 0).unwrap().multiply_adds_int8(1).is_some();
    faster && engine_with(&tensors(&tiny, 1), isa, precision).scan_precision() == precision
}

/// The scan kernels: one thread, 100,000 items, 1 and 64 users.
fn scan(bench: &mut Bench) {
    for (label, shape) in shapes(100_000) {
        for precision in PRECISIONS.into_iter().filter(|&precision| has_precision(&shape, precision)) {
            let engine = lazily(shape.clone(), precision);
            for count in [1, 64] {
                let users: Vec<u32> = (0..count as u32).collect();
                let row = Row {
                    users: count,
                    pairs: count * shape.items,
                    ..row("scan", label, precision.name(), shape.items)
                };
                let work = || Some(scan_work(&shape, &engine, count, 1));
                bench.time(row, work, || {
                    let users = engine.users(&users).unwrap();
                    black_box(engine.top_k(&users, 10, &Filter::default(), Scale::Probability, Call::ALONE).unwrap());
                });
            }
        }
    }
}

/// Factors as matrix factorization makes them: a spectrum that falls like `1 / j`, and norms of items that fall like
/// popularity. Users are scaled so that logits are of the order of one.
fn planted(shape: &Shape) -> Vec<Tensor> {
    let mut tensors = tensors(shape, 1);
    let mut random = Random(2);
    for (n, (_, _, values)) in tensors.iter_mut().take(2).enumerate() {
        for (row, vector) in values.chunks_exact_mut(shape.g).enumerate() {
            let norm = if n == 0 { 1.0 } else { ((row + 1) as f32).powf(-0.3) };
            for (j, x) in vector.iter_mut().enumerate() {
                let gaussian = (0..4).map(|_| random.float()).sum::<f32>();
                *x = gaussian * norm / ((j + 1) as f32).sqrt();
            }
        }
    }
    tensors[2].2.fill(1.0);
    tensors
}

/// The mean numbers of items whose upper end reaches the `k`-th logit, in four, seven and eight bits.
fn survivors(engine: &Engine, k: usize) -> Option<[f64; 3]> {
    const SAMPLE: u32 = 16;
    let users: Vec<u32> = (0..SAMPLE).collect();
    let users = engine.users(&users).unwrap();
    let top = engine.top_k(&users, k, &Filter::default(), Scale::Logit, Call::ALONE).unwrap();
    let mut counts = [0; 3];
    for row in 0..users.len() {
        let needed = f64::from(top.scores[(row + 1) * k - 1]);
        for (count, proven) in counts.iter_mut().zip(engine.proven_dots(&users, row)?) {
            *count += proven.iter().filter(|[_, upper]| *upper >= needed).count();
        }
    }
    Some(counts.map(|count| count as f64 / f64::from(SAMPLE)))
}

/// Dot products of planted and of random factors: the top 10 and the top 100 of 41,000 items, for 1 and 64 users on one
/// thread, and how many items survive.
fn dots(bench: &mut Bench) {
    for (label, width, is_planted) in
        [("C64 planted", 64, true), ("C256 planted", 256, true), ("C64", 64, false), ("C256", 256, false)]
    {
        let shape = Shape::new(2_000, 41_000, width, (0, 0), &[]);
        if !has_precision(&shape, ScanPrecision::Int4) {
            continue;
        }
        let engine = LazyCell::new(|| {
            let tensors = if is_planted { planted(&shape) } else { tensors(&shape, 1) };
            let engine = engine_with(&tensors, Isa::choose(None).unwrap(), ScanPrecision::Int4);
            check(&engine);
            for k in [10, 100] {
                println!("{label}: survivors of a top-{k} in four, seven, eight bits: {:.0?}", survivors(&engine, k));
            }
            engine
        });
        for (k, count) in [(10, 1), (100, 1), (10, 64), (100, 64)] {
            let row = row("dots", label, format!("top-{k}"), shape.items);
            let row = Row { users: count, pairs: count * shape.items, ..row };
            let work = || Some(scan_work(&shape, &engine, count, 1));
            let first = std::cell::Cell::new(0);
            bench.time(row, work, || {
                // Other users in each call, since some are easier than others.
                let from = first.replace((first.get() + count as u32) % 1_920);
                let users: Vec<u32> = (from..from + count as u32).collect();
                let users = engine.users(&users).unwrap();
                black_box(engine.top_k(&users, k, &Filter::default(), Scale::Logit, Call::ALONE).unwrap());
            });
        }
    }
}

/// The top 10 of a million items, for 1 and 64 users, on one and two threads.
fn ranking(bench: &mut Bench) {
    let shape = shape_a(1_000_000);
    for precision in PRECISIONS.into_iter().filter(|&precision| has_precision(&shape, precision)) {
        let engine = lazily(shape.clone(), precision);
        for (count, threads) in [(1, 1), (1, 2), (64, 1), (64, 2)] {
            let users: Vec<u32> = (0..count as u32).collect();
            let row = row("ranking", "A", precision.name(), shape.items);
            let row = Row { users: count, threads, pairs: count * shape.items, ..row };
            let work = || Some(scan_work(&shape, &engine, count, threads));
            bench.time(row, work, || {
                let (users, call) = (engine.users(&users).unwrap(), Call { threads, ..Call::ALONE });
                black_box(engine.top_k(&users, 10, &Filter::default(), Scale::Probability, call).unwrap());
            });
        }
    }
}

/// Random pairs of 20,000 users and 100,000 items.
fn pairs(bench: &mut Bench) {
    for (label, shape) in [("A", shape_a(100_000)), ("B", shape_b(100_000))] {
        let engine = lazily(shape.clone(), ScanPrecision::Auto);
        let mut random = Random(7);
        let (users, items): (Vec<u32>, Vec<u32>) =
            (0..1_000_000).map(|_| (random.below(USERS) as u32, random.below(shape.items) as u32)).unzip();
        for (count, threads) in [(1, 1), (16, 1), (100, 1), (10_000, 1), (1_000_000, 1), (1_000_000, 2)] {
            let row = row("pairs", label, format!("{count} pairs"), shape.items);
            let row = Row { users: USERS, threads, pairs: count, ..row };
            let work = || Some(pair_work(&shape, &engine, count, threads));
            bench.time(row, work, || {
                let (users, call) = (engine.users(&users[..count]).unwrap(), Call { threads, ..Call::ALONE });
                let items = engine.items(black_box(&items[..count])).unwrap();
                let scores = engine.score_batch(&users, &items, Scale::Probability, call);
                black_box(scores.unwrap());
            });
        }
    }
}

fn random_rows(rows: usize, each: usize, items: usize) -> Csr {
    let mut random = Random(11);
    let indices = (0..rows * each).map(|_| random.below(items) as u32).collect();
    Csr::new("rows", (0..=rows).map(|row| row * each).collect(), indices, items).unwrap()
}

/// The cost of filters on a million items: none, 1,000 items excluded, half allowed, 1 % allowed, 1,000 candidates per
/// user.
fn filters(bench: &mut Bench) {
    let shape = shape_a(1_000_000);
    let engine = lazily(shape.clone(), ScanPrecision::Auto);
    let (excluded, candidates) = (random_rows(1, 1_000, shape.items), random_rows(64, 1_000, shape.items));
    let share = |one_in: usize| {
        let mask: Vec<bool> = (0..shape.items).map(|item| item % one_in == 0).collect();
        ItemSet::from_mask("allow", &mask, shape.items).unwrap()
    };
    let (half, hundredth) = (share(2), share(100));
    let cases = [
        ("none", 1, shape.items, Filter::default()),
        ("exclude 1000", 1, shape.items, Filter { exclude: Some(Exclude::Rows(&excluded)), ..Filter::default() }),
        ("allow half", 1, shape.items, Filter { allow: Some(Allow::Set(&half)), ..Filter::default() }),
        ("allow 1 %", 1, shape.items / 100, Filter { allow: Some(Allow::Set(&hundredth)), ..Filter::default() }),
        ("1000 candidates each", 64, 64 * 1_000, Filter { candidates: Some(&candidates), ..Filter::default() }),
    ];
    for (variant, count, pairs, filter) in cases {
        let users: Vec<u32> = (0..count).collect();
        let row = Row { users: count as usize, pairs, ..row("filters", "A", variant, shape.items) };
        let work = || {
            LazyCell::force(&engine);
            None
        };
        bench.time(row, work, || {
            let users = engine.users(&users).unwrap();
            black_box(engine.top_k(&users, 10, &filter, Scale::Probability, Call::ALONE).unwrap());
        });
    }
}

/// From tensors in memory to an engine: checks, projection, layout. Figures are per item.
fn load(bench: &mut Bench) {
    for (label, shape) in [("A", shape_a(100_000)), ("B", shape_b(100_000))] {
        let tensors = LazyCell::new(|| tensors(&shape, 1));
        for precision in PRECISIONS.into_iter().filter(|&precision| has_precision(&shape, precision)) {
            let row = Row { users: USERS, ..row("load", label, precision.name(), shape.items) };
            let work = || {
                LazyCell::force(&tensors);
                None
            };
            bench.time(row, work, || {
                let isa = Isa::choose(None).unwrap();
                black_box(Engine::new(model(&tensors), None, isa, precision, Call::ALONE).unwrap());
            });
        }
    }
}

fn main() {
    let criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut bench = Bench { criterion, report: Report::default() };
    for group in [scan, dots, ranking, pairs, filters, load] {
        group(&mut bench);
    }
    bench.criterion.final_summary();
    println!("instruction set {}; {} users in each model\n{}", Isa::choose(None).unwrap(), USERS, bench.report);
    if let Some(path) = std::env::var_os("ENGINE_CSV") {
        std::fs::write(&path, bench.report.csv()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
