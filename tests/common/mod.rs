//! Random models, and a naive implementation of the arithmetic of `rust/kernel/README.md`, one pair at a time.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use neuralcf::format::{FoldIn, Kind, Model, TensorInfo};
use neuralcf::{Call, Engine, Isa, ScanPrecision};

/// The SplitMix64 random number generator.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Uniform in [-1, 1).
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct Shape {
    pub users: usize,
    pub items: usize,
    /// GMF width, 0 for none.
    pub g: usize,
    /// User and item width of the MLP, and its layers; empty for none.
    pub mlp: (usize, usize),
    pub layers: Vec<usize>,
}

impl Shape {
    pub fn new(users: usize, items: usize, g: usize, mlp: (usize, usize), layers: &[usize]) -> Self {
        Shape { users, items, g, mlp, layers: layers.to_vec() }
    }

    pub fn kind(&self) -> Kind {
        match (self.g > 0, self.layers.is_empty()) {
            (true, true) => Kind::Gmf,
            (false, false) => Kind::Mlp,
            _ => Kind::NeuMf,
        }
    }
}

/// Edge cases: not multiples of sixteen, sizes of one, more than one block, panel or task.
pub fn shapes() -> Vec<Shape> {
    vec![
        Shape::new(1, 1, 1, (1, 1), &[1]),
        Shape::new(1, 1, 1, (0, 0), &[]),
        Shape::new(3, 17, 0, (1, 2), &[1, 1]),
        Shape::new(5, 100, 8, (32, 32), &[32, 16, 8]),
        Shape::new(7, 333, 17, (33, 20), &[50, 27, 13, 5]),
        Shape::new(4, 130, 40, (0, 0), &[]),
        Shape::new(4, 64, 0, (3, 5), &[200]),
        Shape::new(2, 2100, 3, (7, 9), &[19, 23]),
        Shape::new(70, 45, 20, (16, 16), &[64, 48, 32, 16, 16]),
    ]
}

/// A tensor: name, shape, values.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

/// The tensors of a random model; weights are scaled so that activations keep their size from layer to layer.
pub fn tensors(shape: &Shape, seed: u64) -> Vec<Tensor> {
    let mut random = Random(seed);
    let mut tensor = |name: &str, dims: &[usize], scale: f32| {
        let values = (0..dims.iter().product()).map(|_| random.float() * scale).collect();
        (name.to_string(), dims.to_vec(), values)
    };
    let mut all = Vec::new();
    if shape.g > 0 {
        all.push(tensor("gmf.user_embedding.weight", &[shape.users, shape.g], 1.0));
        all.push(tensor("gmf.item_embedding.weight", &[shape.items, shape.g], 1.0));
    }
    if !shape.layers.is_empty() {
        all.push(tensor("mlp.user_embedding.weight", &[shape.users, shape.mlp.0], 1.0));
        all.push(tensor("mlp.item_embedding.weight", &[shape.items, shape.mlp.1], 1.0));
        let mut inputs = shape.mlp.0 + shape.mlp.1;
        for (n, &outputs) in shape.layers.iter().enumerate() {
            let scale = (6.0 / inputs as f32).sqrt();
            all.push(tensor(&format!("mlp.layers.{n}.weight"), &[outputs, inputs], scale));
            all.push(tensor(&format!("mlp.layers.{n}.bias"), &[outputs], 0.1));
            inputs = outputs;
        }
    }
    let width = shape.g + shape.layers.last().copied().unwrap_or(0);
    all.push(tensor("output.weight", &[1, width], (3.0 / width as f32).sqrt()));
    all.push(tensor("output.bias", &[1], 0.1));
    all
}

pub fn model(tensors: &[Tensor]) -> Model {
    let infos: Vec<TensorInfo> =
        tensors.iter().map(|(name, shape, _)| TensorInfo { name: name.clone(), shape: shape.clone() }).collect();
    Model::assemble(None, Default::default(), &infos, &mut |tensor, first, to| {
        to.copy_from_slice(&tensors[tensor].2[first..][..to.len()]);
        Ok(())
    })
    .expect("a valid model")
}

/// Two linear encoders and a ridge regression of width 19, with random weights.
pub fn fold_in(shape: &Shape, seed: u64) -> FoldIn {
    let mut random = Random(seed);
    let (width, d) = (shape.g + shape.mlp.0 * usize::from(!shape.layers.is_empty()), 19);
    let shapes: [(&str, &[usize]); 10] = [
        ("empty", &[width]),
        ("bias", &[width]),
        ("linear.0.items", &[shape.items, width]),
        ("linear.0.exponent", &[1]),
        ("linear.1.items", &[shape.items, width]),
        ("linear.1.exponent", &[1]),
        ("ridge.0.items", &[shape.items, d]),
        ("ridge.0.diagonal", &[d]),
        ("ridge.0.l2", &[2]),
        ("ridge.0.output", &[d, width]),
    ];
    let infos = shapes.map(|(name, shape)| TensorInfo { name: name.to_string(), shape: shape.to_vec() });
    FoldIn::assemble(shape.items, width, &infos, &mut |tensor, _, to| {
        to.iter_mut().for_each(|x| {
            *x = match infos[tensor].name.as_str() {
                "linear.0.exponent" => 0.5,
                "linear.1.exponent" => 0.75,
                "ridge.0.diagonal" | "ridge.0.l2" => random.float().abs() + 0.1,
                _ => random.float(),
            }
        });
        Ok(())
    })
    .expect("a valid fold-in")
}

pub fn engine(tensors: &[Tensor], isa: Isa) -> Engine {
    engine_with(tensors, isa, ScanPrecision::Auto)
}

pub fn engine_with(tensors: &[Tensor], isa: Isa, precision: ScanPrecision) -> Engine {
    Engine::new(model(tensors), None, isa, precision, Call::ALONE).expect("an engine")
}

/// The logit of a pair, computed step by step as specified.
pub fn logit(tensors: &[Tensor], user: usize, item: usize) -> f32 {
    let find = |name: &str| tensors.iter().find(|tensor| tensor.0 == name);
    let row = |name: &str, at: usize| find(name).map_or(&[][..], |(_, shape, x)| &x[at * shape[1]..][..shape[1]]);
    let relu = |z: f32| if z > 0.0 { z } else { 0.0 };
    let output = row("output.weight", 0);
    let (p_gmf, q_gmf) = (row("gmf.user_embedding.weight", user), row("gmf.item_embedding.weight", item));
    let (p, q) = (row("mlp.user_embedding.weight", user), row("mlp.item_embedding.weight", item));

    let mut x: Vec<f32> = Vec::new();
    for n in 0.. {
        let name = format!("mlp.layers.{n}.weight");
        let Some((_, shape, _)) = find(&name) else { break };
        let bias = &find(&format!("mlp.layers.{n}.bias")).unwrap().2;
        x = (0..shape[0])
            .map(|o| {
                let w = row(&name, o);
                relu(if n == 0 {
                    let a = q.iter().zip(&w[p.len()..]).fold(0.0, |sum, (&q, &w)| w.mul_add(q, sum));
                    let b = p.iter().zip(w).fold(bias[o], |sum, (&p, &w)| w.mul_add(p, sum));
                    a + b
                } else {
                    x.iter().zip(w).fold(bias[o], |sum, (&x, &w)| w.mul_add(x, sum))
                })
            })
            .collect();
    }
    let mut sum = find("output.bias").unwrap().2[0];
    for ((&p, &q), &w) in p_gmf.iter().zip(q_gmf).zip(output) {
        sum = (w * p).mul_add(q, sum);
    }
    for (&x, &w) in x.iter().zip(&output[p_gmf.len()..]) {
        sum = w.mul_add(x, sum);
    }
    sum + 0.0
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
