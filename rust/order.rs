//! THE order: score descending, then item index ascending. It is total, so results never depend on anything else.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Result, reserve};

/// A scored item as one integer; ascending keys are in THE order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    /// No item; sorts after every item.
    pub(crate) const NONE: Key = Key(u64::MAX);

    /// `score` must not be NaN or -0; a logit never is.
    #[inline]
    pub(crate) fn new(score: f32, item: u32) -> Self {
        Key(u64::from(!ascending(score)) << 32 | u64::from(item))
    }

    pub(crate) fn score(self) -> f32 {
        from_ascending(!((self.0 >> 32) as u32))
    }

    pub(crate) fn item(self) -> u32 {
        self.0 as u32
    }
}

/// Maps float order to unsigned integer order: flips all bits of negative floats, and the sign bit of positive ones.
#[inline]
fn ascending(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

#[inline]
fn from_ascending(ascending: u32) -> f32 {
    f32::from_bits(if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending })
}

/// The lowest finite score for which `holds`; `None` if there is none. `holds` must hold for every higher score too.
pub(crate) fn lowest_that(holds: impl Fn(f32) -> bool) -> Option<f32> {
    let (mut low, mut high) = (ascending(f32::MIN), ascending(f32::MAX));
    if !holds(f32::MAX) {
        return None;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(from_ascending(middle)) { high = middle } else { low = middle + 1 }
    }
    Some(from_ascending(low) + 0.0) // never -0
}

/// A threshold that the parts of a catalogue share: the highest that any of them has reached so far.
#[derive(Debug)]
pub(crate) struct SharedThreshold(AtomicU32);

impl SharedThreshold {
    /// Negative infinity.
    pub(crate) fn new() -> Self {
        SharedThreshold(AtomicU32::new(ascending(f32::NEG_INFINITY)))
    }

    #[inline]
    pub(crate) fn get(&self) -> f32 {
        from_ascending(self.0.load(Ordering::Relaxed))
    }

    /// Raises the threshold to `score`, if that is higher.
    pub(crate) fn raise(&self, score: f32) {
        self.0.fetch_max(ascending(score), Ordering::Relaxed);
    }
}

/// `score >= threshold`, correct for subnormals even if the host program enabled flush-to-zero. Neither may be NaN or
/// -0.
#[inline]
pub(crate) fn reaches(score: f32, threshold: f32) -> bool {
    Key::new(score, 0) <= Key::new(threshold, 0)
}

/// The best items for each row.
#[derive(Debug, Clone, PartialEq)]
pub struct TopK {
    /// `[rows, k]`: item indices in THE order, padded with -1 if the filter admits fewer than `k`.
    pub ids: Vec<i64>,
    /// `[rows, k]`: their scores; negative infinity where the id is -1.
    pub scores: Vec<f32>,
    /// The requested `k`.
    pub k: usize,
}

/// Selects the first `k` of the keys pushed to it.
///
/// Keys go to a buffer of somewhat more than `k`; when it is full, a quickselect discards all but the first `k`. That
/// is amortised constant time per key for any `k`; a heap would take logarithmic time.
#[derive(Debug)]
pub(crate) struct Selection {
    k: usize,
    kept: Vec<Key>,
    /// The last of the first `k` keys so far: a key that sorts after it cannot be in the result.
    last: Key,
}

impl Selection {
    /// Selects the first `k >= 1` of at most `max_keys` keys; allocates the buffer.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::error::Error::Memory).
    pub(crate) fn new(k: usize, max_keys: usize) -> Result<Self> {
        Ok(Selection { k, kept: reserve("selection", Self::capacity(k).min(max_keys))?, last: Key::NONE })
    }

    /// Capacity of the buffer, in keys.
    fn capacity(k: usize) -> usize {
        k.saturating_add(k.clamp(32, 1 << 16))
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// A lower bound on the score of any item that can still enter the first `k`.
    pub(crate) fn threshold(&self) -> f32 {
        if self.last == Key::NONE { f32::NEG_INFINITY } else { self.last.score() }
    }

    #[inline]
    pub(crate) fn push(&mut self, key: Key) {
        if key < self.last {
            self.kept.push(key);
            if self.kept.len() >= Self::capacity(self.k) {
                self.truncate();
            }
        }
    }

    /// Raises the threshold as far as the keys pushed so far allow.
    pub(crate) fn tighten(&mut self) {
        if self.kept.len() >= self.k {
            self.truncate();
        }
    }

    #[cold]
    fn truncate(&mut self) {
        let (_, &mut last, _) = self.kept.select_nth_unstable(self.k - 1);
        self.last = last;
        self.kept.truncate(self.k);
    }

    /// The first `k` keys in THE order; fewer if fewer were pushed.
    pub(crate) fn finish(&mut self) -> &[Key] {
        if self.kept.len() > self.k {
            self.truncate();
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
        // Few distinct values, so that ties are common, and some extremes.
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
                    selection.push(Key::new(score, item));
                }
            }
            all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
            all.truncate(k);
            let got: Vec<(f32, u32)> = selection.finish().iter().map(|key| (key.score(), key.item())).collect();
            prop_assert_eq!(got, all);
        }
    }
}
