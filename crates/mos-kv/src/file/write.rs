//! Writing the file of an item.

use std::fs::File;
use std::io::{BufWriter, Cursor, Seek, SeekFrom, Write};
use std::path::Path;

use mos_engine::KvSegment;
use serde_json::{Map, Value, json};

use super::layout::{ALIGNMENT, FORMAT, MAX_HEADER, NO_CHECKSUM, blocks, checksum_place, row_shape};
use crate::atomic::write_atomically;
use crate::error::KvError;
use crate::item::KvCacheItem;
use crate::quantize::{Axis, KvEncoding, Q4, Q8, to_q4, to_q8};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenItem {
    /// Bytes of the file.
    pub bytes: u64,
    /// The checksum in the file: 64 hexadecimal digits.
    pub checksum: String,
}

/// An item that is ready to be written.
pub(crate) struct Prepared<'a> {
    segment: &'a KvSegment,
    encoding: KvEncoding,
    /// The file's first bytes, up to the data, without a checksum.
    pub(super) header: Vec<u8>,
    bytes: u64,
}

/// Where a file belongs; nowhere by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp<'a> {
    /// The tenant.
    pub(crate) scope: &'a str,
    /// How often the tenant's item of this id was written, this time included: of two files the greater counts.
    pub(crate) written: u64,
}

/// Returns an item ready to be written.
///
/// # Errors
/// [`KvError::NoState`] when the item holds no keys and values; [`KvError::Invalid`] when those of no token, or with
/// more metadata than a file may have.
pub(crate) fn prepare<'a>(
    item: &'a KvCacheItem,
    encoding: KvEncoding,
    stamp: Stamp<'_>,
) -> Result<Prepared<'a>, KvError> {
    let (segment, identity) = (item.require_segment()?, item.require_identity()?);
    if segment.is_empty() {
        return Err(KvError::Invalid(format!("item {} holds keys and values of no token; extract it anew", item.id)));
    }
    let shape = segment.shape();
    let failed = |error| KvError::internal("describing an item", error);
    let metadata = json!({
        "format": FORMAT,
        "checksum": NO_CHECKSUM,
        "model": serde_json::to_string(identity).map_err(failed)?,
        "item": serde_json::to_string(item).map_err(failed)?,
        "scope": stamp.scope,
        "written": stamp.written.to_string(),
        "encoding": serde_json::to_value(encoding).map_err(failed)?,
        "layers": shape.layers.to_string(),
        "kv_heads": shape.kv_heads.to_string(),
        "head_dim": shape.head_dim.to_string(),
        "tokens": segment.len().to_string(),
        "start": segment.start().to_string(),
        "context": segment.context().map_or_else(|| "unknown".to_owned(), |name| hex(&name)),
        "saved_seconds": item.saved_seconds.to_string(),
        "writer": concat!("mos-kv ", env!("CARGO_PKG_VERSION")),
    });
    let mut map = Map::new();
    map.insert("__metadata__".to_owned(), metadata);
    let mut end = 0;
    for block in blocks(shape, segment.len(), encoding) {
        let (start, bytes) = (end, block.bytes());
        end += bytes;
        let dtype = serde_json::to_value(block.dtype).map_err(failed)?;
        map.insert(block.name, json!({"dtype": dtype, "shape": block.shape, "data_offsets": [start, end]}));
    }
    let mut text = serde_json::to_vec(&Value::Object(map)).map_err(failed)?;
    text.resize((text.len() + 8).next_multiple_of(ALIGNMENT) - 8, b' ');
    if text.len() as u64 > MAX_HEADER {
        return Err(KvError::Invalid(format!(
            "the texts and metadata of item {} take {} bytes; at most {MAX_HEADER} can be kept",
            item.id,
            text.len()
        )));
    }
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    let bytes = (header.len() + end) as u64;
    Ok(Prepared { segment, encoding, header, bytes })
}

impl Prepared<'_> {
    /// Returns a name that no other content has: 64 hexadecimal digits.
    pub(crate) fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.header);
        for token in self.segment.tokens() {
            hasher.update(&token.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Returns the bytes of the whole file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the file from the writer's position on, which must be 0.
    pub(crate) fn write_to(&self, writer: &mut (impl Write + Seek), path: &Path) -> Result<WrittenItem, KvError> {
        let failed = |error| KvError::io("cannot write", path, error);
        let mut hashing = Hashing { writer, hasher: blake3::Hasher::new() };
        hashing.write_all(&self.header).map_err(failed)?;
        self.write_data(&mut hashing).map_err(failed)?;
        let Hashing { writer, hasher } = hashing;
        let checksum = hasher.finalize().to_hex().to_string();
        let at = checksum_place(&self.header, NO_CHECKSUM)
            .ok_or_else(|| KvError::internal("writing an item", "the header has no place for the checksum"))?;
        writer.seek(SeekFrom::Start(at as u64)).map_err(failed)?;
        writer.write_all(checksum.as_bytes()).map_err(failed)?;
        Ok(WrittenItem { bytes: self.bytes, checksum })
    }

    fn write_data(&self, writer: &mut impl Write) -> std::io::Result<()> {
        let shape = row_shape(self.segment.shape(), self.segment.len());
        for layer in 0..self.segment.shape().layers {
            for (rows, axis) in [(self.segment.keys(layer), Axis::Dimension), (self.segment.values(layer), Axis::Token)]
            {
                match self.encoding {
                    KvEncoding::F16 => write_u16(writer, &rows)?,
                    KvEncoding::Q8 => {
                        let Q8 { whole, codes, scales } = to_q8(&rows, shape);
                        write_u16(writer, &whole)?;
                        write_u16(writer, &scales)?;
                        writer.write_all(&codes)?;
                    }
                    KvEncoding::Q4 => {
                        let Q4 { whole, codes, scales, minima } = to_q4(&rows, shape, axis);
                        write_u16(writer, &whole)?;
                        write_u16(writer, &scales)?;
                        write_u16(writer, &minima)?;
                        writer.write_all(&codes)?;
                    }
                }
            }
        }
        self.segment.tokens().iter().try_for_each(|token| writer.write_all(&token.to_le_bytes()))
    }
}

/// Writes little-endian numbers.
fn write_u16(writer: &mut impl Write, values: &[u16]) -> std::io::Result<()> {
    if cfg!(target_endian = "little") {
        return writer.write_all(bytemuck::cast_slice(values));
    }
    values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))
}

struct Hashing<'a, W> {
    writer: &'a mut W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

/// Writes an item as one file, whole or not at all; an earlier file of the name is replaced.
///
/// # Errors
/// [`KvError::NoState`] when the item holds no keys and values, [`KvError::Invalid`] when those of no token;
/// [`KvError::Io`].
pub fn write_item(path: &Path, item: &KvCacheItem, encoding: KvEncoding) -> Result<WrittenItem, KvError> {
    write_prepared(path, &prepare(item, encoding, Stamp::default())?)
}

pub(crate) fn write_prepared(path: &Path, prepared: &Prepared<'_>) -> Result<WrittenItem, KvError> {
    write_atomically(path, |writer: &mut BufWriter<File>| prepared.write_to(writer, path))
}

/// Returns the bytes of the file of an item.
pub(crate) fn encode(prepared: &Prepared<'_>) -> Result<Vec<u8>, KvError> {
    let mut cursor = Cursor::new(Vec::with_capacity(usize::try_from(prepared.bytes).unwrap_or_default()));
    prepared.write_to(&mut cursor, Path::new("memory"))?;
    Ok(cursor.into_inner())
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}
