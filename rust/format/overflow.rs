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
/// the embeddings through every layer, as ReLU never increases a magnitude. So the bound of each intermediate depends
/// on just four numbers: the largest `|element|` of the GMF vectors and of the MLP vectors of users and of items.
#[derive(Debug, Clone)]
pub struct OverflowBound {
    steps: Vec<Step>,
    users: LargestElements,
    items: LargestElements,
}

/// The largest absolute values of some vectors' elements; 0 for a block that the model lacks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LargestElements {
    /// Of their GMF vectors.
    pub gmf: f32,
    /// Of their MLP vectors.
    pub mlp: f32,
}

/// The bound of one intermediate: the sum of its terms, each times the largest elements that it is named for.
#[derive(Debug, Clone, Default)]
struct Step {
    /// The tensor whose products make up the intermediate, and a name for the intermediate.
    what: String,
    fixed: f64,
    user_gmf: f64,
    user_gmf_and_item_gmf: f64,
    user_mlp: f64,
    item_mlp: f64,
}

impl OverflowBound {
    /// Computes the bound from the extents of the tables; each pair is users, items.
    pub(super) fn new(
        gmf: Option<[Extent; 2]>,
        mlp: Option<([Extent; 2], &[Layer])>,
        output_weight: &[f32],
        output_bias: f32,
    ) -> Result<Self> {
        let largest = |of: usize| LargestElements {
            gmf: gmf.map_or(0.0, |extents| extents[of].max_abs),
            mlp: mlp.map_or(0.0, |(extents, _)| extents[of].max_abs),
        };
        let (users, items) = (largest(0), largest(1));
        let mut steps = Vec::new();
        let (gmf_weight, mlp_weight) = output_weight.split_at(gmf.map_or(0, |[_, items]| items.width));
        let grow = growth(output_weight.len() + 2);
        let fixed = f64::from(output_bias.abs()) * grow;
        let mut logit = Step { fixed, ..Step::of("output.weight: the logit") };
        if gmf.is_some() {
            let largest = gmf_weight.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
            let product = "output.weight: its products with gmf.user_embedding.weight";
            steps.push(Step { user_gmf: f64::from(largest) * growth(1), ..Step::of(product) });
            logit.user_gmf_and_item_gmf = l1(gmf_weight) * grow;
        }
        if let Some((extents, layers)) = mlp {
            let units = hidden_bounds(extents[0].width, layers, &mut steps)?;
            for (weight, unit) in mlp_weight.iter().zip(units) {
                let weight = f64::from(weight.abs()) * grow;
                logit.fixed += weight * unit.fixed;
                logit.user_mlp += weight * unit.user;
                logit.item_mlp += weight * unit.item;
            }
        }
        steps.push(logit);
        Ok(OverflowBound { steps, users, items })
    }

    /// Rejects new user vectors with these elements if a score with them could overflow.
    ///
    /// # Errors
    /// [`Error::Argument`], naming the tensor whose products could overflow.
    pub fn check_users(&self, users: LargestElements) -> Result<()> {
        self.check("user", users, users, self.items).map_err(Error::Argument)
    }

    /// The bound with items that have such elements too.
    ///
    /// # Errors
    /// [`Error::Argument`] if a score of theirs could overflow, naming the tensor whose products could.
    pub(crate) fn with_items(&self, items: LargestElements) -> Result<Self> {
        self.check("item", items, self.users, items).map_err(Error::Argument)?;
        let items = LargestElements { gmf: items.gmf.max(self.items.gmf), mlp: items.mlp.max(self.items.mlp) };
        Ok(OverflowBound { items, ..self.clone() })
    }

    /// The same as [`OverflowBound::check_users`] for the users of the model, with [`Error::Format`].
    pub(super) fn check_model(&self) -> Result<()> {
        self.check("user", self.users, self.users, self.items).map_err(Error::Format)
    }

    /// Errors tell the elements of those who are `new`.
    fn check(
        &self,
        who: &str,
        new: LargestElements,
        users: LargestElements,
        items: LargestElements,
    ) -> std::result::Result<(), String> {
        for step in &self.steps {
            let bound = step.at(users, items);
            if bound.is_nan() || bound > LIMIT {
                let (what, LargestElements { gmf, mlp }) = (&step.what, new);
                return Err(format!(
                    "{what} could reach {bound:.1e} for {who} vectors with elements up to {gmf:e} (GMF) and {mlp:e} \
                     (MLP); the limit is {LIMIT:e}, beyond which float32 could overflow"
                ));
            }
        }
        Ok(())
    }
}

impl Step {
    fn of(what: &str) -> Self {
        Step { what: what.to_owned(), ..Step::default() }
    }

    fn at(&self, users: LargestElements, items: LargestElements) -> f64 {
        let [user_gmf, user_mlp, item_gmf, item_mlp] = [users.gmf, users.mlp, items.gmf, items.mlp].map(f64::from);
        let gmf = (self.user_gmf + self.user_gmf_and_item_gmf * item_gmf) * user_gmf;
        self.fixed + gmf + self.user_mlp * user_mlp + self.item_mlp * item_mlp
    }
}

/// The bound of one hidden unit: `fixed + user * (largest user MLP element) + item * (largest item MLP element)`.
#[derive(Debug, Clone, Copy)]
struct Unit {
    fixed: f64,
    user: f64,
    item: f64,
}

/// Bounds the units of the last hidden layer; pushes a step for every intermediate before them.
fn hidden_bounds(user_width: usize, layers: &[Layer], steps: &mut Vec<Step>) -> Result<Vec<Unit>> {
    let (first, deeper) = layers.split_first().expect("a model with an MLP block has at least one layer");
    let grow = growth(first.inputs + 2);
    let halves = first.weight.chunks_exact(first.inputs).map(|row| row.split_at(user_width));
    let unit = |((user, item), bias): ((&[f32], &[f32]), &f32)| Unit {
        fixed: f64::from(bias.abs()) * grow,
        user: l1(user) * grow,
        item: l1(item) * grow,
    };
    let mut units = collected(WHAT, halves.zip(&first.bias).map(unit))?;

    let of_items = Step { fixed: 0.0, user_mlp: 0.0, ..widest("", &units) };
    let of_users = Step { item_mlp: 0.0, ..widest("", &units) };
    let products = |side: &str| format!("mlp.layers.0.weight: its products with mlp.{side}_embedding.weight");
    steps.push(Step { what: products("item"), ..of_items });
    steps.push(Step { what: products("user"), ..of_users });
    steps.push(widest("mlp.layers.0.weight: the output of layer 0", &units));
    for (n, layer) in (1..).zip(deeper) {
        let grow = growth(layer.inputs + 1);
        let rows = layer.weight.chunks_exact(layer.inputs).zip(&layer.bias);
        let unit = |(row, bias): (&[f32], &f32)| {
            let start = Unit { fixed: f64::from(bias.abs()), user: 0.0, item: 0.0 };
            let sum = row.iter().zip(&units).fold(start, |sum, (weight, unit)| {
                let weight = f64::from(weight.abs());
                Unit {
                    fixed: sum.fixed + weight * unit.fixed,
                    user: sum.user + weight * unit.user,
                    item: sum.item + weight * unit.item,
                }
            });
            Unit { fixed: sum.fixed * grow, user: sum.user * grow, item: sum.item * grow }
        };
        units = collected(WHAT, rows.map(unit))?;
        steps.push(widest(&format!("mlp.layers.{n}.weight: the output of layer {n}"), &units));
    }
    Ok(units)
}

/// The step that bounds all of `units`.
fn widest(what: &str, units: &[Unit]) -> Step {
    let largest = |of: fn(&Unit) -> f64| units.iter().map(of).fold(0.0, f64::max);
    Step {
        fixed: largest(|unit| unit.fixed),
        user_mlp: largest(|unit| unit.user),
        item_mlp: largest(|unit| unit.item),
        ..Step::of(what)
    }
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
