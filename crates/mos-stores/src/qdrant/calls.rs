//! What is asked of a collection.

use mos_core::Scope;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::query::Variant;
use qdrant_client::qdrant::vector_output::Vector as OneVector;
use qdrant_client::qdrant::vectors_output::VectorsOptions;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions as PayloadOptions;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions as VectorOptions;
use qdrant_client::qdrant::{
    CountPoints, DeletePoints, DenseVector, Filter as Wall, GetPoints, PayloadIncludeSelector, PointId, PointStruct,
    PointsSelector, Query, QueryPoints, RetrievedPoint, ScoredPoint, ScrollPoints, SearchParams, UpsertPoints,
    VectorInput, VectorsOutput, WithPayloadSelector, WithVectorsSelector, vector_input,
};

use super::connection::{Connection, Points};
use super::fault::Fault;
use super::point::{Cursor, cursor_point, point_id};

/// Points and bytes, about, that are sent at a time.
const MAX_POINTS: usize = 256;
const MAX_BYTES: usize = 8 << 20;
/// Points that are read at a time.
const PAGE: u32 = 1000;

/// One collection on the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls<'a> {
    pub(super) connection: &'a Connection,
    pub(super) collection: &'a str,
}

/// Some points of a listing, and where it goes on.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) points: Vec<RetrievedPoint>,
    pub(super) next: Option<PointId>,
}

impl Calls<'_> {
    /// Returns how far the collection has followed a cube; `None` when it never has.
    pub(super) async fn cursor(&self, scope: &Scope) -> Result<Option<Cursor>, Fault> {
        let found = self.get(vec![point_id(cursor_point(scope))], false).await?;
        Ok(found.first().map(|point| Cursor::of(&point.payload)).transpose()?)
    }

    /// Returns those of the points that are there, with their payload, in no order.
    pub(super) async fn get(&self, ids: Vec<PointId>, with_vectors: bool) -> Result<Vec<RetrievedPoint>, Fault> {
        let request = GetPoints {
            collection_name: self.collection.to_owned(),
            ids,
            with_payload: payload(PayloadOptions::Enable(true)),
            with_vectors: vectors(with_vectors),
            ..GetPoints::default()
        };
        let call = |mut client: Points| {
            let request = request.clone();
            async move { client.get(request).await }
        };
        Ok(self.connection.points(call).await?.result)
    }

    /// Writes points; returns when searches see them.
    pub(super) async fn put(&self, points: Vec<PointStruct>) -> Result<(), Fault> {
        let mut rest = points.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut chunk, mut n_bytes) = (Vec::new(), 0);
            while chunk.len() < MAX_POINTS && n_bytes < MAX_BYTES {
                let Some(point) = rest.next() else { break };
                n_bytes += prost::Message::encoded_len(&point);
                chunk.push(point);
            }
            let request = UpsertPoints {
                collection_name: self.collection.to_owned(),
                wait: Some(true),
                points: chunk,
                ..UpsertPoints::default()
            };
            let call = |mut client: Points| {
                let request = request.clone();
                async move { client.upsert(request).await }
            };
            self.connection.points(call).await?;
        }
        Ok(())
    }

    /// Removes what meets a condition; returns when searches do not see it any more.
    pub(super) async fn delete(&self, wall: Wall) -> Result<(), Fault> {
        let points = Some(PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(wall)) });
        let request = DeletePoints {
            collection_name: self.collection.to_owned(),
            wait: Some(true),
            points,
            ..DeletePoints::default()
        };
        let call = |mut client: Points| {
            let request = request.clone();
            async move { client.delete(request).await }
        };
        self.connection.points(call).await.map(drop)
    }

    /// Returns at most `limit` points nearest to a vector that meet a condition, best first, with the named parts of
    /// their payload. `is_exact`: compares all that meet it, whatever that takes.
    pub(super) async fn nearest(
        &self,
        vector: &[f32],
        wall: &Wall,
        limit: usize,
        is_exact: bool,
        fields: &[&str],
    ) -> Result<Vec<ScoredPoint>, Fault> {
        let nearest =
            VectorInput { variant: Some(vector_input::Variant::Dense(DenseVector { data: vector.to_vec() })) };
        let request = QueryPoints {
            collection_name: self.collection.to_owned(),
            query: Some(Query { variant: Some(Variant::Nearest(nearest)) }),
            filter: Some(wall.clone()),
            params: Some(SearchParams { exact: Some(is_exact), ..SearchParams::default() }),
            limit: Some(limit as u64),
            with_payload: payload(included(fields)),
            ..QueryPoints::default()
        };
        let call = |mut client: Points| {
            let request = request.clone();
            async move { client.query(request).await }
        };
        Ok(self.connection.points(call).await?.result)
    }

    /// Returns how many points meet a condition.
    pub(super) async fn count(&self, wall: Wall) -> Result<usize, Fault> {
        let request = CountPoints {
            collection_name: self.collection.to_owned(),
            filter: Some(wall),
            exact: Some(true),
            ..CountPoints::default()
        };
        let call = |mut client: Points| {
            let request = request.clone();
            async move { client.count(request).await }
        };
        let count = self.connection.points(call).await?.result.map_or(0, |result| result.count);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Returns some of the points that meet a condition, from one on, with the named parts of their payload.
    pub(super) async fn page(&self, wall: Wall, from: Option<PointId>, fields: &[&str]) -> Result<Page, Fault> {
        let request = ScrollPoints {
            collection_name: self.collection.to_owned(),
            filter: Some(wall),
            offset: from,
            limit: Some(PAGE),
            with_payload: payload(included(fields)),
            ..ScrollPoints::default()
        };
        let call = |mut client: Points| {
            let request = request.clone();
            async move { client.scroll(request).await }
        };
        let response = self.connection.points(call).await?;
        Ok(Page { points: response.result, next: response.next_page_offset })
    }

    /// Returns all points that meet a condition, with the named parts of their payload.
    pub(super) async fn all(&self, wall: &Wall, fields: &[&str]) -> Result<Vec<RetrievedPoint>, Fault> {
        let (mut points, mut from) = (Vec::new(), None);
        loop {
            let page = self.page(wall.clone(), from, fields).await?;
            points.extend(page.points);
            from = page.next;
            if from.is_none() {
                return Ok(points);
            }
        }
    }
}

fn included(fields: &[&str]) -> PayloadOptions {
    PayloadOptions::Include(PayloadIncludeSelector { fields: fields.iter().map(|field| (*field).to_owned()).collect() })
}

fn payload(options: PayloadOptions) -> Option<WithPayloadSelector> {
    Some(WithPayloadSelector { selector_options: Some(options) })
}

fn vectors(with_vectors: bool) -> Option<WithVectorsSelector> {
    Some(WithVectorsSelector { selector_options: Some(VectorOptions::Enable(with_vectors)) })
}

/// Returns the vector of a point that was asked for with it.
pub(super) fn vector_of(point: &RetrievedPoint) -> Vec<f32> {
    let options = match &point.vectors {
        Some(VectorsOutput { vectors_options: Some(options) }) => options,
        _ => return Vec::new(),
    };
    match options {
        VectorsOptions::Vector(output) => match &output.vector {
            Some(OneVector::Dense(dense)) => dense.data.clone(),
            Some(_) => Vec::new(),
            // How older servers send it.
            #[allow(deprecated, reason = "older servers know nothing else")]
            None => output.data.clone(),
        },
        VectorsOptions::Vectors(_) => Vec::new(),
    }
}
