//! Where the broker is, and how it is spoken to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};
use mos_core::StoreError;

/// How an exchange hands messages on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExchangeType {
    /// To every queue that is bound to it.
    #[default]
    Fanout,
    /// To the queues that are bound to it with the message's routing key.
    Direct,
}

impl ExchangeType {
    pub(super) fn kind(self) -> ExchangeKind {
        match self {
            Self::Fanout => ExchangeKind::Fanout,
            Self::Direct => ExchangeKind::Direct,
        }
    }
}

/// Where the broker is, and how much may wait for it. `Debug` shows no password.
#[derive(Clone)]
pub struct RabbitOptions {
    pub(super) uri: AMQPUri,
    /// The exchange that messages go to; it is made, durable, where it is not there.
    pub exchange: String,
    /// Its type: one that is there must have it.
    pub exchange_type: ExchangeType,
    /// File with the certificates of trusted authorities, in PEM form, besides the system's. Only for TLS.
    pub ca_certificate: Option<PathBuf>,
    /// Messages that may wait for the broker, at least 1.
    pub capacity: usize,
    /// How long connecting, and each answer of the broker, may take.
    pub answer_timeout: Duration,
}

impl RabbitOptions {
    /// Returns options for an address like `amqp://user:password@host:5672/virtual%20host`; `amqps` uses TLS. Without a path
    /// the virtual host is `/`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it is no such address. The error does not repeat it, since it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let invalid = || {
            StoreError::Invalid(
                "the address of the RabbitMQ broker cannot be read; write it as amqp://user:password@host:5672/%2f, with \
                 amqps:// for TLS, and characters like @ or / in the password and the virtual host percent-encoded"
                    .to_owned(),
            )
        };
        let mut uri: AMQPUri = url.parse().map_err(|_| invalid())?;
        // The parser takes `localhost` for an address of this form.
        if let Some(host) = ipv6_host(url) {
            uri.authority.host = host.ok_or_else(invalid)?;
        }
        if uri.authority.host.is_empty() {
            return Err(invalid());
        }
        // A single `/` behind the host means the usual virtual host: one with an empty name cannot be made.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        Ok(Self::of(uri))
    }

    /// Returns options for a broker by its parts. Without a port the usual one: 5672, with TLS 5671.
    pub fn at(host: &str, port: Option<u16>, uses_tls: bool, user: &str, password: &str, virtual_host: &str) -> Self {
        let scheme = if uses_tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP };
        let port = port.unwrap_or_else(|| scheme.default_port());
        let userinfo = AMQPUserInfo { username: user.to_owned(), password: password.to_owned() };
        let authority = AMQPAuthority { userinfo, host: host.to_owned(), port };
        Self::of(AMQPUri { scheme, authority, vhost: virtual_host.to_owned(), ..AMQPUri::default() })
    }

    fn of(uri: AMQPUri) -> Self {
        Self {
            uri,
            exchange: "memos-fanout".to_owned(),
            exchange_type: ExchangeType::default(),
            ca_certificate: None,
            capacity: 1_000,
            answer_timeout: Duration::from_secs(10),
        }
    }

    /// Host, port and virtual host, for people.
    pub(super) fn address(&self) -> String {
        let authority = &self.uri.authority;
        format!("{}:{}, virtual host `{}`", authority.host, authority.port, self.uri.vhost)
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        // The broker keeps the name without letters, and those that begin with `amq.`, for itself.
        let name = &self.exchange;
        if name.is_empty() || name.starts_with("amq.") || ShortString::try_new(name.as_str()).is_err() {
            return Err(StoreError::Invalid(format!(
                "the exchange `{name}` must have a name of 1 to 255 bytes that does not begin with `amq.`"
            )));
        }
        if self.capacity == 0 {
            return Err(StoreError::Invalid("at least 1 message must be able to wait for the broker".to_owned()));
        }
        Ok(())
    }
}

impl fmt::Debug for RabbitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitOptions")
            .field("scheme", &self.uri.scheme)
            .field("address", &self.address())
            .field("user", &self.uri.authority.userinfo.username)
            .field("exchange", &self.exchange)
            .field("exchange_type", &self.exchange_type)
            .field("ca_certificate", &self.ca_certificate)
            .field("capacity", &self.capacity)
            .field("answer_timeout", &self.answer_timeout)
            .finish()
    }
}

/// The host of an address that gives it in brackets; `Some(None)` where the brackets do not hold one.
fn ipv6_host(url: &str) -> Option<Option<String>> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default().strip_prefix('[')?;
    let host = host.split_once(']').map(|(host, _)| host);
    Some(host.filter(|host| host.parse::<std::net::Ipv6Addr>().is_ok()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_what_they_leave_out() {
        let options = RabbitOptions::from_url("amqp://localhost").unwrap();
        assert_eq!(options.address(), "localhost:5672, virtual host `/`");
        assert_eq!(RabbitOptions::from_url("amqp://localhost/").unwrap().uri.vhost, "/");
        let options = RabbitOptions::from_url("amqps://ann:p%40ss@broker/mos").unwrap();
        assert_eq!(options.address(), "broker:5671, virtual host `mos`");
        assert_eq!(options.uri.scheme, AMQPScheme::AMQPS);
        assert_eq!(options.uri.authority.userinfo.password, "p@ss");
        let options = RabbitOptions::from_url("amqp://ann:x@127.0.0.1:5673/%2f").unwrap();
        assert_eq!(options.address(), "127.0.0.1:5673, virtual host `/`");
        let options = RabbitOptions::from_url("amqp://ann:x@[::1]:5673/%2f").unwrap();
        assert_eq!(options.address(), "::1:5673, virtual host `/`");
        let parts = RabbitOptions::at("127.0.0.1", Some(5673), false, "ann", "x", "/");
        assert_eq!(parts.address(), "127.0.0.1:5673, virtual host `/`");
        assert_eq!(RabbitOptions::at("b", None, true, "", "", "/").uri.authority.port, 5671);
    }

    #[test]
    fn no_secret_is_shown() {
        let options = RabbitOptions::from_url("amqp://ann:hunter2@broker/mos").unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        for url in ["redis://ann:hunter2@broker", "amqp://ann:hunter2@broker:many", "hunter2", "hunter2:x"] {
            let error = RabbitOptions::from_url(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn exchanges_that_the_broker_keeps_for_itself_are_refused() {
        let with = |name: &str| RabbitOptions {
            exchange: name.to_owned(),
            ..RabbitOptions::at("b", None, false, "guest", "guest", "/")
        };
        assert!(with("memos-fanout").check().is_ok());
        for name in ["", "amq.fanout", &"x".repeat(256)] {
            assert!(with(name).check().is_err(), "{name}");
        }
        assert!(RabbitOptions { capacity: 0, ..with("x") }.check().is_err());
    }
}
