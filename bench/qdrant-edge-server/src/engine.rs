//! All collections: folders in a folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::Context;
use mos_testkit::qdrant_server::wire::points_selector::PointsSelectorOneOf;
use mos_testkit::qdrant_server::wire::{
    CollectionConfig, CollectionInfo, CollectionParams, CountPoints, CreateCollection, CreateFieldIndexCollection,
    DeletePoints, GetPoints, QueryPoints, RetrievedPoint, ScoredPoint, ScrollPoints, UpsertPoints,
};
use mos_testkit::qdrant_server::{Engine, Listed, Status};
use qdrant_edge::{
    CountRequest, CreateIndex, FieldIndexOperations, PointId, PointInsertOperations, PointOperations, ScrollRequest,
    UpdateOperation,
};

use crate::collection::{Collection, not_found};
use crate::filter::{filter, point_id};
use crate::{answers, requests};

/// The collection that is being made, and the one that is being removed: no names of collections look like this.
const UNFINISHED: &str = ".new";
const GONE: &str = ".gone";

/// The engine of Qdrant, over a folder.
#[derive(Debug)]
pub(crate) struct EdgeEngine {
    folder: PathBuf,
    collections: RwLock<BTreeMap<String, Arc<Collection>>>,
}

impl EdgeEngine {
    /// Opens what the folder holds, and clears away what a killed program left half-made or half-removed.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or a collection is damaged.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use the folder {}", folder.display());
        std::fs::create_dir_all(folder).with_context(cannot)?;
        for name in [UNFINISHED, GONE] {
            remove_folder(&folder.join(name)).with_context(cannot)?;
        }
        let mut collections = BTreeMap::new();
        for entry in std::fs::read_dir(folder).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            if path.is_dir() {
                let collection = Collection::load(&path)?;
                collections.insert(collection.name().to_owned(), Arc::new(collection));
            }
        }
        Ok(Self { folder: folder.to_owned(), collections: RwLock::new(collections) })
    }

    fn collections(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Collection>>> {
        self.collections.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn collections_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<Collection>>> {
        self.collections.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn collection(&self, name: &str) -> Result<Arc<Collection>, Status> {
        self.collections().get(name).cloned().ok_or_else(|| not_found(name))
    }
}

impl Engine for EdgeEngine {
    fn version(&self) -> String {
        "1.20.0-qdrant-edge-0.7.2".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.collections().keys().cloned().collect()
    }

    fn create(&self, request: CreateCollection) -> Result<(), Status> {
        let shape = requests::shape(&request)?;
        let config = requests::config(&request, shape)?;
        let name = request.collection_name;
        if name.is_empty() {
            return Err(Status::invalid_argument("Wrong input: a collection needs a name"));
        }
        let mut collections = self.collections_mut();
        if collections.contains_key(&name) {
            return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
        }
        let (unfinished, folder) = (self.folder.join(UNFINISHED), self.folder.join(folder_name(&name)));
        let make = || -> anyhow::Result<Collection> {
            remove_folder(&unfinished)?;
            Collection::write_new(&unfinished, &name, shape, config)?;
            // From here on it is there, also after a kill.
            std::fs::rename(&unfinished, &folder)?;
            Collection::load(&folder)
        };
        let collection = make().map_err(|error| Status::internal(format!("cannot make `{name}`: {error:#}")))?;
        collections.insert(name, Arc::new(collection));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<bool, Status> {
        let mut collections = self.collections_mut();
        let Some(collection) = collections.remove(name) else { return Ok(false) };
        collection.close();
        let gone = self.folder.join(GONE);
        let remove = || -> io::Result<()> {
            remove_folder(&gone)?;
            // From here on it is gone, also after a kill.
            std::fs::rename(collection.folder(), &gone)?;
            remove_folder(&gone)
        };
        remove().map_err(|error| Status::internal(format!("cannot remove `{name}`: {error}")))?;
        Ok(true)
    }

    fn info(&self, name: &str) -> Result<CollectionInfo, Status> {
        let collection = self.collection(name)?;
        let info = collection.read(|shard| Ok(shard.info()))?;
        let params =
            CollectionParams { vectors_config: Some(collection.vectors_config()), ..CollectionParams::default() };
        Ok(CollectionInfo {
            config: Some(CollectionConfig { params: Some(params), ..CollectionConfig::default() }),
            payload_schema: answers::payload_schema(&info),
            points_count: Some(info.points_count as u64),
            indexed_vectors_count: Some(info.indexed_vectors_count as u64),
            segments_count: info.segments_count as u64,
            ..CollectionInfo::default()
        })
    }

    fn create_index(&self, request: CreateFieldIndexCollection) -> Result<(), Status> {
        let collection = self.collection(&request.collection_name)?;
        let field_name = requests::path(&request.field_name)?;
        let field_schema = Some(requests::schema(&request)?);
        let index = FieldIndexOperations::CreateIndex(CreateIndex { field_name, field_schema });
        collection.write(UpdateOperation::FieldIndexOperation(index), 0)
    }

    fn upsert(&self, request: UpsertPoints) -> Result<(), Status> {
        if request.update_filter.is_some() || request.update_mode.is_some() {
            return Err(mos_testkit::qdrant_server::unknown("conditional writes"));
        }
        let collection = self.collection(&request.collection_name)?;
        let shape = collection.shape();
        let points = request.points.into_iter().map(|point| requests::point(point, shape));
        // All or nothing.
        let points = points.collect::<Result<Vec<_>, Status>>()?;
        let n_points = points.len();
        let points = PointInsertOperations::PointsList(points.into_iter().map(Into::into).collect());
        collection.write(UpdateOperation::PointOperation(PointOperations::UpsertPoints(points)), n_points)
    }

    fn delete(&self, request: DeletePoints) -> Result<(), Status> {
        let collection = self.collection(&request.collection_name)?;
        let operation = match request.points.and_then(|points| points.points_selector_one_of) {
            Some(PointsSelectorOneOf::Points(points)) => {
                let ids = points.ids.iter().map(point_id).collect::<Result<Vec<PointId>, Status>>()?;
                PointOperations::DeletePoints { ids }
            }
            Some(PointsSelectorOneOf::Filter(wanted)) => PointOperations::DeletePointsByFilter(filter(&wanted)?),
            None => return Err(Status::invalid_argument("Wrong input: no points are selected")),
        };
        collection.write(UpdateOperation::PointOperation(operation), 1)
    }

    fn get(&self, request: &GetPoints) -> Result<Vec<RetrievedPoint>, Status> {
        let collection = self.collection(&request.collection_name)?;
        let ids = request.ids.iter().map(point_id).collect::<Result<Vec<PointId>, Status>>()?;
        let with_payload = requests::with_payload(request.with_payload.as_ref(), true)?;
        let with_vector = requests::with_vector(request.with_vectors.as_ref())?;
        let found = collection.read(|shard| shard.retrieve(&ids, Some(with_payload), Some(with_vector)))?;
        found.into_iter().map(answers::retrieved).collect()
    }

    fn scroll(&self, request: &ScrollPoints) -> Result<Listed, Status> {
        if request.order_by.is_some() {
            return Err(mos_testkit::qdrant_server::unknown("listings by a field"));
        }
        let collection = self.collection(&request.collection_name)?;
        let page = ScrollRequest {
            offset: request.offset.as_ref().map(point_id).transpose()?,
            limit: request.limit.map(|limit| limit as usize),
            filter: request.filter.as_ref().map(filter).transpose()?,
            with_payload: Some(requests::with_payload(request.with_payload.as_ref(), true)?),
            with_vector: requests::with_vector(request.with_vectors.as_ref())?,
            order_by: None,
        };
        let (found, next) = collection.read(|shard| shard.scroll(page))?;
        let found = found.into_iter().map(answers::retrieved).collect::<Result<Vec<_>, Status>>()?;
        Ok((found, next.map(answers::point_id)))
    }

    fn count(&self, request: &CountPoints) -> Result<u64, Status> {
        let collection = self.collection(&request.collection_name)?;
        let filter = request.filter.as_ref().map(filter).transpose()?;
        let wanted = CountRequest { filter, exact: request.exact.unwrap_or(true) };
        Ok(collection.read(|shard| shard.count(wanted))? as u64)
    }

    fn query(&self, request: &QueryPoints) -> Result<Vec<ScoredPoint>, Status> {
        let collection = self.collection(&request.collection_name)?;
        let wanted = requests::query(request, collection.shape())?;
        let found = collection.read(|shard| shard.query(wanted))?;
        found.into_iter().map(answers::scored).collect()
    }
}

/// The name of a collection as that of a folder.
fn folder_name(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    text
}

/// Removes a folder that may not be there.
fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_collections_make_folders_that_stay_inside_and_apart() {
        for (name, folder) in
            [("mos_3-a", "mos_3-a"), ("../a", "%2e%2e%2fa"), (".new", "%2enew"), ("%2e", "%252e"), ("é", "%c3%a9")]
        {
            assert_eq!(folder_name(name), folder);
        }
    }
}
