//! `mos add` of files, folders, addresses and conversations that a reader reads.

use mos::{DocumentFiles, Mos, Remember, document_files};
use mos_core::{
    CubeId, FileData, ItemReport, MemoryItem, Outcome, RawFile, RawItem, ReadInput, ReadMode, ReadReport, Sources,
};
use serde_json::{Value, json};

use super::messages;
use crate::arguments::AddArguments;
use crate::context::Context;
use crate::progress;

/// How much of a memory a dry run shows, in characters.
const MAX_SHOWN: usize = 160;

/// Something to read, and what to call it.
struct Source {
    shown: String,
    input: ReadInput,
    /// Whether it is what stands at an address, of which more than the address is wanted.
    is_address: bool,
}

impl Source {
    fn new(shown: impl Into<String>, input: ReadInput) -> Self {
        Self { shown: shown.into(), input, is_address: false }
    }
}

/// What came of one source, or of all of them.
#[derive(Debug, Default)]
struct Told {
    lines: String,
    n_memories: usize,
    n_known: usize,
    n_removed: usize,
    n_not_kept: usize,
    n_references: usize,
}

impl Told {
    fn new(lines: String, n_memories: usize, report: &ReadReport) -> Self {
        let n_not_kept = report.items.iter().filter(|item| item.is_lost()).count();
        Self { lines, n_memories, n_not_kept, n_references: report.count(Outcome::Reference), ..Self::default() }
    }

    fn add(&mut self, other: &Self) {
        self.n_memories += other.n_memories;
        self.n_known += other.n_known;
        self.n_removed += other.n_removed;
        self.n_not_kept += other.n_not_kept;
    }

    fn summary(&self, n_sources: usize) -> String {
        let (n_memories, n_not_kept) = (self.n_memories, self.n_not_kept);
        let counts = counts(self.n_known, self.n_removed);
        format!("{n_sources} inputs: {n_memories} memories ({counts}), {n_not_kept} items not kept")
    }
}

/// `3 known before`, and how many are gone where that is any.
fn counts(n_known: usize, n_removed: usize) -> String {
    match n_removed {
        0 => format!("{n_known} known before"),
        _ => format!("{n_known} known before, {n_removed} removed that changed files no longer say"),
    }
}

/// Whether a reader is asked for; otherwise every message is a memory as it is.
pub(super) fn is_meant(arguments: &AddArguments) -> bool {
    let names_files = !arguments.file.is_empty() || !arguments.url.is_empty() || !arguments.skill.is_empty();
    names_files || arguments.fine || arguments.dry_run
}

/// Reads everything that the arguments name, one after the other, and tells of each. What was read before is known and
/// stays as it is, so that the same command can be run again after an interruption; a file that has changed takes the place of
/// what it said before. What could not be kept does not stand in
/// the way of the rest; it is counted, and is a failure in the end.
pub(super) async fn add(context: &Context, arguments: AddArguments) -> anyhow::Result<()> {
    let (sources, left_out) = sources(&arguments)?;
    left_out.iter().for_each(|note| context.output.note(note));
    let (mos, cube) = match arguments.dry_run {
        true => context.open_to_look(arguments.fine).await?,
        false => {
            let mos = context.open().await?;
            let cube = context.ensure_cube(&mos).await?;
            (mos, cube)
        }
    };
    let bar = progress::counter(sources.len(), if arguments.dry_run { "reading" } else { "remembering" });
    let n_sources = sources.len();
    let (mut all, mut n_failed, mut n_unread) = (Told::default(), 0, 0);
    for source in sources {
        let what = remember(context, &arguments, &cube, source.input);
        let told = if arguments.dry_run {
            would_remember(context, &mos, &source.shown, what).await
        } else {
            remembered(context, &mos, &source.shown, what).await
        };
        match told {
            Ok(told) => {
                all.add(&told);
                n_unread += usize::from(source.is_address && told.n_references > 0);
                bar.suspend(|| context.output.line(&told.lines))?;
            }
            Err(error) => {
                n_failed += 1;
                bar.suspend(|| context.output.error(&format!("{}: {error:#}", source.shown)));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if n_sources > 1 && !context.output.json {
        context.output.line(&all.summary(n_sources))?;
    }
    if !arguments.dry_run {
        super::organize::wait(context, &mos, Some(&cube)).await?;
    }
    anyhow::ensure!(n_failed == 0, "{n_failed} of {n_sources} inputs could not be stored; the others are");
    anyhow::ensure!(
        n_unread == 0 || arguments.dry_run,
        "{n_unread} addresses could not be read, for the reasons above; of them nothing but the address is kept"
    );
    let n_not_kept = if arguments.dry_run { 0 } else { all.n_not_kept };
    anyhow::ensure!(n_not_kept == 0, "{n_not_kept} items could not be kept, for the reasons above; everything else is");
    Ok(())
}

fn remember(context: &Context, arguments: &AddArguments, cube: &CubeId, input: ReadInput) -> Remember {
    let mode = if arguments.fine { ReadMode::Fine } else { ReadMode::Fast };
    // Whoever uploads a skill that was removed wants it back.
    let is_upload = matches!(input.items.as_slice(), [RawItem::Skills(_)]);
    let what = Remember::new(input).user(context.user.clone()).cube(cube.clone()).mode(mode).told_anew(is_upload);
    match &arguments.session {
        Some(session) => what.session(session.as_str()),
        None => what,
    }
}

async fn remembered(context: &Context, mos: &Mos, shown: &str, what: Remember) -> anyhow::Result<Told> {
    let done = mos.remember(what).await?;
    let n_memories = done.ids.len() + done.raw_files.len();
    let (n_known, n_removed) = (done.n_known, done.removed.len());
    let lines = if context.output.json {
        json!({"input": shown, "memory_ids": done.ids, "raw_file_ids": done.raw_files, "n_known": n_known,
            "removed_ids": done.removed, "preference_ids": done.preferences, "report": done.report})
        .to_string()
    } else {
        let counts = counts(n_known, n_removed);
        let mut lines = vec![format!("remembered {n_memories} memories of {shown} ({counts})")];
        if !done.preferences.is_empty() {
            lines.push(format!("  learned {} preferences", done.preferences.len()));
        }
        lines.extend(report_lines(&done.report));
        lines.join("\n")
    };
    Ok(Told { n_known, n_removed, ..Told::new(lines, n_memories, &done.report) })
}

async fn would_remember(context: &Context, mos: &Mos, shown: &str, what: Remember) -> anyhow::Result<Told> {
    let reading = mos.read(what).await?;
    let n_memories = reading.n_memories();
    let items = reading.raw.iter().chain(&reading.memories).chain(&reading.raw_files);
    if context.output.json {
        let memories: Vec<Value> = items.map(MemoryItem::to_compact_value).collect();
        let value = json!({"input": shown, "memories": memories, "report": reading.report});
        return Ok(Told::new(value.to_string(), n_memories, &reading.report));
    }
    let mut lines = vec![format!("would remember {n_memories} memories of {shown}")];
    lines.extend(items.map(|item| format!("  {}", first_words(item))));
    lines.extend(report_lines(&reading.report));
    Ok(Told::new(lines.join("\n"), n_memories, &reading.report))
}

fn first_words(item: &MemoryItem) -> String {
    let kind = item.metadata.memory_type().map_or("memory", |kind| kind.as_str());
    let words = item.memory.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().take(MAX_SHOWN).collect();
    let more = if shown.len() < words.len() { " …" } else { "" };
    format!("{kind}: {shown}{more}")
}

/// What is worth telling: items that are not simply kept, memories that were dropped, warnings, memories that are kept apart.
fn report_lines(report: &ReadReport) -> Vec<String> {
    let words = |item: &ItemReport| {
        let outcome = match item.outcome {
            Outcome::Kept => "kept",
            Outcome::Raw => "kept as it was",
            Outcome::Reference => "kept as a reference",
            Outcome::NotKept => "not kept",
        };
        item.reason.as_ref().map(|reason| format!("  {}: {outcome}: {reason}", item.item))
    };
    let items = report.items.iter().filter_map(words);
    let dropped = report.dropped.iter().map(|one| format!("  dropped {:?}: {}", one.memory, one.reason));
    let warnings = report.warnings.iter().map(|warning| format!("  warning: {warning}"));
    let apart = report.quarantined.iter().map(|one| format!("  quarantined {}: it {}", one.id, one.reason));
    items.chain(dropped).chain(warnings).chain(apart).collect()
}

/// Returns what is read, and what the folders hold besides, a sentence each.
fn sources(arguments: &AddArguments) -> anyhow::Result<(Vec<Source>, Vec<String>)> {
    let mut sources = Vec::new();
    let DocumentFiles { files, left_out } = document_files(&arguments.file)?;
    for path in files {
        let shown = path.display().to_string();
        let file = RawFile { id: None, name: None, url: None, data: FileData::Path(path) };
        // Whoever may start this program may read the files that they name.
        let input = ReadInput { sources: Sources::of_owner(), ..ReadInput::file(file) };
        sources.push(Source::new(shown, input));
    }
    for path in &arguments.skill {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let skills = RawItem::Skills(RawFile { id: None, name, url: None, data: FileData::Path(path.clone()) });
        let input = ReadInput { items: vec![skills], sources: Sources::of_owner(), ..ReadInput::default() };
        sources.push(Source::new(path.display().to_string(), input));
    }
    for url in &arguments.url {
        anyhow::ensure!(is_address(url), "`{url}` is no address to read from; one begins with https:// or http://");
        let file = RawFile { id: None, name: None, url: None, data: FileData::Text(url.clone()) };
        sources.push(Source { is_address: true, ..Source::new(url.as_str(), ReadInput::file(file)) });
    }
    if let Some(path) = &arguments.messages {
        let value: Value = messages::read_json(path, "a JSON list of messages")?;
        sources.push(Source::new(path.display().to_string(), ReadInput::from_value(value)));
    }
    if let Some(text) = &arguments.text {
        sources.push(Source::new("the text", ReadInput::text(text.clone())));
    }
    Ok((sources, left_out))
}

/// Whether a word can be an address; any other would be remembered as a text.
fn is_address(word: &str) -> bool {
    let word = word.trim().trim_start_matches('@').to_ascii_lowercase();
    ["https://", "http://", "data:"].iter().any(|beginning| word.starts_with(beginning))
}
