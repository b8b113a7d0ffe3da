//! How the weights of each form become floats, sixteen rows at a time.

#![allow(unsafe_code, reason = "vector kernels over raw pointers")]
#![allow(unsafe_op_in_unsafe_fn, reason = "kernels are made of pointer arithmetic and intrinsics")]

use super::k_quants;
use super::panels::{BLOCK, PANEL};
use super::simd::Simd16;

/// Reads the weights of a panel.
///
/// # Safety
/// The panel must hold the block asked for, and the processor must have the instructions of `S`. All functions are
/// inlined into a caller that enables those instructions.
pub(super) trait Unpack {
    /// Columns that have one scale and one offset.
    const COLUMNS: usize;
    /// Scale and offset of the block `number`.
    unsafe fn head<S: Simd16>(panel: *const u8, number: usize) -> (S::V, S::V);
    /// The weights of the block `number`.
    unsafe fn weights(panel: *const u8, number: usize) -> *const u8;
    /// Columns `2 * pair` and `2 * pair + 1` of a block.
    unsafe fn pair<S: Simd16>(weights: *const u8, head: (S::V, S::V), pair: usize) -> (S::V, S::V);
}

/// 32 bit floats.
pub(super) struct F32;
/// 16 bit floats.
pub(super) struct F16;
/// Brain floats.
pub(super) struct Bf16;
/// Two weights a byte; `CENTRE` times the scale is taken off, or a stored offset added when it is 0.
pub(super) struct Nibble<const CENTRE: u8>;
/// One weight a byte; as [`Nibble`].
pub(super) struct Byte<const CENTRE: u8>;
/// Two weights a byte, in groups.
pub(super) struct GroupNibble;
/// One weight a byte, in groups.
pub(super) struct GroupByte;
/// One weight a byte, less 32, in groups.
pub(super) struct GroupByte32;

macro_rules! unpack_floats {
    ($form:ty, $bytes:literal, $as:ty, $load:ident) => {
        impl Unpack for $form {
            const COLUMNS: usize = BLOCK;
            #[inline(always)]
            unsafe fn head<S: Simd16>(_: *const u8, _: usize) -> (S::V, S::V) {
                (S::splat(1.0), S::splat(0.0))
            }
            #[inline(always)]
            unsafe fn weights(panel: *const u8, number: usize) -> *const u8 {
                panel.add(number * $bytes * BLOCK * PANEL)
            }
            #[inline(always)]
            unsafe fn pair<S: Simd16>(weights: *const u8, _: (S::V, S::V), pair: usize) -> (S::V, S::V) {
                let from = weights.cast::<$as>().add(2 * pair * PANEL);
                (S::$load(from), S::$load(from.add(PANEL)))
            }
        }
    };
}
unpack_floats!(F32, 4, f32, load);
unpack_floats!(F16, 2, u16, load_f16);
unpack_floats!(Bf16, 2, u16, load_bf16);

#[inline(always)]
unsafe fn quantised_head<S: Simd16>(block: *const u8, centre: u8) -> (S::V, S::V) {
    let scale = S::load_f16(block.cast());
    let offset = if centre == 0 {
        S::load_f16(block.add(2 * PANEL).cast())
    } else {
        S::mul(scale, S::splat(-f32::from(centre)))
    };
    (scale, offset)
}

#[inline(always)]
unsafe fn nibble_pair<S: Simd16>(weights: *const u8, head: (S::V, S::V), pair: usize) -> (S::V, S::V) {
    let (low, high) = S::load_nibbles(weights.add(pair * PANEL));
    (S::fma(low, head.0, head.1), S::fma(high, head.0, head.1))
}

#[inline(always)]
unsafe fn byte_pair<S: Simd16>(weights: *const u8, head: (S::V, S::V), pair: usize) -> (S::V, S::V) {
    let from = weights.add(2 * pair * PANEL);
    let (even, odd) = (S::load_u8(from), S::load_u8(from.add(PANEL)));
    (S::fma(even, head.0, head.1), S::fma(odd, head.0, head.1))
}

const fn head_bytes(centre: u8) -> usize {
    if centre == 0 { 4 * PANEL } else { 2 * PANEL }
}

macro_rules! unpack_blocks {
    ($form:ident, $weights:expr, $pair:ident) => {
        impl<const CENTRE: u8> Unpack for $form<CENTRE> {
            const COLUMNS: usize = BLOCK;
            #[inline(always)]
            unsafe fn head<S: Simd16>(panel: *const u8, number: usize) -> (S::V, S::V) {
                quantised_head::<S>(panel.add(number * (head_bytes(CENTRE) + $weights)), CENTRE)
            }
            #[inline(always)]
            unsafe fn weights(panel: *const u8, number: usize) -> *const u8 {
                panel.add(number * (head_bytes(CENTRE) + $weights) + head_bytes(CENTRE))
            }
            #[inline(always)]
            unsafe fn pair<S: Simd16>(weights: *const u8, head: (S::V, S::V), pair: usize) -> (S::V, S::V) {
                $pair::<S>(weights, head, pair)
            }
        }
    };
}
unpack_blocks!(Nibble, BLOCK / 2 * PANEL, nibble_pair);
unpack_blocks!(Byte, BLOCK * PANEL, byte_pair);

/// Q4_K and Q5_K: scale and offset are those of the group times one byte each.
macro_rules! unpack_groups {
    ($form:ty, $place:path, $pair:ident) => {
        impl Unpack for $form {
            const COLUMNS: usize = BLOCK;
            #[inline(always)]
            unsafe fn head<S: Simd16>(panel: *const u8, number: usize) -> (S::V, S::V) {
                let (group, block) = $place(number);
                let (group, block) = (panel.add(group), panel.add(block));
                let scale = S::mul(S::load_f16(group.cast()), S::load_u8(block));
                let offset = S::mul(S::load_f16(group.add(2 * PANEL).cast()), S::load_u8(block.add(PANEL)));
                (scale, offset)
            }
            #[inline(always)]
            unsafe fn weights(panel: *const u8, number: usize) -> *const u8 {
                panel.add($place(number).1 + 2 * PANEL)
            }
            #[inline(always)]
            unsafe fn pair<S: Simd16>(weights: *const u8, head: (S::V, S::V), pair: usize) -> (S::V, S::V) {
                $pair::<S>(weights, head, pair)
            }
        }
    };
}
unpack_groups!(GroupNibble, k_quants::nibble_place, nibble_pair);
unpack_groups!(GroupByte, k_quants::byte_place, byte_pair);

/// Q6_K: sixteen columns have a scale, moved up by 128 to be a byte without sign.
impl Unpack for GroupByte32 {
    const COLUMNS: usize = k_quants::BYTE32_BLOCK;
    #[inline(always)]
    unsafe fn head<S: Simd16>(panel: *const u8, number: usize) -> (S::V, S::V) {
        let (group, block) = k_quants::byte32_place(number);
        let factor = S::add(S::load_u8(panel.add(block)), S::splat(-128.0));
        let scale = S::mul(S::load_f16(panel.add(group).cast()), factor);
        (scale, S::mul(scale, S::splat(-32.0)))
    }
    #[inline(always)]
    unsafe fn weights(panel: *const u8, number: usize) -> *const u8 {
        panel.add(k_quants::byte32_place(number).1 + PANEL)
    }
    #[inline(always)]
    unsafe fn pair<S: Simd16>(weights: *const u8, head: (S::V, S::V), pair: usize) -> (S::V, S::V) {
        byte_pair::<S>(weights, head, pair)
    }
}
