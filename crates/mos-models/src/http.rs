//! One way to ask a server: bounded waits, bounded retries, sorted errors, masked secrets.

use std::cmp::Reverse;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use futures::StreamExt;
use mos_core::{ModelError, ServerWords};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use crate::options::{HttpOptions, ServerOptions, place};
use crate::secret::Secret;

/// The longest wait that a date can ask for: what lies further away is a mistake of somebody's clock.
const MAX_DATED_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A refusal, and whether asking again may help.
pub(crate) struct Refusal {
    pub(crate) error: ModelError,
    pub(crate) may_pass: bool,
    /// How long the server asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn lasting(error: ModelError) -> Self {
        Self { error, may_pass: false, retry_after: None }
    }

    pub(crate) fn passing(error: ModelError) -> Self {
        let retry_after = match &error {
            ModelError::RateLimited { retry_after } => *retry_after,
            _ => None,
        };
        Self { error, may_pass: true, retry_after }
    }
}

/// A server that is asked over HTTP and answers with JSON.
pub(crate) struct Server {
    client: Client,
    base: Url,
    headers: HeaderMap,
    parameters: Vec<(String, String)>,
    /// Texts that must not be shown, wherever they turn up; the longest first, so that of one that holds another nothing is
    /// left over.
    secrets: Vec<Secret>,
    pub(crate) options: HttpOptions,
    /// What to do when the model is unknown.
    missing_model: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("base", &self.place()).field("options", &self.options).finish_non_exhaustive()
    }
}

impl Server {
    /// A server below whose address the paths of requests lie.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for an address or a header that cannot be one.
    pub(crate) fn open(options: &ServerOptions, missing_model: String) -> Result<Self, ModelError> {
        let mut server = Self::at(options, missing_model)?;
        if !server.base.path().ends_with('/') {
            server.base.set_path(&format!("{}/", server.base.path()));
        }
        Ok(server)
    }

    /// A server with one address, which is asked as it stands, with its query: the path of a request is empty.
    ///
    /// # Errors
    /// As [`Server::open`].
    pub(crate) fn at(options: &ServerOptions, missing_model: String) -> Result<Self, ModelError> {
        crate::install_crypto();
        let base = Url::parse(options.base_url.trim())
            .ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
            .ok_or_else(|| {
                // The text is not repeated: an address can hold a password.
                ModelError::Invalid("the server's address must look like http://host:port/v1".to_owned())
            })?;
        let mut secrets: Vec<Secret> = options.headers.iter().map(|(_, value)| value.clone()).collect();
        secrets.extend(base.password().map(Secret::new));
        // Some services take their key in the address; what is short is no key, and masking it would garble texts.
        secrets.extend(base.query_pairs().filter(|(_, value)| value.len() >= 8).map(|(_, value)| Secret::new(value)));
        let mut headers = HeaderMap::new();
        if let Some(key) = options.api_key.as_ref().filter(|key| !key.is_empty()) {
            headers.insert(AUTHORIZATION, header_value("the API key", &format!("Bearer {}", key.expose()))?);
            secrets.push(key.clone());
        }
        for (name, value) in &options.headers {
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ModelError::Invalid(format!("`{name}` cannot be the name of a header")))?;
            headers.insert(parsed, header_value(&format!("header `{name}`"), value.expose())?);
        }
        let client = Client::builder()
            .connect_timeout(options.http.connect_timeout)
            // A redirected POST becomes a GET, and credentials would travel: the address must be right.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ModelError::Internal { context: "preparing HTTP", source: error.into() })?;
        secrets.retain(|secret| !secret.is_empty());
        longest_first(&mut secrets);
        let parameters = options.parameters.clone();
        Ok(Self { client, base, headers, parameters, secrets, options: options.http.clone(), missing_model })
    }

    /// Masks a text in every error.
    pub(crate) fn hide(&mut self, secret: Secret) {
        if !secret.is_empty() {
            self.secrets.push(secret);
            longest_first(&mut self.secrets);
        }
    }

    /// Returns the address without credentials and query.
    pub(crate) fn place(&self) -> String {
        place(&self.base)
    }

    /// Returns the repetitions that a request has.
    pub(crate) fn retries(&self, started: Instant) -> Retries<'_> {
        Retries { server: self, started, n_repeated: 0, wait: self.options.backoff }
    }

    /// Sends one request with JSON and returns the answer once its head is there.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Response, Refusal> {
        let mut url = self
            .base
            .join(path)
            .map_err(|_| Refusal::lasting(ModelError::Invalid(format!("{} has no `{path}`", self.place()))))?;
        if !self.parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.parameters);
        }
        self.send(self.client.post(url).headers(self.headers.clone()).json(body)).await
    }

    /// Sends one request whose parameters stand in the address, and returns the answer once its head is there.
    async fn get(&self, parameters: &[(&str, String)]) -> Result<Response, Refusal> {
        let mut url = self.base.clone();
        url.query_pairs_mut().extend_pairs(parameters);
        self.send(self.client.get(url).headers(self.headers.clone())).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Refusal> {
        let send = request.send();
        let response = match tokio::time::timeout(self.options.first_byte_timeout, send).await {
            // Not repeated: the server may still be at work on it, and the caller has waited long.
            Err(_) => return Err(Refusal::lasting(self.silent(self.options.first_byte_timeout))),
            Ok(sent) => sent.map_err(|error| Refusal::passing(self.unreachable(&error)))?,
        };
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    pub(crate) fn silent(&self, waited: Duration) -> ModelError {
        ModelError::Unavailable(format!("{} sent nothing for {} s", self.place(), waited.as_secs_f64()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> ModelError {
        let what = if error.is_connect() { "cannot be reached" } else { "broke the connection" };
        ModelError::Unavailable(format!(
            "{} {what}: {}; check that the server runs and that the address is right",
            self.place(),
            self.redact(&innermost(error))
        ))
    }

    /// Sorts a status that is no success.
    async fn refused(&self, response: Response) -> Refusal {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        // What the server says about it; a body that breaks off says nothing.
        let body = self.body(response, Instant::now(), 64 << 10).await.unwrap_or_default();
        let parsed: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let said = self.message(&parsed, &body);
        self.sort(status.as_u16(), &parsed, &said, retry_after)
    }

    /// Sorts an error by its status, as an answer's head or an error inside a stream tells it.
    pub(crate) fn sort(&self, status: u16, body: &Value, said: &str, retry_after: Option<Duration>) -> Refusal {
        let place = self.place();
        let code = StatusCode::from_u16(status).ok();
        match status {
            // Servers repeat parts of the key in these, so that their words are not shown.
            401 | 403 => Refusal::lasting(ModelError::Denied(format!(
                "{place} refused the credentials (status {status}); check the API key"
            ))),
            404 => Refusal::lasting(ModelError::NotFound(format!(
                "{place} answers with status 404; {}",
                self.missing_model
            ))),
            429 if body["error"]["code"] == "insufficient_quota" => {
                Refusal::lasting(ModelError::Denied(format!("{place}: the account's quota is used up")))
            }
            429 => Refusal::passing(ModelError::RateLimited { retry_after }),
            408 | 500.. => Refusal {
                error: ModelError::ServerFault {
                    fault: format!("{place} failed with status {status}"),
                    said: ServerWords(said.to_owned()),
                },
                // What is not implemented now will not be soon.
                may_pass: status != 501 && status != 505,
                retry_after,
            },
            _ if code.is_some_and(|code| code.is_redirection()) => Refusal::lasting(ModelError::Invalid(format!(
                "{place} answers with a redirect (status {status}); configure the address that it leads to"
            ))),
            _ => {
                Refusal::lasting(ModelError::Invalid(format!("{place} refused the request (status {status}): {said}")))
            }
        }
    }

    /// Returns what an error body says, short and without secrets.
    pub(crate) fn message(&self, parsed: &Value, body: &[u8]) -> String {
        let candidates = [&parsed["error"]["message"], &parsed["error"], &parsed["message"], &parsed["detail"]];
        let said = candidates.into_iter().find_map(Value::as_str).map_or_else(
            || if parsed.is_null() { String::from_utf8_lossy(body).into_owned() } else { parsed.to_string() },
            str::to_owned,
        );
        let short: String = self.redact(said.trim()).chars().filter(|letter| !letter.is_control()).take(500).collect();
        if short.is_empty() { "no reason given".to_owned() } else { short }
    }

    fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "********"))
    }

    /// Reads a whole body of at most `limit` bytes.
    pub(crate) async fn body(&self, response: Response, started: Instant, limit: usize) -> Result<Vec<u8>, ModelError> {
        let mut stream = response.bytes_stream();
        let mut body = Vec::new();
        loop {
            match tokio::time::timeout(self.patience(started, self.options.idle_timeout)?, stream.next()).await {
                Err(_) => return Err(self.silent(self.options.idle_timeout)),
                Ok(None) => return Ok(body),
                Ok(Some(Err(error))) => return Err(self.broken(&error)),
                Ok(Some(Ok(bytes))) if body.len() + bytes.len() > limit => return Err(self.too_large(limit)),
                Ok(Some(Ok(bytes))) => body.extend_from_slice(&bytes),
            }
        }
    }

    pub(crate) fn broken(&self, error: &reqwest::Error) -> ModelError {
        ModelError::BadAnswer(format!(
            "the answer of {} broke off: {}; try again",
            self.place(),
            self.redact(&innermost(error))
        ))
    }

    pub(crate) fn too_large(&self, limit: usize) -> ModelError {
        ModelError::BadAnswer(format!("the answer of {} is larger than {limit} bytes", self.place()))
    }

    /// Returns how long the next piece may take: `wait`, but not beyond the total.
    pub(crate) fn patience(&self, started: Instant, wait: Duration) -> Result<Duration, ModelError> {
        match self.options.total_timeout.checked_sub(started.elapsed()) {
            Some(left) if !left.is_zero() => Ok(wait.min(left)),
            _ => Err(ModelError::Unavailable(format!(
                "{} was not done after {} s",
                self.place(),
                self.options.total_timeout.as_secs_f64()
            ))),
        }
    }

    /// Sends JSON and returns the whole answer, with retries.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Result<Value, ModelError> {
        self.whole(|| self.post(path, body)).await
    }

    /// Asks with parameters in the address and returns the whole answer, with retries.
    pub(crate) async fn look_up(&self, parameters: &[(&str, String)]) -> Result<Value, ModelError> {
        self.whole(|| self.get(parameters)).await
    }

    async fn whole<R>(&self, request: impl Fn() -> R + Send + Sync) -> Result<Value, ModelError>
    where
        R: Future<Output = Result<Response, Refusal>> + Send,
    {
        let started = Instant::now();
        let mut retries = self.retries(started);
        let response = loop {
            match request().await {
                Ok(response) => break response,
                Err(refusal) => retries.wait_after(refusal).await?,
            }
        };
        let bytes = self.body(response, started, self.options.max_body_bytes).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            ModelError::BadAnswer(format!(
                "the answer of {} is not JSON ({error}); is it the right address?",
                self.place()
            ))
        })
    }
}

/// The repetitions that one request has left.
pub(crate) struct Retries<'a> {
    server: &'a Server,
    started: Instant,
    n_repeated: usize,
    wait: Duration,
}

impl Retries<'_> {
    /// Waits before the next repetition.
    ///
    /// # Errors
    /// The refusal's own error, when a repetition would not help, or the repetitions or the time are used up.
    pub(crate) async fn wait_after(&mut self, refusal: Refusal) -> Result<(), ModelError> {
        let Refusal { error, may_pass, retry_after } = refusal;
        let options = &self.server.options;
        let asked = match retry_after {
            // A little more than asked for: others were told the same moment.
            Some(asked) => asked.saturating_add(spread(self.wait).min(Duration::from_secs(1))),
            None => spread(self.wait),
        };
        let is_patient = retry_after.is_none_or(|asked| asked <= options.max_backoff);
        let is_worth_it = may_pass && self.n_repeated < options.max_retries && is_patient;
        if !is_worth_it || self.started.elapsed() + asked >= options.total_timeout {
            return Err(error);
        }
        tracing::debug!(
            server = %self.server.place(),
            n_repeated = self.n_repeated,
            wait_ms = asked.as_millis(),
            "asking again"
        );
        tokio::time::sleep(asked).await;
        self.n_repeated += 1;
        self.wait = (self.wait * 2).min(options.max_backoff);
        Ok(())
    }
}

fn longest_first(secrets: &mut [Secret]) {
    secrets.sort_by_key(|secret| Reverse(secret.expose().len()));
}

/// Returns `wait` without up to half of it, by chance.
fn spread(wait: Duration) -> Duration {
    // Every `RandomState` hashes in its own way: chance enough for this, without a dependency.
    let chance = (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64;
    wait.mul_f64(1.0 - chance / 2.0)
}

/// Returns the cause at the bottom, without the address, which may hold credentials.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut text = None;
    while let Some(deeper) = cause {
        text = Some(deeper.to_string());
        cause = deeper.source();
    }
    text.unwrap_or_else(|| "the request failed".to_owned())
}

fn header_value(what: &str, text: &str) -> Result<HeaderValue, ModelError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| ModelError::Invalid(format!("{what} has characters that a header cannot carry")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads `Retry-After` in seconds or as a date, or the milliseconds that some services tell beside it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| -> Option<f64> { text(name)?.parse().ok() };
    match number("retry-after-ms").map(|wait| wait / 1000.0).or_else(|| number(RETRY_AFTER.as_str())) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => until(text(RETRY_AFTER.as_str())?, text(DATE.as_str())),
    }
}

/// Returns how long it is until a moment, by the server's own clock: that of this machine may go wrong. A moment that is over
/// asks for no wait; one that is further away than [`MAX_DATED_WAIT`] is that far away.
fn until(moment: &str, now: Option<&str>) -> Option<Duration> {
    let moment = httpdate::parse_http_date(moment).ok()?;
    let now = httpdate::parse_http_date(now?).ok()?;
    Some(moment.duration_since(now).unwrap_or_default().min(MAX_DATED_WAIT))
}

/// Whether an answer says that it is of this media type.
pub(crate) fn is_media(response: &Response, media: &str) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains(media))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_secret_that_holds_another_nothing_is_shown() {
        let mut options = ServerOptions::new("http://localhost:1/v1");
        options.headers = vec![("x-tenant".to_owned(), Secret::new("acme-key"))];
        options.api_key = Some(Secret::new("acme-key-7f3a"));
        let mut server = Server::open(&options, String::new()).unwrap();
        server.hide(Secret::new("acme-key-7f3a-more"));
        let said = "keys acme-key-7f3a-more, acme-key-7f3a and acme-key are unknown";
        let shown = server.message(&Value::Null, said.as_bytes());
        assert_eq!(shown, "keys ********, ******** and ******** are unknown");
    }

    #[test]
    fn waits_are_spread_over_the_second_half() {
        let wait = Duration::from_secs(8);
        let waits: Vec<Duration> = (0..200).map(|_| spread(wait)).collect();
        assert!(waits.iter().all(|one| (wait / 2..=wait).contains(one)), "{waits:?}");
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*most - *least > Duration::from_secs(2), "chance spreads them: {least:?} to {most:?}");
    }

    #[test]
    fn servers_say_how_long_to_wait_in_seconds_or_milliseconds() {
        let wait = |name: &'static str, value: &'static str| {
            retry_after(&HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]))
        };
        assert_eq!(wait("retry-after", " 2.5"), Some(Duration::from_millis(2500)));
        assert_eq!(wait("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(wait("retry-after", "-1"), None);
        assert_eq!(wait("retry-after", "soon"), None);
        assert_eq!(
            wait("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"),
            None,
            "no clock of the server to compare with"
        );
    }

    #[test]
    fn a_date_to_wait_for_is_compared_with_the_servers_clock_and_bounded() {
        let wait = |until: &'static str| {
            let head = [(RETRY_AFTER, until), (DATE, "Fri, 31 Dec 1999 23:59:30 GMT")];
            retry_after(&HeaderMap::from_iter(head.map(|(name, value)| (name, HeaderValue::from_static(value)))))
        };
        assert_eq!(wait("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::from_secs(29)));
        assert_eq!(wait("Sat, 01 Jan 2000 00:00:30 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(wait("Fri, 31 Dec 1999 00:00:00 GMT"), Some(Duration::ZERO), "it is over");
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT"), Some(MAX_DATED_WAIT));
    }
}
