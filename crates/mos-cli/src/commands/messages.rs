//! Messages of a conversation, read from a file or standard input.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context as _;
use mos_core::{Message, Role};
use serde::de::DeserializeOwned;

/// The largest input of messages that is read.
const MAX_BYTES: u64 = 256 << 20;

/// What the input must hold.
const WANTED: &str = "a JSON list of messages such as {\"role\": \"user\", \"content\": \"...\"}";

/// The messages that can be remembered, and what became of the others.
#[derive(Debug)]
pub(super) struct Messages {
    /// Never empty.
    pub(super) kept: Vec<Message>,
    /// What was passed over, for people; empty when nothing was.
    pub(super) notes: Vec<String>,
    /// Follows from the whole text.
    pub(super) digest: String,
}

/// Reads and checks a whole file (`-`: standard input) before anything is stored.
pub(super) fn read(path: &Path) -> anyhow::Result<Messages> {
    let (shown, text) = read_file(path)?;
    parse(&shown, &text)
}

/// Reads the messages of a whole file (`-`: standard input) as they are; there is at least one.
pub(super) fn read_as_given(path: &Path) -> anyhow::Result<Vec<Message>> {
    let messages: Vec<Message> = read_json(path, WANTED)?;
    anyhow::ensure!(!messages.is_empty(), "{} holds no message; give {WANTED}", path.display());
    Ok(messages)
}

/// Reads a whole JSON file (`-`: standard input), which must hold `wanted`.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, wanted: &str) -> anyhow::Result<T> {
    let (shown, text) = read_file(path)?;
    serde_json::from_str(&text).with_context(|| format!("{shown} does not hold {wanted}"))
}

/// Returns the whole of standard input.
pub(super) fn read_standard_input() -> anyhow::Result<String> {
    read_file(Path::new("-")).map(|(_, text)| text)
}

/// Returns what to call the input, and its text.
fn read_file(path: &Path) -> anyhow::Result<(String, String)> {
    if path == Path::new("-") {
        let shown = "standard input".to_owned();
        let text = read_text(&shown, std::io::stdin(), MAX_BYTES)?;
        return Ok((shown, text));
    }
    let shown = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let text = read_text(&shown, file, MAX_BYTES)?;
    Ok((shown, text))
}

/// Returns the whole text, and never a part of one that is too long.
fn read_text(shown: &str, input: impl Read, max_bytes: u64) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let n_bytes =
        input.take(max_bytes + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))? as u64;
    let limit = max_bytes >> 20;
    anyhow::ensure!(n_bytes <= max_bytes, "{shown} has more than {limit} MiB; give it in parts of at most {limit} MiB");
    String::from_utf8(bytes).with_context(|| format!("{shown} is not UTF-8 text"))
}

fn parse(shown: &str, text: &str) -> anyhow::Result<Messages> {
    let mut messages: Vec<Message> =
        serde_json::from_str(text).with_context(|| format!("{shown} does not hold {WANTED}"))?;
    let n_messages = messages.len();
    anyhow::ensure!(n_messages > 0, "{shown} holds no message; give {WANTED}");
    messages.retain(|message| !message.text().trim().is_empty());
    let n_empty = n_messages - messages.len();
    messages.retain(|message| message.role != Role::System);
    let n_system = n_messages - n_empty - messages.len();
    let passed_over = [
        (n_empty, "have no text (a call of a tool, for example)"),
        (n_system, "are instructions of the application (`system`), not memories"),
    ];
    let notes: Vec<String> = passed_over
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, why)| format!("passed over {n} of {n_messages} messages of {shown}: they {why}"))
        .collect();
    anyhow::ensure!(!messages.is_empty(), "nothing in {shown} can be remembered; {}", notes.join("; "));
    Ok(Messages { kept: messages, notes, digest: blake3::hash(text.as_bytes()).to_hex().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_allowed_length_is_read_and_one_more_byte_is_refused() {
        let text = "x".repeat(2 << 20);
        assert_eq!(read_text("standard input", text.as_bytes(), 2 << 20).unwrap(), text);
        let longer = text + "x";
        let error = read_text("standard input", longer.as_bytes(), 2 << 20).unwrap_err().to_string();
        assert!(error.contains("standard input has more than 2 MiB"), "{error}");
    }

    #[test]
    fn half_a_character_is_not_text() {
        let error = read_text("notes.json", &"ä".as_bytes()[..1], 1 << 20).unwrap_err().to_string();
        assert!(error.contains("notes.json is not UTF-8"), "{error}");
    }
}
