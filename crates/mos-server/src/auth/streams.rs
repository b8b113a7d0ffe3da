//! Streams end when the key that they were asked for with opens nothing any more.
//!
//! A request is looked at once, and is answered soon after. A stream may go on for minutes in which a key is revoked, ends, or
//! loses its user; what comes then is for nobody.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures::{StreamExt, stream};
use mos::Mos;
use mos::keys::KeyError;
use mos_config::Secret;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::state::ServerState;

/// How often a key is looked at again: so late is noticed what other servers revoked, or time.
const EVERY: Duration = Duration::from_secs(30);

/// How often in a row, [`EVERY`] apart, the store of keys may fail until a stream ends: it may be away for a moment.
const MAX_FAILURES: u32 = 2;

/// Returns a stream that breaks off when the key of this text opens nothing any more. It does not end in good order then: a client
/// would take what it has of an answer for all of it.
pub(super) fn while_usable(state: ServerState, key: Secret, response: Response) -> Response {
    response.map(|body| {
        let open = (body.into_data_stream(), Box::pin(unusable(state, key)));
        Body::from_stream(stream::unfold(Some(open), |open| async move {
            let (mut data, mut end) = open?;
            tokio::select! {
                biased;
                () = &mut end => Some((Err(axum::Error::new(BrokenOff)), None)),
                next = data.next() => next.map(|item| (item, Some((data, end)))),
            }
        }))
    })
}

/// Why a stream broke off.
#[derive(Debug, thiserror::Error)]
#[error("the key of the stream opens nothing any more")]
struct BrokenOff;

/// Is ready when the key of this text opens nothing any more. What this server revokes itself it notices at once.
async fn unusable(state: ServerState, key: Secret) {
    let mut forgotten = state.auth().forgotten();
    let mut failures = Failures::default();
    loop {
        // Revoked between its request and now is revoked as well.
        match look(state.app().mos(), &key).await {
            Found::Usable => failures = Failures::default(),
            Found::Unusable => return,
            Found::NotKnown if failures.are_too_many() => return,
            Found::NotKnown => {}
        }
        wait(&mut forgotten).await;
    }
}

/// How often the store has failed in a row. Notices may come one right after the other, so that only failures which are
/// [`EVERY`] apart count.
#[derive(Debug, Default)]
struct Failures {
    number: u32,
    last_counted: Option<Instant>,
}

impl Failures {
    /// Counts one more, and returns whether that is too many.
    fn are_too_many(&mut self) -> bool {
        if self.last_counted.is_none_or(|at| at.elapsed() >= EVERY) {
            self.number += 1;
            self.last_counted = Some(Instant::now());
        }
        self.number >= MAX_FAILURES
    }
}

/// Waits until it is time to look again.
async fn wait(forgotten: &mut watch::Receiver<()>) {
    let told = async {
        if forgotten.changed().await.is_err() {
            // Nobody is left who could tell.
            std::future::pending::<()>().await;
        }
    };
    // Either of them is reason enough.
    tokio::time::timeout(EVERY, told).await.ok();
}

/// What became of a key.
enum Found {
    Usable,
    Unusable,
    /// The store did not answer.
    NotKnown,
}

async fn look(mos: &Mos, key: &Secret) -> Found {
    match mos.find_key(key.expose()).await {
        Ok(_) => Found::Usable,
        Err(KeyError::Failed(error)) => {
            tracing::warn!(%error, "the key of a stream could not be looked up");
            Found::NotKnown
        }
        Err(_) => Found::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use mos::Settings;
    use mos::keys::{MadeKey, NewKey};
    use mos::product::{App, ProductOptions};
    use mos_config::Setting;
    use mos_testkit::embedder::WordEmbedder;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::options::ServerOptions;

    async fn state() -> (TempDir, ServerState, MadeKey) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::from_json(&json!({"store": {"backend": "memory", "config": {}}})).unwrap();
        let builder = Mos::builder(settings).data_dir(folder.path()).embedder(Arc::new(WordEmbedder::new("words", 64)));
        let mos = builder.build().await.unwrap();
        let made = mos.create_key(NewKey::user("ann")).await.unwrap();
        let state = ServerState::new(App::new(mos, ProductOptions::default()), ServerOptions::default());
        (folder, state, made)
    }

    #[tokio::test]
    async fn what_another_server_revoked_is_noticed_after_a_while() {
        let (_folder, state, made) = state().await;
        tokio::time::pause();
        let mut end = Box::pin(unusable(state.clone(), made.text.clone()));
        assert!(end.as_mut().now_or_never().is_none(), "it is good");
        tokio::time::advance(EVERY + Duration::from_secs(1)).await;
        assert!(end.as_mut().now_or_never().is_none(), "and stays so");
        // Past the server, which is not told.
        state.app().mos().revoke_key(&made.key.id).await.unwrap();
        assert!(end.as_mut().now_or_never().is_none(), "nobody knows");
        tokio::time::advance(EVERY + Duration::from_secs(1)).await;
        assert!(end.as_mut().now_or_never().is_some(), "it is looked at again");
    }

    #[tokio::test(start_paused = true)]
    async fn only_failures_with_time_between_them_end_a_stream() {
        let mut failures = Failures::default();
        assert!(!failures.are_too_many());
        assert!(!failures.are_too_many(), "two keys may be revoked while the store is away for a moment");
        tokio::time::advance(EVERY - Duration::from_secs(1)).await;
        assert!(!failures.are_too_many());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(failures.are_too_many(), "it is away");
    }

    #[tokio::test]
    async fn what_this_server_revokes_ends_at_once() {
        let (_folder, state, made) = state().await;
        tokio::time::pause();
        let mut end = Box::pin(unusable(state.clone(), made.text.clone()));
        assert!(end.as_mut().now_or_never().is_none());
        state.auth().forget_key(&"another".into());
        assert!(end.as_mut().now_or_never().is_none(), "another one was");
        state.app().mos().revoke_key(&made.key.id).await.unwrap();
        state.auth().forget_key(&made.key.id);
        assert!(end.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_user_who_goes_takes_streams_along() {
        let (_folder, state, made) = state().await;
        let user = made.key.user.clone().unwrap();
        let mut end = Box::pin(unusable(state.clone(), made.text.clone()));
        assert!(end.as_mut().now_or_never().is_none());
        state.app().mos().delete_user(&user).await.unwrap();
        state.auth().forget_user(&user);
        assert!(end.as_mut().now_or_never().is_some());
    }
}
