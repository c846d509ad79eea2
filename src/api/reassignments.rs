//! AlterPartitionReassignments (45), v0, and ListPartitionReassignments (46), v0 (KIP-455). Both ask the controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId as WireBroker,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};

use super::topic_changes::text;
use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicPartition};

const NOT_CONTROLLER: &str = "This is not the correct controller for this cluster.";

/// Begins reassignments, or cancels those for which no replicas are named.
pub async fn alter(
    ctx: &Context,
    _call: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let mut targets = BTreeMap::new();
    for topic in &request.topics {
        let name: Arc<str> = topic.name.as_str().into();
        for partition in &topic.partitions {
            let replicas = partition.replicas.as_ref().map(|ids| ids.iter().map(|id| BrokerId(id.0)).collect());
            targets.insert(TopicPartition::new(name.clone(), partition.partition_index), replicas);
        }
    }
    let response = AlterPartitionReassignmentsResponse::default().with_error_message(None);
    let Some(outcomes) = ctx.controller.alter_reassignments(targets).await else {
        return response
            .with_error_code(ErrorCode::NotController.code())
            .with_error_message(Some(text(NOT_CONTROLLER)));
    };
    let mut topics: BTreeMap<Arc<str>, Vec<ReassignablePartitionResponse>> = BTreeMap::new();
    for (tp, outcome) in outcomes {
        let partition = ReassignablePartitionResponse::default()
            .with_partition_index(tp.partition)
            .with_error_code(outcome.code.code())
            .with_error_message(outcome.message.map(text));
        topics.entry(tp.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        ReassignableTopicResponse::default().with_name(TopicName(text(&*topic))).with_partitions(partitions)
    });
    response.with_responses(topics.collect())
}

/// The reassignments under way.
pub async fn list(
    ctx: &Context,
    _call: &Call,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let named = request.topics.as_ref().map(|topics| {
        let of_topic = topics.iter().flat_map(|topic| {
            let name: Arc<str> = topic.name.as_str().into();
            topic.partition_indexes.iter().map(move |number| TopicPartition::new(name.clone(), *number))
        });
        of_topic.collect()
    });
    let response = ListPartitionReassignmentsResponse::default().with_error_message(None);
    let Some(under_way) = ctx.controller.list_reassignments(named).await else {
        return response
            .with_error_code(ErrorCode::NotController.code())
            .with_error_message(Some(text(NOT_CONTROLLER)));
    };
    let mut topics: BTreeMap<Arc<str>, Vec<OngoingPartitionReassignment>> = BTreeMap::new();
    for (tp, assignment) in under_way {
        let partition = OngoingPartitionReassignment::default()
            .with_partition_index(tp.partition)
            .with_replicas(wire(&assignment.replicas))
            .with_adding_replicas(wire(&assignment.adding))
            .with_removing_replicas(wire(&assignment.removing));
        topics.entry(tp.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OngoingTopicReassignment::default().with_name(TopicName(text(&*topic))).with_partitions(partitions)
    });
    response.with_topics(topics.collect())
}

fn wire(ids: &[BrokerId]) -> Vec<WireBroker> {
    ids.iter().map(|id| WireBroker(id.get())).collect()
}
