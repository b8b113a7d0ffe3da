//! A weight matrix and its product with rows of activations.

#![allow(unsafe_code, reason = "threads write disjoint columns of one output")]

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use mos_core::ModelError;

use super::Compute;
use crate::compute::{GemmBlock, PANEL, PanelMatrix, SharedMut};
use crate::error::internal;

/// Columns that are unpacked at a time: two panels of them stay in the first-level cache.
const TILE_COLUMNS: usize = 128;
/// Panels that one task of a product of many rows takes.
const TILE_PANELS: usize = 2;

/// A weight matrix `[rows, cols]`; `rows` outputs of `cols` inputs.
pub(crate) enum Linear {
    /// `f32` activations times dequantised weights: unpacked in registers for one row, in tiles that stay in the cache
    /// for many. Both sum in the same order, so the number of rows never shows in the result.
    Panels(PanelMatrix),
    /// Types without a form of ours: candle's kernels, which quantise each row of activations on its own.
    Candle {
        /// The weights, for single rows.
        weights: Arc<QTensor>,
        /// The same weights, for products.
        product: QMatMul,
        /// Number of outputs.
        rows: usize,
        /// Number of inputs.
        cols: usize,
    },
}

impl Linear {
    pub(crate) fn from_candle(weights: QTensor) -> candle_core::Result<Self> {
        let (rows, cols) = weights.shape().dims2()?;
        let weights = Arc::new(weights);
        Ok(Self::Candle { product: QMatMul::from_arc(Arc::clone(&weights))?, weights, rows, cols })
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Panels(matrix) => matrix.rows(),
            Self::Candle { rows, .. } => *rows,
        }
    }

    pub(crate) fn cols(&self) -> usize {
        match self {
            Self::Panels(matrix) => matrix.cols(),
            Self::Candle { cols, .. } => *cols,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Panels(matrix) => matrix.bytes(),
            Self::Candle { weights, .. } => weights.storage_size_in_bytes(),
        }
    }

    /// Writes one row of the matrix as floats: the embedding of a token.
    pub(crate) fn row(&self, compute: &Compute, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        match self {
            Self::Panels(matrix) => matrix.row(&compute.kernels, row, out),
            Self::Candle { weights, .. } => {
                let values = Tensor::new(&[row as u32], &Device::Cpu)
                    .and_then(|ids| weights.embedding(&ids))
                    .and_then(|values| values.flatten_all()?.to_vec1::<f32>())
                    .map_err(|error| internal("looking up an embedding", error))?;
                out.copy_from_slice(&values);
            }
        }
        Ok(())
    }
}

/// A range of panels of one of the products.
struct Task {
    product: usize,
    first: usize,
    count: usize,
}

/// Multiplies `x` (`[m, cols]`) with several matrices at once; each output is `[m, rows]`, overwritten.
pub(crate) fn multiply(
    compute: &Compute,
    x: &[f32],
    m: usize,
    products: &mut [(&Linear, &mut [f32])],
) -> Result<(), ModelError> {
    let mut panels: Vec<(&PanelMatrix, SharedMut<'_>)> = Vec::with_capacity(products.len());
    for (linear, out) in products.iter_mut() {
        assert!(x.len() == m * linear.cols() && out.len() == m * linear.rows(), "shapes of a product");
        match linear {
            Linear::Panels(matrix) => panels.push((matrix, SharedMut::new(out))),
            Linear::Candle { product, cols, .. } => candle_product(product, x, m, *cols, out)
                .map_err(|error| internal("multiplying with a quantised matrix", error))?,
        }
    }
    let tasks = split(&panels, m, compute.team.threads());
    compute.team.run(tasks.len(), &|number| {
        let Task { product, first, count } = tasks[number];
        let (matrix, out) = panels[product];
        if m == 1 {
            one_row(compute, matrix, x, first, count, out);
        } else {
            many_rows(compute, matrix, x, m, first, count, out);
        }
    });
    Ok(())
}

fn candle_product(product: &QMatMul, x: &[f32], m: usize, cols: usize, out: &mut [f32]) -> candle_core::Result<()> {
    // One row at a time, which is slower: candle takes other kernels for many rows, whose last bits differ, and
    // chunks must not show.
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(out.len() / m)) {
        let row = Tensor::from_slice(x, (1, cols), &Device::Cpu)?;
        out.copy_from_slice(&product.forward(&row)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(())
}

fn split(panels: &[(&PanelMatrix, SharedMut<'_>)], m: usize, threads: usize) -> Vec<Task> {
    let total: usize = panels.iter().map(|(matrix, _)| matrix.panels()).sum();
    let size = if m == 1 { total.div_ceil(threads * 4).next_multiple_of(4) } else { TILE_PANELS };
    let mut tasks = Vec::with_capacity(total.div_ceil(size.max(1)) + panels.len());
    for (product, (matrix, _)) in panels.iter().enumerate() {
        for first in (0..matrix.panels()).step_by(size.max(1)) {
            tasks.push(Task { product, first, count: size.min(matrix.panels() - first) });
        }
    }
    tasks
}

fn one_row(compute: &Compute, matrix: &PanelMatrix, x: &[f32], first: usize, count: usize, out: SharedMut<'_>) {
    let start = first * PANEL;
    let len = (count * PANEL).min(matrix.rows() - start);
    // SAFETY: tasks hold disjoint ranges of panels, thus of outputs.
    let out = unsafe { out.part(start, len) };
    if len == count * PANEL {
        compute.kernels.gemv(matrix, first, count, x, out);
    } else {
        let mut lanes = vec![0.0; count * PANEL];
        compute.kernels.gemv(matrix, first, count, x, &mut lanes);
        out.copy_from_slice(&lanes[..len]);
    }
}

#[repr(align(64))]
struct Tile([f32; TILE_COLUMNS * PANEL * TILE_PANELS]);

fn many_rows(
    compute: &Compute,
    matrix: &PanelMatrix,
    x: &[f32],
    m: usize,
    first: usize,
    count: usize,
    out: SharedMut<'_>,
) {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let start = first * PANEL;
    let whole = start + count * PANEL <= rows;
    // The last panel may have lanes that are no outputs: it is summed elsewhere and copied.
    let mut spill = if whole { Vec::new() } else { vec![0.0; m * count * PANEL] };
    let (target, stride) = if whole { (out.address(start), rows) } else { (spill.as_mut_ptr(), count * PANEL) };
    let mut tile = Tile([0.0; TILE_COLUMNS * PANEL * TILE_PANELS]);
    for column in (0..cols).step_by(TILE_COLUMNS) {
        let depth = TILE_COLUMNS.min(cols - column);
        for panel in 0..count {
            let to = &mut tile.0[panel * TILE_COLUMNS * PANEL..][..depth * PANEL];
            compute.kernels.unpack(matrix.form(), matrix.panels_from(first + panel), column, depth, to);
        }
        let block = GemmBlock {
            m,
            depth,
            panels: count,
            a: x[column..].as_ptr(),
            a_stride: cols,
            b: tile.0.as_ptr(),
            b_step: PANEL,
            b_panel: TILE_COLUMNS * PANEL,
            c: target,
            c_stride: stride,
            accumulate: column > 0,
        };
        // SAFETY: `x` is `[m, cols]`, the tile holds `count` panels of `depth` columns, and the `count` panels of
        // every row of the target belong to this task alone.
        unsafe { compute.kernels.gemm(&block) };
    }
    if !whole {
        for (row, lanes) in spill.chunks_exact(count * PANEL).enumerate() {
            // SAFETY: these columns of the row belong to this task alone.
            let out = unsafe { out.part(row * rows + start, rows - start) };
            out.copy_from_slice(&lanes[..rows - start]);
        }
    }
}
