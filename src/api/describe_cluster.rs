//! DescribeCluster (60), v0–1: the cluster's id, controller and brokers (KIP-700).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId as WireBroker, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::metadata::CLUSTER_OPERATIONS;
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;

/// The endpoints asked for are those of brokers (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;
/// Stands for "not asked for".
const NO_OPERATIONS: i32 = i32::MIN;

/// Answers from the metadata cache, with the brokers that have the client's listener.
pub async fn handle(ctx: &Context, call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_cluster_authorized_operations(NO_OPERATIONS);
    if call.version() >= 1 && request.endpoint_type != BROKERS {
        return wrong_endpoint_type(response, request.endpoint_type);
    }
    let snapshot = ctx.replica_manager.metadata().snapshot();
    let listener = &call.connection.listener;
    let reachable = snapshot.brokers().filter_map(|broker| Some((broker, broker.endpoint(listener)?)));
    let brokers = reachable.map(|(broker, endpoint)| {
        DescribeClusterBroker::default()
            .with_broker_id(WireBroker(broker.id.get()))
            .with_host(endpoint.host.clone())
            .with_port(endpoint.port)
            .with_rack(broker.rack.clone())
    });
    let operations = if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { NO_OPERATIONS };
    response
        .with_cluster_id(StrBytes::from_string(ctx.cluster_id.clone()))
        .with_controller_id(WireBroker(snapshot.controller().unwrap_or(BrokerId::NONE).get()))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}

fn wrong_endpoint_type(response: DescribeClusterResponse, wanted: i8) -> DescribeClusterResponse {
    let (error, message) = match wanted {
        CONTROLLERS => (
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_owned(),
        ),
        other => (ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
    };
    response.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message)))
}
