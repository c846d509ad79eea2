//! Topics that come to be because somebody asks for them (`AutoTopicCreationManager`): a client's with the broker's
//! defaults, the offsets topic with what its coordinator needs.

use std::collections::BTreeMap;

use super::Context;
use crate::admin::plan::{self, Cluster, NewTopic};
use crate::admin::{AdminError, assignment, topics};
use crate::base::error::ErrorCode;
use crate::base::topic_names::GROUP_METADATA_TOPIC;

/// Makes a topic that somebody asked for and that does not exist. The answer is for that client: usually
/// LEADER_NOT_AVAILABLE, so that it asks again.
pub async fn create(ctx: &Context, topic: &str) -> ErrorCode {
    match try_create(ctx, topic).await {
        Ok(()) => ErrorCode::LeaderNotAvailable,
        Err(error) if error.code == ErrorCode::TopicAlreadyExists => ErrorCode::LeaderNotAvailable,
        Err(error) => {
            tracing::warn!("topic {topic} cannot be created on demand: {error}");
            match error.code {
                ErrorCode::InvalidTopicException | ErrorCode::InvalidReplicationFactor => error.code,
                _ => ErrorCode::UnknownTopicOrPartition,
            }
        }
    }
}

async fn try_create(ctx: &Context, topic: &str) -> Result<(), AdminError> {
    let brokers = topics::live_brokers(&ctx.zk).await?;
    let cluster = Cluster { brokers: &brokers, config: &ctx.config };
    let plan = plan::new_topic(&wanted(ctx, topic), cluster, assignment::Start::random())?;
    let mut created = topics::create(&ctx.zk, &[plan]).await;
    created.pop().map_or(Ok(()), |outcome| outcome.map(drop))
}

fn wanted(ctx: &Context, topic: &str) -> NewTopic {
    let new = NewTopic { name: topic.to_owned(), partitions: -1, replication_factor: -1, ..NewTopic::default() };
    if topic != GROUP_METADATA_TOPIC {
        return new;
    }
    let segment_bytes = ctx.config.offsets_topic_segment_bytes.to_string();
    let configs = [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", &segment_bytes)];
    NewTopic {
        partitions: ctx.config.offsets_topic_num_partitions,
        replication_factor: ctx.config.offsets_topic_replication_factor,
        configs: BTreeMap::from(configs.map(|(key, value)| (key.to_owned(), value.to_owned()))),
        ..new
    }
}
