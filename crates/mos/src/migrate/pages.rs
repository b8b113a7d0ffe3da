//! Copying a scope page by page.

use std::collections::HashSet;

use mos_core::{
    ArchiveBatch, ArchivedMemory, Change, CubeId, Direction, Edge, MemoryId, Origin, PastVersion, RecordArchive, Scope,
    StoreError, UserStore, WriteBatch,
};

use super::Tell;
use super::mark::Mark;
use crate::error::Result;

/// How many things are read and written at a time.
pub(super) const PAGE: usize = 500;

pub(super) fn ids_of(memories: &[ArchivedMemory]) -> Vec<MemoryId> {
    memories.iter().map(|memory| memory.id.clone()).collect()
}

/// A scope on its way from one record to another.
pub(super) struct Copying<'a> {
    pub(super) source: &'a dyn RecordArchive,
    pub(super) target: &'a dyn RecordArchive,
    pub(super) users: &'a dyn UserStore,
    pub(super) cube: &'a CubeId,
    pub(super) scope: Scope,
    pub(super) mark: Mark,
}

impl Copying<'_> {
    /// Keeps how far it has come. Only after what it says is durable.
    async fn save(&self) -> Result<()> {
        Ok(self.users.set_cube_config(self.cube, &self.mark.config()).await?)
    }

    /// Copies everything but edges from where it stopped.
    pub(super) async fn copy(&mut self, tell: &mut Tell<'_>) -> Result<()> {
        tell.part("memories");
        self.memories(tell).await?;
        tell.part("history");
        self.versions(tell).await?;
        self.keys().await
    }

    async fn memories(&mut self, tell: &mut Tell<'_>) -> Result<()> {
        let mut n_done = 0;
        loop {
            let memories = self.source.archived_memories(&self.scope, self.mark.memories, PAGE).await?;
            let Some(last) = memories.last() else { return Ok(()) };
            let (order, n_memories) = (last.order, memories.len() as u64);
            // One that came already was removed since and written again, or comes again after an interruption: its place is
            // after those that came before.
            let remove = ids_of(&memories);
            self.write(ArchiveBatch { remove, memories, ..ArchiveBatch::default() }).await?;
            self.mark.memories = Some(order);
            self.save().await?;
            n_done += n_memories;
            tell.done(n_done);
        }
    }

    /// Imports a batch with the embeddings of its memories.
    async fn write(&self, batch: ArchiveBatch) -> Result<()> {
        let ids = ids_of(&batch.memories);
        let (space, vectors) = loop {
            let space = self.source.embedding_space(&self.scope).await?;
            let vectors = self.source.embeddings(&self.scope, &ids).await?;
            // The cube may be embedded anew in between.
            if self.source.embedding_space(&self.scope).await? == space {
                break (space, vectors);
            }
        };
        Ok(self.target.import(&self.scope, ArchiveBatch { space, vectors, ..batch }).await?)
    }

    async fn versions(&mut self, tell: &mut Tell<'_>) -> Result<()> {
        let mut n_done = 0;
        loop {
            let after = self.mark.versions.as_ref().map(|(id, number)| (id, *number));
            let versions = self.source.archived_versions(&self.scope, after, PAGE).await?;
            let Some(last) = versions.last() else { return Ok(()) };
            let reached = (last.id.clone(), last.version.number);
            n_done += versions.len() as u64;
            self.target.import(&self.scope, ArchiveBatch { versions, ..ArchiveBatch::default() }).await?;
            self.mark.versions = Some(reached);
            self.save().await?;
            tell.done(n_done);
        }
    }

    async fn keys(&mut self) -> Result<()> {
        loop {
            let receipts = self.source.archived_receipts(&self.scope, self.mark.keys, PAGE).await?;
            let Some(last) = receipts.last() else { return Ok(()) };
            let order = last.order;
            self.target.import(&self.scope, ArchiveBatch { receipts, ..ArchiveBatch::default() }).await?;
            self.mark.keys = Some(order);
            self.save().await?;
        }
    }

    /// Copies what was changed in the source since it was read.
    pub(super) async fn catch_up(&mut self, tell: &mut Tell<'_>) -> Result<()> {
        loop {
            let changes = self.source.changes(&self.scope, self.mark.position, PAGE).await?;
            let Some(last) = changes.last() else { break };
            let (Change::Put { sequence, .. } | Change::Deleted { sequence, .. }) = last;
            let position = *sequence;
            self.follow(&changes).await?;
            self.mark.position = position;
            self.save().await?;
        }
        self.memories(tell).await?;
        self.keys().await
    }

    async fn follow(&self, changes: &[Change]) -> Result<()> {
        let (mut put, mut remove) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Put { id, .. } => put.push(id.clone()),
                Change::Deleted { id, .. } => remove.push(id.clone()),
            }
        }
        let memories = self.source.archived_memories_of(&self.scope, &put).await?;
        let is_known = |memory: &ArchivedMemory| self.mark.memories.is_some_and(|reached| memory.order <= reached);
        // The later ones come with those that are read in order.
        let (known, later): (Vec<_>, Vec<_>) = memories.into_iter().partition(is_known);
        let present: HashSet<(MemoryId, u64)> =
            known.iter().chain(&later).map(|memory| (memory.id.clone(), memory.version.number)).collect();
        let mut versions = Vec::new();
        for id in put.iter().chain(&remove) {
            for version in self.source.history(&self.scope, id).await? {
                if !present.contains(&(id.clone(), version.number)) {
                    versions.push(PastVersion { id: id.clone(), version });
                }
            }
        }
        self.write(ArchiveBatch { remove, memories: known, ..ArchiveBatch::default() }).await?;
        for part in versions.chunks(PAGE) {
            let batch = ArchiveBatch { versions: part.to_vec(), ..ArchiveBatch::default() };
            self.target.import(&self.scope, batch).await?;
        }
        Ok(())
    }

    /// Makes the target's edges those of the source.
    pub(super) async fn edges(&self, tell: &mut Tell<'_>) -> Result<()> {
        tell.part("edges");
        let (mut after, mut n_done) = (None, 0);
        loop {
            let memories = self.source.archived_memories(&self.scope, after, PAGE).await?;
            let Some(last) = memories.last() else { return Ok(()) };
            after = Some(last.order);
            n_done += memories.len() as u64;
            let ids = ids_of(&memories);
            let here = self.source.edges(&self.scope, &ids, Direction::Outgoing, None).await?;
            let there = self.target.edges(&self.scope, &ids, Direction::Outgoing, None).await?;
            self.write_edges(here.into_iter().collect(), there.into_iter().collect()).await?;
            tell.done(n_done);
        }
    }

    async fn write_edges(&self, here: HashSet<Edge>, there: HashSet<Edge>) -> Result<()> {
        let mut missing: Vec<Edge> = here.difference(&there).cloned().collect();
        let mut extra: Vec<Edge> = there.difference(&here).cloned().collect();
        missing.sort();
        extra.sort();
        let origin = Origin::new("mos", "migrate");
        for part in extra.chunks(PAGE) {
            let batch = WriteBatch { remove_edges: part.to_vec(), ..WriteBatch::new(origin.clone()) };
            self.target.apply(&self.scope, batch).await?;
        }
        for part in missing.chunks(PAGE) {
            let batch = WriteBatch { put_edges: part.to_vec(), ..WriteBatch::new(origin.clone()) };
            match self.target.apply(&self.scope, batch).await {
                // An end that was written meanwhile comes with the next round.
                Err(StoreError::Invalid(_)) if self.source.position(&self.scope).await? != self.mark.position => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}
