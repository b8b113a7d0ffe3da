//! Scopes, users and cubes that move to another store or come from one.

use async_trait::async_trait;
use mos_core::{
    Access, ArchiveBatch, ArchivedMemory, ArchivedReceipt, Cube, CubeId, MemoryId, PastVersion, RecordArchive, Scope,
    StoreError, User, UserArchive, UserId,
};

use super::{InMemoryStore, State};
use crate::archive::prepare_archive;

#[async_trait]
impl RecordArchive for InMemoryStore {
    async fn position(&self, scope: &Scope) -> Result<u64, StoreError> {
        Ok(self.view(scope, |state| state.position()))
    }

    async fn archived_memories(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedMemory>, StoreError> {
        Ok(self.view(scope, |state| state.archived_memories(after, limit)))
    }

    async fn archived_memories_of(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Vec<ArchivedMemory>, StoreError> {
        Ok(self.view(scope, |state| ids.iter().filter_map(|id| state.archived_memory(id)).collect()))
    }

    async fn archived_versions(
        &self,
        scope: &Scope,
        after: Option<(&MemoryId, u64)>,
        limit: usize,
    ) -> Result<Vec<PastVersion>, StoreError> {
        Ok(self.view(scope, |state| state.archived_versions(after, limit)))
    }

    async fn archived_receipts(
        &self,
        scope: &Scope,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ArchivedReceipt>, StoreError> {
        let now_s = self.clock.now().as_second();
        Ok(self.view(scope, |state| state.archived_receipts(after, limit, now_s)))
    }

    async fn import(&self, scope: &Scope, batch: ArchiveBatch) -> Result<(), StoreError> {
        let batch = prepare_archive(batch, &self.analyzer)?;
        let State { sequence, scopes, .. } = &mut *self.write();
        scopes.entry(scope.clone()).or_default().import(scope, batch, sequence)
    }
}

#[async_trait]
impl UserArchive for InMemoryStore {
    async fn archived_users(&self) -> Result<Vec<User>, StoreError> {
        Ok(self.read().users.every_user().to_vec())
    }

    async fn import_user(&self, user: &User) -> Result<bool, StoreError> {
        self.write().users.import_user(user)
    }

    async fn import_cube(&self, cube: &Cube) -> Result<(), StoreError> {
        let State { sequence, scopes, users, queue, .. } = &mut *self.write();
        users.import_cube(cube)?;
        // Whatever stands under this id without a cube must never become the new owner's.
        queue.remove_tenant(&Scope::of(&cube.cube_id));
        if let Some(state) = scopes.get_mut(&Scope::of(&cube.cube_id)) {
            state.erase(sequence, false);
        }
        Ok(())
    }

    async fn archived_shares(&self, cube: &CubeId) -> Result<Vec<(UserId, Access)>, StoreError> {
        Ok(self.read().users.every_share(cube))
    }

    async fn import_share(&self, cube: &CubeId, user: &UserId, access: Access) -> Result<(), StoreError> {
        self.write().users.import_share(cube, user, access)
    }
}
