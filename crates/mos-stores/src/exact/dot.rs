//! Dot products of one query with many rows.

#![allow(unsafe_code, reason = "vector instructions of the processor, chosen at run time")]

use std::sync::OnceLock;

/// Returns the dot products of `query` (`f32[dimension]`) with each row of `rows` (`f32[n, dimension]`), in `scores`
/// (`f32[n]`).
pub(crate) fn dot_rows(query: &[f32], rows: &[f32], scores: &mut [f32]) {
    assert_eq!(rows.len(), query.len() * scores.len(), "a row is as long as the query");
    let kernel = kernel();
    for (row, score) in rows.chunks_exact(query.len()).zip(scores) {
        *score = kernel(query, row);
    }
}

type Kernel = fn(&[f32], &[f32]) -> f32;

fn kernel() -> Kernel {
    static CHOSEN: OnceLock<Kernel> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if x86::has_avx2_and_fma() {
            return x86::dot;
        }
        dot_portable
    })
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
        __cpuid, __cpuid_count, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _xgetbv,
    };

    /// Asks the processor itself: when the program is built for a newer processor, the standard macro answers
    /// without looking.
    pub(super) fn has_avx2_and_fma() -> bool {
        const FMA: u32 = 1 << 12;
        const OSXSAVE: u32 = 1 << 27;
        const AVX: u32 = 1 << 28;
        const AVX2: u32 = 1 << 5;
        const SAVED_REGISTERS: u64 = 0b110;
        if __cpuid(0).eax < 7 {
            return false;
        }
        let features = __cpuid(1).ecx;
        if features & (FMA | OSXSAVE | AVX) != (FMA | OSXSAVE | AVX) {
            return false;
        }
        // SAFETY: OSXSAVE is set, so the instruction exists and is allowed.
        let saved = unsafe { _xgetbv(0) };
        saved & SAVED_REGISTERS == SAVED_REGISTERS && __cpuid_count(7, 0).ebx & AVX2 != 0
    }

    pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
        assert_eq!(left.len(), right.len(), "vectors of one space are equally long");
        // SAFETY: this function is only chosen after `has_avx2_and_fma`, and the lengths are equal.
        unsafe { dot_avx2(left, right) }
    }

    /// # Safety
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
            let mut scores = [0.0];
            dot_rows(&left, &right, &mut scores);
            for found in [dot_portable(&left, &right), scores[0]] {
                assert!((f64::from(found) - exact).abs() < 1e-5, "{n} numbers: {found}, not {exact}");
            }
        }
    }
}
