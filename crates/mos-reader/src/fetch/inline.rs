//! Files in messages: `data:` addresses, base64.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mos_core::Fetched;

/// Takes text with and without `=` at its end.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Why a file in a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InlineError {
    /// It is not a `data:` address with a comma.
    #[error("this is not a data address; write data:text/plain;base64,...")]
    NotData,
    /// It is not base64.
    #[error("the file's data is not base64: {0}")]
    NotBase64(String),
    /// It is larger than may be.
    #[error("the file in the message has more than {limit} bytes; add it as a file")]
    TooLarge {
        /// The largest size.
        limit: usize,
    },
}

/// Returns the file in `data:text/plain;name=a.txt;base64,aGk=`. Without `base64` its bytes are percent-encoded.
///
/// # Errors
/// [`InlineError`]; nothing is decoded that has more than `limit` bytes.
pub fn data_url(url: &str, limit: usize) -> Result<Fetched, InlineError> {
    let url = url.trim();
    let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let (head, data) = url.split_once(',').filter(|_| is_data).ok_or(InlineError::NotData)?;
    let mut parts = head[5..].split(';').map(str::trim);
    let content_type = parts.next().filter(|kind| !kind.is_empty()).map(str::to_ascii_lowercase);
    let (mut is_base64, mut name) = (false, None);
    for part in parts {
        if part.eq_ignore_ascii_case("base64") {
            is_base64 = true;
        } else if let Some(given) = part.strip_prefix("name=").or_else(|| part.strip_prefix("filename=")) {
            name = Some(String::from_utf8_lossy(&percent_decoded(given)).into_owned());
        }
    }
    let bytes = if is_base64 {
        base64_bytes(data, limit)?
    } else {
        let bytes = percent_decoded(data);
        if bytes.len() > limit {
            return Err(InlineError::TooLarge { limit });
        }
        bytes
    };
    Ok(Fetched { bytes, name, content_type })
}

/// Returns the bytes of base64, in either alphabet, with or without padding; spaces and line ends are ignored.
///
/// # Errors
/// [`InlineError::TooLarge`] before anything is decoded, [`InlineError::NotBase64`].
pub fn base64_bytes(text: &str, limit: usize) -> Result<Vec<u8>, InlineError> {
    let n_letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=').count();
    if n_letters / 4 * 3 > limit {
        return Err(InlineError::TooLarge { limit });
    }
    let mut letters = Vec::with_capacity(n_letters + 2);
    letters.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let is_url_safe = letters.iter().any(|letter| matches!(letter, b'-' | b'_'));
    let alphabet = if is_url_safe { &URL_SAFE } else { &STANDARD };
    let bytes = GeneralPurpose::new(alphabet, LENIENT)
        .decode(&letters)
        .map_err(|error| InlineError::NotBase64(error.to_string()))?;
    if bytes.len() > limit {
        return Err(InlineError::TooLarge { limit });
    }
    Ok(bytes)
}

/// Resolves `%20` and the like; a `%` without two digits stays.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_addresses_become_files() {
        let file = data_url("data:text/Markdown;name=a%20b.md;base64,IyBI aQ", 100).unwrap();
        assert_eq!(file.bytes, b"# Hi");
        assert_eq!((file.name.as_deref(), file.content_type.as_deref()), (Some("a b.md"), Some("text/markdown")));
        let plain = data_url("DATA:,a%20b%2c%zz", 100).unwrap();
        assert_eq!((plain.bytes.as_slice(), plain.content_type), (&b"a b,%zz"[..], None));
        assert_eq!(data_url("https://example.org/,", 100), Err(InlineError::NotData));
        assert_eq!(data_url("data:text/plain", 100), Err(InlineError::NotData));
    }

    #[test]
    fn base64_is_bounded_and_forgiving() {
        assert_eq!(base64_bytes("-_8=", 2).unwrap(), [0xfb, 0xff]);
        assert_eq!(base64_bytes("+/8", 2).unwrap(), [0xfb, 0xff]);
        assert_eq!(base64_bytes("\n aGk=\r\n", 2).unwrap(), b"hi");
        assert_eq!(base64_bytes(&"AAAA".repeat(100), 299), Err(InlineError::TooLarge { limit: 299 }));
        assert!(matches!(base64_bytes("a*b", 9), Err(InlineError::NotBase64(_))));
        assert_eq!(base64_bytes("", 0).unwrap(), b"");
    }
}
