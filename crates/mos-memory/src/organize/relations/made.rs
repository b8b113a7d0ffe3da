//! Memories that are made of related ones.

use mos_core::memory::{SourceKind, TreeFields};
use mos_core::{MemoryId, MemoryItem, MemoryType, Metadata, MetadataForm};

use super::super::facts::REASONING;
use super::super::topics::{Heading, shared, source_of};

/// How sure a conclusion is, as MemOS says.
const INFERRED: f64 = 0.9;

/// How sure a sum of memories is, as MemOS says.
const SUMMED: f64 = 0.99;

/// What was concluded from memories that are linked in this way.
pub(super) fn conclusion(id: MemoryId, sources: &[&MemoryItem], kind: &str, fact: String, now: &str) -> MemoryItem {
    let heading = Heading {
        key: format!("InferredFact:{kind}"),
        value: fact,
        tags: vec!["inferred".to_owned()],
        summary: String::new(),
    };
    made(id, sources, heading, INFERRED, now)
}

/// What related memories say together.
pub(super) fn sum(id: MemoryId, parts: &[&MemoryItem], heading: Heading, now: &str) -> MemoryItem {
    made(id, parts, heading, SUMMED, now)
}

fn made(id: MemoryId, of: &[&MemoryItem], heading: Heading, confidence: f64, now: &str) -> MemoryItem {
    let tree = TreeFields {
        memory_type: MemoryType::LongTerm,
        sources: Some(of.iter().map(|item| source_of(item)).collect()),
        created_at: Some(now.to_owned()),
        background: Some(heading.summary),
        ..TreeFields::default()
    };
    let metadata = Metadata {
        user_id: shared(of, |item| item.metadata.user_id.clone()),
        visibility: shared(of, |item| item.metadata.visibility),
        kind: Some(REASONING.to_owned()),
        key: Some(heading.key),
        confidence: Some(confidence),
        source: Some(SourceKind::System),
        tags: Some(heading.tags),
        updated_at: Some(now.to_owned()),
        form: MetadataForm::Tree(Box::new(tree)),
        ..Metadata::default()
    };
    MemoryItem { id, memory: heading.value, metadata }
}
