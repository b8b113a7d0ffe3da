//! Vectors in one byte per number, and how far the score of such a copy can be from the score of the vector itself.
//!
//! A row `x` is kept as `scale * codes` with `codes` in `-127..=127`; what is lost is `r = x - scale * codes`, of which
//! only the length is kept (rounded up). A query `q` becomes `scale * numbers` with whole numbers of up to 15 bits, which
//! loses `e`. Then
//!
//! `q.x = (q's scale * x's scale) * (numbers . codes) + (q's scale * numbers) . r + e . x`
//!
//! and the last two products are at most `(|q| + |e|) * |r|` and `|e| * |x|`, whatever the vectors are. `numbers . codes`
//! is a sum of whole numbers that cannot overflow, so every set of instructions gives the same.

use super::cpu::Instructions;
use super::whole_dot::{CodeGroup, GROUP, WholeDots, WideGroup, whole_dots_with};

/// Codes are in `-MAX_CODE..=MAX_CODE`.
const MAX_CODE: f32 = 127.0;

/// Rounding of one operation on `f32`, relative; twice of what it is, which covers the second order.
const ROUNDING: f64 = f32::EPSILON as f64;
/// What products too small for `f32` can lose; far below every score that matters.
const UNDERFLOW: f64 = 1e-30;
/// Operations on the way to a bound that round as well, generously.
const OTHER_OPERATIONS: usize = 16;

/// The coarse copy of some rows of one dimension.
#[derive(Debug, Default)]
pub(super) struct CodedRows {
    /// `stride` groups per row; unused numbers of the last group are 0.
    groups: Vec<CodeGroup>,
    scales: Vec<f32>,
    /// The length of what is lost, at least.
    losses: Vec<f32>,
}

impl CodedRows {
    /// Appends a row.
    pub(super) fn push(&mut self, row: &[f32]) {
        let (scale, loss) = code(row, |group| self.groups.push(group));
        self.scales.push(scale);
        self.losses.push(loss);
    }

    /// Replaces row number `at`.
    pub(super) fn set(&mut self, at: usize, row: &[f32]) {
        let start = at * stride(row.len());
        let mut groups = self.groups[start..].iter_mut();
        let (scale, loss) = code(row, |group| {
            if let Some(place) = groups.next() {
                *place = group;
            }
        });
        self.scales[at] = scale;
        self.losses[at] = loss;
    }

    /// Removes the last row of this dimension.
    pub(super) fn pop(&mut self, dimension: usize) {
        if self.scales.pop().is_some() {
            self.losses.pop();
            self.groups.truncate(self.scales.len() * stride(dimension));
        }
    }

    /// Bytes it takes.
    pub(super) fn n_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<CodeGroup>()
            + (self.scales.capacity() + self.losses.capacity()) * size_of::<f32>()
    }
}

/// Groups per row.
fn stride(dimension: usize) -> usize {
    dimension.div_ceil(GROUP)
}

/// Writes the groups of a row and returns its scale and an upper bound of the length of what is lost.
fn code(row: &[f32], mut write: impl FnMut(CodeGroup)) -> (f32, f32) {
    let greatest = row.iter().fold(0.0_f32, |greatest, number| greatest.max(number.abs()));
    let scale = greatest / MAX_CODE;
    let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
    let mut lost = 0.0_f64;
    for numbers in row.chunks(GROUP) {
        let mut group = CodeGroup([0; GROUP]);
        for (number, place) in numbers.iter().zip(&mut group.0) {
            // A number that is not finite becomes something else here; the loss says so.
            let whole = (number * inverse).round_ties_even().clamp(-MAX_CODE, MAX_CODE);
            *place = whole as i8;
            lost += (f64::from(*number) - f64::from(scale) * f64::from(*place)).powi(2);
        }
        write(group);
    }
    (scale, upper(lost.sqrt()))
}

/// Returns an `f32` that is not less than a number which was computed in double precision.
fn upper(number: f64) -> f32 {
    let rounded = (number * (1.0 + 1e-9)) as f32;
    if rounded.is_nan() { f32::INFINITY } else { rounded.next_up() }
}

/// Returns the length of a vector, at least; infinite when a number is not finite.
pub(super) fn length_above(vector: &[f32]) -> f32 {
    upper(vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt())
}

/// A query, ready to be compared with coded rows.
#[derive(Debug)]
pub(super) struct CodedQuery {
    groups: Vec<WideGroup>,
    scale: f32,
    /// What the loss of a row is multiplied with.
    per_loss: f32,
    /// What every bound has on top: what the query lost, and the rounding of every `f32` operation.
    above: f32,
    whole_dots: WholeDots,
}

impl CodedQuery {
    /// Codes a query for rows that are at most `max_length` long.
    pub(super) fn new(query: &[f32], max_length: f32, instructions: Instructions) -> Self {
        let stride = stride(query.len());
        // The greatest number with which no sum of products can leave the range of i32.
        let max_number = (i32::MAX as usize / (MAX_CODE as usize * stride * GROUP)).clamp(1, i16::MAX as usize) as f32;
        let greatest = query.iter().fold(0.0_f32, |greatest, number| greatest.max(number.abs()));
        let scale = greatest / max_number;
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        let mut lost = 0.0_f64;
        let mut groups = vec![WideGroup([0; GROUP]); stride];
        for (numbers, group) in query.chunks(GROUP).zip(&mut groups) {
            for (number, place) in numbers.iter().zip(&mut group.0) {
                *place = (number * inverse).round_ties_even().clamp(-max_number, max_number) as i16;
                lost += (f64::from(*number) - f64::from(scale) * f64::from(*place)).powi(2);
            }
        }
        let (lost, max_length) = (lost.sqrt(), f64::from(max_length));
        let per_loss = f64::from(length_above(query)) + lost;
        let n_operations = (query.len() + OTHER_OPERATIONS) as f64;
        // What is rounded is never more than the product of the lengths, the coded ones being at most twice as long.
        let rounding = n_operations * ROUNDING * 2.0 * per_loss * max_length;
        let above = upper(lost * max_length + rounding + UNDERFLOW);
        Self { groups, scale, per_loss: upper(per_loss), above, whole_dots: whole_dots_with(instructions) }
    }

    /// Writes, for each of the rows named, a number that its score as `f32` does not exceed.
    pub(super) fn bounds(&self, coded: &CodedRows, rows: &[u16], bounds: &mut [f32]) {
        let mut dots = [0_i32; 64];
        for (rows, bounds) in rows.chunks(dots.len()).zip(bounds.chunks_mut(dots.len())) {
            let dots = &mut dots[..rows.len()];
            (self.whole_dots)(&self.groups, &coded.groups, rows, dots);
            for ((row, dot), bound) in rows.iter().zip(dots).zip(bounds) {
                let at = usize::from(*row);
                let score = *dot as f32 * (coded.scales[at] * self.scale);
                *bound = score + coded.losses[at] * self.per_loss + self.above;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dot::dot_with;
    use super::*;
    use proptest::prelude::*;

    fn vector(dimension: usize) -> impl Strategy<Value = Vec<f32>> {
        let number = prop_oneof![
            4 => -1.0_f32..1.0,
            1 => Just(0.0_f32),
            1 => -1e-30_f32..1e-30,
            1 => -1000.0_f32..1000.0,
        ];
        prop::collection::vec(number, dimension)
    }

    fn query_and_rows() -> impl Strategy<Value = (Vec<f32>, Vec<Vec<f32>>)> {
        (1_usize..150).prop_flat_map(|dimension| (vector(dimension), prop::collection::vec(vector(dimension), 1..9)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_score_exceeds_its_bound((query, rows) in query_and_rows()) {
            let mut coded = CodedRows::default();
            rows.iter().for_each(|row| coded.push(row));
            let max_length = rows.iter().map(|row| length_above(row)).fold(0.0, f32::max);
            let numbers: Vec<u16> = (0..rows.len() as u16).collect();
            for instructions in Instructions::available() {
                let mut bounds = vec![0.0; rows.len()];
                CodedQuery::new(&query, max_length, instructions).bounds(&coded, &numbers, &mut bounds);
                for (row, bound) in rows.iter().zip(&bounds) {
                    let score = dot_with(instructions)(&query, row);
                    prop_assert!(score <= *bound, "{instructions:?}: {score} exceeds {bound}");
                }
            }
        }
    }

    #[test]
    fn bounds_of_unit_vectors_are_close() {
        let dimension = 384;
        let unit = |seed: usize| {
            let numbers: Vec<f32> = (0..dimension).map(|at| ((at * 37 + seed * 101) % 97) as f32 - 48.0).collect();
            let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
            numbers.into_iter().map(|number| number / length).collect::<Vec<f32>>()
        };
        let (query, row) = (unit(1), unit(2));
        let mut coded = CodedRows::default();
        coded.push(&row);
        let mut bounds = [0.0];
        let instructions = Instructions::best();
        CodedQuery::new(&query, 1.0001, instructions).bounds(&coded, &[0], &mut bounds);
        let score = dot_with(instructions)(&query, &row);
        assert!(bounds[0] - score < 0.01, "{} is far above {score}", bounds[0]);
    }

    #[test]
    fn what_is_not_finite_is_never_ruled_out() {
        let mut coded = CodedRows::default();
        let rows = [[f32::NAN, 1.0], [f32::INFINITY, 0.0]];
        rows.iter().for_each(|row| coded.push(row));
        let mut bounds = [0.0; 2];
        CodedQuery::new(&[1.0, 0.0], f32::INFINITY, Instructions::best()).bounds(&coded, &[0, 1], &mut bounds);
        assert!(bounds.iter().all(|bound| bound.is_nan() || *bound == f32::INFINITY), "{bounds:?}");
    }
}
