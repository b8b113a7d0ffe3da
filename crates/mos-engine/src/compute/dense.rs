//! Dense layers with `f32` weights, packed once and multiplied where they lie.
//!
//! Weights are in panels of sixteen outputs, as those of [`super::PanelMatrix`], but need no unpacking. A row of outputs
//! is as long as all panels together: what lies behind the layer's own outputs has weights and bias of zero. So a product
//! writes whole vectors only.

#![allow(unsafe_code, reason = "threads write disjoint parts of one output")]

use std::ops::Range;

use super::gemm::GemmBlock;
use super::kernels::Kernels;
use super::panels::PANEL;
use super::rows::Curve;
use super::team::{SharedMut, Team};

/// The most rows of a task: those of the activations that it reads again and again stay in the second-level cache.
const TASK_ROWS: usize = 96;
/// Full blocks of all kernels have a number of rows that divides this.
const ROWS_STEP: usize = 12;
/// Panels of a task, for few rows and for more.
const FEW_ROWS_PANELS: usize = 4;
const TASK_PANELS: usize = 2;
/// Columns of weights that many rows read one after the other: two panels of them stay in the first-level cache.
const DEPTH: usize = 192;

/// Sixteen weights of one column, where a vector's load touches one line of the cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lanes([f32; PANEL]);

/// What a product does with the values that are in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Overwrites them.
    Write,
    /// Overwrites them with the curve's values of the products.
    Bend(Curve),
    /// Is added to them.
    Add,
}

/// `x -> weights * x + bias`.
pub(crate) struct DenseLayer {
    cols: usize,
    panels: usize,
    weights: Vec<Lanes>,
    bias: Vec<f32>,
}

/// A product in the making.
#[derive(Clone, Copy)]
struct Product<'a> {
    x: &'a [f32],
    x_stride: usize,
    out: SharedMut<'a>,
    finish: Finish,
}

impl DenseLayer {
    /// Packs `[rows, cols]` weights, row by row, with a bias for each row.
    pub(crate) fn pack(weights: &[f32], bias: &[f32], cols: usize) -> Self {
        assert!(cols > 0 && weights.len() == bias.len() * cols, "{} weights of {cols} columns", weights.len());
        let panels = bias.len().div_ceil(PANEL);
        let mut packed = vec![Lanes([0.0; PANEL]); panels * cols];
        for (row, values) in weights.chunks_exact(cols).enumerate() {
            let panel = &mut packed[row / PANEL * cols..][..cols];
            for (lanes, value) in panel.iter_mut().zip(values) {
                lanes.0[row % PANEL] = *value;
            }
        }
        let mut padded = bias.to_vec();
        padded.resize(panels * PANEL, 0.0);
        Self { cols, panels, weights: packed, bias: padded }
    }

    /// Length of a row of outputs: their number, rounded up to whole panels.
    pub(crate) fn width(&self) -> usize {
        self.bias.len()
    }

    /// Computes the products with the first values of each row of `x` (`[rows, x_stride]`) into `out` (`[rows, width]`).
    ///
    /// A value's sum begins with what `finish` leaves in its place and the bias, and takes its terms in order, whatever
    /// the number of rows and threads.
    pub(crate) fn multiply(
        &self,
        team: &Team,
        kernels: &Kernels,
        x: &[f32],
        x_stride: usize,
        out: &mut [f32],
        finish: Finish,
    ) {
        let (m, width) = (x.len() / x_stride, self.width());
        assert!(x_stride >= self.cols && x.len() == m * x_stride && out.len() == m * width, "shapes of a product");
        if m == 0 {
            return;
        }
        let blocks = m.div_ceil(TASK_ROWS);
        let block_rows = m.div_ceil(blocks).next_multiple_of(ROWS_STEP);
        // The kernel takes four panels at once for up to three rows.
        let strip_panels = if m <= 3 { FEW_ROWS_PANELS } else { TASK_PANELS };
        let strips = self.panels.div_ceil(strip_panels);
        let product = Product { x, x_stride, out: SharedMut::new(out), finish };
        // Strip after strip of the same rows, which stay in the cache.
        team.run(blocks * strips, &|task| {
            let (row, panel) = (task / strips * block_rows, task % strips * strip_panels);
            let rows = row..(row + block_rows).min(m);
            let panels = panel..(panel + strip_panels).min(self.panels);
            self.multiply_part(kernels, &product, rows, panels);
        });
    }

    fn multiply_part(&self, kernels: &Kernels, product: &Product<'_>, rows: Range<usize>, panels: Range<usize>) {
        let &Product { x, x_stride, out, finish } = product;
        let (start, len, width) = (panels.start * PANEL, panels.len() * PANEL, self.width());
        let bias = &self.bias[start..start + len];
        // SAFETY: these columns of these rows belong to this task alone, and one part of them lives at a time.
        let part = |row: usize| unsafe { out.part(row * width + start, len) };
        for row in rows.clone() {
            if finish == Finish::Add {
                part(row).iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            } else {
                part(row).copy_from_slice(bias);
            }
        }
        // A block or two of rows pass over the weights so seldom that these come from memory anyway.
        let step = if rows.len() > 2 * ROWS_STEP { DEPTH } else { self.cols };
        for column in (0..self.cols).step_by(step) {
            let block = GemmBlock {
                m: rows.len(),
                depth: step.min(self.cols - column),
                panels: panels.len(),
                a: x[rows.start * x_stride + column..].as_ptr(),
                a_stride: x_stride,
                b: self.weights[panels.start * self.cols + column..].as_ptr().cast::<f32>(),
                b_step: PANEL,
                b_panel: self.cols * PANEL,
                c: out.address(rows.start * width + start),
                c_stride: width,
                accumulate: true,
            };
            // SAFETY: `x` has `cols` values in each of the rows, the panels exist, and the part of the output that they
            // make belongs to this task alone.
            unsafe { kernels.gemm(&block) };
        }
        if let Finish::Bend(curve) = finish {
            rows.for_each(|row| kernels.bend(curve, part(row)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, values};
    use super::*;
    use crate::cpu::CpuPath;

    /// The sum that a product promises: what is there and the bias, then a fused multiply-add per term.
    fn plain(weights: &[f32], start: &[f32], x: &[f32]) -> Vec<f32> {
        let rows = weights.chunks_exact(x.len()).zip(start);
        rows.map(|(row, start)| row.iter().zip(x).fold(*start, |sum, (w, x)| x.mul_add(*w, sum))).collect()
    }

    #[test]
    fn products_are_plain_sums_bit_by_bit() {
        for (rows, cols) in [(1, 1), (16, 3), (37, 50), (50, 64), (100, 401)] {
            let (weights, bias) = (values(rows * cols, 2), values(rows, 3));
            let layer = DenseLayer::pack(&weights, &bias, cols);
            assert_eq!(layer.width(), rows.next_multiple_of(PANEL));
            for (m, threads) in [(0, 1), (1, 2), (3, 1), (4, 2), (11, 1), (25, 2), (97, 2), (200, 3)] {
                let stride = cols + m % 3;
                let x = values(m * stride, 5);
                let before = values(m * layer.width(), 6);
                for path in CpuPath::available() {
                    let (team, kernels) = (Team::new(threads).unwrap(), Kernels::new(path));
                    for finish in [Finish::Write, Finish::Add, Finish::Bend(Curve::Gelu)] {
                        let mut out = before.clone();
                        layer.multiply(&team, &kernels, &x, stride, &mut out, finish);
                        for row in 0..m {
                            let got = &out[row * layer.width()..][..rows];
                            let held = &before[row * layer.width()..][..rows];
                            let start: Vec<f32> = match finish {
                                Finish::Add => held.iter().zip(&bias).map(|(held, bias)| held + bias).collect(),
                                Finish::Write | Finish::Bend(_) => bias.clone(),
                            };
                            let mut expected = plain(&weights, &start, &x[row * stride..][..cols]);
                            if let Finish::Bend(curve) = finish {
                                expected.resize(layer.width(), 0.0);
                                kernels.bend(curve, &mut expected);
                                expected.truncate(rows);
                            }
                            assert_eq!(bits(got), bits(&expected), "{path:?} {rows}x{cols} m={m} {finish:?} row {row}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_lies_behind_the_outputs_stays_zero() {
        let (weights, bias) = (values(5 * 8, 2), values(5, 3));
        let layer = DenseLayer::pack(&weights, &bias, 8);
        let (team, kernels) = (Team::new(1).unwrap(), Kernels::new(CpuPath::best()));
        let mut out = vec![0.0; 2 * layer.width()];
        for finish in [Finish::Write, Finish::Add, Finish::Bend(Curve::Silu)] {
            layer.multiply(&team, &kernels, &values(16, 4), 8, &mut out, finish);
            assert!(
                out.chunks_exact(layer.width()).all(|row| row[5..].iter().all(|value| *value == 0.0)),
                "{finish:?}"
            );
            assert!(out[..5].iter().all(|value| *value != 0.0), "{finish:?}");
        }
    }
}
