//! Work that takes longer than a runtime may wait for: curve arithmetic and
//! files, on the runtime's blocking threads.

use super::ClientError;

/// Runs `work` beside the runtime. It is done to its end even if nobody waits
/// for it any more.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ClientError::Computation)?
}
