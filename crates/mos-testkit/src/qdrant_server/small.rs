//! Collections and points in memory; every search compares every vector.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::vector::Vector as OneVector;
use qdrant_client::qdrant::vector_input;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions as PayloadOptions;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions as VectorOptions;
use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, CollectionParams, CountPoints, CreateCollection, CreateFieldIndexCollection,
    DeletePoints, Distance, Filter, GetPoints, PayloadSchemaInfo, PointId, PointStruct, QueryPoints, RetrievedPoint,
    ScoredPoint, ScrollPoints, UpsertPoints, VectorParams, VectorsOutput, WithPayloadSelector, WithVectorsSelector,
    query, vector_output, vectors_output,
};
use tonic::Status;

use super::conditions::{Payload, meets, point_name};
use super::engine::{Engine, Listed};
use super::unknown;

/// All collections.
#[derive(Debug, Default)]
pub(super) struct SmallEngine {
    collections: Mutex<BTreeMap<String, Collection>>,
    /// What it says to be instead of what it is.
    pub(super) version: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Collection {
    created: CreateCollection,
    vectors: VectorParams,
    indexes: HashMap<String, PayloadSchemaInfo>,
    /// By UUID, in whose order points are listed.
    points: BTreeMap<String, Point>,
}

#[derive(Debug)]
struct Point {
    /// Unit length.
    vector: Vec<f32>,
    payload: Payload,
}

type Result<T> = std::result::Result<T, Status>;

impl SmallEngine {
    fn collections(&self) -> MutexGuard<'_, BTreeMap<String, Collection>> {
        self.collections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within<T>(&self, name: &str, work: impl FnOnce(&mut Collection) -> Result<T>) -> Result<T> {
        match self.collections().get_mut(name) {
            Some(collection) => work(collection),
            None => Err(Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"))),
        }
    }
}

impl Engine for SmallEngine {
    fn version(&self) -> String {
        let told = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone().unwrap_or_else(|| "1.20.0-mos-testkit".to_owned())
    }

    fn names(&self) -> Vec<String> {
        self.collections().keys().cloned().collect()
    }

    fn create(&self, request: CreateCollection) -> Result<()> {
        let config = request.vectors_config.as_ref().and_then(|vectors| vectors.config.clone());
        let Some(Config::Params(vectors)) = config else {
            return Err(unknown("collections without one unnamed vector"));
        };
        let mut collections = self.collections();
        let name = request.collection_name.clone();
        if collections.contains_key(&name) {
            return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
        }
        let collection = Collection { created: request, vectors, indexes: HashMap::new(), points: BTreeMap::new() };
        collections.insert(name, collection);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.collections().remove(name).is_some())
    }

    fn info(&self, name: &str) -> Result<CollectionInfo> {
        self.within(name, |collection| {
            let params = CollectionParams {
                vectors_config: collection.created.vectors_config.clone(),
                ..CollectionParams::default()
            };
            Ok(CollectionInfo {
                config: Some(CollectionConfig { params: Some(params), ..CollectionConfig::default() }),
                payload_schema: collection.indexes.clone(),
                points_count: Some(collection.points.len() as u64),
                ..CollectionInfo::default()
            })
        })
    }

    fn create_index(&self, request: CreateFieldIndexCollection) -> Result<()> {
        self.within(&request.collection_name, |collection| {
            let schema = PayloadSchemaInfo {
                data_type: request.field_type.unwrap_or_default(),
                params: request.field_index_params,
                ..PayloadSchemaInfo::default()
            };
            collection.indexes.insert(request.field_name, schema);
            Ok(())
        })
    }

    fn upsert(&self, request: UpsertPoints) -> Result<()> {
        self.within(&request.collection_name, |collection| {
            let points = request.points.into_iter().map(|point| collection.checked(point));
            // All or nothing.
            let points = points.collect::<Result<Vec<_>>>()?;
            collection.points.extend(points);
            Ok(())
        })
    }

    fn delete(&self, request: DeletePoints) -> Result<()> {
        let selector = request.points.and_then(|points| points.points_selector_one_of);
        self.within(&request.collection_name, |collection| match selector {
            Some(PointsSelectorOneOf::Points(ids)) => {
                for id in &ids.ids {
                    collection.points.remove(known_name(id)?);
                }
                Ok(())
            }
            Some(PointsSelectorOneOf::Filter(filter)) => {
                let gone: Vec<String> = collection.meeting(Some(&filter))?.map(|(name, _)| name.clone()).collect();
                for name in gone {
                    collection.points.remove(&name);
                }
                Ok(())
            }
            None => Err(Status::invalid_argument("no points are selected")),
        })
    }

    fn get(&self, request: &GetPoints) -> Result<Vec<RetrievedPoint>> {
        self.within(&request.collection_name, |collection| {
            let mut found = Vec::new();
            for id in &request.ids {
                let name = known_name(id)?;
                if let Some(point) = collection.points.get(name) {
                    found.push(retrieved(name, point, request.with_payload.as_ref(), request.with_vectors.as_ref())?);
                }
            }
            Ok(found)
        })
    }

    fn scroll(&self, request: &ScrollPoints) -> Result<Listed> {
        let limit = request.limit.unwrap_or(10) as usize;
        let from = request.offset.as_ref().map(known_name).transpose()?;
        self.within(&request.collection_name, |collection| {
            let meeting = collection.meeting(request.filter.as_ref())?;
            let mut rest = meeting.skip_while(|(name, _)| from.is_some_and(|from| name.as_str() < from));
            let mut found = Vec::new();
            for (name, point) in rest.by_ref().take(limit) {
                found.push(retrieved(name, point, request.with_payload.as_ref(), request.with_vectors.as_ref())?);
            }
            let next = rest.next().map(|(name, _)| PointId::from(name.clone()));
            Ok((found, next))
        })
    }

    fn count(&self, request: &CountPoints) -> Result<u64> {
        self.within(&request.collection_name, |collection| {
            Ok(collection.meeting(request.filter.as_ref())?.count() as u64)
        })
    }

    fn query(&self, request: &QueryPoints) -> Result<Vec<ScoredPoint>> {
        let nearest = request.query.as_ref().and_then(|query| query.variant.as_ref());
        let Some(query::Variant::Nearest(input)) = nearest else { return Err(unknown("this query")) };
        let Some(vector_input::Variant::Dense(vector)) = &input.variant else { return Err(unknown("this vector")) };
        let limit = usize::try_from(request.limit.unwrap_or(10)).unwrap_or(usize::MAX);
        self.within(&request.collection_name, |collection| {
            let query = collection.unit(&vector.data)?;
            let meeting = collection.meeting(request.filter.as_ref())?;
            let score = |point: &Point| query.iter().zip(&point.vector).map(|(left, right)| left * right).sum::<f32>();
            let mut scored: Vec<(f32, &String, &Point)> =
                meeting.map(|(name, point)| (score(point), name, point)).collect();
            // Among equals the order is that of the UUIDs, which looks like none to whoever asks.
            scored.sort_by(|left, right| right.0.partial_cmp(&left.0).unwrap_or(Ordering::Equal));
            let best = scored.into_iter().take(limit).map(|(score, name, point)| {
                let found = retrieved(name, point, request.with_payload.as_ref(), request.with_vectors.as_ref())?;
                Ok(ScoredPoint {
                    id: found.id,
                    payload: found.payload,
                    vectors: found.vectors,
                    score,
                    ..ScoredPoint::default()
                })
            });
            best.collect()
        })
    }
}

impl Collection {
    fn meeting<'a>(&'a self, filter: Option<&'a Filter>) -> Result<impl Iterator<Item = (&'a String, &'a Point)>> {
        let mut meeting = Vec::new();
        for (name, point) in &self.points {
            if filter.map_or(Ok(true), |filter| meets(filter, name, &point.payload))? {
                meeting.push((name, point));
            }
        }
        Ok(meeting.into_iter())
    }

    fn checked(&self, point: PointStruct) -> Result<(String, Point)> {
        let name = known_name(point.id.as_ref().ok_or_else(|| Status::invalid_argument("a point has no id"))?)?;
        let dense = match point.vectors.as_ref().and_then(|vectors| vectors.vectors_options.as_ref()) {
            Some(VectorsOptions::Vector(vector)) => match &vector.vector {
                Some(OneVector::Dense(dense)) => dense.data.as_slice(),
                #[allow(deprecated, reason = "how older clients send it")]
                None => vector.data.as_slice(),
                Some(_) => return Err(unknown("this kind of vector")),
            },
            _ => return Err(unknown("points without one unnamed vector")),
        };
        Ok((name.to_owned(), Point { vector: self.unit(dense)?, payload: point.payload.clone() }))
    }

    /// Cosine compares directions: vectors are brought to unit length.
    fn unit(&self, vector: &[f32]) -> Result<Vec<f32>> {
        if vector.len() as u64 != self.vectors.size {
            return Err(Status::invalid_argument(format!(
                "Wrong input: Vector dimension error: expected dim: {}, got {}",
                self.vectors.size,
                vector.len()
            )));
        }
        if self.vectors.distance != Distance::Cosine as i32 {
            return Err(unknown("distances other than cosine"));
        }
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 1.0 };
        Ok(vector.iter().map(|number| number * scale).collect())
    }
}

fn known_name(id: &PointId) -> Result<&str> {
    point_name(id).ok_or_else(|| unknown("numbers as ids of points"))
}

fn retrieved(
    name: &str,
    point: &Point,
    with_payload: Option<&WithPayloadSelector>,
    with_vectors: Option<&WithVectorsSelector>,
) -> Result<RetrievedPoint> {
    let payload = match with_payload.and_then(|with| with.selector_options.as_ref()) {
        Some(PayloadOptions::Enable(true)) => point.payload.clone(),
        Some(PayloadOptions::Enable(false)) | None => HashMap::new(),
        Some(PayloadOptions::Include(include)) => {
            let named = point.payload.iter().filter(|(field, _)| include.fields.contains(field));
            named.map(|(field, value)| (field.clone(), value.clone())).collect()
        }
        Some(PayloadOptions::Exclude(_)) => return Err(unknown("payloads without some fields")),
    };
    let vectors = match with_vectors.and_then(|with| with.selector_options.as_ref()) {
        Some(VectorOptions::Enable(true)) => Some(output(&point.vector)),
        Some(VectorOptions::Enable(false)) | None => None,
        Some(_) => return Err(unknown("some vectors of a point")),
    };
    Ok(RetrievedPoint { id: Some(PointId::from(name.to_owned())), payload, vectors, ..RetrievedPoint::default() })
}

fn output(vector: &[f32]) -> VectorsOutput {
    let dense = qdrant_client::qdrant::DenseVector { data: vector.to_vec() };
    let output = qdrant_client::qdrant::VectorOutput {
        vector: Some(vector_output::Vector::Dense(dense)),
        ..qdrant_client::qdrant::VectorOutput::default()
    };
    VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vector(output)) }
}
