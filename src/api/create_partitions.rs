//! CreatePartitions (37): raises the number of a topic's partitions.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};

use super::topic_changes::{await_changes, has_leaders, named_twice, not_controller, text};
use super::{Call, Context};
use crate::admin::assignment::{Assignment, Candidate, Start};
use crate::admin::{AdminError, plan, topics};
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;

/// Adds partitions, to each topic for itself.
pub async fn handle(ctx: &Context, _call: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let brokers = match not_controller(ctx) {
        Some(error) => Err(error),
        None => topics::live_brokers(&ctx.zk).await,
    };
    let twice = named_twice(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut outcomes = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        outcomes.push(match &brokers {
            Err(error) => Err(error.clone()),
            Ok(_) if twice.contains(topic.name.as_str()) => {
                Err(AdminError::new(ErrorCode::InvalidRequest, "Duplicate topic in request."))
            }
            Ok(brokers) => add(ctx, topic, brokers, request.validate_only).await,
        });
    }
    if !request.validate_only {
        await_changes(ctx, request.timeout_ms, &mut outcomes, |now, n, ()| {
            let topic = &request.topics[n];
            has_leaders(now, &topic.name, usize::try_from(topic.count).unwrap_or(0))
        })
        .await;
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

async fn add(
    ctx: &Context,
    topic: &CreatePartitionsTopic,
    brokers: &[Candidate],
    validate_only: bool,
) -> Result<(), AdminError> {
    let (node, version) = topics::read(&ctx.zk, &topic.name).await?;
    if node.partitions.values().any(|replicas| replicas.is_being_reassigned()) {
        let message = format!("A partition reassignment is in progress for the topic '{}'.", topic.name.as_str());
        return Err(AdminError::new(ErrorCode::ReassignmentInProgress, message));
    }
    let existing: Assignment = node.partitions.iter().map(|(number, a)| (*number, a.replicas.clone())).collect();
    let chosen: Option<Vec<Vec<BrokerId>>> = topic.assignments.as_ref().map(|all| {
        all.iter().map(|assignment| assignment.broker_ids.iter().map(|id| BrokerId(id.0)).collect()).collect()
    });
    let added =
        plan::more_partitions(&topic.name, &existing, topic.count, chosen.as_deref(), brokers, Start::random())?;
    if validate_only { Ok(()) } else { topics::add_partitions(&ctx.zk, &topic.name, node, version, &added).await }
}
