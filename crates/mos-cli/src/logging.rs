//! What is told while the program works: lines on standard error, for people or for programs, and traces to a collector.

use std::any::Any;
use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// A library that tells of whole messages, and memories stand in them.
const TALKATIVE: &str = "rmcp";

/// The variables that say what is told: the first that is set counts.
const FILTERS: [&str; 2] = ["MOS_LOG", "RUST_LOG"];

/// The variable that says what lines look like: `text`, or `json` for one object in each line.
const FORMAT: &str = "MOS_LOG_FORMAT";

/// Sends traces somewhere.
pub(crate) type Traces = Box<dyn Layer<Registry> + Send + Sync>;

/// Must be kept for as long as traces are sent; sends what is left when it is dropped.
pub(crate) type Sending = Box<dyn Any>;

/// Begins to log. `MOS_LOG` says what, else `RUST_LOG`, else the number of `-v`; `MOS_LOG_FORMAT` says how. Traces hold what is
/// told at the level `info`, whatever is in the lines.
pub(crate) fn start(verbose: u8, traces: Option<Traces>) {
    let default = match verbose {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let set = FILTERS.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let wanted = set.into_iter().find(|(_, text)| !text.trim().is_empty());
    let read = wanted.map(|(name, text)| EnvFilter::try_new(text).map_err(|error| (name, error))).transpose();
    let (wanted, fault) = read.map_or_else(|fault| (None, Some(fault)), |filter| (filter, None));
    let mut filter = wanted.unwrap_or_else(|| EnvFilter::new(default));
    if let Ok(quiet) = format!("{TALKATIVE}=warn").parse() {
        filter = filter.add_directive(quiet);
    }
    let format = std::env::var(FORMAT).unwrap_or_default();
    let told = Targets::new().with_default(LevelFilter::INFO).with_target(TALKATIVE, LevelFilter::WARN);
    let traces = traces.map(|traces| traces.with_filter(told));
    tracing_subscriber::registry().with(traces).with(lines(is_json()).with_filter(filter)).init();
    if !matches!(format.as_str(), "" | "text" | "json") {
        tracing::error!("{FORMAT} must be `text` or `json`; lines are text");
    }
    if let Some((name, error)) = fault {
        tracing::error!("{name} is passed over: {error}; write `info`, or `mos_server=debug`");
    }
}

/// Whether lines on standard error are JSON.
pub(crate) fn is_json() -> bool {
    std::env::var(FORMAT).is_ok_and(|format| format == "json")
}

/// Writes lines to standard error. They have colours where a person reads them: a file and a journal would keep control characters.
fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(is_json: bool) -> Box<dyn Layer<S> + Send + Sync> {
    let has_colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|name| name.is_empty());
    let lines = fmt::layer().with_ansi(has_colours).with_writer(std::io::stderr);
    if is_json { lines.json().flatten_event(true).boxed() } else { lines.boxed() }
}
