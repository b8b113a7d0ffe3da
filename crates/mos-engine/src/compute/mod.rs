//! Arithmetic on plain `f32` slices.
//!
//! Invariant: every output element is one fixed sequence of roundings, whatever the number of rows, threads, or the
//! instructions in use. A sum runs over its terms in order, one fused multiply-add each. That is why a prompt
//! computed at once, in chunks, or on top of a kept prefix gives the same bits.

mod dense;
mod gemm;
mod k_quants;
mod kernels;
mod panels;
mod rows;
mod simd;
mod team;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use dense::{DenseLayer, Finish};
pub(crate) use gemm::{FEW_ROWS, GemmBlock};
pub(crate) use kernels::Kernels;
pub(crate) use panels::{Form, PANEL, PanelMatrix};
pub(crate) use rows::Curve;
pub(crate) use team::{SharedMut, Team};
