//! Clusters items by k-means (Lloyd, IEEE Trans. Inf. Theory 28, 1982) in the coordinates of the metric.
//!
//! The nearest centroid `c` of a point `x` has the largest `x . c - |c|^2 / 2`: with the coordinate 1 appended to `x`
//! and `-|c|^2 / 2` to `c`, a dot product. So the scan of a catalogue finds it, with the points as users and the
//! centroids as items. Every sum has a fixed order: the clusters depend on the seed alone.

use super::metric::Metric;
use super::progress::Progress;
use crate::error::{Result, collected, filled, reserve};
use crate::kernel::scan::Scan;
use crate::kernel::survivors::Survivors;
use crate::kernel::weights::{Network, Scratch};
use crate::kernel::{Aligned, Isa, LANES, Lanes};
use crate::pool::Call;
use crate::random::Permutation;

/// Points of the sample for each centroid.
const POINTS_PER_CENTROID: usize = 64;

/// Batches in which the first centroids are chosen: with more of them, fewer are near each other.
const SEED_BATCHES: usize = 8;

/// Rounds of k-means; the later ones gain little.
const ROUNDS: usize = 8;

/// Points that share a pass over the centroids, and those of a task.
const TOGETHER: usize = 64;
const PER_TASK: usize = 16 * TOGETHER;

/// Steps of the last assignment, between which progress is reported.
const ASSIGN_STEPS: usize = 16;

/// Tiles of a pass: they stay in the L1 cache.
fn panel(tile_len: usize) -> usize {
    (crate::engine::Engine::PANEL_BYTES / (tile_len * size_of::<Lanes>())).clamp(4, 64)
}

/// Assigns each of `items` items to one of at most `lists` clusters, numbered from 0.
///
/// # Errors
/// [`Error::Memory`](crate::Error::Memory); [`Error::Interrupted`](crate::Error::Interrupted).
pub(super) fn cluster(
    metric: &Metric<'_>,
    isa: Isa,
    items: usize,
    lists: usize,
    seed: u64,
    progress: &mut Progress<'_>,
    call: Call<'_>,
) -> Result<Vec<u32>> {
    let row_len = metric.row_len();
    let points = items.min(lists.saturating_mul(POINTS_PER_CENTROID));
    let order = Permutation::new(items, seed);
    let sample = call.in_chunks("sample of items", points * row_len, PER_TASK * row_len, 0.0, |n, rows, watch| {
        let first = n * PER_TASK;
        let sampled = first..first + rows.len() / row_len;
        let sampled = collected("sample of items", sampled.map(|n| order.at(n) as u32))?;
        watch.stopped(rows.len() * row_len);
        metric.coordinates(&sampled, rows)
    })?;
    let mut centroids = Centroids::new(isa, row_len, &seeds(isa, &sample, row_len, lists.min(points), call)?)?;
    for round in 0..ROUNDS {
        let nearest = centroids.assign_all(&sample, call)?;
        centroids = centroids.moved(&sample, &nearest, call)?;
        progress.at(0.5 * (round + 1) as f64 / ROUNDS as f64)?;
    }
    drop(sample);
    let mut cluster_of = reserve("clusters", items)?;
    while cluster_of.len() < items {
        let first = cluster_of.len();
        let block = (items - first).min(items.div_ceil(ASSIGN_STEPS).next_multiple_of(PER_TASK));
        call.extend_in_chunks(&mut cluster_of, block, PER_TASK, 0, |n, cluster_of, watch| {
            let first = (first + n * PER_TASK) as u32;
            let items = collected("items", first..first + cluster_of.len() as u32)?;
            let mut points = filled("coordinates", items.len() * row_len, 0.0)?;
            metric.coordinates(&items, &mut points)?;
            watch.stopped(points.len() * lists / 8);
            let mut nearest = filled("clusters", items.len(), Nearest::NONE)?;
            centroids.assign(&points, &mut nearest)?;
            cluster_of.iter_mut().zip(nearest).for_each(|(cluster, nearest)| *cluster = nearest.centroid);
            Ok(())
        })?;
        progress.at(0.5 + 0.5 * cluster_of.len() as f64 / items as f64)?;
    }
    Ok(cluster_of)
}

/// The first centroids: points that are far from each other, by k-means++ in batches (Arthur, Vassilvitskii, SODA 2007;
/// Bahmani et al., "Scalable k-means++", VLDB 2012). A point is chosen with a probability in proportion to its squared
/// distance from the nearest of the batches before. `points` are in random order.
fn seeds(isa: Isa, points: &[f32], row_len: usize, count: usize, call: Call<'_>) -> Result<Vec<f32>> {
    let squares = collected("distances", points.chunks_exact(row_len).map(square))?;
    let mut distances = filled("distances", squares.len(), f64::INFINITY)?;
    let mut chosen: Vec<f32> = reserve("centroids", count * row_len)?;
    let batch = count.div_ceil(SEED_BATCHES);
    chosen.extend(&points[..batch * row_len]);
    while chosen.len() < count * row_len {
        let before = chosen.len() / row_len;
        let latest = Centroids::new(isa, row_len, &chosen[(before - 1) / batch * batch * row_len..])?;
        let nearest = latest.assign_all(points, call)?;
        for ((distance, square), nearest) in distances.iter_mut().zip(&squares).zip(&nearest) {
            *distance = distance.min((square - 2.0 * f64::from(nearest.score)).max(0.0));
        }
        for point in in_proportion(&distances, batch.min(count - before))? {
            chosen.extend(&points[point * row_len..][..row_len]);
        }
    }
    Ok(chosen)
}

/// Chooses `count` positions of `weights` in proportion to these, one in each of `count` equal parts of their sum: one
/// twice only where its weight exceeds a part, and the first each time if all weights are zero.
fn in_proportion(weights: &[f64], count: usize) -> Result<Vec<usize>> {
    let part = weights.iter().sum::<f64>() / count as f64;
    let mut chosen = reserve("centroids", count)?;
    let mut sum = 0.0;
    for (position, &weight) in weights.iter().enumerate() {
        sum += weight;
        while chosen.len() < count && sum >= (chosen.len() as f64 + 0.5) * part {
            chosen.push(position);
        }
    }
    Ok(chosen)
}

/// The squared length of a point, without its last coordinate.
fn square(point: &[f32]) -> f64 {
    let (_, point) = point.split_last().expect("a last coordinate");
    point.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// The centroid that is nearest to a point `x`, and its score `x . c - |c|^2 / 2`.
#[derive(Debug, Clone, Copy)]
struct Nearest {
    centroid: u32,
    score: f32,
}

impl Nearest {
    const NONE: Nearest = Nearest { centroid: 0, score: f32::NEG_INFINITY };
}

/// Centroids in tiles, as the items of a dot product.
struct Centroids {
    isa: Isa,
    network: Network,
    count: usize,
    tiles: Aligned,
}

impl Centroids {
    /// Centroids at `points`, `[count, row_len]`, whose last coordinate is not used.
    fn new(isa: Isa, row_len: usize, points: &[f32]) -> Result<Self> {
        let count = points.len() / row_len;
        let mut tiles = Aligned::zeros("centroids", count.div_ceil(LANES) * row_len)?;
        for (tile, points) in tiles.chunks_exact_mut(row_len).zip(points.chunks(LANES * row_len)) {
            tile[row_len - 1] = [f32::MIN; LANES]; // padding is never the nearest
            for (lane, point) in points.chunks_exact(row_len).enumerate() {
                tile.iter_mut().zip(point).for_each(|(to, x)| to[lane] = *x);
                tile[row_len - 1][lane] = (-square(point) / 2.0) as f32;
            }
        }
        let (layers, by_output) = (Vec::new(), Vec::new());
        let network = Network { h0: 0, g: row_len, layers, by_output, output_weight: Vec::new(), output_bias: 0.0 };
        Ok(Centroids { isa, network, count, tiles })
    }

    /// The nearest centroid of each of `points`.
    fn assign_all(&self, points: &[f32], call: Call<'_>) -> Result<Vec<Nearest>> {
        let row_len = self.network.g;
        call.in_chunks("clusters", points.len() / row_len, PER_TASK, Nearest::NONE, |n, nearest, watch| {
            let points = &points[n * PER_TASK * row_len..][..nearest.len() * row_len];
            watch.stopped(points.len() * self.count / 8);
            self.assign(points, nearest)
        })
    }

    /// The nearest centroid of each of `points`, `[nearest, row_len]`; of equally near ones the first.
    fn assign(&self, points: &[f32], nearest: &mut [Nearest]) -> Result<()> {
        let row_len = self.network.g;
        let panel = panel(row_len);
        let mut survivors = reserve("survivors", TOGETHER)?;
        for _ in 0..TOGETHER.min(nearest.len()) {
            survivors.push(Survivors::new(panel)?);
        }
        let mut users = reserve("points", TOGETHER)?;
        for (nearest, points) in nearest.chunks_mut(TOGETHER).zip(points.chunks(TOGETHER * row_len)) {
            users.clear();
            users.extend(points.chunks_exact(row_len).map(|point| (&[][..], point)));
            nearest.fill(Nearest::NONE);
            for (n, tiles) in self.tiles.chunks(panel * row_len).enumerate() {
                let better = nearest.iter().map(|nearest| nearest.score.next_up());
                survivors.iter_mut().zip(better).for_each(|(survivors, better)| survivors.reset(better));
                Scratch::lend(&self.network, |scratch| {
                    let scan = Scan {
                        network: &self.network,
                        tiles,
                        ahead: &[],
                        users: &users,
                        scratch,
                        survivors: &mut survivors,
                    };
                    scan.run(self.isa);
                })?;
                for (survivors, nearest) in survivors.iter().zip(&mut *nearest) {
                    for survivor in survivors.found() {
                        for (lane, &score) in survivor.logits.iter().enumerate() {
                            if score > nearest.score {
                                let centroid = ((n * panel + survivor.tile) * LANES + lane) as u32;
                                *nearest = Nearest { centroid, score };
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Centroids in the middle of the points that are nearest to each.
    fn moved(&self, points: &[f32], nearest: &[Nearest], call: Call<'_>) -> Result<Self> {
        let row_len = self.network.g;
        let cluster_of = collected("clusters", nearest.iter().map(|nearest| nearest.centroid))?;
        let members = Members::new(&cluster_of, self.count)?;
        let mut means =
            call.in_chunks("centroids", self.count * row_len, row_len, 0.0f32, |cluster, mean, watch| {
                let mut sums = filled("centroids", row_len, 0.0f64)?;
                let members = members.of(cluster);
                for &point in members {
                    let point = &points[point as usize * row_len..][..row_len];
                    sums.iter_mut().zip(point).for_each(|(sum, &x)| *sum += f64::from(x));
                }
                let count = members.len().max(1) as f64;
                mean.iter_mut().zip(&sums).for_each(|(mean, sum)| *mean = (sum / count) as f32);
                watch.stopped(members.len() * row_len);
                Ok(())
            })?;
        self.split_largest(&mut means, &members)?;
        Centroids::new(self.isa, row_len, &means)
    }

    /// Puts each centroid that no point is near to beside that of the largest cluster, which it shares from then on.
    fn split_largest(&self, means: &mut [f32], members: &Members) -> Result<()> {
        const APART: f32 = 1.0 / 1024.0;
        let row_len = self.network.g;
        let mut sizes = collected("clusters", (0..self.count).map(|cluster| members.of(cluster).len()))?;
        for empty in 0..self.count {
            if sizes[empty] > 0 {
                continue;
            }
            let largest = (0..self.count).fold(0, |best, at| if sizes[at] > sizes[best] { at } else { best });
            for k in 0..row_len - 1 {
                let x = means[largest * row_len + k];
                let by = if k % 2 == 0 { APART } else { -APART };
                means[empty * row_len + k] = x * (1.0 + by);
                means[largest * row_len + k] = x * (1.0 - by);
            }
            sizes[empty] = sizes[largest] / 2;
            sizes[largest] -= sizes[empty];
        }
        Ok(())
    }
}

/// The members of clusters, ascending in each.
pub(super) struct Members {
    starts: Vec<usize>,
    members: Vec<u32>,
}

impl Members {
    /// From the cluster, below `clusters`, of each member.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory).
    pub(super) fn new(cluster_of: &[u32], clusters: usize) -> Result<Self> {
        let mut starts = filled("clusters", clusters + 1, 0)?;
        cluster_of.iter().for_each(|&cluster| starts[cluster as usize + 1] += 1);
        (0..clusters).for_each(|cluster| starts[cluster + 1] += starts[cluster]);
        let mut next = collected("clusters", starts.iter().copied())?;
        let mut members = filled("clusters", cluster_of.len(), 0)?;
        for (member, &cluster) in (0..).zip(cluster_of) {
            let at = &mut next[cluster as usize];
            members[*at] = member;
            *at += 1;
        }
        Ok(Members { starts, members })
    }

    pub(super) fn of(&self, cluster: usize) -> &[u32] {
        &self.members[self.starts[cluster]..self.starts[cluster + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::in_proportion;

    #[test]
    fn positions_are_chosen_in_proportion_to_their_weights() {
        assert_eq!(in_proportion(&[1.0; 6], 3).unwrap(), [0, 2, 4]);
        assert_eq!(in_proportion(&[0.0, 8.0, 0.0, 1.0, 1.0], 5).unwrap(), [1, 1, 1, 1, 3]);
        assert_eq!(in_proportion(&[0.0; 4], 2).unwrap(), [0, 0]);
    }
}
