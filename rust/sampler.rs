//! Negative sampling: the shuffled batches of an epoch, every interaction once with its sampled negatives.
//!
//! An epoch is a function, not a state: what stands at position `n` depends on the seed and on `n` alone. So any part
//! of it can be filled at any time, by any number of threads, and nothing as long as the epoch is ever held.
//!
//! Let a user's items be `k_0 < k_1 < ... < k_(d-1)`, of `I`. The negative of rank `r`, from 0, is `r + #{j : k_j - j
//! <= r}`, because `k_j - j` negatives lie before `k_j`. So one random rank below `I - d` and one binary search sample
//! a negative, uniformly and without rejection, however many items the user has.
//!
//! Items that a user dislikes are known to be negatives, and preferred: with the probability `share` a negative is one
//! of the user's dislikes, uniformly, and otherwise any item that the user does not have, as above.

use crate::csr::Csr;
use crate::error::{Error, Result, reserve};
use crate::pool::Call;
use crate::random::{Permutation, Random};

/// Samples negatives for the rows of a matrix of users x items.
#[derive(Debug)]
pub struct Sampler {
    user_items: Csr,
    dislikes: Option<Dislikes>,
    /// (user, item), by user, without users who have every item.
    interactions: Vec<(u32, u32)>,
}

/// The items that users dislike, which are preferred as negatives.
#[derive(Debug)]
pub struct Dislikes {
    rows: Csr,
    /// The share in units of 2^-64.
    threshold: u64,
}

impl Dislikes {
    /// Dislikes, a row for each user, and the share of the negatives of a user with dislikes that are sampled from
    /// them, 0 to 1.
    ///
    /// # Errors
    /// [`Error::Argument`] for a share that is not in 0..=1.
    pub fn new(rows: Csr, share: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::Argument(format!("dislike_share: expected a number from 0 to 1, got {share}")));
        }
        Ok(Dislikes { rows, threshold: (share * 2f64.powi(64)) as u64 }) // 1 becomes u64::MAX
    }

    /// A dislike of `user` with the probability of the share, if there is any.
    fn draw(&self, user: u32, random: &mut Random) -> Option<u32> {
        let row = self.rows.row(user as usize);
        (!row.is_empty() && random.next() < self.threshold).then(|| row[random.below(row.len() as u64) as usize])
    }

    /// Checks that they are dislikes of the users and items of `user_items`, and none of those.
    fn check(&self, user_items: &Csr) -> Result<()> {
        let (rows, expected) = (&self.rows, user_items);
        if (rows.rows(), rows.columns()) != (expected.rows(), expected.columns()) {
            return Err(Error::Argument(format!(
                "dislikes: expected {} rows of {} items, as user_items, got {} of {}",
                expected.rows(),
                expected.columns(),
                rows.rows(),
                rows.columns()
            )));
        }
        for user in 0..rows.rows() {
            let items = user_items.row(user);
            if let Some(item) = rows.row(user).iter().find(|item| items.binary_search(item).is_ok()) {
                return Err(Error::Argument(format!(
                    "dislikes: expected items that the user does not have, got item {item} of user {user}"
                )));
            }
        }
        Ok(())
    }
}

/// What a batch holds of each sample, as `rows` of one length, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// A user, an item and a label: the bits of the float32 1 for an interaction, 0 for a sampled negative. Each
    /// interaction has `negatives` negatives, which are shuffled as samples of their own.
    Labelled {
        /// Negatives for each interaction.
        negatives: usize,
    },
    /// A user, an item they have, and `negatives` that they do not have.
    Ranked {
        /// Negatives for each interaction.
        negatives: usize,
    },
}

impl Batch {
    /// The number of values of each sample.
    pub fn rows(self) -> usize {
        match self {
            Batch::Labelled { .. } => 3,
            Batch::Ranked { negatives } => 2 + negatives,
        }
    }
}

impl Sampler {
    /// A user who has every item has no negatives, and nothing to be ranked: an epoch leaves their interactions out.
    ///
    /// # Errors
    /// [`Error::Argument`] if no interaction is left, or for dislikes of other users or items, or of an item that the
    /// user has; [`Error::Memory`].
    pub fn new(user_items: Csr, dislikes: Option<Dislikes>) -> Result<Self> {
        if let Some(dislikes) = &dislikes {
            dislikes.check(&user_items)?;
        }
        let mut interactions = reserve("interactions", user_items.len())?;
        for user in 0..user_items.rows() {
            let items = user_items.row(user);
            if items.len() < user_items.columns() {
                interactions.extend(items.iter().map(|&item| (user as u32, item)));
            }
        }
        if interactions.is_empty() {
            return Err(Error::Argument(format!(
                "user_items: expected an interaction of a user who does not have every item, got none in {} rows of {} \
                 items",
                user_items.rows(),
                user_items.columns()
            )));
        }
        Ok(Sampler { user_items, dislikes, interactions })
    }

    /// The number of samples in an epoch.
    pub fn len(&self, batch: Batch) -> usize {
        match batch {
            Batch::Labelled { negatives } => self.interactions.len().saturating_mul(1 + negatives),
            Batch::Ranked { .. } => self.interactions.len(),
        }
    }

    /// Samples `start..stop` of the epoch that `seed` determines, in batches of `batch_size`, the last of which may be
    /// smaller: each has the users of its samples, then the items, then the labels or the negatives of one number after
    /// the other.
    ///
    /// # Errors
    /// [`Error::Argument`] for samples beyond [`Sampler::len`]; [`Error::Memory`], [`Error::Interrupted`].
    pub fn draw(
        &self,
        batch: Batch,
        seed: u64,
        start: usize,
        stop: usize,
        batch_size: usize,
        call: Call<'_>,
    ) -> Result<Vec<i32>> {
        let len = self.len(batch);
        if start > stop || stop > len {
            return Err(Error::Argument(format!(
                "start, stop: expected a part of the epoch's {len} samples, got {start} to {stop}"
            )));
        }
        let rows = batch.rows();
        let values = (stop - start).saturating_mul(rows);
        let batch_size = batch_size.clamp(1, (stop - start).max(1));
        let order = Permutation::new(len, seed);
        call.in_chunks("batches", values, batch_size * rows, 0i32, |n, out, watch| {
            let size = out.len() / rows;
            for at in (0..size).step_by(BLOCK) {
                let block = Block { at, len: BLOCK.min(size - at), size };
                self.fill(batch, seed, &order, start + n * batch_size + at, block, out);
                if watch.stopped(block.len * rows * WORK) {
                    return Err(Error::Interrupted);
                }
            }
            Ok(())
        })
    }

    /// Fills the samples of `block`, the first of which is `first` of the epoch. It works step by step for all of them,
    /// so that the processor waits for many random reads at once.
    fn fill(&self, batch: Batch, seed: u64, order: &Permutation, first: usize, block: Block, out: &mut [i32]) {
        let mut samples = [0; BLOCK];
        let samples = &mut samples[..block.len];
        samples.iter_mut().zip(first..).for_each(|(sample, n)| *sample = order.at(n));
        let parts = match batch {
            Batch::Labelled { negatives } => 1 + negatives,
            Batch::Ranked { .. } => 1,
        };
        let mut interactions = [(0, 0); BLOCK];
        let interactions = &mut interactions[..block.len];
        interactions.iter_mut().zip(&*samples).for_each(|(to, sample)| *to = self.interactions[sample / parts]);
        let mut users: [&[u32]; BLOCK] = [&[]; BLOCK];
        users.iter_mut().zip(&*interactions).for_each(|(to, &(user, _))| *to = self.user_items.row(user as usize));

        let negative = |at: usize, interaction: usize, number: usize, negatives: usize| {
            let mut random = Random::at(seed, (interaction * negatives + number) as u64);
            let disliked = self.dislikes.as_ref().and_then(|dislikes| dislikes.draw(interactions[at].0, &mut random));
            disliked.unwrap_or_else(|| negative(users[at], self.user_items.columns(), &mut random)) as i32
        };
        block.put(out, 0, |at| interactions[at].0 as i32);
        match batch {
            Batch::Labelled { negatives } => {
                block.put(out, 1, |at| match samples[at] % parts {
                    0 => interactions[at].1 as i32,
                    part => negative(at, samples[at] / parts, part - 1, negatives),
                });
                block.put(out, 2, |at| if samples[at] % parts == 0 { 1f32.to_bits() as i32 } else { 0 });
            }
            Batch::Ranked { negatives } => {
                block.put(out, 1, |at| interactions[at].1 as i32);
                (0..negatives).for_each(|n| block.put(out, 2 + n, |at| negative(at, samples[at], n, negatives)));
            }
        }
    }
}

/// Samples `at..at + len` of a batch of `size`.
#[derive(Clone, Copy)]
struct Block {
    at: usize,
    len: usize,
    size: usize,
}

impl Block {
    /// Writes value `n` of each of its samples.
    fn put(self, out: &mut [i32], n: usize, value: impl Fn(usize) -> i32) {
        let to = &mut out[n * self.size + self.at..][..self.len];
        to.iter_mut().enumerate().for_each(|(at, to)| *to = value(at));
    }
}

/// A uniform sample of the items that are not in `row`, which lacks at least one of the `items`.
fn negative(row: &[u32], items: usize, random: &mut Random) -> u32 {
    let rank = random.below((items - row.len()) as u64) as usize;
    let (mut low, mut size) = (0, row.len()); // #{j : k_j - j <= rank} is one of low..=low + size
    while size > 0 {
        let (half, middle) = (size / 2, low + size / 2);
        let beyond = row[middle] as usize - middle <= rank;
        low = if beyond { middle + 1 } else { low };
        size = if beyond { size - half - 1 } else { half };
    }
    (rank + low) as u32
}

/// Samples that are filled at a time.
const BLOCK: usize = 64;

/// What a value costs, in multiply-adds: some 50 ns.
const WORK: usize = 1 << 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::chi_square;

    fn sampler_of(rows: &[&[u32]], items: usize) -> Result<Sampler> {
        let mut indptr = vec![0];
        rows.iter().for_each(|row| indptr.push(indptr[indptr.len() - 1] + row.len()));
        Sampler::new(Csr::new("rows", indptr, rows.concat(), items)?, None)
    }

    #[test]
    fn negatives_are_uniform_and_never_items_of_the_user() {
        let rows: [&[u32]; 4] = [&[], &[0, 2, 3, 9], &[0, 1, 2, 4, 5, 6, 7, 8, 9], &[4]];
        for own in rows {
            let (mut sums, mut means) = (0.0, 0.0);
            for seed in 0..10 {
                let mut counts = vec![0; 10];
                (0..20_000).for_each(|n| counts[negative(own, 10, &mut Random::at(seed, n)) as usize] += 1);
                assert!(own.iter().all(|&item| counts[item as usize] == 0));
                let (sum, mean) = chi_square(&counts.into_iter().filter(|&n| n > 0).collect::<Vec<_>>());
                assert_eq!(mean as usize, 9 - own.len());
                (sums, means) = (sums + sum, means + mean);
            }
            assert!(sums <= means + 5.0 * (2.0 * means).sqrt(), "{own:?}: {sums} with mean {means}");
        }
    }

    #[test]
    fn a_user_who_has_every_item_is_left_out() {
        let batch = Batch::Labelled { negatives: 2 };
        let sampler = sampler_of(&[&[0, 1, 2], &[1], &[]], 3).unwrap();
        assert_eq!(sampler.len(batch), 3);
        let drawn = sampler.draw(batch, 1, 0, 3, 3, Call::ALONE).unwrap();
        assert_eq!(drawn[..3], [1, 1, 1]);
        let error = sampler_of(&[&[0, 1, 2], &[]], 3).unwrap_err().to_string();
        assert!(error.contains("expected an interaction of a user who does not have every item"), "{error}");
    }

    #[test]
    fn dislikes_have_their_share_of_the_negatives() {
        let rows = |rows: [&[u32]; 2]| {
            Csr::new("rows", vec![0, rows[0].len(), rows[0].len() + rows[1].len()], rows.concat(), 9).unwrap()
        };
        let batch = Batch::Ranked { negatives: 40_000 };
        for (share, disliked) in [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)] {
            let dislikes = Dislikes::new(rows([&[3, 8], &[]]), share).unwrap();
            let sampler = Sampler::new(rows([&[0, 1, 2], &[5]]), Some(dislikes)).unwrap();
            let drawn = sampler.draw(batch, 4, 0, 4, 1, Call::ALONE).unwrap();
            for sample in drawn.chunks(batch.rows()) {
                let mut counts = [0.0; 9];
                sample[2..].iter().for_each(|&item| counts[item as usize] += 1.0 / 40_000.0);
                for (item, count) in (0u32..).zip(counts) {
                    let expected = match (sample[0], item) {
                        (0, 0..=2) | (1, 5) => 0.0,
                        (0, 3 | 8) => disliked / 2.0 + (1.0 - share) / 6.0,
                        (0, _) => (1.0 - share) / 6.0,
                        _ => 1.0 / 8.0,
                    };
                    assert!((count - expected).abs() < 0.01, "{share}: item {item} of user {}: {count}", sample[0]);
                }
            }
        }
        let none = Sampler::new(rows([&[0, 1, 2], &[5]]), None).unwrap();
        let empty = Dislikes::new(rows([&[], &[]]), 0.5).unwrap();
        let same = Sampler::new(rows([&[0, 1, 2], &[5]]), Some(empty)).unwrap();
        let few = Batch::Labelled { negatives: 3 };
        let [all, again] = [none, same].map(|sampler| sampler.draw(few, 4, 0, 16, 5, Call::ALONE).unwrap());
        assert_eq!(all, again);

        assert!(Dislikes::new(rows([&[], &[]]), 1.5).is_err() && Dislikes::new(rows([&[], &[]]), f64::NAN).is_err());
        let has_it = Dislikes::new(rows([&[], &[4, 5]]), 0.5).unwrap();
        let error = Sampler::new(rows([&[0, 1, 2], &[5]]), Some(has_it)).unwrap_err().to_string();
        assert!(error.contains("got item 5 of user 1"), "{error}");
        let wide = Dislikes::new(Csr::new("rows", vec![0], vec![], 9).unwrap(), 0.5).unwrap();
        assert!(Sampler::new(rows([&[0, 1, 2], &[5]]), Some(wide)).is_err());
    }

    #[test]
    fn any_part_is_the_same_with_any_number_of_threads() {
        let rows: Vec<Vec<u32>> = (0..50).map(|u| (0..40).filter(|i| (u * 7 + i * 11) % 5 == 0).collect()).collect();
        let sampler = sampler_of(&rows.iter().map(|row| &row[..]).collect::<Vec<_>>(), 40).unwrap();
        for batch in [Batch::Labelled { negatives: 3 }, Batch::Ranked { negatives: 2 }] {
            let (rows, len) = (batch.rows(), sampler.len(batch));
            let all = sampler.draw(batch, 9, 0, len, 16, Call::ALONE).unwrap();
            for threads in [2, 7] {
                let call = Call { threads, ..Call::ALONE };
                assert_eq!(all, sampler.draw(batch, 9, 0, len, 16, call).unwrap());
                assert_eq!(all[16 * rows..48 * rows], sampler.draw(batch, 9, 16, 48, 16, call).unwrap());
            }
            assert_ne!(all, sampler.draw(batch, 10, 0, len, 16, Call::ALONE).unwrap());
            assert!(sampler.draw(batch, 9, 0, len + 1, 16, Call::ALONE).is_err());
            assert!(sampler.draw(batch, 9, 4, 4, 16, Call::ALONE).unwrap().is_empty());
        }
    }
}
