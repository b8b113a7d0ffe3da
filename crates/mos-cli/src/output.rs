//! Printing: text for people, one JSON document for programs, errors to standard error.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use crate::logging;

/// Whether whoever read standard output has gone.
static NOBODY_READS: AtomicBool = AtomicBool::new(false);

/// How the program speaks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a value: as one JSON document, or as the text that `text` makes of it.
    pub(crate) fn value<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? } else { text(value) };
        self.line(&text)
    }

    /// Prints one line of compact JSON, at once.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) -> anyhow::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// Prints a line; nothing for an empty text.
    pub(crate) fn line(self, text: &str) -> anyhow::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.raw(&format!("{}\n", text.trim_end_matches('\n')))
    }

    /// Prints text as it is, at once.
    pub(crate) fn raw(self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Somebody like `head` has read enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                NOBODY_READS.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => other.context("cannot write to standard output"),
        }
    }

    /// Whether whoever read what is printed has gone, as far as is known: what only answers may end then.
    pub(crate) fn nobody_reads(self) -> bool {
        NOBODY_READS.load(Ordering::Relaxed)
    }

    /// Tells the person something that is not the result.
    pub(crate) fn note(self, text: &str) {
        to_stderr("INFO", text, text);
    }

    /// Tells what failed.
    pub(crate) fn error(self, message: &str) {
        to_stderr("ERROR", message, &format!("error: {message}"));
    }

    /// Tells why the program failed, and returns its exit code.
    pub(crate) fn failure(self, message: &str) -> ExitCode {
        self.error(message);
        ExitCode::from(1)
    }
}

/// Writes a message to standard error, among lines of JSON as one of them and else as this text.
///
/// `eprintln!` ends the program with a panic when whoever reads standard error has read enough, as `2>&1 | head` does.
fn to_stderr(level: &str, message: &str, text: &str) {
    let line =
        if logging::is_json() { json!({"level": level, "message": message}).to_string() } else { text.to_owned() };
    // There is nobody left to tell that nobody listens.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The error with its causes, each said once.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Whether a person sits at standard input.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal()
}
