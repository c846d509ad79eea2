//! Topics that come to be because somebody asks for them (`AutoTopicCreationManager`): a client's with the broker's
//! defaults, the topics of groups and of transactions with what their coordinators need.

use std::collections::BTreeMap;

use super::Context;
use crate::admin::plan::{self, Cluster, NewTopic};
use crate::admin::{AdminError, assignment, topics};
use crate::base::error::ErrorCode;
use crate::base::topic_names::{GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC};
use crate::config::broker::BrokerConfig;

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
    let plan = plan::new_topic(&wanted(&ctx.config, topic), cluster, assignment::Start::random())?;
    let mut created = topics::create(&ctx.zk, &[plan]).await;
    created.pop().map_or(Ok(()), |outcome| outcome.map(drop))
}

fn wanted(config: &BrokerConfig, topic: &str) -> NewTopic {
    let new = NewTopic { name: topic.to_owned(), partitions: -1, replication_factor: -1, ..NewTopic::default() };
    match topic {
        GROUP_METADATA_TOPIC => NewTopic {
            partitions: config.offsets_topic_num_partitions,
            replication_factor: config.offsets_topic_replication_factor,
            configs: configs(&[
                ("cleanup.policy", "compact"),
                ("compression.type", "producer"),
                ("segment.bytes", &config.offsets_topic_segment_bytes.to_string()),
            ]),
            ..new
        },
        TRANSACTION_STATE_TOPIC => NewTopic {
            partitions: config.transaction_state_log_num_partitions,
            replication_factor: config.transaction_state_log_replication_factor,
            configs: configs(&[
                ("cleanup.policy", "compact"),
                ("compression.type", "uncompressed"),
                ("min.insync.replicas", &config.transaction_state_log_min_isr.to_string()),
                ("segment.bytes", &config.transaction_state_log_segment_bytes.to_string()),
                ("unclean.leader.election.enable", "false"),
            ]),
            ..new
        },
        _ => new,
    }
}

fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_topics_are_made_as_their_coordinators_need_them() {
        let config = BrokerConfig::from_pairs([
            ("transaction.state.log.num.partitions", "7"),
            ("transaction.state.log.replication.factor", "2"),
            ("transaction.state.log.min.isr", "1"),
            ("transaction.state.log.segment.bytes", "1000000"),
        ])
        .expect("a configuration");
        let new = wanted(&config, TRANSACTION_STATE_TOPIC);
        assert_eq!((new.partitions, new.replication_factor), (7, 2));
        let expected = configs(&[
            ("cleanup.policy", "compact"),
            ("compression.type", "uncompressed"),
            ("min.insync.replicas", "1"),
            ("segment.bytes", "1000000"),
            ("unclean.leader.election.enable", "false"),
        ]);
        assert_eq!(new.configs, expected);
        assert_eq!(wanted(&config, GROUP_METADATA_TOPIC).partitions, config.offsets_topic_num_partitions);
        assert!(wanted(&config, "t").configs.is_empty());
    }
}
