//! The activation memory of one cube.

use std::path::Path;
use std::sync::Arc;

use mos_core::{ActivationId, ActivationStats, Cube, CubeId, Message, Scope, UserId, UserStore};
use mos_kv::{DEFAULT_MEMORY_FILENAME, KvCacheItem, KvCacheMemory};
use serde_json::Value;

use super::promoting::Answering;
use super::{CubeHandle, Mos};
use crate::activation::{ActivationBackend, KvCaches, promoted_tenant};
use crate::error::{Error, Result};
use crate::factories::{as_configured, plain_file_name};

/// Kept model state of one cube; other cubes' is out of reach.
#[derive(Clone, Debug)]
pub struct CubeActivation {
    backend: ActivationBackend,
    scope: Scope,
    cube: Cube,
    users: Arc<dyn UserStore>,
}

impl CubeActivation {
    pub(crate) fn new(backend: ActivationBackend, cube: &Cube, users: Arc<dyn UserStore>) -> Self {
        Self { scope: backend.scope(cube), backend, cube: cube.clone(), users }
    }

    /// What is promoted for one user of the cube, beside what the cube keeps itself.
    pub(crate) fn promoted(backend: ActivationBackend, cube: &Cube, user: &UserId, users: Arc<dyn UserStore>) -> Self {
        Self { scope: promoted_tenant(cube, user), backend, cube: cube.clone(), users }
    }

    /// Forgets what was kept for a cube that was deleted meanwhile: nobody could find or remove it any more.
    async fn settle(&self) -> Result<()> {
        let Cube { cube_id, owner_id, created_at, .. } = &self.cube;
        let now = self.users.cube(cube_id).await?;
        if now.is_some_and(|now| (&now.owner_id, &now.created_at) == (owner_id, created_at)) {
            return Ok(());
        }
        self.backend.forget(&self.scope).await?;
        Err(Error::Invalid(format!("cube `{cube_id}` was deleted; what was computed for it is not kept")))
    }

    /// Computes and keeps the state after `messages` and returns its name; see
    /// [`ActivationMemory::promote`](mos_core::ActivationMemory::promote).
    ///
    /// # Errors
    /// As [`ActivationMemory::promote`](mos_core::ActivationMemory::promote); [`Error::Invalid`] when the cube was
    /// deleted.
    pub async fn promote(&self, messages: &[Message]) -> Result<ActivationId> {
        let id = self.backend.memory().promote(&self.scope, messages).await?;
        self.settle().await?;
        Ok(id)
    }

    /// Forgets a state and returns whether it was there.
    ///
    /// # Errors
    /// As [`ActivationMemory::delete`](mos_core::ActivationMemory::delete).
    pub async fn delete(&self, id: &ActivationId) -> Result<bool> {
        Ok(self.backend.memory().delete(&self.scope, id).await?)
    }

    /// Returns how much is kept.
    ///
    /// # Errors
    /// As [`ActivationMemory::stats`](mos_core::ActivationMemory::stats).
    pub async fn stats(&self) -> Result<ActivationStats> {
        Ok(self.backend.memory().stats(&self.scope).await?)
    }

    /// Writes the kept states to a folder, under the name that the cube's configuration gives them.
    ///
    /// # Errors
    /// As [`ActivationMemory::dump`](mos_core::ActivationMemory::dump); [`Error::Invalid`] for a name that is not that
    /// of a file.
    pub async fn dump(&self, dir: &Path) -> Result<()> {
        let file = dir.join(self.file_name()?);
        Ok(self.backend.memory().dump(&self.scope, &file).await?)
    }

    /// Reads states from a folder, in place of what is kept, and returns how many there were. Those of another model
    /// are computed anew from their texts.
    ///
    /// # Errors
    /// As [`ActivationMemory::load`](mos_core::ActivationMemory::load); [`Error::Invalid`] when the cube was deleted,
    /// or for a name that is not that of a file.
    pub async fn load(&self, dir: &Path) -> Result<usize> {
        let file = dir.join(self.file_name()?);
        let n_items = self.backend.memory().load(&self.scope, &file).await?;
        self.settle().await?;
        Ok(n_items)
    }

    /// The name of the file in a dump, as the cube's configuration has it.
    pub(crate) fn file_name(&self) -> Result<&str> {
        let named = self.cube.config.pointer("/act_mem/config/memory_filename").and_then(Value::as_str);
        plain_file_name(named.unwrap_or(DEFAULT_MEMORY_FILENAME))
    }

    pub(crate) fn backend(&self) -> (&ActivationBackend, &Scope) {
        (&self.backend, &self.scope)
    }

    pub(crate) async fn has_items(&self) -> Result<bool> {
        self.backend.has_items(&self.scope).await
    }
}

/// The caches of one cube (`kv_cache`), for callers that merge, calibrate or show them themselves.
#[derive(Clone, Debug)]
pub struct CubeCaches {
    caches: Arc<KvCaches>,
    scope: Scope,
}

impl CubeCaches {
    /// Returns the items without their keys and values, in the order in which they came. No model is loaded.
    ///
    /// # Errors
    /// [`Error::Memory`] when the files cannot be read.
    pub async fn list(&self) -> Result<Vec<KvCacheItem>> {
        Ok(self.caches.items(&self.scope).await?)
    }

    /// Removes items and returns how many there were. No model is loaded.
    ///
    /// # Errors
    /// [`Error::Memory`] when a file cannot be removed; that item stays.
    pub async fn remove(&self, ids: Vec<ActivationId>) -> Result<usize> {
        Ok(self.caches.remove(&self.scope, ids).await?)
    }

    /// Returns the cube's memory as it is now, loading the model first when needed. Its methods block.
    ///
    /// # Errors
    /// [`Error::Memory`] with the model's error, or when the files cannot be read.
    pub async fn memory(&self) -> Result<Arc<KvCacheMemory>> {
        Ok(self.caches.memory(&self.scope).await?)
    }
}

impl CubeHandle {
    /// Returns the cube's caches.
    ///
    /// # Errors
    /// [`Error::Invalid`], which says why, when the cube's activation memory is another one or there is none.
    pub fn caches(&self) -> Result<CubeCaches> {
        match self.act_mem().map(CubeActivation::backend) {
            Some((ActivationBackend::Kv(caches), scope)) => {
                Ok(CubeCaches { caches: Arc::clone(caches), scope: scope.clone() })
            }
            _ => Err(Error::Invalid(format!("cube `{}` keeps no caches: {}", self.info().cube_id, self.why_no_caches))),
        }
    }
}

impl Mos {
    /// Returns what answers a chat with instructions `base`, with the items of activation memory that stand before it: those of
    /// the first of `cubes` that has any, or of the default cube; without such items, what was promoted for the user there.
    /// Never those of a cube that was only shared, unless it is named.
    pub(crate) async fn answering_model(
        &self,
        user: &UserId,
        cubes: Option<&[CubeId]>,
        base: Option<&str>,
    ) -> Result<Answering> {
        let model = self.chat_model().await?;
        if !self.parts.settings.enable_activation_memory {
            return Ok(Answering { model, activation: Vec::new(), beginning: None });
        }
        let cubes = match cubes {
            Some(cubes) => cubes.to_vec(),
            None => match self.default_cube(user).await {
                Ok(cube) => vec![cube],
                Err(Error::NoCube(_)) => Vec::new(),
                Err(error) => return Err(error),
            },
        };
        for cube in &cubes {
            let handle = self.readable_cube(user, cube).await?;
            let Some((backend, scope)) = handle.act_mem().map(CubeActivation::backend) else { continue };
            if let Some((model, activation)) = backend.answering(scope, &model).await? {
                let model = as_configured(&self.parts.settings.chat_model, model);
                return Ok(Answering { model, activation, beginning: None });
            }
            if let Some(answering) = self.promoted_answering(user, &handle, base, &model).await? {
                return Ok(answering);
            }
        }
        Ok(Answering { model, activation: Vec::new(), beginning: None })
    }
}
