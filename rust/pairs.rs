//! `score_batch`: the scores of pairs.

use crate::engine::{Engine, Scale, Users, with_scratch};
use crate::error::{Error, Result};
use crate::kernel::network::{Pairs, Scratch};
use crate::kernel::{Kernel, LANES, Simd};
use crate::pool::{Call, Watch};

/// Pairs that one task scores.
const PAIRS_PER_TASK: usize = 2048;

/// How many pairs before its turn a row is asked for.
const AHEAD: usize = 48;

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
        let last = items.len().saturating_sub(1);
        for (group, logits) in logits.chunks_mut(LANES).enumerate() {
            if watch.stopped(LANES * network.multiply_adds()) {
                return;
            }
            let first = group * LANES;
            let soon = (first + AHEAD).min(items.len())..(first + AHEAD + LANES).min(items.len());
            for at in soon {
                let (item, user) = (engine.item_row(items[at]), users.row(user_of(at)));
                for line in 0..network.row_len() {
                    s.prefetch(&item[line]);
                    s.prefetch(&user[line]);
                }
            }
            let mut sixteen = Pairs {
                network,
                user_rows: users.rows(),
                item_rows: engine.item_rows(),
                users: [0; LANES],
                items: [0; LANES],
                scratch,
            };
            for lane in 0..LANES {
                let pair = (first + lane).min(last); // the lanes behind the end repeat the last pair
                sixteen.users[lane] = users.position(user_of(pair));
                sixteen.items[lane] = items[pair] as usize;
            }
            logits.copy_from_slice(&sixteen.run(s)[..logits.len()]);
        }
    }
}
