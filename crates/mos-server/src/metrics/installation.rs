//! What the installation tells about itself: its stores, the queue, the scheduler, models, caches and files.

use std::path::{Path, PathBuf};

use mos::Mos;
use mos_core::{Clock, JobQueue, QueueStats, StoreError, SystemClock};
use prometheus::Result;

use super::sheet::Sheet;

/// The most tenants whose jobs are counted at a time.
const MAX_TENANTS: usize = 1_000;

/// Returns the numbers of an installation in the text format.
pub(super) async fn text(mos: &Mos) -> Result<String> {
    let sheet = Sheet::default();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    sheet.gauge("mos_build_info", "The version that runs.", ["version"], [([version], 1.0)])?;
    if let Some(bytes) = resident_bytes() {
        sheet.gauge("process_resident_memory_bytes", "Memory that the process has.", [], [([], number(bytes))])?;
    }
    let stores = mos.reachable().await;
    let rows = stores.iter().map(|(store, answers)| ([(*store).to_owned()], f64::from(u8::from(*answers))));
    sheet.gauge("mos_store_up", "Whether a store answers (1) or not (0).", ["store"], rows)?;
    // One that is away would keep the other numbers waiting.
    if let Some(queue) = mos.queue().filter(|_| !stores.contains(&("queue", false))) {
        match jobs(queue.as_ref()).await {
            Ok(jobs) => add_jobs(&sheet, &jobs)?,
            // The other numbers are wanted all the more.
            Err(error) => tracing::warn!(%error, "the queue could not be counted"),
        }
    }
    add_scheduler(&sheet, mos)?;
    add_models(&sheet, mos)?;
    add_caches(&sheet, mos)?;
    add_files(&sheet, mos.database())?;
    sheet.text()
}

/// What is in the queue, of all tenants together.
#[derive(Debug, Default)]
struct Jobs {
    stats: QueueStats,
    n_tenants: usize,
    n_uncounted: usize,
}

async fn jobs(queue: &dyn JobQueue) -> std::result::Result<Jobs, StoreError> {
    let tenants = queue.tenants().await?;
    let mut jobs =
        Jobs { n_tenants: tenants.len(), n_uncounted: tenants.len().saturating_sub(MAX_TENANTS), ..Jobs::default() };
    for tenant in tenants.iter().take(MAX_TENANTS) {
        let QueueStats { waiting, claimed, dead, oldest } = queue.stats(tenant).await?;
        let sum = &mut jobs.stats;
        (sum.waiting, sum.claimed, sum.dead) = (sum.waiting + waiting, sum.claimed + claimed, sum.dead + dead);
        sum.oldest = [sum.oldest, oldest].into_iter().flatten().min();
    }
    Ok(jobs)
}

fn add_jobs(sheet: &Sheet, jobs: &Jobs) -> Result<()> {
    let QueueStats { waiting, claimed, dead, oldest } = &jobs.stats;
    let states = [("waiting", waiting), ("claimed", claimed), ("dead", dead)];
    let rows = states.map(|(state, n_jobs)| ([state.to_owned()], count(*n_jobs)));
    sheet.gauge("mos_queue_jobs", "Jobs in the queue.", ["state"], rows)?;
    let age = oldest.map_or(0.0, |oldest| SystemClock.now().duration_since(oldest).as_secs_f64());
    sheet.gauge("mos_queue_oldest_seconds", "Age of the oldest job that is not done.", [], [([], age.max(0.0))])?;
    sheet.gauge("mos_queue_tenants", "Cubes that have jobs.", [], [([], count(jobs.n_tenants))])?;
    let help = "Cubes whose jobs are not in these numbers because there are too many.";
    sheet.gauge("mos_queue_tenants_not_counted", help, [], [([], count(jobs.n_uncounted))])
}

fn add_scheduler(sheet: &Sheet, mos: &Mos) -> Result<()> {
    let Some(scheduler) = mos.scheduler() else { return Ok(()) };
    let labels = scheduler.metrics();
    let rows = labels.iter().flat_map(|(label, metrics)| {
        let outcomes = [
            ("submitted", metrics.submitted),
            ("completed", metrics.completed),
            ("retried", metrics.retried),
            ("failed", metrics.failed),
            ("released", metrics.released),
        ];
        outcomes.map(|(outcome, n_messages)| ([label.clone(), outcome.to_owned()], number(n_messages)))
    });
    let help = "What became of messages since the process began.";
    sheet.counter("mos_scheduler_messages_total", help, ["label", "outcome"], rows)?;
    let rows = labels.iter().map(|(label, metrics)| ([label.clone()], metrics.seconds));
    sheet.counter("mos_scheduler_handler_seconds_total", "Seconds that handlers took.", ["label"], rows)
}

fn add_models(sheet: &Sheet, mos: &Mos) -> Result<()> {
    let totals = mos.usage_totals();
    let rows = totals.by_model.iter().flat_map(|(model, tokens)| {
        let kinds = [
            ("prompt", tokens.prompt_tokens),
            ("cached", tokens.cached_tokens),
            ("completion", tokens.completion_tokens),
            ("embedded", tokens.embedded_tokens),
        ];
        kinds.map(|(kind, n_tokens)| ([model.clone(), kind.to_owned()], number(n_tokens)))
    });
    let help = "Tokens of models since the beginning; cached ones are among those of prompts.";
    sheet.counter("mos_model_tokens_total", help, ["model", "kind"], rows)?;
    let rows = totals.by_model.iter().map(|(model, tokens)| ([model.clone()], number(tokens.calls)));
    sheet.counter("mos_model_answers_total", "Answers of models since the beginning.", ["model"], rows)?;
    let saved = totals.by_model.values().fold(0_u64, |sum, tokens| sum.saturating_add(tokens.cached_tokens));
    let help = "Tokens of prompts that were not computed because their state was kept.";
    sheet.counter("mos_kv_saved_prefill_tokens_total", help, [], [([], number(saved))])?;
    let help = "Answers since the process began that a kept state made shorter.";
    sheet.counter("mos_kv_hits_total", help, [], [([], number(totals.n_cached_calls))])
}

fn add_caches(sheet: &Sheet, mos: &Mos) -> Result<()> {
    let Some(usage) = mos.cache_usage() else { return Ok(()) };
    sheet.gauge("mos_kv_caches", "Kept states of models.", [], [([], count(usage.n_items))])?;
    let tiers = [("ram", usage.ram_bytes), ("disk", usage.disk_bytes), ("remote", usage.remote_bytes)];
    let rows = tiers.map(|(tier, n_bytes)| ([tier.to_owned()], number(n_bytes)));
    sheet.gauge("mos_kv_cache_bytes", "Bytes of kept states.", ["tier"], rows)
}

/// The files of the embedded record: their size is known without reading them.
fn add_files(sheet: &Sheet, database: Option<&Path>) -> Result<()> {
    let files = database.into_iter().flat_map(|database| {
        ["", "-wal"].map(|ending| {
            let mut file = database.as_os_str().to_owned();
            file.push(ending);
            PathBuf::from(file)
        })
    });
    let sizes = files.filter_map(|file| {
        let name = file.file_name()?.to_string_lossy().into_owned();
        Some((name, std::fs::metadata(&file).ok()?.len()))
    });
    let rows = sizes.map(|(name, n_bytes)| ([name], number(n_bytes)));
    sheet.gauge("mos_store_file_bytes", "Bytes of the files of the embedded record.", ["file"], rows)
}

/// Returns the memory of this process; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn number(number: u64) -> f64 {
    number as f64
}

fn count(n: usize) -> f64 {
    number(u64::try_from(n).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_database_of_any_name_are_measured() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("real.db", "12345"), ("real.db-wal", "123"), ("mos.db", "1")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let sheet = Sheet::default();
        add_files(&sheet, Some(&folder.path().join("real.db"))).unwrap();
        let text = sheet.text().unwrap();
        for line in [r#"mos_store_file_bytes{file="real.db"} 5"#, r#"mos_store_file_bytes{file="real.db-wal"} 3"#] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains(r#"file="mos.db""#), "{text}");
        let sheet = Sheet::default();
        add_files(&sheet, None).unwrap();
        assert!(!sheet.text().unwrap().contains("mos_store_file_bytes{"));
    }
}
