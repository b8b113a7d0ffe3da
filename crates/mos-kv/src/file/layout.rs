//! What stands where in the file of an item.

use mos_engine::KvShape;
use safetensors::tensor::Dtype;

use crate::quantize::{Axis, KvEncoding, RowShape};

/// The format that this program writes.
pub(super) const FORMAT: &str = "mos-kv/1";
pub(super) const FORMAT_START: &str = "mos-kv/";
/// The data begin at a multiple of this.
pub(super) const ALIGNMENT: usize = 64;
/// A larger header is not ours.
pub(super) const MAX_HEADER: u64 = 64 << 20;
pub(super) const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A tensor of the file.
pub(super) struct Block {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

impl Block {
    fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.into(), dtype, shape: shape.to_vec() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// The tensors of an item, in the order of the file.
pub(super) fn blocks(shape: KvShape, tokens: usize, encoding: KvEncoding) -> Vec<Block> {
    let rows = row_shape(shape, tokens);
    let RowShape { heads, dim, .. } = rows;
    let mut blocks = Vec::new();
    for layer in 0..shape.layers {
        for (letter, axis) in [("k", Axis::Dimension), ("v", Axis::Token)] {
            let name = |part: &str| format!("l{layer}.{letter}{part}");
            let whole = Block::new(name(".whole"), Dtype::F16, &[heads, rows.whole(), dim]);
            match encoding {
                KvEncoding::F16 => blocks.push(Block::new(name(""), Dtype::F16, &[heads, tokens, dim])),
                KvEncoding::Q8 => blocks.extend([
                    whole,
                    Block::new(name(".scales"), Dtype::F16, &[heads, rows.rest(), rows.dim_groups()]),
                    Block::new(name(".codes"), Dtype::U8, &[heads, rows.rest(), dim]),
                ]),
                KvEncoding::Q4 => {
                    let groups = match axis {
                        Axis::Dimension => [heads, rows.token_groups(), dim],
                        Axis::Token => [heads, rows.rest(), rows.dim_groups()],
                    };
                    blocks.extend([
                        whole,
                        Block::new(name(".scales"), Dtype::F16, &groups),
                        Block::new(name(".minima"), Dtype::F16, &groups),
                        Block::new(name(".codes"), Dtype::U8, &[heads, rows.rest(), dim.div_ceil(2)]),
                    ]);
                }
            }
        }
    }
    blocks.push(Block::new("tokens", Dtype::U32, &[tokens]));
    blocks
}

/// The rows of one layer's keys or values.
pub(super) fn row_shape(shape: KvShape, tokens: usize) -> RowShape {
    RowShape { heads: shape.kv_heads, tokens, dim: shape.head_dim }
}

/// Where the checksum stands in a header. A quote inside a text is written `\"`, so nothing else looks like it.
pub(super) fn checksum_place(header: &[u8], checksum: &str) -> Option<usize> {
    if checksum.len() != NO_CHECKSUM.len() {
        return None;
    }
    let field = format!("\"checksum\":\"{checksum}\"");
    let at = header.windows(field.len()).position(|window| window == field.as_bytes())?;
    Some(at + field.len() - checksum.len() - 1)
}
