//! Which memories are looked at together.

use super::super::vectors::{dot, mean};
use super::super::{kmeans, linkage};
use super::Member;

/// The most vectors that are compared each with each; more are split by k-means first.
const MAX_LINKED: usize = 1000;

/// Clusters of at most `size` by average linkage; larger ones are split.
pub(super) fn clustered(vectors: &[Vec<f32>], threshold: f32, size: usize) -> Vec<Vec<usize>> {
    let points = slices(vectors);
    let mut found = Vec::new();
    for window in kmeans::groups(&points, MAX_LINKED) {
        let members: Vec<&[f32]> = window.iter().map(|index| points[*index]).collect();
        for cluster in linkage::clusters(&members, threshold) {
            let cluster: Vec<usize> = cluster.into_iter().map(|at| window[at]).collect();
            let members: Vec<&[f32]> = cluster.iter().map(|index| points[*index]).collect();
            let parts = kmeans::groups(&members, size);
            found.extend(parts.into_iter().map(|part| part.into_iter().map(|at| cluster[at]).collect::<Vec<usize>>()));
        }
    }
    found
}

/// Puts clusters into groups of at most `size` to show to a model, near ones together, without tearing any apart.
pub(super) fn packed(mut clusters: Vec<Vec<usize>>, members: &[Member], size: usize) -> Vec<Vec<usize>> {
    clusters.sort_by(|left, right| right.len().cmp(&left.len()).then_with(|| left.cmp(right)));
    let mut waiting: Vec<(Vec<usize>, Vec<f32>)> = clusters
        .into_iter()
        .map(|cluster| {
            let centre = mean(cluster.iter().map(|index| members[*index].vector.as_slice()));
            (cluster, centre)
        })
        .collect();
    let mut groups = Vec::new();
    while !waiting.is_empty() {
        let (mut group, mut centre) = waiting.remove(0);
        loop {
            let fits = |(_, (cluster, _)): &(usize, &(Vec<usize>, Vec<f32>))| group.len() + cluster.len() <= size;
            let near = |one: &(usize, &(Vec<usize>, Vec<f32>))| dot(&centre, &one.1.1);
            let best = waiting.iter().enumerate().filter(fits).max_by(|left, right| near(left).total_cmp(&near(right)));
            let Some(at) = best.map(|(at, _)| at) else { break };
            group.extend(waiting.remove(at).0);
            centre = mean(group.iter().map(|index| members[*index].vector.as_slice()));
        }
        groups.push(group);
    }
    groups
}

pub(super) fn slices(vectors: &[Vec<f32>]) -> Vec<&[f32]> {
    vectors.iter().map(Vec::as_slice).collect()
}

#[cfg(test)]
mod tests {
    use mos_core::{MemoryId, MemoryItem};

    use super::*;

    fn members(vectors: &[[f32; 2]]) -> Vec<Member> {
        let member = |(at, vector): (usize, &[f32; 2])| Member {
            item: MemoryItem::new(MemoryId::new(format!("{at}")), "text"),
            vector: vector.to_vec(),
        };
        vectors.iter().enumerate().map(member).collect()
    }

    #[test]
    fn clusters_are_packed_whole_with_those_that_are_near() {
        let members = members(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]]);
        let clusters = vec![vec![0, 1], vec![2, 3], vec![4], vec![5]];
        assert_eq!(packed(clusters.clone(), &members, 3), [vec![0, 1, 4], vec![2, 3, 5]]);
        assert_eq!(packed(clusters.clone(), &members, 20).len(), 1);
        assert_eq!(packed(clusters, &members, 1).len(), 4, "what is too large stays whole");
    }
}
