//! Bounds the gradient of the logit with respect to the outputs of the second layer, for the Euclidean norm: `INT8.md`,
//! "The largest gradient".

use super::error_bound::SLACK;
use crate::error::{Result, collected, filled, reserve, try_collected};
use crate::kernel::weights::Network;

/// What the memory is for.
const WHAT: &str = "bound of the gradient";

/// The maximum multiply-adds for the bound of one matrix.
const MAX_WORK: usize = 1 << 26;

/// Sweeps of the coordinate ascent: enough to converge to within a few thousandths.
const SWEEPS: usize = 30;

/// Boxes that together contain every gradient, a row vector `y = w D_L W_L ... W_2 D_1` with diagonal `D_n` between 0
/// and 1.
#[derive(Debug)]
pub(super) struct GradientBound {
    /// The minimum and maximum for each output.
    boxes: Vec<Vec<[f64; 2]>>,
}

impl GradientBound {
    /// Enumerates the corners of `D_n`, one box each, where [`MAX_WORK`] allows, from the last layer backwards; the
    /// other layers widen the boxes.
    pub(super) fn new(network: &Network) -> Result<Self> {
        let mut boxes = vec![collected(WHAT, network.output_weight.iter().map(|&w| [f64::from(w); 2]))?];
        let max_boxes = MAX_WORK / ascent_work(network.layers[0].bias().len() + 1);
        for layer in network.layers[1..].iter().rev() {
            let outputs = layer.bias().len();
            let corners = u32::try_from(outputs).ok().and_then(|n| 1usize.checked_shl(n));
            boxes = match corners.filter(|&corners| corners.saturating_mul(boxes.len()) <= max_boxes) {
                Some(corners) => {
                    let mut at_corners = reserve(WHAT, corners * boxes.len())?;
                    for y in &boxes {
                        for corner in 0..corners {
                            at_corners.push(at_corner(y, corner)?);
                        }
                    }
                    at_corners
                }
                None => try_collected(WHAT, boxes.iter().map(|y| with_zero(y)))?,
            };
            let through = |y: &Vec<[f64; 2]>| {
                let of_input = |k| {
                    let terms = y.iter().enumerate().map(|(o, y)| y.map(|y| y * f64::from(layer.weight(o, k))));
                    terms.fold([0.0; 2], |[low, high], [a, b]| [low + a.min(b), high + a.max(b)])
                };
                collected(WHAT, (0..layer.inputs).map(of_input))
            };
            boxes = try_collected(WHAT, boxes.iter().map(through))?;
        }
        Ok(GradientBound { boxes: try_collected(WHAT, boxes.iter().map(|y| with_zero(y)))? })
    }

    /// A bound on `|y N|` over all gradients `y`; `rows` are the rows of `N`, one per output. Infinite if it overflows
    /// float64.
    pub(super) fn largest_norm(&self, rows: &[Vec<f64>]) -> Result<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let norms = collected(WHAT, rows.iter().map(|row| dot(row, row).sqrt()))?;
        let affordable = ascent_work(rows.len() + 1) <= MAX_WORK;
        let gram: Vec<Vec<f64>> = match affordable {
            true => try_collected(WHAT, rows.iter().map(|a| collected(WHAT, rows.iter().map(|b| dot(a, b)))))?,
            false => Vec::new(),
        };
        let (mut best, mut widest) = (0.0, 0.0);
        for y in &self.boxes {
            let triangle: f64 = y.iter().zip(&norms).map(|([low, high], norm)| high.max(-low) * norm).sum();
            widest = f64::max(widest, triangle);
            if triangle * triangle > best {
                let bound = if affordable { largest_square(y, &gram)? } else { f64::INFINITY };
                best = best.max(bound.min(triangle * triangle));
            }
        }
        let bound = (best * SLACK + widest * widest / f64::from(1 << 30)).sqrt();
        Ok(if bound.is_nan() { f64::INFINITY } else { bound })
    }
}

fn with_zero(y: &[[f64; 2]]) -> Result<Vec<[f64; 2]>> {
    collected(WHAT, y.iter().map(|&[low, high]| [low.min(0.0), high.max(0.0)]))
}

fn at_corner(y: &[[f64; 2]], corner: usize) -> Result<Vec<[f64; 2]>> {
    collected(WHAT, y.iter().enumerate().map(|(o, &y)| if corner >> o & 1 == 1 { y } else { [0.0; 2] }))
}

/// A bound on `y K y` over a box, with `K` positive semidefinite.
///
/// With `y = c + r s`, centre and radius, `y K y = s' Q s'` for a vector `s'` of a one and signs, and
/// `s' Q s' <= sum mu` for every `mu` that makes `diag(mu) - Q` positive semidefinite. The ascent computes a `mu` close
/// to the best one, which is then raised until the Cholesky factorisation succeeds; infinity if it does not after a few
/// steps.
fn largest_square(y: &[[f64; 2]], gram: &[Vec<f64>]) -> Result<f64> {
    let n = y.len() + 1;
    let centre = collected(WHAT, y.iter().map(|[low, high]| (low + high) / 2.0))?;
    let radius = collected(WHAT, y.iter().map(|[low, high]| (high - low) / 2.0))?;
    let mut q = filled(WHAT, n * n, 0.0)?;
    for (o, row) in gram.iter().enumerate() {
        let centre_of_row: f64 = row.iter().zip(&centre).map(|(k, c)| k * c).sum();
        q[0] += centre[o] * centre_of_row;
        q[o + 1] = radius[o] * centre_of_row;
        q[(o + 1) * n] = q[o + 1];
        for (p, k) in row.iter().enumerate() {
            q[(o + 1) * n + p + 1] = radius[o] * k * radius[p];
        }
    }
    let mu = ascend(&q, n)?;
    let total: f64 = mu.iter().sum();
    for raise in [1.0 / 4096.0, 1.0 / 256.0, 1.0 / 16.0, 1.0] {
        let mut rest = collected(WHAT, q.iter().map(|q| -q))?;
        for i in 0..n {
            rest[i * n + i] += mu[i] + raise * total / n as f64;
        }
        if is_positive_definite(&mut rest, n) {
            return Ok(total * (1.0 + raise));
        }
    }
    Ok(f64::INFINITY)
}

/// The rank of the ascent's vectors: large enough that every local maximum is global.
fn rank(n: usize) -> usize {
    (2 * n).isqrt() + 1
}

fn ascent_work(n: usize) -> usize {
    n.saturating_mul(n).saturating_mul(rank(n) * SWEEPS)
}

/// Finds `mu` with a near-minimal sum such that `diag(mu) - q` is positive semidefinite: coordinate ascent on
/// `sum q[i, j] v[i] . v[j]` over unit vectors `v` (Wang, Chang and Kolter, "The Mixing method", 2017), whose
/// multipliers are `mu`.
fn ascend(q: &[f64], n: usize) -> Result<Vec<f64>> {
    let rank = rank(n);
    // Any start that is not in a low-dimensional subspace works.
    let start = |at: usize| ((at + 1) as f64 * 0.754_877_666_246_692_8).fract() - 0.5;
    let mut v = collected(WHAT, (0..n * rank).map(start))?;
    let mut pull = filled(WHAT, rank, 0.0)?;
    let mut mu = filled(WHAT, n, 0.0)?;
    for _ in 0..SWEEPS {
        for i in 0..n {
            pull.fill(0.0);
            for (j, v) in v.chunks_exact(rank).enumerate() {
                let q = if j == i { 0.0 } else { q[i * n + j] };
                pull.iter_mut().zip(v).for_each(|(pull, v)| *pull += q * v);
            }
            let norm = pull.iter().map(|x| x * x).sum::<f64>().sqrt();
            mu[i] = q[i * n + i] + norm;
            if norm > 0.0 {
                v[i * rank..][..rank].iter_mut().zip(&pull).for_each(|(v, pull)| *v = pull / norm);
            }
        }
    }
    Ok(mu)
}

/// Whether the Cholesky factorisation of the symmetric `a`, `[n, n]`, succeeds; overwrites its lower triangle.
fn is_positive_definite(a: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        let (above, row) = a.split_at_mut(i * n);
        for j in 0..i {
            let of_j = &above[j * n..][..n];
            let known: f64 = row[..j].iter().zip(of_j).map(|(x, y)| x * y).sum();
            row[j] = (row[j] - known) / of_j[j];
        }
        let pivot = row[i] - row[..i].iter().map(|x| x * x).sum::<f64>();
        if pivot.is_nan() || pivot <= 0.0 {
            return false;
        }
        row[i] = pivot.sqrt();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::weights::Packed;

    fn network(widths: &[usize]) -> Network {
        let mut state = 0u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let layers = widths.windows(2).map(|pair| {
            let weight: Vec<f32> = (0..pair[0] * pair[1]).map(|_| next()).collect();
            Packed::new(pair[0], &vec![0.0; pair[1]], 16, |o, k| weight[o * pair[0] + k]).unwrap()
        });
        let layers: Vec<_> = layers.collect();
        let last = widths.last().unwrap();
        Network {
            h0: widths[0],
            g: 0,
            layers,
            by_output: Vec::new(),
            output_weight: vec![0.5; *last],
            output_bias: 0.0,
        }
    }

    /// The largest `|y N|` over all patterns of active ReLUs.
    fn by_enumeration(network: &Network, rows: &[Vec<f64>]) -> f64 {
        let widths: Vec<usize> = network.layers.iter().map(|layer| layer.bias().len()).collect();
        let units: usize = widths.iter().sum();
        let norm_of = |pattern: usize| {
            let mut bits = pattern;
            let mut y: Vec<f64> = network.output_weight.iter().map(|&w| w.into()).collect();
            for (n, layer) in network.layers.iter().enumerate().rev() {
                y.iter_mut().enumerate().for_each(|(o, y)| *y *= (bits >> o & 1) as f64);
                bits >>= y.len();
                if n > 0 {
                    let of_input = |k| y.iter().enumerate().map(|(o, y)| y * f64::from(layer.weight(o, k))).sum();
                    y = (0..layer.inputs).map(of_input).collect();
                }
            }
            let columns = 0..rows[0].len();
            columns.map(|k| y.iter().zip(rows).map(|(y, row)| y * row[k]).sum::<f64>().powi(2)).sum::<f64>().sqrt()
        };
        (0..1 << units).map(norm_of).fold(0.0, f64::max)
    }

    #[test]
    fn the_bound_holds_and_is_tight() {
        for (widths, close) in [(&[9, 14][..], 1.1), (&[9, 8, 6], 1.2), (&[5, 7, 4, 3], 1.3), (&[3, 1], 1.001)] {
            let network = network(widths);
            let rows: Vec<Vec<f64>> = (0..widths[1])
                .map(|o| (0..widths[0]).map(|k| f64::from(network.layers[0].weight(o, k))).collect())
                .collect();
            let exact = by_enumeration(&network, &rows);
            let bound = GradientBound::new(&network).unwrap().largest_norm(&rows).unwrap();
            println!("{widths:?}: bound {bound}, largest {exact}");
            assert!(exact <= bound && bound <= close * exact, "{widths:?}: {bound} {exact}");
        }
    }

    #[test]
    fn cholesky_detects_indefinite_matrices() {
        assert!(is_positive_definite(&mut [2.0, 1.0, 1.0, 2.0], 2));
        assert!(!is_positive_definite(&mut [1.0, 2.0, 2.0, 1.0], 2));
        assert!(!is_positive_definite(&mut [1.0, 1.0, 1.0, 1.0], 2));
        assert!(!is_positive_definite(&mut [f64::NAN], 1));
    }
}
