//! Turning text into terms.

use std::fmt;

/// Turns text into the terms that searches for words compare.
pub trait Analyzer: fmt::Debug + Send + Sync {
    /// Returns the terms of `text` in reading order, repeated as often as they occur; empty when it holds none. The same
    /// text gives the same terms, always.
    fn terms(&self, text: &str) -> Vec<String>;
}
