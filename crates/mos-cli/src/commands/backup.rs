//! `mos backup` and `mos restore`

use std::path::Path;

use anyhow::Context as _;
use mos::backup::{BackedUp, BackupOptions, Restored};

use crate::arguments::BackupArguments;
use crate::context::Context;
use crate::progress::spinner;

pub(super) async fn back_up(context: &Context, arguments: BackupArguments) -> anyhow::Result<()> {
    mos::backup::check_source(&context.settings, context.data_dir.as_deref()).context("no backup was made")?;
    let mos = context.open().await?;
    let bar = spinner("copying and checking");
    let made = mos.back_up(&BackupOptions { to: arguments.to, with_caches: !arguments.without_caches }).await;
    bar.finish_and_clear();
    context.output.value(&made.context("no backup was made")?, told)
}

pub(super) async fn restore(context: &Context, file: &Path) -> anyhow::Result<()> {
    let data_dir = mos::backup::restored_data_dir(&context.settings, context.data_dir.as_deref());
    let data_dir = data_dir.context("nothing was restored")?;
    let bar = spinner("checking and restoring");
    let restored = mos::backup::restore_to(file, &context.settings, &data_dir).await;
    bar.finish_and_clear();
    context.output.value(&restored.context("nothing was restored")?, told_of_restored)
}

fn told(made: &BackedUp) -> String {
    let database = &made.database;
    let mut text = format!(
        "{}\t{} bytes, read back and sound: {} users, {} cubes, {} memories",
        made.file.display(),
        made.bytes,
        database.n_users,
        database.n_cubes,
        database.n_memories
    );
    if made.n_jobs_left > 0 {
        text.push_str(&format!(
            "\n{} jobs are not in it: they wait to get into a queue that is full, and stay there; make another backup when it is not",
            made.n_jobs_left
        ));
    }
    text
}

fn told_of_restored(restored: &Restored) -> String {
    let database = &restored.database;
    let place = match &restored.moved {
        Some(report) => report.to.clone(),
        None => restored.data_dir.display().to_string(),
    };
    let mut text = format!(
        "restored to {place} what was there at {}, and compared it: {} users, {} cubes, {} memories",
        restored.backed_up_at, database.n_users, database.n_cubes, database.n_memories
    );
    if let Some(report) = &restored.moved {
        text.push_str(&format!("\n{} keys new, {} known already", report.n_new_keys, report.n_known_keys));
        if report.n_new_keys > 0 {
            text.push_str("; a new one that was deleted there since the backup is good again: revoke it");
        }
        let n_jobs: u64 = report.cubes.iter().map(|cube| cube.background.n_jobs()).sum();
        text.push_str(&format!("\n{n_jobs} jobs came"));
    }
    if let Some(files) = &restored.files {
        let folder = restored.data_dir.display();
        text.push_str(&format!("\n{} files new in {folder}, {} there already", files.n_new, files.n_same));
    }
    for left in &restored.left {
        text.push_str(&format!("\nnot restored: {left}"));
    }
    text
}
