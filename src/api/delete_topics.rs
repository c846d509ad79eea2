//! DeleteTopics (20): by name, and by id from version 6 on.

use std::collections::HashSet;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};

use super::topic_changes::{await_changes, named_twice, not_controller, text};
use super::{Call, Context};
use crate::admin::{AdminError, topics};
use crate::base::error::ErrorCode;

/// The first version that knows TOPIC_DELETION_DISABLED.
const FIRST_TELLING_DISABLED: i16 = 3;
/// The first version with a message for each error.
const FIRST_WITH_MESSAGES: i16 = 5;
/// The first version that names topics by id.
const FIRST_WITH_IDS: i16 = 6;

/// Asks the controller to delete topics, and waits until they are gone.
pub async fn handle(ctx: &Context, call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let version = call.version();
    let wanted: Vec<DeleteTopicState> = if version < FIRST_WITH_IDS {
        request.topic_names.iter().map(|name| DeleteTopicState::default().with_name(Some(name.clone()))).collect()
    } else {
        request.topics
    };
    let names: Vec<_> = wanted.iter().map(|topic| name_of(ctx, topic)).collect();
    let twice = named_twice(names.iter().flatten().map(String::as_str));
    let mut outcomes = Vec::with_capacity(wanted.len());
    for name in &names {
        outcomes.push(begin(ctx, version, name, &twice).await);
    }
    await_changes(ctx, request.timeout_ms, &mut outcomes, |now, _, name| now.topic(name).is_none()).await;
    let results = wanted.into_iter().zip(outcomes).map(|(topic, outcome)| result(version, topic, outcome));
    DeleteTopicsResponse::default().with_responses(results.collect())
}

/// The name of the topic whose deletion was asked for.
async fn begin(
    ctx: &Context,
    version: i16,
    name: &Result<String, AdminError>,
    twice: &HashSet<&str>,
) -> Result<String, AdminError> {
    if let Some(error) = not_controller(ctx) {
        return Err(error);
    }
    if !ctx.config.delete_topic_enable {
        let known = version >= FIRST_TELLING_DISABLED;
        let code = if known { ErrorCode::TopicDeletionDisabled } else { ErrorCode::InvalidRequest };
        return Err(AdminError::new(code, "Topic deletion is disabled."));
    }
    let name = name.clone()?;
    if twice.contains(name.as_str()) {
        let message = "Duplicate topic: the request names this topic more than once.";
        return Err(AdminError::new(ErrorCode::InvalidRequest, message));
    }
    topics::request_deletion(&ctx.zk, &name).await.map(|()| name)
}

fn name_of(ctx: &Context, topic: &DeleteTopicState) -> Result<String, AdminError> {
    match &topic.name {
        Some(_) if !topic.topic_id.is_nil() => {
            let message = "A topic may be named by its name or by its id, not by both.";
            Err(AdminError::new(ErrorCode::InvalidRequest, message))
        }
        Some(name) if name.is_empty() => {
            let code = ErrorCode::UnknownTopicOrPartition;
            Err(AdminError::new(code, code.message()))
        }
        Some(name) => Ok(name.to_string()),
        None => {
            let snapshot = ctx.replica_manager.metadata().snapshot();
            let unknown = || AdminError::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.");
            snapshot.topic_name(topic.topic_id).map(|name| name.to_string()).ok_or_else(unknown)
        }
    }
}

fn result(version: i16, topic: DeleteTopicState, outcome: Result<String, AdminError>) -> DeletableTopicResult {
    let id = topic.topic_id;
    let result = DeletableTopicResult::default().with_topic_id(id);
    match outcome {
        Ok(name) => result.with_name(Some(TopicName(text(name)))),
        Err(error) => {
            let message = (version >= FIRST_WITH_MESSAGES).then(|| text(error.message));
            result.with_name(topic.name).with_error_code(error.code.code()).with_error_message(message)
        }
    }
}
