//! Traces to a collector of OpenTelemetry.
//!
//! A trace holds what spans hold: names, ids, counts and times, never the text of a memory.

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, Registry};

use crate::options::Telemetry;

/// A layer that sends spans somewhere, for the subscriber of a program.
pub type Traces = Box<dyn Layer<Registry> + Send + Sync>;

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub struct Sending(SdkTracerProvider);

impl Drop for Sending {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Returns a layer that sends every span to the collector, and what must be kept for as long as it does. Must be called within a
/// tokio runtime. A collector that is not there is no error: traces are lost then, and nothing else.
///
/// # Errors
/// A sentence that says what is wrong with the address.
pub fn layer(telemetry: &Telemetry) -> Result<(Traces, Sending), String> {
    let mut builder = SpanExporter::builder().with_tonic().with_endpoint(telemetry.endpoint.as_str());
    if telemetry.endpoint.starts_with("https://") {
        // Of itself it trusts nobody.
        builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter =
        builder.build().map_err(|error| format!("traces cannot be sent to {}: {error}", telemetry.endpoint))?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(telemetry.sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name(telemetry.service_name.clone()).build())
        .build();
    let tracer = provider.tracer("mos");
    Ok((tracing_opentelemetry::layer().with_tracer(tracer).boxed(), Sending(provider)))
}

/// Makes a request a part of the trace that its caller is in, when its headers name one.
pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract(&Named(headers));
    if !context.span().span_context().is_valid() {
        return;
    }
    if let Err(error) = span.set_parent(context) {
        tracing::debug!(?error, "the trace of a caller was not continued");
    }
}

/// The headers of a request, as the propagator reads them.
struct Named<'a>(&'a HeaderMap);

impl Extractor for Named<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}
