//! Why a file could not be read.

use super::DocumentKind;

/// Why a file could not be read, sorted by what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Split the file, or allow larger ones.
    #[error("the file has {bytes} bytes, at most {limit} are read; split it")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest size.
        limit: usize,
    },
    /// Convert the file: nothing here reads its kind.
    #[error("this is {what}, which cannot be read; {remedy}")]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// What can be done.
        remedy: &'static str,
    },
    /// Remove the password.
    #[error("the {kind} file is protected by a password; save it without one and add it again")]
    Encrypted {
        /// `pdf`, or `Office` for any of these.
        kind: &'static str,
    },
    /// Get a sound copy: the file is damaged or is not what it seems to be.
    #[error("the {kind} file cannot be read: {detail}; open it in its own program and save it again")]
    Corrupt {
        /// What it seems to be.
        kind: DocumentKind,
        /// What is wrong with it.
        detail: String,
    },
    /// Split the file, or look at who made it: it holds far more than files of its size do.
    #[error("the {kind} file is refused: it has more than {limit} {what}; split it, if it is meant to be so large")]
    TooMuch {
        /// What it seems to be.
        kind: DocumentKind,
        /// What there is too much of.
        what: &'static str,
        /// How much may be.
        limit: usize,
    },
    /// Split the file: it takes too long.
    #[error("the {kind} file was not read within {seconds} s; split it")]
    TimedOut {
        /// What it seems to be.
        kind: DocumentKind,
        /// How long it may take.
        seconds: f64,
    },
    /// Try again later: too many files are being read.
    #[error("too many files are being read ({running}); try again later")]
    Busy {
        /// How many.
        running: usize,
    },
}

impl ParseError {
    pub(crate) fn corrupt(kind: DocumentKind, detail: impl Into<String>) -> Self {
        Self::Corrupt { kind, detail: detail.into() }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}
