//! Where requests carry their key.

use axum::http::HeaderMap;

/// The headers that may hold a key, in the order they are looked at.
pub(super) const NAMES: [&str; 2] = ["authorization", "x-api-key"];

/// Words that may stand before a key, in any case.
const SCHEMES: [&str; 2] = ["bearer", "token"];

/// Why a request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has none.
    Missing,
    /// It has several, or one that is no text.
    Malformed,
}

/// Returns the text of the key: of `Authorization`, with or without `Bearer` or `Token` before it, else of `X-API-Key`.
pub(super) fn key_of(headers: &HeaderMap) -> Result<&str, Refusal> {
    for name in NAMES {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(Refusal::Malformed);
        }
        let text = value.to_str().map_err(|_| Refusal::Malformed)?;
        let key = without_scheme(text.trim());
        if !key.is_empty() {
            return Ok(key);
        }
    }
    Err(Refusal::Missing)
}

fn without_scheme(text: &str) -> &str {
    let is_scheme = |word: &str| SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(word));
    match text.split_once(' ') {
        Some((word, rest)) if is_scheme(word) => rest.trim_start(),
        None if is_scheme(text) => "",
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn every_spelling_gives_the_same_key() {
        for value in ["mk_1", "Bearer mk_1", "bearer mk_1", "TOKEN   mk_1", "  Token mk_1 "] {
            assert_eq!(key_of(&headers(&[("authorization", value)])), Ok("mk_1"), "{value}");
        }
        assert_eq!(key_of(&headers(&[("x-api-key", "mk_1")])), Ok("mk_1"));
        assert_eq!(key_of(&headers(&[("x-api-key", "mk_2"), ("authorization", "mk_1")])), Ok("mk_1"));
    }

    #[test]
    fn what_has_no_key_is_refused() {
        let none: &[(&'static str, &str)] = &[];
        for pairs in [none, &[("authorization", "")], &[("authorization", "Bearer ")]] {
            assert_eq!(key_of(&headers(pairs)), Err(Refusal::Missing));
        }
        let two = headers(&[("authorization", "mk_1"), ("authorization", "mk_2")]);
        assert_eq!(key_of(&two), Err(Refusal::Malformed));
        let basic = headers(&[("authorization", "Basic dXNlcg==")]);
        assert_eq!(key_of(&basic), Ok("Basic dXNlcg=="), "it is refused when it is looked up");
    }
}
