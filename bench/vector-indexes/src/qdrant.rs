//! `qdrant-edge`: the engine of Qdrant in this process.

use std::path::Path;

use qdrant_edge::external::serde_json::json;
use qdrant_edge::{
    Condition, CountRequest, CreateIndex, DEFAULT_VECTOR_NAME, Distance, EdgeConfig, EdgeShard, EdgeVectorParams,
    FieldCondition, FieldIndexOperations, Filter, JsonPath, Match, NamedQuery, PayloadFieldSchema, PayloadSchemaType,
    PointId, PointInsertOperations, PointOperations, PointStruct, QueryEnum, QueryRequest, ScoringQuery, SearchParams,
    UpdateOperation, ValueVariants, WithPayloadInterface, WithVector,
};

use crate::data::{DIMENSION, Data, N_NEAREST, part_of};
use crate::subject::{Index, Subject};

const PER_CALL: usize = 1000;
const FIELD: &str = "session_id";

pub struct QdrantEdge;

struct Shard(EdgeShard);

fn part_name(part: u64) -> String {
    format!("session-{part:03}")
}

fn config() -> EdgeConfig {
    let vectors = EdgeVectorParams {
        size: DIMENSION,
        distance: Distance::Dot,
        quantization_config: None,
        multivector_config: None,
        datatype: None,
        on_disk: None,
        hnsw_config: None,
    };
    EdgeConfig {
        on_disk_payload: false,
        vectors: [(DEFAULT_VECTOR_NAME.to_owned(), vectors)].into(),
        sparse_vectors: Default::default(),
        hnsw_config: Default::default(),
        quantization_config: None,
        optimizers: Default::default(),
        wal_options: None,
    }
}

fn field() -> anyhow::Result<JsonPath> {
    FIELD.try_into().map_err(|()| anyhow::anyhow!("`{FIELD}` is the name of a field"))
}

impl Subject for QdrantEdge {
    fn build(&self, data: &Data, folder: &Path) -> anyhow::Result<Box<dyn Index>> {
        let shard = EdgeShard::new(folder, config())?;
        shard.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(CreateIndex {
            field_name: field()?,
            field_schema: Some(PayloadFieldSchema::FieldType(PayloadSchemaType::Keyword)),
        })))?;
        data.each_chunk(|first, vectors| {
            for (call, vectors) in vectors.chunks(PER_CALL).enumerate() {
                let numbered = std::iter::zip(first + call * PER_CALL.., vectors);
                let points = numbered.map(|(number, vector)| {
                    PointStruct::new(number as u64, vector.clone(), json!({ FIELD: part_name(part_of(number)) })).into()
                });
                let points = PointInsertOperations::PointsList(points.collect());
                shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(points)))?;
                // It writes a log and does not read it when it is opened: what was not flushed is lost in a crash.
                shard.flush();
            }
            Ok(())
        })?;
        // Without it nothing is ever put into the graph.
        shard.optimize()?;
        shard.flush();
        Ok(Box::new(Shard(shard)))
    }

    fn open(&self, _: &Data, folder: &Path) -> anyhow::Result<Box<dyn Index>> {
        Ok(Box::new(Shard(EdgeShard::load(folder, None)?)))
    }

    fn efforts(&self) -> Vec<usize> {
        vec![64, 256]
    }
}

impl Index for Shard {
    fn nearest(&self, query: &[f32], part: Option<u64>, effort: usize) -> anyhow::Result<Vec<usize>> {
        let filter = match part {
            None => None,
            Some(part) => {
                let value = Match::new_value(ValueVariants::String(part_name(part)));
                Some(Filter::new_must(Condition::Field(FieldCondition::new_match(field()?, value))))
            }
        };
        let nearest = QueryEnum::Nearest(NamedQuery { query: query.to_vec().into(), using: None });
        let found = self.0.query(QueryRequest {
            prefetches: Vec::new(),
            query: Some(ScoringQuery::Vector(nearest)),
            filter,
            score_threshold: None,
            limit: N_NEAREST,
            offset: 0,
            params: Some(SearchParams { hnsw_ef: Some(effort), ..SearchParams::default() }),
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(false),
        })?;
        let number = |id: PointId| match id {
            PointId::NumId(number) => Ok(usize::try_from(number)?),
            PointId::Uuid(id) => anyhow::bail!("{id} was never stored"),
        };
        found.into_iter().map(|one| number(one.id)).collect()
    }

    fn count(&self) -> anyhow::Result<usize> {
        Ok(self.0.count(CountRequest { filter: None, exact: true })?)
    }
}
