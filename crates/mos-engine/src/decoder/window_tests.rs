//! Attention with windows and soft caps against the plain formula, on every instruction set.

use super::Compute;
use super::attention::{LayerView, Reach, Run, attend};
use super::rope::{Rope, RopeLayout, RopeScaling};
use crate::cpu::CpuPath;
use crate::decoder::Fingerprint;
use crate::kv::{KvPrefix, KvShape, KvTail};

const HEADS: usize = 4;
const SHAPE: KvShape = KvShape { layers: 1, kv_heads: 2, head_dim: 16 };
const TOKENS: usize = 210;

/// Values between -1 and 1, the same on every run. Eleven bits, so that a cache holds them as they are.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 22) as f32 / 512.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

struct Case {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Case {
    fn new() -> Self {
        let row = SHAPE.kv_heads * SHAPE.head_dim;
        Self {
            queries: values(TOKENS * HEADS * SHAPE.head_dim, 1).iter().map(|value| value * 4.0).collect(),
            keys: values(TOKENS * row, 2),
            values: values(TOKENS * row, 3),
        }
    }

    fn attend(&self, compute: &Compute, reach: Reach, chunks: &[usize]) -> Vec<f32> {
        let (row, width) = (SHAPE.kv_heads * SHAPE.head_dim, HEADS * SHAPE.head_dim);
        let (prefix, mut tail) = (KvPrefix::default(), KvTail::new(SHAPE, Fingerprint([0; 32]), None));
        // Nothing is shifted, so nothing is rotated here.
        let (rope, turns) = (Rope::new(RopeLayout::Halves, SHAPE.head_dim, 10_000.0, &RopeScaling::None), Vec::new());
        let positions: Vec<usize> = (0..TOKENS).collect();
        let mut out = vec![f32::NAN; self.queries.len()];
        let mut start = 0;
        for &len in chunks {
            let end = start + len;
            tail.append(0, &self.keys[start * row..end * row], &self.values[start * row..end * row]).unwrap();
            let view = LayerView::new(&rope, &turns, &prefix, &tail, end, 0);
            let run = Run { row: 0, positions: &positions[start..end], view };
            let (queries, out) = (&self.queries[start * width..end * width], &mut out[start * width..end * width]);
            attend(compute, queries, HEADS, &[run], reach, out);
            tail.commit(&vec![0; len]);
            start = end;
        }
        assert_eq!(start, TOKENS);
        out
    }

    fn plain(&self, reach: Reach) -> Vec<f64> {
        let dim = SHAPE.head_dim;
        let mut out = Vec::new();
        for (row, query) in self.queries.chunks_exact(dim).enumerate() {
            let (token, kv_head) = (row / HEADS, row % HEADS * SHAPE.kv_heads / HEADS);
            let seen = reach.window.map_or(0, |window| (token + 1).saturating_sub(window))..token + 1;
            let at =
                |from: &[f32], token: usize, i: usize| f64::from(from[(token * SHAPE.kv_heads + kv_head) * dim + i]);
            let share = |key: usize| {
                let dot: f64 = (0..dim).map(|i| f64::from(query[i]) * at(&self.keys, key, i)).sum();
                let score = dot * f64::from(reach.scale);
                reach.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh()).exp()
            };
            let shares: Vec<f64> = seen.clone().map(share).collect();
            let total: f64 = shares.iter().sum();
            let mixed =
                |i| seen.clone().zip(&shares).map(|(token, share)| at(&self.values, token, i) * share).sum::<f64>();
            out.extend((0..dim).map(|i| mixed(i) / total));
        }
        out
    }
}

#[test]
fn windows_and_caps_give_the_plain_formula_and_the_same_bits_everywhere() {
    let case = Case::new();
    for window in [None, Some(1), Some(7), Some(64), Some(65), Some(100), Some(1000)] {
        for softcap in [None, Some(1.5)] {
            let reach = Reach { window, scale: 0.25, softcap };
            let expected = case.plain(reach);
            let mut first: Option<Vec<u32>> = None;
            for path in CpuPath::available() {
                for (threads, chunks) in [(1, &[TOKENS][..]), (2, &[1, 63, 5, 100, 41]), (3, &[130, 1, 1, 78])] {
                    let compute = Compute::new(threads, path).unwrap();
                    let got = case.attend(&compute, reach, chunks);
                    let most = got.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                    assert!(most < 2e-6, "{path:?} {reach:?}: {most}");
                    let bits: Vec<u32> = got.iter().map(|value| value.to_bits()).collect();
                    assert_eq!(*first.get_or_insert_with(|| bits.clone()), bits, "{path:?} {reach:?} {chunks:?}");
                }
            }
        }
    }
}
