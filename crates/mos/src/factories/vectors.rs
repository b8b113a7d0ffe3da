//! Where vectors are searched, from settings to an index that follows the record.

use std::sync::Arc;
use std::time::Duration;

use mos_config::store::QdrantVectors as QdrantConfig;
use mos_config::{Settings, StoreConfig, VectorStoreConfig};
use mos_core::{RecordStore, VectorStore};
use mos_stores::{ExactVectors, QdrantOptions, QdrantVectors};

use super::not_built;
use crate::error::{Error, Result};

/// The only distance that scores are defined by.
const COSINE: &str = "cosine";

/// The index, and what it is when it is on a server.
pub(crate) struct Vectors {
    pub(crate) index: Arc<dyn VectorStore>,
    pub(crate) qdrant: Option<Arc<QdrantVectors>>,
}

/// Returns whether this build can search vectors with a backend of this key.
pub(super) fn is_built(key: &str) -> bool {
    matches!(key, "embedded" | "qdrant")
}

/// Opens the index that the settings name. A server is not asked anything yet.
pub(crate) fn open(settings: &Settings, record: &Arc<dyn RecordStore>) -> Result<Vectors> {
    let Some(options) = server(settings)? else {
        return Ok(Vectors { index: ExactVectors::following(Arc::clone(record)), qdrant: None });
    };
    let qdrant = QdrantVectors::following(Arc::clone(record), &options)?;
    Ok(Vectors { index: qdrant.clone(), qdrant: Some(qdrant) })
}

/// Returns the server that the settings name for vectors; `None` when they are searched in this process.
pub(crate) fn server(settings: &Settings) -> Result<Option<QdrantOptions>> {
    let config = match &settings.store {
        StoreConfig::Neo4jCommunity(store) => &store.vec_config,
        StoreConfig::Sqlite(_) | StoreConfig::Memory(_) | StoreConfig::Neo4j(_) => &settings.vectors,
    };
    match config {
        VectorStoreConfig::Embedded(_) => Ok(None),
        VectorStoreConfig::Qdrant(config) => qdrant_options(config),
        VectorStoreConfig::Milvus(_) => {
            let known = ["embedded".to_owned(), "qdrant".to_owned()];
            Err(Error::Invalid(not_built("vectors", config.backend(), known.iter())))
        }
    }
}

/// Returns how the server is used; `None` when the settings name a folder or nothing, which MemOS keeps in its process.
fn qdrant_options(config: &QdrantConfig) -> Result<Option<QdrantOptions>> {
    if let Some(distance) = config.distance_metric.as_deref().filter(|distance| *distance != COSINE) {
        return Err(Error::Invalid(format!(
            "vectors are compared by cosine only, not by `{distance}`; set distance_metric of the vectors to `{COSINE}` or \
             leave it out"
        )));
    }
    let url = match (&config.url, &config.host) {
        (Some(url), _) => url.clone(),
        (None, Some(host)) => {
            let port = config.port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("http://{host}{port}")
        }
        (None, None) => return Ok(None),
    };
    let usual = QdrantOptions::at(url);
    Ok(Some(QdrantOptions {
        grpc_port: config.grpc_port,
        api_key: config.api_key.as_ref().map(|key| key.expose().to_owned()).filter(|key| !key.is_empty()),
        prefix: config.collection_name.clone(),
        dimension: config.vector_dimension,
        ca_certificate: config.ca_certificate.clone(),
        answer_timeout: config.timeout.map_or(usual.answer_timeout, Duration::from_secs),
        ..usual
    }))
}

#[cfg(test)]
mod tests {
    use mos_config::Setting;
    use serde_json::{Value, json};

    use super::*;

    fn options(config: Value) -> Result<Option<QdrantOptions>> {
        qdrant_options(&QdrantConfig::from_json(&config).unwrap())
    }

    #[test]
    fn the_forms_of_an_address_that_memos_knows_are_read() {
        let whole = json!({"collection_name": "ours", "host": "db", "port": 6333, "url": "https://db.example",
            "api_key": "hunter2", "vector_dimension": 384, "distance_metric": "cosine", "timeout": 5});
        let options_of = |value: Value| options(value).unwrap().unwrap();
        let whole = options_of(whole);
        assert_eq!((whole.url.as_str(), whole.prefix.as_str()), ("https://db.example", "ours"));
        assert_eq!((whole.api_key.as_deref(), whole.dimension), (Some("hunter2"), Some(384)));
        assert_eq!(whole.answer_timeout, Duration::from_secs(5));
        let by_host = options_of(json!({"collection_name": "x", "host": "db", "port": 6333, "grpc_port": 7}));
        assert_eq!((by_host.url.as_str(), by_host.grpc_port), ("http://db:6333", Some(7)));
        assert_eq!(options_of(json!({"collection_name": "x", "host": "db"})).url, "http://db");
        assert!(options(json!({"collection_name": "x", "path": "folder"})).unwrap().is_none(), "in this process");
        assert!(options(json!({"collection_name": "x"})).unwrap().is_none());
        let error = options(json!({"collection_name": "x", "url": "http://db", "distance_metric": "dot"})).unwrap_err();
        assert!(error.to_string().contains("cosine"), "{error}");
    }
}
