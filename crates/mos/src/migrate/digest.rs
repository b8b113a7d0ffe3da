//! What a scope holds, in numbers that are the same wherever it is.

use mos_core::{Direction, EmbeddingSpace, MemoryId, RecordArchive, Scope, StoreError, Version};
use serde::Serialize;
use serde_json::{Value, json};

use super::Tell;
use super::pages::{PAGE, ids_of};

/// How many things of a kind there are, and a sum over what they say that does not depend on the order in which they were
/// read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// How many.
    pub count: u64,
    sum: [u64; 4],
}

impl Part {
    pub(super) fn add(&mut self, value: &Value) {
        let mut hasher = blake3::Hasher::new();
        hash(&mut hasher, value);
        self.count += 1;
        let hash = hasher.finalize();
        for (sum, bytes) in self.sum.iter_mut().zip(hash.as_bytes().as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }

    /// The sum as hexadecimal text.
    pub fn digest(&self) -> String {
        self.sum.iter().map(|lane| format!("{lane:016x}")).collect()
    }
}

impl Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({"count": self.count, "digest": self.digest()}).serialize(serializer)
    }
}

/// What a scope holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Memories as they are, in their order, with number, origin and time of their last change.
    pub memories: Part,
    /// Edges.
    pub edges: Part,
    /// Embeddings that are searched, bit by bit.
    pub embeddings: Part,
    /// States that are over, removals among them.
    pub versions: Part,
    /// Idempotency keys.
    pub keys: Part,
    #[serde(skip)]
    space: Option<EmbeddingSpace>,
}

impl Contents {
    /// Returns in what two scopes differ, in words; nothing when they are equal.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = tell_apart([
            ("memories", &self.memories, &other.memories),
            ("edges", &self.edges, &other.edges),
            ("embeddings", &self.embeddings, &other.embeddings),
            ("earlier versions", &self.versions, &other.versions),
            ("idempotency keys", &self.keys, &other.keys),
        ]);
        if self.space != other.space {
            let name = |space: &Option<EmbeddingSpace>| space.as_ref().map_or("none".to_owned(), ToString::to_string);
            differences.push(format!("embedding model {} here, {} there", name(&self.space), name(&other.space)));
        }
        differences
    }
}

/// Returns in words which parts differ, each named, here and there.
pub(super) fn tell_apart<const N: usize>(parts: [(&str, &Part, &Part); N]) -> Vec<String> {
    let differ = parts.into_iter().filter(|(_, here, there)| here != there);
    let tell = |(what, here, there): (&str, &Part, &Part)| match (here.count, there.count) {
        (here, there) if here == there => format!("{here} {what}, but not the same ones"),
        (here, there) => format!("{here} {what} here, {there} there"),
    };
    differ.map(tell).collect()
}

/// Reads all of a scope.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub(super) async fn contents(
    record: &dyn RecordArchive,
    scope: &Scope,
    tell: &mut Tell<'_>,
) -> Result<Contents, StoreError> {
    let mut contents = Contents { space: record.embedding_space(scope).await?, ..Contents::default() };
    let mut after = None;
    loop {
        let memories = record.archived_memories(scope, after, PAGE).await?;
        let Some(last) = memories.last() else { break };
        after = Some(last.order);
        for memory in &memories {
            let rank = contents.memories.count;
            contents.memories.add(&json!([rank, state(&memory.id, &memory.version)]));
        }
        let ids = ids_of(&memories);
        for (id, vector) in record.embeddings(scope, &ids).await? {
            let bits: Vec<u32> = vector.iter().map(|number| number.to_bits()).collect();
            contents.embeddings.add(&json!([id, bits]));
        }
        for edge in record.edges(scope, &ids, Direction::Outgoing, None).await? {
            contents.edges.add(&json!([edge.source, edge.kind, edge.target]));
        }
        tell.done(contents.memories.count);
    }
    let mut after: Option<(MemoryId, u64)> = None;
    loop {
        let after_this = after.as_ref().map(|(id, number)| (id, *number));
        let versions = record.archived_versions(scope, after_this, PAGE).await?;
        let Some(last) = versions.last() else { break };
        after = Some((last.id.clone(), last.version.number));
        for version in &versions {
            contents.versions.add(&state(&version.id, &version.version));
        }
    }
    let mut after = None;
    loop {
        let receipts = record.archived_receipts(scope, after, PAGE).await?;
        let Some(last) = receipts.last() else { break };
        after = Some(last.order);
        for archived in &receipts {
            let receipt = &archived.receipt;
            contents.keys.add(&json!([archived.key, receipt.put, receipt.n_deleted, archived.at_s]));
        }
    }
    Ok(contents)
}

fn state(id: &MemoryId, version: &Version) -> Value {
    let item = version.item.as_ref().map(mos_core::MemoryItem::to_value);
    let origin = &version.origin;
    json!([id, version.number, item, origin.actor, origin.reason, origin.message_id, version.at])
}

/// Keys of objects count in the order of their names: where they stand says nothing.
fn hash(hasher: &mut blake3::Hasher, value: &Value) {
    let mut begin = |mark: u8, length: usize| {
        hasher.update(&[mark]);
        hasher.update(&(length as u64).to_le_bytes());
    };
    match value {
        Value::Array(values) => {
            begin(b'[', values.len());
            values.iter().for_each(|value| hash(hasher, value));
        }
        Value::Object(map) => {
            begin(b'{', map.len());
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                hash_text(hasher, key);
                hash(hasher, value);
            }
        }
        Value::String(text) => hash_text(hasher, text),
        simple => {
            let text = simple.to_string();
            begin(b'=', text.len());
            hasher.update(text.as_bytes());
        }
    }
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(b"\"");
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(values: &[Value]) -> Part {
        let mut part = Part::default();
        values.iter().for_each(|value| part.add(value));
        part
    }

    #[test]
    fn the_order_of_reading_and_of_keys_says_nothing_and_all_else_does() {
        let (a, b) = (json!({"x": [1, null], "y": "z"}), json!(["a", "b"]));
        assert_eq!(part(&[a.clone(), b.clone()]), part(&[b.clone(), a]));
        assert_eq!(part(&[json!({"x": 1, "y": 2})]), part(&[json!({"y": 2, "x": 1})]));
        let others = [
            json!(["ab", ""]),
            json!(["b", "a"]),
            json!([["a"], "b"]),
            json!("ab"),
            json!({"a": "b"}),
            json!(1),
            json!("1"),
        ];
        for other in others {
            assert_ne!(part(std::slice::from_ref(&b)), part(&[other]));
        }
        assert_ne!(part(std::slice::from_ref(&b)), part(&[b.clone(), b]), "twice is not once");
    }
}
