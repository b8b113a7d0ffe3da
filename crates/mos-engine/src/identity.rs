//! Which model a cache belongs to.

use std::fmt;
use std::str::FromStr;

use mos_core::ModelError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decoder::{Fingerprint, RopeLayout};

/// All that must be equal for kept keys and values, and the tokens they belong to, to mean the same.
///
/// Serialised as an object of texts; hashes are 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// The weights and constants.
    pub weights: Fingerprint,
    /// Hash of the tokenizer.
    #[serde(with = "hex_digits")]
    pub tokenizer: [u8; 32],
    /// Hash of the chat template; of what plain texts begin with when the model has none.
    #[serde(with = "hex_digits")]
    pub template: [u8; 32],
    /// Which values of a head are rotated together; equal weights in files of different kinds differ in it.
    pub rope_layout: RopeLayout,
    /// The name to show; it decides nothing.
    pub name: String,
}

impl ModelIdentity {
    /// Returns whether caches of the one serve the other: all is equal but the name.
    pub fn matches(&self, other: &Self) -> bool {
        let Self { weights, tokenizer, template, rope_layout, name: _ } = self;
        (weights, tokenizer, template, rope_layout)
            == (&other.weights, &other.tokenizer, &other.template, &other.rope_layout)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let mut bytes = [0; 32];
        let mut pairs = text.as_bytes().chunks(2);
        for byte in &mut bytes {
            match pairs.next() {
                Some([high, low]) if let (Some(high), Some(low)) = (digit(high), digit(low)) => {
                    *byte = (high * 16 + low) as u8;
                }
                _ => return Err(no_hash(text)),
            }
        }
        if pairs.next().is_some() { Err(no_hash(text)) } else { Ok(Self(bytes)) }
    }
}

fn no_hash(text: &str) -> ModelError {
    let shown: String = text.chars().take(80).collect();
    ModelError::Invalid(format!("`{shown}` is not a hash of 64 hexadecimal digits"))
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

mod hex_digits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::decoder::Fingerprint;

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        Fingerprint(*hash).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        Fingerprint::deserialize(deserializer).map(|hash| hash.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> ModelIdentity {
        ModelIdentity {
            weights: Fingerprint([0xab; 32]),
            tokenizer: [1; 32],
            template: [0; 32],
            rope_layout: RopeLayout::Halves,
            name: "tiny".to_owned(),
        }
    }

    #[test]
    fn an_identity_survives_its_text() {
        let text = serde_json::to_string(&identity()).unwrap();
        assert!(text.contains(&"ab".repeat(32)) && text.contains("\"halves\""), "{text}");
        assert_eq!(serde_json::from_str::<ModelIdentity>(&text).unwrap(), identity());
    }

    #[test]
    fn only_the_name_may_differ() {
        let renamed = ModelIdentity { name: "other".to_owned(), ..identity() };
        assert!(renamed.matches(&identity()));
        assert!(!ModelIdentity { template: [1; 32], ..identity() }.matches(&identity()));
        assert!(!ModelIdentity { rope_layout: RopeLayout::Interleaved, ..identity() }.matches(&identity()));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "ab", &"a".repeat(63), &"a".repeat(65), &"a".repeat(66), &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
