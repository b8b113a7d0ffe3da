//! What is wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

/// One value that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Full path of the value, for example `chat_model.config.temperature`; empty for the whole document.
    pub path: String,
    /// The environment variable it came from, if it did.
    pub variable: Option<String>,
    /// The file it came from, if there is one and the environment did not set the value.
    pub file: Option<PathBuf>,
    /// What is wrong and what is allowed. Never holds the refused value of a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the document" } else { &self.path };
        match (&self.variable, &self.file) {
            (Some(variable), _) => write!(f, "environment variable {variable} ({path}): {}", self.message),
            (None, Some(file)) => write!(f, "{}: {path}: {}", file.display(), self.message),
            (None, None) => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read, written or understood.
    #[error("{}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What failed and what to do.
        detail: String,
    },
    /// Values were refused; every one that was found is listed.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// Returns the refused values; empty when the file itself was the problem.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::File { .. } => &[],
            Self::Invalid(problems) => problems,
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
