//! The length of a window's vector, from the dot products of the memories in it.
//!
//! The vector of the window around memory `i` is `w = v[i] + sum of c[k] v[i + k]` over `k` in -2, -1, 1, 2. Its cosine
//! with a question needs only the question's similarity to each of the five and `|w|`, and
//! `|w|² = sum of c[j] c[k] (v[j] · v[k])`. Each memory keeps its dot products with the four before it: no second vector.

use super::sessions::{Around, BEFORE};

/// What the length is at least: vectors that cancel each other out have no direction.
const SHORTEST: f32 = 1e-3;

/// The members of a window in the order of the session, those that are there, with their weights.
fn members(row: u32, around: Around, weights: [f32; BEFORE]) -> [Option<(u32, f32)>; BEFORE + 1] {
    let at = |place: usize| around[place].map(|row| (row, weights[place]));
    [at(0), at(1), Some((row, 1.0)), at(2), at(3)]
}

/// Returns the length of the vector of the window around `row`. `dot(later, distance)` is the dot product of the vector of
/// the row `later` with that of the memory that stands `distance` (1 to 4) before it in the session; vectors have length 1.
pub(super) fn length(row: u32, around: Around, weights: [f32; BEFORE], dot: impl Fn(u32, usize) -> f32) -> f32 {
    let members = members(row, around, weights);
    let mut square = 0.0;
    for (place, member) in members.iter().enumerate() {
        let Some((later, weight)) = *member else { continue };
        square += weight * weight;
        for (earlier_place, earlier) in members.iter().enumerate().take(place) {
            if let Some((_, earlier_weight)) = *earlier {
                square += 2.0 * weight * earlier_weight * dot(later, place - earlier_place);
            }
        }
    }
    square.max(0.0).sqrt().max(SHORTEST)
}

/// Returns the dot product of a question with the vector of the window around `row`, from its similarities to the members.
pub(super) fn similarity(row: u32, around: Around, weights: [f32; BEFORE], of: impl Fn(u32) -> f32) -> f32 {
    members(row, around, weights).into_iter().flatten().map(|(row, weight)| weight * of(row)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: [f32; BEFORE] = [0.5, 0.7, 0.7, 0.5];

    fn dot(left: &[f32; 3], right: &[f32; 3]) -> f32 {
        left.iter().zip(right).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn a_memory_alone_has_length_one() {
        assert_eq!(length(7, [None; 4], WEIGHTS, |_, _| panic!("there is nobody else")), 1.0);
        assert_eq!(similarity(7, [None; 4], WEIGHTS, |_| 0.25), 0.25);
    }

    #[test]
    fn dots_give_what_the_summed_vector_has() {
        let vectors: [[f32; 3]; 6] =
            [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8], [0.8, 0.0, -0.6], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]];
        let query = [0.0, 0.8, 0.6];
        for row in 0..vectors.len() {
            let there = |offset: isize| row.checked_add_signed(offset).filter(|at| *at < vectors.len());
            let around = [-2, -1, 1, 2].map(|offset| there(offset).map(|at| at as u32));
            let mut sum = vectors[row];
            for (place, at) in around.iter().enumerate() {
                let Some(at) = at else { continue };
                for (number, other) in sum.iter_mut().zip(vectors[*at as usize]) {
                    *number += WEIGHTS[place] * other;
                }
            }
            let pair = |later: u32, distance: usize| dot(&vectors[later as usize], &vectors[later as usize - distance]);
            let got = length(row as u32, around, WEIGHTS, pair);
            assert!((got - dot(&sum, &sum).sqrt()).abs() < 1e-5, "length around {row}: {got}");
            let got = similarity(row as u32, around, WEIGHTS, |row| dot(&query, &vectors[row as usize]));
            assert!((got - dot(&query, &sum)).abs() < 1e-5, "similarity around {row}: {got}");
        }
    }

    #[test]
    fn vectors_that_cancel_out_divide_nothing_by_zero() {
        let around = [None, None, Some(1), None];
        let got = length(0, around, [0.0, 0.0, 1.0, 0.0], |_, _| -1.0);
        assert_eq!(got, SHORTEST);
    }
}
