//! Produce (0), v0–11: records go from the frame to the log as slices of the frame. With acks=0 there is no answer, and an
//! error closes the connection, as nothing else could tell the producer.

use std::time::Duration;

use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId as WireBroker, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::txn_verification::{Verdicts, verify_produce};
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::log::verification::Verification;
use crate::network::Outcome;
use crate::protocol::validate;
use crate::replica::manager::{AppendResult, Pending, ReplicaManager};

/// The admin client's id: it may write to internal topics (`AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT_ID: &str = "__admin_client";
const FIRST_WITH_LOG_APPEND_TIME: i16 = 2;
const FIRST_WITH_LOG_START: i16 = 5;
const FIRST_WITH_MESSAGES: i16 = 8;
/// From this version on the answer names the new leader (KIP-951).
const FIRST_WITH_LEADER: i16 = 10;

/// Appends, waits for the replicas if acks=all asks for it, answers.
pub async fn handle(ctx: &Context, mut call: Call) -> Outcome {
    let request: ProduceRequest = match call.decode() {
        Ok(request) => request,
        Err(outcome) => return outcome,
    };
    let (acks, timeout) = (request.acks, request.timeout_ms);
    let mut produce = Produce { ctx, version: call.version(), acks, pending: Vec::new(), failed: false };
    let is_admin = call.client_id() == ADMIN_CLIENT_ID;
    let verdicts = verify_produce(ctx, call.version(), &request).await;
    let mut response = produce.append_all(request, verdicts, is_admin);
    if !produce.pending.is_empty() {
        produce.wait(&mut response, timeout).await;
    }
    if acks == 0 {
        return if produce.failed { Outcome::Close(first_error(&response)) } else { Outcome::NoReply };
    }
    produce.name_leaders(&call.connection.listener, &mut response);
    call.reply(&response)
}

/// Where in the response a partition's answer stands.
type Place = (usize, usize);

/// One request on its way.
struct Produce<'a> {
    ctx: &'a Context,
    version: i16,
    acks: i16,
    /// What acks=all waits for, and whose answer it may change.
    pending: Vec<(Place, Pending)>,
    failed: bool,
}

impl Produce<'_> {
    fn append_all(&mut self, request: ProduceRequest, mut verdicts: Verdicts, is_admin: bool) -> ProduceResponse {
        let mut response = ProduceResponse::default();
        response.responses.reserve_exact(request.topic_data.len());
        for (t, topic) in request.topic_data.into_iter().enumerate() {
            let mut partitions = Vec::with_capacity(topic.partition_data.len());
            for (p, data) in topic.partition_data.into_iter().enumerate() {
                let index = data.index;
                let mut result = match verdicts.take((t, p)) {
                    Ok(verification) => self.append(&topic.name, data, verification, is_admin),
                    Err((error, message)) => AppendResult::failed(error, message),
                };
                if let Some(pending) = result.pending.take() {
                    self.pending.push(((t, p), pending));
                }
                self.failed |= !result.error.is_none();
                partitions.push(self.partition_response(index, result));
            }
            let answer = TopicProduceResponse::default().with_name(topic.name).with_partition_responses(partitions);
            response.responses.push(answer);
        }
        response
    }

    fn append(
        &self,
        topic: &str,
        data: PartitionProduceData,
        verification: Verification,
        is_admin: bool,
    ) -> AppendResult {
        if !ReplicaManager::is_valid_required_acks(self.acks) {
            return AppendResult::failed(ErrorCode::InvalidRequiredAcks, None);
        }
        let records = data.records.unwrap_or_default();
        if let Err(error) = validate::check_produce(self.version, &records) {
            return AppendResult::failed(error.code, Some(error.message.into_owned()));
        }
        self.ctx.replica_manager.append_records(topic, data.index, records, self.acks, is_admin, verification)
    }

    async fn wait(&mut self, response: &mut ProduceResponse, timeout_ms: i32) {
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        let (places, pending): (Vec<Place>, Vec<Pending>) = std::mem::take(&mut self.pending).into_iter().unzip();
        let results = self.ctx.replica_manager.wait_replicated(&pending, timeout).await;
        for ((topic, partition), result) in places.into_iter().zip(results) {
            if let Err(error) = result {
                response.responses[topic].partition_responses[partition].error_code = error.code();
            }
        }
    }

    fn partition_response(&self, index: i32, result: AppendResult) -> PartitionProduceResponse {
        let mut out = PartitionProduceResponse::default()
            .with_index(index)
            .with_error_code(result.error.code())
            .with_base_offset(result.base_offset.get());
        if self.version >= FIRST_WITH_LOG_APPEND_TIME {
            out.log_append_time_ms = result.log_append_time;
        }
        if self.version >= FIRST_WITH_LOG_START {
            out.log_start_offset = result.log_start_offset.get();
        }
        if self.version >= FIRST_WITH_MESSAGES && !result.error.is_none() {
            out.error_message = Some(StrBytes::from_string(result.message.unwrap_or_else(|| result.error.to_string())));
            out.record_errors = result
                .rejected
                .into_iter()
                .map(|record| {
                    BatchIndexAndErrorMessage::default()
                        .with_batch_index(record.batch_index)
                        .with_batch_index_error_message(Some(StrBytes::from_string(record.message.into_owned())))
                })
                .collect();
        }
        out
    }

    /// Where partitions have another leader, names it and its address.
    fn name_leaders(&self, listener: &str, response: &mut ProduceResponse) {
        if self.version < FIRST_WITH_LEADER || !self.failed {
            return;
        }
        let snapshot = self.ctx.replica_manager.metadata().snapshot();
        for topic in &mut response.responses {
            for partition in &mut topic.partition_responses {
                if partition.error_code != ErrorCode::NotLeaderOrFollower.code() {
                    continue;
                }
                let Some(known) = snapshot.partition(&topic.name, partition.index) else { continue };
                partition.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(WireBroker(known.leader.get()))
                    .with_leader_epoch(known.leader_epoch.get());
                let Some(endpoint) = snapshot.endpoint(known.leader, listener) else { continue };
                if response.node_endpoints.iter().all(|node| node.node_id.0 != known.leader.get()) {
                    let rack = snapshot.broker(known.leader).and_then(|broker| broker.rack.clone());
                    response.node_endpoints.push(
                        NodeEndpoint::default()
                            .with_node_id(WireBroker(known.leader.get()))
                            .with_host(endpoint.host.clone())
                            .with_port(endpoint.port)
                            .with_rack(rack),
                    );
                }
            }
        }
    }
}

fn first_error(response: &ProduceResponse) -> String {
    let mut partitions = response.responses.iter().flat_map(|t| t.partition_responses.iter().map(move |p| (t, p)));
    match partitions.find(|(_, p)| p.error_code != 0) {
        Some((topic, p)) => {
            let error = ErrorCode::from_code(p.error_code);
            format!("a produce request with acks=0 failed for {}-{}: {error}", topic.name.as_str(), p.index)
        }
        None => "a produce request with acks=0 failed".to_owned(),
    }
}
