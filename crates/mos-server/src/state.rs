//! What all handlers share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mos::product::App;
use mos_core::KeyHash;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::auth::Auth;
use crate::guard::{Rates, Work};
use crate::metrics::Metrics;
use crate::options::ServerOptions;

/// What all handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerState {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    app: App,
    options: ServerOptions,
    metrics: Metrics,
    rates: Rates,
    work: Work,
    auth: Auth,
    audit: Audit,
    /// Whether nobody should be sent here any more.
    is_leaving: AtomicBool,
    /// Whether the server is about to stop.
    stopping: watch::Sender<bool>,
}

impl ServerState {
    /// Returns the state of a server over an app.
    pub fn new(app: App, options: ServerOptions) -> Self {
        Self::with_master_key(app, options, None)
    }

    /// As [`ServerState::new`]; the key of this hash, which need not be in the store, is a program's with all scopes.
    pub fn with_master_key(app: App, options: ServerOptions, master: Option<KeyHash>) -> Self {
        let audit = Audit::at(app.mos().data_dir().join("audit"));
        let (auth, metrics) = (Auth::new(master), Metrics::new());
        let (rates, work) = (Rates::new(options.rate_limit), Work::new(&options));
        let (is_leaving, stopping) = (AtomicBool::new(false), watch::Sender::new(false));
        Self { parts: Arc::new(Parts { app, options, auth, audit, metrics, rates, work, is_leaving, stopping }) }
    }

    /// The product API and the facade under it.
    pub fn app(&self) -> &App {
        &self.parts.app
    }

    /// How the server behaves.
    pub fn options(&self) -> &ServerOptions {
        &self.parts.options
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// How often callers may call.
    pub(crate) fn rates(&self) -> &Rates {
        &self.parts.rates
    }

    /// The places for requests that are worked on.
    pub(crate) fn work(&self) -> &Work {
        &self.parts.work
    }

    /// Who calls.
    pub(crate) fn auth(&self) -> &Auth {
        &self.parts.auth
    }

    /// Who changed what.
    pub(crate) fn audit(&self) -> &Audit {
        &self.parts.audit
    }

    /// From now on nobody should be sent here: the server was told to stop.
    pub(crate) fn leave(&self) {
        self.parts.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether the server was told to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.parts.is_leaving.load(Ordering::Relaxed)
    }

    /// Tells streams that only watch that the server is about to stop.
    pub(crate) fn stop_watching(&self) {
        self.parts.stopping.send_replace(true);
    }

    /// Is ready when the server is about to stop.
    pub(crate) fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.parts.stopping.subscribe();
        async move {
            // When nobody is left who could tell, it has stopped.
            let _is_told = stopping.wait_for(|is_stopping| *is_stopping).await.is_ok();
        }
    }
}
