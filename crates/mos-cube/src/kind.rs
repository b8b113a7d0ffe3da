//! The four memories of a cube, by name.

use std::fmt;
use std::str::FromStr;

use mos_core::MemoryError;
use serde::{Deserialize, Serialize};

/// One of the memories of a cube, under the name that configurations have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemoryKind {
    /// Texts.
    #[serde(rename = "text_mem")]
    Text,
    /// Computed model state.
    #[serde(rename = "act_mem")]
    Activation,
    /// Adapters.
    #[serde(rename = "para_mem")]
    Parametric,
    /// Preferences.
    #[serde(rename = "pref_mem")]
    Preference,
}

impl MemoryKind {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 4] = [Self::Text, Self::Activation, Self::Parametric, Self::Preference];

    /// Returns the name: `text_mem`, `act_mem`, `para_mem` or `pref_mem`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text_mem",
            Self::Activation => "act_mem",
            Self::Parametric => "para_mem",
            Self::Preference => "pref_mem",
        }
    }
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MemoryKind {
    type Err = MemoryError;

    fn from_str(name: &str) -> Result<Self, MemoryError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            MemoryError::Invalid(format!("`{name}` is no memory of a cube; use some of {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in MemoryKind::ALL {
            assert_eq!(kind.to_string().parse::<MemoryKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        let error = "text".parse::<MemoryKind>().unwrap_err().to_string();
        assert!(error.contains("`text`") && error.contains("text_mem, act_mem, para_mem, pref_mem"), "{error}");
    }
}
