//! Collections: one per embedding space, found by name, made when they are missing.

use mos_core::{EmbeddingSpace, StoreError};
use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CollectionInfo, CreateCollection, CreateFieldIndexCollection, Distance, FieldType, GetCollectionInfoRequest,
    HealthCheckReply, HealthCheckRequest, HnswConfigDiff, IntegerIndexParams, KeywordIndexParams,
    ListCollectionsRequest, PayloadIndexParams, VectorParams, VectorsConfig,
};

use super::connection::{Collections, Connection, Points, Root};
use super::fault::{BACKEND, Fault};
use super::point::{CUBE, CURSOR_OF, MEMORY_ID, SEQUENCE, model_mark};
use crate::server_version::is_older;

/// The first version whose indexes can leave the graph out (`enable_hnsw`).
const OLDEST_SERVER: (u32, u32) = (1, 16);

/// Edges of a node in the graph of each cube. There is none over all cubes: every search names one.
const EDGES_WITHIN_CUBE: u64 = 16;
/// What filters name most.
const KEYWORDS: [&str; 9] = [
    MEMORY_ID,
    CURSOR_OF,
    "metadata.user_id",
    "metadata.session_id",
    "metadata.status",
    "metadata.type",
    "metadata.memory_type",
    "metadata.key",
    "metadata.tags",
];
const INTEGERS: [&str; 3] = [SEQUENCE, "moments.created_at", "moments.updated_at"];

/// Returns the name of the collection of a space.
pub(super) fn name(prefix: &str, space: &EmbeddingSpace) -> String {
    format!("{prefix}_{}_{}", space.dimension, model_mark(space))
}

/// Whether a name is one of ours.
fn is_ours(prefix: &str, name: &str) -> bool {
    let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    let parts = rest.and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(dimension, mark)| {
        dimension.parse::<usize>().is_ok()
            && mark.len() == 12
            && mark.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// Returns the names of all collections with this prefix, sorted.
pub(super) async fn ours(connection: &Connection, prefix: &str) -> Result<Vec<String>, StoreError> {
    let listed = connection
        .collections(|mut client| async move { client.list(ListCollectionsRequest {}).await })
        .await
        .map_err(Fault::into_store_error)?;
    let names = listed.collections.into_iter().map(|collection| collection.name);
    let mut names: Vec<String> = names.filter(|name| is_ours(prefix, name)).collect();
    names.sort();
    Ok(names)
}

/// Makes the collection of a space, with its indexes, where it is missing. Any number of programs may do so at once.
///
/// # Errors
/// [`StoreError::Invalid`] when a collection of that name holds other vectors, or the server is too old.
pub(super) async fn ensure(connection: &Connection, name: &str, space: &EmbeddingSpace) -> Result<(), StoreError> {
    check_version(connection.address(), &health(connection).await?.version)?;
    let info = match info(connection, name).await? {
        Some(info) => info,
        None => {
            let created = create(connection, name, space).await;
            // Another program may have been faster, which only the server's words tell.
            match (info(connection, name).await?, created) {
                (Some(info), _) => info,
                (None, Err(error)) => return Err(error.into_store_error()),
                (None, Ok(())) => return Err(Fault::NoCollection.into_store_error()),
            }
        }
    };
    check(connection.address(), name, &info, space)?;
    let is_missing = |field: &&str| !info.payload_schema.contains_key(*field);
    for field in KEYWORDS.iter().chain([&CUBE]).chain(&INTEGERS).copied().filter(|field| is_missing(field)) {
        let request = CreateFieldIndexCollection {
            collection_name: name.to_owned(),
            wait: Some(true),
            field_name: field.to_owned(),
            field_type: Some(if INTEGERS.contains(&field) { FieldType::Integer } else { FieldType::Keyword } as i32),
            field_index_params: Some(PayloadIndexParams { index_params: Some(index(field)) }),
            ..CreateFieldIndexCollection::default()
        };
        let make = |mut client: Points| {
            let request = request.clone();
            async move { client.create_field_index(request).await }
        };
        connection.points(make).await.map_err(Fault::into_store_error)?;
    }
    Ok(())
}

/// Returns what the server says of itself.
pub(super) async fn health(connection: &Connection) -> Result<HealthCheckReply, StoreError> {
    let ask = |mut client: Root| async move { client.health_check(HealthCheckRequest {}).await };
    connection.root(ask).await.map_err(Fault::into_store_error)
}

/// Refuses a server that is too old.
pub(super) fn check_version(address: &str, version: &str) -> Result<(), StoreError> {
    if is_older(version, OLDEST_SERVER) {
        let (major, minor) = OLDEST_SERVER;
        return Err(StoreError::Invalid(format!(
            "the {BACKEND} server at {address} has version `{version}`; {major}.{minor} or later is needed"
        )));
    }
    Ok(())
}

fn index(field: &str) -> IndexParams {
    if INTEGERS.contains(&field) {
        return IndexParams::IntegerIndexParams(IntegerIndexParams {
            lookup: Some(false),
            range: Some(true),
            enable_hnsw: Some(false),
            ..IntegerIndexParams::default()
        });
    }
    IndexParams::KeywordIndexParams(KeywordIndexParams {
        is_tenant: Some(field == CUBE),
        // Graphs are built within cubes only: more would take long and help little.
        enable_hnsw: Some(field == CUBE),
        ..KeywordIndexParams::default()
    })
}

async fn create(connection: &Connection, name: &str, space: &EmbeddingSpace) -> Result<(), Fault> {
    let vectors =
        VectorParams { size: space.dimension as u64, distance: Distance::Cosine as i32, ..VectorParams::default() };
    let request = CreateCollection {
        collection_name: name.to_owned(),
        vectors_config: Some(VectorsConfig { config: Some(Config::Params(vectors)) }),
        hnsw_config: Some(HnswConfigDiff {
            m: Some(0),
            payload_m: Some(EDGES_WITHIN_CUBE),
            ..HnswConfigDiff::default()
        }),
        ..CreateCollection::default()
    };
    let make = |mut client: Collections| {
        let request = request.clone();
        async move { client.create(request).await }
    };
    connection.collections(make).await.map(drop)
}

/// Returns what the server tells of a collection; `None` when it is not there.
pub(super) async fn info(connection: &Connection, name: &str) -> Result<Option<CollectionInfo>, StoreError> {
    let ask = |mut client: Collections| {
        let request = GetCollectionInfoRequest { collection_name: name.to_owned() };
        async move { client.get(request).await }
    };
    match connection.collections(ask).await {
        Ok(response) => Ok(response.result),
        Err(Fault::NoCollection) => Ok(None),
        Err(Fault::Store(error)) => Err(error),
    }
}

fn check(address: &str, name: &str, info: &CollectionInfo, space: &EmbeddingSpace) -> Result<(), StoreError> {
    let params = info.config.as_ref().and_then(|config| config.params.as_ref());
    let config = params.and_then(|params| params.vectors_config.as_ref()).and_then(|vectors| vectors.config.as_ref());
    let held = match config {
        Some(Config::Params(vectors)) => {
            let is_cosine = vectors.distance == Distance::Cosine as i32;
            if is_cosine && vectors.size == space.dimension as u64 {
                return Ok(());
            }
            let distance =
                Distance::try_from(vectors.distance).map_or("an unknown distance", |known| known.as_str_name());
            format!("vectors of {} dimensions compared by {distance}", vectors.size)
        }
        Some(Config::ParamsMap(_)) => "vectors with names".to_owned(),
        None => "no vectors".to_owned(),
    };
    Err(StoreError::Invalid(format!(
        "the collection `{name}` on the {BACKEND} server at {address} holds {held}, but {space} needs {} dimensions compared \
         by cosine; choose another `collection_name` in the settings, or delete the collection: it is filled again",
        space.dimension
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(model: &str, dimension: usize) -> EmbeddingSpace {
        EmbeddingSpace { model: model.to_owned(), dimension }
    }

    #[test]
    fn every_space_has_a_collection_of_its_own() {
        let names = [space("a", 3), space("b", 3), space("a", 4)].map(|space| name("mos", &space));
        assert!(names[0] != names[1] && names[0] != names[2]);
        for name in &names {
            assert!(is_ours("mos", name), "{name}");
            assert!(!is_ours("mo", name) && !is_ours("mos_3", name) && !is_ours("other", name), "{name}");
        }
        assert!(!is_ours("mos", "mos_3_notes") && !is_ours("mos", "mos"));
        assert!(is_ours("mos_2", &name("mos_2", &space("a", 3))));
    }

    #[test]
    fn other_collections_are_refused() {
        let error = check("here:1", "x", &CollectionInfo::default(), &space("a", 3)).unwrap_err();
        assert!(error.to_string().contains("collection_name"), "{error}");
    }
}
