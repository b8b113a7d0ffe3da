//! The inner loops, compiled once per instruction set.

#![allow(unsafe_code, reason = "vector kernels over raw pointers")]
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels are made of pointer arithmetic and intrinsics")]
#![allow(clippy::needless_range_loop, reason = "counted loops over constant bounds stay in registers")]

use std::ops::Range;

use super::gemm::{FEW_ROWS, GemmBlock, gemm_block, gemm_few_rows};
use super::panels::{BLOCK, Form, PANEL, PanelMatrix};
use super::rows::{Curve, bend_row, layer_norm_row};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd16};
use super::unpack::{Bf16, Byte, F16, F32, GroupByte, GroupByte32, GroupNibble, Nibble, Unpack};
use crate::cpu::CpuPath;

/// The kernels of one instruction set; made only for sets that the processor has.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    gemm: unsafe fn(&GemmBlock),
    gemv: unsafe fn(Form, *const u8, usize, usize, &[f32], *mut f32),
    unpack: unsafe fn(Form, *const u8, usize, usize, *mut f32),
    gemm_few: unsafe fn(&GemmBlock<u16>),
    widen_rows: unsafe fn(*const u16, usize, usize, usize, *mut f32),
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    silu_mul: unsafe fn(&mut [f32], &[f32]),
    gelu_mul: unsafe fn(&mut [f32], &[f32]),
    softcap: unsafe fn(&mut [f32], f32),
    soften: unsafe fn(&mut [f32], Range<usize>, &mut f32, &mut f32) -> f32,
    scale: unsafe fn(&mut [f32], f32),
    layer_norm: unsafe fn(&mut [f32], &[f32], &[f32], f32),
    bend: unsafe fn(Curve, &mut [f32]),
}

impl Kernels {
    /// Returns the kernels for `path`, which must be one of [`CpuPath::available`].
    pub(crate) fn new(path: CpuPath) -> Self {
        assert!(CpuPath::available().contains(&path), "this processor cannot run {path:?}");
        match path {
            CpuPath::Portable => portable::KERNELS,
            #[cfg(target_arch = "x86_64")]
            CpuPath::Avx2 => avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            CpuPath::Avx512 => avx512::KERNELS,
        }
    }

    /// Multiplies a block.
    ///
    /// # Safety
    /// All pointers and strides of `block` must stay inside their buffers, and nobody else may use the part of `c`.
    pub(crate) unsafe fn gemm(&self, block: &GemmBlock) {
        (self.gemm)(block);
    }

    /// Multiplies a block of at most [`FEW_ROWS`] rows, with the bits that [`Kernels::gemm`] gives for widened weights.
    ///
    /// # Safety
    /// As [`Kernels::gemm`].
    pub(crate) unsafe fn gemm_few(&self, block: &GemmBlock<u16>) {
        assert!(block.m <= FEW_ROWS);
        (self.gemm_few)(block);
    }

    /// Writes the products of `count` panels of `matrix`, from `first` on, with the vector `x` to `out`
    /// (`16 * count` long): the weights are unpacked in registers.
    pub(crate) fn gemv(&self, matrix: &PanelMatrix, first: usize, count: usize, x: &[f32], out: &mut [f32]) {
        assert!(first + count <= matrix.panels() && x.len() == matrix.cols() && out.len() == count * PANEL);
        // SAFETY: the panels exist, as asserted, and each holds the columns that `x` has; `out` has all lanes.
        unsafe {
            let data = matrix.panels_from(first).as_ptr();
            (self.gemv)(matrix.form(), data, matrix.panel_bytes(), count, x, out.as_mut_ptr());
        }
    }

    /// Writes `count` columns of a panel, from `start` on (a multiple of 32), as floats `[count, 16]`.
    pub(crate) fn unpack(&self, form: Form, panel: &[u8], start: usize, count: usize, out: &mut [f32]) {
        assert!(start.is_multiple_of(BLOCK) && count.is_multiple_of(2) && out.len() >= count * PANEL);
        assert!(panel.len() >= (start + count).div_ceil(form.unit_columns()) * form.unit_bytes());
        // SAFETY: the panel holds all columns asked for and `out` has room for them, as asserted.
        unsafe { (self.unpack)(form, panel.as_ptr(), start, count, out.as_mut_ptr()) }
    }

    /// Converts rows of `f16` bits, `from_stride` apart, to floats, `[rows, width]`; the width must be a multiple of
    /// sixteen.
    pub(crate) fn widen_rows(&self, from: &[u16], from_stride: usize, rows: usize, width: usize, to: &mut [f32]) {
        assert!(width.is_multiple_of(PANEL) && to.len() == rows * width);
        assert!(rows == 0 || (rows - 1) * from_stride + width <= from.len());
        // SAFETY: all rows lie inside of both, as asserted; whole vectors.
        unsafe { (self.widen_rows)(from.as_ptr(), from_stride, rows, width, to.as_mut_ptr()) }
    }

    /// Writes `x / rms(x) * weight` to `out`.
    pub(crate) fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        assert!(x.len() == weight.len() && x.len() == out.len());
        // SAFETY: equal lengths.
        unsafe { (self.rms_norm)(x, weight, epsilon, out) }
    }

    /// Replaces `gate` by `silu(gate) * up`.
    pub(crate) fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        // SAFETY: equal lengths.
        unsafe { (self.silu_mul)(gate, up) }
    }

    /// Replaces `gate` by `gelu(gate) * up`, in the approximation with `tanh`.
    pub(crate) fn gelu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        // SAFETY: equal lengths.
        unsafe { (self.gelu_mul)(gate, up) }
    }

    /// Replaces every value by `cap * tanh(value / cap)`.
    pub(crate) fn softcap(&self, values: &mut [f32], cap: f32) {
        // SAFETY: any slice will do.
        unsafe { (self.softcap)(values, cap) }
    }

    /// One step of the online softmax over a tile of scores, of which those in `visible` count.
    ///
    /// Replaces the scores by `exp(score - max)`, hidden ones by 0, moves `max` and `sum` on, and returns the factor
    /// by which what was summed before must be multiplied. `visible` must not be empty.
    pub(crate) fn soften(&self, scores: &mut [f32], visible: Range<usize>, max: &mut f32, sum: &mut f32) -> f32 {
        assert!(scores.len().is_multiple_of(PANEL) && !visible.is_empty() && visible.end <= scores.len());
        // SAFETY: whole vectors.
        unsafe { (self.soften)(scores, visible, max, sum) }
    }

    /// Multiplies every value by `factor`.
    pub(crate) fn scale(&self, values: &mut [f32], factor: f32) {
        // SAFETY: any slice will do.
        unsafe { (self.scale)(values, factor) }
    }

    /// Replaces `x` by `(x - mean) / sqrt(variance + epsilon) * weight + bias`.
    pub(crate) fn layer_norm(&self, x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
        assert!(x.len() == weight.len() && x.len() == bias.len());
        // SAFETY: equal lengths.
        unsafe { (self.layer_norm)(x, weight, bias, epsilon) }
    }

    /// Replaces every value by that of `curve`; their number must be a multiple of sixteen.
    pub(crate) fn bend(&self, curve: Curve, values: &mut [f32]) {
        assert!(values.len().is_multiple_of(PANEL));
        // SAFETY: whole vectors.
        unsafe { (self.bend)(curve, values) }
    }
}

/// Compiles the generic loops for one instruction set. `rows` x `panels` of sums fit its registers, and so do `few` x 4
/// and [`FEW_ROWS`] x `halves`.
macro_rules! kernels_for {
    ($name:ident, $simd:ty, rows: $rows:literal, panels: $panels:literal, few: $few:literal, halves: $halves:literal $(, features: $features:literal)?) => {
        mod $name {
            use super::*;

            $(#[target_feature(enable = $features)])?
            unsafe fn gemm(block: &GemmBlock) {
                gemm_block::<$simd, $rows, $panels, $few>(block);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn gemm_few(block: &GemmBlock<u16>) {
                gemm_few_rows::<$simd, $halves>(block);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn gemv(form: Form, data: *const u8, stride: usize, count: usize, x: &[f32], out: *mut f32) {
                gemv_any::<$simd>(form, data, stride, count, x, out);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn unpack(form: Form, panel: *const u8, start: usize, count: usize, out: *mut f32) {
                unpack_any::<$simd>(form, panel, start, count, out);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn widen_rows(from: *const u16, from_stride: usize, rows: usize, width: usize, to: *mut f32) {
                for row in 0..rows {
                    let (from, to) = (from.add(row * from_stride), to.add(row * width));
                    for at in (0..width).step_by(PANEL) {
                        <$simd>::store(to.add(at), <$simd>::load_f16(from.add(at)));
                    }
                }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
                rms_norm_row::<$simd>(x, weight, epsilon, out);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn silu_mul(gate: &mut [f32], up: &[f32]) {
                gate_mul_row::<$simd, Silu>(gate, up);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn gelu_mul(gate: &mut [f32], up: &[f32]) {
                gate_mul_row::<$simd, GeluTanh>(gate, up);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn softcap(values: &mut [f32], cap: f32) {
                softcap_row::<$simd>(values, cap);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn soften(scores: &mut [f32], visible: Range<usize>, max: &mut f32, sum: &mut f32) -> f32 {
                soften_row::<$simd>(scores, visible, max, sum)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn scale(values: &mut [f32], factor: f32) {
                for value in values {
                    *value *= factor;
                }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
                layer_norm_row::<$simd>(x, weight, bias, epsilon);
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn bend(curve: Curve, values: &mut [f32]) {
                bend_row::<$simd>(curve, values);
            }

            pub(super) static KERNELS: Kernels = Kernels {
                gemm, gemm_few, gemv, unpack, widen_rows, rms_norm, silu_mul, gelu_mul, softcap, soften, scale, layer_norm,
                bend,
            };
        }
    };
}

kernels_for!(portable, Portable, rows: 4, panels: 1, few: 1, halves: 1);
#[cfg(target_arch = "x86_64")]
kernels_for!(avx2, Avx2, rows: 6, panels: 1, few: 1, halves: 1, features: "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
kernels_for!(avx512, Avx512, rows: 12, panels: 2, few: 3, halves: 4, features: "avx512f,avx2,fma,f16c");

/// Calls a generic function with the type that unpacks `$form`.
macro_rules! with_form {
    ($form:expr, $function:ident::<$simd:ident>($($argument:expr),*)) => {
        match $form {
            Form::F32 => $function::<$simd, F32>($($argument),*),
            Form::F16 => $function::<$simd, F16>($($argument),*),
            Form::Bf16 => $function::<$simd, Bf16>($($argument),*),
            Form::NibbleCentred => $function::<$simd, Nibble<8>>($($argument),*),
            Form::NibbleOffset => $function::<$simd, Nibble<0>>($($argument),*),
            Form::Byte16 => $function::<$simd, Byte<16>>($($argument),*),
            Form::ByteOffset => $function::<$simd, Byte<0>>($($argument),*),
            Form::Byte128 => $function::<$simd, Byte<128>>($($argument),*),
            Form::GroupNibble => $function::<$simd, GroupNibble>($($argument),*),
            Form::GroupByte => $function::<$simd, GroupByte>($($argument),*),
            Form::GroupByte32 => $function::<$simd, GroupByte32>($($argument),*),
        }
    };
}

#[inline(always)]
unsafe fn gemv_any<S: Simd16>(form: Form, data: *const u8, stride: usize, count: usize, x: &[f32], out: *mut f32) {
    with_form!(form, gemv_form::<S>(data, stride, count, x, out));
}

#[inline(always)]
unsafe fn gemv_form<S: Simd16, U: Unpack>(data: *const u8, stride: usize, count: usize, x: &[f32], out: *mut f32) {
    // Four panels at once keep enough independent sums in flight to hide the latency of the additions.
    let mut panel = 0;
    while panel + 4 <= count {
        gemv_panels::<S, U, 4>(data.add(panel * stride), stride, x, out.add(panel * PANEL));
        panel += 4;
    }
    while panel < count {
        gemv_panels::<S, U, 1>(data.add(panel * stride), stride, x, out.add(panel * PANEL));
        panel += 1;
    }
}

#[inline(always)]
unsafe fn gemv_panels<S: Simd16, U: Unpack, const P: usize>(data: *const u8, stride: usize, x: &[f32], out: *mut f32) {
    let mut sums = [S::splat(0.0); P];
    let mut start = 0;
    while start < x.len() {
        let pairs = U::COLUMNS.min(x.len() - start) / 2;
        let mut heads = [(S::splat(0.0), S::splat(0.0)); P];
        for p in 0..P {
            heads[p] = U::head::<S>(data.add(p * stride), start / U::COLUMNS);
        }
        let weights = U::weights(data, start / U::COLUMNS);
        for pair in 0..pairs {
            let even = S::splat(*x.as_ptr().add(start + 2 * pair));
            let odd = S::splat(*x.as_ptr().add(start + 2 * pair + 1));
            for p in 0..P {
                let (first, second) = U::pair::<S>(weights.add(p * stride), heads[p], pair);
                sums[p] = S::fma(odd, second, S::fma(even, first, sums[p]));
            }
        }
        start += U::COLUMNS;
    }
    for p in 0..P {
        S::store(out.add(p * PANEL), sums[p]);
    }
}

#[inline(always)]
unsafe fn unpack_any<S: Simd16>(form: Form, panel: *const u8, start: usize, count: usize, out: *mut f32) {
    with_form!(form, unpack_form::<S>(panel, start, count, out));
}

#[inline(always)]
unsafe fn unpack_form<S: Simd16, U: Unpack>(panel: *const u8, start: usize, count: usize, out: *mut f32) {
    let mut done = 0;
    while done < count {
        let number = (start + done) / U::COLUMNS;
        let (head, weights) = (U::head::<S>(panel, number), U::weights(panel, number));
        for pair in 0..U::COLUMNS.min(count - done) / 2 {
            let (even, odd) = U::pair::<S>(weights, head, pair);
            let to = out.add((done + 2 * pair) * PANEL);
            S::store(to, even);
            S::store(to.add(PANEL), odd);
        }
        done += U::COLUMNS;
    }
}

#[inline(always)]
unsafe fn lanes_of<S: Simd16>(v: S::V) -> [f32; PANEL] {
    let mut lanes = [0.0; PANEL];
    S::store(lanes.as_mut_ptr(), v);
    lanes
}

#[inline(always)]
unsafe fn rms_norm_row<S: Simd16>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let whole = x.len() / PANEL * PANEL;
    let mut squares = S::splat(0.0);
    for at in (0..whole).step_by(PANEL) {
        let v = S::load(x.as_ptr().add(at));
        squares = S::fma(v, v, squares);
    }
    let mut total = S::sum_lanes(squares);
    for &value in &x[whole..] {
        total = value.mul_add(value, total);
    }
    let factor = 1.0 / (total / x.len() as f32 + epsilon).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

/// `e` to the power of `v`, within 2 units in the last place on `[-87, 88]`; clamped outside.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd16>(v: S::V) -> S::V {
    let v = S::min(S::max(v, S::splat(-87.0)), S::splat(88.0));
    let power = S::round(S::mul(v, S::splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, so that the remainder keeps its last bits.
    let rest = S::fma(power, S::splat(-355.0 / 512.0), v);
    let rest = S::fma(power, S::splat(2.121_944_4e-4), rest);
    let mut sum = S::splat(1.987_569_1e-4);
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = S::fma(sum, rest, S::splat(factor));
    }
    let sum = S::fma(S::mul(rest, rest), sum, S::add(rest, S::splat(1.0)));
    S::mul(sum, S::pow2(power))
}

/// The non-linearity of a feed-forward part: `x / (1 + exp(exponent(x)))`.
pub(super) trait Gate {
    unsafe fn exponent<S: Simd16>(x: S::V) -> S::V;
}

pub(super) struct Silu;
pub(super) struct GeluTanh;

impl Gate for Silu {
    #[inline(always)]
    unsafe fn exponent<S: Simd16>(x: S::V) -> S::V {
        S::mul(x, S::splat(-1.0))
    }
}

impl Gate for GeluTanh {
    /// `(1 + tanh(u)) / 2` is `1 / (1 + exp(-2 u))`, with `u = sqrt(2 / pi) * (x + 0.044715 x^3)`.
    #[inline(always)]
    unsafe fn exponent<S: Simd16>(x: S::V) -> S::V {
        let factor = S::fma(S::mul(x, x), S::splat(-2.0 * 0.797_884_6 * 0.044_715), S::splat(-2.0 * 0.797_884_6));
        S::mul(x, factor)
    }
}

#[inline(always)]
unsafe fn gate_mul_row<S: Simd16, G: Gate>(gate: &mut [f32], up: &[f32]) {
    let mut at = 0;
    while at < gate.len() {
        let count = PANEL.min(gate.len() - at);
        let (mut g, mut u) = ([0.0; PANEL], [0.0; PANEL]);
        let (gates, ups) = if count == PANEL {
            (S::load(gate.as_ptr().add(at)), S::load(up.as_ptr().add(at)))
        } else {
            g[..count].copy_from_slice(&gate[at..]);
            u[..count].copy_from_slice(&up[at..]);
            (S::load(g.as_ptr()), S::load(u.as_ptr()))
        };
        let below = S::add(S::splat(1.0), exp::<S>(G::exponent::<S>(gates)));
        let result = S::mul(S::div(gates, below), ups);
        if count == PANEL {
            S::store(gate.as_mut_ptr().add(at), result);
        } else {
            gate[at..].copy_from_slice(&lanes_of::<S>(result)[..count]);
        }
        at += PANEL;
    }
}

#[inline(always)]
unsafe fn softcap_row<S: Simd16>(values: &mut [f32], cap: f32) {
    for values in values.chunks_mut(PANEL) {
        let mut lanes = [0.0; PANEL];
        lanes[..values.len()].copy_from_slice(values);
        // tanh(v) is 1 - 2 / (1 + exp(2 v)).
        let twice = S::mul(S::div(S::load(lanes.as_ptr()), S::splat(cap)), S::splat(2.0));
        let part = S::div(S::splat(-2.0 * cap), S::add(S::splat(1.0), exp::<S>(twice)));
        let capped = S::add(S::splat(cap), part);
        values.copy_from_slice(&lanes_of::<S>(capped)[..values.len()]);
    }
}

#[inline(always)]
unsafe fn soften_row<S: Simd16>(scores: &mut [f32], visible: Range<usize>, max: &mut f32, sum: &mut f32) -> f32 {
    scores[..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..].fill(f32::NEG_INFINITY);
    let mut highest = S::splat(*max);
    for at in (0..scores.len()).step_by(PANEL) {
        highest = S::max(highest, S::load(scores.as_ptr().add(at)));
    }
    let new_max = S::max_lanes(highest);
    let shift = S::splat(-new_max);
    for at in (0..visible.end).step_by(PANEL) {
        let v = S::add(S::load(scores.as_ptr().add(at)), shift);
        S::store(scores.as_mut_ptr().add(at), exp::<S>(v));
    }
    scores[..visible.start].fill(0.0);
    scores[visible.end..].fill(0.0);
    let mut total = S::splat(0.0);
    for at in (0..scores.len()).step_by(PANEL) {
        total = S::add(total, S::load(scores.as_ptr().add(at)));
    }
    let factor = if *max == new_max {
        1.0
    } else if *max == f32::NEG_INFINITY {
        0.0
    } else {
        lanes_of::<S>(exp::<S>(S::splat(*max - new_max)))[0]
    };
    *sum = sum.mul_add(factor, S::sum_lanes(total));
    *max = new_max;
    factor
}
