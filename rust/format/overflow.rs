//! A bound on every number in a model's arithmetic, which proves that no score can overflow float32.

use super::blocks::{Extent, Layer};
use crate::error::{Error, Result, collected};

/// What the memory is for.
const WHAT: &str = "overflow bound";

/// The largest bound accepted. Float32 ends at 3.4e38; the margin covers the rounding errors of the bound itself.
const LIMIT: f64 = 1e38;

/// A worst-case bound on every intermediate of the score and on the logit itself, in float64.
///
/// With `|x| <= m` for all inputs, each partial sum of `b + w . x` stays below `|b| + |w|_1 m`. This propagates from
/// the embeddings through every layer, as ReLU never increases a magnitude. The item tables are known, so the bound of
/// each intermediate is affine in just two numbers: the largest `|element|` of the users' GMF vectors and of their MLP
/// vectors.
#[derive(Debug, Clone)]
pub struct OverflowBound {
    steps: Vec<Step>,
}

/// The bound of one intermediate: `fixed + gmf * (largest user GMF element) + mlp * (largest user MLP element)`.
#[derive(Debug, Clone)]
struct Step {
    /// The tensor whose products make up the intermediate, and a name for the intermediate.
    what: String,
    fixed: f64,
    gmf: f64,
    mlp: f64,
}

impl OverflowBound {
    /// Computes the bound from the extents of the tables; each pair is users, items.
    pub(super) fn new(
        gmf: Option<[Extent; 2]>,
        mlp: Option<([Extent; 2], &[Layer])>,
        output_weight: &[f32],
        output_bias: f32,
    ) -> Result<Self> {
        let mut steps = Vec::new();
        let (gmf_weight, mlp_weight) = output_weight.split_at(gmf.map_or(0, |[_, items]| items.width));
        let grow = growth(output_weight.len() + 2);
        let mut logit = Step::new("output.weight: the logit", f64::from(output_bias.abs()) * grow, 0.0, 0.0);
        if let Some([_, items]) = gmf {
            let largest = gmf_weight.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
            let product = "output.weight: its products with gmf.user_embedding.weight";
            steps.push(Step::new(product, 0.0, f64::from(largest) * growth(1), 0.0));
            logit.gmf = l1(gmf_weight) * f64::from(items.max_abs) * grow;
        }
        if let Some((extents, layers)) = mlp {
            let units = hidden_bounds(extents, layers, &mut steps)?;
            for (weight, unit) in mlp_weight.iter().zip(units) {
                let weight = f64::from(weight.abs()) * grow;
                logit.fixed += weight * unit.fixed;
                logit.mlp += weight * unit.user;
            }
        }
        steps.push(logit);
        Ok(OverflowBound { steps })
    }

    /// Rejects new user vectors if a score with them could overflow: `gmf_max_abs` and `mlp_max_abs` are the largest
    /// absolute values of their GMF and MLP elements (0 for a block the model lacks).
    ///
    /// # Errors
    /// [`Error::Argument`], naming the tensor whose products could overflow.
    pub fn check_users(&self, gmf_max_abs: f32, mlp_max_abs: f32) -> Result<()> {
        self.check(gmf_max_abs, mlp_max_abs).map_err(Error::Argument)
    }

    /// The same for the users of the model, with [`Error::Format`].
    pub(super) fn check_model(&self, gmf_max_abs: f32, mlp_max_abs: f32) -> Result<()> {
        self.check(gmf_max_abs, mlp_max_abs).map_err(Error::Format)
    }

    fn check(&self, gmf_max_abs: f32, mlp_max_abs: f32) -> std::result::Result<(), String> {
        for step in &self.steps {
            let bound = step.fixed + step.gmf * f64::from(gmf_max_abs) + step.mlp * f64::from(mlp_max_abs);
            if bound.is_nan() || bound > LIMIT {
                let what = &step.what;
                return Err(format!(
                    "{what} could reach {bound:.1e} for user vectors with elements up to {gmf_max_abs:e} (GMF) and \
                     {mlp_max_abs:e} (MLP); the limit is {LIMIT:e}, beyond which float32 could overflow"
                ));
            }
        }
        Ok(())
    }
}

impl Step {
    fn new(what: &str, fixed: f64, gmf: f64, mlp: f64) -> Self {
        Step { what: what.to_owned(), fixed, gmf, mlp }
    }
}

/// The bound of one hidden unit: `fixed + user * (largest user MLP element)`.
#[derive(Debug, Clone, Copy)]
struct Unit {
    fixed: f64,
    user: f64,
}

/// Bounds the units of the last hidden layer; pushes a step for every intermediate before them.
fn hidden_bounds([users, items]: [Extent; 2], layers: &[Layer], steps: &mut Vec<Step>) -> Result<Vec<Unit>> {
    let (first, deeper) = layers.split_first().expect("a model with an MLP block has at least one layer");
    let grow = growth(first.inputs + 2);
    let largest_item = f64::from(items.max_abs);
    let halves = first.weight.chunks_exact(first.inputs).map(|row| row.split_at(users.width));
    let item_halves = collected(WHAT, halves.clone().map(|(_, item)| l1(item) * largest_item * grow))?;
    let user_half =
        |((user, _), bias): ((&[f32], _), &f32)| Unit { fixed: f64::from(bias.abs()) * grow, user: l1(user) * grow };
    let user_halves = collected(WHAT, halves.zip(&first.bias).map(user_half))?;
    let sums = user_halves.iter().zip(&item_halves).map(|(user, item)| Unit { fixed: user.fixed + item, ..*user });
    let mut units = collected(WHAT, sums)?;

    let item = item_halves.iter().fold(0.0, |largest, &bound| f64::max(largest, bound));
    steps.push(Step::new("mlp.layers.0.weight: its products with mlp.item_embedding.weight", item, 0.0, 0.0));
    steps.push(widest("mlp.layers.0.weight: its products with mlp.user_embedding.weight", &user_halves));
    steps.push(widest("mlp.layers.0.weight: the output of layer 0", &units));
    for (n, layer) in (1..).zip(deeper) {
        let grow = growth(layer.inputs + 1);
        let rows = layer.weight.chunks_exact(layer.inputs).zip(&layer.bias);
        let unit = |(row, bias): (&[f32], &f32)| {
            let start = Unit { fixed: f64::from(bias.abs()), user: 0.0 };
            let sum = row.iter().zip(&units).fold(start, |sum, (weight, unit)| {
                let weight = f64::from(weight.abs());
                Unit { fixed: sum.fixed + weight * unit.fixed, user: sum.user + weight * unit.user }
            });
            Unit { fixed: sum.fixed * grow, user: sum.user * grow }
        };
        units = collected(WHAT, rows.map(unit))?;
        steps.push(widest(&format!("mlp.layers.{n}.weight: the output of layer {n}"), &units));
    }
    Ok(units)
}

/// The step that bounds all of `units`.
fn widest(what: &str, units: &[Unit]) -> Step {
    let largest = |of: fn(&Unit) -> f64| units.iter().map(of).fold(0.0, f64::max);
    Step::new(what, largest(|unit| unit.fixed), 0.0, largest(|unit| unit.user))
}

/// The sum of absolute values.
fn l1(row: &[f32]) -> f64 {
    row.iter().map(|weight| f64::from(weight.abs())).sum()
}

/// The factor by which a chain of `roundings` float32 roundings can raise a bound: `(1 + 2^-24)^roundings <=
/// exp(roundings * 2^-24)`.
fn growth(roundings: usize) -> f64 {
    (roundings as f64 / f64::from(1 << 24)).exp()
}
