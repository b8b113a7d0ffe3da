//! Clusters of vectors by average linkage, and how near the members of a cluster have to be.

use super::vectors::dot;

/// The neighbour whose similarity tells how near memories of one topic are: a topic has at least four.
const NEIGHBOUR: usize = 3;

/// The share of pairs that are farther apart than the pairs of different topics are on average, at least.
const APART: f64 = 0.25;

/// How far above the similarity of different topics a cluster's has to be, from 0 to the similarity within topics at 1.
const BETWEEN: f32 = 0.5;

/// Cosines of equal vectors differ from 1 by less than this.
const ROUNDING: f32 = 1e-4;

/// Cosines of each point with each other one, `f32[n, n]`.
struct Similarities {
    n: usize,
    values: Vec<f32>,
}

impl Similarities {
    fn of(points: &[&[f32]]) -> Self {
        let n = points.len();
        let mut values = vec![0.0; n * n];
        for (row, point) in points.iter().enumerate() {
            for column in 0..row {
                let cosine = dot(point, points[column]);
                values[row * n + column] = cosine;
                values[column * n + row] = cosine;
            }
        }
        Self { n, values }
    }

    fn get(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.n + column]
    }

    fn set(&mut self, row: usize, column: usize, value: f32) {
        self.values[row * self.n + column] = value;
        self.values[column * self.n + row] = value;
    }
}

/// Returns the average cosine from which on points belong together: half way between that of points that have nothing to do
/// with each other and that of near neighbours, so that it fits any encoder; at least `least`. `None` for fewer points than
/// a topic needs.
pub(super) fn threshold(points: &[&[f32]], least: f32) -> Option<f32> {
    let n = points.len();
    if n <= NEIGHBOUR {
        return None;
    }
    let similarities = Similarities::of(points);
    let mut near = Vec::with_capacity(n);
    let mut pairs = Vec::with_capacity(n * (n - 1) / 2);
    for row in 0..n {
        let mut others: Vec<f32> =
            (0..n).filter(|other| *other != row).map(|other| similarities.get(row, other)).collect();
        pairs.extend((0..row).map(|other| similarities.get(row, other)));
        others.sort_by(|left, right| right.total_cmp(left));
        near.push(others[NEIGHBOUR - 1]);
    }
    let (apart, near) = (quantile(&mut pairs, APART), quantile(&mut near, 0.5));
    Some((apart + BETWEEN * (near - apart) - ROUNDING).max(least))
}

/// The value below which this share of the values lies. There is at least one.
fn quantile(values: &mut [f32], share: f64) -> f32 {
    let place = ((values.len() - 1) as f64 * share).round() as usize;
    *values.select_nth_unstable_by(place, f32::total_cmp).1
}

/// Returns the clusters that joining the two with the greatest average cosine, again and again, gives until it is below
/// `threshold`: indexes in ascending order, clusters in the order of their first index. Single points are clusters, too.
///
/// Chains of nearest neighbours (Murtagh 1983) find the same clusters in time `n²`. Taking whole clusters away does not
/// change the others.
pub(super) fn clusters(points: &[&[f32]], threshold: f32) -> Vec<Vec<usize>> {
    let n = points.len();
    let mut similarities = Similarities::of(points);
    let mut members: Vec<Vec<usize>> = (0..n).map(|index| vec![index]).collect();
    // Clusters that may still be joined, named by one of their points.
    let mut open: Vec<bool> = vec![true; n];
    let mut chain: Vec<usize> = Vec::new();
    loop {
        if chain.is_empty() {
            let Some(first) = open.iter().position(|is_open| *is_open) else { break };
            chain.push(first);
        }
        let top = chain[chain.len() - 1];
        let before = chain.len().checked_sub(2).map(|index| chain[index]);
        match nearest(top, before, &open, &similarities).filter(|(_, cosine)| *cosine >= threshold) {
            None => {
                // Nothing is near enough, and a cluster of others is no nearer than its nearest part.
                open[top] = false;
                chain.pop();
            }
            Some((other, _)) if Some(other) == before => {
                join(top, other, &mut members, &mut similarities, &open);
                open[other] = false;
                chain.truncate(chain.len() - 2);
            }
            Some((other, _)) => chain.push(other),
        }
    }
    members.retain(|cluster| !cluster.is_empty());
    members.iter_mut().for_each(|cluster| cluster.sort_unstable());
    members.sort();
    members
}

/// The open cluster nearest to another; among equals the one before it in the chain, so that chains end.
fn nearest(top: usize, before: Option<usize>, open: &[bool], similarities: &Similarities) -> Option<(usize, f32)> {
    let mut best = before.filter(|index| open[*index]).map(|index| (index, similarities.get(top, index)));
    for other in (0..open.len()).filter(|other| open[*other] && *other != top) {
        let cosine = similarities.get(top, other);
        if best.is_none_or(|(_, known)| cosine > known) {
            best = Some((other, cosine));
        }
    }
    best
}

/// Makes one cluster of two, under the name of the first.
fn join(kept: usize, gone: usize, members: &mut [Vec<usize>], similarities: &mut Similarities, open: &[bool]) {
    let (n_kept, n_gone) = (members[kept].len() as f32, members[gone].len() as f32);
    for other in (0..open.len()).filter(|other| open[*other] && *other != kept && *other != gone) {
        let sum = n_kept * similarities.get(kept, other) + n_gone * similarities.get(gone, other);
        similarities.set(kept, other, sum / (n_kept + n_gone));
    }
    let moved = std::mem::take(&mut members[gone]);
    members[kept].extend(moved);
}

#[cfg(test)]
mod tests {
    use super::super::vectors::normalise;
    use super::*;

    /// `n` points near each of some axes, with noise that differs from point to point.
    fn bundles(n_axes: usize, n: usize) -> Vec<Vec<f32>> {
        let mut points = Vec::new();
        for number in 0..n {
            for axis in 0..n_axes {
                let mut point: Vec<f32> =
                    (0..n_axes + 8).map(|at| ((number * 31 + axis * 17 + at * 7) % 11) as f32 / 40.0).collect();
                point[axis] += 1.0;
                normalise(&mut point);
                points.push(point);
            }
        }
        points
    }

    fn slices(points: &[Vec<f32>]) -> Vec<&[f32]> {
        points.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn bundles_are_found_without_being_told_how_many() {
        for (n_axes, n) in [(2, 12), (3, 8), (6, 5)] {
            let points = bundles(n_axes, n);
            let threshold = threshold(&slices(&points), 0.2).unwrap();
            let found = clusters(&slices(&points), threshold);
            assert_eq!(found.len(), n_axes, "{found:?} at {threshold}");
            assert!(found.iter().all(|cluster| cluster.len() == n && cluster.iter().all(|i| i % n_axes == cluster[0])));
        }
    }

    #[test]
    fn what_is_left_of_the_points_clusters_in_the_same_way() {
        let points = bundles(4, 6);
        let found = clusters(&slices(&points), 0.5);
        let (taken, left) = found.split_first().unwrap();
        let kept: Vec<usize> = (0..points.len()).filter(|index| !taken.contains(index)).collect();
        let rest: Vec<&[f32]> = kept.iter().map(|index| points[*index].as_slice()).collect();
        let again: Vec<Vec<usize>> =
            clusters(&rest, 0.5).into_iter().map(|cluster| cluster.into_iter().map(|i| kept[i]).collect()).collect();
        assert_eq!(again, left);
    }

    #[test]
    fn the_average_decides_and_not_the_nearest() {
        // A chain on a circle: neighbours are near, the ends are not.
        let points: Vec<Vec<f32>> =
            (0..8).map(|at| 0.35 * at as f32).map(|angle| vec![angle.cos(), angle.sin()]).collect();
        assert!(clusters(&slices(&points), 0.9).len() > 1);
        assert_eq!(clusters(&slices(&points), -1.0).len(), 1);
        assert_eq!(clusters(&slices(&points), 1.1).len(), 8);
    }

    #[test]
    fn few_and_equal_points_are_no_trouble() {
        assert_eq!(threshold(&slices(&bundles(1, 3)), 0.2), None);
        assert!(clusters(&[], 0.5).is_empty());
        let equal = vec![vec![1.0_f32, 0.0]; 30];
        assert_eq!(clusters(&slices(&equal), 0.5), [Vec::from_iter(0..30)]);
        assert!((threshold(&slices(&equal), 0.2).unwrap() - 1.0).abs() < 1e-3);
    }
}
