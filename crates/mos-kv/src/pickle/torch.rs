//! The two formats of `torch.save`, and plain pickles: where the object is, and where its storages' elements are.
//!
//! The older format is five pickles one after the other (a magic number, a version, facts about the machine, the
//! object, the storages' names), then per storage its length and its elements. The newer one is an uncompressed zip
//! archive with the object in `data.pkl` and a file per storage.

use std::io;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::budget::Budget;
use super::cursor::Cursor;
use super::error::{PickleError, shown};
use super::globals::Context;
use super::machine::read_pickle;
use super::tensor::Element;
use super::value::{Heap, Object, ObjectId, Source, Value};

/// 0x1950a86a20f9469cfc6c, lowest byte first: what the older format begins with.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The only version of the older format.
const VERSION: i64 = 1001;

/// What zip archives start with.
pub(super) const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Reads the object that a file holds, in any of the formats.
///
/// # Errors
/// The file is damaged, or holds something that is not allowed.
pub(super) fn read_object<'a>(
    bytes: &'a [u8],
    heap: &mut Heap<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, PickleError> {
    if bytes.starts_with(ZIP_MAGIC) {
        return read_archive(bytes, Context::Saved, heap, budget);
    }
    let mut cursor = Cursor::new(bytes);
    match read_pickle(&mut cursor, Context::Plain, heap, budget)? {
        Value::Long(magic) if magic == MAGIC => read_stream(bytes, cursor, Context::Saved, heap, budget),
        root => Ok(root),
    }
}

/// Reads a stream that holds one storage: the type of its elements, their number, and where they are in `bytes`.
///
/// # Errors
/// The stream is damaged, or holds anything else.
pub(super) fn read_storage(bytes: &[u8], budget: &mut Budget) -> Result<(Element, usize, Range<usize>), PickleError> {
    let mut heap = Heap::default();
    let root = if bytes.starts_with(ZIP_MAGIC) {
        read_archive(bytes, Context::Storage, &mut heap, budget)?
    } else {
        let mut cursor = Cursor::new(bytes);
        match read_pickle(&mut cursor, Context::Storage, &mut heap, budget)? {
            Value::Long(magic) if magic == MAGIC => read_stream(bytes, cursor, Context::Storage, &mut heap, budget)?,
            _ => return Err(PickleError::malformed(0, "the stream does not begin with torch's magic number")),
        }
    };
    match heap.of(root) {
        Some(Object::Storage(storage)) => match &storage.data {
            Some((_, range)) => Ok((storage.element, storage.count, range.clone())),
            None => Err(PickleError::malformed(0, "the storage has no elements in the stream")),
        },
        _ => Err(PickleError::malformed(0, "the stream holds something else than a storage")),
    }
}

/// Reads what follows the magic number of the older format.
fn read_stream<'a>(
    bytes: &'a [u8],
    mut cursor: Cursor<'a>,
    context: Context,
    heap: &mut Heap<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, PickleError> {
    let at = cursor.offset();
    match read_pickle(&mut cursor, Context::Storage, heap, budget)? {
        Value::Int(VERSION) => {}
        _ => return Err(PickleError::malformed(at, format!("torch's stream has another version than {VERSION}"))),
    }
    let at = cursor.offset();
    let machine = read_pickle(&mut cursor, Context::Storage, heap, budget)?;
    let order = heap.dict(machine).and_then(|facts| {
        facts.iter().rev().find_map(|(key, value)| (heap.text(*key) == Some("little_endian")).then_some(*value))
    });
    if !matches!(order, Some(Value::Bool(true))) {
        return Err(PickleError::malformed(at, "the tensors were not written on a little-endian machine"));
    }
    let root = read_pickle(&mut cursor, context, heap, budget)?;
    let at = cursor.offset();
    let names = read_pickle(&mut cursor, Context::Storage, heap, budget)?;
    let names = heap.list(names).ok_or_else(|| PickleError::malformed(at, "the storages' names are no list"))?;
    budget.room::<Value<'_>>(names.len(), at)?;
    let names = names.to_vec();
    for name in names {
        read_elements(bytes, &mut cursor, name, heap)?;
    }
    if heap.named.values().any(|id| matches!(heap.object(*id), Object::Storage(storage) if storage.data.is_none())) {
        return Err(PickleError::Truncated { what: "the storages", offset: cursor.offset() });
    }
    Ok(root)
}

/// Reads the number of elements, and steps over them.
fn read_elements<'a>(
    bytes: &'a [u8],
    cursor: &mut Cursor<'a>,
    name: Value<'a>,
    heap: &mut Heap<'a>,
) -> Result<(), PickleError> {
    let at = cursor.offset();
    let count = u64::from_le_bytes(cursor.array("a storage's length")?);
    let id = if let Value::Text(name) = name { heap.named.get(name).copied() } else { None };
    let Some(Object::Storage(storage)) = id.map(|id| heap.object_mut(id)) else {
        return Err(PickleError::malformed(at, "elements are given for a storage that the object does not use"));
    };
    if storage.data.is_some() || usize::try_from(count).ok() != Some(storage.count) {
        return Err(PickleError::malformed(at, "a storage has another number of elements than was declared"));
    }
    let size = storage.element.size();
    let len = storage.count.checked_mul(size).ok_or(PickleError::Truncated { what: "a storage", offset: at })?;
    let start = cursor.offset();
    cursor.take(len, "a storage")?;
    storage.data = Some((Source::File(bytes), start..start + len));
    Ok(())
}

fn read_archive<'a>(
    bytes: &'a [u8],
    context: Context,
    heap: &mut Heap<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, PickleError> {
    let mut archive = Archive::open(bytes, budget)?;
    if archive.find("byteorder", budget)?.is_some_and(|order| bytes[order] != *b"little") {
        return Err(PickleError::Archive("the tensors were not written on a little-endian machine".to_owned()));
    }
    let Some(object) = archive.find("data.pkl", budget)? else {
        return Err(PickleError::Archive("there is no `data.pkl`".to_owned()));
    };
    let root = read_pickle(&mut Cursor::new(&bytes[object]), context, heap, budget)?;
    let mut named: Vec<(&str, ObjectId)> = heap.named.iter().map(|(name, id)| (*name, *id)).collect();
    named.sort_unstable_by_key(|(name, _)| *name);
    for (name, id) in named {
        let found = archive.find(&format!("data/{name}"), budget)?;
        let Object::Storage(storage) = heap.object_mut(id) else { continue };
        let wanted = storage.count.checked_mul(storage.element.size());
        match found {
            Some(range) if Some(range.len()) == wanted => storage.data = Some((Source::File(bytes), range)),
            Some(_) => {
                return Err(PickleError::Archive(format!(
                    "the storage `{}` has another length than declared",
                    shown(name)
                )));
            }
            None => return Err(PickleError::Archive(format!("the storage `{}` is missing", shown(name)))),
        }
    }
    Ok(root)
}

/// A zip archive whose entries lie uncompressed in the file.
struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipArchive<io::Cursor<&'a [u8]>>,
    /// The folder that holds everything, with a slash at its end.
    folder: String,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, PickleError> {
        /// Bytes that an entry of the directory takes in memory.
        const ENTRY: usize = 512;
        let zip = ZipArchive::new(io::Cursor::new(bytes)).map_err(damaged)?;
        budget.memory(zip.len().saturating_mul(ENTRY), 0)?;
        let mut folders = Vec::new();
        for name in zip.file_names() {
            if let Some(folder) = name.map_err(damaged)?.strip_suffix("data.pkl") {
                folders.push(folder.to_owned());
            }
        }
        match folders.pop() {
            Some(folder) if folders.is_empty() && folder.ends_with('/') => Ok(Self { bytes, zip, folder }),
            _ => Err(PickleError::Archive("there is not exactly one folder with a `data.pkl`".to_owned())),
        }
    }

    /// Returns where an entry's bytes are, after a check of its checksum; `None` when there is no such entry.
    fn find(&mut self, name: &str, budget: &mut Budget) -> Result<Option<Range<usize>>, PickleError> {
        let name = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&name) else { return Ok(None) };
        let entry = self.zip.by_index_raw(index).map_err(damaged)?;
        if entry.compression() != CompressionMethod::Stored
            || entry.encrypted()
            || entry.compressed_size() != entry.size()
        {
            return Err(PickleError::Archive(format!(
                "`{}` is compressed or encrypted; torch writes neither",
                shown(&name)
            )));
        }
        let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
        let end = start.zip(usize::try_from(entry.size()).ok()).and_then(|(start, len)| start.checked_add(len));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(PickleError::Archive(format!("`{}` lies beyond the file's end", shown(&name))));
        };
        let data = self.bytes.get(start..end);
        let data =
            data.ok_or_else(|| PickleError::Archive(format!("`{}` lies beyond the file's end", shown(&name))))?;
        // Several entries may name the same bytes.
        budget.steps(data.len(), start)?;
        if crc32fast::hash(data) != entry.crc32() {
            return Err(PickleError::Archive(format!(
                "the checksum of `{}` does not match; copy the file again",
                shown(&name)
            )));
        }
        Ok(Some(start..end))
    }
}

fn damaged(error: zip::result::ZipError) -> PickleError {
    PickleError::Archive(shown(&error.to_string()))
}
