//! One item as one safetensors file.
//!
//! Tensors, in order: per layer `l{i}.k` and `l{i}.v`, `[kv heads, tokens, head dim]`, f16, the keys rotated by the
//! positions at which they were computed; at the end `tokens`, u32. With fewer bits (`quantize`) a layer is several
//! tensors: `.whole`, `.codes`, `.scales`, `.minima`. The metadata holds the item without its keys and values, the
//! model, and a checksum over the whole file: the header with zeros in the checksum's place, then the data. The header
//! is padded so that the data begin at a multiple of 64 bytes.
//!
//! Invariant: a file is written whole or not at all, and nothing is believed before the checksum fits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Cursor, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use half::f16;
use memmap2::Mmap;
use mos_core::ModelError;
use mos_engine::{KvSegment, KvShape, ModelIdentity};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::{Map, Value, json};

use crate::atomic::write_atomically;
use crate::error::KvError;
use crate::item::KvCacheItem;
use crate::quantize::{Axis, KvEncoding, Q4, Q8, RowShape, from_q4, from_q8, to_q4, to_q8};

/// The format that this program writes.
pub(crate) const FORMAT: &str = "mos-kv/1";
const FORMAT_START: &str = "mos-kv/";
/// The data begin at a multiple of this.
const ALIGNMENT: usize = 64;
/// A larger header is not ours.
const MAX_HEADER: u64 = 64 << 20;
const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A tensor of the file.
struct Block {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Block {
    fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.into(), dtype, shape: shape.to_vec() }
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// The tensors of an item, in the order of the file.
fn blocks(shape: KvShape, tokens: usize, encoding: KvEncoding) -> Vec<Block> {
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

fn row_shape(shape: KvShape, tokens: usize) -> RowShape {
    RowShape { heads: shape.kv_heads, tokens, dim: shape.head_dim }
}

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
    header: Vec<u8>,
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

/// Reads an item's file: it is mapped, its checksum verified, and the keys and values taken over.
///
/// # Errors
/// [`KvError::Truncated`], [`KvError::Damaged`], [`KvError::Newer`], which name the file; [`KvError::Io`].
pub fn read_item(path: &Path) -> Result<KvCacheItem, KvError> {
    let file = File::open(path).map_err(|error| KvError::io("cannot read", path, error))?;
    let length = file.metadata().map_err(|error| KvError::io("cannot read", path, error))?.len();
    if length == 0 {
        return Err(KvError::truncated(path.display().to_string(), "it is empty"));
    }
    // SAFETY: files of items are replaced by renames and never written again.
    #[allow(unsafe_code, reason = "a copy of the whole file would double the memory that loading takes")]
    let map = unsafe { Mmap::map(&file) }.map_err(|error| KvError::io("cannot map", path, error))?;
    decode(&map, &path.display().to_string())
}

/// What a header says about an item.
#[derive(Debug)]
pub(crate) struct Head {
    /// The item without its keys and values.
    pub(crate) item: KvCacheItem,
    pub(crate) scope: String,
    /// As [`Stamp::written`].
    pub(crate) written: u64,
    encoding: KvEncoding,
    shape: KvShape,
    start: usize,
    context: Option<[u8; 32]>,
    checksum: String,
}

/// Returns the length of the header, with its own first 8 bytes, from those 8 bytes.
pub(crate) fn header_len(first: &[u8], what: &str) -> Result<usize, KvError> {
    let first: [u8; 8] = first
        .get(..8)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| KvError::truncated(what, format!("it has {} bytes", first.len())))?;
    let length = u64::from_le_bytes(first);
    if length > MAX_HEADER {
        return Err(KvError::damaged(what, "it does not begin as a safetensors file"));
    }
    Ok(length as usize + 8)
}

/// Reads the header of a file, without its first 8 bytes; returns it with where the tokens are in the data.
pub(crate) fn read_head(header: &[u8], what: &str) -> Result<(Head, (usize, usize)), KvError> {
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|error| KvError::damaged(what, format!("its header is not understood: {error}")))?;
    let head = head(&metadata, what)?;
    let tokens = metadata.info("tokens").ok_or_else(|| KvError::damaged(what, "it has no tokens"))?;
    Ok((head, tokens.data_offsets))
}

/// Reads the tokens of a file from the bytes of their tensor.
pub(crate) fn read_tokens(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

fn head(metadata: &Metadata, what: &str) -> Result<Head, KvError> {
    let none = HashMap::new();
    let fields = metadata.metadata().as_ref().unwrap_or(&none);
    let text = |name: &str| {
        fields.get(name).map(String::as_str).ok_or_else(|| KvError::damaged(what, format!("its header lacks `{name}`")))
    };
    let format = fields.get("format").map(String::as_str).unwrap_or_default();
    if format != FORMAT {
        return Err(if format.starts_with(FORMAT_START) {
            KvError::Newer { what: what.to_owned(), found: format.to_owned(), known: FORMAT }
        } else {
            KvError::damaged(what, "it is a safetensors file, but not one of an activation memory")
        });
    }
    let wrong = |name: &str| KvError::damaged(what, format!("`{name}` in its header makes no sense"));
    let number = |name: &str| text(name)?.parse::<usize>().map_err(|_| wrong(name));
    let identity: ModelIdentity = serde_json::from_str(text("model")?).map_err(|_| wrong("model"))?;
    let mut item: KvCacheItem = serde_json::from_str(text("item")?).map_err(|_| wrong("item"))?;
    let shape = KvShape { layers: number("layers")?, kv_heads: number("kv_heads")?, head_dim: number("head_dim")? };
    let context = match text("context")? {
        "unknown" => None,
        name => Some(blake3::Hash::from_hex(name).map_err(|_| wrong("context"))?.into()),
    };
    item.n_tokens = number("tokens")?;
    item.saved_seconds = text("saved_seconds")?.parse().map_err(|_| wrong("saved_seconds"))?;
    item.identity = Some(identity);
    let encoding =
        serde_json::from_value(Value::String(text("encoding")?.to_owned())).map_err(|_| wrong("encoding"))?;
    Ok(Head {
        scope: text("scope")?.to_owned(),
        written: text("written")?.parse().map_err(|_| wrong("written"))?,
        encoding,
        start: number("start")?,
        context,
        checksum: text("checksum")?.to_owned(),
        shape,
        item,
    })
}

/// Returns the item in the bytes of a file; `what` names it in errors.
///
/// # Errors
/// [`KvError::Truncated`], [`KvError::Damaged`], [`KvError::Newer`].
pub fn decode(bytes: &[u8], what: &str) -> Result<KvCacheItem, KvError> {
    let header_len = header_len(bytes, what)?;
    let header = bytes.get(..header_len).ok_or_else(|| {
        KvError::truncated(what, format!("its header ends after {} of {header_len} bytes", bytes.len()))
    })?;
    let (head, (_, data_len)) = read_head(&header[8..], what)?;
    // The tokens come last: where they end the file ends.
    let want = header_len.saturating_add(data_len);
    if bytes.len() < want {
        return Err(KvError::truncated(what, format!("it has {} of {want} bytes", bytes.len())));
    }
    verify(bytes, header, &head, what)?;
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|error| KvError::damaged(what, format!("it cannot be read: {error}")))?;
    check_sizes(&head, tensors.len(), bytes.len(), what)?;
    let tokens = read_tokens(tensor(&tensors, "tokens", Dtype::U32, &[head.item.n_tokens], what)?);
    let source = Source { tensors: &tensors, head: &head, what };
    let mut refused = None;
    let fingerprint = head.item.require_identity()?.weights;
    let segment = KvSegment::from_rows(head.shape, fingerprint, head.start, tokens, |layer| {
        let mut rows = |letter, axis| {
            source.rows(&format!("l{layer}.{letter}"), axis).map_err(|error| {
                let text = error.to_string();
                refused = Some(error);
                ModelError::Invalid(text)
            })
        };
        Ok((rows("k", Axis::Dimension)?, rows("v", Axis::Token)?))
    });
    let segment = match (segment, refused) {
        (Ok(segment), _) => segment,
        (Err(_), Some(error)) => return Err(error),
        (Err(error), None) => return Err(KvError::damaged(what, error)),
    };
    // Fewer bits are not what the model computes.
    let context = if head.encoding == KvEncoding::F16 { head.context } else { None };
    Ok(head.item.with_segment(Arc::new(segment.with_context(context))))
}

/// Refuses sizes that the file cannot hold: loops over heads and layers must end where the file does.
fn check_sizes(head: &Head, tensors: usize, file_bytes: usize, what: &str) -> Result<(), KvError> {
    let KvShape { layers, kv_heads, head_dim } = head.shape;
    let tokens = head.item.n_tokens;
    // Keys and values of one token, head and dimension take a byte at least, whatever the encoding.
    let least = [layers, kv_heads, head_dim, tokens].into_iter().try_fold(1_usize, usize::checked_mul);
    if layers <= tensors && least.is_some_and(|least| (1..=file_bytes).contains(&least)) {
        return Ok(());
    }
    Err(KvError::damaged(
        what,
        format!(
            "it says that its {tensors} tensors in {file_bytes} bytes hold {tokens} tokens in {layers} layers of \
             {kv_heads} heads of {head_dim}"
        ),
    ))
}

fn verify(bytes: &[u8], header: &[u8], head: &Head, what: &str) -> Result<(), KvError> {
    let differs = || KvError::damaged(what, "its checksum does not fit its content");
    let at = checksum_place(header, &head.checksum).ok_or_else(differs)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..at]);
    hasher.update(NO_CHECKSUM.as_bytes());
    hasher.update(&header[at + NO_CHECKSUM.len()..]);
    hasher.update(&bytes[header.len()..]);
    if hasher.finalize().to_hex().as_str() == head.checksum { Ok(()) } else { Err(differs()) }
}

/// Where the checksum stands in a header. A quote inside a text is written `\"`, so nothing else looks like it.
fn checksum_place(header: &[u8], checksum: &str) -> Option<usize> {
    if checksum.len() != NO_CHECKSUM.len() {
        return None;
    }
    let field = format!("\"checksum\":\"{checksum}\"");
    let at = header.windows(field.len()).position(|window| window == field.as_bytes())?;
    Some(at + field.len() - checksum.len() - 1)
}

/// The tensors of a file.
struct Source<'a> {
    tensors: &'a SafeTensors<'a>,
    head: &'a Head,
    what: &'a str,
}

impl<'a> Source<'a> {
    /// The rows of one layer's keys or values.
    fn rows(&self, name: &str, axis: Axis) -> Result<Cow<'a, [u16]>, KvError> {
        let shape = row_shape(self.head.shape, self.head.item.n_tokens);
        let RowShape { heads, tokens, dim } = shape;
        if self.head.encoding == KvEncoding::F16 {
            return self.halves(name, &[heads, tokens, dim]);
        }
        let whole = self.halves(&format!("{name}.whole"), &[heads, shape.whole(), dim])?.into_owned();
        let rest = shape.rest();
        let rows = if self.head.encoding == KvEncoding::Q8 {
            let scales = self.halves(&format!("{name}.scales"), &[heads, rest, shape.dim_groups()])?.into_owned();
            let codes = self.bytes(&format!("{name}.codes"), &[heads, rest, dim])?.to_vec();
            from_q8(&Q8 { whole, codes, scales }, shape)?
        } else {
            let groups = match axis {
                Axis::Dimension => [heads, shape.token_groups(), dim],
                Axis::Token => [heads, rest, shape.dim_groups()],
            };
            let scales = self.halves(&format!("{name}.scales"), &groups)?.into_owned();
            let minima = self.halves(&format!("{name}.minima"), &groups)?.into_owned();
            let codes = self.bytes(&format!("{name}.codes"), &[heads, rest, dim.div_ceil(2)])?.to_vec();
            from_q4(&Q4 { whole, codes, scales, minima }, shape, axis)?
        };
        Ok(Cow::Owned(rows))
    }

    fn bytes(&self, name: &str, shape: &[usize]) -> Result<&'a [u8], KvError> {
        tensor(self.tensors, name, Dtype::U8, shape, self.what)
    }

    /// f16 values, in place where the machine allows it.
    fn halves(&self, name: &str, shape: &[usize]) -> Result<Cow<'a, [u16]>, KvError> {
        let bytes = tensor(self.tensors, name, Dtype::F16, shape, self.what)?;
        match bytemuck::try_cast_slice(bytes) {
            Ok(values) if cfg!(target_endian = "little") => Ok(Cow::Borrowed(values)),
            _ => Ok(bytes.chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_bits()).collect()),
        }
    }
}

fn tensor<'a>(
    tensors: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
    what: &str,
) -> Result<&'a [u8], KvError> {
    let view = tensors.tensor(name).map_err(|_| KvError::damaged(what, format!("it lacks the tensor `{name}`")))?;
    if view.dtype() != dtype || view.shape() != shape {
        return Err(KvError::damaged(
            what,
            format!("`{name}` is {:?} {:?} instead of {dtype:?} {shape:?}", view.dtype(), view.shape()),
        ));
    }
    Ok(view.data())
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

#[cfg(test)]
mod tests;
