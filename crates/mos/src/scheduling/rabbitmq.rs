//! The scheduler's events to a RabbitMQ broker, when the settings name one.

use std::sync::Arc;

use mos_config::Settings;
use mos_config::scheduler::RabbitMq;
use mos_scheduler::EventSink;

use crate::error::Result;

/// Returns what publishes events to the broker of the scheduler's settings; `None` when they name none, or nothing is scheduled.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) in a build that cannot publish; for settings that cannot be used, errors that say
/// which.
pub(crate) async fn sink(settings: &Settings) -> Result<Option<Arc<dyn EventSink>>> {
    match configured(settings) {
        Some(config) => made::sink(config).await.map(Some),
        None => Ok(None),
    }
}

/// Asks the broker of the scheduler's settings whether events can be published to it, and returns where it is; `None` when they
/// name none, or nothing is scheduled.
pub(crate) async fn reach(settings: &Settings) -> Option<Result<String>> {
    match configured(settings) {
        Some(config) => Some(made::reach(config).await),
        None => None,
    }
}

fn configured(settings: &Settings) -> Option<&RabbitMq> {
    let scheduler = settings.mem_scheduler.as_ref().filter(|_| settings.enable_mem_scheduler)?;
    scheduler.settings().common.rabbitmq.as_ref().filter(|rabbitmq| rabbitmq.names_a_broker())
}

#[cfg(not(feature = "rabbitmq"))]
mod made {
    use std::sync::Arc;

    use mos_config::scheduler::RabbitMq;
    use mos_scheduler::EventSink;

    use crate::error::{Error, Result};

    pub(super) async fn sink(_: &RabbitMq) -> Result<Arc<dyn EventSink>> {
        Err(lacking())
    }

    pub(super) async fn reach(_: &RabbitMq) -> Result<String> {
        Err(lacking())
    }

    fn lacking() -> Error {
        Error::Invalid(
            "mem_scheduler.config.rabbitmq needs the `rabbitmq` feature, which this build lacks; build it with `cargo build \
             --features rabbitmq`, or remove the section (and MEMSCHEDULER_RABBITMQ_HOST_NAME from the environment)"
                .to_owned(),
        )
    }
}

#[cfg(feature = "rabbitmq")]
mod made {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use mos_config::Secret;
    use mos_config::scheduler::RabbitMq;
    use mos_core::BoxError;
    use mos_scheduler::{Event, EventSink};
    use mos_stores::{ExchangeType, RabbitOptions, RabbitPublisher};

    use crate::error::Result;

    /// The key that MemOS publishes with.
    const ROUTING_KEY: &str = "memos-scheduler";
    /// The port that a broker has for TLS.
    const TLS_PORT: u16 = 5671;
    /// How long the end of a program waits for the broker.
    const PATIENCE: Duration = Duration::from_secs(5);

    pub(super) async fn sink(config: &RabbitMq) -> Result<Arc<dyn EventSink>> {
        let publisher = RabbitPublisher::open(options(config)?).await?;
        let routing_key = config.routing_key.clone().unwrap_or_else(|| ROUTING_KEY.to_owned());
        Ok(Arc::new(RabbitSink { publisher, routing_key }))
    }

    pub(super) async fn reach(config: &RabbitMq) -> Result<String> {
        Ok(RabbitPublisher::reach(options(config)?).await?)
    }

    fn options(config: &RabbitMq) -> Result<RabbitOptions> {
        let mut options = match &config.url {
            Some(url) => RabbitOptions::from_url(url.expose())?,
            None => RabbitOptions::at(
                config.host_name.as_deref().unwrap_or("localhost"),
                config.port,
                config.tls.unwrap_or(config.port == Some(TLS_PORT)),
                config.user_name.as_deref().unwrap_or("guest"),
                config.password.as_ref().map_or("guest", Secret::expose),
                config.virtual_host.as_deref().unwrap_or("/"),
            ),
        };
        if let Some(name) = &config.exchange_name {
            options.exchange.clone_from(name);
        }
        if config.exchange_type.as_deref() == Some("direct") {
            options.exchange_type = ExchangeType::Direct;
        }
        options.ca_certificate.clone_from(&config.ca_certificate);
        Ok(options)
    }

    /// Publishes events as the JSON of MemOS' web log.
    #[derive(Debug)]
    struct RabbitSink {
        publisher: RabbitPublisher,
        routing_key: String,
    }

    #[async_trait]
    impl EventSink for RabbitSink {
        async fn publish(&self, event: &Event) -> std::result::Result<(), BoxError> {
            let body = serde_json::to_vec(event)?;
            self.publisher.publish(&body, &self.routing_key)?;
            Ok(())
        }

        async fn flush(&self) {
            if !self.publisher.flush(PATIENCE).await {
                let waiting = self.publisher.delivered().waiting;
                tracing::warn!(waiting, "the program ends before RabbitMQ took all events; they are in the event log");
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use mos_config::Setting;
        use serde_json::{Value, json};

        use super::*;

        fn shown(config: Value) -> String {
            format!("{:?}", options(&RabbitMq::from_json(&config).unwrap()).unwrap())
        }

        #[test]
        fn the_settings_words_become_options() {
            let shown_parts = shown(json!({
                "host_name": "broker", "port": 5671, "user_name": "ann", "password": "hunter2",
                "virtual_host": "memos", "exchange_name": "mine", "exchange_type": "direct",
            }));
            for part in ["AMQPS", "broker:5671, virtual host `memos`", "\"ann\"", "\"mine\"", "Direct"] {
                assert!(shown_parts.contains(part), "{part}: {shown_parts}");
            }
            assert!(!shown_parts.contains("hunter2"), "{shown_parts}");
            let usual = shown(json!({"host_name": "broker"}));
            for part in ["broker:5672, virtual host `/`", "\"guest\"", "\"memos-fanout\"", "Fanout"] {
                assert!(usual.contains(part), "{part}: {usual}");
            }
            assert!(shown(json!({"host_name": "b", "port": 5671, "tls": false})).contains("scheme: AMQP,"));
        }
    }
}
