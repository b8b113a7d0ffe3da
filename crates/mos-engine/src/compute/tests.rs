//! Every kernel on every instruction set against plain loops.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use half::f16;

use super::gemm::{FEW_ROWS, GemmBlock};
use super::kernels::Kernels;
use super::panels::{Form, PANEL, PanelMatrix};
use crate::cpu::CpuPath;
use crate::decoder::{Compute, Linear, multiply};

const LEGACY: [GgmlDType; 5] = [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q5_0, GgmlDType::Q5_1, GgmlDType::Q8_0];

const K_QUANTS: [GgmlDType; 3] = [GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K];

/// Values that look like weights, the same on every run.
pub(super) fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 - 0.5
    };
    (0..count).map(|_| next() + next()).collect()
}

/// A matrix in one of the file's types, packed, and its dequantised values according to candle.
fn matrix(dtype: GgmlDType, rows: usize, cols: usize) -> (PanelMatrix, Vec<f32>) {
    let source = Tensor::from_vec(values(rows * cols, rows as u32), (rows, cols), &Device::Cpu).unwrap();
    let quantised = QTensor::quantize(&source, dtype).unwrap();
    let plain = quantised.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let packed = PanelMatrix::pack(Form::of(dtype).unwrap(), rows, cols, &quantised.data().unwrap()).unwrap();
    (packed, plain)
}

/// The sum that the kernels promise: in order, one fused multiply-add per term.
fn product(x: &[f32], weights: &[f32], m: usize, rows: usize, cols: usize) -> Vec<f32> {
    let sum = |row: &[f32], weights: &[f32]| row.iter().zip(weights).fold(0.0_f32, |sum, (x, w)| x.mul_add(*w, sum));
    let mut out = Vec::with_capacity(m * rows);
    for row in x.chunks_exact(cols) {
        out.extend(weights.chunks_exact(cols).map(|weights| sum(row, weights)));
    }
    out
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn products_of_every_type_equal_the_dequantised_sum_bit_by_bit() {
    for path in CpuPath::available() {
        for dtype in LEGACY.into_iter().chain(K_QUANTS).chain([GgmlDType::F32, GgmlDType::F16, GgmlDType::BF16]) {
            for (rows, cols) in [(1, 32), (16, 64), (37, 160), (130, 288), (21, 256), (35, 768)] {
                if K_QUANTS.contains(&dtype) && cols % 256 != 0 {
                    continue;
                }
                let (packed, plain) = matrix(dtype, rows, cols);
                let linear = Linear::Panels(packed);
                for (m, threads) in [(1, 1), (1, 2), (2, 1), (5, 2), (13, 1), (29, 2)] {
                    let compute = Compute::new(threads, path).unwrap();
                    let x = values(m * cols, 7);
                    let mut out = vec![f32::NAN; m * rows];
                    multiply(&compute, &x, m, &mut [(&linear, &mut out)]).unwrap();
                    let expected = product(&x, &plain, m, rows, cols);
                    assert_eq!(bits(&out), bits(&expected), "{path:?} {dtype:?} {rows}x{cols} m={m}");
                }
            }
        }
    }
}

#[test]
fn rows_of_packed_matrices_are_the_dequantised_rows() {
    let kernels = Kernels::new(CpuPath::best());
    for (dtype, cols) in LEGACY.map(|dtype| (dtype, 96)).into_iter().chain(K_QUANTS.map(|dtype| (dtype, 512))) {
        let (packed, plain) = matrix(dtype, 21, cols);
        let mut row = vec![0.0; cols];
        for number in [0, 15, 16, 20] {
            packed.row(&kernels, number, &mut row);
            assert_eq!(row, plain[number * cols..][..cols], "{dtype:?} row {number}");
        }
    }
}

#[test]
fn float_matrices_need_no_whole_blocks() {
    let weights = values(18 * 22, 3);
    let bytes: Vec<u8> = weights.iter().flat_map(|value| value.to_le_bytes()).collect();
    let linear = Linear::Panels(PanelMatrix::pack(Form::F32, 18, 22, &bytes).unwrap());
    for path in CpuPath::available() {
        let compute = Compute::new(2, path).unwrap();
        for m in [1, 4] {
            let x = values(m * 22, 9);
            let mut out = vec![0.0; m * 18];
            multiply(&compute, &x, m, &mut [(&linear, &mut out)]).unwrap();
            assert_eq!(bits(&out), bits(&product(&x, &weights, m, 18, 22)), "{path:?} m={m}");
        }
    }
}

#[test]
fn matrices_of_the_wrong_size_are_refused() {
    assert!(PanelMatrix::pack(Form::NibbleCentred, 4, 48, &[0; 4 * 27]).is_err());
    assert!(PanelMatrix::pack(Form::F32, 4, 4, &[0; 60]).is_err());
    assert!(PanelMatrix::pack(Form::F32, 0, 4, &[]).is_err());
}

#[test]
fn candles_kernels_do_not_depend_on_the_number_of_rows() {
    let source = Tensor::from_vec(values(48 * 512, 5), (48, 512), &Device::Cpu).unwrap();
    let compute = Compute::new(2, CpuPath::best()).unwrap();
    let m = 70;
    let x = values(m * 512, 11);
    for dtype in [GgmlDType::Q2K, GgmlDType::Q3K] {
        let quantised = QTensor::quantize(&source, dtype).unwrap();
        let plain = quantised.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let exact = product(&x, &plain, m, 48, 512);
        let linear = Linear::from_candle(quantised).unwrap();
        let mut together = vec![0.0; m * 48];
        multiply(&compute, &x, m, &mut [(&linear, &mut together)]).unwrap();
        for (row, expected) in x.chunks_exact(512).zip(together.chunks_exact(48)) {
            let mut alone = vec![0.0; 48];
            multiply(&compute, row, 1, &mut [(&linear, &mut alone)]).unwrap();
            assert_eq!(bits(&alone), bits(expected), "{dtype:?}");
        }
        let most = together.iter().zip(&exact).map(|(got, exact)| (got - exact).abs()).fold(0.0, f32::max);
        let spread = exact.iter().fold(0.0_f32, |most, product| most.max(product.abs()));
        assert!(spread > 5.0 && most < 0.02 * spread, "{dtype:?}: {most} of {spread}");
    }
}

#[test]
fn norm_and_gate_agree_with_candle_and_between_instruction_sets() {
    let (x, weight) = (values(150, 1), values(150, 2));
    let mut first: Option<(Vec<u32>, Vec<u32>)> = None;
    for path in CpuPath::available() {
        let kernels = Kernels::new(path);
        let mut normed = vec![0.0; 150];
        kernels.rms_norm(&x, &weight, 1e-5, &mut normed);
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        let expected = candle_nn::ops::rms_norm(&tensor(&x).unsqueeze(0).unwrap(), &tensor(&weight), 1e-5).unwrap();
        assert_close(&normed, &expected.flatten_all().unwrap().to_vec1().unwrap(), 1e-6);
        let mut gate: Vec<f32> = values(150, 4).iter().map(|value| value * 40.0).collect();
        let expected = (candle_nn::ops::silu(&tensor(&gate)).unwrap() * tensor(&x)).unwrap();
        kernels.silu_mul(&mut gate, &x);
        assert_close(&gate, &expected.to_vec1().unwrap(), 1e-5);
        let result = (bits(&normed), bits(&gate));
        assert_eq!(*first.get_or_insert_with(|| result.clone()), result, "{path:?}");
    }
}

#[test]
fn gelu_and_soft_caps_agree_with_candle_and_between_instruction_sets() {
    let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
    let mut first: Option<(Vec<u32>, Vec<u32>)> = None;
    let up = values(150, 1);
    let source: Vec<f32> = values(148, 4).into_iter().map(|value| value * 20.0).chain([-300.0, 300.0]).collect();
    for path in CpuPath::available() {
        let kernels = Kernels::new(path);
        let mut gate = source.clone();
        kernels.gelu_mul(&mut gate, &up);
        assert_close(&gate, &(tensor(&source).gelu().unwrap() * tensor(&up)).unwrap().to_vec1().unwrap(), 1e-5);
        let mut capped = source.clone();
        kernels.softcap(&mut capped, 5.0);
        let expected = ((tensor(&source) / 5.0).unwrap().tanh().unwrap() * 5.0).unwrap();
        assert_close(&capped, &expected.to_vec1().unwrap(), 1e-6);
        let result = (bits(&gate), bits(&capped));
        assert_eq!(*first.get_or_insert_with(|| result.clone()), result, "{path:?}");
    }
}

#[test]
fn scores_before_and_after_the_visible_ones_count_for_nothing() {
    let scores: Vec<f32> = values(64, 8).iter().map(|value| value * 20.0).collect();
    for path in CpuPath::available() {
        let kernels = Kernels::new(path);
        for visible in [0..64, 5..6, 17..50, 32..48, 63..64] {
            let mut tile = scores.clone();
            let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
            kernels.soften(&mut tile, visible.clone(), &mut max, &mut sum);
            let highest = scores[visible.clone()].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let plain: f32 = scores[visible.clone()].iter().map(|score| (score - highest).exp()).sum();
            assert_eq!(max, highest, "{path:?} {visible:?}");
            assert!((sum / plain - 1.0).abs() < 1e-5, "{path:?} {visible:?}: {sum} {plain}");
            let hidden = tile.iter().enumerate().filter(|(at, _)| !visible.contains(at));
            assert!(hidden.into_iter().all(|(_, score)| *score == 0.0), "{path:?} {visible:?}");
        }
    }
}

#[test]
fn the_online_softmax_equals_the_plain_one() {
    let scores: Vec<f32> = values(192, 8).iter().map(|value| value * 20.0).collect();
    let highest = scores[..150].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let plain: f64 = scores[..150].iter().map(|score| f64::from(score - highest).exp()).sum();
    let mut first: Option<u32> = None;
    for path in CpuPath::available() {
        let kernels = Kernels::new(path);
        let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
        for (number, tile) in scores.chunks_exact(64).enumerate() {
            let mut tile = tile.to_vec();
            let visible = (150 - number * 64).min(64);
            let factor = kernels.soften(&mut tile, 0..visible, &mut max, &mut sum);
            assert!((0.0..=1.0).contains(&factor));
            assert!(tile[visible..].iter().all(|&score| score == 0.0));
        }
        assert_eq!(max, highest);
        assert!((f64::from(sum) / plain - 1.0).abs() < 1e-5, "{path:?}: {sum} {plain}");
        assert_eq!(*first.get_or_insert(sum.to_bits()), sum.to_bits(), "{path:?}");
    }
}

fn halves(count: usize, seed: u32) -> Vec<u16> {
    values(count, seed).iter().map(|&value| f16::from_f32(value * 100.0).to_bits()).collect()
}

#[test]
fn half_precision_is_widened_exactly() {
    let from = halves(4 * 80, 6);
    for path in CpuPath::available() {
        for (stride, rows, width) in [(80, 4, 48), (64, 1, 64), (16, 20, 16), (96, 3, 96), (16, 0, 16)] {
            let mut to = vec![f32::NAN; rows * width];
            Kernels::new(path).widen_rows(&from, stride, rows, width, &mut to);
            let rows = (0..rows).flat_map(|row| &from[row * stride..][..width]);
            let expected: Vec<f32> = rows.map(|&bits| f16::from_bits(bits).to_f32()).collect();
            assert_eq!(bits(&to), bits(&expected), "{path:?} {stride} {width}");
        }
    }
}

/// Products of few rows come straight from half precision, with the bits of those that were widened first.
#[test]
fn few_rows_have_the_bits_of_many() {
    let (depth, panels) = (37, 7);
    let weights = halves(depth * panels * PANEL, 3);
    for path in CpuPath::available() {
        let kernels = Kernels::new(path);
        let mut widened = vec![0.0; weights.len()];
        kernels.widen_rows(&weights, weights.len(), 1, weights.len(), &mut widened);
        for m in 1..=FEW_ROWS {
            let x = values(m * depth, 4);
            for accumulate in [false, true] {
                // Panel after panel as keys are, and a row for each step as values are.
                for (b_step, b_panel) in [(PANEL, depth * PANEL), (panels * PANEL, PANEL)] {
                    let product = |few: bool| {
                        let mut out = values(m * panels * PANEL, 5);
                        let block = GemmBlock {
                            m,
                            depth,
                            panels,
                            a: x.as_ptr(),
                            a_stride: depth,
                            b: widened.as_ptr(),
                            b_step,
                            b_panel,
                            c: out.as_mut_ptr(),
                            c_stride: panels * PANEL,
                            accumulate,
                        };
                        // SAFETY: all buffers have the sizes of the block.
                        #[allow(unsafe_code, reason = "kernels over raw pointers")]
                        unsafe {
                            if few {
                                kernels.gemm_few(&block.over(weights.as_ptr(), b_step, b_panel));
                            } else {
                                kernels.gemm(&block);
                            }
                        }
                        bits(&out)
                    };
                    assert_eq!(product(true), product(false), "{path:?} m={m} {accumulate} {b_step}");
                }
            }
        }
    }
}

#[test]
fn types_that_candle_serves_have_no_form() {
    assert_eq!(Form::of(GgmlDType::Q2K), None);
    assert_eq!(PANEL, 16);
    assert_eq!(DType::F32.size_in_bytes() * PANEL * Form::F32.unit_columns(), Form::F32.unit_bytes());
}

fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance * (1.0 + expected.abs()), "{got} {expected}");
    }
}
