//! Jobs, documents and logs that name a user who is erased, where they are not in the embedded database.

use mos_core::{JobId, JobQueue, Paging, Scope, StateStore, StoreError, UserId};
use serde_json::Value;

/// Jobs that are looked at, and removed, at a time; documents and logs that are listed.
const PAGE: usize = 500;

/// Entries of a log that are looked at together: each can be large.
const ENTRIES: usize = 16;

/// What became of the jobs that name a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NamedJobs {
    /// Those that waited, or were given up, and are gone.
    pub(super) n_removed: usize,
    /// Those that somebody was working on: they stay until they are done.
    pub(super) n_at_work: usize,
    /// Tenants whose waiting jobs the queue does not show, so that only those that were given up are gone.
    pub(super) n_unseen: usize,
}

impl NamedJobs {
    /// Tells what stays, one sentence each.
    pub(super) fn left(self) -> Vec<String> {
        let mut left = Vec::new();
        if self.n_at_work > 0 {
            left.push(format!(
                "{} jobs that name the user are being worked on, and stay in the queue until they are done or given up",
                self.n_at_work
            ));
        }
        if self.n_unseen > 0 {
            left.push(format!(
                "the queue does not show jobs that wait in {} cubes; those that name the user stay until they are done",
                self.n_unseen
            ));
        }
        left
    }
}

/// Removes the jobs of all tenants whose payload names a user.
///
/// # Errors
/// [`StoreError`] when the queue cannot be read or written; some jobs may be gone then.
pub(super) async fn remove_jobs(queue: &dyn JobQueue, user: &UserId) -> Result<NamedJobs, StoreError> {
    let mut jobs = NamedJobs::default();
    for scope in queue.tenants().await? {
        match queue.job_archive() {
            Some(archive) => {
                let mut after = None;
                loop {
                    let page = archive.archived_jobs(&scope, after, PAGE).await?;
                    let Some(last) = page.last() else { break };
                    after = Some(last.place);
                    let named = page.into_iter().filter(|one| names(&one.job.payload, user)).map(|one| one.job.id);
                    remove(queue, &scope, named.collect(), &mut jobs).await?;
                }
            }
            None => {
                jobs.n_unseen += 1;
                let dead = queue.dead(&scope, Paging::ALL).await?.entries;
                let named = dead.into_iter().filter(|one| names(&one.job.payload, user)).map(|one| one.job.id);
                remove(queue, &scope, named.collect(), &mut jobs).await?;
            }
        }
    }
    Ok(jobs)
}

async fn remove(queue: &dyn JobQueue, scope: &Scope, ids: Vec<JobId>, jobs: &mut NamedJobs) -> Result<(), StoreError> {
    for ids in ids.chunks(PAGE) {
        // Those that are claimed are passed over.
        let n_removed = queue.remove(scope, ids).await?;
        jobs.n_removed += n_removed;
        jobs.n_at_work += ids.len().saturating_sub(n_removed);
    }
    Ok(())
}

/// Removes documents of a cube that name the user, and of its logs the entries that do, with all that stand before them: a log may
/// lack its oldest entries, but none between two others.
///
/// # Errors
/// [`StoreError`] when the store cannot be read or written; some of it may be gone then.
pub(super) async fn remove_noted(state: &dyn StateStore, scope: &Scope, user: &UserId) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let keys = state.keys(scope, "", after.as_deref(), PAGE).await?;
        let Some(last) = keys.last() else { break };
        after = Some(last.clone());
        for key in &keys {
            let document = state.read(scope, key).await?;
            if document.is_some_and(|document| names(&document.value, user)) {
                state.remove(scope, key).await?;
            }
        }
    }
    let Some(archive) = state.state_archive() else { return Ok(()) };
    let mut after: Option<String> = None;
    loop {
        let logs = archive.logs(scope, after.as_deref(), PAGE).await?;
        let Some(last) = logs.last() else { return Ok(()) };
        after = Some(last.name.clone());
        for log in &logs {
            remove_entries(state, scope, &log.name, user).await?;
        }
    }
}

async fn remove_entries(state: &dyn StateStore, scope: &Scope, log: &str, user: &UserId) -> Result<(), StoreError> {
    let (mut last, mut last_named) = (0, None);
    loop {
        let entries = state.entries(scope, log, last, ENTRIES).await?;
        let Some(newest) = entries.last() else { break };
        last = newest.sequence;
        let named = entries.iter().rev().find(|entry| names(&entry.value, user));
        last_named = named.map(|entry| entry.sequence).or(last_named);
    }
    let Some(last_named) = last_named else { return Ok(()) };
    let n_kept = usize::try_from(last - last_named).unwrap_or(usize::MAX);
    // Nothing is added; what is older than those that are kept goes.
    state.append(scope, log, &[], n_kept).await.map(drop)
}

/// The word in the keys of fields whose values name users.
const NAMING: &str = "user";

/// Whether a field that names users has the user's id as its value, or in its list. Texts elsewhere are equal by chance: roles,
/// labels, tasks, and cubes of others.
fn names(value: &Value, user: &UserId) -> bool {
    names_under("", value, user)
}

fn names_under(key: &str, value: &Value, user: &UserId) -> bool {
    match value {
        Value::String(text) => text == user.as_str() && key.contains(NAMING),
        Value::Array(values) => values.iter().any(|value| names_under(key, value, user)),
        Value::Object(fields) => fields.iter().any(|(key, value)| names_under(key, value, user)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mos_core::{CubeId, Expected, SystemClock};
    use mos_stores::InMemoryStore;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn documents_and_entries_that_name_a_user_go_and_others_stay() {
        let store = InMemoryStore::new(Arc::new(SystemClock));
        let (scope, zora) = (Scope::of(&CubeId::new("of-bob")), UserId::new("zora"));
        for (key, user) in [("one", "zora"), ("two", "bob"), ("three", "zorah")] {
            StateStore::write(&*store, &scope, key, &json!({"asked": [{"user": user}]}), Expected::Anything)
                .await
                .unwrap();
        }
        let entries: Vec<Value> = ["bob", "zora", "bob", "bob"].map(|user| json!({"user_id": user, "n": 1})).to_vec();
        for log in ["events", "other"] {
            StateStore::append(&*store, &scope, log, &entries, 100).await.unwrap();
        }
        StateStore::append(&*store, &scope, "of-bob", &entries[..1], 100).await.unwrap();
        remove_noted(&*store, &scope, &zora).await.unwrap();
        assert_eq!(StateStore::keys(&*store, &scope, "", None, 10).await.unwrap(), ["three", "two"]);
        for (log, expected) in [("events", vec![3, 4]), ("other", vec![3, 4]), ("of-bob", vec![1])] {
            let kept = StateStore::entries(&*store, &scope, log, 0, 10).await.unwrap();
            let numbers: Vec<u64> = kept.iter().map(|entry| entry.sequence).collect();
            assert_eq!(numbers, expected, "{log}");
        }
    }

    #[test]
    fn only_fields_of_users_name_one() {
        let user = UserId::new("user");
        for named in
            [json!({"user_id": "user"}), json!({"asked": [{"user": "user"}]}), json!({"users": ["bob", "user"]})]
        {
            assert!(names(&named, &user), "{named}");
        }
        let of_bob = json!({"user_id": "bob", "mem_cube_id": "user", "label": "user", "chat_history": [
            {"role": "user", "content": "user"}], "user_context": {"mem_cube_id": "user", "user_id": null}});
        for other in [of_bob, json!("user"), json!(["user"]), json!({"user": {"role": "user"}})] {
            assert!(!names(&other, &user), "{other}");
        }
    }
}
