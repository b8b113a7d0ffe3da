//! Reading the file of an item. Nothing is believed before the checksum fits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use half::f16;
use memmap2::Mmap;
use mos_core::ModelError;
use mos_engine::{KvSegment, KvShape, ModelIdentity};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;

use super::layout::{FORMAT, FORMAT_START, MAX_HEADER, NO_CHECKSUM, checksum_place, row_shape};
use crate::error::KvError;
use crate::item::KvCacheItem;
use crate::quantize::{Axis, KvEncoding, Q4, Q8, RowShape, from_q4, from_q8};

/// Reads an item's file: it is mapped, its checksum verified, and the keys and values taken over.
///
/// # Errors
/// [`KvError::Truncated`], [`KvError::Damaged`], [`KvError::Newer`], which name the file; [`KvError::Io`].
pub fn read_item(path: &Path) -> Result<KvCacheItem, KvError> {
    decode(&mapped(path)?, &path.display().to_string())
}

/// Refuses an item's file whose content is not what was written; the keys and values are not taken over.
///
/// # Errors
/// As [`read_item`].
pub(crate) fn check_item(path: &Path) -> Result<(), KvError> {
    verified(&mapped(path)?, &path.display().to_string()).map(drop)
}

fn mapped(path: &Path) -> Result<Mmap, KvError> {
    let file = File::open(path).map_err(|error| KvError::io("cannot read", path, error))?;
    let length = file.metadata().map_err(|error| KvError::io("cannot read", path, error))?.len();
    if length == 0 {
        return Err(KvError::truncated(path.display().to_string(), "it is empty"));
    }
    // SAFETY: files of items are replaced by renames and never written again.
    #[allow(unsafe_code, reason = "a copy of the whole file would double the memory that loading takes")]
    let map = unsafe { Mmap::map(&file) };
    map.map_err(|error| KvError::io("cannot map", path, error))
}

/// What a header says about an item.
#[derive(Debug)]
pub(crate) struct Head {
    /// The item without its keys and values.
    pub(crate) item: KvCacheItem,
    pub(crate) scope: String,
    /// As [`Stamp::written`](super::Stamp::written).
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
    // What the parser says may quote the header, and that holds texts.
    let metadata: Metadata = serde_json::from_slice(header).map_err(|error| {
        KvError::damaged(what, format!("its header is not understood, from byte {} on", error.column()))
    })?;
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
    let head = verified(bytes, what)?;
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

/// Returns what the header of a file says, once the checksum fits.
fn verified(bytes: &[u8], what: &str) -> Result<Head, KvError> {
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
    Ok(head)
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
