//! The dot product of two vectors of `f32`: the score of a search, to the bit.

#![allow(unsafe_code, reason = "vector instructions of the processor, chosen at run time")]

use super::cpu::Instructions;

/// Computes the dot product of two vectors of the same length. Each set of instructions has its own order of additions
/// and therefore its own last bit.
pub(super) type Dot = fn(&[f32], &[f32]) -> f32;

/// Returns the dot product of two vectors of the same length, with the best instructions of the processor.
#[cfg(feature = "qdrant")]
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    dot_with(Instructions::best())(left, right)
}

/// Returns the function for these instructions, which the processor must have.
pub(super) fn dot_with(instructions: Instructions) -> Dot {
    match instructions {
        Instructions::Portable => dot_portable,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 | Instructions::Avx512 => x86::dot,
    }
}

const LANES: usize = 16;

/// Independent sums per lane, which the compiler turns into whatever vector instructions the target has.
fn dot_portable(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (left_blocks, left_rest) = left.as_chunks::<LANES>();
    let (right_blocks, right_rest) = right.as_chunks::<LANES>();
    for (a, b) in left_blocks.iter().zip(right_blocks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps, _mm256_castps256_ps128,
        _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
    };

    pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
        assert_eq!(left.len(), right.len(), "vectors of one space are equally long");
        // SAFETY: this function is only chosen for processors with AVX2 and FMA, and the lengths are equal.
        unsafe { dot_avx2(left, right) }
    }

    /// The processor has AVX2 and FMA; both slices have the same length.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn dot_avx2(left: &[f32], right: &[f32]) -> f32 {
        let n = left.len();
        let (a, b) = (left.as_ptr(), right.as_ptr());
        // Four sums hide the latency of the multiply-add.
        let mut sums = [_mm256_setzero_ps(); 4];
        let mut at = 0;
        while at + 32 <= n {
            for (step, sum) in sums.iter_mut().enumerate() {
                let offset = at + 8 * step;
                // SAFETY: `offset + 8 <= at + 32 <= n`.
                let (x, y) = unsafe { (_mm256_loadu_ps(a.add(offset)), _mm256_loadu_ps(b.add(offset))) };
                *sum = _mm256_fmadd_ps(x, y, *sum);
            }
            at += 32;
        }
        while at + 8 <= n {
            // SAFETY: `at + 8 <= n`.
            let (x, y) = unsafe { (_mm256_loadu_ps(a.add(at)), _mm256_loadu_ps(b.add(at))) };
            sums[0] = _mm256_fmadd_ps(x, y, sums[0]);
            at += 8;
        }
        let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        let half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
        let whole = _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)));
        let rest: f32 = left[at..].iter().zip(&right[at..]).map(|(x, y)| x * y).sum();
        whole + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn every_kernel_agrees_with_double_precision_at_every_length() {
        for n in (1..70).chain([384, 1023]) {
            let (left, right) = (numbers(n, 1), numbers(n, 2));
            let exact: f64 = left.iter().zip(&right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            for instructions in Instructions::available() {
                let found = dot_with(instructions)(&left, &right);
                let far = (f64::from(found) - exact).abs();
                assert!(far < 1e-5, "{instructions:?}, {n} numbers: {found}, not {exact}");
            }
        }
    }
}
