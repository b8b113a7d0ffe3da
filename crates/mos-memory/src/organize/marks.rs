//! What was decided about a memory and is not to be asked again, kept in `metadata.internal_info.organize`.
//!
//! A mark names the texts that were judged, by their fingerprint: when a text changes, the question is open again.

use mos_core::{MemoryId, MemoryItem};
use serde_json::{Map, Value};

const FIELD: &str = "organize";

/// The most pairs of one kind that a memory remembers; the oldest are forgotten.
const MAX_PAIRS: usize = 64;

/// What was decided about a pair of memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairMark {
    /// They contradict or repeat each other in nothing.
    Independent,
    /// A model has said how they are related, if at all.
    Related,
    /// A model was asked what follows from them.
    Inferred,
}

/// What was decided about one memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnMark {
    /// A model found no topic for it.
    NoTopic,
    /// A model was asked to sum up what is related to it.
    Aggregated,
}

impl PairMark {
    fn key(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::Related => "related",
            Self::Inferred => "inferred",
        }
    }
}

impl OwnMark {
    fn key(self) -> &'static str {
        match self {
            Self::NoTopic => "no_topic",
            Self::Aggregated => "aggregated",
        }
    }
}

/// Whether either memory remembers this of the other, with the texts that both have now.
pub(super) fn has_pair(mark: PairMark, left: &MemoryItem, right: &MemoryItem) -> bool {
    let print = pair_fingerprint(left, right);
    let knows = |item: &MemoryItem, other: &MemoryId| {
        let pairs = marks(item).and_then(|marks| marks.get(mark.key())?.as_object());
        pairs.and_then(|pairs| pairs.get(other.as_str())?.as_str()) == Some(print.as_str())
    };
    knows(left, &right.id) || knows(right, &left.id)
}

/// Makes `item` remember this of `other`.
pub(super) fn set_pair(mark: PairMark, item: &mut MemoryItem, other: &MemoryItem) {
    let print = pair_fingerprint(item, other);
    let pairs = object(object(marks_mut(item), FIELD), mark.key());
    pairs.shift_remove(other.id.as_str());
    while pairs.len() >= MAX_PAIRS {
        let oldest = pairs.keys().next().cloned().unwrap_or_default();
        pairs.shift_remove(&oldest);
    }
    pairs.insert(other.id.to_string(), Value::from(print));
}

/// Whether a memory remembers this, with the text that it has now.
pub(super) fn has_own(mark: OwnMark, item: &MemoryItem) -> bool {
    let known = marks(item).and_then(|marks| marks.get(mark.key())?.as_str());
    known == Some(fingerprint([item.memory.as_str()]).as_str())
}

/// Makes a memory remember this.
pub(super) fn set_own(mark: OwnMark, item: &mut MemoryItem) {
    let print = fingerprint([item.memory.as_str()]);
    object(marks_mut(item), FIELD).insert(mark.key().to_owned(), Value::from(print));
}

/// Names the texts of two memories, whatever their order.
pub(super) fn pair_fingerprint(left: &MemoryItem, right: &MemoryItem) -> String {
    let (first, second) = if left.id <= right.id { (left, right) } else { (right, left) };
    fingerprint([first.memory.as_str(), second.memory.as_str()])
}

fn marks(item: &MemoryItem) -> Option<&Map<String, Value>> {
    item.metadata.internal_info.as_ref()?.get(FIELD)?.as_object()
}

fn marks_mut(item: &mut MemoryItem) -> &mut Map<String, Value> {
    item.metadata.internal_info.get_or_insert_with(Map::new)
}

/// The object under a key; whatever else stood there gives way.
fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(inner) => inner,
        _ => unreachable!("it was made an object above"),
    }
}

/// 64-bit FNV-1a of texts, in hexadecimal. It guards against asking again, not against an adversary.
fn fingerprint<const N: usize>(texts: [&str; N]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        // 0xff stands in no text, so that "a" and "bc" differ from "ab" and "c".
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, memory: &str) -> MemoryItem {
        MemoryItem::new(MemoryId::new(id), memory)
    }

    #[test]
    fn a_pair_is_remembered_by_either_until_a_text_changes() {
        let (mut left, right) = (item("1", "tea"), item("2", "coffee"));
        assert!(!has_pair(PairMark::Independent, &left, &right));
        set_pair(PairMark::Independent, &mut left, &right);
        assert!(has_pair(PairMark::Independent, &left, &right) && has_pair(PairMark::Independent, &right, &left));
        assert!(!has_pair(PairMark::Related, &left, &right));
        assert!(!has_pair(PairMark::Independent, &left, &item("2", "milk")));
    }

    #[test]
    fn remembered_pairs_are_bounded() {
        let mut one = item("1", "tea");
        for number in 0..200 {
            set_pair(PairMark::Related, &mut one, &item(&format!("other {number}"), "text"));
        }
        let known = |number: usize| has_pair(PairMark::Related, &one, &item(&format!("other {number}"), "text"));
        assert!(known(199) && known(136) && !known(135) && !known(0));
    }

    #[test]
    fn own_marks_hold_for_a_text_and_leave_other_data_alone() {
        let mut one = item("1", "tea");
        one.metadata.internal_info = Some(Map::from_iter([("kept".to_owned(), Value::from(1))]));
        set_own(OwnMark::NoTopic, &mut one);
        assert!(has_own(OwnMark::NoTopic, &one) && !has_own(OwnMark::Aggregated, &one));
        assert_eq!(one.metadata.internal_info.as_ref().unwrap()["kept"], 1);
        one.memory = "coffee".to_owned();
        assert!(!has_own(OwnMark::NoTopic, &one));
    }
}
