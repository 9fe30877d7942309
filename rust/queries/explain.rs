//! `explain`: what a logit is the sum of.

use crate::engine::{Engine, Users};
use crate::error::{Error, Result, filled, reserve};
use crate::indices::Indices;
use crate::kernel::StandardFloats;

/// The terms of a pair's logit. Their sum in float64, from the first to the last, rounded to float32, is the logit.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The bias of the output layer.
    pub bias: f64,
    /// `[G]`: that of each GMF factor.
    pub gmf: Vec<f64>,
    /// `[H]`: that of each output of the last hidden layer.
    pub mlp: Vec<f64>,
}

impl Engine {
    /// For each row, the terms of the logit of its user and `items[row]`: the sums of the specification
    /// (`kernel/README.md`) before and after each of its steps, subtracted.
    ///
    /// # Errors
    /// [`Error::Argument`] if the lengths differ; [`Error::Memory`].
    pub fn explain(&self, users: &Users<'_>, items: &Indices<'_>) -> Result<Vec<Terms>> {
        if users.len() != items.len() {
            let (users, items) = (users.len(), items.len());
            return Err(Error::Argument(format!("users and items: expected equal lengths, got {users} and {items}")));
        }
        let items = self.checked_items(items)?;
        let _settings = StandardFloats::enter();
        let mut all = reserve("terms", items.len())?;
        for (row, &item) in items.iter().enumerate() {
            all.push(self.terms(users, row, item)?);
        }
        Ok(all)
    }

    /// The bias of the output layer, of which every logit has a term.
    pub fn bias(&self) -> f32 {
        self.network.output_bias
    }

    /// The number of terms of the GMF factors and of the MLP, `(G, H)`.
    pub fn term_widths(&self) -> (usize, usize) {
        (self.network.g, self.network.output_weight.len())
    }

    fn terms(&self, users: &Users<'_>, row: usize, item: u32) -> Result<Terms> {
        let network = &self.network;
        let (user_first, user_gmf) = network.split_row(users.row(row));
        let (item_first, item_gmf) = network.split_row(self.catalogue.rows.row(item as usize));
        let mut sum = network.output_bias;
        let mut term = |weight: f32, x: f32| {
            let before = f64::from(sum);
            sum = weight.mul_add(x, sum);
            f64::from(sum) - before
        };
        let mut gmf = reserve("terms", user_gmf.len())?;
        gmf.extend(user_gmf.iter().zip(item_gmf).map(|(&g, &q)| term(g, q)));
        let relu = |x: f32| if x > 0.0 { x } else { 0.0 };
        let mut x = reserve("activations", network.h0)?;
        x.extend(item_first.iter().zip(user_first).map(|(a, b)| relu(a + b)));
        for layer in &network.layers {
            let mut outputs = filled("activations", layer.outputs, 0.0)?;
            for (o, (out, &bias)) in outputs.iter_mut().zip(layer.bias()).enumerate() {
                *out = relu(x.iter().enumerate().fold(bias, |sum, (k, &x)| layer.weight(o, k).mul_add(x, sum)));
            }
            x = outputs;
        }
        let mut mlp = reserve("terms", x.len())?;
        mlp.extend(network.output_weight.iter().zip(&x).map(|(&weight, &x)| term(weight, x)));
        Ok(Terms { bias: network.output_bias.into(), gmf, mlp })
    }
}
