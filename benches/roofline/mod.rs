//! The roofline: measures the machine's peak rates beside each benchmark, computes the lower limit on its time, and
//! prints both in a table.
//!
//! A pair needs multiply-adds and bytes. Each resource alone takes a certain time at the best rate seen in this run;
//! the longest of these times is the limit: `1 / min(peak, bandwidth x intensity)`, the roofline of Williams et al.
//! (CACM 2009). The limit does not include the pair's other work (the first layer's additions, ReLUs, broadcasts of
//! weights, the top-k), so the share reached shows its cost. With a single hidden layer, each multiply-add has its own
//! addition and ReLU; there the peak is the rate of the three together.

use std::fmt::{self, Write};
use std::time::Instant;

use neuralcf::{Isa, Roofline};

/// The width of the integers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Integers {
    Int8,
    Int16,
}

/// The work per pair, on one thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    /// Float32 multiply-adds.
    pub(crate) float32: usize,
    /// Whether most of these have an addition and a ReLU of their own.
    pub(crate) rectified: bool,
    /// Integer multiply-adds.
    pub(crate) integers: Option<(Integers, usize)>,
    /// Sequential reads: the size of each table in bytes, and the bytes read per pair.
    pub(crate) streams: Vec<(usize, f64)>,
    /// Threads that share the work, each assumed to be as fast as one alone.
    pub(crate) threads: usize,
}

/// The peak rates of the machine: the best of all measurements.
pub(crate) struct Limits {
    work: Work,
    tables: Vec<Roofline>,
    float32: f64,
    rectified: f64,
    integers: f64,
    bandwidths: Vec<f64>,
}

impl Limits {
    pub(crate) fn new(isa: Isa, work: &Work) -> Self {
        let sizes = work.streams.iter().map(|&(bytes, _)| bytes).chain([0]);
        let tables: Vec<Roofline> = sizes.map(|bytes| Roofline::new(isa, bytes).unwrap()).collect();
        let bandwidths = vec![0.0; work.streams.len()];
        Limits { work: work.clone(), tables, float32: 0.0, rectified: 0.0, integers: 0.0, bandwidths }
    }

    /// Measures the machine's rates, for a few milliseconds.
    pub(crate) fn measure(&mut self) {
        const ROUNDS: usize = 1 << 12;
        let roofline = &self.tables[0];
        self.float32 = self.float32.max(rate(|| roofline.multiply_adds(ROUNDS)));
        if self.work.rectified {
            self.rectified = self.rectified.max(rate(|| roofline.rectified_multiply_adds(ROUNDS)));
        }
        if let Some((integers, _)) = self.work.integers {
            let work = || match integers {
                Integers::Int8 => roofline.multiply_adds_int8(ROUNDS).unwrap(),
                Integers::Int16 => roofline.multiply_adds_int16(ROUNDS).unwrap(),
            };
            self.integers = self.integers.max(rate(work));
        }
        for (bandwidth, table) in self.bandwidths.iter_mut().zip(&self.tables) {
            *bandwidth = bandwidth.max(rate(|| table.read()));
        }
    }

    /// The limit in nanoseconds per pair, and the resource that sets it.
    pub(crate) fn limit(&self) -> (f64, &'static str) {
        let integers = self.work.integers.map_or(0.0, |(_, multiply_adds)| multiply_adds as f64 / self.integers);
        let float32 = if self.work.rectified { self.rectified } else { self.float32 };
        let compute = self.work.float32 as f64 / float32 + integers; // 0 if only reading is counted
        let reading = self.work.streams.iter().zip(&self.bandwidths).map(|(&(_, bytes), bandwidth)| bytes / bandwidth);
        let reading = reading.fold(0.0, f64::max);
        let bound = if compute >= reading { "multiply-adds" } else { "reading" };
        (compute.max(reading) / self.work.threads as f64, bound)
    }
}

/// The work done per nanosecond: the best of a few tries.
fn rate(mut work: impl FnMut() -> usize) -> f64 {
    let tries = (0..3).map(|_| {
        let (started, mut done) = (Instant::now(), 0);
        while started.elapsed().as_micros() < 200 {
            done += work();
        }
        done as f64 / started.elapsed().as_nanos() as f64
    });
    tries.fold(0.0, f64::max)
}

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) shape: &'static str,
    /// `float32`, `int16`, `int8` or `int4` for scans; otherwise what varies.
    pub(crate) variant: String,
    pub(crate) items: usize,
    pub(crate) users: usize,
    pub(crate) threads: usize,
    /// Pairs per call.
    pub(crate) pairs: usize,
    /// Per call.
    pub(crate) nanoseconds: f64,
    /// The limit in nanoseconds per pair, and the resource that sets it.
    pub(crate) limit: Option<(f64, &'static str)>,
    pub(crate) rates: Rates,
}

/// The peak rates of one core; 0 for resources that the work does not use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// Billions of float32 multiply-adds per second.
    float32: f64,
    /// The same, each with an addition and a ReLU of its own.
    rectified: f64,
    /// Billions of integer multiply-adds per second.
    integers: f64,
    /// Gigabytes per second, of the table that takes longest to read.
    gigabytes: f64,
}

impl Row {
    fn ns_per_pair(&self) -> f64 {
        self.nanoseconds / self.pairs as f64
    }

    /// The limit, the resource that sets it, and the share reached.
    fn share(&self) -> Option<(f64, &'static str, f64)> {
        self.limit.map(|(limit, bound)| (limit, bound, limit / self.ns_per_pair()))
    }
}

/// The results of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(pub(crate) Vec<Row>);

impl Report {
    /// The report as CSV. Times are in nanoseconds, shares between 0 and 1.
    pub(crate) fn csv(&self) -> String {
        let mut text = String::from(
            "group,shape,variant,items,users,threads,pairs,ns_per_call,ns_per_pair,limit_ns_per_pair,bound_by,share,\
             gmadds_float32,gmadds_rectified,gmadds_integers,gb_per_s\n",
        );
        for row in &self.0 {
            let Row { group, shape, variant, items, users, threads, pairs, nanoseconds, rates, .. } = row;
            write!(text, "{group},{shape},{variant},{items},{users},{threads},{pairs},{nanoseconds:.1},").unwrap();
            write!(text, "{:.4},", row.ns_per_pair()).unwrap();
            match row.share() {
                Some((limit, bound, share)) => write!(text, "{limit:.4},{bound},{share:.4},").unwrap(),
                None => text.push_str(",,,"),
            }
            let Rates { float32, rectified, integers, gigabytes } = rates;
            writeln!(text, "{float32:.2},{rectified:.2},{integers:.2},{gigabytes:.2}").unwrap();
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:9} {:26} {:>9} {:>5} {:>7} {:>9} {:>11} {:>10} {:>10} {:>6}  {:13} {:>6} {:>6} {:>6} {:>6}",
            "group",
            "shape",
            "variant",
            "items",
            "users",
            "threads",
            "pairs",
            "us/call",
            "ns/pair",
            "limit",
            "share",
            "bound by",
            "f32",
            "relu",
            "int",
            "GB/s"
        )?;
        for row in &self.0 {
            let Row { group, shape, variant, items, users, threads, pairs, nanoseconds, rates, .. } = row;
            write!(f, "{group:8} {shape:9} {variant:26} {items:9} {users:5} {threads:7} {pairs:9} ")?;
            write!(f, "{:11.2} {:10.3} ", nanoseconds / 1e3, row.ns_per_pair())?;
            match row.share() {
                Some((limit, bound, share)) => {
                    let Rates { float32, rectified, integers, gigabytes } = rates;
                    write!(f, "{limit:10.3} {:5.1}%  {bound:13} ", share * 100.0)?;
                    writeln!(f, "{float32:6.1} {rectified:6.1} {integers:6.1} {gigabytes:6.1}")?;
                }
                None => writeln!(f, "{:>10} {:>6}", "-", "-")?,
            }
        }
        writeln!(
            f,
            "Rates of one core. f32, int: billions of multiply-adds per second; relu: each after an addition and a \
             ReLU; GB/s: sequential reads"
        )
    }
}

impl Limits {
    pub(crate) fn rates(&self) -> Rates {
        let streams = self.work.streams.iter().zip(&self.bandwidths);
        let slowest = streams.max_by(|a, b| (a.0.1 / a.1).total_cmp(&(b.0.1 / b.1)));
        let gigabytes = slowest.map_or(0.0, |(_, &bandwidth)| bandwidth);
        Rates { float32: self.float32, rectified: self.rectified, integers: self.integers, gigabytes }
    }
}
