//! ElectLeaders (43), v0–2: preferred leaders, or unclean ones where nobody leads (KIP-183, KIP-460). The controller elects;
//! the answer waits until this broker's metadata shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};

use super::topic_changes::{patience, text, timed_out, wait_for};
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicPartition};
use crate::controller::{ElectionType, Outcome, Outcomes};
use crate::replica::metadata_cache::MetadataSnapshot;

/// The first version with an error for the whole and with unclean elections.
const FIRST_WITH_KINDS: i16 = 1;

/// Elects leaders of the partitions asked for, or of all.
pub async fn handle(ctx: &Context, call: &Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let kind = match (call.version() >= FIRST_WITH_KINDS, request.election_type) {
        (false, _) | (true, 0) => ElectionType::Preferred,
        (true, 1) => ElectionType::Unclean,
        _ => return ElectLeadersResponse::default().with_error_code(ErrorCode::InvalidRequest.code()),
    };
    let partitions = wanted(ctx, &request);
    let elected = ctx.controller.elect_leaders(kind, partitions.clone()).await;
    let mut outcomes = elected.unwrap_or_else(|| {
        let message = "This is not the correct controller for this cluster.";
        partitions.into_iter().map(|tp| (tp, Outcome::failed(ErrorCode::NotController, message))).collect()
    });
    await_leaders(ctx, kind, request.timeout_ms, &mut outcomes).await;
    if request.topic_partitions.is_none() {
        outcomes.retain(|_, outcome| outcome.code != ErrorCode::ElectionNotNeeded);
    }
    ElectLeadersResponse::default().with_replica_election_results(results(outcomes))
}

fn wanted(ctx: &Context, request: &ElectLeadersRequest) -> Vec<TopicPartition> {
    if let Some(topics) = &request.topic_partitions {
        let of_topic = topics.iter().flat_map(|topic| {
            let name: Arc<str> = topic.topic.as_str().into();
            topic.partitions.iter().map(move |number| TopicPartition::new(name.clone(), *number))
        });
        return of_topic.collect();
    }
    let snapshot = ctx.replica_manager.metadata().snapshot();
    let all = snapshot.topics().flat_map(|topic| {
        let name: Arc<str> = topic.name.as_str().into();
        topic.partitions.keys().map(move |number| TopicPartition::new(name.clone(), *number)).collect::<Vec<_>>()
    });
    all.collect()
}

/// What was elected but is not seen here in time is answered so, though it will be (`DelayedElectLeader`).
async fn await_leaders(ctx: &Context, kind: ElectionType, timeout_ms: i32, outcomes: &mut Outcomes) {
    let elected: Vec<TopicPartition> =
        outcomes.iter().filter(|(_, outcome)| outcome.code.is_none()).map(|(tp, _)| tp.clone()).collect();
    let all = |snapshot: &MetadataSnapshot| elected.iter().all(|tp| is_led(snapshot, kind, tp));
    if wait_for(ctx, patience(timeout_ms), all).await {
        return;
    }
    let snapshot = ctx.replica_manager.metadata().snapshot();
    for tp in elected.into_iter().filter(|tp| !is_led(&snapshot, kind, tp)) {
        let error = timed_out();
        outcomes.insert(tp, Outcome::failed(error.code, error.message));
    }
}

fn is_led(snapshot: &MetadataSnapshot, kind: ElectionType, tp: &TopicPartition) -> bool {
    let partition = snapshot.topic(&tp.topic).and_then(|topic| topic.partitions.get(&tp.partition));
    partition.is_some_and(|partition| match kind {
        ElectionType::Preferred => partition.replicas.first() == Some(&partition.leader),
        ElectionType::Unclean => partition.leader > BrokerId::NONE,
    })
}

fn results(outcomes: Outcomes) -> Vec<ReplicaElectionResult> {
    let mut by_topic: BTreeMap<Arc<str>, Vec<PartitionResult>> = BTreeMap::new();
    for (tp, outcome) in outcomes {
        let result = PartitionResult::default()
            .with_partition_id(tp.partition)
            .with_error_code(outcome.code.code())
            .with_error_message(outcome.message.map(text));
        by_topic.entry(tp.topic).or_default().push(result);
    }
    let topics = by_topic.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default().with_topic(TopicName(text(&*topic))).with_partition_result(partitions)
    });
    topics.collect()
}
