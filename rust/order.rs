//! THE order: score descending, then item index ascending. Total, so nothing else ever decides.

use crate::error::{Result, reserve};

/// A scored item as one integer whose ascending order is THE order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    /// No item; comes after every item.
    pub(crate) const NONE: Key = Key(u64::MAX);

    /// `score` is not NaN, and not -0 (a logit never is).
    #[inline]
    pub(crate) fn new(score: f32, item: u32) -> Self {
        let bits = score.to_bits();
        // Ascending as an unsigned integer: negative floats count down, so all their bits turn; positive ones get above them.
        let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Key(u64::from(!ascending) << 32 | u64::from(item))
    }

    pub(crate) fn score(self) -> f32 {
        let ascending = !((self.0 >> 32) as u32);
        f32::from_bits(if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending })
    }

    pub(crate) fn item(self) -> u32 {
        self.0 as u32
    }
}

/// `score >= threshold`, whatever the host program has done to the arithmetic of small floats. Neither is NaN or -0.
#[inline]
pub(crate) fn reaches(score: f32, threshold: f32) -> bool {
    Key::new(score, 0) <= Key::new(threshold, 0)
}

/// Keeps the first `k` of the keys it is shown.
///
/// Keys gather in a buffer of somewhat more than `k`; when it is full, a selection throws the last ones out. That costs a constant
/// number of steps a key for any `k`, where a heap costs a logarithm.
#[derive(Debug)]
pub(crate) struct Selection {
    k: usize,
    kept: Vec<Key>,
    /// No key after this one can be among the first `k`.
    bar: Key,
}

impl Selection {
    /// For the first `k`, at least one, of at most `most` keys: what they take is reserved here.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::error::Error::Memory).
    pub(crate) fn new(k: usize, most: usize) -> Result<Self> {
        Ok(Selection { k, kept: reserve("selection", Self::full(k).min(most))?, bar: Key::NONE })
    }

    /// How many keys may gather before the last ones are thrown out.
    fn full(k: usize) -> usize {
        k.saturating_add(k.clamp(32, 1 << 16))
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// A score that an item must reach to have a chance.
    pub(crate) fn threshold(&self) -> f32 {
        if self.bar == Key::NONE { f32::NEG_INFINITY } else { self.bar.score() }
    }

    #[inline]
    pub(crate) fn show(&mut self, key: Key) {
        if key < self.bar {
            self.kept.push(key);
            if self.kept.len() >= Self::full(self.k) {
                self.cut();
            }
        }
    }

    /// Makes the threshold as high as what has been shown allows.
    pub(crate) fn tighten(&mut self) {
        if self.kept.len() >= self.k {
            self.cut();
        }
    }

    #[cold]
    fn cut(&mut self) {
        let (_, &mut last, _) = self.kept.select_nth_unstable(self.k - 1);
        self.kept.truncate(self.k);
        self.bar = last;
    }

    /// The first `k` in THE order; fewer where fewer were shown.
    pub(crate) fn finish(&mut self) -> &[Key] {
        if self.kept.len() > self.k {
            self.cut();
        }
        self.kept.sort_unstable();
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score() -> impl Strategy<Value = f32> {
        // Few distinct values, so that ties are common, and some extreme ones.
        prop_oneof![
            (-3i8..3).prop_map(f32::from),
            Just(f32::NEG_INFINITY),
            Just(f32::from_bits(1)),
            Just(-f32::from_bits(1)),
            Just(f32::MAX),
            Just(f32::MIN),
        ]
    }

    proptest! {
        #[test]
        fn selection_is_the_head_of_the_sorted_list(scores in prop::collection::vec(score(), 0..400), k in 1usize..90) {
            let mut selection = Selection::new(k, scores.len()).unwrap();
            let mut all: Vec<(f32, u32)> = scores.iter().copied().zip(0..).collect();
            for &(score, item) in &all {
                if score >= selection.threshold() {
                    selection.show(Key::new(score, item));
                }
            }
            all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
            all.truncate(k);
            let got: Vec<(f32, u32)> = selection.finish().iter().map(|key| (key.score(), key.item())).collect();
            prop_assert_eq!(got, all);
        }
    }
}
