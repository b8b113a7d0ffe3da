//! Dumping an activation memory to a folder, and loading it.
//!
//! `<dir>/<memory_filename>` is an index (JSON); the items are files in `<dir>/<stem>.segments`, named by what they
//! hold. Items are written first and the index last, so an interrupted dump leaves the earlier one as it was; files
//! that no index names are removed by the next dump.
//!
//! Upstream's dumps have the same name and are told by their content.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use mos_core::{ActivationId, ModelError};
use mos_engine::{CancelToken, Fingerprint, KvSegment, KvShape, ModelIdentity};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic::{clean_left_overs, remove_if_there, write_bytes};
use crate::error::KvError;
use crate::file::{Stamp, prepare, read_item, write_prepared};
use crate::item::{KvCacheItem, KvRecords};
use crate::memory::KvCacheMemory;
use crate::pickle::{ImportedItem, looks_like_pickle, read_upstream_items};

const INDEX_FORMAT: &str = "mos-kv-index/1";
const INDEX_FORMAT_START: &str = "mos-kv-index/";
const FILE_END: &str = ".safetensors";
/// Hexadecimal digits of a file's name.
const NAME_DIGITS: usize = 64;
/// Token ids of imported items, which upstream does not keep.
const UNKNOWN_TOKEN: u32 = u32::MAX;

/// What to do with items that another model computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignItems {
    /// Refuse the whole dump.
    #[default]
    Refuse,
    /// Compute them again from their kept text; id, metadata and records stay.
    Recompute,
    /// Keep them as they are: they can be shown, dumped and recomputed, but not merged or used by this model.
    Keep,
}

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    format: String,
    model: ModelIdentity,
    items: Vec<IndexEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct IndexEntry {
    /// The file's name in the folder of segments.
    file: String,
    /// The item as its JSON form shows it; for people.
    item: Value,
}

impl KvCacheMemory {
    /// Writes all items to a folder, which is made when it is missing. After a crash the folder holds the earlier dump
    /// or this one. One at a time writes to a folder, and whoever reads meanwhile may have to read again.
    ///
    /// # Errors
    /// [`KvError::Io`]; as [`KvCacheMemory::get`].
    pub fn dump(&self, dir: &Path) -> Result<(), KvError> {
        self.dump_to(&dir.join(&self.memory_filename))
    }

    /// As [`KvCacheMemory::dump`], with an index of any name; the items are in `<stem>.segments` beside it.
    ///
    /// # Errors
    /// As [`KvCacheMemory::dump`].
    pub fn dump_to(&self, path: &Path) -> Result<(), KvError> {
        let folder = segments_folder(path);
        fs::create_dir_all(&folder).map_err(|error| KvError::io("cannot make", &folder, error))?;
        clean_left_overs(&folder)?;
        let mut entries = Vec::new();
        for head in self.get_all() {
            // Deleted since: then it need not be dumped.
            let Some(item) = self.get(head.id.as_str())? else { continue };
            let prepared = prepare(&item, self.encoding, Stamp::default())?;
            let file = format!("{}{FILE_END}", prepared.name());
            write_prepared(&folder.join(&file), &prepared)?;
            let shown = serde_json::to_value(&item).map_err(|error| KvError::internal("describing an item", error))?;
            entries.push(IndexEntry { file, item: shown });
        }
        let keep: HashSet<String> = entries.iter().map(|entry| entry.file.clone()).collect();
        let index = Index { format: INDEX_FORMAT.to_owned(), model: self.identity().clone(), items: entries };
        let text = serde_json::to_vec_pretty(&index).map_err(|error| KvError::internal("writing an index", error))?;
        clean_left_overs(path.parent().unwrap_or(Path::new(".")))?;
        write_bytes(path, &text)?;
        remove_others(&folder, &keep)
    }

    /// Reads a dumped folder, ours or upstream's, in place of what is stored. Returns how many items there were; a
    /// folder without a dump changes nothing and holds none.
    ///
    /// Items of another model are refused. Upstream's dumps name no model: their items are computed again from their
    /// texts.
    ///
    /// # Errors
    /// [`KvError::ForeignModel`]; [`KvError::Truncated`], [`KvError::Damaged`], [`KvError::Newer`] and
    /// [`KvError::Pickle`], which name the file: then everything is as it was. As [`KvCacheMemory::add`] while
    /// storing: then what was stored is taken back, as far as the tiers allow it.
    pub fn load(&self, dir: &Path) -> Result<usize, KvError> {
        self.load_with(dir, ForeignItems::Refuse)
    }

    /// As [`KvCacheMemory::load`], with a choice of what happens to items of another model.
    ///
    /// # Errors
    /// As [`KvCacheMemory::load`].
    pub fn load_with(&self, dir: &Path, foreign: ForeignItems) -> Result<usize, KvError> {
        self.load_from(&dir.join(&self.memory_filename), foreign)
    }

    /// As [`KvCacheMemory::load_with`], from an index of any name.
    ///
    /// # Errors
    /// As [`KvCacheMemory::load`].
    pub fn load_from(&self, path: &Path, foreign: ForeignItems) -> Result<usize, KvError> {
        let mut start = Vec::new();
        match File::open(path).and_then(|file| file.take(16).read_to_end(&mut start)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(KvError::io("cannot read", path, error)),
        }
        if looks_like_pickle(&start) {
            let recompute = if foreign == ForeignItems::Refuse { ForeignItems::Recompute } else { foreign };
            let items = import_pickle(path)?.into_iter().map(|item| self.accept(item, recompute));
            return self.replace_all(items);
        }
        let index = read_index(path)?;
        let folder = segments_folder(path);
        // All of it is looked at before anything is changed.
        for entry in &index.items {
            let item = read_entry(&folder, entry, path)?;
            if foreign == ForeignItems::Refuse {
                item.check_model(self.identity())?;
            }
        }
        let items = index.items.iter().map(|entry| self.accept(read_entry(&folder, entry, path)?, foreign));
        self.replace_all(items)
    }

    fn accept(&self, item: KvCacheItem, foreign: ForeignItems) -> Result<KvCacheItem, KvError> {
        match (item.check_model(self.identity()), foreign) {
            (Ok(()), _) | (_, ForeignItems::Keep) => Ok(item),
            (Err(error), ForeignItems::Refuse) => Err(error),
            (Err(_), ForeignItems::Recompute) => match self.extractor.recompute(&item, &CancelToken::default()) {
                Err(KvError::NoText(id)) if item.segment().is_some() => {
                    tracing::warn!(id, "an item of another model keeps no text; it can be shown and dumped, not used");
                    Ok(item)
                }
                recomputed => recomputed,
            },
        }
    }

    /// Stores items and then removes all others; an error takes back what was stored.
    fn replace_all(&self, items: impl Iterator<Item = Result<KvCacheItem, KvError>>) -> Result<usize, KvError> {
        let before: Vec<ActivationId> = self.get_all().into_iter().map(|item| item.id).collect();
        let mut undo: Vec<(ActivationId, Option<KvCacheItem>)> = Vec::new();
        let mut put = |item: KvCacheItem| {
            let earlier = self.get(item.id.as_str())?;
            self.add_one(&item)?;
            undo.push((item.id, earlier));
            Ok(())
        };
        let mut loaded = HashSet::new();
        for item in items {
            let result = item.and_then(|item| {
                loaded.insert(item.id.clone());
                put(item)
            });
            if let Err(error) = result {
                for (id, earlier) in undo.into_iter().rev() {
                    let undone = match earlier {
                        Some(earlier) => self.add_one(&earlier),
                        None => self.delete(std::slice::from_ref(&id)).map(drop),
                    };
                    if let Err(error) = undone {
                        tracing::error!(%error, %id, "an item could not be put back as it was before the load");
                    }
                }
                return Err(error);
            }
        }
        let others: Vec<ActivationId> = before.into_iter().filter(|id| !loaded.contains(id)).collect();
        self.delete(&others)?;
        Ok(loaded.len())
    }
}

/// Returns the folder of an index' items.
fn segments_folder(index: &Path) -> PathBuf {
    let mut name = index.file_stem().unwrap_or_default().to_owned();
    name.push(".segments");
    index.with_file_name(name)
}

fn read_index(path: &Path) -> Result<Index, KvError> {
    let what = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| KvError::io("cannot read", path, error))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        if error.is_eof() {
            KvError::truncated(what.clone(), "the index ends too early")
        } else {
            KvError::damaged(what.clone(), format!("it is neither an index of this program nor a pickle: {error}"))
        }
    })?;
    let format = value["format"].as_str().unwrap_or_default();
    if format != INDEX_FORMAT {
        return Err(if format.starts_with(INDEX_FORMAT_START) {
            KvError::Newer { what, found: format.to_owned(), known: INDEX_FORMAT }
        } else {
            KvError::damaged(what, "it is JSON, but not the index of an activation memory")
        });
    }
    serde_json::from_value(value).map_err(|error| KvError::damaged(what, format!("its index makes no sense: {error}")))
}

fn read_entry(folder: &Path, entry: &IndexEntry, index: &Path) -> Result<KvCacheItem, KvError> {
    let IndexEntry { file, item: shown } = entry;
    if !is_item_file(file) {
        return Err(KvError::damaged(index.display().to_string(), format!("it names the file `{file}`")));
    }
    let path = folder.join(file);
    let item = read_item(&path)?;
    if shown["id"].as_str() != Some(item.id.as_str()) {
        return Err(KvError::damaged(path.display().to_string(), format!("it holds item {} instead", item.id)));
    }
    Ok(item)
}

/// Whether a name is one that [`KvCacheMemory::dump`] gives: nothing else is read or removed.
fn is_item_file(name: &str) -> bool {
    name.strip_suffix(FILE_END)
        .is_some_and(|digits| digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn remove_others(folder: &Path, keep: &HashSet<String>) -> Result<(), KvError> {
    let failed = |error| KvError::io("cannot clean", folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if is_item_file(name) && !keep.contains(name) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads upstream's dump, without executing anything in it. Nothing is stored.
///
/// Its file names no model and no tokens: the items belong to a model of their own, which no open model is, so they
/// can be shown, dumped and merged with one another, and [`KvCacheMemory::recompute`] makes them usable. An item of
/// the server backend has no keys and values, only its text.
///
/// # Errors
/// [`KvError::Pickle`]; [`KvError::Io`]; [`KvError::Invalid`] for an id that is none.
pub fn import_pickle(path: &Path) -> Result<Vec<KvCacheItem>, KvError> {
    let failed = |error| KvError::io("cannot read", path, error);
    let file = File::open(path).map_err(failed)?;
    let empty = file.metadata().map_err(failed)?.len() == 0;
    if empty {
        return Err(KvError::truncated(path.display().to_string(), "it is empty"));
    }
    // SAFETY: dumps are replaced as a whole, never written again; the reader copies whatever it keeps.
    #[allow(unsafe_code, reason = "dumps are as large as the caches in them")]
    let bytes = unsafe { Mmap::map(&file) }.map_err(failed)?;
    let refused = |source| KvError::Pickle { path: path.display().to_string(), source };
    let identity = ModelIdentity {
        weights: Fingerprint(*blake3::hash(&bytes).as_bytes()),
        tokenizer: [0; 32],
        template: [0; 32],
        rope_layout: mos_engine::RopeLayout::Halves,
        name: "unknown (imported from a pickle)".to_owned(),
    };
    let items = read_upstream_items(&bytes).map_err(refused)?;
    items.into_iter().map(|item| imported(item, &identity, path)).collect()
}

fn imported(item: ImportedItem<'_>, identity: &ModelIdentity, path: &Path) -> Result<KvCacheItem, KvError> {
    let id = ActivationId::parse(item.id.as_str()).map_err(|error| KvError::Invalid(error.to_string()))?;
    let text = item.metadata.get("source_text").and_then(Value::as_str).or(item.prompt.as_deref()).unwrap_or_default();
    let records = match item.records {
        Some(records) => KvRecords {
            text_memories: records.text_memories,
            composed_text_memory: records.composed_text_memory,
            timestamp: records.timestamp.unwrap_or_default(),
        },
        None => KvRecords {
            text_memories: if text.is_empty() { Vec::new() } else { vec![text.to_owned()] },
            composed_text_memory: text.to_owned(),
            timestamp: item.metadata.get("extracted_at").and_then(Value::as_str).unwrap_or_default().to_owned(),
        },
    };
    let Some(first) = item.layers.first().filter(|layer| layer.keys.tokens() > 0) else {
        // Only a text, or nothing at all.
        let bare = serde_json::json!({"id": id});
        let bare = KvCacheItem::from_value(bare, String::new)?;
        return Ok(KvCacheItem { metadata: item.metadata, records, identity: Some(identity.clone()), ..bare });
    };
    let shape = KvShape { layers: item.layers.len(), kv_heads: first.keys.heads(), head_dim: first.keys.head_dim() };
    let tokens = vec![UNKNOWN_TOKEN; first.keys.tokens()];
    let mut refused = None;
    let segment = KvSegment::from_rows(shape, identity.weights, 0, tokens, |layer| {
        let layer = &item.layers[layer];
        match (layer.keys.to_f16_bits(), layer.values.to_f16_bits()) {
            (Ok(keys), Ok(values)) => Ok((keys.into(), values.into())),
            (Err(error), _) | (_, Err(error)) => {
                let text = error.to_string();
                refused = Some(error);
                Err(ModelError::Invalid(text))
            }
        }
    });
    let segment = match (segment, refused) {
        (Ok(segment), _) => segment.with_context(None),
        (Err(_), Some(source)) => return Err(KvError::Pickle { path: path.display().to_string(), source }),
        (Err(error), None) => return Err(error.into()),
    };
    let new = KvCacheItem::new(id, identity.clone(), Arc::new(segment));
    Ok(KvCacheItem { metadata: item.metadata, records, ..new })
}
