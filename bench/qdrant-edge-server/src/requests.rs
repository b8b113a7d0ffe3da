//! Requests, from the protocol to the engine.

use mos_testkit::qdrant_server::wire::payload_index_params::IndexParams;
use mos_testkit::qdrant_server::wire::query::Variant;
use mos_testkit::qdrant_server::wire::value::Kind;
use mos_testkit::qdrant_server::wire::vector::Vector as OneVector;
use mos_testkit::qdrant_server::wire::vectors::VectorsOptions;
use mos_testkit::qdrant_server::wire::vectors_config::Config;
use mos_testkit::qdrant_server::wire::with_payload_selector::SelectorOptions as PayloadOptions;
use mos_testkit::qdrant_server::wire::with_vectors_selector::SelectorOptions as VectorOptions;
use mos_testkit::qdrant_server::wire::{FieldType, vector_input};
use mos_testkit::qdrant_server::{Status, unknown, wire};
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::external::serde_json::{self, Map, Value as Json, json};
use qdrant_edge::{
    DEFAULT_VECTOR_NAME, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeVectorParams, HnswIndexConfig, JsonPath,
    NamedQuery, PayloadFieldSchema, PointStruct, QueryEnum, QueryRequest, ScoringQuery, SearchParams, WalOptions,
    WithPayloadInterface, WithVector,
};

use crate::collection::Shape;
use crate::filter::{filter, point_id};

/// Bytes of a piece of a collection's log, which is laid out ahead. A longer write gets a longer piece.
const LOG_PIECE: usize = 1 << 20;
/// How many points a query returns that names no number, as with Qdrant.
const USUAL_LIMIT: usize = 10;

/// # Errors
/// For collections that do not hold one dense vector per point.
pub(crate) fn shape(request: &wire::CreateCollection) -> Result<Shape, Status> {
    let config = request.vectors_config.as_ref().and_then(|vectors| vectors.config.as_ref());
    let Some(Config::Params(vectors)) = config else {
        return Err(unknown("collections without one unnamed vector"));
    };
    if request.sparse_vectors_config.is_some() || vectors.multivector_config.is_some() {
        return Err(unknown("sparse and multiple vectors"));
    }
    if request.quantization_config.is_some() || vectors.quantization_config.is_some() {
        return Err(unknown("quantization"));
    }
    if vectors.size == 0 {
        return Err(invalid("vectors have at least one dimension"));
    }
    distance(vectors.distance)?;
    Ok(Shape { size: vectors.size, distance: vectors.distance })
}

fn distance(number: i32) -> Result<Distance, Status> {
    match wire::Distance::try_from(number) {
        Ok(wire::Distance::Cosine) => Ok(Distance::Cosine),
        Ok(wire::Distance::Euclid) => Ok(Distance::Euclid),
        Ok(wire::Distance::Dot) => Ok(Distance::Dot),
        Ok(wire::Distance::Manhattan) => Ok(Distance::Manhattan),
        _ => Err(invalid("the distance is unknown")),
    }
}

/// Returns the engine's settings of a new collection. What the request does not name is as Qdrant has it.
pub(crate) fn config(request: &wire::CreateCollection, shape: Shape) -> Result<EdgeConfig, Status> {
    let vectors = EdgeVectorParams {
        size: size(shape.size),
        distance: distance(shape.distance)?,
        quantization_config: None,
        multivector_config: None,
        datatype: None,
        on_disk: None,
        hnsw_config: None,
    };
    Ok(EdgeConfig {
        on_disk_payload: false,
        vectors: [(DEFAULT_VECTOR_NAME.to_owned(), vectors)].into(),
        sparse_vectors: Default::default(),
        hnsw_config: hnsw(request.hnsw_config.as_ref()),
        quantization_config: None,
        optimizers: optimizers(request.optimizers_config.as_ref()),
        wal_options: Some(WalOptions { segment_capacity: LOG_PIECE, ..WalOptions::default() }),
    })
}

fn hnsw(wanted: Option<&wire::HnswConfigDiff>) -> HnswIndexConfig {
    let mut config = HnswIndexConfig::default();
    let Some(wanted) = wanted else { return config };
    if let Some(m) = wanted.m {
        config.m = size(m);
    }
    if let Some(effort) = wanted.ef_construct {
        config.ef_construct = size(effort);
    }
    if let Some(threshold) = wanted.full_scan_threshold {
        config.full_scan_threshold = size(threshold);
    }
    if let Some(n_threads) = wanted.max_indexing_threads {
        config.max_indexing_threads = size(n_threads);
    }
    config.payload_m = wanted.payload_m.map(size);
    config
}

fn optimizers(wanted: Option<&wire::OptimizersConfigDiff>) -> EdgeOptimizersConfig {
    let Some(wanted) = wanted else { return EdgeOptimizersConfig::default() };
    EdgeOptimizersConfig {
        deleted_threshold: wanted.deleted_threshold,
        vacuum_min_vector_number: wanted.vacuum_min_vector_number.map(size),
        default_segment_number: wanted.default_segment_number.map(size),
        max_segment_size: wanted.max_segment_size.map(size),
        indexing_threshold: wanted.indexing_threshold.map(size),
        ..EdgeOptimizersConfig::default()
    }
}

/// Returns the path of a field in a payload.
pub(crate) fn path(text: &str) -> Result<JsonPath, Status> {
    JsonPath::try_from(text).map_err(|()| invalid(&format!("`{text}` is no path of a field")))
}

/// Returns how a field is to be indexed.
pub(crate) fn schema(request: &wire::CreateFieldIndexCollection) -> Result<PayloadFieldSchema, Status> {
    let kind = match request.field_type.map(FieldType::try_from) {
        Some(Ok(FieldType::Keyword)) => "keyword",
        Some(Ok(FieldType::Integer)) => "integer",
        Some(Ok(FieldType::Float)) => "float",
        Some(Ok(FieldType::Text)) => "text",
        Some(Ok(FieldType::Bool)) => "bool",
        Some(Ok(FieldType::Datetime)) => "datetime",
        Some(Ok(FieldType::Uuid)) => "uuid",
        _ => return Err(unknown("this type of a field")),
    };
    // As Qdrant's REST protocol says it, which the engine reads itself.
    let schema = match request.field_index_params.as_ref().and_then(|params| params.index_params.as_ref()) {
        None => Json::from(kind),
        Some(IndexParams::KeywordIndexParams(params)) => {
            json!({"type": kind, "is_tenant": params.is_tenant, "enable_hnsw": params.enable_hnsw})
        }
        Some(IndexParams::IntegerIndexParams(params)) => json!({
            "type": kind, "lookup": params.lookup, "range": params.range, "is_principal": params.is_principal,
            "enable_hnsw": params.enable_hnsw
        }),
        Some(_) => return Err(unknown("settings of this kind of index")),
    };
    serde_json::from_value(schema).map_err(|error| invalid(&format!("the index is not understood: {error}")))
}

/// Returns a point whose vector fits the collection.
pub(crate) fn point(point: wire::PointStruct, shape: Shape) -> Result<PointStruct, Status> {
    let id = point_id(point.id.as_ref().ok_or_else(|| invalid("a point has no id"))?)?;
    let vector = match point.vectors.and_then(|vectors| vectors.vectors_options) {
        Some(VectorsOptions::Vector(vector)) => match vector.vector {
            Some(OneVector::Dense(dense)) => dense.data,
            #[allow(deprecated, reason = "how older clients send it")]
            None => vector.data,
            Some(_) => return Err(unknown("this kind of vector")),
        },
        _ => return Err(unknown("points without one unnamed vector")),
    };
    check_dimension(&vector, shape)?;
    let payload: Map<String, Json> = point.payload.into_iter().map(|(key, value)| (key, json_value(value))).collect();
    Ok(PointStruct::new(id, vector, Json::Object(payload)))
}

fn check_dimension(vector: &[f32], shape: Shape) -> Result<(), Status> {
    if vector.len() as u64 == shape.size {
        return Ok(());
    }
    let (expected, given) = (shape.size, vector.len());
    Err(invalid(&format!("Vector dimension error: expected dim: {expected}, got {given}")))
}

/// Numbers that JSON does not know become null, as with Qdrant.
fn json_value(value: wire::Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::from(flag),
        Some(Kind::IntegerValue(number)) => Json::from(number),
        Some(Kind::DoubleValue(number)) => Json::from(number),
        Some(Kind::StringValue(text)) => Json::from(text),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json_value).collect()),
        Some(Kind::StructValue(structure)) => {
            Json::Object(structure.fields.into_iter().map(|(key, value)| (key, json_value(value))).collect())
        }
    }
}

/// Returns what of the payloads is wanted; `unsaid` where the request does not say.
pub(crate) fn with_payload(
    selector: Option<&wire::WithPayloadSelector>,
    unsaid: bool,
) -> Result<WithPayloadInterface, Status> {
    match selector.and_then(|selector| selector.selector_options.as_ref()) {
        None => Ok(WithPayloadInterface::Bool(unsaid)),
        Some(PayloadOptions::Enable(flag)) => Ok(WithPayloadInterface::Bool(*flag)),
        Some(PayloadOptions::Include(include)) => {
            let paths = include.fields.iter().map(|field| path(field)).collect::<Result<Vec<JsonPath>, Status>>()?;
            Ok(WithPayloadInterface::Fields(paths))
        }
        Some(PayloadOptions::Exclude(_)) => Err(unknown("payloads without some fields")),
    }
}

/// Returns whether vectors are wanted.
pub(crate) fn with_vector(selector: Option<&wire::WithVectorsSelector>) -> Result<WithVector, Status> {
    match selector.and_then(|selector| selector.selector_options.as_ref()) {
        None => Ok(WithVector::Bool(false)),
        Some(VectorOptions::Enable(flag)) => Ok(WithVector::Bool(*flag)),
        Some(VectorOptions::Include(_)) => Err(unknown("some vectors of a point")),
    }
}

/// Returns a search for the points nearest to a vector.
pub(crate) fn query(request: &wire::QueryPoints, shape: Shape) -> Result<QueryRequest, Status> {
    if !request.prefetch.is_empty() || request.lookup_from.is_some() {
        return Err(unknown("queries in several steps"));
    }
    if request.using.as_ref().is_some_and(|name| !name.is_empty()) {
        return Err(unknown("vectors with names"));
    }
    let variant = request.query.as_ref().and_then(|query| query.variant.as_ref());
    let Some(Variant::Nearest(input)) = variant else { return Err(unknown("this query")) };
    let Some(vector_input::Variant::Dense(vector)) = &input.variant else { return Err(unknown("this vector")) };
    check_dimension(&vector.data, shape)?;
    let nearest = QueryEnum::Nearest(NamedQuery { query: vector.data.clone().into(), using: None });
    Ok(QueryRequest {
        prefetches: Vec::new(),
        query: Some(ScoringQuery::Vector(nearest)),
        filter: request.filter.as_ref().map(filter).transpose()?,
        score_threshold: request.score_threshold.map(OrderedFloat),
        limit: request.limit.map_or(USUAL_LIMIT, size),
        offset: request.offset.map_or(0, size),
        params: request.params.as_ref().map(params).transpose()?,
        with_vector: with_vector(request.with_vectors.as_ref())?,
        with_payload: with_payload(request.with_payload.as_ref(), false)?,
    })
}

fn params(params: &wire::SearchParams) -> Result<SearchParams, Status> {
    if params.quantization.is_some() || params.acorn.is_some() {
        return Err(unknown("these settings of a search"));
    }
    Ok(SearchParams {
        hnsw_ef: params.hnsw_ef.map(size),
        exact: params.exact.unwrap_or(false),
        indexed_only: params.indexed_only.unwrap_or(false),
        ..SearchParams::default()
    })
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn invalid(what: &str) -> Status {
    Status::invalid_argument(format!("Wrong input: {what}"))
}
