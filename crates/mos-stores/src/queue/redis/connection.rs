//! The connection to the server, and what is asked of the server before it is trusted with jobs.

use std::fmt;
use std::time::Duration;

use mos_core::StoreError;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisError, Script};

use super::fault::{may_pass, store_error};
use crate::queue::QueueLimits;
use crate::server_version::is_older;

/// The oldest server whose scripts can be told not to begin when memory is full.
const OLDEST_VERSION: (u32, u32) = (7, 0);
/// Waits before a call is repeated. There are as many repetitions as waits.
const BACKOFF: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];
/// Attempts of the driver to connect anew, within one call.
const N_RECONNECTS: usize = 2;
const LONGEST_RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// Where the server is, and how much the queue takes. Documents and logs are beside the queue. `Debug` shows no password.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    info: ConnectionInfo,
    /// Begins every key. Queues, and documents and logs, of different prefixes do not know each other. Without braces and
    /// colons.
    pub prefix: String,
    /// How much the queue takes.
    pub limits: QueueLimits,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub answer_timeout: Duration,
}

impl RedisOptions {
    /// Returns options for an address like `redis://user:password@host:6379/0`; `rediss` uses TLS.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when it is no such address. The error does not repeat it, since it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        let info = url.into_connection_info().map_err(|_| {
            StoreError::Invalid(
                "the address of the Redis server cannot be read; write it as redis://user:password@host:6379/0, with \
                 rediss:// for TLS, and characters like @ or / in the password percent-encoded"
                    .to_owned(),
            )
        })?;
        let is_unchecked = matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. });
        if is_unchecked {
            return Err(StoreError::Invalid(
                "the address of the Redis server asks for TLS without checking the certificate; remove `#insecure`"
                    .to_owned(),
            ));
        }
        Ok(Self::of(info))
    }

    /// Returns options for a server by its parts. `database` is its number, usually 0.
    pub fn at(host: &str, port: u16, database: u16, user: Option<&str>, password: Option<&str>) -> Self {
        let mut settings = redis::RedisConnectionInfo::default().set_db(i64::from(database));
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let addr = ConnectionAddr::Tcp(host.to_owned(), port);
        // An address of this kind is good as it stands: the driver has no error for it.
        let info = addr.into_connection_info().expect("host and port are an address");
        Self::of(info.set_redis_settings(settings))
    }

    /// Returns which queue it is, for people and to tell queues apart: address, number of the database and prefix. Two ways to
    /// write an address are two places.
    pub fn place(&self) -> String {
        format!("Redis at {}, database {}, prefix `{}`", self.info.addr(), self.info.redis_settings().db(), self.prefix)
    }

    fn of(info: ConnectionInfo) -> Self {
        Self {
            info,
            prefix: "mos".to_owned(),
            limits: QueueLimits::default(),
            connect_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(5),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.prefix.is_empty() || !self.prefix.chars().all(is_good) {
            return Err(StoreError::Invalid(format!(
                "the prefix `{}` of the queue's keys must be letters, digits, `-`, `_` and `.`",
                self.prefix
            )));
        }
        Ok(())
    }
}

/// Whether a call may be sent again when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Done twice, it does the same as once.
    Safe,
    Never,
}

/// A connection that is made anew when it was lost, for one part of the keys.
pub(super) struct Connection {
    manager: ConnectionManager,
    address: String,
    /// Begins the keys of every part; all of them lie in one slot of a cluster.
    namespace: String,
    /// Begins every key of this part.
    prefix: String,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).field("prefix", &self.prefix).finish()
    }
}

impl Connection {
    /// `part` is the second part of every key.
    pub(super) async fn open(options: RedisOptions, part: &str) -> Result<Self, StoreError> {
        options.check()?;
        // An error means that a provider of cryptography is installed already, which is all that is needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = options.info.addr().to_string();
        let fail = |error: RedisError| store_error(&error, &address);
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.answer_timeout))
            .set_number_of_retries(N_RECONNECTS)
            .set_max_delay(LONGEST_RECONNECT_DELAY);
        let client = Client::open(options.info).map_err(fail)?;
        let mut manager = ConnectionManager::new_with_config(client, config).await.map_err(fail)?;
        match redis::cmd("INFO").query_async::<String>(&mut manager).await {
            Ok(info) => check_server(&info, &address)?,
            Err(error) if error.code() == Some("NOPERM") => {
                tracing::warn!(address, "the Redis user may not ask for INFO: the server's settings are not checked");
            }
            Err(error) => return Err(fail(error)),
        }
        let namespace = format!("{{{}}}", options.prefix);
        let prefix = format!("{namespace}:{part}");
        Ok(Self { manager, address, namespace, prefix })
    }

    /// Returns the same connection for another part of the keys.
    pub(super) fn beside(&self, part: &str) -> Self {
        let prefix = format!("{}:{part}", self.namespace);
        Self { manager: self.manager.clone(), address: self.address.clone(), namespace: self.namespace.clone(), prefix }
    }

    /// Runs a script. A call that may be repeated is, when the connection broke.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        script: &Script,
        arguments: &[String],
        repeat: Repeat,
    ) -> Result<T, StoreError> {
        let mut waits = BACKOFF.iter();
        loop {
            let error = match self.call_once(script, arguments).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match waits.next().filter(|_| repeat == Repeat::Safe && may_pass(&error)) {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return Err(store_error(&error, &self.address)),
            }
        }
    }

    async fn call_once<T: FromRedisValue>(&self, script: &Script, arguments: &[String]) -> Result<T, RedisError> {
        let mut invocation = script.key(self.prefix.as_str());
        for argument in arguments {
            invocation.arg(argument.as_str());
        }
        invocation.invoke_async(&mut self.manager.clone()).await
    }
}

/// Refuses a server that is too old or would drop jobs; warns of one that may forget them.
fn check_server(info: &str, address: &str) -> Result<(), StoreError> {
    let setting = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let invalid = |what: String| Err(StoreError::Invalid(format!("the Redis server at {address} {what}")));
    let version = setting("redis_version").unwrap_or_default();
    if is_older(version, OLDEST_VERSION) {
        return invalid(format!("has version `{version}`; the queue needs 7.0 or later"));
    }
    let policy = setting("maxmemory_policy").unwrap_or_default();
    let is_bounded = setting("maxmemory").is_some_and(|bytes| bytes != "0");
    if is_bounded && policy.starts_with("allkeys") {
        return invalid(format!(
            "drops keys when its memory is full (`maxmemory-policy {policy}`), and jobs with them; set `noeviction`"
        ));
    }
    if setting("aof_enabled") == Some("0") {
        tracing::warn!(
            address,
            "the Redis server keeps no append-only file: jobs it acknowledged are lost when it dies; set `appendonly yes`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "# Server\r\nredis_version:7.2.4\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";

    #[test]
    fn a_server_that_would_lose_jobs_is_refused() {
        assert!(check_server(GOOD, "here").is_ok());
        let old = check_server(&GOOD.replace("7.2.4", "6.2.14"), "here").unwrap_err().to_string();
        assert!(old.contains("6.2.14") && old.contains("7.0"), "{old}");
        let evicting = GOOD.replace("noeviction", "allkeys-lru");
        assert!(check_server(&evicting, "here").is_ok(), "without a bound nothing is evicted");
        let error = check_server(&evicting.replace("maxmemory:0", "maxmemory:1000"), "here").unwrap_err().to_string();
        assert!(error.contains("noeviction"), "{error}");
    }

    #[test]
    fn no_secret_is_shown() {
        let options = RedisOptions::from_url("redis://ann:hunter2@localhost:6379/1").unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        let options = RedisOptions::at("localhost", 6379, 0, Some("ann"), Some("hunter2"));
        assert!(!format!("{options:?}").contains("hunter2"));
        assert_eq!(options.place(), "Redis at localhost:6379, database 0, prefix `mos`");
        let error = RedisOptions::from_url("redis://ann:hunter2@:x").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn bad_addresses_and_prefixes_are_refused() {
        assert!(RedisOptions::from_url("http://localhost").is_err());
        assert!(RedisOptions::from_url("rediss://localhost/#insecure").is_err());
        for prefix in ["", "a}b", "a:b", "a b"] {
            let options = RedisOptions { prefix: prefix.to_owned(), ..RedisOptions::from_url("redis://x").unwrap() };
            assert!(options.check().is_err(), "{prefix}");
        }
    }
}
