//! CreatePartitions (37): raises the number of a topic's partitions.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};

use super::topic_changes::{has_leaders, not_controller, patience, text, timed_out, wait_for};
use super::{Call, Context};
use crate::admin::assignment::{Assignment, Start};
use crate::admin::{AdminError, plan, topics};
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;

/// Adds partitions, to each topic for itself.
pub async fn handle(ctx: &Context, _call: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut outcomes = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let twice = request.topics.iter().filter(|other| other.name == topic.name).count() > 1;
        outcomes.push(match not_controller(ctx) {
            Some(error) => Err(error),
            None if twice => Err(AdminError::new(ErrorCode::InvalidRequest, "Duplicate topic in request.")),
            None => add(ctx, topic, request.validate_only).await,
        });
    }
    if !request.validate_only {
        let wait = request.topics.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        let wait: Vec<_> = wait.map(|(topic, _)| (topic.name.as_str(), count(topic))).collect();
        let shown = wait_for(ctx, patience(request.timeout_ms), |now| {
            wait.iter().all(|(name, count)| has_leaders(now, name, *count))
        });
        if !shown.await {
            let now = ctx.replica_manager.metadata().snapshot();
            for (topic, outcome) in request.topics.iter().zip(&mut outcomes) {
                if outcome.is_ok() && !has_leaders(&now, &topic.name, count(topic)) {
                    *outcome = Err(timed_out());
                }
            }
        }
    }
    let results = request.topics.iter().zip(outcomes).map(|(topic, outcome)| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        match outcome {
            Ok(()) => result,
            Err(error) => result.with_error_code(error.code.code()).with_error_message(Some(text(error.message))),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn count(topic: &CreatePartitionsTopic) -> usize {
    usize::try_from(topic.count).unwrap_or(0)
}

async fn add(ctx: &Context, topic: &CreatePartitionsTopic, validate_only: bool) -> Result<(), AdminError> {
    let (node, version) = topics::read(&ctx.zk, &topic.name).await?;
    if node.partitions.values().any(|replicas| replicas.is_being_reassigned()) {
        let message = format!("A partition reassignment is in progress for the topic '{}'.", topic.name.as_str());
        return Err(AdminError::new(ErrorCode::ReassignmentInProgress, message));
    }
    let existing: Assignment = node.partitions.iter().map(|(number, a)| (*number, a.replicas.clone())).collect();
    let chosen: Option<Vec<Vec<BrokerId>>> = topic.assignments.as_ref().map(|all| {
        all.iter().map(|assignment| assignment.broker_ids.iter().map(|id| BrokerId(id.0)).collect()).collect()
    });
    let brokers = topics::live_brokers(&ctx.zk).await?;
    let added =
        plan::more_partitions(&topic.name, &existing, topic.count, chosen.as_deref(), &brokers, Start::random())?;
    if validate_only { Ok(()) } else { topics::add_partitions(&ctx.zk, &topic.name, node, version, &added).await }
}
