//! `score_batch`: the scores of pairs.

use crate::engine::{Engine, Scale, Users, with_scratch};
use crate::error::{Error, Result};
use crate::kernel::network::{Network, Scratch};
use crate::kernel::rows::{self, Group, Pairs, Rows, Same, Sixteen};
use crate::kernel::{Kernel, LANES, Simd};
use crate::pool::{Call, Watch};

/// Pairs that one task scores.
const PAIRS_PER_TASK: usize = 2048;

/// How many groups of sixteen pairs before its turn a row is asked for.
const AHEAD: usize = 3;

impl Engine {
    /// The score of row `r`'s user and `items[r]`, for each row.
    ///
    /// # Errors
    /// [`Error::Argument`] when the lengths differ; [`Error::OutOfRange`]; [`Error::Memory`]; [`Error::Interrupted`].
    pub fn score_batch(&self, users: &Users<'_>, items: &[u32], scale: Scale, call: Call<'_>) -> Result<Vec<f32>> {
        if users.len() != items.len() {
            let (users, items) = (users.len(), items.len());
            return Err(Error::Argument(format!("users and items: expected one length, got {users} and {items}")));
        }
        self.check_items("items", items)?;
        let call = self.sized(call, items.len());
        let mut scores = call.filled("scores", items.len(), 0.0)?;
        call.for_each_chunk(&mut scores, PAIRS_PER_TASK, |n, scores, watch| {
            let first = n * PAIRS_PER_TASK;
            self.score_items(users, first, &items[first..][..scores.len()], scores, watch);
            self.rescale(scores, scale);
            Ok(())
        })?;
        Ok(scores)
    }

    /// The logits of the users of rows `first_row`, `first_row + 1`, ... and `items`.
    fn score_items(&self, users: &Users<'_>, first_row: usize, items: &[u32], logits: &mut [f32], watch: &Watch<'_>) {
        let rows = users.rows();
        self.score_list(
            items,
            |which| Sixteen::new(rows, |lane| users.position(first_row + which[lane])),
            logits,
            watch,
        );
    }

    /// The logits of the user of row `row` and each of `items`.
    pub(crate) fn score_candidates(
        &self,
        users: &Users<'_>,
        row: usize,
        items: &[u32],
        logits: &mut [f32],
        watch: &Watch<'_>,
    ) {
        let user = Same::new(users.rows(), users.position(row));
        self.score_list(items, |_| user, logits, watch);
    }

    /// The logits of `items`; `users_of` gives the users at sixteen positions of that list.
    fn score_list<U: rows::Users>(
        &self,
        items: &[u32],
        users_of: impl Fn([usize; LANES]) -> U,
        logits: &mut [f32],
        watch: &Watch<'_>,
    ) {
        let list = List { items, item_rows: self.item_rows(), users_of };
        with_scratch(&self.network, |scratch| {
            self.isa.run(Many { network: &self.network, list, logits, watch, scratch });
        });
    }
}

/// Halves of a row that is asked for at once. Longer ones are asked for line by line, while the pairs before are computed: sixteen of
/// them are more than a core can have under way.
const SHORT: usize = 8;

/// Pairs.
struct List<'a, UsersOf> {
    items: &'a [u32],
    item_rows: &'a Rows,
    /// The users at some positions.
    users_of: UsersOf,
}

impl<'a, U, UsersOf: Fn([usize; LANES]) -> U> List<'a, UsersOf> {
    /// The pairs from position `first` on. The lanes behind the end repeat the last pair.
    #[inline(always)]
    fn group(&self, first: usize) -> Group<'a, U> {
        let which = std::array::from_fn(|lane| (first + lane).min(self.items.len() - 1));
        let items = Sixteen::new(self.item_rows, |lane| self.items[which[lane]] as usize);
        Group { users: (self.users_of)(which), items }
    }
}

/// Any number of pairs, sixteen at a time.
struct Many<'a, UsersOf> {
    network: &'a Network,
    list: List<'a, UsersOf>,
    logits: &'a mut [f32],
    watch: &'a Watch<'a>,
    scratch: &'a mut Scratch,
}

impl<U: rows::Users, UsersOf: Fn([usize; LANES]) -> U> Kernel for Many<'_, UsersOf> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Many { network, list, logits, watch, scratch } = self;
        let (groups, row_len) = (logits.len().div_ceil(LANES), network.row_len());
        let at_once = row_len <= SHORT;
        let mut located = [None; AHEAD + 1]; // a ring: group n at n modulo its length
        for n in 0..groups + AHEAD {
            if n < groups {
                let group = list.group(n * LANES);
                if at_once || n < AHEAD {
                    group.ask(s, LANES.min(logits.len() - n * LANES), row_len);
                }
                located[n % (AHEAD + 1)] = Some(group);
            }
            let Some(at) = n.checked_sub(AHEAD) else { continue };
            if watch.stopped(LANES * network.multiply_adds()) {
                return;
            }
            let group = located[at % (AHEAD + 1)].as_ref().expect("located three turns ago");
            let ahead = if at_once || n >= groups { None } else { located[n % (AHEAD + 1)].as_ref() };
            let sixteen = Pairs { network, group, ahead, scratch }.run(s);
            let to = &mut logits[at * LANES..];
            let len = to.len().min(LANES);
            to[..len].copy_from_slice(&sixteen[..len]);
        }
    }
}
