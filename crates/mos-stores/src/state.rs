//! What every store of documents and logs has in common: bounds, checks and wording.

use mos_core::state::{check_key, checked_text};
use mos_core::{Expected, StoreError};
use serde_json::Value;

/// The most entries that are added to a log together.
const MAX_ENTRIES_PER_APPEND: usize = 1000;
/// The most bytes of the entries that are added together, as JSON text.
const MAX_BYTES_PER_APPEND: usize = 16 << 20;

/// Entries for a log that are right as far as it can be told without looking into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PreparedEntries {
    /// How many are added.
    pub(crate) n_added: usize,
    /// JSON texts of the last of them, as many as the log keeps.
    pub(crate) kept: Vec<String>,
}

/// Checks the name of a log and what is to be added to it, and writes the entries as text.
///
/// # Errors
/// [`StoreError::Invalid`].
pub(crate) fn prepare_entries(log: &str, entries: &[Value], keep: usize) -> Result<PreparedEntries, StoreError> {
    check_key(log)?;
    if entries.len() > MAX_ENTRIES_PER_APPEND {
        return Err(StoreError::Invalid(format!(
            "{} entries are added to the log `{log}` together, at most {MAX_ENTRIES_PER_APPEND} may be; add them in parts",
            entries.len()
        )));
    }
    let mut texts = Vec::with_capacity(entries.len());
    let mut n_bytes = 0;
    for entry in entries {
        let text = checked_text(entry)?;
        n_bytes += text.len();
        if n_bytes > MAX_BYTES_PER_APPEND {
            return Err(StoreError::Invalid(format!(
                "the entries that are added to the log `{log}` together have more than {MAX_BYTES_PER_APPEND} bytes; \
                 add them in parts"
            )));
        }
        texts.push(text);
    }
    let kept = texts.split_off(texts.len().saturating_sub(keep));
    Ok(PreparedEntries { n_added: entries.len(), kept })
}

/// Refuses a write to a key whose document has the version `have`, `None` for no document, unless that is expected.
///
/// # Errors
/// [`StoreError::Conflict`].
pub(crate) fn check_expected(key: &str, have: Option<u64>, expected: Expected) -> Result<(), StoreError> {
    let is_so = match expected {
        Expected::Anything => true,
        Expected::Absent => have.is_none(),
        Expected::Version(version) => have == Some(version),
    };
    if is_so { Ok(()) } else { Err(unexpected_version(key, have)) }
}

/// Returns the error for a document that is not as its writer expects it; `have` is its version, `None` for no document.
pub(crate) fn unexpected_version(key: &str, have: Option<u64>) -> StoreError {
    let found = match have {
        Some(version) => format!("the document `{key}` has version {version} by now"),
        None => format!("there is no document `{key}`"),
    };
    StoreError::Conflict(format!("{found}: somebody else wrote or removed it; read it again and decide anew"))
}

/// Reads what is kept under a key or in a log.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub(crate) fn parse_kept(name: &str, text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
        what: format!("what is kept under `{name}`"),
        detail: format!("{error}; remove it, or restore the store from a backup"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_append_is_bounded_and_only_what_stays_is_kept() {
        let many = |n: usize| (0..n).map(|number| json!(number)).collect::<Vec<_>>();
        let prepared = prepare_entries("log", &many(4), 2).unwrap();
        assert_eq!(prepared, PreparedEntries { n_added: 4, kept: vec!["2".to_owned(), "3".to_owned()] });
        assert_eq!(prepare_entries("log", &many(2), usize::MAX).unwrap().kept.len(), 2);
        assert_eq!(prepare_entries("log", &many(2), 0).unwrap().kept, Vec::<String>::new());
        assert!(prepare_entries("log", &many(1000), 10).is_ok());
        assert!(prepare_entries("log", &many(1001), 10).unwrap_err().to_string().contains("in parts"));
        let large = vec![json!("x".repeat(1_000_000)); 17];
        assert!(prepare_entries("log", &large[..16], 1).is_ok());
        assert!(prepare_entries("log", &large, 1).unwrap_err().to_string().contains("in parts"));
        assert!(prepare_entries("", &[], 1).is_err());
    }

    #[test]
    fn what_is_expected_is_compared_with_what_is_there() {
        for (have, expected, is_so) in [
            (None, Expected::Anything, true),
            (Some(3), Expected::Anything, true),
            (None, Expected::Absent, true),
            (Some(3), Expected::Absent, false),
            (Some(3), Expected::Version(3), true),
            (Some(3), Expected::Version(2), false),
            (None, Expected::Version(3), false),
            (None, Expected::Version(0), false),
        ] {
            assert_eq!(check_expected("key", have, expected).is_ok(), is_so, "{have:?} {expected:?}");
        }
        let error = check_expected("key", Some(3), Expected::Absent).unwrap_err().to_string();
        assert!(error.contains("version 3") && error.contains("read it again"), "{error}");
    }
}
