//! A kept cache and what is known about it.

use std::sync::Arc;

use mos_core::ActivationId;
use mos_engine::{KvSegment, KvShape, ModelIdentity};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::KvError;

/// The texts that a cache was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KvRecords {
    /// The texts, one by one.
    pub text_memories: Vec<String>,
    /// The one text that they were put together to.
    pub composed_text_memory: String,
    /// When, ISO 8601.
    pub timestamp: String,
}

/// What a cache takes, as its JSON form shows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvSummary {
    /// Layers of the model.
    pub num_layers: usize,
    /// Bytes of all keys and values.
    pub size_bytes: u64,
    /// The same in units of 1,048,576 bytes.
    pub size_mb: f64,
}

impl KvSummary {
    /// Returns what `tokens` tokens take in a model of this shape.
    pub fn new(shape: KvShape, tokens: usize) -> Self {
        let values = 2 * shape.layers * shape.kv_heads * shape.head_dim * tokens;
        let size_bytes = values as u64 * 2;
        Self { num_layers: shape.layers, size_bytes, size_mb: size_bytes as f64 / f64::from(1 << 20) }
    }
}

/// Keys and values of one text, with the text, its metadata and the model that computed them.
///
/// Its JSON form is `{id, memory: {num_layers, size_bytes, size_mb}, metadata, records}`: keys and values never
/// appear there. On input `kv_cache_id` and `kv_cache` are accepted for `id` and `memory`; an item that was read
/// from JSON holds no keys and values.
#[derive(Clone, Debug)]
pub struct KvCacheItem {
    /// Names the item for its whole life.
    pub id: ActivationId,
    /// Free data; an extracted item has `source_text` and `extracted_at`.
    pub metadata: Map<String, Value>,
    /// The texts.
    pub records: KvRecords,
    pub(crate) identity: Option<ModelIdentity>,
    pub(crate) summary: Option<KvSummary>,
    pub(crate) n_tokens: usize,
    pub(crate) saved_seconds: f64,
    pub(crate) segment: Option<Arc<KvSegment>>,
}

impl KvCacheItem {
    /// Returns an item that holds `segment`, which `identity` computed.
    pub fn new(id: ActivationId, identity: ModelIdentity, segment: Arc<KvSegment>) -> Self {
        Self {
            id,
            metadata: Map::new(),
            records: KvRecords::default(),
            identity: Some(identity),
            summary: Some(KvSummary::new(segment.shape(), segment.len())),
            n_tokens: segment.len(),
            saved_seconds: 0.0,
            segment: Some(segment),
        }
    }

    /// Returns the keys and values; `None` when the item was read from JSON, or comes from a list that leaves them
    /// in their tier.
    pub fn segment(&self) -> Option<&Arc<KvSegment>> {
        self.segment.as_ref()
    }

    /// Returns the model that the item belongs to; `None` for an item that was read from JSON.
    pub fn identity(&self) -> Option<&ModelIdentity> {
        self.identity.as_ref()
    }

    /// Returns what the cache takes; `None` when that is not known.
    pub fn summary(&self) -> Option<KvSummary> {
        self.summary
    }

    /// Returns the number of tokens; 0 when it is not known.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Returns the seconds that computing it took; what a hit saves. 0 when it was not measured.
    pub fn saved_seconds(&self) -> f64 {
        self.saved_seconds
    }

    /// Sets the seconds that a hit saves; tiers admit items by this, per byte.
    #[must_use]
    pub fn with_saved_seconds(mut self, seconds: f64) -> Self {
        self.saved_seconds = seconds;
        self
    }

    /// Returns the item without its keys and values.
    #[must_use]
    pub(crate) fn head(&self) -> Self {
        Self { segment: None, ..self.clone() }
    }

    /// Returns the item with its keys and values.
    #[must_use]
    pub(crate) fn with_segment(mut self, segment: Arc<KvSegment>) -> Self {
        self.summary = Some(KvSummary::new(segment.shape(), segment.len()));
        self.n_tokens = segment.len();
        self.segment = Some(segment);
        self
    }

    pub(crate) fn require_segment(&self) -> Result<&Arc<KvSegment>, KvError> {
        self.segment.as_ref().ok_or_else(|| KvError::NoState(self.id.to_string()))
    }

    pub(crate) fn require_identity(&self) -> Result<&ModelIdentity, KvError> {
        self.identity.as_ref().ok_or_else(|| KvError::NoState(self.id.to_string()))
    }

    /// Refuses an item of another model than `model`.
    ///
    /// # Errors
    /// [`KvError::ForeignModel`], which names both; [`KvError::NoState`] for an item that was read from JSON.
    pub fn check_model(&self, model: &ModelIdentity) -> Result<(), KvError> {
        let own = self.require_identity()?;
        if own.matches(model) {
            return Ok(());
        }
        Err(KvError::ForeignModel { what: format!("item {}", self.id), found: describe(own), wanted: describe(model) })
    }

    /// Reads an item from its JSON form; a missing id is filled by `new_id`.
    ///
    /// # Errors
    /// [`KvError::Invalid`], which names the field.
    pub fn from_value(mut value: Value, new_id: impl FnOnce() -> String) -> Result<Self, KvError> {
        if let Some(map) = value.as_object_mut()
            && !map.contains_key("id")
            && !map.contains_key("kv_cache_id")
        {
            map.insert("id".to_owned(), Value::String(new_id()));
        }
        serde_json::from_value(value).map_err(|error| KvError::Invalid(format!("not a cache item: {error}")))
    }
}

/// The name of a model with enough of its fingerprints to tell it from another of the same name.
pub(crate) fn describe(identity: &ModelIdentity) -> String {
    let short = |bytes: &[u8; 32]| bytes[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!(
        "`{}` (weights {}, tokenizer {}, template {}, rope {:?})",
        identity.name,
        short(&identity.weights.0),
        short(&identity.tokenizer),
        short(&identity.template),
        identity.rope_layout
    )
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a ActivationId,
    memory: Option<KvSummary>,
    metadata: &'a Map<String, Value>,
    records: &'a KvRecords,
}

impl Serialize for KvCacheItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown { id: &self.id, memory: self.summary, metadata: &self.metadata, records: &self.records }
            .serialize(serializer)
    }
}

#[derive(Deserialize)]
struct Read {
    #[serde(alias = "kv_cache_id")]
    id: ActivationId,
    #[serde(alias = "kv_cache", default)]
    memory: Option<KvSummary>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    records: KvRecords,
}

impl<'de> Deserialize<'de> for KvCacheItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Read { id, memory, metadata, records } = Read::deserialize(deserializer)?;
        let id = ActivationId::parse(id.as_str()).map_err(serde::de::Error::custom)?;
        Ok(Self {
            id,
            metadata,
            records,
            identity: None,
            summary: memory,
            n_tokens: 0,
            saved_seconds: 0.0,
            segment: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn old_field_names_are_accepted_and_new_ones_written() {
        let value = json!({"kv_cache_id": "a", "kv_cache": {"num_layers": 2, "size_bytes": 64, "size_mb": 0.5},
                           "metadata": {"source_text": "x"}});
        let item: KvCacheItem = serde_json::from_value(value).unwrap();
        assert_eq!(
            serde_json::to_value(&item).unwrap(),
            json!({"id": "a", "memory": {"num_layers": 2, "size_bytes": 64, "size_mb": 0.5},
                   "metadata": {"source_text": "x"},
                   "records": {"text_memories": [], "composed_text_memory": "", "timestamp": ""}})
        );
        assert!(item.segment().is_none());
    }

    #[test]
    fn a_missing_id_is_filled_and_a_bad_one_is_refused() {
        let item = KvCacheItem::from_value(json!({}), || "new".to_owned()).unwrap();
        assert_eq!(item.id.as_str(), "new");
        for bad in [json!({"id": ""}), json!({"id": 3}), json!([]), json!({"id": "a", "metadata": 1})] {
            assert!(matches!(KvCacheItem::from_value(bad, String::new), Err(KvError::Invalid(_))));
        }
    }

    #[test]
    fn sizes_are_those_of_the_tensors() {
        let shape = KvShape { layers: 28, kv_heads: 8, head_dim: 128 };
        let summary = KvSummary::new(shape, 7);
        assert_eq!((summary.num_layers, summary.size_bytes), (28, 28 * 2 * 8 * 7 * 128 * 2));
    }
}
