//! What is behind the services.

use std::fmt;

use qdrant_client::qdrant::{
    CollectionInfo, CountPoints, CreateCollection, CreateFieldIndexCollection, DeletePoints, GetPoints, PointId,
    QueryPoints, RetrievedPoint, ScoredPoint, ScrollPoints, UpsertPoints,
};
use tonic::Status;

/// Some points of a listing, and the point with which it goes on, if it does.
pub type Listed = (Vec<RetrievedPoint>, Option<PointId>);

/// Collections of points, as Qdrant's protocol speaks of them. Calls may block; they come from many threads at once.
///
/// # Errors
/// All methods answer as Qdrant does: not found for a collection that is not there, invalid argument for what makes no
/// sense, unimplemented for what the engine does not know.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// The version that the server tells, with which engine it is over: `1.20.0-name`.
    fn version(&self) -> String;

    /// The names of all collections, sorted.
    fn names(&self) -> Vec<String>;

    /// Makes a collection; one of that name may not be there yet.
    fn create(&self, request: CreateCollection) -> Result<(), Status>;

    /// Removes a collection with all its points, and returns whether it was there.
    fn remove(&self, name: &str) -> Result<bool, Status>;

    /// Returns a collection's vector settings, the fields that are indexed, and how many points there are.
    fn info(&self, name: &str) -> Result<CollectionInfo, Status>;

    /// Indexes a field of the payload.
    fn create_index(&self, request: CreateFieldIndexCollection) -> Result<(), Status>;

    /// Writes points in place of those with the same ids: all of them, or none when one cannot be written.
    fn upsert(&self, request: UpsertPoints) -> Result<(), Status>;

    /// Removes points by their ids or by what they meet.
    fn delete(&self, request: DeletePoints) -> Result<(), Status>;

    /// Returns those of the points that are there.
    fn get(&self, request: &GetPoints) -> Result<Vec<RetrievedPoint>, Status>;

    /// Lists points by id, page by page.
    fn scroll(&self, request: &ScrollPoints) -> Result<Listed, Status>;

    /// Counts points that meet a condition.
    fn count(&self, request: &CountPoints) -> Result<u64, Status>;

    /// Returns the points nearest to a vector, best first.
    fn query(&self, request: &QueryPoints) -> Result<Vec<ScoredPoint>, Status>;
}
