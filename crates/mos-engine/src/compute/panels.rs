//! Weight matrices in the order in which the kernels read them.
//!
//! A matrix `[rows, cols]` (one row per output) is cut into panels of sixteen rows. Inside a panel the columns follow
//! one another and each column holds the sixteen rows side by side, so that sixteen outputs are summed at once, each
//! over its columns in order. Quantised blocks (32 columns) keep their `f16` scales; five-bit weights are widened to
//! bytes, which costs memory but spares a kernel of their own. K-quants keep their groups of 256 columns, see
//! [`super::k_quants`].
//!
//! A weight is `q * scale + offset`, rounded once. The product of a weight's few bits and its scale is exact, so this
//! equals the dequantised value of the file bit by bit.

use super::k_quants;
use super::kernels::Kernels;
use candle_core::quantized::GgmlDType;

/// Rows of a panel.
pub(crate) const PANEL: usize = 16;
/// Columns of a quantised block.
pub(crate) const BLOCK: usize = 32;

/// How the weights of a panel are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// 32 bit floats.
    F32,
    /// 16 bit floats.
    F16,
    /// Brain floats.
    Bf16,
    /// Two weights a byte, offset `-8 * scale` (Q4_0).
    NibbleCentred,
    /// Two weights a byte, offset stored (Q4_1).
    NibbleOffset,
    /// One weight a byte, offset `-16 * scale` (Q5_0).
    Byte16,
    /// One weight a byte, offset stored (Q5_1).
    ByteOffset,
    /// One weight a byte, offset `-128 * scale` (Q8_0).
    Byte128,
    /// Two weights a byte, scales and offsets in bytes, to be multiplied with those of the group (Q4_K).
    GroupNibble,
    /// One weight a byte, as [`Form::GroupNibble`] (Q5_K).
    GroupByte,
    /// One weight a byte, offset `-32 * scale`, a scale in a byte for 16 columns (Q6_K).
    GroupByte32,
}

impl Form {
    /// Returns the form for a type of a GGUF file; `None` for those that candle's own kernels serve.
    pub(crate) fn of(dtype: GgmlDType) -> Option<Self> {
        Some(match dtype {
            GgmlDType::F32 => Self::F32,
            GgmlDType::F16 => Self::F16,
            GgmlDType::BF16 => Self::Bf16,
            GgmlDType::Q4_0 => Self::NibbleCentred,
            GgmlDType::Q4_1 => Self::NibbleOffset,
            GgmlDType::Q5_0 => Self::Byte16,
            GgmlDType::Q5_1 => Self::ByteOffset,
            GgmlDType::Q8_0 => Self::Byte128,
            GgmlDType::Q4K => Self::GroupNibble,
            GgmlDType::Q5K => Self::GroupByte,
            GgmlDType::Q6K => Self::GroupByte32,
            _ => return None,
        })
    }

    /// Columns that are stored together: those that share a scale, and two for floats.
    pub(crate) const fn unit_columns(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 2,
            Self::GroupNibble | Self::GroupByte | Self::GroupByte32 => k_quants::GROUP,
            _ => BLOCK,
        }
    }

    /// Bytes of [`Self::unit_columns`] columns of a panel.
    pub(crate) const fn unit_bytes(self) -> usize {
        let scales = 2 * PANEL;
        match self {
            Self::F32 => 2 * 4 * PANEL,
            Self::F16 | Self::Bf16 => 2 * 2 * PANEL,
            Self::NibbleCentred => scales + BLOCK / 2 * PANEL,
            Self::NibbleOffset => 2 * scales + BLOCK / 2 * PANEL,
            Self::Byte16 | Self::Byte128 => scales + BLOCK * PANEL,
            Self::ByteOffset => 2 * scales + BLOCK * PANEL,
            Self::GroupNibble => k_quants::NIBBLE_GROUP_BYTES,
            Self::GroupByte => k_quants::BYTE_GROUP_BYTES,
            Self::GroupByte32 => k_quants::BYTE32_GROUP_BYTES,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Bytes of [`Self::unit_columns`] columns of a row in the file.
    fn file_unit_bytes(self) -> usize {
        match self {
            Self::F32 => 8,
            Self::F16 | Self::Bf16 => 4,
            Self::NibbleCentred => 18,
            Self::NibbleOffset => 20,
            Self::Byte16 => 22,
            Self::ByteOffset => 24,
            Self::Byte128 => 34,
            Self::GroupNibble => k_quants::Q4_FILE_BYTES,
            Self::GroupByte => k_quants::Q5_FILE_BYTES,
            Self::GroupByte32 => k_quants::Q6_FILE_BYTES,
        }
    }
}

/// A weight matrix in panels.
pub(crate) struct PanelMatrix {
    rows: usize,
    cols: usize,
    form: Form,
    panel_bytes: usize,
    data: Vec<u8>,
}

impl PanelMatrix {
    /// Packs `[rows, cols]` weights as they stand in a file: row by row, little endian.
    ///
    /// Returns what is wrong with the shape or the length, if anything.
    pub(crate) fn pack(form: Form, rows: usize, cols: usize, file: &[u8]) -> Result<Self, String> {
        let unit = form.unit_columns();
        if rows == 0 || cols == 0 || !cols.is_multiple_of(unit) {
            return Err(format!("a matrix of {rows} x {cols}: the columns must be a positive multiple of {unit}"));
        }
        let (row_bytes, panel_bytes) = (form.file_unit_bytes() * (cols / unit), form.unit_bytes() * (cols / unit));
        if file.len() != rows * row_bytes {
            return Err(format!("a matrix of {rows} x {cols} needs {} bytes, got {}", rows * row_bytes, file.len()));
        }
        let mut data = vec![0_u8; rows.div_ceil(PANEL) * panel_bytes];
        for (row, source) in file.chunks_exact(row_bytes).enumerate() {
            let panel = &mut data[row / PANEL * panel_bytes..][..panel_bytes];
            if form.is_float() {
                pack_float_row(panel, source, row % PANEL, row_bytes / cols);
                continue;
            }
            let units = panel.chunks_exact_mut(form.unit_bytes()).zip(source.chunks_exact(form.file_unit_bytes()));
            for (unit, source) in units {
                match form {
                    Form::GroupNibble => k_quants::pack_q4(unit, source, row % PANEL),
                    Form::GroupByte => k_quants::pack_q5(unit, source, row % PANEL),
                    Form::GroupByte32 => k_quants::pack_q6(unit, source, row % PANEL),
                    _ => pack_block(form, unit, source, row % PANEL),
                }
            }
        }
        Ok(Self { rows, cols, form, panel_bytes, data })
    }

    /// Number of outputs.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// How the weights are stored.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Number of panels; the last one may be filled up with rows of zeros.
    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bytes from one panel to the next.
    pub(crate) fn panel_bytes(&self) -> usize {
        self.panel_bytes
    }

    /// The bytes of the panels from `panel` on.
    pub(crate) fn panels_from(&self, panel: usize) -> &[u8] {
        &self.data[panel * self.panel_bytes..]
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Writes row `row`, as floats, into `out` (`cols` long).
    pub(crate) fn row(&self, kernels: &Kernels, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of {} x {}", self.rows, self.cols);
        let panel = self.panels_from(row / PANEL);
        let mut tile = [0_f32; BLOCK * PANEL];
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let start = block * BLOCK;
            kernels.unpack(self.form, panel, start, out.len(), &mut tile);
            for (column, value) in out.iter_mut().enumerate() {
                *value = tile[column * PANEL + row % PANEL];
            }
        }
    }
}

fn pack_float_row(panel: &mut [u8], source: &[u8], lane: usize, width: usize) {
    for (column, value) in source.chunks_exact(width).enumerate() {
        panel[(column * PANEL + lane) * width..][..width].copy_from_slice(value);
    }
}

fn pack_block(form: Form, block: &mut [u8], source: &[u8], lane: usize) {
    let (scale, mut rest) = source.split_at(2);
    block[2 * lane..][..2].copy_from_slice(scale);
    let mut weights_at = 2 * PANEL;
    if matches!(form, Form::NibbleOffset | Form::ByteOffset) {
        block[weights_at + 2 * lane..][..2].copy_from_slice(&rest[..2]);
        weights_at += 2 * PANEL;
        rest = &rest[2..];
    }
    let weights = &mut block[weights_at..];
    match form {
        Form::NibbleCentred | Form::NibbleOffset => pack_nibbles(weights, &nibbles(rest), lane),
        Form::Byte16 | Form::ByteOffset => {
            let high = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
            for (column, low) in nibbles(&rest[4..]).into_iter().enumerate() {
                weights[column * PANEL + lane] = low | ((high >> column & 1) as u8) << 4;
            }
        }
        _ => {
            // Signed bytes move up by 128; the offset takes it back.
            for (column, &value) in rest.iter().enumerate() {
                weights[column * PANEL + lane] = value ^ 0x80;
            }
        }
    }
}

/// Writes four-bit values of neighbouring columns of one row side by side.
pub(super) fn pack_nibbles(weights: &mut [u8], values: &[u8], lane: usize) {
    for (pair, two) in values.chunks_exact(2).enumerate() {
        weights[pair * PANEL + lane] = two[0] | two[1] << 4;
    }
}

/// The 32 four-bit values of a block in column order: first all low halves, then all high ones.
fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|column| if column < 16 { bytes[column] & 15 } else { bytes[column - 16] >> 4 })
}
