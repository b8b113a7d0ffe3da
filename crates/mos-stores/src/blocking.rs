//! Work that would keep an asynchronous thread for long.

use mos_core::StoreError;

/// Runs what computes for long off the asynchronous threads; a panic there goes on here.
///
/// # Errors
/// [`StoreError::Unavailable`] of the backend, when the runtime ends.
pub(crate) async fn blocking<T: Send + 'static>(
    backend: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StoreError::Unavailable { backend, source: error.into() }),
    }
}
