//! `score_batch`: the scores of pairs.

use crate::engine::{Engine, Scale, Users, with_scratch};
use crate::error::{Error, Result};
use crate::kernel::network::{Pairs, Scratch, Sixteen};
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
    pub(crate) fn score_items(
        &self,
        users: &Users<'_>,
        first_row: usize,
        items: &[u32],
        logits: &mut [f32],
        watch: &Watch<'_>,
    ) {
        with_scratch(&self.network, |scratch| {
            self.isa.run(Many { engine: self, user_of: |at| first_row + at, users, items, logits, watch, scratch });
        });
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
        with_scratch(&self.network, |scratch| {
            self.isa.run(Many { engine: self, user_of: |_| row, users, items, logits, watch, scratch });
        });
    }
}

/// Lines of a row that is asked for at once. Longer ones are asked for line by line, while the pairs before are computed: sixteen of
/// them are more than a core can have under way.
const SHORT: usize = 4;

/// Any number of pairs, sixteen at a time.
struct Many<'a, UserOf: Fn(usize) -> usize> {
    engine: &'a Engine,
    /// The row of the user of the pair at a position.
    user_of: UserOf,
    users: &'a Users<'a>,
    items: &'a [u32],
    logits: &'a mut [f32],
    watch: &'a Watch<'a>,
    scratch: &'a mut Scratch,
}

impl<UserOf: Fn(usize) -> usize> Kernel for Many<'_, UserOf> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Many { engine, user_of, users, items, logits, watch, scratch } = self;
        let network = &engine.network;
        let (user_rows, item_rows, row_len) = (users.rows(), engine.item_rows(), network.row_len());
        let (groups, at_once) = (items.len().div_ceil(LANES), row_len <= SHORT);
        let mut located = [Sixteen::default(); AHEAD + 1]; // a ring: group n at n modulo its length
        for n in 0..groups + AHEAD {
            if n < groups {
                let group = &mut located[n % (AHEAD + 1)];
                for lane in 0..LANES {
                    let pair = (n * LANES + lane).min(items.len() - 1); // the lanes behind the end repeat the last pair
                    let (user, item) = (users.position(user_of(pair)) * row_len, items[pair] as usize * row_len);
                    (group.users[lane], group.items[lane]) = (user, item);
                }
                if at_once || n < AHEAD {
                    group.ask(s, user_rows, item_rows, LANES.min(items.len() - n * LANES), row_len);
                }
            }
            let Some(group) = n.checked_sub(AHEAD) else { continue };
            if watch.stopped(LANES * network.multiply_adds()) {
                return;
            }
            let at = &located[group % (AHEAD + 1)];
            let ahead = (!at_once && n < groups).then_some(&located[n % (AHEAD + 1)]);
            let sixteen = Pairs { network, user_rows, item_rows, at, ahead, scratch }.run(s);
            let to = &mut logits[group * LANES..];
            let len = to.len().min(LANES);
            to[..len].copy_from_slice(&sixteen[..len]);
        }
    }
}
