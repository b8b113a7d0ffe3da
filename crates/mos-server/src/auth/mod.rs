//! Who calls: the key of a request becomes a [`Caller`].
//!
//! Nobody is trusted without a key: no address, no header, no proxy; one that is listed is believed where a request comes from,
//! and nothing else. Invariant: the text of a key goes no further than this module; logs and errors tell at most its id.

mod attempts;
mod cache;
mod header;
mod streams;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header as names};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use mos::Mos;
use mos::keys::{KeyError, hash_of};
use mos::product::{Caller, ProductError};
use mos_config::Secret;
use mos_core::{ApiKey, KeyHash, KeyId, UserId};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::error::ApiError;
use crate::guard::{client, trace};
use crate::options::AuthMode;
use crate::server::PUBLIC;
use crate::state::ServerState;
use attempts::Attempts;
use cache::{Cache, Known};
use header::Refusal;

/// Which key a request came with; beside the [`Caller`] in its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyUsed {
    /// One of the store.
    Key(KeyId),
    /// The one whose hash the server was started with.
    Master,
    /// None: the server is open.
    Open,
}

impl KeyUsed {
    /// Returns the id, which is no secret.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Key(id) => Some(id.to_string()),
            Self::Master => Some("master".to_owned()),
            Self::Open => None,
        }
    }
}

/// What is remembered of keys that were looked up, and of addresses whose keys were refused.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    cache: Cache,
    attempts: Attempts,
    master: Option<KeyHash>,
    /// Tells streams to look at their keys again.
    forgotten: watch::Sender<()>,
}

impl Auth {
    /// Returns an empty memory. The key of hash `master`, when there is one, is a program's with all scopes.
    pub(crate) fn new(master: Option<KeyHash>) -> Self {
        Self { master, ..Self::default() }
    }

    /// Whether a key opens this server that is not in the store.
    pub(crate) fn has_master(&self) -> bool {
        self.master.is_some()
    }

    /// Forgets a key that was revoked, so that it is refused from now on.
    pub(crate) fn forget_key(&self, id: &KeyId) {
        self.cache.forget_where(|key| key.id == *id);
        self.forgotten.send_replace(());
    }

    /// Forgets the keys of a user who was deleted.
    pub(crate) fn forget_user(&self, user: &UserId) {
        self.cache.forget_where(|key| key.user.as_ref() == Some(user));
        self.forgotten.send_replace(());
    }

    /// Returns what changes when a key is forgotten.
    fn forgotten(&self) -> watch::Receiver<()> {
        self.forgotten.subscribe()
    }

    /// Returns who has the key of this text.
    pub(crate) async fn holder(&self, mos: &Mos, text: &str, address: IpAddr) -> Result<(Caller, KeyUsed), ApiError> {
        let hash = hash_of(text);
        if let (Some(master), Some(hash)) = (&self.master, &hash)
            && bool::from(master.as_bytes().as_slice().ct_eq(hash.as_bytes().as_slice()))
        {
            return Ok((Caller::program(), KeyUsed::Master));
        }
        let known = hash.map_or(Known::Never, |hash| self.cache.get(&hash));
        if let Known::Fresh(key) = &known
            && mos.check_key(key).is_ok()
        {
            return Ok(holder_of(key));
        }
        // Who had a good key lately does not wait because of others behind the same address.
        if matches!(known, Known::Never)
            && let Some(wait) = self.attempts.must_wait(address)
        {
            let text = "too many keys from this address were refused; come again in a second with a good one";
            let seconds = HeaderValue::from(wait.as_secs().max(1));
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, text).with(names::RETRY_AFTER, seconds));
        }
        let moment = self.cache.moment();
        match mos.find_key(text).await {
            Ok(key) => {
                let key = Arc::new(key);
                if let Some(hash) = hash {
                    self.cache.put(hash, Arc::clone(&key), moment);
                }
                Ok(holder_of(&key))
            }
            Err(KeyError::Failed(error)) => Err(ProductError::from(error).into()),
            Err(refused) => {
                self.attempts.note(address);
                if let Some(hash) = hash {
                    self.cache.forget(&hash);
                }
                Err(ApiError::unauthenticated(refused.to_string()))
            }
        }
    }
}

fn holder_of(key: &Arc<ApiKey>) -> (Caller, KeyUsed) {
    (Caller::from(&**key), KeyUsed::Key(key.id.clone()))
}

/// Puts the layer around routes that finds out who calls.
pub(crate) fn around(routes: Router<ServerState>, state: &ServerState) -> Router<ServerState> {
    routes.layer(from_fn_with_state(state.clone(), authenticate))
}

async fn authenticate(State(state): State<ServerState>, mut request: Request, next: Next) -> Response {
    hide_keys(&mut request);
    if is_public(&state, &request) {
        return next.run(request).await;
    }
    let (caller, used, text) = match state.options().auth {
        AuthMode::Open => (Caller::program(), KeyUsed::Open, None),
        AuthMode::Keys => {
            let address = address(&state, &request);
            let text = header::key_of(request.headers()).map(Secret::new);
            let held = match &text {
                Ok(text) => state.auth().holder(state.app().mos(), text.expose(), address).await,
                Err(Refusal::Missing) => Err(ApiError::unauthenticated("Missing API key")),
                Err(Refusal::Malformed) => Err(ApiError::unauthenticated("Invalid API key format")),
            };
            match held {
                Ok((caller, used)) => (caller, used, text.ok()),
                Err(refused) => return refused.into_response(),
            }
        }
    };
    // The master key is good for as long as the server runs.
    let text = text.filter(|_| matches!(used, KeyUsed::Key(_)));
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(used);
    let response = next.run(request).await;
    match text {
        Some(text) if trace::is_stream(&response) => streams::while_usable(state, text, response),
        _ => response,
    }
}

/// Whoever prints the headers of a request prints no key.
fn hide_keys(request: &mut Request) {
    for name in header::NAMES {
        if let Some(value) = request.headers_mut().get_mut(name) {
            value.set_sensitive(true);
        }
    }
}

fn is_public(state: &ServerState, request: &Request) -> bool {
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let path = matched.unwrap_or_else(|| request.uri().path());
    PUBLIC.contains(&path) || (path == "/metrics" && state.options().metrics_open)
}

/// Who sits at the other end of the connection, or behind a proxy that is trusted. Addresses of version 6 count by their network: a
/// household has many.
fn address(state: &ServerState, request: &Request) -> IpAddr {
    let address = client::address(request.extensions(), request.headers(), &state.options().trusted_proxies);
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), client::network)
}

/// Returns the text of a key that was made because no key opens this server yet, to be shown once; `None` when there is one,
/// or none is needed.
///
/// # Errors
/// Store errors.
pub async fn first_key(state: &ServerState) -> mos::Result<Option<String>> {
    if state.options().auth == AuthMode::Open || state.auth().has_master() {
        return Ok(None);
    }
    let made = state.app().mos().first_key().await?;
    Ok(made.map(|made| made.text.expose().to_owned()))
}

#[cfg(test)]
mod tests;
