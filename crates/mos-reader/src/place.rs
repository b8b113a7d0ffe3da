//! Which item of the input is meant, and what became of it.

use std::collections::BTreeMap;

use mos_core::{Dropped, ItemReport, Outcome, ReadReport};

/// An item of the input or a part of one, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) item: usize,
    pub(crate) part: Option<usize>,
}

impl Place {
    pub(crate) fn item(item: usize) -> Self {
        Self { item, part: None }
    }
}

/// More warnings than these tell nobody anything.
const MAX_WARNINGS: usize = 100;

/// A [`ReadReport`] that is being written.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: BTreeMap<Place, Entry>,
    dropped: Vec<Dropped>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    what: Option<String>,
    outcome: Outcome,
    reason: Option<String>,
}

impl Log {
    /// Notes that an item is kept; `what` says what it is when that is not plain text.
    pub(crate) fn kept(&mut self, place: Place, what: Option<String>) {
        self.entries.insert(place, Entry { what, outcome: Outcome::Kept, reason: None });
    }

    /// Notes what came of an item that is not simply kept. Of several reasons the first is told.
    pub(crate) fn set(&mut self, place: Place, outcome: Outcome, reason: impl Into<String>) {
        let entry = self.entries.entry(place).or_insert(Entry { what: None, outcome: Outcome::Kept, reason: None });
        if entry.reason.is_none() {
            entry.outcome = outcome;
            entry.reason = Some(reason.into());
        }
    }

    pub(crate) fn dropped(&mut self, memory: impl Into<String>, reason: impl Into<String>) {
        self.dropped.push(Dropped { memory: memory.into(), reason: reason.into() });
    }

    /// Notes a warning once.
    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(crate) fn into_report(self) -> ReadReport {
        let items = self.entries.into_iter().map(|(place, entry)| {
            let part = place.part.map(|part| format!(", part {}", part + 1)).unwrap_or_default();
            let what = entry.what.map(|what| format!(" ({what})")).unwrap_or_default();
            ItemReport {
                item: format!("item {}{part}{what}", place.item + 1),
                outcome: entry.outcome,
                reason: entry.reason,
            }
        });
        ReadReport { items: items.collect(), dropped: self.dropped, warnings: self.warnings, ..ReadReport::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_their_order_with_their_first_reason() {
        let mut log = Log::default();
        let part = Place { item: 0, part: Some(1) };
        log.kept(part, Some("file a.md".to_owned()));
        log.kept(Place::item(0), None);
        log.set(part, Outcome::Reference, "not fetched");
        log.set(part, Outcome::NotKept, "later");
        log.warn("w");
        log.warn("w");
        let report = log.into_report();
        let told: Vec<(&str, Outcome)> = report.items.iter().map(|one| (one.item.as_str(), one.outcome)).collect();
        assert_eq!(told, [("item 1", Outcome::Kept), ("item 1, part 2 (file a.md)", Outcome::Reference)]);
        assert_eq!(report.items[1].reason.as_deref(), Some("not fetched"));
        assert_eq!(report.warnings, ["w"]);
    }
}
