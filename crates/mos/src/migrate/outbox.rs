//! Jobs that a record keeps until its queue has them, on their way to another installation.
//!
//! They are read where they are and stay there: to bring them to the queue is for the programs that work with the record.

use std::collections::HashSet;
use std::fmt;

use async_trait::async_trait;
use mos_core::{ArchivedJob, JobId, JobPlace, QueueArchive, Scope, StoreError};
use mos_stores::Neo4jStore;

use super::background::Background;
use super::endpoint::Endpoint;
use crate::error::Result;

/// A record that keeps jobs until its queue has them.
#[async_trait]
pub(super) trait Outbox: fmt::Debug + Send + Sync {
    /// Returns jobs that come after `after` (from the first one with `None`), in their order; none when there are no more.
    async fn jobs(&self, scope: &Scope, after: Option<JobPlace>) -> std::result::Result<Vec<ArchivedJob>, StoreError>;

    /// Returns how many there are.
    async fn count(&self, scope: &Scope) -> std::result::Result<usize, StoreError>;
}

#[async_trait]
impl Outbox for Neo4jStore {
    async fn jobs(&self, scope: &Scope, after: Option<JobPlace>) -> std::result::Result<Vec<ArchivedJob>, StoreError> {
        self.jobs_on_their_way(scope, after).await
    }

    async fn count(&self, scope: &Scope) -> std::result::Result<usize, StoreError> {
        self.n_jobs_on_their_way(scope).await
    }
}

/// The source's outbox, its queue when it has one, and the queue of the target.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnTheWay<'a> {
    outbox: &'a dyn Outbox,
    queue: Option<&'a dyn QueueArchive>,
    target: &'a dyn QueueArchive,
}

impl<'a> OnTheWay<'a> {
    /// Returns what moves; nothing where the source has no outbox, or the target keeps no jobs.
    pub(super) fn new(from: &'a Endpoint, to: &'a Endpoint, leave_jobs: bool) -> Option<Self> {
        if leave_jobs || !to.keeps_jobs {
            return None;
        }
        let outbox = from.outbox.as_deref()?;
        let queue = from.queue.as_deref().and_then(|queue| queue.job_archive());
        let target = to.queue.as_deref().and_then(|queue| queue.job_archive())?;
        Some(Self { outbox, queue, target })
    }

    /// Adds the jobs to what the source holds. Those that its queue has got meanwhile are known already.
    ///
    /// # Errors
    /// [`StoreError`] when the source cannot be read.
    pub(super) async fn tell(&self, scope: &Scope, contents: &mut Background) -> std::result::Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.outbox.jobs(scope, after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.place);
            for archived in &page {
                if !is_known(self.queue, scope, &archived.job.id).await? {
                    contents.add_job(archived);
                }
            }
        }
    }

    /// Copies the jobs behind those that the target has, and returns how many it has no room for: they stay in the source.
    ///
    /// # Errors
    /// Errors of the stores.
    pub(super) async fn copy(&self, scope: &Scope, sent: &mut Background) -> Result<usize> {
        let (mut after, mut n_left) = (None, 0);
        let mut is_full = false;
        loop {
            let page = self.outbox.jobs(scope, after).await?;
            let Some(last) = page.last() else { return Ok(n_left) };
            after = Some(last.place);
            // Later ones are not taken before earlier ones.
            let imported = if is_full { None } else { Some(self.target.import_jobs(scope, page.clone()).await) };
            match imported {
                Some(Ok(receipt)) => {
                    let new: HashSet<JobId> = receipt.new.into_iter().collect();
                    page.iter().filter(|archived| new.contains(&archived.job.id)).for_each(|one| sent.add_job(one));
                    continue;
                }
                None | Some(Err(StoreError::Full { .. })) => is_full = true,
                Some(Err(error)) => return Err(error.into()),
            }
            for archived in &page {
                n_left += usize::from(!is_known(Some(self.target), scope, &archived.job.id).await?);
            }
        }
    }
}

async fn is_known(
    queue: Option<&dyn QueueArchive>,
    scope: &Scope,
    id: &JobId,
) -> std::result::Result<bool, StoreError> {
    let Some(queue) = queue else { return Ok(false) };
    Ok(queue.find(scope, id).await?.is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use mos_config::Settings;
    use mos_core::{Cube, CubeId, JobQueue, NewJob, SystemClock, UserId, UserRole};
    use mos_stores::{InMemoryStore, QueueLimits};
    use serde_json::json;

    use super::*;
    use crate::migrate::{MigrateOptions, Missing, Outcome, migrate};

    /// Gives two jobs at a time.
    #[derive(Debug)]
    struct Kept(Vec<ArchivedJob>);

    #[async_trait]
    impl Outbox for Kept {
        async fn jobs(&self, _: &Scope, after: Option<JobPlace>) -> std::result::Result<Vec<ArchivedJob>, StoreError> {
            Ok(self.0.iter().filter(|archived| Some(archived.place) > after).take(2).cloned().collect())
        }

        async fn count(&self, _: &Scope) -> std::result::Result<usize, StoreError> {
            Ok(self.0.len())
        }
    }

    fn scope() -> Scope {
        Scope::of(&CubeId::new("c"))
    }

    fn jobs(names: &[&str]) -> Vec<NewJob> {
        names.iter().map(|name| NewJob::new((*name).into(), "label", json!(name))).collect()
    }

    async fn kept(names: &[&str]) -> Kept {
        let queue = InMemoryStore::new(Arc::new(SystemClock));
        queue.push(&scope(), jobs(names)).await.unwrap();
        Kept(queue.archived_jobs(&scope(), None, 10).await.unwrap())
    }

    fn queue_for(max_jobs_per_tenant: usize) -> Arc<InMemoryStore> {
        let limits = QueueLimits { max_jobs_per_tenant, ..QueueLimits::default() };
        InMemoryStore::with_queue_limits(Arc::new(SystemClock), limits)
    }

    #[tokio::test]
    async fn what_the_queues_know_is_told_and_copied_once() {
        let (kept, source, target) = (kept(&["a", "b", "c"]).await, queue_for(10), queue_for(10));
        source.push(&scope(), jobs(&["a"])).await.unwrap();
        target.push(&scope(), jobs(&["b"])).await.unwrap();
        let on_the_way = OnTheWay { outbox: &kept, queue: Some(&*source), target: &*target };
        let mut contents = Background::default();
        on_the_way.tell(&scope(), &mut contents).await.unwrap();
        assert_eq!(contents.jobs.count, 2, "one is in the queue of the source");
        for n_new in [2, 0] {
            let mut sent = Background::default();
            assert_eq!(on_the_way.copy(&scope(), &mut sent).await.unwrap(), 0);
            assert_eq!(sent.jobs.count, n_new);
        }
        assert_eq!(target.stats(&scope()).await.unwrap().waiting, 3);
    }

    #[tokio::test]
    async fn jobs_without_room_in_the_target_stay_and_come_later() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open =
            async |folder: &Path| Endpoint::open(&Settings::default(), Some(folder), Missing::Make).await.unwrap();
        let (mut from, mut to) = (open(here.path()).await, open(there.path()).await);
        let ann = UserId::new("ann");
        from.users.create_user(&ann, "ann", UserRole::User).await.unwrap();
        let cube = Cube {
            cube_id: CubeId::new("c"),
            cube_name: "c".to_owned(),
            cube_path: None,
            owner_id: ann,
            created_at: "2026-01-02T00:00:00.000000+00:00".to_owned(),
            is_registered: true,
            config: json!({}),
        };
        from.users.create_cube(&cube).await.unwrap();
        from.outbox = Some(Arc::new(kept(&["a", "b", "c", "d", "e"]).await));
        to.queue = Some(queue_for(3));
        let options = MigrateOptions::default();
        let full = migrate(&from, &to, &options, |_| ()).await.unwrap().cubes.remove(0);
        assert_eq!((full.outcome, full.background.jobs.count, full.n_jobs_left), (Outcome::Moved, 2, 3));
        let queue = queue_for(10);
        to.queue = Some(queue.clone());
        let later = migrate(&from, &to, &options, |_| ()).await.unwrap().cubes.remove(0);
        assert_eq!((later.outcome, later.background.jobs.count, later.n_jobs_left), (Outcome::SameAlready, 5, 0));
        assert_eq!(queue.stats(&scope()).await.unwrap().waiting, 5);
    }
}
