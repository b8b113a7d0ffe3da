//! Dumps of chosen memories, and one file of a cube.

use std::path::Path;

use mos_core::{Cube, CubeId, MemoryError, Origin, StoreError, UserId};
use mos_cube::{ActivationPart, DumpRequest, Manifest, MemoryKind};
use mos_memory::DEFAULT_FILE_NAME;
use serde::Serialize;
use serde_json::Value;

use super::source::{OpenedCube, RegisterOptions, temporary};
use crate::activation::ActivationBackend;
use crate::error::{Error, Result};
use crate::facade::Mos;
use crate::factories::named_backend;

/// A cube that was written to one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The cube.
    pub cube_id: CubeId,
    /// Hash of what it says: memories, edges, vectors, preferences.
    pub content: String,
    /// Size of the file.
    pub n_bytes: u64,
}

/// A cube that was read from one file.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// The new cube.
    pub cube: Cube,
    /// Hash of what it says now.
    pub content: String,
    /// Hash of what it said when it was exported.
    pub exported_content: String,
}

impl Imported {
    /// Whether the new cube says exactly what the exported one did. It does not when its texts were embedded anew, because
    /// another encoder is configured here.
    pub fn is_same(&self) -> bool {
        self.content == self.exported_content
    }
}

impl Mos {
    /// As [`Mos::dump`], of chosen memories only; returns the dump's manifest.
    ///
    /// # Errors
    /// As [`Mos::dump`]; [`Error::Invalid`] for a memory that the cube does not have.
    pub async fn dump_memories(
        &self,
        user: &UserId,
        cube: Option<&CubeId>,
        directory: &Path,
        memories: &[MemoryKind],
    ) -> Result<Manifest> {
        let handle = self.target_to_read(user, cube).await?;
        for kind in memories {
            self.memory_file(handle.info(), *kind)?;
        }
        self.write_dump(user, Some(&handle.info().cube_id), directory, memories).await
    }

    /// As [`Mos::load`], of chosen memories only.
    ///
    /// # Errors
    /// As [`Mos::load`]; [`Error::Invalid`] for a memory that the cube does not have, and [`MemoryError::File`] for one that the
    /// dump does not hold; nothing was changed then.
    pub async fn load_memories(
        &self,
        user: &UserId,
        cube: Option<&CubeId>,
        directory: &Path,
        memories: &[MemoryKind],
    ) -> Result<usize> {
        let handle = self.target(user, cube).await?;
        for kind in memories {
            let file = self.memory_file(handle.info(), *kind)?;
            if !directory.join(&file).is_file() {
                let detail = format!("holds no {kind}: there is no file {file}");
                return Err(MemoryError::File { path: directory.display().to_string(), detail }.into());
            }
        }
        self.read_into(user, &handle, directory, memories).await
    }

    /// Returns the hash of what a cube's textual and preference memory say: two cubes of the same hash hold the same memories,
    /// edges and vectors. Ids of cubes, owners and configurations are not part of it.
    ///
    /// # Errors
    /// Rights; errors of the memory.
    pub async fn content_hash(&self, user: &UserId, cube: Option<&CubeId>) -> Result<String> {
        let folder = temporary()?;
        let texts = [MemoryKind::Text, MemoryKind::Preference];
        let manifest = self.write_dump(user, cube, &folder.path().join("cube"), &texts).await?;
        content_of(&manifest)
    }

    /// Writes a cube (without an id the default one) with all its memories to one new file, whole or not at all.
    ///
    /// ```no_run
    /// # async fn run(mos: mos::Mos, elsewhere: mos::Mos) -> mos::Result<()> {
    /// let (ann, file) = (mos_core::UserId::from("ann"), std::path::Path::new("notes.tar"));
    /// let exported = mos.export_cube(&ann, None, file).await?;
    /// let imported = elsewhere.import_cube(&ann, file, Some(&"notes-of-ann".into())).await?;
    /// assert!(imported.is_same() && imported.content == exported.content);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Mos::dump`]; [`MemoryError::File`] when the file exists or cannot be written.
    pub async fn export_cube(&self, user: &UserId, cube: Option<&CubeId>, file: &Path) -> Result<Exported> {
        let handle = self.target_to_read(user, cube).await?;
        mos_cube::check_free(file)?;
        // On the disk of the file, which has room for it.
        let parent = mos_cube::parent_of(file);
        let folder = std::fs::create_dir_all(parent)
            .and_then(|()| tempfile::Builder::new().prefix(".mos-export-").tempdir_in(parent))
            .map_err(|error| MemoryError::File {
                path: file.display().to_string(),
                detail: format!("cannot write the cube there: {error}"),
            })?;
        let directory = folder.path().join("cube");
        let cube_id = handle.info().cube_id.clone();
        let manifest = self.write_dump(user, Some(&cube_id), &directory, &MemoryKind::ALL).await?;
        let target = file.to_owned();
        let n_bytes = blocking("packing the cube", move || {
            mos_cube::pack(&directory, &target)?;
            std::fs::metadata(&target).map(|found| found.len()).map_err(|error| MemoryError::File {
                path: target.display().to_string(),
                detail: format!("cannot be read: {error}"),
            })
        })
        .await?;
        Ok(Exported { cube_id, content: content_of(&manifest)?, n_bytes })
    }

    /// Makes a new cube of `user` from the file of an exported one, under its old id or another.
    ///
    /// # Errors
    /// [`Error::UnknownUser`]; [`Error::NotAllowed`] for guests; [`Error::Invalid`] when there is a cube of this id; errors of
    /// the file, after which there is no new cube.
    pub async fn import_cube(&self, user: &UserId, file: &Path, cube_id: Option<&CubeId>) -> Result<Imported> {
        self.check_may_own(user).await?;
        let (archive, folder) = (file.to_owned(), temporary()?);
        let place = folder.path().to_owned();
        let unpacked = blocking("unpacking the cube", move || mos_cube::unpack(&archive, &place)).await?;
        let manifest = unpacked.dump.manifest.as_ref();
        let exported = manifest.ok_or_else(|| Error::Invalid(format!("{} has no manifest", file.display())))?;
        let cube_id = match cube_id {
            Some(id) => CubeId::parse(id.as_str())?,
            None => CubeId::parse(exported.cube_id.as_str())?,
        };
        if self.parts.users.cube(&cube_id).await?.is_some() {
            return Err(Error::Invalid(format!(
                "there is a cube `{cube_id}` already; import it under another id (--as ID), or delete that cube first"
            )));
        }
        let origin = file.display().to_string();
        let mut opened = OpenedCube::directory(unpacked.directory().to_owned(), origin, None);
        opened.name = Some(cube_id.to_string());
        let exported_content = content_of(exported)?;
        let cube = self.register_dump(user, cube_id, &opened, &RegisterOptions::default()).await?;
        let content = self.content_hash(user, Some(&cube.cube_id)).await?;
        Ok(Imported { cube, content, exported_content })
    }

    /// Writes those of `memories` that the cube has.
    pub(crate) async fn write_dump(
        &self,
        user: &UserId,
        cube: Option<&CubeId>,
        directory: &Path,
        memories: &[MemoryKind],
    ) -> Result<Manifest> {
        let cube = self.target_to_read(user, cube).await?;
        let wants = |kind: MemoryKind| memories.contains(&kind);
        let space = self.parts.record.embedding_space(&cube.scope()).await?;
        let activation = match cube.act_mem().filter(|_| wants(MemoryKind::Activation)) {
            Some(activation) if activation.has_items().await? => {
                let (backend, scope) = activation.backend();
                Some((backend.memory(), scope, activation.file_name()?, backend_key(backend)))
            }
            _ => None,
        };
        let request = DumpRequest {
            cube_id: &cube.info().cube_id,
            config: &cube.info().config,
            text: (wants(MemoryKind::Text) && cube.has_texts()).then(|| cube.text_mem().as_ref()),
            activation: activation.as_ref().map(|(memory, scope, file_name, backend)| ActivationPart {
                memory: memory.as_ref(),
                scope,
                file_name,
                backend,
            }),
            parametric: cube.para_mem().filter(|_| wants(MemoryKind::Parametric)).map(AsRef::as_ref),
            preference: cube.pref_mem().filter(|_| wants(MemoryKind::Preference)).map(AsRef::as_ref),
            embedding_space: space.clone(),
            created_at: self.parts.clock.now_text(),
        };
        let manifest = mos_cube::dump(directory, request).await?;
        if self.parts.record.embedding_space(&cube.scope()).await? != space {
            return Err(MemoryError::from(StoreError::Conflict(format!(
                "cube `{}` was embedded anew while it was dumped: remove {} and dump it again",
                cube.info().cube_id,
                directory.display()
            )))
            .into());
        }
        Ok(manifest)
    }

    /// Reads those of `memories` that the dump holds into a cube, and returns how many memories and preferences came.
    pub(crate) async fn read_into(
        &self,
        user: &UserId,
        cube: &crate::facade::CubeHandle,
        directory: &Path,
        memories: &[MemoryKind],
    ) -> Result<usize> {
        crate::facade::read_dump(directory).await?;
        let origin = Origin::new(user.as_str(), "load");
        let n_memories = self.load_texts(cube.info(), directory, origin, memories).await?;
        self.has_changed(&cube.info().cube_id);
        crate::facade::load_activation(cube.act_mem(), directory, memories).await?;
        Ok(n_memories)
    }

    /// The name of a memory's file in a dump of the cube.
    fn memory_file(&self, cube: &Cube, kind: MemoryKind) -> Result<String> {
        let file = match kind {
            MemoryKind::Text => {
                let named = cube.config.pointer("/text_mem/config/memory_filename").and_then(Value::as_str);
                let file = named.unwrap_or(DEFAULT_FILE_NAME).to_owned();
                Some(file).filter(|_| named_backend(&cube.config, "text_mem").is_some())
            }
            MemoryKind::Activation => match self.activation(cube)? {
                Some(activation) => Some(activation.file_name()?.to_owned()),
                None => None,
            },
            MemoryKind::Parametric => self.parametric_memory(cube)?.map(|memory| memory.file_name().to_owned()),
            MemoryKind::Preference => self.preference_memory(cube)?.map(|memory| memory.file_name().to_owned()),
        };
        file.ok_or_else(|| {
            Error::Invalid(format!("cube `{}` has no {kind}; set it in the cube's configuration", cube.cube_id))
        })
    }
}

/// The hash of what a dump says; of one without texts that of nothing.
fn content_of(manifest: &Manifest) -> Result<String> {
    match &manifest.content {
        Some(content) => Ok(content.clone()),
        None => Ok(mos_cube::content_hash(Path::new("."), &[])?),
    }
}

fn backend_key(backend: &ActivationBackend) -> &'static str {
    match backend {
        ActivationBackend::Kv(_) => "kv_cache",
        ActivationBackend::Prompts(_) => "vllm_kv_cache",
        ActivationBackend::Other(_) => "custom",
    }
}

/// Runs work with files on a thread of its own.
async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> std::result::Result<T, MemoryError> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Error::Invalid(format!("{what} broke off: {error}"))),
    }
}
