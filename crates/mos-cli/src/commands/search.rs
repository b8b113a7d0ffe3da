//! `mos search`.

use mos::{FoundMemory, Search, SearchResult};
use mos_core::{CubeId, Duplicates, QueryPath, SearchMode};
use serde_json::Value;

use crate::arguments::SearchArguments;
use crate::context::Context;
use crate::progress;

pub(super) async fn search(context: &Context, arguments: SearchArguments) -> anyhow::Result<()> {
    let mos = context.open().await?;
    let explain = arguments.explain;
    let found = progress::spinning("searching", mos.search(asked(context, arguments)?)).await?;
    if !context.output.json {
        for (cube, note) in found.notes() {
            context.output.note(&format!("note: {cube}: {note}"));
        }
    }
    context.output.value(&found, |found| told(found, explain))
}

/// The search that the arguments ask for.
fn asked(context: &Context, arguments: SearchArguments) -> anyhow::Result<Search> {
    let unknown = |kind: &str, word: &str| anyhow::anyhow!("`{word}` is no {kind}");
    let mode = SearchMode::parse(&arguments.mode).ok_or_else(|| unknown("mode", &arguments.mode))?;
    let duplicates =
        Duplicates::parse(&arguments.dedup).ok_or_else(|| unknown("way of deduplication", &arguments.dedup))?;
    let mut search = Search::new(arguments.query)
        .user(context.user.clone())
        .mode(mode)
        .deep(arguments.deep)
        .sub_questions(arguments.sub_questions)
        .rerank(!arguments.no_rerank)
        .internet(arguments.internet)
        .duplicates(duplicates)
        .relevance(arguments.relevance);
    if let Some(cube) = &context.cube {
        search = search.cubes([cube.clone()]);
    }
    if let Some(top_k) = arguments.top_k {
        search = search.top_k(top_k);
    }
    if let Some(session) = arguments.session {
        search = search.session(session.as_str());
    }
    if let Some(session) = arguments.prefer_session {
        search = search.prefer_session(session.as_str());
    }
    if let Some(as_of) = arguments.as_of {
        search = search.as_of(as_of);
    }
    Ok(search)
}

/// What was found, for people.
fn told(found: &SearchResult, explain: bool) -> String {
    let mut lines: Vec<String> = found
        .best()
        .into_iter()
        .map(|(cube, hit)| if explain { explained(cube, hit) } else { plain(cube, hit) })
        .collect();
    lines.extend(found.pref_string());
    if lines.is_empty() { "nothing found".to_owned() } else { lines.join("\n") }
}

fn plain(cube: &CubeId, hit: &FoundMemory) -> String {
    format!("{:.3}  {}\n       {} in {cube} ({})", hit.score, hit.item.memory, hit.item.id, signals(hit))
}

fn explained(cube: &CubeId, hit: &FoundMemory) -> String {
    let mut lines = vec![
        format!("{:.3}  {}", hit.score, hit.item.memory),
        format!("       {} in {cube}, relativity {:.3}", hit.item.id, hit.relativity),
        format!("       signals: {}", signals(hit)),
        format!("       found by: {}", hit.paths.iter().map(|path| in_words(*path)).collect::<Vec<_>>().join(", ")),
    ];
    if let Some(reranked) = &hit.reranked {
        lines.push(format!("       reranker: {} {:.3}", reranked.name, reranked.score));
    }
    lines.extend(hit.sources().iter().map(|source| format!("       source: {}", source_in_words(source))));
    lines.join("\n")
}

fn signals(hit: &FoundMemory) -> String {
    let signals = hit.signals.iter().map(|signal| format!("{} {:.3}", signal.name, signal.score));
    signals.collect::<Vec<_>>().join(", ")
}

fn in_words(path: QueryPath) -> &'static str {
    match path {
        QueryPath::Question => "the question",
        QueryPath::Statement => "a statement that may answer it",
        QueryPath::SubQuestion => "a part of the question",
        QueryPath::Internet => "the internet",
        QueryPath::Deep => "what was still missing",
    }
}

/// A source as `type key value, key value ...`.
fn source_in_words(source: &Value) -> String {
    let fields = source.as_object().into_iter().flatten().filter(|(key, _)| *key != "type");
    let fields = fields.map(|(key, value)| match value {
        Value::String(text) => format!("{key} {text}"),
        other => format!("{key} {other}"),
    });
    let kind = source["type"].as_str().unwrap_or("unknown");
    format!("{kind} {}", fields.collect::<Vec<_>>().join(", "))
}
