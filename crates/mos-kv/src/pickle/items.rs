//! From the objects of a pickle to the items of an activation memory.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::budget::Budget;
use super::error::{PickleError, shown};
use super::globals::{Class, describe};
use super::json::to_json;
use super::tensor::{Element, ImportedTensor};
use super::value::{Heap, Object, Value};

/// One item of upstream's activation memory. The tensors are views of the file.
#[derive(Clone, Debug)]
pub struct ImportedItem<'a> {
    /// The id under which upstream kept it.
    pub id: String,
    /// What upstream noted about it, for example `source_text` and `extracted_at`.
    pub metadata: Map<String, Json>,
    /// The texts it was made from; old files have none.
    pub records: Option<ImportedRecords>,
    /// Keys and values per layer; all layers have the same shape. Empty when the cache is, or when there is a prompt.
    pub layers: Vec<ImportedLayer<'a>>,
    /// The text that a server's own cache was loaded with: such an item has no tensors.
    pub prompt: Option<String>,
}

/// The texts that an item was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportedRecords {
    /// Each text.
    pub text_memories: Vec<String>,
    /// The texts put together.
    pub composed_text_memory: String,
    /// When they were put together, as ISO 8601; upstream's times are local and have no offset.
    pub timestamp: Option<String>,
}

/// Keys and values of one layer, `[1, heads, tokens, head_dim]` each.
#[derive(Clone, Debug)]
pub struct ImportedLayer<'a> {
    /// Keys, rotated by the positions they had.
    pub keys: ImportedTensor<'a>,
    /// Values.
    pub values: ImportedTensor<'a>,
}

type Fields<'h, 'a> = &'h [(Value<'a>, Value<'a>)];

/// Returns the items in the order of the file; of two with the same id the later one counts.
pub(super) fn read_items<'a>(
    root: Value<'a>,
    heap: &Heap<'a>,
    budget: &mut Budget,
) -> Result<Vec<ImportedItem<'a>>, PickleError> {
    let mut reader = Reader { heap, budget };
    let memories = match heap.dict(root) {
        Some(fields) => reader.field(fields, "kv_cache_memories")?.ok_or_else(|| {
            PickleError::layout("the file", "it has no `kv_cache_memories`; give the file that upstream's `dump` wrote")
        })?,
        None => root,
    };
    let entries: Vec<(Option<Value<'a>>, Value<'a>)> = match (heap.dict(memories), heap.list(memories)) {
        (Some(pairs), _) => {
            reader.budget.room::<[Option<Value<'a>>; 2]>(pairs.len(), 0)?;
            pairs.iter().map(|(key, item)| (Some(*key), *item)).collect()
        }
        (None, Some(items)) => {
            reader.budget.room::<[Option<Value<'a>>; 2]>(items.len(), 0)?;
            items.iter().map(|item| (None, *item)).collect()
        }
        (None, None) => {
            return Err(PickleError::layout(
                "the file",
                "it holds no items; give the file that upstream's `dump` wrote",
            ));
        }
    };
    let mut items: Vec<ImportedItem<'a>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (number, (key, value)) in entries.into_iter().enumerate() {
        let item = reader.item(number, key, value)?;
        if let Some(place) = places.get(&item.id) {
            items[*place] = item;
        } else {
            places.insert(item.id.clone(), items.len());
            items.push(item);
        }
    }
    Ok(items)
}

struct Reader<'a, 'b> {
    heap: &'b Heap<'a>,
    budget: &'b mut Budget,
}

impl<'a, 'b> Reader<'a, 'b> {
    /// Returns what a dictionary holds under `name`; the last entry counts, as in Python.
    fn field(&mut self, fields: Fields<'_, 'a>, name: &str) -> Result<Option<Value<'a>>, PickleError> {
        self.budget.steps(fields.len(), 0)?;
        Ok(fields.iter().rev().find(|(key, _)| self.heap.text(*key) == Some(name)).map(|(_, value)| *value))
    }

    /// Returns the first of several names that a dictionary has a value for.
    fn either(&mut self, fields: Fields<'_, 'a>, names: [&str; 2]) -> Result<Option<Value<'a>>, PickleError> {
        match self.field(fields, names[0])? {
            Some(value) => Ok(Some(value)),
            None => self.field(fields, names[1]),
        }
    }

    /// Returns the named values of an instance; `None` when it is no instance of these classes.
    fn state(&mut self, value: Value<'a>, classes: &[Class]) -> Result<Option<Fields<'b, 'a>>, PickleError> {
        let heap = self.heap;
        let state = match heap.of(value) {
            Some(Object::Instance { class, state }) if classes.contains(class) => *state,
            _ => return Ok(None),
        };
        let Some(state) = state else { return Ok(Some(&[])) };
        // A class with slots has a pair: what is in its dictionary, what is in its slots.
        let state = if let Some([state, _slots]) = heap.tuple(state) { *state } else { state };
        let Some(fields) = heap.dict(state) else { return Ok(None) };
        match self.field(fields, "__dict__")? {
            Some(inner) => Ok(heap.dict(inner)),
            None => Ok(Some(fields)),
        }
    }

    fn text(&mut self, value: Value<'a>, place: &str) -> Result<String, PickleError> {
        let Some(text) = self.heap.text(value) else {
            return Err(PickleError::layout(place, format!("it is {}, not a text", describe(value))));
        };
        self.budget.memory(text.len() + size_of::<String>(), 0)?;
        Ok(text.to_owned())
    }

    fn item(
        &mut self,
        number: usize,
        key: Option<Value<'a>>,
        value: Value<'a>,
    ) -> Result<ImportedItem<'a>, PickleError> {
        let place = format!("item {number}");
        let fields = self.state(value, &[Class::CacheItem, Class::PromptItem])?.ok_or_else(|| {
            PickleError::layout(&place, format!("it is {}, not an item of an activation memory", describe(value)))
        })?;
        let id = match (key, self.either(fields, ["id", "kv_cache_id"])?) {
            (Some(key), _) => self.text(key, &format!("the id of {place}"))?,
            (None, Some(id)) => self.text(id, &format!("the id of {place}"))?,
            (None, None) => return Err(PickleError::layout(&place, "it has no id")),
        };
        let place = format!("item `{}`", shown(&id));
        self.budget.room::<ImportedItem<'_>>(1, 0)?;
        // The id is kept twice while items with the same one are sought.
        self.budget.memory(id.len() + place.len(), 0)?;
        let metadata = match self.field(fields, "metadata")? {
            None | Some(Value::None) => Map::new(),
            Some(metadata) => {
                let place = format!("the metadata of {place}");
                match to_json(metadata, &place, self.heap, self.budget)? {
                    Json::Object(map) => map,
                    _ => return Err(PickleError::layout(place, "it is no dictionary")),
                }
            }
        };
        let records = match self.field(fields, "records")? {
            None | Some(Value::None) => None,
            Some(records) => Some(self.records(records, &format!("the records of {place}"))?),
        };
        let memory = self.either(fields, ["memory", "kv_cache"])?.unwrap_or(Value::None);
        let (layers, prompt) = match memory {
            Value::None => (Vec::new(), None),
            memory if self.heap.text(memory).is_some() => (Vec::new(), Some(self.text(memory, &place)?)),
            memory => (self.layers(memory, &place)?, None),
        };
        Ok(ImportedItem { id, metadata, records, layers, prompt })
    }

    fn records(&mut self, value: Value<'a>, place: &str) -> Result<ImportedRecords, PickleError> {
        let fields = self.state(value, &[Class::Records])?;
        let fields = fields.ok_or_else(|| PickleError::layout(place, format!("it is {}", describe(value))))?;
        let mut records = ImportedRecords::default();
        if let Some(texts) = self.field(fields, "text_memories")? {
            let texts =
                self.heap.list(texts).ok_or_else(|| PickleError::layout(place, "`text_memories` is no list"))?;
            for text in texts {
                records.text_memories.push(self.text(*text, place)?);
            }
        }
        if let Some(text) = self.field(fields, "composed_text_memory")? {
            records.composed_text_memory = self.text(text, place)?;
        }
        records.timestamp = match self.field(fields, "timestamp")? {
            None | Some(Value::None) => None,
            Some(time) => match self.heap.of(time) {
                Some(Object::Time(text)) => Some(text.clone()),
                _ => Some(self.text(time, place)?),
            },
        };
        Ok(records)
    }

    /// Reads a cache: `layers` of objects with `keys` and `values`, or, from older versions of transformers, the lists
    /// `key_cache` and `value_cache`.
    fn layers(&mut self, cache: Value<'a>, place: &str) -> Result<Vec<ImportedLayer<'a>>, PickleError> {
        let fields = self.state(cache, &[Class::Cache])?;
        let fields = fields.ok_or_else(|| PickleError::layout(place, format!("its cache is {}", describe(cache))))?;
        let mut pairs: Vec<[Option<Value<'a>>; 2]> = Vec::new();
        if let Some(layers) = self.field(fields, "layers")? {
            let layers = self.heap.list(layers).ok_or_else(|| PickleError::layout(place, "`layers` is no list"))?;
            self.budget.room::<[Option<Value<'a>>; 2]>(layers.len(), 0)?;
            for layer in layers {
                let fields = self.state(*layer, &[Class::Layer])?;
                let fields =
                    fields.ok_or_else(|| PickleError::layout(place, format!("a layer is {}", describe(*layer))))?;
                pairs.push([self.field(fields, "keys")?, self.field(fields, "values")?]);
            }
        } else {
            let keys = self.field(fields, "key_cache")?.and_then(|keys| self.heap.list(keys)).unwrap_or_default();
            let values =
                self.field(fields, "value_cache")?.and_then(|values| self.heap.list(values)).unwrap_or_default();
            if keys.len() != values.len() {
                return Err(PickleError::layout(place, "it has keys and values of different numbers of layers"));
            }
            self.budget.room::<[Option<Value<'a>>; 2]>(keys.len(), 0)?;
            pairs.extend(keys.iter().zip(values).map(|(keys, values)| [Some(*keys), Some(*values)]));
        }
        self.budget.room::<ImportedLayer<'_>>(pairs.len(), 0)?;
        let mut layers: Vec<ImportedLayer<'a>> = Vec::with_capacity(pairs.len());
        for (number, [keys, values]) in pairs.into_iter().enumerate() {
            let place = format!("layer {number} of {place}");
            let layer = ImportedLayer { keys: self.tensor(keys, &place)?, values: self.tensor(values, &place)? };
            let wanted = layers.first().map_or(layer.keys.shape, |first| first.keys.shape);
            if layer.keys.shape != wanted || layer.values.shape != wanted {
                let (keys, values) = (layer.keys.shape, layer.values.shape);
                let detail =
                    format!("keys have the sizes {keys:?}, values {values:?}, where the first layer has {wanted:?}");
                return Err(PickleError::layout(place, detail));
            }
            layers.push(layer);
        }
        Ok(layers)
    }

    fn tensor(&mut self, value: Option<Value<'a>>, place: &str) -> Result<ImportedTensor<'a>, PickleError> {
        let Some(Object::Tensor(parts)) = value.and_then(|value| self.heap.of(value)) else {
            return Err(PickleError::layout(place, "it has no tensor of keys, or none of values"));
        };
        let Object::Storage(storage) = self.heap.object(parts.storage) else {
            return Err(PickleError::layout(place, "its tensor has no storage"));
        };
        let sizes = <[usize; 4]>::try_from(parts.shape.as_slice()).ok().filter(|sizes| sizes[0] == 1);
        let (Some(shape), Ok(strides)) = (sizes, <[usize; 4]>::try_from(parts.strides.as_slice())) else {
            let detail = format!("a tensor has the sizes {:?}, not 1, heads, tokens and dimensions", parts.shape);
            return Err(PickleError::layout(place, detail));
        };
        if shape[2] > 0 && shape.contains(&0) {
            // Such a tensor holds nothing, however many tokens it claims.
            let detail = format!("a tensor has the sizes {shape:?}: tokens without any value");
            return Err(PickleError::layout(place, detail));
        }
        let Some((source, range)) = &storage.data else {
            return Err(PickleError::layout(place, "the elements of its tensor are missing"));
        };
        let Element::Float(element) = storage.element else {
            return Err(PickleError::layout(place, "its elements are neither float32, float16 nor bfloat16"));
        };
        // Sizes were checked against the storage: the product fits.
        self.budget.tensors(shape.iter().product::<usize>() * element.size(), 0)?;
        Ok(ImportedTensor { element, shape, strides, offset: parts.offset, source: source.clone(), start: range.start })
    }
}
