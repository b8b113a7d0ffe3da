//! Answers, from the engine to the protocol.

use std::collections::HashMap;

use mos_testkit::qdrant_server::wire::point_id::PointIdOptions;
use mos_testkit::qdrant_server::wire::value::Kind;
use mos_testkit::qdrant_server::wire::{vector_output, vectors_output};
use mos_testkit::qdrant_server::{Status, unknown, wire};
use qdrant_edge::external::serde_json::Value as Json;
use qdrant_edge::{
    OperationError, Payload, PayloadSchemaType, PointId, Record, ScoredPoint, ShardInfo, VectorStructInternal,
};

/// Returns what the caller is told of an operation that failed.
pub(crate) fn status(error: &OperationError) -> Status {
    let text = error.to_string();
    match error {
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::PointIdError { .. }
        | OperationError::TypeError { .. }
        | OperationError::TypeInferenceError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti => Status::invalid_argument(format!("Wrong input: {text}")),
        _ => Status::internal(format!("Service internal error: {text}")),
    }
}

pub(crate) fn point_id(id: PointId) -> wire::PointId {
    let options = match id {
        PointId::NumId(number) => PointIdOptions::Num(number),
        PointId::Uuid(id) => PointIdOptions::Uuid(id.to_string()),
    };
    wire::PointId { point_id_options: Some(options) }
}

pub(crate) fn retrieved(record: Record) -> Result<wire::RetrievedPoint, Status> {
    Ok(wire::RetrievedPoint {
        id: Some(point_id(record.id)),
        payload: payload(record.payload),
        vectors: record.vector.map(vectors).transpose()?,
        ..wire::RetrievedPoint::default()
    })
}

pub(crate) fn scored(point: ScoredPoint) -> Result<wire::ScoredPoint, Status> {
    Ok(wire::ScoredPoint {
        id: Some(point_id(point.id)),
        payload: payload(point.payload),
        score: point.score,
        version: point.version,
        vectors: point.vector.map(vectors).transpose()?,
        ..wire::ScoredPoint::default()
    })
}

fn payload(payload: Option<Payload>) -> HashMap<String, wire::Value> {
    let fields = payload.map(|payload| payload.0).unwrap_or_default();
    fields.into_iter().map(|(key, value)| (key, wire_value(value))).collect()
}

/// Whole numbers beyond 64 bits with sign become floating; the protocol has no others.
fn wire_value(value: Json) -> wire::Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Kind::IntegerValue(number),
            None => Kind::DoubleValue(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => {
            Kind::ListValue(wire::ListValue { values: values.into_iter().map(wire_value).collect() })
        }
        Json::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, wire_value(value))).collect();
            Kind::StructValue(wire::Struct { fields })
        }
    };
    wire::Value { kind: Some(kind) }
}

fn vectors(vector: VectorStructInternal) -> Result<wire::VectorsOutput, Status> {
    let VectorStructInternal::Single(data) = vector else {
        return Err(unknown("points without one unnamed vector"));
    };
    let dense = wire::DenseVector { data };
    let output = wire::VectorOutput {
        vector: Some(vector_output::Vector::Dense(dense)),
        ..wire::VectorOutput::default()
    };
    Ok(wire::VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vector(output)) })
}

/// Returns which fields are indexed, and how many points are in each index.
pub(crate) fn payload_schema(info: &ShardInfo) -> HashMap<String, wire::PayloadSchemaInfo> {
    let indexes = info.payload_schema.iter().map(|(path, index)| {
        let schema = wire::PayloadSchemaInfo {
            data_type: schema_type(index.data_type) as i32,
            points: Some(index.points as u64),
            ..wire::PayloadSchemaInfo::default()
        };
        (path.to_string(), schema)
    });
    indexes.collect()
}

fn schema_type(kind: PayloadSchemaType) -> wire::PayloadSchemaType {
    match kind {
        PayloadSchemaType::Keyword => wire::PayloadSchemaType::Keyword,
        PayloadSchemaType::Integer => wire::PayloadSchemaType::Integer,
        PayloadSchemaType::Float => wire::PayloadSchemaType::Float,
        PayloadSchemaType::Geo => wire::PayloadSchemaType::Geo,
        PayloadSchemaType::Text => wire::PayloadSchemaType::Text,
        PayloadSchemaType::Bool => wire::PayloadSchemaType::Bool,
        PayloadSchemaType::Datetime => wire::PayloadSchemaType::Datetime,
        PayloadSchemaType::Uuid => wire::PayloadSchemaType::Uuid,
    }
}
