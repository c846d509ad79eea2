//! CreateTopics (19): plans on plain data, writes to ZooKeeper, waits until the controller has found leaders.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};

use super::topic_changes::{await_changes, has_leaders, named_twice, not_controller, text, timed_out};
use super::{Call, Context};
use crate::admin::plan::{self, Cluster, NewTopic, TopicPlan};
use crate::admin::{AdminError, assignment, topics};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicId};
use crate::config::describe::topic_entries;

/// The first version that tells of partitions, replicas and configs (KIP-525).
const FIRST_DESCRIBING: i16 = 5;

type Planned = Result<TopicPlan, AdminError>;

/// Creates topics, each for itself.
pub async fn handle(ctx: &Context, call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let plans = plan_all(ctx, &request).await;
    let mut outcomes: Vec<Result<TopicId, AdminError>> = vec![Ok(TopicId::nil()); plans.len()];
    if request.validate_only {
        for (outcome, planned) in outcomes.iter_mut().zip(&plans) {
            if let Ok(plan) = planned {
                *outcome = topics::check_new(&ctx.zk, &plan.name).await.map(|()| TopicId::nil());
            }
        }
    } else {
        let wanted: Vec<TopicPlan> = plans.iter().filter_map(|planned| planned.as_ref().ok().cloned()).collect();
        let mut created = topics::create(&ctx.zk, &wanted).await.into_iter();
        for (outcome, _) in outcomes.iter_mut().zip(&plans).filter(|(_, planned)| planned.is_ok()) {
            *outcome = created.next().unwrap_or_else(|| Err(timed_out()));
        }
        // As `DelayedCreatePartitions`.
        await_changes(ctx, request.timeout_ms, &mut outcomes, |now, n, _| {
            plans[n].as_ref().map_or(true, |plan| has_leaders(now, &plan.name, plan.assignment.len()))
        })
        .await;
    }
    let results = request.topics.iter().zip(plans).zip(outcomes);
    let results = results.map(|((topic, planned), outcome)| {
        let done = planned.and_then(|plan| outcome.map(|id| (plan, id)));
        result(ctx, call.version(), topic, done)
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

async fn plan_all(ctx: &Context, request: &CreateTopicsRequest) -> Vec<Planned> {
    let refusal = not_controller(ctx);
    let brokers = match refusal {
        Some(error) => Err(error),
        None => topics::live_brokers(&ctx.zk).await,
    };
    let twice = named_twice(request.topics.iter().map(|topic| topic.name.as_str()));
    let plan_one = |topic: &CreatableTopic| -> Planned {
        let brokers = brokers.as_ref().map_err(Clone::clone)?;
        if twice.contains(topic.name.as_str()) {
            let message = "Duplicate topic name: the request names this topic more than once.";
            return Err(AdminError::new(ErrorCode::InvalidRequest, message));
        }
        let cluster = Cluster { brokers, config: &ctx.config };
        plan::new_topic(&wanted(topic)?, cluster, assignment::Start::random())
    };
    request.topics.iter().map(plan_one).collect()
}

fn wanted(topic: &CreatableTopic) -> Result<NewTopic, AdminError> {
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for topic configs: {}", config.name.as_str());
            return Err(AdminError::new(ErrorCode::InvalidConfig, message));
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    let mut assignment = BTreeMap::new();
    for chosen in &topic.assignments {
        let replicas = chosen.broker_ids.iter().map(|id| BrokerId(id.0)).collect();
        if assignment.insert(chosen.partition_index, replicas).is_some() {
            let message = format!("partition {} is assigned twice", chosen.partition_index);
            return Err(AdminError::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignment,
        configs,
    })
}

fn result(
    ctx: &Context,
    version: i16,
    topic: &CreatableTopic,
    done: Result<(TopicPlan, TopicId), AdminError>,
) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
    match done {
        Err(error) => result
            .with_error_code(error.code.code())
            .with_error_message(Some(text(error.message)))
            .with_configs(Some(Vec::new())),
        Ok(_) if version < FIRST_DESCRIBING => result,
        Ok((plan, id)) => {
            let factor = plan.assignment.values().next().map_or(0, Vec::len);
            result
                .with_topic_id(id)
                .with_num_partitions(i32::try_from(plan.assignment.len()).unwrap_or(i32::MAX))
                .with_replication_factor(i16::try_from(factor).unwrap_or(i16::MAX))
                .with_configs(Some(configs(ctx, &plan)))
        }
    }
}

fn configs(ctx: &Context, plan: &TopicPlan) -> Vec<CreatableTopicConfigs> {
    let entries = topic_entries(&ctx.config, &ctx.replica_manager.configs().dynamic(), &plan.configs);
    let configs = entries.into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.name))
            .with_value(entry.value.map(text))
            .with_read_only(entry.read_only)
            .with_config_source(entry.source.wire_code())
            .with_is_sensitive(entry.sensitive)
    });
    configs.collect()
}
