//! Memories that strangers wrote in the manner of instructions: kept apart, and told.
//!
//! Strangers are tools, pages and files at addresses ([`Trust::External`]). What the user or the assistant said, and files that
//! the user gave, are never kept apart, whatever they say. Detection follows from the text alone; no model is asked.

mod hidden;
mod marks;
mod phrases;
mod plain;

use mos_core::memory::{Quarantined, Trust};
use mos_core::{MemoryError, MemoryItem, Reading, Role};
use serde_json::Value;

use crate::turn::Turn;

/// From how many bytes on texts are looked through beside the threads that serve others.
const MANY_BYTES: usize = 64 * 1024;

/// What makes a text read like instructions to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sign {
    /// It asks to ignore instructions.
    Override,
    /// It gives the model another role, mode or goal.
    Role,
    /// It gives the model orders.
    Command,
    /// It asks for instructions, keys or secrets.
    Reveal,
    /// It has what is known sent elsewhere.
    Exfiltrate,
    /// It poses as another part of the conversation.
    Marker,
    /// It hides characters.
    Hidden,
}

impl Sign {
    /// Every sign, in order of declaration.
    pub const ALL: [Self; 7] =
        [Self::Override, Self::Role, Self::Command, Self::Reveal, Self::Exfiltrate, Self::Marker, Self::Hidden];

    /// The word for it in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Role => "role",
            Self::Command => "command",
            Self::Reveal => "reveal",
            Self::Exfiltrate => "exfiltrate",
            Self::Marker => "marker",
            Self::Hidden => "hidden",
        }
    }

    /// What it means, for people.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Override => "asks to ignore instructions",
            Self::Role => "gives the model another role",
            Self::Command => "gives the model orders",
            Self::Reveal => "asks for instructions or secrets",
            Self::Exfiltrate => "has data sent elsewhere",
            Self::Marker => "poses as another part of the conversation",
            Self::Hidden => "hides characters",
        }
    }
}

/// Returns the signs that a text reads like instructions to a model, each once, in order of declaration; none for an ordinary
/// one. English and Chinese are understood.
pub fn signs(text: &str) -> Vec<Sign> {
    let plain = plain::plain(text);
    let mut found = phrases::signs(&plain);
    if marks::poses_as_turn(&plain) {
        found.push(Sign::Marker);
    }
    if marks::has_leaking_image(&plain) {
        found.push(Sign::Exfiltrate);
    }
    if hidden::hides_characters(text) {
        found.push(Sign::Hidden);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Keeps a memory apart when a stranger wrote it in the manner of instructions, and returns it then with the reason.
fn keep_apart(item: &mut MemoryItem) -> Option<Quarantined> {
    let reason = reason(&strangers_words(item))?;
    Some(kept_apart(item, &reason))
}

/// Keeps a memory apart whose next text reads like instructions where its text before did not, when a stranger wrote what it was
/// drawn from. What was released stays so when other parts of it change. Long texts do not hold up others.
///
/// # Errors
/// [`MemoryError::Unsupported`] when the program is ending.
pub async fn keep_changed_apart(before: &str, mut next: MemoryItem) -> Result<MemoryItem, MemoryError> {
    if next.metadata.trust() != Trust::External || next.memory == before || next.quarantine_reason().is_some() {
        return Ok(next);
    }
    let (n_bytes, before) = (before.len() + next.memory.len(), before.to_owned());
    let look = move || {
        let known = signs(&before);
        let new: Vec<Sign> = signs(&next.memory).into_iter().filter(|sign| !known.contains(sign)).collect();
        if !new.is_empty() {
            next.quarantine(in_words(&new));
        }
        next
    };
    look_through(n_bytes, look).await
}

/// Keeps apart what belongs there among memories, and returns it. Long texts do not hold up others.
///
/// # Errors
/// [`MemoryError::Unsupported`] when the program is ending; the memories are lost then.
pub async fn keep_all_apart(items: &mut Vec<MemoryItem>) -> Result<Vec<Quarantined>, MemoryError> {
    let n_bytes = n_bytes(items.iter());
    let mut looked_at = std::mem::take(items);
    let look = move || {
        let found: Vec<Quarantined> = looked_at.iter_mut().filter_map(keep_apart).collect();
        (looked_at, found)
    };
    let (looked_at, found) = look_through(n_bytes, look).await?;
    *items = looked_at;
    Ok(found)
}

/// Keeps apart what belongs there of a reading, and notes it in its report. Long texts do not hold up others.
///
/// # Errors
/// [`MemoryError::Unsupported`] when the program is ending.
pub(crate) async fn checked(mut reading: Reading) -> Result<Reading, MemoryError> {
    let n_bytes = n_bytes(reading.raw.iter().chain(&reading.memories).chain(&reading.raw_files));
    let look = move || {
        reading.report.quarantined = keep_reading_apart(&mut reading);
        reading
    };
    look_through(n_bytes, look).await
}

/// How many bytes of memories are looked through.
fn n_bytes<'a>(items: impl Iterator<Item = &'a MemoryItem>) -> usize {
    items.flat_map(strangers_words).map(str::len).sum()
}

/// Looks through texts of so many bytes, where that takes long beside the threads that serve others.
async fn look_through<T: Send + 'static>(
    n_bytes: usize,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MemoryError> {
    if n_bytes < MANY_BYTES {
        return Ok(look());
    }
    match tokio::task::spawn_blocking(look).await {
        Ok(looked) => Ok(looked),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(MemoryError::Unsupported("the program is ending; read this again later".to_owned())),
    }
}

/// Keeps apart what belongs there of a reading, and returns it; what was kept apart before is returned, too.
fn keep_reading_apart(reading: &mut Reading) -> Vec<Quarantined> {
    let mut found = Vec::new();
    for items in [&mut reading.raw, &mut reading.memories, &mut reading.raw_files] {
        for item in items.iter_mut() {
            match item.quarantine_reason().map(str::to_owned) {
                Some(reason) => found.push(Quarantined { id: item.id.clone(), reason }),
                None => found.extend(keep_apart(item)),
            }
        }
    }
    found
}

/// Keeps a memory apart for a reason.
pub(crate) fn kept_apart(item: &mut MemoryItem, reason: &str) -> Quarantined {
    item.quarantine(reason);
    Quarantined { id: item.id.clone(), reason: reason.to_owned() }
}

/// Why a turn does not go into windows with others: a tool returned it, and it reads like instructions.
pub(crate) fn reason_of_turn(turn: &Turn) -> Option<String> {
    if turn.role != Role::Tool {
        return None;
    }
    reason(&[turn.text.as_str()])
}

/// Returns the signs in some texts, in words for people.
fn reason(texts: &[&str]) -> Option<String> {
    let mut found: Vec<Sign> = texts.iter().flat_map(|text| signs(text)).collect();
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then(|| in_words(&found))
}

/// What signs mean, for people.
fn in_words(signs: &[Sign]) -> String {
    signs.iter().map(|sign| sign.explanation()).collect::<Vec<_>>().join("; ")
}

/// Returns the texts of a memory that strangers wrote, or that a model made of such texts alone.
fn strangers_words(item: &MemoryItem) -> Vec<&str> {
    let metadata = &item.metadata;
    if metadata.trust() != Trust::External {
        return Vec::new();
    }
    let fields = metadata.tree();
    let sources = fields.and_then(|fields| fields.sources.as_deref()).unwrap_or_default();
    let strange: Vec<_> = sources.iter().filter(|source| source.provenance().trust == Trust::External).collect();
    let mut texts: Vec<&str> = strange.iter().filter_map(|source| source.content.as_deref()).collect();
    texts.extend(metadata.extra.get("experience").and_then(Value::as_str));
    // Beside the words of others, the memory holds what the user said. Where no source is a stranger's, the memory is of a
    // stranger's kind, or was made of such.
    if strange.is_empty() || strange.len() == sources.len() {
        texts.push(&item.memory);
        texts.extend(metadata.key.as_deref());
        texts.extend(fields.and_then(|fields| fields.background.as_deref()));
    }
    texts
}

#[cfg(test)]
mod tests;
