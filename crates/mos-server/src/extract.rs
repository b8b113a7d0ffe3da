//! What handlers get out of a request.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use mos::product::{Caller, Issue, Product, ProductError, Request as ProductRequest};
use serde_json::{Map, Value, json};

use crate::audit::Notes;
use crate::error::ApiError;
use crate::state::ServerState;

/// The most values of a JSON body. A number of two bytes takes dozens of them once it is read, so that the length of a body says
/// little of what it costs.
const MAX_VALUES: usize = 500_000;

/// Who calls; put into the request by the layer that looks at keys.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.map(Self).ok_or_else(|| ApiError::unauthenticated("Missing API key"))
    }
}

/// The operations of the product API for who calls.
#[derive(Clone, Debug)]
pub(crate) struct Operations(pub(crate) Product);

impl FromRequestParts<ServerState> for Operations {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, ApiError> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        Ok(Self(state.app().product_as(caller)))
    }
}

/// The JSON of a body, whatever its content type says, not deeper than the options allow.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Value);

impl FromRequest<ServerState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ServerState) -> Result<Self, ApiError> {
        let (method, path) = place(request.method(), request.extensions().get::<MatchedPath>(), request.uri());
        let notes = request.extensions().get::<Notes>().cloned();
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|refused| ApiError::new(refused.status(), refused.body_text()))?;
        check_values(&bytes)?;
        check_depth(&bytes, state.options().max_json_depth)?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
            if bytes.is_empty() {
                return absent().on(&method, &path);
            }
            let issue = Issue {
                kind: "json_invalid".to_owned(),
                loc: vec![json!("body"), json!(error.column())],
                msg: format!("JSON decode error: {error}"),
                input: json!({}),
                ctx: None,
            };
            ApiError::from(ProductError::refused(vec![issue])).on(&method, &path)
        })?;
        if let Some(notes) = notes {
            notes.read(&value);
        }
        Ok(Self(value))
    }
}

/// A request of the product API out of a body.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: ProductRequest> FromRequest<ServerState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ServerState) -> Result<Self, ApiError> {
        let (method, path) = place(request.method(), request.extensions().get::<MatchedPath>(), request.uri());
        let JsonBody(value) = JsonBody::from_request(request, state).await?;
        T::from_json(&value).map(Self).map_err(|error| ApiError::from(error).on(&method, &path))
    }
}

/// A request of the product API out of the query string.
#[derive(Debug)]
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<T: ProductRequest> FromRequestParts<ServerState> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ServerState) -> Result<Self, ApiError> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|refused| ApiError::new(StatusCode::BAD_REQUEST, refused.body_text()))?;
        let map: Map<String, Value> = pairs.0.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        let (method, path) = place(&parts.method, parts.extensions.get::<MatchedPath>(), &parts.uri);
        let read = T::from_part("query", &Value::Object(map));
        read.map(Self).map_err(|error| ApiError::from(error).on(&method, &path))
    }
}

/// What stands in the one place of a path that differs between requests.
#[derive(Debug)]
pub(crate) struct InPath(pub(crate) String);

impl FromRequestParts<ServerState> for InPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(found)) => Ok(Self(found)),
            Err(refused) => Err(ApiError::new(refused.status(), refused.body_text())),
        }
    }
}

fn place(method: &Method, matched: Option<&MatchedPath>, uri: &Uri) -> (String, String) {
    (method.to_string(), matched.map_or_else(|| uri.path().to_owned(), |path| path.as_str().to_owned()))
}

/// The error of a request that needs a body and has none.
fn absent() -> ApiError {
    let (kind, msg) = ("missing".to_owned(), "Field required".to_owned());
    ProductError::refused(vec![Issue { kind, loc: vec![json!("body")], msg, input: Value::Null, ctx: None }]).into()
}

/// Refuses JSON of too many values, which is not read yet.
pub(crate) fn check_values(json: &[u8]) -> Result<(), ApiError> {
    // There are no more values than bytes.
    if json.len() > MAX_VALUES && n_values(json) > MAX_VALUES {
        let message = format!("the JSON of the body has more than {MAX_VALUES} values");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
    }
    Ok(())
}

/// Refuses JSON that is nested more deeply than `most`, which is not read yet: its reader has a limit of its own, and would call
/// what is beyond it no JSON.
pub(crate) fn check_depth(json: &[u8], most: usize) -> Result<(), ApiError> {
    if n_levels(json) > most {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "the JSON of the body is nested too deeply"));
    }
    Ok(())
}

/// How many values JSON has at most: those that begin behind commas and brackets, and itself.
fn n_values(json: &[u8]) -> usize {
    1 + outside_of_texts(json).filter(|byte| matches!(byte, b',' | b'[' | b'{')).count()
}

/// How deep JSON is nested; 0 for a value without others in it.
fn n_levels(json: &[u8]) -> usize {
    let (mut n_open, mut most) = (0_usize, 0);
    for byte in outside_of_texts(json) {
        match byte {
            b'[' | b'{' => n_open += 1,
            b']' | b'}' => n_open = n_open.saturating_sub(1),
            _ => {}
        }
        most = most.max(n_open);
    }
    most
}

/// The bytes of JSON that do not stand in texts.
fn outside_of_texts(json: &[u8]) -> impl Iterator<Item = u8> {
    let (mut is_text, mut is_escaped) = (false, false);
    json.iter().copied().filter(move |byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ => return !is_text,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_texts() {
        assert_eq!(n_values(b"7"), 1);
        assert_eq!(n_values(br#"{"a,[": "\\", "b": ",[{\",", "c": [1, 2]}"#), 1 + 1 + 2 + 1 + 1);
        assert_eq!(n_values(b"[0,0,0]"), 4);
    }

    #[test]
    fn levels_are_counted_outside_of_texts() {
        assert_eq!((n_levels(b"7"), n_levels(b"[]"), n_levels(br#"[[1], {"a": [2]}]"#)), (0, 1, 3));
        assert_eq!(n_levels(br#"["[[[\"[[", "]"]"#), 1);
        assert_eq!(n_levels(b"]][[["), 3, "what is no JSON is no harm");
    }
}
