//! Why a pickle was refused.

/// Why an upstream activation memory could not be read. Nothing in it was executed.
///
/// Offsets count bytes from the start of the stream in which the error arose: the file itself, or, inside
/// [`PickleError::Storage`], the stream that is kept within the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The file uses an instruction that no activation memory needs.
    #[error(
        "the pickle instruction {name} at byte {offset} is refused: activation memories need none; do not trust this file"
    )]
    Opcode {
        /// The instruction's name, or its number in hexadecimal when pickle knows none.
        name: String,
        /// Where it stands.
        offset: usize,
    },
    /// The file names a class or function that no activation memory needs.
    #[error(
        "`{module}.{name}` at byte {offset} is refused: only tensors, caches and their records are read; do not trust this file"
    )]
    Global {
        /// The Python module, shortened when it is very long.
        module: String,
        /// The name in the module, shortened likewise.
        name: String,
        /// Where it is named.
        offset: usize,
    },
    /// The file calls, or builds, something in a way in which no activation memory does.
    #[error("the call of `{callable}` at byte {offset} is refused: {detail}; do not trust this file")]
    Call {
        /// What is called.
        callable: String,
        /// Where it is called.
        offset: usize,
        /// What is wrong with the call.
        detail: String,
    },
    /// The file ends too early.
    #[error("the file ends in the middle of {what} at byte {offset}; copy it again")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        offset: usize,
    },
    /// The bytes are no pickle.
    #[error("byte {offset}: {detail}; the file is damaged or is no activation memory")]
    Malformed {
        /// Where it shows.
        offset: usize,
        /// What is wrong.
        detail: String,
    },
    /// The file asks for more than a file of its size may.
    #[error("byte {offset}: {what} is more than a file of this size may ask for; do not trust this file")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// Where the limit was reached.
        offset: usize,
    },
    /// The archive that `torch.save` wrote is damaged or is of another kind.
    #[error("the archive written by torch cannot be read: {0}")]
    Archive(String),
    /// A tensor's bytes, which are a stream within the file, could not be read.
    #[error("the tensor whose bytes end before byte {offset}: {source}")]
    Storage {
        /// Where the tensor is made, in the file.
        offset: usize,
        /// What is wrong in the inner stream.
        source: Box<PickleError>,
    },
    /// The pickle was read, but what it holds is no activation memory.
    #[error("{place}: {detail}")]
    Layout {
        /// Which item or field.
        place: String,
        /// What is wrong and what to do.
        detail: String,
    },
    /// A tensor holds a value that half precision cannot.
    #[error("a tensor holds {value}, which does not fit into half precision; extract this memory again from its text")]
    Range {
        /// The value, as text.
        value: String,
    },
}

impl PickleError {
    pub(super) fn malformed(offset: usize, detail: impl Into<String>) -> Self {
        Self::Malformed { offset, detail: detail.into() }
    }

    pub(super) fn layout(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Layout { place: place.into(), detail: detail.into() }
    }
}

/// Shortens a text from a hostile file, so that it can stand in a message; control characters are escaped.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut result: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        result.push_str("...");
    }
    result
}
