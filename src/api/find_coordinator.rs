//! FindCoordinator (10), v0–6: which broker coordinates a group or a transaction; several keys at once from v4 on
//! (KIP-699). Makes the internal topic if it does not exist; until it has a leader the answer is COORDINATOR_NOT_AVAILABLE.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId as WireBroker, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::group_names::text;
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::topic_names::{GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC};
use crate::replica::metadata_cache::Endpoint;

/// What a key names.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

const FIRST_WITH_MESSAGE: i16 = 1;
const FIRST_WITH_KEYS: i16 = 4;

/// What is said where there is no coordinator (`Node.noNode`).
const NO_NODE: (i32, &str, i32) = (-1, "", -1);

/// Finds the coordinator of each key.
pub async fn handle(ctx: &Context, call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let listener = &call.connection.listener;
    if call.version() < FIRST_WITH_KEYS {
        let found = find(ctx, listener, request.key_type, &request.key).await;
        return answer_one(call.version(), found);
    }
    let mut response = FindCoordinatorResponse::default();
    for key in request.coordinator_keys {
        let found = find(ctx, listener, request.key_type, &key).await;
        response.coordinators.push(answer_key(key, found));
    }
    response
}

type Found = Result<(i32, Endpoint), ErrorCode>;

async fn find(ctx: &Context, listener: &str, key_type: i8, key: &str) -> Found {
    let (topic, partition) = match key_type {
        GROUP => (GROUP_METADATA_TOPIC, ctx.groups.partition_for(key)),
        TRANSACTION => (TRANSACTION_STATE_TOPIC, ctx.transactions.partition_for(key)),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    let snapshot = ctx.replica_manager.metadata().snapshot();
    if snapshot.topic(topic).is_none() {
        ctx.auto_create(topic).await;
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    let leader = snapshot.partition(topic, partition).map(|partition| partition.leader);
    let found = leader.and_then(|leader| Some((leader.get(), snapshot.endpoint(leader, listener)?.clone())));
    found.ok_or(ErrorCode::CoordinatorNotAvailable)
}

fn node(found: &Found) -> (i32, StrBytes, i32) {
    match found {
        Ok((id, endpoint)) => (*id, endpoint.host.clone(), endpoint.port),
        Err(_) => (NO_NODE.0, StrBytes::from_static_str(NO_NODE.1), NO_NODE.2),
    }
}

fn code(found: &Found) -> ErrorCode {
    found.as_ref().err().copied().unwrap_or(ErrorCode::None)
}

fn answer_one(version: i16, found: Found) -> FindCoordinatorResponse {
    let (id, host, port) = node(&found);
    let error = code(&found);
    let mut response = FindCoordinatorResponse::default()
        .with_error_code(error.code())
        .with_node_id(WireBroker(id))
        .with_host(host)
        .with_port(port);
    if version >= FIRST_WITH_MESSAGE {
        // The original writes the name of the code where there is no error.
        response.error_message = Some(if error.is_none() { text("NONE") } else { text(error.message()) });
    }
    response
}

fn answer_key(key: StrBytes, found: Found) -> Coordinator {
    let (id, host, port) = node(&found);
    Coordinator::default()
        .with_key(key)
        .with_error_code(code(&found).code())
        .with_node_id(WireBroker(id))
        .with_host(host)
        .with_port(port)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable;

    use super::*;

    fn somewhere() -> Found {
        let endpoint = Endpoint { listener: text("PLAINTEXT"), host: text("h"), port: 9092, security_protocol: 0 };
        Ok((1, endpoint))
    }

    #[test]
    fn answers_fit_every_version() {
        for version in 0..=6 {
            for found in [somewhere(), Err(ErrorCode::CoordinatorNotAvailable)] {
                let response = if version < FIRST_WITH_KEYS {
                    answer_one(version, found)
                } else {
                    FindCoordinatorResponse::default().with_coordinators(vec![answer_key(text("k"), found)])
                };
                response.encode(&mut bytes::BytesMut::new(), version).expect("it can be encoded");
            }
        }
    }

    #[test]
    fn no_coordinator_is_no_node() {
        let response = answer_one(1, Err(ErrorCode::CoordinatorNotAvailable));
        assert_eq!((response.node_id.0, &*response.host, response.port), (-1, "", -1));
        assert_eq!(response.error_code, 15);
        let response = answer_one(1, somewhere());
        assert_eq!((response.node_id.0, &*response.host, response.port), (1, "h", 9092));
        assert_eq!(response.error_message.as_deref(), Some("NONE"));
    }
}
