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
    // The first points of the sample are a random choice.
    let mut centroids = Centroids::new(isa, row_len, &sample[..lists.min(points) * row_len])?;
    for round in 0..ROUNDS {
        let nearest = call.in_chunks("clusters", points, PER_TASK, 0, |n, nearest, watch| {
            let points = &sample[n * PER_TASK * row_len..][..nearest.len() * row_len];
            watch.stopped(points.len() * lists / 8);
            centroids.assign(points, nearest)
        })?;
        centroids = centroids.moved(&sample, &nearest, call)?;
        progress.at(0.5 * (round + 1) as f64 / ROUNDS as f64)?;
    }
    drop(sample);
    let mut nearest = reserve("clusters", items)?;
    while nearest.len() < items {
        let first = nearest.len();
        let block = (items - first).min(items.div_ceil(ASSIGN_STEPS).next_multiple_of(PER_TASK));
        call.extend_in_chunks(&mut nearest, block, PER_TASK, 0, |n, nearest, watch| {
            let first = (first + n * PER_TASK) as u32;
            let items = collected("items", first..first + nearest.len() as u32)?;
            let mut points = filled("coordinates", items.len() * row_len, 0.0)?;
            metric.coordinates(&items, &mut points)?;
            watch.stopped(points.len() * lists / 8);
            centroids.assign(&points, nearest)
        })?;
        progress.at(0.5 + 0.5 * nearest.len() as f64 / items as f64)?;
    }
    Ok(nearest)
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
                let (_, point) = point.split_last().expect("a last coordinate");
                let square: f64 = point.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                tile.iter_mut().zip(point).for_each(|(to, x)| to[lane] = *x);
                tile[row_len - 1][lane] = (-square / 2.0) as f32;
            }
        }
        let (layers, by_output) = (Vec::new(), Vec::new());
        let network = Network { h0: 0, g: row_len, layers, by_output, output_weight: Vec::new(), output_bias: 0.0 };
        Ok(Centroids { isa, network, count, tiles })
    }

    /// The nearest centroid of each of `points`, `[nearest, row_len]`; of equally near ones the first.
    fn assign(&self, points: &[f32], nearest: &mut [u32]) -> Result<()> {
        let row_len = self.network.g;
        let panel = panel(row_len);
        let mut survivors = reserve("survivors", TOGETHER)?;
        for _ in 0..TOGETHER.min(nearest.len()) {
            survivors.push(Survivors::new(panel)?);
        }
        let mut users = reserve("points", TOGETHER)?;
        let mut best = [f32::NEG_INFINITY; TOGETHER];
        for (nearest, points) in nearest.chunks_mut(TOGETHER).zip(points.chunks(TOGETHER * row_len)) {
            users.clear();
            users.extend(points.chunks_exact(row_len).map(|point| (&[][..], point)));
            best.fill(f32::NEG_INFINITY);
            for (n, tiles) in self.tiles.chunks(panel * row_len).enumerate() {
                survivors.iter_mut().zip(best).for_each(|(survivors, best)| survivors.reset(best.next_up()));
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
                for ((survivors, best), nearest) in survivors.iter().zip(&mut best).zip(&mut *nearest) {
                    for survivor in survivors.found() {
                        for (lane, &score) in survivor.logits.iter().enumerate() {
                            if score > *best {
                                *best = score;
                                *nearest = ((n * panel + survivor.tile) * LANES + lane) as u32;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Centroids in the middle of the points that are nearest to each.
    fn moved(&self, points: &[f32], nearest: &[u32], call: Call<'_>) -> Result<Self> {
        let row_len = self.network.g;
        let members = Members::new(nearest, self.count)?;
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
