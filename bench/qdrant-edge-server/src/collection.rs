//! One collection: a shard in a folder of its own.

use std::path::{Path, PathBuf};
use std::sync::RwLock;

use anyhow::Context;
use mos_testkit::qdrant_server::{Status, wire};
use qdrant_edge::external::serde_json::{self, Value as Json, json};
use qdrant_edge::{EdgeConfig, EdgeShard, OperationResult, UpdateOperation};

use crate::answers::status;

/// The file that says what the collection is.
const ABOUT: &str = "collection.json";
/// How many written points later the shard is put in order. Before, they are compared one by one.
const ORDERLY_AFTER: usize = 1000;

/// What vectors a collection holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) size: u64,
    /// As Qdrant numbers them.
    pub(crate) distance: i32,
}

#[derive(Debug)]
pub(crate) struct Collection {
    name: String,
    folder: PathBuf,
    shape: Shape,
    /// None once the collection was removed. Writers are alone: the shard cannot be flushed while it is written.
    shard: RwLock<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    shard: EdgeShard,
    /// Points written since the shard was put in order.
    n_written: usize,
}

impl Collection {
    /// Writes an empty collection into a new folder, and leaves it closed.
    pub(crate) fn write_new(folder: &Path, name: &str, shape: Shape, config: EdgeConfig) -> anyhow::Result<()> {
        std::fs::create_dir(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let shard = EdgeShard::new(folder, config).map_err(|error| anyhow::anyhow!("{error}"))?;
        drop(shard);
        let about = json!({"name": name, "size": shape.size, "distance": shape.distance});
        std::fs::write(folder.join(ABOUT), about.to_string()).context("cannot write what the collection is")
    }

    /// Opens a collection.
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(ABOUT);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let about: Json = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        let damaged = || format!("{} is damaged", path.display());
        let name = about["name"].as_str().with_context(damaged)?.to_owned();
        let size = about["size"].as_u64().with_context(damaged)?;
        let distance = about["distance"].as_i64().and_then(|number| i32::try_from(number).ok()).with_context(damaged)?;
        let shard = EdgeShard::load(folder, None)
            .map_err(|error| anyhow::anyhow!("cannot open the collection `{name}`: {error}"))?;
        let shard = RwLock::new(Some(Open { shard, n_written: 0 }));
        Ok(Self { name, folder: folder.to_owned(), shape: Shape { size, distance }, shard })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// What the protocol calls the shape.
    pub(crate) fn vectors_config(&self) -> wire::VectorsConfig {
        let Shape { size, distance } = self.shape;
        let vectors = wire::VectorParams { size, distance, ..wire::VectorParams::default() };
        wire::VectorsConfig { config: Some(wire::vectors_config::Config::Params(vectors)) }
    }

    /// Asks the shard.
    pub(crate) fn read<T>(&self, ask: impl FnOnce(&EdgeShard) -> OperationResult<T>) -> Result<T, Status> {
        let open = self.shard.read().map_err(|_| self.broken())?;
        let open = open.as_ref().ok_or_else(|| not_found(&self.name))?;
        ask(&open.shard).map_err(|error| status(&error))
    }

    /// Changes the shard. When it returns the change is on disk, in the engine's own files: an edge shard does not repeat
    /// its log when it is opened, so it is flushed after every change.
    pub(crate) fn write(&self, operation: UpdateOperation, n_points: usize) -> Result<(), Status> {
        let mut open = self.shard.write().map_err(|_| self.broken())?;
        let open = open.as_mut().ok_or_else(|| not_found(&self.name))?;
        open.shard.update(operation).map_err(|error| status(&error))?;
        open.shard.flush();
        open.n_written += n_points;
        if open.n_written >= ORDERLY_AFTER {
            // Without it nothing is ever put into the graph. It does what the collection's thresholds ask for.
            open.shard.optimize().map_err(|error| status(&error))?;
            open.shard.flush();
            open.n_written = 0;
        }
        Ok(())
    }

    /// Closes the shard after the calls that use it; later ones do not find it. Its files can be removed then.
    pub(crate) fn close(&self) {
        let mut open = self.shard.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(open.take());
    }

    fn broken(&self) -> Status {
        Status::internal(format!("the collection `{}` broke in an earlier write; start the server again", self.name))
    }
}

/// What Qdrant says of a collection that is not there.
pub(crate) fn not_found(name: &str) -> Status {
    Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"))
}
