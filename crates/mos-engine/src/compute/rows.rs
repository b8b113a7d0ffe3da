//! What happens to rows between the products of an encoder: norms and non-linearities.

#![allow(unsafe_code, reason = "vector kernels over raw pointers")]
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels are made of pointer arithmetic and intrinsics")]

use std::marker::PhantomData;

use super::kernels::{Gate, GeluTanh, Silu, exp};
use super::panels::PANEL;
use super::simd::Simd16;

/// A non-linearity, applied to every value by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    /// `x * (1 + erf(x / sqrt(2))) / 2`.
    Gelu,
    /// The same in the approximation with `tanh`.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x / (1 + exp(-x))`.
    Silu,
}

/// Replaces every value by that of the curve; whole panels.
#[inline(always)]
pub(super) unsafe fn bend_row<S: Simd16>(curve: Curve, values: &mut [f32]) {
    match curve {
        Curve::Gelu => each::<S, GeluErf>(values),
        Curve::GeluTanh => each::<S, Gated<GeluTanh>>(values),
        Curve::Relu => each::<S, Relu>(values),
        Curve::Silu => each::<S, Gated<Silu>>(values),
    }
}

trait Function {
    unsafe fn of<S: Simd16>(x: S::V) -> S::V;
}

#[inline(always)]
unsafe fn each<S: Simd16, F: Function>(values: &mut [f32]) {
    for at in (0..values.len()).step_by(PANEL) {
        let place = values.as_mut_ptr().add(at);
        S::store(place, F::of::<S>(S::load(place)));
    }
}

struct GeluErf;
struct Relu;
struct Gated<G>(PhantomData<G>);

impl Function for GeluErf {
    #[inline(always)]
    unsafe fn of<S: Simd16>(x: S::V) -> S::V {
        let half = S::mul(x, S::splat(0.5));
        S::fma(half, erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
    }
}

impl Function for Relu {
    #[inline(always)]
    unsafe fn of<S: Simd16>(x: S::V) -> S::V {
        // In this order what is no number stays none.
        S::max(S::splat(0.0), x)
    }
}

impl<G: Gate> Function for Gated<G> {
    #[inline(always)]
    unsafe fn of<S: Simd16>(x: S::V) -> S::V {
        S::div(x, S::add(S::splat(1.0), exp::<S>(G::exponent::<S>(x))))
    }
}

/// The error function within some units in the last place: an odd rational function of `x` up to 4, and 1 beyond.
#[inline(always)]
unsafe fn erf<S: Simd16>(x: S::V) -> S::V {
    let x = S::min(S::max(x, S::splat(-4.0)), S::splat(4.0));
    let square = S::mul(x, x);
    let mut above = S::splat(-2.726_142_4e-10);
    for factor in [2.770_681_5e-8, -2.101_024e-6, -5.692_506_2e-5, -7.349_906_4e-4, -2.954_6e-3, -1.609_603_3e-2] {
        above = S::fma(above, square, S::splat(factor));
    }
    let mut below = S::splat(-1.456_607_15e-5);
    for factor in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2] {
        below = S::fma(below, square, S::splat(factor));
    }
    let ratio = S::div(S::mul(x, above), below);
    S::min(S::max(ratio, S::splat(-1.0)), S::splat(1.0))
}

/// Replaces a row by `(x - mean) / sqrt(variance + epsilon) * weight + bias`.
#[inline(always)]
pub(super) unsafe fn layer_norm_row<S: Simd16>(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let whole = x.len() / PANEL * PANEL;
    let count = x.len() as f32;
    let mut sums = S::splat(0.0);
    for at in (0..whole).step_by(PANEL) {
        sums = S::add(sums, S::load(x.as_ptr().add(at)));
    }
    let mut total = S::sum_lanes(sums);
    for &value in &x[whole..] {
        total += value;
    }
    let mean = total / count;
    let shift = S::splat(-mean);
    let mut squares = S::splat(0.0);
    for at in (0..whole).step_by(PANEL) {
        let v = S::add(S::load(x.as_ptr().add(at)), shift);
        squares = S::fma(v, v, squares);
    }
    let mut spread = S::sum_lanes(squares);
    for &value in &x[whole..] {
        spread = (value - mean).mul_add(value - mean, spread);
    }
    let factor = 1.0 / (spread / count + epsilon).sqrt();
    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * factor * weight + bias;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::kernels::Kernels;
    use super::super::tests::{bits, values};
    use super::*;
    use crate::cpu::CpuPath;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
    }

    #[test]
    fn curves_agree_with_candle_and_between_instruction_sets() {
        let mut x: Vec<f32> = values(160, 5).iter().map(|value| value * 12.0).collect();
        x[..8].copy_from_slice(&[0.0, -0.0, 1e-20, -1e-20, 50.0, -50.0, 5.7, -5.7]);
        for curve in [Curve::Gelu, Curve::GeluTanh, Curve::Relu, Curve::Silu] {
            let plain = match curve {
                Curve::Gelu => tensor(&x).gelu_erf(),
                Curve::GeluTanh => tensor(&x).gelu(),
                Curve::Relu => tensor(&x).relu(),
                Curve::Silu => tensor(&x).silu(),
            };
            let expected: Vec<f32> = plain.unwrap().to_vec1().unwrap();
            let mut first: Option<Vec<u32>> = None;
            for path in CpuPath::available() {
                let mut got = x.clone();
                Kernels::new(path).bend(curve, &mut got);
                for ((x, got), expected) in x.iter().zip(&got).zip(&expected) {
                    assert!(
                        (got - expected).abs() < 1e-6 * (1.0 + x.abs()),
                        "{curve:?} {path:?} {x}: {got} {expected}"
                    );
                }
                assert_eq!(*first.get_or_insert_with(|| bits(&got)), bits(&got), "{curve:?} {path:?}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for path in CpuPath::available() {
            for curve in [Curve::Gelu, Curve::GeluTanh, Curve::Relu, Curve::Silu] {
                let mut row = [1.0; 2 * PANEL];
                row[20] = f32::NAN;
                Kernels::new(path).bend(curve, &mut row);
                let none: Vec<usize> = (0..row.len()).filter(|at| row[*at].is_nan()).collect();
                assert_eq!(none, [20], "{path:?} {curve:?}");
            }
        }
    }

    #[test]
    fn norms_agree_with_double_precision_and_between_instruction_sets() {
        for width in [1, 7, 16, 150, 384] {
            // Far from zero: a variance from the mean of the squares would lose its digits.
            let x: Vec<f32> = values(width, 3).iter().map(|value| value + 20.0).collect();
            let (weight, bias) = (values(width, 4), values(width, 6));
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / width as f64;
            let deviation = (variance + 1e-5).sqrt();
            let terms = x.iter().zip(&weight).zip(&bias);
            let expected: Vec<f64> = terms
                .map(|((x, weight), bias)| (f64::from(*x) - mean) / deviation * f64::from(*weight) + f64::from(*bias))
                .collect();
            let mut first: Option<Vec<u32>> = None;
            for path in CpuPath::available() {
                let mut got = x.clone();
                Kernels::new(path).layer_norm(&mut got, &weight, &bias, 1e-5);
                for (got, expected) in got.iter().zip(&expected) {
                    assert!((f64::from(*got) - expected).abs() < 2e-5, "{path:?} {width}: {got} {expected}");
                }
                assert_eq!(*first.get_or_insert_with(|| bits(&got)), bits(&got), "{path:?} {width}");
            }
        }
    }
}
