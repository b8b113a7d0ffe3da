//! Smaller forms of keys and values, for items that are seldom used.
//!
//! Rows are `[kv head][token][dimension]` of f16 bits. The first four tokens stay f16 in every form: attention leans
//! on them, and errors there cost most.
//! - `q8`: 8 bits, one scale per token and 32 dimensions.
//! - `q4`: 4 bits with scale and minimum; keys per dimension over 32 tokens, values per token over 32 dimensions.

use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::KvError;

/// Values that share a scale.
pub(crate) const GROUP: usize = 32;
/// Tokens at the beginning that stay f16.
pub(crate) const WHOLE_TOKENS: usize = 4;

/// How keys and values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvEncoding {
    /// 16-bit floats, as they are computed: nothing is lost.
    #[default]
    F16,
    /// About 8.5 bits per value; lossy.
    Q8,
    /// About 5 bits per value; lossy.
    Q4,
}

/// Sizes of one layer's keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowShape {
    pub(crate) heads: usize,
    pub(crate) tokens: usize,
    pub(crate) dim: usize,
}

impl RowShape {
    /// Tokens that stay f16.
    pub(crate) fn whole(self) -> usize {
        self.tokens.min(WHOLE_TOKENS)
    }

    /// Tokens with fewer bits.
    pub(crate) fn rest(self) -> usize {
        self.tokens - self.whole()
    }

    /// Groups of dimensions.
    pub(crate) fn dim_groups(self) -> usize {
        self.dim.div_ceil(GROUP)
    }

    /// Groups of tokens.
    pub(crate) fn token_groups(self) -> usize {
        self.rest().div_ceil(GROUP)
    }

    pub(crate) fn values(self) -> usize {
        self.heads * self.tokens * self.dim
    }
}

/// Along which axis values share their scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// 32 dimensions of one token.
    Token,
    /// One dimension of 32 tokens.
    Dimension,
}

/// 8-bit rows: `whole` `[heads, whole, dim]`, `codes` `[heads, rest, dim]`, `scales` `[heads, rest, dim groups]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Q8 {
    pub(crate) whole: Vec<u16>,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<u16>,
}

/// 4-bit rows: `codes` `[heads, rest, ceil(dim / 2)]`, the even dimension in the low half; `scales` and `minima`
/// `[heads, rest, dim groups]` along tokens, `[heads, token groups, dim]` along dimensions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Q4 {
    pub(crate) whole: Vec<u16>,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<u16>,
    pub(crate) minima: Vec<u16>,
}

fn value(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

fn bits(value: f32) -> u16 {
    f16::from_f32(value).to_bits()
}

/// The f16 tokens of every head.
fn whole_tokens(rows: &[u16], shape: RowShape) -> Vec<u16> {
    let take = shape.whole() * shape.dim;
    rows.chunks_exact((shape.tokens * shape.dim).max(1)).flat_map(|head| &head[..take]).copied().collect()
}

pub(crate) fn to_q8(rows: &[u16], shape: RowShape) -> Q8 {
    let mut result = Q8 { whole: whole_tokens(rows, shape), codes: Vec::new(), scales: Vec::new() };
    for head in rows.chunks_exact((shape.tokens * shape.dim).max(1)) {
        for token in head[shape.whole() * shape.dim..].chunks_exact(shape.dim) {
            for group in token.chunks(GROUP) {
                let largest = group.iter().map(|&x| value(x).abs()).fold(0.0, f32::max);
                let scale = bits(largest / 127.0);
                let step = value(scale);
                result.scales.push(scale);
                result.codes.extend(group.iter().map(|&x| {
                    let code = if step > 0.0 { (value(x) / step).round().clamp(-127.0, 127.0) } else { 0.0 };
                    (code as i8).cast_unsigned()
                }));
            }
        }
    }
    result
}

pub(crate) fn from_q8(q8: &Q8, shape: RowShape) -> Result<Vec<u16>, KvError> {
    let (heads, rest, groups) = (shape.heads, shape.rest(), shape.dim_groups());
    check("8-bit", q8.whole.len(), heads * shape.whole() * shape.dim)?;
    check("8-bit", q8.codes.len(), heads * rest * shape.dim)?;
    check("8-bit", q8.scales.len(), heads * rest * groups)?;
    let mut rows = Vec::with_capacity(shape.values());
    for head in 0..heads {
        rows.extend(part(&q8.whole, head, shape.whole() * shape.dim));
        let codes = part(&q8.codes, head, rest * shape.dim);
        let scales = part(&q8.scales, head, rest * groups);
        for (at, &code) in codes.iter().enumerate() {
            let (token, dimension) = (at / shape.dim, at % shape.dim);
            let step = value(scales[token * groups + dimension / GROUP]);
            rows.push(bits(f32::from(code.cast_signed()) * step));
        }
    }
    Ok(rows)
}

pub(crate) fn to_q4(rows: &[u16], shape: RowShape, axis: Axis) -> Q4 {
    let mut result = Q4 { whole: whole_tokens(rows, shape), codes: Vec::new(), scales: Vec::new(), minima: Vec::new() };
    for head in rows.chunks_exact((shape.tokens * shape.dim).max(1)) {
        let rest = &head[shape.whole() * shape.dim..];
        let first = result.scales.len();
        for group in 0..groups_of(shape, axis) {
            let mut least = f32::INFINITY;
            let mut most = f32::NEG_INFINITY;
            for at in members(shape, axis, group) {
                least = least.min(value(rest[at]));
                most = most.max(value(rest[at]));
            }
            // Rounding the minimum up would cut the smallest value off.
            let minimum = f16::from_f32(least);
            result.minima.push(minimum.to_bits());
            result.scales.push(bits((most - minimum.to_f32()) / 15.0));
        }
        let (scales, minima) = (&result.scales[first..], &result.minima[first..]);
        for (token, row) in rest.chunks_exact(shape.dim).enumerate() {
            for (pair, values) in row.chunks(2).enumerate() {
                let code = |offset: usize| {
                    let Some(&x) = values.get(offset) else { return 0 };
                    let group = group_of(shape, axis, token, 2 * pair + offset);
                    let step = value(scales[group]);
                    if step > 0.0 {
                        ((value(x) - value(minima[group])) / step).round().clamp(0.0, 15.0) as u8
                    } else {
                        0
                    }
                };
                result.codes.push(code(0) | code(1) << 4);
            }
        }
    }
    result
}

pub(crate) fn from_q4(q4: &Q4, shape: RowShape, axis: Axis) -> Result<Vec<u16>, KvError> {
    let (heads, rest, pairs) = (shape.heads, shape.rest(), shape.dim.div_ceil(2));
    let groups = groups_of(shape, axis);
    check("4-bit", q4.whole.len(), heads * shape.whole() * shape.dim)?;
    check("4-bit", q4.codes.len(), heads * rest * pairs)?;
    check("4-bit", q4.scales.len(), heads * groups)?;
    check("4-bit", q4.minima.len(), heads * groups)?;
    let mut rows = Vec::with_capacity(shape.values());
    for head in 0..heads {
        rows.extend(part(&q4.whole, head, shape.whole() * shape.dim));
        let codes = part(&q4.codes, head, rest * pairs);
        let (scales, minima) = (part(&q4.scales, head, groups), part(&q4.minima, head, groups));
        for token in 0..rest {
            for dimension in 0..shape.dim {
                let pair = codes[token * pairs + dimension / 2];
                let code = if dimension.is_multiple_of(2) { pair & 15 } else { pair >> 4 };
                let group = group_of(shape, axis, token, dimension);
                rows.push(bits(value(minima[group]) + f32::from(code) * value(scales[group])));
            }
        }
    }
    Ok(rows)
}

/// Groups of one head.
fn groups_of(shape: RowShape, axis: Axis) -> usize {
    match axis {
        Axis::Token => shape.rest() * shape.dim_groups(),
        Axis::Dimension => shape.token_groups() * shape.dim,
    }
}

/// The group of a value of one head.
fn group_of(shape: RowShape, axis: Axis, token: usize, dimension: usize) -> usize {
    match axis {
        Axis::Token => token * shape.dim_groups() + dimension / GROUP,
        Axis::Dimension => token / GROUP * shape.dim + dimension,
    }
}

/// Where the values of a group stand among the rows of one head.
fn members(shape: RowShape, axis: Axis, group: usize) -> Box<dyn Iterator<Item = usize>> {
    let RowShape { dim, .. } = shape;
    match axis {
        Axis::Token => {
            let (token, part) = (group / shape.dim_groups(), group % shape.dim_groups());
            Box::new((part * GROUP..((part + 1) * GROUP).min(dim)).map(move |at| token * dim + at))
        }
        Axis::Dimension => {
            let (part, dimension) = (group / dim, group % dim);
            let end = ((part + 1) * GROUP).min(shape.rest());
            Box::new((part * GROUP..end).map(move |token| token * dim + dimension))
        }
    }
}

fn part<T>(values: &[T], head: usize, len: usize) -> &[T] {
    &values[head * len..(head + 1) * len]
}

fn check(what: &str, got: usize, want: usize) -> Result<(), KvError> {
    if got == want {
        Ok(())
    } else {
        Err(KvError::damaged(format!("a block of {what} values"), format!("it has {got} values instead of {want}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(shape: RowShape) -> Vec<u16> {
        let mut state = 7_u32;
        (0..shape.values())
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // One dimension is much larger than the others, as in real keys.
                let size = if at % shape.dim == 1 { 20.0 } else { 1.0 };
                bits(size * ((state >> 8) as f32 / (1 << 24) as f32 - 0.3))
            })
            .collect()
    }

    fn worst(a: &[u16], b: &[u16], keep: impl Fn(usize) -> bool) -> f32 {
        assert_eq!(a.len(), b.len());
        let pairs = a.iter().zip(b).enumerate().filter(|(at, _)| keep(*at));
        pairs.map(|(_, (&a, &b))| (value(a) - value(b)).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn errors_stay_within_half_a_step() {
        for (heads, tokens, dim) in [(1, 1, 2), (2, 4, 16), (3, 5, 64), (2, 37, 40), (1, 70, 33)] {
            let shape = RowShape { heads, tokens, dim };
            let rows = rows(shape);
            let q8 = from_q8(&to_q8(&rows, shape), shape).unwrap();
            // The largest value is 14: half of 14 / 127, and the rounding of f16.
            assert!(worst(&rows, &q8, |_| true) <= 14.0 / 254.0 + 0.01, "{shape:?}");
            let keys = from_q4(&to_q4(&rows, shape, Axis::Dimension), shape, Axis::Dimension).unwrap();
            assert!(worst(&rows, &keys, |at| at % dim == 1) <= 20.0 / 30.0 + 0.02, "{shape:?}");
            // A scale per dimension keeps the large dimension away from the small ones.
            assert!(worst(&rows, &keys, |at| at % dim != 1) <= 1.0 / 30.0 + 0.002, "{shape:?}");
            let values = from_q4(&to_q4(&rows, shape, Axis::Token), shape, Axis::Token).unwrap();
            assert!(worst(&rows, &values, |_| true) <= 21.0 / 30.0 + 0.02, "{shape:?}");
        }
    }

    #[test]
    fn the_first_tokens_and_constant_values_are_exact() {
        let shape = RowShape { heads: 2, tokens: 9, dim: 8 };
        let rows = rows(shape);
        let first = |at: usize| at % (shape.tokens * shape.dim) < WHOLE_TOKENS * shape.dim;
        for axis in [Axis::Token, Axis::Dimension] {
            assert_eq!(worst(&rows, &from_q4(&to_q4(&rows, shape, axis), shape, axis).unwrap(), first), 0.0);
            let constant = vec![bits(-1.5); shape.values()];
            assert_eq!(from_q4(&to_q4(&constant, shape, axis), shape, axis).unwrap(), constant);
        }
        assert_eq!(worst(&rows, &from_q8(&to_q8(&rows, shape), shape).unwrap(), first), 0.0);
    }

    #[test]
    fn blocks_of_another_size_are_refused() {
        let shape = RowShape { heads: 2, tokens: 9, dim: 8 };
        let mut q8 = to_q8(&rows(shape), shape);
        q8.codes.pop();
        assert!(matches!(from_q8(&q8, shape), Err(KvError::Damaged { .. })));
    }
}
