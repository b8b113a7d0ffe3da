//! Splitting many vectors into groups of a bounded size: spherical k-means (Dhillon and Modha 2001) with the start of
//! k-means++ (Arthur and Vassilvitskii 2007), again and again until no group is too large.
//!
//! The same vectors in the same order give the same groups.

use super::vectors::{dot, mean, normalise};

/// How often the centres are moved at most.
const MAX_ROUNDS: usize = 50;

/// The seed of every start.
const SEED: u64 = 42;

/// Returns the indexes of `points` in groups of at most `limit`, each in ascending order; groups in the order of their
/// first index. None is empty.
pub(super) fn groups(points: &[&[f32]], limit: usize) -> Vec<Vec<usize>> {
    let limit = limit.max(1);
    let mut waiting: Vec<Vec<usize>> = if points.is_empty() { Vec::new() } else { vec![(0..points.len()).collect()] };
    let mut done = Vec::new();
    while let Some(group) = waiting.pop() {
        if group.len() <= limit {
            done.push(group);
            continue;
        }
        let members: Vec<&[f32]> = group.iter().map(|index| points[*index]).collect();
        let parts = split(&members, group.len().div_ceil(limit));
        if parts.len() == 1 {
            // Vectors that cannot be told apart are cut in their order.
            done.extend(group.chunks(limit).map(<[usize]>::to_vec));
            continue;
        }
        waiting.extend(parts.into_iter().map(|part| part.into_iter().map(|index| group[index]).collect()));
    }
    done.sort();
    done
}

/// Splits points into at most `k` groups around centres; fewer when some centres attract none.
fn split(points: &[&[f32]], k: usize) -> Vec<Vec<usize>> {
    let mut centres = start(points, k);
    let mut assigned = vec![usize::MAX; points.len()];
    for _ in 0..MAX_ROUNDS {
        let next: Vec<usize> = points.iter().map(|point| nearest(point, &centres)).collect();
        if next == assigned {
            break;
        }
        assigned = next;
        for (index, centre) in centres.iter_mut().enumerate() {
            let own = points.iter().zip(&assigned).filter(|(_, at)| **at == index).map(|(point, _)| *point);
            let mut moved = mean(own);
            if !moved.is_empty() {
                normalise(&mut moved);
                *centre = moved;
            }
        }
    }
    let mut groups = vec![Vec::new(); centres.len()];
    for (index, at) in assigned.into_iter().enumerate() {
        groups[at].push(index);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The centre with the greatest cosine; the first of equal ones.
fn nearest(point: &[f32], centres: &[Vec<f32>]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, centre) in centres.iter().enumerate() {
        let cosine = dot(point, centre);
        if cosine > best.1 {
            best = (index, cosine);
        }
    }
    best.0
}

/// Chooses points as centres: the first by chance, each further one with a chance that grows with its distance from those
/// that were chosen.
fn start(points: &[&[f32]], k: usize) -> Vec<Vec<f32>> {
    let mut chance = Chance(SEED);
    let first = (chance.next() * points.len() as f64) as usize;
    let mut centres = vec![points[first.min(points.len() - 1)].to_vec()];
    let mut distances = vec![f64::INFINITY; points.len()];
    while centres.len() < k {
        let newest = &centres[centres.len() - 1];
        for (distance, point) in distances.iter_mut().zip(points) {
            *distance = distance.min(f64::from(1.0 - dot(point, newest)).max(0.0));
        }
        let total: f64 = distances.iter().sum();
        if total <= f64::EPSILON {
            break;
        }
        let mut rest = chance.next() * total;
        let chosen = distances.iter().position(|distance| {
            rest -= distance;
            rest < 0.0
        });
        centres.push(points[chosen.unwrap_or(points.len() - 1)].to_vec());
    }
    centres
}

/// Numbers that look random: splitmix64 (Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    /// A number from 0 to 1, without 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points near the axes, `n` at each.
    fn bundles(n_axes: usize, n: usize) -> Vec<Vec<f32>> {
        let mut points = Vec::new();
        for number in 0..n {
            for axis in 0..n_axes {
                let mut point = vec![0.0; n_axes + 1];
                point[axis] = 1.0;
                point[n_axes] = 0.01 * number as f32;
                normalise(&mut point);
                points.push(point);
            }
        }
        points
    }

    fn grouped(points: &[Vec<f32>], limit: usize) -> Vec<Vec<usize>> {
        groups(&points.iter().map(Vec::as_slice).collect::<Vec<_>>(), limit)
    }

    #[test]
    fn every_point_is_in_one_group_and_no_group_is_too_large() {
        for (n_axes, n) in [(1, 1), (1, 100), (3, 8), (5, 40), (7, 3)] {
            let points = bundles(n_axes, n);
            let found = grouped(&points, 20);
            assert!(found.iter().all(|group| !group.is_empty() && group.len() <= 20), "{found:?}");
            let mut all: Vec<usize> = found.concat();
            all.sort_unstable();
            assert_eq!(all, Vec::from_iter(0..points.len()));
            assert_eq!(found, grouped(&points, 20), "the same again");
        }
        assert!(grouped(&[], 20).is_empty());
    }

    #[test]
    fn points_that_cannot_be_told_apart_are_cut_in_order() {
        let points = vec![vec![1.0, 0.0]; 45];
        assert_eq!(grouped(&points, 20), [Vec::from_iter(0..20), Vec::from_iter(20..40), Vec::from_iter(40..45)]);
    }

    #[test]
    fn what_is_far_apart_is_separated() {
        let points = bundles(2, 15);
        let found = grouped(&points, 20);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|group| group.iter().all(|index| index % 2 == group[0] % 2)), "{found:?}");
    }
}
