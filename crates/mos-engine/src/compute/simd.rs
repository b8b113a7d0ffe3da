//! Sixteen `f32` lanes on different instruction sets, all with the same results.

#![allow(unsafe_code, reason = "vector intrinsics")]
#![allow(unsafe_op_in_unsafe_fn, reason = "every line of an intrinsic wrapper would be its own unsafe block")]

use half::{bf16, f16};

/// Sixteen lanes of `f32`.
///
/// # Safety
/// Every function needs a processor with the instructions of the implementing type; pointers must be valid for
/// sixteen elements. All functions are inlined into a caller that enables those instructions.
pub(super) trait Simd16 {
    /// The sixteen lanes.
    type V: Copy;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn load_f16(from: *const u16) -> Self::V;
    unsafe fn load_bf16(from: *const u16) -> Self::V;
    unsafe fn load_u8(from: *const u8) -> Self::V;
    /// The low and the high halves of sixteen bytes.
    unsafe fn load_nibbles(from: *const u8) -> (Self::V, Self::V);
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    unsafe fn round(v: Self::V) -> Self::V;
    /// 2 to the power of an integral `v` in `[-126, 127]`.
    unsafe fn pow2(v: Self::V) -> Self::V;
    /// The largest lane.
    unsafe fn max_lanes(v: Self::V) -> f32;
    /// All lanes, added in a tree: those eight apart, then four, two, one.
    unsafe fn sum_lanes(v: Self::V) -> f32;
}

/// Plain Rust; the compiler vectorises it as far as its flags allow.
pub(super) struct Portable;

impl Simd16 for Portable {
    type V = [f32; 16];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        from.cast::<[f32; 16]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        to.cast::<[f32; 16]>().write_unaligned(v);
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        from.cast::<[u16; 16]>().read_unaligned().map(|bits| f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::V {
        from.cast::<[u16; 16]>().read_unaligned().map(|bits| bf16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self::V {
        from.cast::<[u8; 16]>().read_unaligned().map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> (Self::V, Self::V) {
        let bytes = from.cast::<[u8; 16]>().read_unaligned();
        (bytes.map(|byte| f32::from(byte & 15)), bytes.map(|byte| f32::from(byte >> 4)))
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, mut c: Self::V) -> Self::V {
        for lane in 0..16 {
            c[lane] = a[lane].mul_add(b[lane], c[lane]);
        }
        c
    }
    #[inline(always)]
    unsafe fn add(mut a: Self::V, b: Self::V) -> Self::V {
        for lane in 0..16 {
            a[lane] += b[lane];
        }
        a
    }
    #[inline(always)]
    unsafe fn mul(mut a: Self::V, b: Self::V) -> Self::V {
        for lane in 0..16 {
            a[lane] *= b[lane];
        }
        a
    }
    #[inline(always)]
    unsafe fn div(mut a: Self::V, b: Self::V) -> Self::V {
        for lane in 0..16 {
            a[lane] /= b[lane];
        }
        a
    }
    #[inline(always)]
    unsafe fn max(mut a: Self::V, b: Self::V) -> Self::V {
        for lane in 0..16 {
            a[lane] = if a[lane] > b[lane] { a[lane] } else { b[lane] };
        }
        a
    }
    #[inline(always)]
    unsafe fn min(mut a: Self::V, b: Self::V) -> Self::V {
        for lane in 0..16 {
            a[lane] = if a[lane] < b[lane] { a[lane] } else { b[lane] };
        }
        a
    }
    #[inline(always)]
    unsafe fn round(v: Self::V) -> Self::V {
        v.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn pow2(v: Self::V) -> Self::V {
        v.map(|x| f32::from_bits(((x as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn max_lanes(v: Self::V) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn sum_lanes(mut v: Self::V) -> f32 {
        let mut width = v.len() / 2;
        while width > 0 {
            for lane in 0..width {
                v[lane] += v[lane + width];
            }
            width /= 2;
        }
        v[0]
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd16;

    /// Two vectors of 256 bits. Needs AVX2, FMA and F16C.
    pub(in crate::compute) struct Avx2;

    impl Simd16 for Avx2 {
        type V = (__m256, __m256);

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            (_mm256_set1_ps(x), _mm256_set1_ps(x))
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Self::V) {
            _mm256_storeu_ps(to, v.0);
            _mm256_storeu_ps(to.add(8), v.1);
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self::V {
            (_mm256_cvtph_ps(_mm_loadu_si128(from.cast())), _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())))
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self::V {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)))
        }
        #[inline(always)]
        unsafe fn load_u8(from: *const u8) -> Self::V {
            bytes_to_f32(_mm_loadu_si128(from.cast()))
        }
        #[inline(always)]
        unsafe fn load_nibbles(from: *const u8) -> (Self::V, Self::V) {
            let bytes = _mm_loadu_si128(from.cast());
            let mask = _mm_set1_epi8(15);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
            (bytes_to_f32(_mm_and_si128(bytes, mask)), bytes_to_f32(high))
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1))
        }
        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1))
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1))
        }
        #[inline(always)]
        unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
            (_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1))
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            (_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1))
        }
        #[inline(always)]
        unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
            (_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1))
        }
        #[inline(always)]
        unsafe fn round(v: Self::V) -> Self::V {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            (_mm256_round_ps::<NEAREST>(v.0), _mm256_round_ps::<NEAREST>(v.1))
        }
        #[inline(always)]
        unsafe fn pow2(v: Self::V) -> Self::V {
            (pow2_8(v.0), pow2_8(v.1))
        }
        #[inline(always)]
        unsafe fn max_lanes(v: Self::V) -> f32 {
            max_8(_mm256_max_ps(v.0, v.1))
        }
        #[inline(always)]
        unsafe fn sum_lanes(v: Self::V) -> f32 {
            sum_8(_mm256_add_ps(v.0, v.1))
        }
    }

    #[inline(always)]
    unsafe fn max_8(v: __m256) -> f32 {
        let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }

    #[inline(always)]
    unsafe fn sum_8(v: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }

    #[inline(always)]
    unsafe fn bytes_to_f32(bytes: __m128i) -> (__m256, __m256) {
        (
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))),
        )
    }

    #[inline(always)]
    unsafe fn pow2_8(v: __m256) -> __m256 {
        let biased = _mm256_add_epi32(_mm256_cvttps_epi32(v), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }

    /// One vector of 512 bits. Needs AVX-512 F.
    pub(in crate::compute) struct Avx512;

    impl Simd16 for Avx512 {
        type V = __m512;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            _mm512_set1_ps(x)
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            _mm512_loadu_ps(from)
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Self::V) {
            _mm512_storeu_ps(to, v);
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self::V {
            _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self::V {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
        #[inline(always)]
        unsafe fn load_u8(from: *const u8) -> Self::V {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))
        }
        #[inline(always)]
        unsafe fn load_nibbles(from: *const u8) -> (Self::V, Self::V) {
            let both = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
            let low = _mm512_and_si512(both, _mm512_set1_epi32(15));
            (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(both)))
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            _mm512_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            _mm512_add_ps(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            _mm512_mul_ps(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
            _mm512_div_ps(a, b)
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            _mm512_max_ps(a, b)
        }
        #[inline(always)]
        unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
            _mm512_min_ps(a, b)
        }
        #[inline(always)]
        unsafe fn round(v: Self::V) -> Self::V {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
        }
        #[inline(always)]
        unsafe fn pow2(v: Self::V) -> Self::V {
            let biased = _mm512_add_epi32(_mm512_cvttps_epi32(v), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
        #[inline(always)]
        unsafe fn max_lanes(v: Self::V) -> f32 {
            max_8(_mm256_max_ps(_mm512_castps512_ps256(v), upper_8(v)))
        }
        #[inline(always)]
        unsafe fn sum_lanes(v: Self::V) -> f32 {
            sum_8(_mm256_add_ps(_mm512_castps512_ps256(v), upper_8(v)))
        }
    }

    #[inline(always)]
    unsafe fn upper_8(v: __m512) -> __m256 {
        _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)))
    }
}
