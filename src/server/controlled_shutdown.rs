//! Before a broker stops it asks the controller to move its leaderships, and serves on until that is done
//! (`KafkaServer.controlledShutdown`). Whatever comes of it, the broker stops.

use std::time::Duration;

use kafka_protocol::messages::{BrokerId as WireBroker, ControlledShutdownRequest};
use tracing::{info, warn};

use super::controller_channel::ControllerChannel;
use super::settings::millis;
use crate::api::Context;
use crate::base::error::ErrorCode;

/// The version with a broker epoch that is not tagged with more (2.4 and later).
const VERSION: i16 = 3;
/// How long one try may take at most, whatever controller.socket.timeout.ms says: a cluster without a controller must not
/// keep a broker from stopping.
const LONGEST_TRY: Duration = Duration::from_secs(5);

/// Hands the leaderships of the broker of `ctx` on.
pub async fn run(ctx: &Context) {
    let config = &ctx.config;
    if !config.controlled_shutdown_enable {
        return;
    }
    let manager = &ctx.replica_manager;
    let channel = ControllerChannel::new(config, manager.clone(), ctx.controller.clone());
    let patience = millis(i64::from(config.controller_socket_timeout_ms)).min(LONGEST_TRY);
    for left in (0..config.controlled_shutdown_max_retries).rev() {
        let request = |_version| {
            ControlledShutdownRequest::default()
                .with_broker_id(WireBroker(ctx.broker_id.get()))
                .with_broker_epoch(manager.broker_epoch().get())
        };
        match channel.send(VERSION, patience, request).await {
            Ok((answer, _)) if answer.error_code == 0 && answer.remaining_partitions.is_empty() => {
                info!("all leaderships are handed on");
                return;
            }
            Ok((answer, _)) if answer.error_code == 0 => {
                warn!("{} partitions have nobody else to lead them", answer.remaining_partitions.len());
            }
            Ok((answer, _)) => warn!("leaderships are not handed on: {}", ErrorCode::from_code(answer.error_code)),
            Err(error) => warn!("leaderships are not handed on: {error}"),
        }
        if left > 0 {
            tokio::time::sleep(millis(config.controlled_shutdown_retry_backoff_ms)).await;
        }
    }
    warn!("stopping while others may still count on this broker");
}
