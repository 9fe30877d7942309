//! `score_batch`: the scores of pairs.

use crate::engine::{Engine, Scale, Users, with_scratch};
use crate::error::{Error, Result};
use crate::kernel::network::{Network, Scratch};
use crate::kernel::rows::{Group, Pairs, Same, Sixteen, UserRows};
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
        call.in_chunks("scores", items.len(), PAIRS_PER_TASK, 0.0, |n, scores, watch| {
            let first = n * PAIRS_PER_TASK;
            self.score_items(users, first, &items[first..][..scores.len()], scores, watch);
            self.rescale(scores, scale);
            Ok(())
        })
    }

    /// The logits of the users of rows `first_row`, `first_row + 1`, ... and `items`.
    fn score_items(&self, users: &Users<'_>, first_row: usize, items: &[u32], logits: &mut [f32], watch: &Watch<'_>) {
        match users.positions(first_row..first_row + items.len()) {
            None => self.score_candidates(users, first_row, items, logits, watch),
            Some(positions) => self.score_list(Sixteen::new(users.rows()), &positions, items, logits, watch),
        }
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
        self.score_list(Same::new(users.row(row)), &[], items, logits, watch);
    }

    /// The logits of `items` and the users at `positions` of a table; of one user, where there are none.
    fn score_list(
        &self,
        users: impl UserRows,
        positions: &[u32],
        items: &[u32],
        logits: &mut [f32],
        watch: &Watch<'_>,
    ) {
        let group = Group { users, items: Sixteen::new(self.item_rows()) };
        with_scratch(&self.network, |scratch| {
            self.isa.run(Many { network: &self.network, group, positions, items, logits, watch, scratch });
        });
    }
}

/// Lines of a row that is asked for at once. Longer ones are asked for line by line, while the pairs before are computed: sixteen of
/// them are more than a core can have under way.
const SHORT: usize = 4;

/// Any number of pairs, sixteen at a time.
struct Many<'a, U> {
    network: &'a Network,
    /// Any sixteen pairs.
    group: Group<'a, U>,
    /// The rows of the users, one for each item; none where all pairs have one user.
    positions: &'a [u32],
    items: &'a [u32],
    logits: &'a mut [f32],
    watch: &'a Watch<'a>,
    scratch: &'a mut Scratch,
}

impl<U: UserRows> Kernel for Many<'_, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Many { network, group, positions, items, logits, watch, scratch } = self;
        let (groups, row_len) = (items.len().div_ceil(LANES), network.row_len());
        let at_once = row_len <= SHORT;
        let mut located = [group; AHEAD + 1]; // a ring: group n at n modulo its length
        for n in 0..groups + AHEAD {
            if n < groups {
                let group = &mut located[n % (AHEAD + 1)];
                group.users.locate(positions, n * LANES);
                group.items.locate(items, n * LANES);
                if at_once || n < AHEAD {
                    group.ask(s, LANES.min(items.len() - n * LANES), row_len);
                }
            }
            let Some(at) = n.checked_sub(AHEAD) else { continue };
            if watch.stopped(LANES * network.multiply_adds()) {
                return;
            }
            let group = &located[at % (AHEAD + 1)];
            let ahead = (!at_once && n < groups).then_some(&located[n % (AHEAD + 1)]);
            let sixteen = Pairs { network, group, ahead, scratch }.run(s);
            let to = &mut logits[at * LANES..];
            let len = to.len().min(LANES);
            to[..len].copy_from_slice(&sixteen[..len]);
        }
    }
}
