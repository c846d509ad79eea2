//! DescribeLogDirs (35), v0–4: what lies in which log dir, how large it is, how much room is left (KIP-113, KIP-827).

use std::collections::HashMap;

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::replica::manager::{LogDirDescription, ReplicaInfo};

/// The first version with an error for the whole answer.
const FIRST_WITH_ERROR: i16 = 3;
/// The first version that tells of the file system.
const FIRST_WITH_SPACE: i16 = 4;
const UNKNOWN: i64 = -1;

/// Answers for the partitions asked for, or all. Partitions that are not here are left out.
pub async fn handle(ctx: &Context, call: &Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted = request.topics.map(Wanted::new);
    let manager = ctx.replica_manager.clone();
    // The file systems are asked for their room, which may wait for a disk.
    let described = tokio::task::spawn_blocking(move || {
        manager.describe_log_dirs(|tp| wanted.as_ref().is_none_or(|wanted| wanted.has(tp)))
    });
    let version = call.version();
    match described.await {
        Ok(dirs) => {
            DescribeLogDirsResponse::default().with_results(dirs.into_iter().map(|dir| result(version, dir)).collect())
        }
        Err(_) if version >= FIRST_WITH_ERROR => {
            DescribeLogDirsResponse::default().with_error_code(ErrorCode::UnknownServerError.code())
        }
        Err(_) => DescribeLogDirsResponse::default(),
    }
}

/// The partitions asked for, in no more memory than the request took.
struct Wanted(HashMap<TopicName, Vec<i32>>);

impl Wanted {
    fn new(topics: Vec<DescribableLogDirTopic>) -> Self {
        let mut wanted: HashMap<TopicName, Vec<i32>> = HashMap::new();
        for asked in topics {
            wanted.entry(asked.topic).or_default().extend(asked.partitions);
        }
        wanted.values_mut().for_each(|partitions| partitions.sort_unstable());
        Self(wanted)
    }

    fn has(&self, tp: &TopicPartition) -> bool {
        let name = TopicName(StrBytes::from_string(tp.topic.to_string()));
        self.0.get(&name).is_some_and(|partitions| partitions.binary_search(&tp.partition).is_ok())
    }
}

fn result(version: i16, dir: LogDirDescription) -> DescribeLogDirsResult {
    let mut result = DescribeLogDirsResult::default()
        .with_error_code(dir.error.code())
        .with_log_dir(StrBytes::from_string(dir.path.to_string_lossy().into_owned()))
        .with_topics(topics(dir.replicas));
    if version >= FIRST_WITH_SPACE {
        result.total_bytes = dir.total_bytes.map_or(UNKNOWN, as_long);
        result.usable_bytes = dir.usable_bytes.map_or(UNKNOWN, as_long);
    }
    result
}

fn as_long(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The replicas, which come by name, under their topics.
fn topics(replicas: Vec<ReplicaInfo>) -> Vec<DescribeLogDirsTopic> {
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    for replica in replicas {
        let name = &*replica.partition.topic;
        let partition = DescribeLogDirsPartition::default()
            .with_partition_index(replica.partition.partition)
            .with_partition_size(as_long(replica.size))
            .with_offset_lag(replica.offset_lag)
            .with_is_future_key(replica.is_future);
        match topics.last_mut().filter(|topic| topic.name.as_str() == name) {
            Some(topic) => topic.partitions.push(partition),
            None => {
                let name = TopicName(StrBytes::from_string(name.to_owned()));
                topics.push(DescribeLogDirsTopic::default().with_name(name).with_partitions(vec![partition]));
            }
        }
    }
    topics
}
