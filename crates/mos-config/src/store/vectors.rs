//! Where vectors are searched.

use std::path::PathBuf;

use crate::read::Fields;
use crate::secret::Secret;

/// Distances that MemOS knows.
const DISTANCES: [&str; 3] = ["cosine", "euclidean", "dot"];

fn check_distance(distance: Option<&str>, fields: &mut Fields<'_, '_>) {
    if let Some(distance) = distance.filter(|distance| !DISTANCES.contains(distance)) {
        fields.refuse("distance_metric", format!("unknown distance `{distance}` (allowed: {})", DISTANCES.join(", ")));
    }
}

section! {
    /// Vectors in the record itself, searched exactly.
    pub struct EmbeddedVectors {
        /// Length of the vectors. Absent: the encoder's.
        omitted vector_dimension: Option<usize>,
    }
}

section! {
    /// A Qdrant server, or a local Qdrant folder.
    pub struct QdrantVectors {
        /// Name of the collection; here, what the names of the collections begin with.
        required collection_name: String,
        /// Length of the vectors. Absent: the encoder's.
        default vector_dimension: Option<usize> = None,
        /// `cosine`, `euclidean` or `dot`.
        default distance_metric: Option<String> = None,
        /// Host of the server.
        default host: Option<String> = None,
        /// Port of the server: that of gRPC, or 6333, which stands for 6334.
        default port: Option<u16> = None,
        /// A local folder instead of a server.
        default path: Option<String> = None,
        /// Address of the server, `http://HOST:PORT` or with TLS `https://HOST:PORT`; wins over host and port.
        default url: Option<String> = None,
        /// The server's key.
        default api_key: Option<Secret> = None,
        /// Port of gRPC, where it is another than `port`, the url's, or 6334.
        omitted grpc_port: Option<u16>,
        /// File with the certificates of trusted authorities. Absent: the system's.
        omitted ca_certificate: Option<PathBuf>,
        /// Seconds to wait for an answer, 1 to 3600. Absent: 30.
        omitted timeout: Option<u64>,
    }
    check: check_qdrant;
}

fn check_qdrant(vectors: &QdrantVectors, fields: &mut Fields<'_, '_>) {
    check_distance(vectors.distance_metric.as_deref(), fields);
    if vectors.timeout.is_some_and(|seconds| !(1..=3600).contains(&seconds)) {
        fields.refuse("timeout", "must be from 1 to 3600 seconds");
    }
}

section! {
    /// A Milvus server or file.
    pub struct MilvusVectors {
        /// Names of the collections.
        required collection_name: Vec<String>,
        /// Length of the vectors.
        default vector_dimension: Option<usize> = None,
        /// `cosine`, `euclidean` or `dot`.
        default distance_metric: Option<String> = None,
        /// Address of the server, or path of the file.
        required uri: String,
        /// The most bytes of a text.
        default max_length: usize = 65_535,
        /// User of the server.
        default user_name: String = String::new(),
        /// Password of the user.
        default password: Secret = Secret::default(),
    }
    check: check_milvus;
}

fn check_milvus(vectors: &MilvusVectors, fields: &mut Fields<'_, '_>) {
    check_distance(vectors.distance_metric.as_deref(), fields);
}

backends! {
    /// Where vectors are searched.
    pub enum VectorStoreConfig {
        /// In the record itself.
        Embedded(EmbeddedVectors) = "embedded",
        /// Qdrant.
        Qdrant(QdrantVectors) = "qdrant",
        /// Milvus.
        Milvus(MilvusVectors) = "milvus",
    }
}
