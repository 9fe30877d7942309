//! Makes engines with other items: changed ones, new ones, and without some.

use std::sync::Arc;

use super::catalogue::Catalogue;
use super::changes::Changes;
use super::layout::Layout;
use super::{Engine, NewUsers, max_abs};
use crate::error::{Error, Result, collected};
use crate::format::{LargestElements, Table};
use crate::indices::Indices;
use crate::kernel::row_table::{ItemRows, RowTable};
use crate::kernel::weights::Network;
use crate::pool::Call;

/// The largest number of items that indices are checked for.
const MAX_ITEMS: usize = 1 << 31;

/// The embeddings of items, one row per item.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemVectors {
    /// The number of items.
    pub rows: usize,
    /// `[rows, G]`, if the model has a GMF block.
    pub gmf: Option<Vec<f32>>,
    /// `[rows, Mi]`, if the model has an MLP block.
    pub mlp: Option<Vec<f32>>,
}

impl Catalogue {
    /// The rows and changes of this catalogue, to be changed for one with `new` more items and `more` more in blocks.
    fn edited(&self, new: usize, more: usize) -> Result<(ItemRows, Changes)> {
        let changes = match &self.changes {
            None => Changes::none(self.rows.table().count())?,
            Some(changes) => changes.extended(more)?,
        };
        Ok((self.rows.extended(new, more)?, changes))
    }

    /// This catalogue with these rows for the items in `changed`, and then for new items after the last one.
    fn with_rows(&self, network: &Network, changed: &[u32], rows: &RowTable) -> Result<Self> {
        let (first, new) = (self.rows.count(), rows.count() - changed.len());
        let (mut item_rows, mut changes) = self.edited(new, rows.count())?;
        let items = changed.iter().map(|&item| item as usize).chain(first..first + new);
        for (at, item) in items.enumerate() {
            let place = item_rows.place_in_blocks(item).unwrap_or_else(|| {
                changes.retire(item);
                changes.next_place()
            });
            item_rows.put(item, place, rows.row(at))?;
            changes.put(network, item, place, rows.row(at))?;
        }
        Ok(Catalogue { rows: item_rows, tiles: Arc::clone(&self.tiles), changes: Some(changes) })
    }

    /// This catalogue without these items, none of which has been removed before.
    fn without(&self, items: &[u32]) -> Result<Self> {
        let (mut item_rows, mut changes) = self.edited(0, 0)?;
        for item in items.iter().map(|&item| item as usize) {
            match item_rows.place_in_blocks(item) {
                Some(place) => changes.clear(place)?,
                None => changes.retire(item),
            }
            item_rows.remove(item);
        }
        Ok(Catalogue { rows: item_rows, tiles: Arc::clone(&self.tiles), changes: Some(changes) })
    }
}

impl Engine {
    /// An engine in which these items have other vectors; this one stays as it is. Items that have been removed are
    /// back.
    ///
    /// # Errors
    /// [`Error::Argument`] for an item that is given twice, for vectors of a block that the model lacks, missing
    /// vectors, a wrong size, a value that is not finite, or vectors so large that a score could overflow float32;
    /// [`Error::Memory`]; [`Error::Interrupted`].
    pub fn with_items(&self, items: &Indices<'_>, vectors: &ItemVectors, call: Call<'_>) -> Result<Self> {
        let items = items.below(self.num_items(), "items")?;
        if items.len() != vectors.rows {
            let (items, rows) = (items.len(), vectors.rows);
            return Err(Error::Argument(format!("items and vectors: expected equal lengths, got {items} and {rows}")));
        }
        check_distinct(items)?;
        self.with_vectors(items, vectors, call)
    }

    /// An engine with more items, whose indices follow the last one; this one stays as it is.
    ///
    /// # Errors
    /// [`Error::Argument`] for too many items, and as for [`Engine::with_items`].
    pub fn with_new_items(&self, vectors: &ItemVectors, call: Call<'_>) -> Result<Self> {
        if vectors.rows > MAX_ITEMS - self.num_items() {
            let most = MAX_ITEMS - self.num_items();
            return Err(Error::Argument(format!("vectors: expected at most {most} more items, got {}", vectors.rows)));
        }
        self.with_vectors(&[], vectors, call)
    }

    /// An engine without these items; this one stays as it is. Their indices are given to no other item.
    ///
    /// # Errors
    /// [`Error::Argument`] for an item that is given twice; [`Error::OutOfRange`] for one that has been removed before;
    /// [`Error::Memory`].
    pub fn without_items(&self, items: &Indices<'_>) -> Result<Self> {
        let items = self.checked_items(items)?;
        check_distinct(items)?;
        self.with_catalogue(self.catalogue.without(items)?)
    }

    fn with_vectors(&self, changed: &[u32], vectors: &ItemVectors, call: Call<'_>) -> Result<Self> {
        let ItemVectors { rows, gmf, mlp } = vectors;
        let layer = self.projection.item_layer.as_ref();
        let gmf_width = Some(self.network.g).filter(|&g| g > 0);
        let gmf = self.check_vectors("vectors.gmf", gmf_width, gmf.as_deref(), *rows)?;
        let mlp = self.check_vectors("vectors.mlp", layer.map(|layer| layer.inputs), mlp.as_deref(), *rows)?;
        let largest = LargestElements { gmf: max_abs(gmf), mlp: max_abs(mlp) };
        let overflow_bound = self.overflow_bound.with_items(largest)?;
        let layout = Layout { isa: self.isa, network: &self.network, call };
        let table = |values: &[f32], width: usize| Ok(Table::of(collected("vectors", values.iter().copied())?, width));
        let gmf = gmf_width.map(|width| table(gmf, width)).transpose()?;
        let mlp = layer.map(|layer| Ok((table(mlp, layer.inputs)?, layer))).transpose()?;
        let rows = layout.item_rows(*rows, gmf, mlp)?;
        let engine = self.with_catalogue(self.catalogue.with_rows(&self.network, changed, &rows)?)?;
        Ok(Engine { overflow_bound, ..engine })
    }

    fn with_catalogue(&self, catalogue: Catalogue) -> Result<Self> {
        let new_users = match &self.new_users {
            NewUsers::Fitted { prior, .. } => NewUsers::fitted(Arc::clone(prior), &catalogue.rows)?,
            NewUsers::Encoders(fold_in) => NewUsers::Encoders(Arc::clone(fold_in)),
            NewUsers::Unknown => NewUsers::Unknown,
        };
        Ok(Engine {
            isa: self.isa,
            network: Arc::clone(&self.network),
            kind: self.kind,
            num_users: self.num_users,
            catalogue,
            scan_reason: Arc::clone(&self.scan_reason),
            user_rows: Arc::clone(&self.user_rows),
            projection: Arc::clone(&self.projection),
            user_gmf: self.user_gmf.clone(),
            user_mlp: self.user_mlp.clone(),
            seen: self.seen.clone(),
            new_users,
            overflow_bound: self.overflow_bound.clone(),
            metadata: Arc::clone(&self.metadata),
        })
    }
}

fn check_distinct(items: &[u32]) -> Result<()> {
    let mut sorted = collected("items", items.iter().copied())?;
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(Error::Argument(format!("items: expected each once, got {} twice", twice[0]))),
        None => Ok(()),
    }
}
