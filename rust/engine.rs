//! A model laid out for queries.
//!
//! What all queries share is done once, here: the first layer is linear before its ReLU, so its item half and its user half are
//! applied to the two tables when the model is loaded, and the output layer's GMF weights go into the users (`kernel/README.md`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops;

use crate::choose::{Candidate, integers_may_pay};
use crate::error::{Error, Result, reserve};
use crate::filter::Csr;
use crate::format::{Kind, Model, Range, Table};
use crate::kernel::bounds::Integers;
use crate::kernel::integer::{Tiles, Width};
use crate::kernel::network::{Network, Packed, Scratch};
use crate::kernel::rows::Rows;
use crate::kernel::sigmoid::Sigmoid;
use crate::kernel::{Aligned, IntegerIsa, Isa, Lanes};
use crate::layout::{Layout, Projection};
use crate::pool::{self, Call};

/// Work for which a thread is worth waking: some 50 us of multiply-adds.
const WORTH_A_THREAD: usize = 2_500_000;

/// A model, projected and laid out, with all that a query needs. Immutable: any number of threads may query it.
#[derive(Debug)]
pub struct Engine {
    pub(crate) isa: Isa,
    pub(crate) network: Network,
    kind: Kind,
    num_users: usize,
    num_items: usize,
    /// Sixteen items side by side, feature by feature: what a scan of the catalogue reads. In integers where there are `integers`.
    pub(crate) item_tiles: Aligned,
    /// The int16 words of the tiles, where there are `integers`.
    pub(crate) item_pairs: Aligned,
    /// What the scan in integers needs.
    pub(crate) integers: Option<(IntegerIsa, Integers)>,
    /// One item after the other: what a query of single items reads.
    item_rows: Rows,
    /// One user after the other, projected.
    user_rows: Rows,
    projection: Projection,
    /// The users' embeddings as they were given, for [`Engine::user_vectors`].
    user_gmf: Option<Table>,
    user_mlp: Option<Table>,
    seen: Option<Csr>,
    range: Range,
    metadata: BTreeMap<String, String>,
}

/// How the catalogue is scanned. The answers are the same, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// In the integers that pay for the model, if any: a catalogue and a second hidden layer large enough, estimates good enough.
    Auto,
    /// In float32.
    Float32,
    /// In int16 with a proven bound of the error, and in float32 what the bound leaves open. For models without a hidden layer after
    /// the first and for instruction sets where integers are not faster, in float32.
    Int16,
    /// In int8 with a proven bound, and in int16 for users to whom that does not apply or for whom it leaves too much open. For models
    /// and instruction sets as with [`Pass::Int16`], in float32.
    Int8,
}

/// Whether a score is a logit or a probability. Order is always by logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The output layer's value.
    Logit,
    /// Its sigmoid.
    Probability,
}

/// The embeddings of some users, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct UserVectors {
    /// How many users.
    pub rows: usize,
    /// `[rows, G]`, in a model with a GMF part.
    pub gmf: Option<Vec<f32>>,
    /// `[rows, Mu]`, in a model with an MLP.
    pub mlp: Option<Vec<f32>>,
}

/// Users that are not in the model, ready to be queried; see [`Engine::project`].
#[derive(Debug)]
pub struct ProjectedUsers(Rows);

/// The users of a call, one for each row of it.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a> {
    rows: &'a Rows,
    which: Which<'a>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
enum Which<'a> {
    Each(&'a [u32]),
    Same(u32),
    /// Not users of the model: row `r` is user `r`.
    Given,
}

impl<'a> Users<'a> {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The index in the model of row `row`'s user; `None` for a user that is not in the model.
    pub fn index(&self, row: usize) -> Option<u32> {
        match self.which {
            Which::Each(users) => Some(users[row]),
            Which::Same(user) => Some(user),
            Which::Given => None,
        }
    }

    /// Where the users of these rows are in the table that [`Users::rows`] gives; `None` where all are one.
    pub(crate) fn positions(&self, rows: ops::Range<usize>) -> Option<Cow<'a, [u32]>> {
        match self.which {
            Which::Each(users) => Some(users[rows].into()),
            Which::Same(_) => None,
            Which::Given => Some(rows.map(|row| row as u32).collect()),
        }
    }

    pub(crate) fn rows(&self) -> &'a Rows {
        self.rows
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [Lanes] {
        self.rows.row(match self.which {
            Which::Each(users) => users[row] as usize,
            Which::Same(user) => user as usize,
            Which::Given => row,
        })
    }
}

impl ProjectedUsers {
    /// All of them, in the order of their vectors.
    pub fn users(&self) -> Users<'_> {
        Users { rows: &self.0, which: Which::Given, len: self.0.count() }
    }
}

/// `value` as an index of a table of `bound` rows, or what is wrong with it: `what` names the argument, `noun` what it indexes.
pub fn index(what: &str, at: usize, value: i128, bound: usize, noun: &str) -> Result<u32> {
    match u32::try_from(value) {
        Ok(index) if (index as usize) < bound => Ok(index),
        _ => Err(Error::OutOfRange(format!("{what}[{at}]: {noun} index {value} is out of range for {bound} {noun}s"))),
    }
}

impl Engine {
    /// Lays `model` out for `isa` and `pass`, with the stored interactions `seen`, a row for each user.
    ///
    /// # Errors
    /// [`Error::Memory`]; [`Error::Interrupted`]; [`Error::Argument`] when `seen` has not one row for each user.
    pub fn new(model: Model, seen: Option<Csr>, isa: Isa, pass: Pass, call: Call<'_>) -> Result<Self> {
        pool::survive_forks();
        let (num_users, num_items) = (model.num_users(), model.num_items());
        if let Some(seen) = &seen
            && seen.rows() != num_users
        {
            let got = seen.rows();
            return Err(Error::Argument(format!("seen: expected one row for each of {num_users} users, got {got}")));
        }
        let parts = model.into_parts();
        let (user_gmf, item_gmf) = parts.gmf.map(|gmf| (gmf.users, gmf.items)).unzip();
        let (user_mlp, item_mlp, layers) = match parts.mlp {
            Some(mlp) => (Some(mlp.users), Some(mlp.items), mlp.layers),
            None => (None, None, Vec::new()),
        };
        let g = user_gmf.as_ref().map_or(0, Table::width);
        let user_width = user_mlp.as_ref().map_or(0, Table::width);
        let (output_gmf, output_hidden) = parts.output_weight.split_at(g);
        let pack = |layer: &crate::format::Layer, bias: &[f32], from: usize, inputs: usize| {
            Packed::new(inputs, bias, isa.block(), |o, k| layer.weight[o * layer.inputs + from + k])
        };
        let network = Network {
            h0: layers.first().map_or(0, |layer| layer.outputs),
            g,
            layers: layers.iter().skip(1).map(|layer| pack(layer, &layer.bias, 0, layer.inputs)).collect(),
            output_weight: output_hidden.to_vec(),
            output_bias: parts.output_bias,
        };
        let first = layers.first();
        let item_half =
            first.map(|layer| pack(layer, &vec![0.0; layer.outputs], user_width, layer.inputs - user_width));
        let projection = Projection {
            first_layer: first.map(|layer| pack(layer, &layer.bias, 0, user_width)),
            output_gmf: output_gmf.to_vec(),
        };

        let layout = Layout { isa, network: &network, call };
        let item_rows = layout.item_rows(num_items, item_gmf, item_mlp.zip(item_half.as_ref()))?;
        let gmf_row = user_gmf.as_ref().map(|table| |user| table.row(user));
        let mlp_row = user_mlp.as_ref().map(|table| |user| table.row(user));
        let user_rows = layout.user_rows("user rows", &projection, num_users, gmf_row, mlp_row)?;
        let integer_isa = IntegerIsa::of(isa).first().copied().filter(|_| match pass {
            Pass::Auto => integers_may_pay(&network, num_items),
            Pass::Float32 => false,
            Pass::Int16 | Pass::Int8 => true,
        });
        let mut integers = match integer_isa {
            Some(with) => {
                let bytes = pass == Pass::Int8 || pass == Pass::Auto && with.prefers_bytes();
                layout.integers(with.block(), bytes, &item_rows, &user_rows)?.map(|integers| (with, integers))
            }
            None => None,
        };
        let mut item_tiles =
            layout.item_tiles(num_items, &item_rows, integers.as_ref().map(|(_, integers)| integers))?;
        let mut item_pairs = match &integers {
            Some((_, integers)) => layout.item_pairs(num_items, &item_rows, integers)?,
            None => Aligned::default(),
        };
        while let Some(laid_out) = &mut integers
            && pass == Pass::Auto
        {
            let candidate = Candidate {
                isa,
                network: &network,
                integers: laid_out,
                items: num_items,
                tiles: Tiles { lines: laid_out.1.lines(), tiles: &item_tiles, pairs: &item_pairs },
                item_rows: &item_rows,
                user_rows: &user_rows,
                call,
            };
            if candidate.pays()? {
                break;
            }
            match laid_out.1.width() {
                Width::Int8 => laid_out.1.int8 = None,
                Width::Int16 => (integers, item_pairs) = (None, Aligned::default()),
            }
            drop(item_tiles);
            item_tiles = layout.item_tiles(num_items, &item_rows, integers.as_ref().map(|(_, integers)| integers))?;
        }
        Ok(Engine {
            isa,
            kind: parts.kind,
            num_users,
            num_items,
            item_tiles,
            item_pairs,
            integers,
            item_rows,
            user_rows,
            projection,
            user_gmf,
            user_mlp,
            seen,
            range: parts.range,
            metadata: parts.metadata,
            network,
        })
    }

    /// `gmf`, `mlp` or `neumf`.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Users in the model.
    pub fn num_users(&self) -> usize {
        self.num_users
    }

    /// Items in the model.
    pub fn num_items(&self) -> usize {
        self.num_items
    }

    /// The instruction set it was laid out for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How it scans the catalogue: never [`Pass::Auto`].
    pub fn pass(&self) -> Pass {
        match self.integers.as_ref().map(|(_, integers)| integers.width()) {
            None => Pass::Float32,
            Some(Width::Int16) => Pass::Int16,
            Some(Width::Int8) => Pass::Int8,
        }
    }

    /// The metadata of the file it was read from.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The stored interactions, a row for each user.
    pub fn seen(&self) -> Option<&Csr> {
        self.seen.as_ref()
    }

    /// Bytes held, by part.
    pub fn nbytes(&self) -> [(&'static str, usize); 6] {
        let projection = self.projection.first_layer.as_ref().map_or(0, Packed::nbytes);
        let integers = self.integers.as_ref().map_or(0, |(_, integers)| integers.nbytes());
        let vectors = [&self.user_gmf, &self.user_mlp].into_iter().flatten().map(Table::nbytes).sum();
        [
            ("item_tiles", self.item_tiles.nbytes() + self.item_pairs.nbytes()),
            ("item_rows", self.item_rows.nbytes()),
            ("user_rows", self.user_rows.nbytes()),
            ("user_vectors", vectors),
            ("network", self.network.nbytes() + integers + projection + size_of_val(&self.projection.output_gmf[..])),
            ("seen", self.seen.as_ref().map_or(0, Csr::nbytes)),
        ]
    }

    /// Widths of the users' GMF and MLP embeddings; 0 for a part that the model has not.
    pub fn user_widths(&self) -> (usize, usize) {
        let width = |table: &Option<Table>| table.as_ref().map_or(0, Table::width);
        (width(&self.user_gmf), width(&self.user_mlp))
    }

    /// The users `users`, one for each row of a call.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn users<'a>(&'a self, users: &'a [u32]) -> Result<Users<'a>> {
        check("users", users, self.num_users, "user")?;
        Ok(Users { which: Which::Each(users), len: users.len(), ..self.same_user(0) })
    }

    /// The same user for each of `rows` rows.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn user(&self, user: u32, rows: usize) -> Result<Users<'_>> {
        check("users", &[user], self.num_users, "user")?;
        Ok(Users { len: rows, ..self.same_user(user) })
    }

    fn same_user(&self, user: u32) -> Users<'_> {
        Users { rows: &self.user_rows, which: Which::Same(user), len: 1 }
    }

    /// Makes users that are not in the model ready to be queried.
    ///
    /// # Errors
    /// [`Error::Argument`] for a part that the model lacks or that is missing, a wrong size, a value that is not finite, or vectors
    /// so large that a score could leave the range of float32; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn project(&self, vectors: &UserVectors, call: Call<'_>) -> Result<ProjectedUsers> {
        let rows = vectors.rows;
        if u32::try_from(rows).is_err() {
            return Err(Error::Argument(format!("users: expected at most {} rows, got {rows}", u32::MAX)));
        }
        let gmf = self.check_vectors("gmf", self.user_gmf.as_ref(), vectors.gmf.as_deref(), rows)?;
        let mlp = self.check_vectors("mlp", self.user_mlp.as_ref(), vectors.mlp.as_deref(), rows)?;
        self.range.check_users(max_abs(gmf), max_abs(mlp))?;
        let layout = Layout { isa: self.isa, network: &self.network, call };
        let (gmf_width, mlp_width) = self.user_widths();
        let gmf_row = self.user_gmf.as_ref().map(|_| |user| &gmf[user * gmf_width..][..gmf_width]);
        let mlp_row = self.user_mlp.as_ref().map(|_| |user| &mlp[user * mlp_width..][..mlp_width]);
        layout.user_rows("user vectors", &self.projection, rows, gmf_row, mlp_row).map(ProjectedUsers)
    }

    fn check_vectors<'a>(
        &self,
        part: &str,
        table: Option<&Table>,
        values: Option<&'a [f32]>,
        rows: usize,
    ) -> Result<&'a [f32]> {
        let wrong = |text: String| Err(Error::Argument(format!("users.{part}: {text}")));
        match (table, values) {
            (None, None) => Ok(&[]),
            (None, Some(_)) => wrong(format!("a {} model has no such part; expected None", self.kind.as_str())),
            (Some(table), None) => wrong(format!("expected [{rows}, {}] values, got None", table.width())),
            (Some(table), Some(values)) if values.len() != rows * table.width() => {
                wrong(format!("expected [{rows}, {}] values, got {} in all", table.width(), values.len()))
            }
            (Some(table), Some(values)) => match values.iter().position(|x| !x.is_finite()) {
                Some(at) => {
                    let (row, column) = (at / table.width(), at % table.width());
                    wrong(format!("expected finite values, got {} at [{row}, {column}]", values[at]))
                }
                None => Ok(values),
            },
        }
    }

    /// The embeddings of `users`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::Memory`].
    pub fn user_vectors(&self, users: &[u32]) -> Result<UserVectors> {
        check("users", users, self.num_users, "user")?;
        let gather = |table: &Table| {
            let mut values = reserve("user vectors", users.len().saturating_mul(table.width()))?;
            users.iter().for_each(|&user| values.extend_from_slice(table.row(user as usize)));
            Ok(values)
        };
        Ok(UserVectors {
            rows: users.len(),
            gmf: self.user_gmf.as_ref().map(gather).transpose()?,
            mlp: self.user_mlp.as_ref().map(gather).transpose()?,
        })
    }

    /// # Errors
    /// [`Error::OutOfRange`].
    pub(crate) fn check_items(&self, what: &str, items: &[u32]) -> Result<()> {
        check(what, items, self.num_items, "item")
    }

    pub(crate) fn item_rows(&self) -> &Rows {
        &self.item_rows
    }

    /// `call` on no more threads than `pairs` scores are worth.
    pub(crate) fn sized<'a>(&self, call: Call<'a>, pairs: usize) -> Call<'a> {
        let work = pairs.saturating_mul(self.network.multiply_adds() + 16);
        Call { threads: call.threads.min(work / WORTH_A_THREAD).max(1), ..call }
    }

    /// Turns logits into what the caller asked for.
    pub(crate) fn rescale(&self, logits: &mut [f32], scale: Scale) {
        if scale == Scale::Probability {
            self.isa.run(Sigmoid(logits));
        }
    }
}

/// Whether all indices are those of a table of `bound` rows, at most 2^31; in operations that every CPU has for vectors: an index is
/// none where it, or what it leaves to the last row, has the highest bit.
pub(crate) fn all_below(indices: &[u32], bound: usize) -> bool {
    let last = (bound as u32).wrapping_sub(1);
    indices.iter().fold(0, |any, &i| any | i | last.wrapping_sub(i)) >> 31 == 0
}

/// The whole array at once; the search for the culprit only when there is one.
fn check(what: &str, indices: &[u32], bound: usize, noun: &str) -> Result<()> {
    if !all_below(indices, bound) {
        for (at, &i) in indices.iter().enumerate() {
            index(what, at, i.into(), bound, noun)?;
        }
    }
    Ok(())
}

fn max_abs(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, x| max.max(x.abs()))
}

thread_local! {
    static SCRATCH: std::cell::Cell<Scratch> = std::cell::Cell::default();
}

/// Lends the thread's scratch memory, large enough for `network`, to `work`. (It is taken out meanwhile: an interrupt check may run
/// code that calls the engine again.)
pub(crate) fn with_scratch<R>(network: &Network, work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take();
    scratch.fit(network);
    let result = work(&mut scratch);
    SCRATCH.set(scratch);
    result
}
