//! Dot products of whole numbers: rows of bytes with a query of 16 bits. Every set of instructions gives the same.

#![allow(unsafe_code, reason = "vector instructions of the processor, chosen at run time")]

use super::cpu::Instructions;

/// Numbers that are handled at once; rows are filled up with zeros.
pub(super) const GROUP: usize = 32;

/// Numbers of a row.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct CodeGroup(pub(super) [i8; GROUP]);

/// Numbers of a query.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct WideGroup(pub(super) [i16; GROUP]);

/// Computes the products of a query (`[stride]`) with the rows named, each of `stride` groups among all groups of the
/// rows; as many as there are names.
pub(super) type WholeDots = fn(&[WideGroup], &[CodeGroup], &[u16], &mut [i32]);

/// Returns the function for these instructions, which the processor must have.
pub(super) fn whole_dots_with(instructions: Instructions) -> WholeDots {
    match instructions {
        Instructions::Portable => portable,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => x86::avx2,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => x86::avx512,
    }
}

fn row_of<'a>(query: &[WideGroup], groups: &'a [CodeGroup], row: u16) -> &'a [CodeGroup] {
    &groups[usize::from(row) * query.len()..][..query.len()]
}

fn portable(query: &[WideGroup], groups: &[CodeGroup], rows: &[u16], dots: &mut [i32]) {
    for (row, dot) in rows.iter().zip(dots) {
        let mut sums = [0_i32; GROUP];
        for (wide, codes) in query.iter().zip(row_of(query, groups, *row)) {
            for ((sum, number), code) in sums.iter_mut().zip(&wide.0).zip(&codes.0) {
                *sum += i32::from(*number) * i32::from(*code);
            }
        }
        *dot = sums.iter().sum();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_load_si128, _mm_shuffle_epi32, _mm256_add_epi32,
        _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_extracti128_si256, _mm256_load_si256, _mm256_madd_epi16,
        _mm256_setzero_si256, _mm512_cvtepi8_epi16, _mm512_dpwssd_epi32, _mm512_load_si512, _mm512_reduce_add_epi32,
        _mm512_setzero_si512,
    };

    use super::{CodeGroup, WideGroup, row_of};

    /// Rows that share each load of the query.
    const TOGETHER: usize = 4;

    pub(super) fn avx2(query: &[WideGroup], groups: &[CodeGroup], rows: &[u16], dots: &mut [i32]) {
        // SAFETY: this function is only chosen for processors with AVX2.
        unsafe { all_avx2(query, groups, rows, dots) }
    }

    pub(super) fn avx512(query: &[WideGroup], groups: &[CodeGroup], rows: &[u16], dots: &mut [i32]) {
        // SAFETY: this function is only chosen for processors with AVX-512 F, BW and VNNI.
        unsafe { all_avx512(query, groups, rows, dots) }
    }

    #[target_feature(enable = "avx2")]
    fn all_avx2(query: &[WideGroup], groups: &[CodeGroup], rows: &[u16], dots: &mut [i32]) {
        let (fours, rest) = rows.as_chunks::<TOGETHER>();
        let (four_dots, rest_dots) = dots.split_at_mut(fours.len() * TOGETHER);
        for (rows, dots) in fours.iter().zip(four_dots.as_chunks_mut::<TOGETHER>().0) {
            *dots = some_avx2(query, rows.map(|row| row_of(query, groups, row)));
        }
        for (row, dot) in rest.iter().zip(rest_dots) {
            [*dot] = some_avx2(query, [row_of(query, groups, *row)]);
        }
    }

    #[target_feature(enable = "avx2")]
    fn some_avx2<const N: usize>(query: &[WideGroup], rows: [&[CodeGroup]; N]) -> [i32; N] {
        let mut sums = [_mm256_setzero_si256(); N];
        for (at, wide) in query.iter().enumerate() {
            let numbers: *const __m256i = wide.0.as_ptr().cast();
            // SAFETY: a group of the query is 64 bytes, aligned to 64.
            let (low, high) = unsafe { (_mm256_load_si256(numbers), _mm256_load_si256(numbers.add(1))) };
            for (row, sum) in rows.iter().zip(&mut sums) {
                let codes: *const std::arch::x86_64::__m128i = row[at].0.as_ptr().cast();
                // SAFETY: a group of a row is 32 bytes, aligned to 32.
                let (first, second) = unsafe { (_mm_load_si128(codes), _mm_load_si128(codes.add(1))) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(low, _mm256_cvtepi8_epi16(first)));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(high, _mm256_cvtepi8_epi16(second)));
            }
        }
        let mut dots = [0; N];
        for (sum, dot) in sums.into_iter().zip(&mut dots) {
            *dot = total_avx2(sum);
        }
        dots
    }

    #[target_feature(enable = "avx2")]
    fn total_avx2(sum: __m256i) -> i32 {
        let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
        _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter)))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn all_avx512(query: &[WideGroup], groups: &[CodeGroup], rows: &[u16], dots: &mut [i32]) {
        let (fours, rest) = rows.as_chunks::<TOGETHER>();
        let (four_dots, rest_dots) = dots.split_at_mut(fours.len() * TOGETHER);
        for (rows, dots) in fours.iter().zip(four_dots.as_chunks_mut::<TOGETHER>().0) {
            *dots = some_avx512(query, rows.map(|row| row_of(query, groups, row)));
        }
        for (row, dot) in rest.iter().zip(rest_dots) {
            [*dot] = some_avx512(query, [row_of(query, groups, *row)]);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn some_avx512<const N: usize>(query: &[WideGroup], rows: [&[CodeGroup]; N]) -> [i32; N] {
        let mut sums = [_mm512_setzero_si512(); N];
        for (at, wide) in query.iter().enumerate() {
            // SAFETY: a group of the query is 64 bytes, aligned to 64.
            let numbers = unsafe { _mm512_load_si512(wide.0.as_ptr().cast()) };
            for (row, sum) in rows.iter().zip(&mut sums) {
                // SAFETY: a group of a row is 32 bytes, aligned to 32.
                let codes = unsafe { _mm256_load_si256(row[at].0.as_ptr().cast()) };
                *sum = _mm512_dpwssd_epi32(*sum, numbers, _mm512_cvtepi8_epi16(codes));
            }
        }
        let mut dots = [0; N];
        for (sum, dot) in sums.into_iter().zip(&mut dots) {
            *dot = _mm512_reduce_add_epi32(sum);
        }
        dots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The greatest products too: a sum that overflowed would show.
    #[test]
    fn every_kernel_gives_the_sum_of_the_products() {
        let mut state = 1_u32;
        let mut next = |limit: i32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as i32 % (2 * limit + 1) - limit
        };
        for (stride, n_rows) in [(1, 1), (1, 7), (2, 4), (3, 9), (12, 6), (16, 5)] {
            let query: Vec<WideGroup> =
                (0..stride).map(|_| WideGroup(std::array::from_fn(|_| next(32_767) as i16))).collect();
            let groups: Vec<CodeGroup> =
                (0..stride * n_rows).map(|_| CodeGroup(std::array::from_fn(|_| next(127) as i8))).collect();
            // Not in order, and one of them twice.
            let rows: Vec<u16> = (0..n_rows as u16).rev().chain([0]).collect();
            check(&query, &groups, &rows);
        }
        let greatest = (vec![WideGroup([i16::MAX; GROUP]); 16], vec![CodeGroup([-127; GROUP]); 16]);
        check(&greatest.0, &greatest.1, &[0]);
    }

    fn check(query: &[WideGroup], groups: &[CodeGroup], rows: &[u16]) {
        let wide = query.iter().flat_map(|group| group.0);
        let expected: Vec<i32> = rows
            .iter()
            .map(|row| {
                let codes = row_of(query, groups, *row).iter().flat_map(|group| group.0);
                let sum: i64 = wide.clone().zip(codes).map(|(a, b)| i64::from(a) * i64::from(b)).sum();
                i32::try_from(sum).unwrap()
            })
            .collect();
        for instructions in Instructions::available() {
            let mut found = vec![0; rows.len()];
            whole_dots_with(instructions)(query, groups, rows, &mut found);
            assert_eq!(found, expected, "{instructions:?}");
        }
    }
}
