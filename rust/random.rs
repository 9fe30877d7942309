//! Random numbers and permutations, each a function of a seed and a position.
//!
//! Numbers: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), started
//! anew for each position. Permutations: position `n` takes element `p(n)`, with p a keyed permutation, as in Mitchell,
//! Stokes, Frank, Holmes, "Bandwidth-optimal random shuffling for GPUs" (ACM TOPC 2022): a Feistel network over the
//! next power of two, repeated until the result is below the length.

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: a bijection that mixes all bits.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// The generator of a position: streams of different positions or seeds are unrelated.
    pub(crate) fn at(seed: u64, position: u64) -> Self {
        Random(mix(mix(seed ^ GAMMA).wrapping_add(position.wrapping_mul(GAMMA))))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A uniform number below `bound`, at least 1, without bias: Lemire, "Fast random integer generation in an
    /// interval", ACM TOMACS 2019. One try in 2^64 / `bound` is repeated.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.next()) * u128::from(bound);
            let low = product as u64;
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }
}

/// A random permutation of `0..len`, computed one element at a time.
pub(crate) struct Permutation {
    len: u64,
    /// Bits of both halves of a number: 2^(left + right) is the least power of two that is at least `len` and `FEWEST`.
    left: u32,
    right: u32,
    keys: [u64; Permutation::ROUNDS],
}

impl Permutation {
    /// Pairs of Feistel rounds. Four rounds of random functions give a pseudorandom permutation (Luby and Rackoff,
    /// SIAM J. Comput. 17, 1988); more, since short halves have few values.
    const ROUNDS: usize = 4;

    /// The network's numbers, at least: with halves of a bit or two its permutations are far from uniform.
    const FEWEST: usize = 1024;

    pub(crate) fn new(len: usize, seed: u64) -> Self {
        let bits = (len.max(Self::FEWEST) as u64 - 1).ilog2() + 1;
        let mut random = Random::at(seed, u64::MAX);
        let keys = std::array::from_fn(|_| random.next());
        Permutation { len: len as u64, left: bits / 2, right: bits - bits / 2, keys }
    }

    pub(crate) fn at(&self, n: usize) -> usize {
        let mut x = n as u64;
        loop {
            x = self.once(x);
            if x < self.len {
                return x as usize;
            }
        }
    }

    fn once(&self, x: u64) -> u64 {
        let (left_mask, right_mask) = ((1 << self.left) - 1, (1 << self.right) - 1);
        let (mut left, mut right) = (x >> self.right, x & right_mask);
        for key in self.keys {
            left ^= mix(key.wrapping_add(right)) & left_mask;
            right ^= mix(key.rotate_left(32).wrapping_add(left)) & right_mask;
        }
        left << self.right | right
    }
}

/// The sum of (observed - expected)^2 / expected, and its mean under chance.
#[cfg(test)]
pub(crate) fn chi_square(counts: &[usize]) -> (f64, f64) {
    let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let sum = counts.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum();
    (sum, (counts.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_of_any_length_has_every_element_once() {
        for len in (1..70).chain([1000, 4096, 4097]) {
            let order = Permutation::new(len, 5);
            let mut all: Vec<_> = (0..len).map(|n| order.at(n)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..len), "{len}");
        }
    }

    #[test]
    fn permutations_are_uniform() {
        // All 120 orders of five elements, and where two neighbours of twelve go.
        let (mut orders, mut places) = (std::collections::HashMap::new(), vec![0; 144]);
        for seed in 0..24_000 {
            let five = Permutation::new(5, seed);
            *orders.entry([0, 1, 2, 3, 4].map(|n| five.at(n))).or_insert(0) += 1;
            let twelve = Permutation::new(12, seed);
            places[twelve.at(3) * 12 + twelve.at(4)] += 1;
        }
        assert_eq!(orders.len(), 120);
        let places: Vec<_> = places.into_iter().enumerate().filter(|(n, _)| n / 12 != n % 12).map(|(_, n)| n).collect();
        for counts in [orders.into_values().collect(), places] {
            let (sum, mean) = chi_square(&counts);
            assert!((sum - mean).abs() < 5.0 * (2.0 * mean).sqrt(), "{sum} with mean {mean}");
        }
    }
}
