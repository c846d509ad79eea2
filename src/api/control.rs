//! The controller's requests over the wire: LeaderAndIsr (4), StopReplica (5), UpdateMetadata (6). They run on the control
//! runtime, where making and deleting logs holds up nobody's connection.

use std::future::Future;

use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse, UpdateMetadataRequest,
    UpdateMetadataResponse,
};

use super::{Call, Context};
use crate::base::error::ErrorCode;

/// Becomes leader or follower.
pub async fn leader_and_isr(ctx: &Context, call: &Call, request: LeaderAndIsrRequest) -> LeaderAndIsrResponse {
    let (manager, version) = (ctx.replica_manager.clone(), call.version());
    let done = on_control(ctx, async move { manager.become_leader_or_follower(&request, version).await }).await;
    done.unwrap_or_else(|error| LeaderAndIsrResponse::default().with_error_code(error.code()))
}

/// Stops replicas.
pub async fn stop_replica(ctx: &Context, call: &Call, request: StopReplicaRequest) -> StopReplicaResponse {
    let (manager, version) = (ctx.replica_manager.clone(), call.version());
    let done = on_control(ctx, async move { manager.stop_replica(&request, version).await }).await;
    done.unwrap_or_else(|error| StopReplicaResponse::default().with_error_code(error.code()))
}

/// Learns of the cluster.
pub async fn update_metadata(ctx: &Context, _call: &Call, request: UpdateMetadataRequest) -> UpdateMetadataResponse {
    let manager = ctx.replica_manager.clone();
    let done = on_control(ctx, async move { manager.update_metadata(&request).await }).await;
    done.unwrap_or_else(|error| UpdateMetadataResponse::default().with_error_code(error.code()))
}

/// Runs `work` on the control runtime; a panic there is the broker's fault, not the controller's.
async fn on_control<R: Send + 'static>(
    ctx: &Context,
    work: impl Future<Output = R> + Send + 'static,
) -> Result<R, ErrorCode> {
    ctx.control.spawn(work).await.map_err(|_| ErrorCode::UnknownServerError)
}
