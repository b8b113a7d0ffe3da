//! K-quants in panels: groups of 256 columns share `f16` factors, and blocks inside a group have small ones.
//!
//! A group of a panel holds the factors of its sixteen rows first, then block after block: the block's own factors,
//! one byte a row, and its weights. Five- and six-bit weights are widened to bytes.

use half::f16;

use super::panels::{BLOCK, PANEL, pack_nibbles};

/// Columns of a group.
pub(super) const GROUP: usize = 256;
/// Columns of a block of Q6_K.
pub(super) const BYTE32_BLOCK: usize = 16;

/// Bytes of a group of a row in the file.
pub(super) const Q4_FILE_BYTES: usize = 144;
pub(super) const Q5_FILE_BYTES: usize = 176;
pub(super) const Q6_FILE_BYTES: usize = 210;

/// Scale and offset of a group.
const OFFSET_HEAD: usize = 4 * PANEL;
/// Scale of a group.
const SCALE_HEAD: usize = 2 * PANEL;
/// Bytes of a block: factors, then weights.
const NIBBLE_BLOCK: usize = 2 * PANEL + BLOCK / 2 * PANEL;
const BYTE_BLOCK: usize = 2 * PANEL + BLOCK * PANEL;
const BYTE32_BLOCK_BYTES: usize = PANEL + BYTE32_BLOCK * PANEL;

/// Bytes of a group of a panel.
pub(super) const NIBBLE_GROUP_BYTES: usize = OFFSET_HEAD + GROUP / BLOCK * NIBBLE_BLOCK;
pub(super) const BYTE_GROUP_BYTES: usize = OFFSET_HEAD + GROUP / BLOCK * BYTE_BLOCK;
pub(super) const BYTE32_GROUP_BYTES: usize = SCALE_HEAD + GROUP / BYTE32_BLOCK * BYTE32_BLOCK_BYTES;

/// Where the group of the block `number` starts in a Q4_K panel, and where the block does.
#[inline(always)]
pub(super) const fn nibble_place(number: usize) -> (usize, usize) {
    let group = number / (GROUP / BLOCK) * NIBBLE_GROUP_BYTES;
    (group, group + OFFSET_HEAD + number % (GROUP / BLOCK) * NIBBLE_BLOCK)
}

/// As [`nibble_place`], for Q5_K.
#[inline(always)]
pub(super) const fn byte_place(number: usize) -> (usize, usize) {
    let group = number / (GROUP / BLOCK) * BYTE_GROUP_BYTES;
    (group, group + OFFSET_HEAD + number % (GROUP / BLOCK) * BYTE_BLOCK)
}

/// As [`nibble_place`], for Q6_K.
#[inline(always)]
pub(super) const fn byte32_place(number: usize) -> (usize, usize) {
    let blocks = GROUP / BYTE32_BLOCK;
    let group = number / blocks * BYTE32_GROUP_BYTES;
    (group, group + SCALE_HEAD + number % blocks * BYTE32_BLOCK_BYTES)
}

/// Packs a group of a row of Q4_K: scale, offset, 12 bytes of factors, 128 of weights.
pub(super) fn pack_q4(group: &mut [u8], source: &[u8], lane: usize) {
    pack_group_head(group, source, lane);
    for number in 0..GROUP / BLOCK {
        let block = &mut group[nibble_place(number).1..];
        pack_factors(block, &source[4..16], number, lane);
        let weights = nibbles(&source[16..], number);
        pack_nibbles(&mut block[2 * PANEL..], &weights, lane);
    }
}

/// Packs a group of a row of Q5_K: as Q4_K, with 32 bytes of fifth bits before the weights.
pub(super) fn pack_q5(group: &mut [u8], source: &[u8], lane: usize) {
    pack_group_head(group, source, lane);
    for number in 0..GROUP / BLOCK {
        let block = &mut group[byte_place(number).1..];
        pack_factors(block, &source[4..16], number, lane);
        let weights = &mut block[2 * PANEL..];
        let high = source[16..48].iter().map(|bits| (bits >> number & 1) << 4);
        for (column, (low, high)) in nibbles(&source[48..], number).into_iter().zip(high).enumerate() {
            weights[column * PANEL + lane] = low | high;
        }
    }
}

/// Packs a group of a row of Q6_K: 128 bytes of low bits, 64 of high bits, 16 signed factors, scale.
pub(super) fn pack_q6(group: &mut [u8], source: &[u8], lane: usize) {
    group[2 * lane..][..2].copy_from_slice(&source[208..210]);
    for number in 0..GROUP / BYTE32_BLOCK {
        let block = &mut group[byte32_place(number).1..];
        // Signed bytes move up by 128; the kernel takes it back.
        block[lane] = source[192 + number] ^ 0x80;
        for at in 0..BYTE32_BLOCK {
            let column = number * BYTE32_BLOCK + at;
            // Half a group at a time: four runs of 32 columns, the first two in low halves, the others in high ones.
            let (half, run, place) = (column / 128, column % 128 / 32, column % 32);
            let low = source[half * 64 + run % 2 * 32 + place] >> (run / 2 * 4) & 15;
            let high = source[128 + half * 32 + place] >> (2 * run) & 3;
            block[PANEL + at * PANEL + lane] = low | high << 4;
        }
    }
}

/// Writes scale and offset of a group. The file's offset is taken off; ours is added.
fn pack_group_head(group: &mut [u8], source: &[u8], lane: usize) {
    group[2 * lane..][..2].copy_from_slice(&source[..2]);
    let offset = -f16::from_le_bytes([source[2], source[3]]);
    group[2 * PANEL + 2 * lane..][..2].copy_from_slice(&offset.to_le_bytes());
}

/// Writes the factors of scale and offset of a block: six bits each, packed into twelve bytes.
fn pack_factors(block: &mut [u8], packed: &[u8], number: usize, lane: usize) {
    let (scale, offset) = if number < 4 {
        (packed[number] & 63, packed[number + 4] & 63)
    } else {
        let last = packed[number + 4];
        (last & 15 | packed[number - 4] >> 6 << 4, last >> 4 | packed[number] >> 6 << 4)
    };
    block[lane] = scale;
    block[PANEL + lane] = offset;
}

/// The four-bit values of a block: two blocks share 32 bytes, the first has the low halves.
fn nibbles(weights: &[u8], number: usize) -> [u8; BLOCK] {
    let bytes = &weights[number / 2 * BLOCK..];
    std::array::from_fn(|column| bytes[column] >> (number % 2 * 4) & 15)
}
