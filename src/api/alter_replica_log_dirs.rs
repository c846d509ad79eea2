//! AlterReplicaLogDirs (34), v0–2: moves partitions between the log dirs of this broker (KIP-113).

use std::path::Path;

use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use super::{Call, Context};
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::replica::manager::ReplicaManager;

/// Begins the moves, each for itself.
pub async fn handle(ctx: &Context, _call: &Call, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let manager = ctx.replica_manager.clone();
    // Folders are made, which may wait for a disk.
    let done = tokio::task::spawn_blocking(move || alter(&manager, request)).await;
    AlterReplicaLogDirsResponse::default().with_results(done.unwrap_or_default())
}

fn alter(manager: &ReplicaManager, request: AlterReplicaLogDirsRequest) -> Vec<AlterReplicaLogDirTopicResult> {
    let mut results: Vec<AlterReplicaLogDirTopicResult> = Vec::new();
    for dir in request.dirs {
        for topic in dir.topics {
            let partitions = topic.partitions.into_iter().map(|number| {
                let tp = TopicPartition::new(topic.name.as_str(), number);
                let code = manager.alter_replica_log_dir(&tp, Path::new(dir.path.as_str()));
                AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(number)
                    .with_error_code(code.err().unwrap_or(ErrorCode::None).code())
            });
            let partitions: Vec<_> = partitions.collect();
            match results.iter_mut().find(|result| result.topic_name == topic.name) {
                Some(result) => result.partitions.extend(partitions),
                None => results.push(
                    AlterReplicaLogDirTopicResult::default().with_topic_name(topic.name).with_partitions(partitions),
                ),
            }
        }
    }
    results
}
