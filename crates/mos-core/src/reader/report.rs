//! What was kept of an input, what was not, and why.

use serde::Serialize;

use crate::memory::Quarantined;

/// What came of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its content is kept, as far as the mode asks for it.
    Kept,
    /// Its content is kept as it was; a model failed to refine it.
    Raw,
    /// That it was there is kept, its content is not.
    Reference,
    /// Nothing of it is kept.
    NotKept,
}

/// What came of one item of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ItemReport {
    /// Which one: `message 3`, `message 3, part 2 (file report.pdf)`; counted from 1.
    pub item: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it is not kept as it was meant, and what to do.
    pub reason: Option<String>,
}

impl ItemReport {
    /// Why messages of the application are not kept. They were never meant to be.
    pub const INSTRUCTIONS: &str = "instructions of the application are no memories";

    /// Whether something that was given to be remembered is not kept.
    pub fn is_lost(&self) -> bool {
        self.outcome == Outcome::NotKept && self.reason.as_deref() != Some(Self::INSTRUCTIONS)
    }
}

/// A memory that a model proposed and that is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Its text.
    pub memory: String,
    /// Why.
    pub reason: String,
}

/// What was kept, what was not, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReadReport {
    /// Every item of the input and every part that is no text, in order.
    pub items: Vec<ItemReport>,
    /// What a model proposed and the sources do not support.
    pub dropped: Vec<Dropped>,
    /// What is worth knowing besides: a misspelt tag, pages without text ...
    pub warnings: Vec<String>,
    /// Memories that are kept, and that no search finds until they are released: strangers wrote them in the manner of
    /// instructions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Quarantined>,
}

impl ReadReport {
    /// How many items have this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.items.iter().filter(|item| item.outcome == outcome).count()
    }

    /// Returns one sentence: `5 items: 3 kept, 1 as a reference, 1 not kept; 2 proposed memories dropped; 1 quarantined`.
    pub fn summary(&self) -> String {
        let counted = [
            (self.count(Outcome::Kept), "kept"),
            (self.count(Outcome::Raw), "kept as it was"),
            (self.count(Outcome::Reference), "as a reference"),
            (self.count(Outcome::NotKept), "not kept"),
        ];
        let parts: Vec<String> =
            counted.iter().filter(|(n, _)| *n > 0).map(|(n, words)| format!("{n} {words}")).collect();
        let noun = if self.items.len() == 1 { "item" } else { "items" };
        let mut text = format!("{} {noun}", self.items.len());
        if !parts.is_empty() {
            text.push_str(": ");
            text.push_str(&parts.join(", "));
        }
        if !self.dropped.is_empty() {
            let noun = if self.dropped.len() == 1 { "memory" } else { "memories" };
            text.push_str(&format!("; {} proposed {noun} dropped", self.dropped.len()));
        }
        if !self.quarantined.is_empty() {
            text.push_str(&format!("; {} quarantined", self.quarantined.len()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_there_is() {
        let item = |outcome| ItemReport { item: "message 1".to_owned(), outcome, reason: None };
        let mut report =
            ReadReport { items: vec![item(Outcome::Kept), item(Outcome::NotKept)], ..ReadReport::default() };
        assert_eq!(report.summary(), "2 items: 1 kept, 1 not kept");
        report.dropped.push(Dropped { memory: "x".to_owned(), reason: "y".to_owned() });
        assert_eq!(report.summary(), "2 items: 1 kept, 1 not kept; 1 proposed memory dropped");
        report.quarantined.push(Quarantined { id: "a".into(), reason: "gives the model orders".to_owned() });
        assert!(report.summary().ends_with(" dropped; 1 quarantined"));
        assert_eq!(ReadReport::default().summary(), "0 items");
    }
}
