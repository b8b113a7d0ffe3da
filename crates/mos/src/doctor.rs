//! Looking for what is wrong, and saying what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mos_core::{EmbeddingSpace, QueueStats, Scope, StoreError};
use mos_kv::{CheckLimits, FolderCheck};
use mos_stores::Drift;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::facade::Mos;
use crate::folders;
use crate::scheduling;

/// How far a look at kept caches goes: some seconds on a usual disk.
const CACHE_LIMITS: CheckLimits = CheckLimits { max_bytes: 8 << 30, max_time: Duration::from_secs(20) };

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub what: String,
    /// How it shows.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Folders, versions, counts.
    pub facts: BTreeMap<String, String>,
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
    /// What was wrong and is not any more, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mended: Vec<String>,
}

impl Report {
    pub(crate) fn fact(&mut self, name: &str, value: impl ToString) {
        self.facts.insert(name.to_owned(), value.to_string());
    }

    pub(crate) fn finding(&mut self, what: impl ToString, detail: impl ToString, remedy: impl ToString) {
        self.findings.push(Finding { what: what.to_string(), detail: detail.to_string(), remedy: remedy.to_string() });
    }
}

/// Returns what an error and all its causes say, each once.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Says what was mended of a cube; nothing when nothing differed.
fn mended(scope: &Scope, is_known: bool, drift: &Drift) -> Option<String> {
    let parts = [
        (drift.missing.len(), "missing, written"),
        (drift.stale.len(), "out of date, written again"),
        (drift.extra.len(), "of memories that the store does not hold, removed"),
    ];
    let told = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let told = told.collect::<Vec<_>>().join("; ");
    let cube = if is_known { "cube" } else { "the cube, which does not exist any more," };
    (!drift.is_empty()).then(|| format!("vectors of {cube} `{}`: {told}", scope.cube))
}

impl Mos {
    /// Checks the data (structure, indexes, statistics, embeddings), kept caches, the models and the cubes' encoders.
    ///
    /// # Errors
    /// Only when a check could not be made; what is wrong stands in the report.
    pub async fn doctor(&self) -> Result<Report> {
        let mut report = Report::default();
        report.fact("data folder", self.data_dir().display());
        report.fact("models folder", folders::models_dir(self.settings())?.display());
        report.fact("cpu", crate::cpu_path());
        self.check_store(&mut report).await?;
        let can_read = self.check_record_server(&mut report).await;
        self.check_queue(&mut report).await;
        self.check_broker(&mut report).await;
        self.check_vectors(&mut report).await;
        let can_list_cubes = self.check_users(&mut report).await?;
        // A damaged database answers nothing that could be relied on.
        if can_read && can_list_cubes && !report.findings.iter().any(|finding| finding.what == "damaged file") {
            self.check_encoder(&mut report).await?;
        }
        self.check_caches(&mut report).await;
        self.check_chat_model(&mut report).await;
        Ok(report)
    }

    /// Checks the files of kept caches: all heads, and checksums as far as [`CACHE_LIMITS`] allows it.
    async fn check_caches(&self, report: &mut Report) {
        for caches in self.parts.activation.caches() {
            let found = match caches.check(CACHE_LIMITS).await {
                Ok(None) => continue,
                Ok(Some(found)) => found,
                Err(error) => {
                    report.finding("caches", whole(&error), "make the folder readable for this user");
                    continue;
                }
            };
            let FolderCheck { n_files, n_bytes, n_read, n_verified, unreadable, n_untold } = found;
            report.fact("caches", format!("{n_files} files, {n_bytes} bytes"));
            if n_verified < n_files {
                let told =
                    format!("{n_read} of {n_files} heads read, {n_verified} checksums compared: a check is bounded");
                report.fact("caches checked", told);
            }
            for file in unreadable {
                let remedy = match file.is_removable {
                    true => format!("`mos kv rm {}` removes it; what it kept can be computed again", file.name),
                    false => "use the program and the user that wrote it, or remove it".to_owned(),
                };
                report.finding("cache file", file.detail, remedy);
            }
            if n_untold > 0 {
                report.finding(
                    "cache files",
                    format!("{n_untold} more cannot be used"),
                    "remove those above, then look again",
                );
            }
        }
    }

    async fn check_store(&self, report: &mut Report) -> Result<()> {
        report.fact("store", &self.parts.store_name);
        let Some(sqlite) = &self.parts.sqlite else { return Ok(()) };
        // Asking for the right to append changes nothing.
        if let Err(error) = std::fs::OpenOptions::new().append(true).open(sqlite.path()) {
            report.finding(
                "read-only file",
                format!("{} cannot be written: {error}", sqlite.path().display()),
                "make the file and its folder writable for this user, or choose another data folder",
            );
        }
        let is_known_better = |what: &str| self.parts.has_users_apart && what == mos_stores::UNKNOWN_CUBE;
        for found in sqlite.check().await?.into_iter().filter(|found| !is_known_better(&found.what)) {
            report.finding(found.what, found.detail, found.remedy);
        }
        let statistics = match sqlite.statistics().await {
            Ok(statistics) => statistics,
            // What is wrong was told above; numbers of a damaged file would say little.
            Err(_) if !report.findings.is_empty() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        report.fact("schema version", statistics.schema_version);
        report.fact("file bytes", statistics.file_bytes);
        if !self.parts.has_users_apart {
            report.fact("users", statistics.n_users);
            report.fact("cubes", statistics.n_cubes);
        }
        report.fact("memories", statistics.n_memories);
        report.fact("embeddings", statistics.n_embeddings);
        report.fact("edges", statistics.n_edges);
        Ok(())
    }

    /// Asks the server of the vectors, when they are on one.
    async fn check_vectors(&self, report: &mut Report) {
        let Some(qdrant) = &self.parts.qdrant else {
            return report.fact("vectors", "in this process, following the store");
        };
        match qdrant.facts().await {
            Ok(facts) => facts.iter().for_each(|(name, value)| report.fact(&format!("vectors: {name}"), value)),
            Err(error) => {
                let remedy =
                    "make the Qdrant server available, or correct its address and key; it then catches up by itself";
                report.finding("vectors", whole(&error), remedy);
            }
        }
    }

    /// Checks as [`Mos::doctor`] does, then compares what the Qdrant server holds of every cube with the store and mends
    /// what differs. What was found and mended stands in [`Report::mended`]. Reads all embeddings from both sides.
    ///
    /// # Errors
    /// As [`Mos::doctor`]; [`Error::Invalid`](crate::Error::Invalid) when the vectors are not on a server.
    pub async fn reconcile(&self) -> Result<Report> {
        let Some(qdrant) = &self.parts.qdrant else {
            return Err(Error::Invalid(
                "there is nothing to reconcile: the vectors are in this process and always follow the store; \
                 `vectors.backend: qdrant` puts them on a server"
                    .to_owned(),
            ));
        };
        let mut report = self.doctor().await?;
        if report.findings.iter().any(|finding| ["vectors", "users", "damaged file"].contains(&finding.what.as_str())) {
            return Ok(report);
        }
        let known: BTreeSet<Scope> =
            self.parts.users.cubes(None).await?.iter().map(|cube| Scope::of(&cube.cube_id)).collect();
        let scopes: BTreeSet<Scope> = qdrant.scopes().await?.into_iter().chain(known.iter().cloned()).collect();
        let mut n_differences = 0;
        for scope in &scopes {
            let drift = match qdrant.reconcile(scope, true).await {
                Ok(drift) => drift,
                Err(error) => {
                    let what = format!("vectors of cube `{}`", scope.cube);
                    report.finding(what, whole(&error), "remove the cause, then reconcile again");
                    continue;
                }
            };
            n_differences += drift.len();
            report.mended.extend(mended(scope, known.contains(scope), &drift));
        }
        report.fact("reconciled cubes", scopes.len());
        report.fact("differences mended", n_differences);
        Ok(report)
    }

    /// Asks the record, when it is on a server. Returns whether it answers.
    async fn check_record_server(&self, report: &mut Report) -> bool {
        let facts = match self.parts.record.facts().await {
            Ok(facts) => facts,
            Err(error) => {
                report.finding(
                    &self.parts.store_name,
                    whole(&error),
                    "make the server available, or configure another",
                );
                return false;
            }
        };
        for (name, value) in facts {
            if name == "access" && value == "read-only" {
                report.finding(
                    &self.parts.store_name,
                    "the database takes no writes",
                    "make it writable, or give the address of the server that takes writes",
                );
            }
            report.fact(&format!("store: {name}"), value);
        }
        true
    }

    /// Counts the jobs of all cubes, when there is a queue.
    async fn check_queue(&self, report: &mut Report) {
        let Some(queue) = &self.parts.queue else { return };
        if let Some(config) = &self.settings().queue {
            report.fact("queue", config.backend());
        } else if let Ok(Some(_)) = scheduling::redis_of(self.settings()) {
            report.fact("queue", "redis");
        }
        let counted = async {
            let mut total = QueueStats::default();
            for scope in queue.tenants().await? {
                let stats = queue.stats(&scope).await?;
                total.waiting += stats.waiting;
                total.claimed += stats.claimed;
                total.dead += stats.dead;
            }
            Ok::<_, StoreError>(total)
        };
        match counted.await {
            Ok(total) => {
                report.fact("jobs waiting", total.waiting);
                report.fact("jobs claimed", total.claimed);
                report.fact("jobs dead", total.dead);
            }
            Err(error) => report.finding("queue", whole(&error), "make the queue available, or configure another"),
        }
    }

    /// Asks the broker that events are published to, when the settings name one.
    async fn check_broker(&self, report: &mut Report) {
        match scheduling::rabbitmq::reach(self.settings()).await {
            None => {}
            Some(Ok(address)) => report.fact("events", format!("RabbitMQ at {address}")),
            Some(Err(error)) => report.finding(
                "events",
                whole(&error),
                "make the RabbitMQ broker available, or correct mem_scheduler.config.rabbitmq; events wait, and are in the log",
            ),
        }
    }

    /// Asks the store of users, when it is not the record itself. Returns whether it answers.
    async fn check_users(&self, report: &mut Report) -> Result<bool> {
        if !self.parts.has_users_apart {
            return Ok(true);
        }
        let facts = match self.parts.users.facts().await {
            Ok(facts) => facts,
            Err(error) => {
                report.finding("users", whole(&error), "make the store of users available, or configure another");
                return Ok(false);
            }
        };
        for (name, value) in facts {
            report.fact(&format!("users: {name}"), value);
        }
        let Some(sqlite) = &self.parts.sqlite else { return Ok(true) };
        let known = self.parts.users.cubes(None).await?;
        for cube in sqlite.cubes_with_memories().await? {
            if !known.iter().any(|known| known.cube_id == cube) {
                report.finding(
                    mos_stores::UNKNOWN_CUBE,
                    format!("the record holds memories of cube `{cube}`, which the store of users does not know"),
                    "make sure that both belong together; `mos cube create` with this id removes the memories",
                );
            }
        }
        Ok(true)
    }

    async fn check_encoder(&self, report: &mut Report) -> Result<()> {
        let space = match self.embedder().space().await {
            Ok(space) => space,
            Err(error) => {
                report.finding("encoder", whole(&error), "make the encoder available, or configure another");
                return Ok(());
            }
        };
        report.fact("encoder", &space);
        for cube in self.parts.users.cubes(None).await? {
            let have = self.parts.record.embedding_space(&Scope::of(&cube.cube_id)).await?;
            let Some(have) = have else { continue };
            if have != space {
                report.finding(
                    format!("cube `{}`", cube.cube_id),
                    format!("was embedded with {have}, the encoder is {space}"),
                    format!("run `mos cube reembed {}`, or configure the encoder it was made with", cube.cube_id),
                );
            } else if self.lacks_embeddings(&Scope::of(&cube.cube_id), &space).await? {
                report.finding(
                    format!("cube `{}`", cube.cube_id),
                    "holds memories without an embedding, which are found by their words only",
                    format!("run `mos cube reembed {}`", cube.cube_id),
                );
            }
        }
        Ok(())
    }

    async fn lacks_embeddings(&self, scope: &Scope, space: &EmbeddingSpace) -> Result<bool> {
        let record = self.parts.record.as_ref();
        Ok(!mos_memory::without_embedding(scope, record, space, 1).await?.is_empty())
    }

    async fn check_chat_model(&self, report: &mut Report) {
        match self.chat_model().await {
            Ok(model) => report.fact("chat model", model.name()),
            Err(error) => {
                report.finding("chat model", whole(&error), "make the chat model available, or configure another");
            }
        }
    }
}
