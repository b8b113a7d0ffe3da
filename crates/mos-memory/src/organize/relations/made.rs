//! Memories that are made of related ones.

use mos_core::{MemoryId, MemoryItem, MemoryType};

use super::super::facts::REASONING;
use super::super::topics::{Heading, Making, made_of};

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
    made_of(id, of, heading, Making { shelf: MemoryType::LongTerm, kind: REASONING, confidence, now })
}
