//! A model, laid out for queries.
//!
//! Work that all queries share is done once, at load. The first layer is linear before its ReLU, so its item half and
//! its user half are applied to the two embedding tables; the output layer's GMF weights are folded into the users
//! (`kernel/README.md`).

mod build;
pub(crate) mod catalogue;
pub(crate) mod changes;
pub(crate) mod covariance;
pub(crate) mod dots;
pub(crate) mod layout;
mod new_items;
mod new_users;
mod pairs;
pub(crate) mod precision;
pub(crate) mod rearranged;
pub(crate) mod user_prior;
mod users;
mod verdict;

use std::sync::Arc;

use catalogue::{Catalogue, Tiles};
use changes::Changes;
use layout::{Layout, Projection};
pub use new_items::ItemVectors;
pub use precision::ScanPrecision;
use user_prior::UserPrior;
use users::Which;
pub use users::{ProjectedUsers, UserVectors, Users};

use crate::csr::Csr;
use crate::error::{Error, Result, collected, reserve};
use crate::format::{FoldIn, Kind, LargestElements, Metadata, OverflowBound, Sizes, Table};
use crate::indices::{IndexCheck, Indices};
use crate::kernel::quantized::tiles::IntegerWidth;
use crate::kernel::row_table::{ItemRows, RowTable};
use crate::kernel::scan::{TILES_INTERLEAVED, USERS_PER_LOAD};
use crate::kernel::sigmoid::Sigmoid;
use crate::kernel::weights::{Network, Packed};
use crate::kernel::{Isa, LANES, Lanes};
use crate::memory;
use crate::pool::Call;

/// Multiply-adds from which waking a thread pays off: some 50 us.
const MIN_WORK_PER_THREAD: usize = 2_500_000;

/// A model, projected and laid out for queries. Immutable: any number of threads may query it. What a change of items
/// does not touch is shared with the engine that it makes.
#[derive(Debug)]
pub struct Engine {
    pub(crate) isa: Isa,
    pub(crate) network: Arc<Network>,
    kind: Kind,
    num_users: usize,
    pub(crate) catalogue: Catalogue,
    scan_reason: Arc<str>,
    /// The projected users.
    pub(crate) user_rows: Arc<RowTable>,
    projection: Arc<Projection>,
    /// The users' original embeddings, for [`Engine::user_vectors`].
    user_gmf: Option<Arc<Table>>,
    user_mlp: Option<Arc<Table>>,
    /// Interactions with the items that the model had at load.
    seen: Option<Arc<Csr>>,
    pub(crate) new_users: NewUsers,
    overflow_bound: OverflowBound,
    metadata: Arc<Metadata>,
}

/// How a history becomes the vectors of a user who is not in the model.
#[derive(Debug)]
pub(crate) enum NewUsers {
    /// Not at all.
    Unknown,
    /// By the encoders of `history.safetensors`, which know the items that the model had at load.
    Encoders(Arc<FoldIn>),
    /// By fitting.
    Fitted {
        prior: Arc<UserPrior>,
        /// Items that stand for those that a new user does not have, ascending.
        negatives: Vec<u32>,
    },
}

impl NewUsers {
    /// Items that stand for those that a new user does not have, at most.
    const MAX_NEGATIVES: usize = 256;

    /// By fitting, with evenly spaced items as negatives.
    fn fitted(prior: Arc<UserPrior>, rows: &ItemRows) -> Result<Self> {
        let mut items = reserve("items", rows.count())?;
        items.extend((0..rows.count() as u32).filter(|&item| rows.has(item as usize)));
        let count = items.len().min(Self::MAX_NEGATIVES);
        let negatives = collected("items", (0..count).map(|n| items[n * items.len() / count]))?;
        Ok(NewUsers::Fitted { prior, negatives })
    }
}

/// The scale of scores. Ranking is always by logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The logit: the output layer's value.
    Logit,
    /// The sigmoid of the logit.
    Probability,
}

impl Engine {
    /// Bytes of a panel of tiles, about three quarters of an L1 data cache: the panel stays there while all users of a
    /// block are scored against it.
    pub const PANEL_BYTES: usize = 24 << 10;

    /// `gmf`, `mlp` or `neumf`.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of users in the model.
    pub fn num_users(&self) -> usize {
        self.num_users
    }

    /// The number of item indices: that of the items in the model, those that have been removed included.
    pub fn num_items(&self) -> usize {
        self.catalogue.rows.count()
    }

    /// The instruction set that the engine is laid out for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The scan precision in use; never [`ScanPrecision::Auto`].
    pub fn scan_precision(&self) -> ScanPrecision {
        match &*self.catalogue.tiles {
            Tiles::Float32(_) => ScanPrecision::Float32,
            Tiles::Quantized(quantized) => match quantized.quantization.narrowest() {
                IntegerWidth::Int16 => ScanPrecision::Int16,
                IntegerWidth::Int8 => ScanPrecision::Int8,
            },
            Tiles::Dots(_) => ScanPrecision::Int4,
        }
    }

    /// Why the scan has its precision, in words.
    pub fn scan_reason(&self) -> &str {
        &self.scan_reason
    }

    /// Users of a block that share the loads of a tile in float32.
    pub fn users_per_load(&self) -> usize {
        let sixteen_chains = USERS_PER_LOAD * TILES_INTERLEAVED <= self.isa.block();
        let shared = self.network.layers.is_empty() && (self.network.h0 == 0 || sixteen_chains);
        if shared { USERS_PER_LOAD } else { 1 }
    }

    /// Bytes that a scan reads per item.
    pub fn scan_bytes_per_item(&self) -> usize {
        let lines = match &*self.catalogue.tiles {
            Tiles::Float32(_) => self.network.tile_len(),
            Tiles::Quantized(quantized) => {
                let width = quantized.quantization.narrowest();
                quantized.quantization.layout().lines_read(width)
            }
            Tiles::Dots(dots) => dots.int4.tile_len(),
        };
        lines * size_of::<Lanes>() / LANES
    }

    /// The metadata of the model file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The stored interactions, one row per user.
    pub fn seen(&self) -> Option<&Csr> {
        self.seen.as_deref()
    }

    /// The same engine, which makes vectors of new users by `fold_in`.
    ///
    /// # Errors
    /// [`Error::Argument`] if it is for another number of items or another width of user vectors.
    pub fn with_fold_in(self, fold_in: FoldIn) -> Result<Self> {
        let (gmf_width, mlp_width) = self.user_widths();
        let (expected, got) = ((self.num_items(), gmf_width + mlp_width), (fold_in.num_items(), fold_in.width()));
        if got != expected {
            return Err(Error::Argument(format!("history: expected (items, width) of {expected:?}, got {got:?}")));
        }
        Ok(Engine { new_users: NewUsers::Encoders(Arc::new(fold_in)), ..self })
    }

    /// Bytes that a model of these sizes takes at most while it is laid out: its tables and layers, the rows and tiles
    /// made of them, and the scratch of `threads` threads.
    pub fn bytes_needed(sizes: &Sizes, threads: usize) -> u64 {
        let Sizes { num_users, num_items, gmf_width: g, mlp_user_width, mlp_item_width, mlp_layers, .. } = sizes;
        let [users, items, g, mu, mi] = [num_users, num_items, g, mlp_user_width, mlp_item_width].map(|&n| n as u64);
        let product = u64::saturating_mul;
        let sum = |terms: &[u64]| terms.iter().fold(0, |sum: u64, &term| sum.saturating_add(term));
        let (float, lanes) = (size_of::<f32>() as u64, size_of::<Lanes>() as u64);
        let padded = |n: u64| n.div_ceil(LANES as u64);
        let h0 = mlp_layers.first().map_or(0, |&outputs| outputs as u64);

        let tables = sum(&[product(users, sum(&[g, mu])), product(items, sum(&[g, mi]))]);
        let mut inputs = sum(&[mu, mi]);
        let layers = mlp_layers.iter().map(|&outputs| {
            // As floats, and with the outputs padded to whole vectors.
            let of = |outputs| product(inputs.saturating_add(1), outputs);
            let weights = [of(outputs as u64), of(padded(outputs as u64))];
            inputs = outputs as u64;
            weights
        });
        let [layers, by_output] =
            layers.fold([0; 2], |[a, b]: [u64; 2], [c, d]| [a.saturating_add(c), b.saturating_add(d)]);
        let rows = product(sum(&[users, items]), sum(&[padded(h0), padded(g)]));
        let tiles = product(padded(items), sum(&[h0, g]));
        // Codes of a dot product in four bits: tiles of the upper halves are smaller than those of float32, the lower
        // halves lie in rows, and a code, a norm and a place are held for each item while they are made.
        let lower_halves = if h0 == 0 { product(items, padded(g.div_ceil(8)).saturating_add(1)) } else { 0 };
        let scratch = product(threads as u64, sum(&[h0, h0, g, mu, mi]));
        // The layers are held as read, packed and quantized, the last in up to three forms.
        let floats = sum(&[tables, product(6, layers)]);
        sum(&[product(floats, float), product(sum(&[rows, tiles, lower_halves, scratch, by_output]), lanes)])
    }

    /// Rejects a model that takes more than `max_bytes`, or, without a limit, more than are free, before it is built.
    /// `other` bytes are those of its other files.
    ///
    /// # Errors
    /// [`Error::Memory`] with both numbers.
    pub fn admit(sizes: &Sizes, other: u64, threads: usize, max_bytes: Option<u64>) -> Result<()> {
        // Ids have a lookup table of up to twice their size; interactions are held as they are.
        let bytes = Self::bytes_needed(sizes, threads).saturating_add(other.saturating_mul(3));
        memory::check("the model", bytes, max_bytes)
    }

    /// Multiply-adds per pair, the unit of work estimates.
    pub fn multiply_adds(&self) -> usize {
        self.network.multiply_adds()
    }

    /// Bytes of memory held, by part.
    pub fn nbytes(&self) -> [(&'static str, usize); 7] {
        let layers = [&self.projection.first_layer, &self.projection.item_layer];
        let projection: usize = layers.into_iter().flatten().map(Packed::nbytes).sum();
        let changes = self.catalogue.changes.as_ref().map_or(0, Changes::nbytes);
        let quantization = match &*self.catalogue.tiles {
            Tiles::Float32(_) | Tiles::Dots(_) => 0,
            Tiles::Quantized(quantized) => quantized.quantization.nbytes(),
        };
        let vectors = [&self.user_gmf, &self.user_mlp].into_iter().flatten().map(|table| table.nbytes()).sum();
        let history = match &self.new_users {
            NewUsers::Unknown => 0,
            NewUsers::Encoders(fold_in) => fold_in.nbytes(),
            NewUsers::Fitted { prior, .. } => prior.nbytes(),
        };
        [
            ("item_tiles", self.catalogue.tiles.nbytes() + changes),
            ("item_rows", self.catalogue.rows.nbytes()),
            ("user_rows", self.user_rows.nbytes()),
            ("user_vectors", vectors),
            (
                "network",
                self.network.nbytes() + quantization + projection + size_of_val(&self.projection.output_gmf[..]),
            ),
            ("seen", self.seen().map_or(0, Csr::nbytes)),
            ("history", history),
        ]
    }

    /// Widths of the users' GMF and MLP embeddings; 0 for a block that the model lacks.
    pub fn user_widths(&self) -> (usize, usize) {
        let width = |table: &Option<Arc<Table>>| table.as_ref().map_or(0, |table| table.width());
        (width(&self.user_gmf), width(&self.user_mlp))
    }

    /// The users with these indices, one for each row of a call.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn users<'a>(&'a self, users: &'a [u32]) -> Result<Users<'a>> {
        self.user_check().all(users)?;
        Ok(self.each_user(users))
    }

    /// The users with these checked indices, one for each row of a call.
    ///
    /// # Errors
    /// [`Error::Argument`] for indices that were checked against more users than the model has.
    pub fn checked_users<'a>(&'a self, users: &'a Indices<'_>) -> Result<Users<'a>> {
        Ok(self.each_user(users.below(self.num_users, "users")?))
    }

    fn each_user<'a>(&'a self, users: &'a [u32]) -> Users<'a> {
        Users { which: Which::Each(users), len: users.len(), ..self.same_user(0) }
    }

    /// The same user for each of `rows` rows.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn user(&self, user: u32, rows: usize) -> Result<Users<'_>> {
        let user = self.user_check().one(0, user.into())?;
        Ok(Users { len: rows, ..self.same_user(user) })
    }

    /// Checks the indices of items.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn items<'a>(&self, items: &'a [u32]) -> Result<Indices<'a>> {
        self.item_check().all(items)
    }

    /// The bounds check of user indices, for the argument `users`.
    pub fn user_check(&self) -> IndexCheck<'static> {
        IndexCheck { what: "users", noun: "user", bound: self.num_users }
    }

    /// The bounds check of item indices, for the argument `items`.
    pub fn item_check(&self) -> IndexCheck<'static> {
        IndexCheck { what: "items", noun: "item", bound: self.num_items() }
    }

    /// The items with these checked indices.
    ///
    /// # Errors
    /// [`Error::Argument`] for indices that were checked against more items than the model has; [`Error::OutOfRange`]
    /// for an item that has been removed.
    pub(crate) fn checked_items<'a>(&self, items: &'a Indices<'_>) -> Result<&'a [u32]> {
        let items = items.below(self.num_items(), "items")?;
        self.check_not_removed("items", items)?;
        Ok(items)
    }

    /// # Errors
    /// [`Error::OutOfRange`] for an item that has been removed.
    pub(crate) fn check_not_removed(&self, what: &str, items: &[u32]) -> Result<()> {
        if self.catalogue.changes.is_some()
            && let Some(at) = items.iter().position(|&item| !self.has_item(item))
        {
            let item = items[at];
            return Err(Error::OutOfRange(format!("{what}[{at}]: the item with index {item} has been removed")));
        }
        Ok(())
    }

    /// Whether the item with this index, below `num_items`, has not been removed.
    pub fn has_item(&self, item: u32) -> bool {
        self.catalogue.rows.has(item as usize)
    }

    fn same_user(&self, user: u32) -> Users<'_> {
        Users { rows: &self.user_rows, which: Which::Same(user), len: 1 }
    }

    /// Projects new users, given by their embeddings, for queries.
    ///
    /// # Errors
    /// [`Error::Argument`] for vectors of a block that the model lacks, missing vectors, a wrong size, a value that is
    /// not finite, or vectors so large that a score could overflow float32; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn project(&self, vectors: &UserVectors, call: Call<'_>) -> Result<ProjectedUsers> {
        let rows = vectors.rows;
        if u32::try_from(rows).is_err() {
            return Err(Error::Argument(format!("users: expected at most {} rows, got {rows}", u32::MAX)));
        }
        let width = |table: &Option<Arc<Table>>| table.as_ref().map(|table| table.width());
        let gmf = self.check_vectors("users.gmf", width(&self.user_gmf), vectors.gmf.as_deref(), rows)?;
        let mlp = self.check_vectors("users.mlp", width(&self.user_mlp), vectors.mlp.as_deref(), rows)?;
        self.overflow_bound.check_users(LargestElements { gmf: max_abs(gmf), mlp: max_abs(mlp) })?;
        let layout = Layout { isa: self.isa, network: &self.network, call };
        let (gmf_width, mlp_width) = self.user_widths();
        let gmf_row = self.user_gmf.as_ref().map(|_| |user| &gmf[user * gmf_width..][..gmf_width]);
        let mlp_row = self.user_mlp.as_ref().map(|_| |user| &mlp[user * mlp_width..][..mlp_width]);
        layout.user_rows("user vectors", &self.projection, rows, gmf_row, mlp_row).map(ProjectedUsers)
    }

    fn check_vectors<'a>(
        &self,
        what: &str,
        width: Option<usize>,
        values: Option<&'a [f32]>,
        rows: usize,
    ) -> Result<&'a [f32]> {
        let wrong = |text: String| Err(Error::Argument(format!("{what}: {text}")));
        match (width, values) {
            (None, None) => Ok(&[]),
            (None, Some(_)) => wrong(format!("expected None, because a {} model has no such part", self.kind.as_str())),
            (Some(width), None) => wrong(format!("expected [{rows}, {width}] values, got None")),
            (Some(width), Some(values)) if values.len() != rows * width => {
                wrong(format!("expected [{rows}, {width}] values, got {} in total", values.len()))
            }
            (Some(width), Some(values)) => match values.iter().position(|x| !x.is_finite()) {
                Some(at) => {
                    let (row, column) = (at / width, at % width);
                    wrong(format!("expected finite values, got {} at [{row}, {column}]", values[at]))
                }
                None => Ok(values),
            },
        }
    }

    /// The embeddings of `users`.
    ///
    /// # Errors
    /// [`Error::Argument`] for users that are not in the model; [`Error::Memory`].
    pub fn user_vectors(&self, users: &Users<'_>) -> Result<UserVectors> {
        let rows = users.len();
        let gather = |table: &Arc<Table>| {
            let mut values = reserve("user vectors", rows.saturating_mul(table.width()))?;
            for row in 0..rows {
                let Some(user) = users.index(row) else {
                    return Err(Error::Argument("users: expected users of the model, got user vectors".into()));
                };
                values.extend_from_slice(table.row(user as usize));
            }
            Ok(values)
        };
        Ok(UserVectors {
            rows,
            gmf: self.user_gmf.as_ref().map(gather).transpose()?,
            mlp: self.user_mlp.as_ref().map(gather).transpose()?,
        })
    }

    /// Limits the threads of `call` to as many as scoring `pairs` pairs can keep busy.
    pub(crate) fn limit_threads<'a>(&self, call: Call<'a>, pairs: usize) -> Call<'a> {
        self.limit_threads_for(call, pairs.saturating_mul(self.network.multiply_adds() + 16))
    }

    /// Limits the threads of `call` to as many as `work` multiply-adds can keep busy.
    pub(crate) fn limit_threads_for<'a>(&self, call: Call<'a>, work: usize) -> Call<'a> {
        Call { threads: call.threads.min(work / MIN_WORK_PER_THREAD).max(1), ..call }
    }

    /// Converts logits to `scale`.
    pub(crate) fn rescale(&self, logits: &mut [f32], scale: Scale) {
        if scale == Scale::Probability {
            self.isa.run(Sigmoid(logits));
        }
    }
}

fn max_abs(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, x| max.max(x.abs()))
}
