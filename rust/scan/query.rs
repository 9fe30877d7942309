//! The users and filters of a call, checked against each other and against the catalogue.

use crate::csr::Csr;
use crate::engine::{Engine, Users};
use crate::error::{Error, Result};
use crate::filter::{Allow, Exclude, Filter, ItemSet, Shared};
use crate::kernel::LANES;

/// If a filter admits at most one item in this many, scoring the items one by one is cheaper than a scan.
const MIN_SHARE_TO_SCAN: usize = 4;

/// The users and filters of a call, checked.
pub(crate) struct Query<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) users: &'a Users<'a>,
    pub(crate) filter: &'a Filter<'a>,
    pub(crate) shared: Shared,
    /// The number of units of work in the catalogue: tiles, listed items, or 1 for a row's candidates as a whole.
    pub(crate) len: usize,
    /// The maximum items in a unit.
    pub(crate) width: usize,
}

impl<'a> Query<'a> {
    pub(crate) fn new(engine: &'a Engine, users: &'a Users<'a>, filter: &'a Filter<'a>) -> Result<Self> {
        let rows = users.len();
        let one_row_each = |what: &str, got: usize| {
            let text = || format!("{what}: expected one row for each of {rows} users, got {got}");
            if got == rows { Ok(()) } else { Err(Error::Argument(text())) }
        };
        check_items("allow", filter.allow.as_ref().map(Allow::items), engine)?;
        check_items("deny", filter.deny.map(ItemSet::items), engine)?;
        check_items("allow", filter.candidates.map(Csr::columns), engine)?;
        match &filter.exclude {
            Some(Exclude::Rows(csr)) => {
                one_row_each("exclude", csr.rows())?;
                check_items("exclude", Some(csr.columns()), engine)?;
            }
            Some(Exclude::Seen(_)) if rows > 0 && users.index(0).is_none() => {
                let text = "exclude: \"seen\" needs users of the model, got user vectors; pass the rows to exclude";
                return Err(Error::Argument(text.into()));
            }
            Some(Exclude::Seen(csr)) => {
                let (users, got) = (engine.num_users(), csr.rows());
                if got != users {
                    let text = format!("exclude: expected seen items of {users} users, got {got} rows");
                    return Err(Error::Argument(text));
                }
                if csr.columns() > engine.num_items() {
                    check_items("exclude", Some(csr.columns()), engine)?; // it may know fewer: items can be new
                }
            }
            None => (),
        }
        if let Some(csr) = filter.candidates {
            one_row_each("allow", csr.rows())?;
        }
        let mut shared = filter.shared(engine.num_items(), MIN_SHARE_TO_SCAN)?;
        if let Shared::Few(items) = &mut shared {
            items.retain(|&item| engine.has_item(item));
        }
        let (len, width) = match (&shared, filter.candidates) {
            (_, Some(csr)) => (1, (0..rows).map(|row| csr.row(row).len()).max().unwrap_or(0)),
            (Shared::Few(items), None) => (items.len(), 1),
            _ => (engine.catalogue.tile_count(), LANES),
        };
        Ok(Query { engine, users, filter, shared, len, width })
    }

    /// The maximum items that a row can get.
    pub(crate) fn max_items(&self) -> usize {
        self.engine.num_items().min(self.len * self.width)
    }

    pub(super) fn excluded(&self, row: usize) -> &'a [u32] {
        match self.filter.exclude {
            None => &[],
            Some(Exclude::Rows(csr)) => csr.row(row),
            Some(Exclude::Seen(csr)) => self.users.index(row).map_or(&[], |user| csr.row(user as usize)),
        }
    }

    /// Whether the shared filter admits an item.
    pub(super) fn shares(&self, item: u32) -> bool {
        match &self.shared {
            Shared::All => true,
            Shared::Most(set) => set.contains(item),
            Shared::Few(items) => items.binary_search(&item).is_ok(),
        }
    }

    /// Whether an item is still as it was laid out at load, and the filters admit it for row `row`.
    pub(super) fn admits(&self, row: usize, item: u32) -> bool {
        self.engine.catalogue.lanes(item as usize / LANES) >> (item as usize % LANES) & 1 == 1
            && self.shares(item)
            && self.excluded(row).binary_search(&item).is_err()
    }

    /// The lanes of a tile that was laid out at load that hold an item, as it still is, and that the shared filter
    /// admits.
    pub(super) fn admitted_lanes(&self, tile: usize) -> u16 {
        let items = self.engine.catalogue.lanes(tile);
        match &self.shared {
            Shared::Most(set) => items & set.sixteen(tile),
            _ => items,
        }
    }
}

/// Checks that a filter over `items` items fits the catalogue.
fn check_items(what: &str, items: Option<usize>, engine: &Engine) -> Result<()> {
    let expected = engine.num_items();
    match items {
        Some(got) if got != expected => {
            Err(Error::Argument(format!("{what}: expected a filter over {expected} items, got one over {got}")))
        }
        _ => Ok(()),
    }
}
