//! Qdrant's services over the engine.

use std::sync::Arc;

use qdrant_client::qdrant as wire;
use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::qdrant_server::Qdrant;
use tonic::{Request, Response, Status};

use super::engine::Engine;
use super::unknown;

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone, Debug)]
pub(super) struct Service {
    engine: Arc<dyn Engine>,
}

impl Service {
    pub(super) fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }
}

/// A service: the calls that are answered, and those that are refused.
macro_rules! service {
    (
        impl $service:ident {
            $(fn $name:ident($self:ident, $request:ident: $in:ident) -> $out:ident $body:block)*
        }
        refused {
            $($refused:ident: $refused_in:ident => $refused_out:ident),* $(,)?
        }
    ) => {
        #[tonic::async_trait]
        impl $service for Service {
            $(async fn $name(&$self, $request: Request<wire::$in>) -> Answer<wire::$out> {
                #[allow(unused_variables, reason = "some requests say nothing")]
                let $request = $request.into_inner();
                let answer = || -> Result<wire::$out, Status> { $body };
                // Engines may wait for the disk.
                tokio::task::block_in_place(answer).map(Response::new)
            })*
            $(async fn $refused(&self, _: Request<wire::$refused_in>) -> Answer<wire::$refused_out> {
                Err(unknown(concat!("the call ", stringify!($refused))))
            })*
        }
    };
}

fn done() -> wire::PointsOperationResponse {
    let status = wire::UpdateStatus::Completed as i32;
    let result = Some(wire::UpdateResult { status, ..wire::UpdateResult::default() });
    wire::PointsOperationResponse { result, ..wire::PointsOperationResponse::default() }
}

fn changed(result: bool) -> wire::CollectionOperationResponse {
    wire::CollectionOperationResponse { result, ..wire::CollectionOperationResponse::default() }
}

service! {
    impl Qdrant {
        fn health_check(self, request: HealthCheckRequest) -> HealthCheckReply {
            Ok(wire::HealthCheckReply { title: "mos-testkit".to_owned(), version: self.engine.version(), commit: None })
        }
    }
    refused {}
}

service! {
    impl Collections {
        fn get(self, request: GetCollectionInfoRequest) -> GetCollectionInfoResponse {
            let result = Some(self.engine.info(&request.collection_name)?);
            Ok(wire::GetCollectionInfoResponse { result, ..wire::GetCollectionInfoResponse::default() })
        }
        fn list(self, request: ListCollectionsRequest) -> ListCollectionsResponse {
            let names = self.engine.names().into_iter();
            let collections = names.map(|name| wire::CollectionDescription { name }).collect();
            Ok(wire::ListCollectionsResponse { collections, ..wire::ListCollectionsResponse::default() })
        }
        fn create(self, request: CreateCollection) -> CollectionOperationResponse {
            self.engine.create(request)?;
            Ok(changed(true))
        }
        fn delete(self, request: DeleteCollection) -> CollectionOperationResponse {
            Ok(changed(self.engine.remove(&request.collection_name)?))
        }
        fn collection_exists(self, request: CollectionExistsRequest) -> CollectionExistsResponse {
            let exists = self.engine.names().contains(&request.collection_name);
            let result = Some(wire::CollectionExists { exists });
            Ok(wire::CollectionExistsResponse { result, ..wire::CollectionExistsResponse::default() })
        }
    }
    refused {
        update: UpdateCollection => CollectionOperationResponse,
        update_aliases: ChangeAliases => CollectionOperationResponse,
        list_collection_aliases: ListCollectionAliasesRequest => ListAliasesResponse,
        list_aliases: ListAliasesRequest => ListAliasesResponse,
        collection_cluster_info: CollectionClusterInfoRequest => CollectionClusterInfoResponse,
        update_collection_cluster_setup: UpdateCollectionClusterSetupRequest => UpdateCollectionClusterSetupResponse,
        create_shard_key: CreateShardKeyRequest => CreateShardKeyResponse,
        delete_shard_key: DeleteShardKeyRequest => DeleteShardKeyResponse,
        list_shard_keys: ListShardKeysRequest => ListShardKeysResponse,
    }
}

service! {
    impl Points {
        fn upsert(self, request: UpsertPoints) -> PointsOperationResponse {
            self.engine.upsert(request)?;
            Ok(done())
        }
        fn delete(self, request: DeletePoints) -> PointsOperationResponse {
            self.engine.delete(request)?;
            Ok(done())
        }
        fn get(self, request: GetPoints) -> GetResponse {
            Ok(wire::GetResponse { result: self.engine.get(&request)?, ..wire::GetResponse::default() })
        }
        fn create_field_index(self, request: CreateFieldIndexCollection) -> PointsOperationResponse {
            self.engine.create_index(request)?;
            Ok(done())
        }
        fn scroll(self, request: ScrollPoints) -> ScrollResponse {
            let (result, next_page_offset) = self.engine.scroll(&request)?;
            Ok(wire::ScrollResponse { result, next_page_offset, ..wire::ScrollResponse::default() })
        }
        fn count(self, request: CountPoints) -> CountResponse {
            let result = Some(wire::CountResult { count: self.engine.count(&request)? });
            Ok(wire::CountResponse { result, ..wire::CountResponse::default() })
        }
        fn query(self, request: QueryPoints) -> QueryResponse {
            Ok(wire::QueryResponse { result: self.engine.query(&request)?, ..wire::QueryResponse::default() })
        }
    }
    refused {
        update_vectors: UpdatePointVectors => PointsOperationResponse,
        delete_vectors: DeletePointVectors => PointsOperationResponse,
        set_payload: SetPayloadPoints => PointsOperationResponse,
        overwrite_payload: SetPayloadPoints => PointsOperationResponse,
        delete_payload: DeletePayloadPoints => PointsOperationResponse,
        clear_payload: ClearPayloadPoints => PointsOperationResponse,
        delete_field_index: DeleteFieldIndexCollection => PointsOperationResponse,
        create_vector_name: CreateVectorNameRequest => PointsOperationResponse,
        delete_vector_name: DeleteVectorNameRequest => PointsOperationResponse,
        search: SearchPoints => SearchResponse,
        search_batch: SearchBatchPoints => SearchBatchResponse,
        search_groups: SearchPointGroups => SearchGroupsResponse,
        recommend: RecommendPoints => RecommendResponse,
        recommend_batch: RecommendBatchPoints => RecommendBatchResponse,
        recommend_groups: RecommendPointGroups => RecommendGroupsResponse,
        discover: DiscoverPoints => DiscoverResponse,
        discover_batch: DiscoverBatchPoints => DiscoverBatchResponse,
        update_batch: UpdateBatchPoints => UpdateBatchResponse,
        query_batch: QueryBatchPoints => QueryBatchResponse,
        query_groups: QueryPointGroups => QueryGroupsResponse,
        facet: FacetCounts => FacetResponse,
        search_matrix_pairs: SearchMatrixPoints => SearchMatrixPairsResponse,
        search_matrix_offsets: SearchMatrixPoints => SearchMatrixOffsetsResponse,
    }
}
