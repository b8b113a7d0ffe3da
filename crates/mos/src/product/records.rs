//! Removing all memories of a cube in a way that can be taken back.

use mos_core::CubeId;

use super::app::Product;
use super::caller::Scope;
use super::delete::Deletion;
use super::error::ProductResult;
use super::reply::Reply;

/// What clients compare.
const DONE: &str = "Called Successfully";

request! {
    /// Marks the memories of a cube as deleted, or removes for good what was marked.
    pub struct DeleteMemoryByRecordIdRequest as DeleteMemoryByRecordIdRequest {
        /// The cube.
        required mem_cube_id: String;
        /// The name of the deletion.
        required record_id: String;
        /// Removes for good what the deletion of this name has marked.
        #[schema(required = false, default = false)]
        default hard_delete: bool = false;
    }
}

request! {
    /// Takes a deletion back.
    pub struct RecoverMemoryByRecordIdRequest as RecoverMemoryByRecordIdRequest {
        /// The cube.
        required mem_cube_id: String;
        /// The name of the deletion.
        required delete_record_id: String;
    }
}

impl Product {
    /// Marks every memory of a cube as deleted under the name of a deletion; with `hard_delete`, removes for good what was
    /// marked under this name. A cube that does not exist has nothing to delete.
    ///
    /// # Errors
    /// Status 400 for an empty or overlong name, 403 without the right to write, 409 when others keep changing the cube.
    pub async fn delete_memory_by_record_id(
        &self,
        request: DeleteMemoryByRecordIdRequest,
    ) -> ProductResult<Reply<Deletion>> {
        let cube = CubeId::parse(request.mem_cube_id.as_str())?;
        if let Some(reached) = self.existing(Scope::Write, None, &cube).await? {
            let (user, record) = (&reached.user, request.record_id.as_str());
            let n_deleted = if request.hard_delete {
                self.mos().erase_deleted(user, Some(&cube), record).await?
            } else {
                self.mos().soft_delete_all(user, Some(&cube), record).await?
            };
            tracing::info!(%cube, n_deleted, for_good = request.hard_delete, "memories were deleted under a name");
        }
        Ok(Reply::new(DONE, Deletion::success()))
    }

    /// Takes back the deletion of a name: the memories have the status that they had before.
    ///
    /// # Errors
    /// Status 400 for an empty or overlong name, 403 without the right to write, 409 when others keep changing the cube.
    pub async fn recover_memory_by_record_id(
        &self,
        request: RecoverMemoryByRecordIdRequest,
    ) -> ProductResult<Reply<Deletion>> {
        let cube = CubeId::parse(request.mem_cube_id.as_str())?;
        if let Some(reached) = self.existing(Scope::Write, None, &cube).await? {
            let record = request.delete_record_id.as_str();
            let n_recovered = self.mos().recover_deleted(&reached.user, Some(&cube), record).await?;
            tracing::info!(%cube, n_recovered, "a deletion was taken back");
        }
        Ok(Reply::new(DONE, Deletion::success()))
    }
}
