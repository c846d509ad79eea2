//! Moves between log dirs of one broker: asked for and looked at, always through the brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, DescribeLogDirsRequest};
use kafka_protocol::protocol::StrBytes;

use super::Terse;
use super::json::joined;
use super::plan::Replica;
use super::states::LogDirMove;
use crate::base::error::ErrorCode;
use crate::cli::cluster::{Cluster, topic_name};

/// The wait before a broker is asked again that has no replica yet.
const BACKOFF: Duration = Duration::from_millis(100);

/// How far each move has come, with the log dir that was wanted.
pub(super) async fn states(
    cluster: &mut Cluster,
    targets: &BTreeMap<Replica, String>,
) -> anyhow::Result<BTreeMap<Replica, (String, LogDirMove)>> {
    let mut places: BTreeMap<&Replica, Place> = BTreeMap::new();
    let brokers: BTreeSet<i32> = targets.keys().map(|replica| replica.broker).collect();
    for broker in brokers {
        let here: Vec<&Replica> = targets.keys().filter(|replica| replica.broker == broker).collect();
        places.extend(look(cluster, broker, &here).await?);
    }
    let state = |(replica, target): (&Replica, &String)| {
        let state = match places.remove(replica).unwrap_or_default() {
            Place { current: None, .. } => LogDirMove::MissingLogDir,
            Place { current: Some(current), future: Some(future) } => LogDirMove::Active { current, future },
            Place { current: Some(current), future: None } if current == *target => LogDirMove::Completed,
            Place { current: Some(current), future: None } => LogDirMove::Cancelled { current },
        };
        (replica.clone(), (target.clone(), state))
    };
    Ok(targets.iter().map(state).collect())
}

/// Where a replica is, and whither it is on its way.
#[derive(Default)]
struct Place {
    current: Option<String>,
    future: Option<String>,
}

async fn look<'a>(
    cluster: &mut Cluster,
    broker: i32,
    replicas: &[&'a Replica],
) -> anyhow::Result<BTreeMap<&'a Replica, Place>> {
    let topics = replicas.iter().map(|replica| {
        let name = topic_name(&replica.partition.topic);
        DescribableLogDirTopic::default().with_topic(name).with_partitions(vec![replica.partition.partition])
    });
    let request = DescribeLogDirsRequest::default().with_topics(Some(topics.collect()));
    let answer = cluster.broker(broker).await?.ask(|_| request).await?;
    let mut places: BTreeMap<&Replica, Place> = BTreeMap::new();
    for dir in answer.results.iter().filter(|dir| dir.error_code == 0) {
        for topic in &dir.topics {
            for found in &topic.partitions {
                let is_it = |replica: &&&Replica| {
                    *replica.partition.topic == *topic.name.as_str()
                        && replica.partition.partition == found.partition_index
                };
                let Some(replica) = replicas.iter().find(is_it) else { continue };
                let place = places.entry(*replica).or_default();
                let which = if found.is_future_key { &mut place.future } else { &mut place.current };
                *which = Some(dir.log_dir.to_string());
            }
        }
    }
    Ok(places)
}

/// Begins the moves, and says so. Replicas that are not there yet are asked for again, for `timeout` at most.
pub(super) async fn execute(
    cluster: &mut Cluster,
    targets: &BTreeMap<Replica, String>,
    timeout: Duration,
) -> anyhow::Result<()> {
    let (began, mut pending) = (Instant::now(), targets.clone());
    loop {
        let started = alter(cluster, &pending).await?;
        for replica in &started {
            let Replica { broker, partition } = replica;
            println!(
                "Successfully started moving log directory to {} for replica {partition} with broker {broker} ",
                pending.remove(replica).unwrap_or_default()
            );
        }
        if pending.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= timeout {
            let s = if pending.len() == 1 { "" } else { "s" };
            let left = joined(pending.keys());
            bail!(Terse(format!("Timed out before log directory move{s} could be started for: {left}")));
        }
        tokio::time::sleep(BACKOFF).await;
    }
}

/// Asks each broker for its moves. Returns those that it took; one that has no such replica yet is no error.
async fn alter(cluster: &mut Cluster, wanted: &BTreeMap<Replica, String>) -> anyhow::Result<BTreeSet<Replica>> {
    let mut by_broker: BTreeMap<i32, Vec<AlterReplicaLogDir>> = BTreeMap::new();
    for (replica, path) in wanted {
        let topic = AlterReplicaLogDirTopic::default()
            .with_name(topic_name(&replica.partition.topic))
            .with_partitions(vec![replica.partition.partition]);
        let dirs = by_broker.entry(replica.broker).or_default();
        match dirs.iter_mut().find(|dir| dir.path.as_str() == path) {
            Some(dir) => match dir.topics.iter_mut().find(|known| known.name == topic.name) {
                Some(known) => known.partitions.extend(topic.partitions),
                None => dir.topics.push(topic),
            },
            None => dirs.push(
                AlterReplicaLogDir::default().with_path(StrBytes::from_string(path.clone())).with_topics(vec![topic]),
            ),
        }
    }
    let mut taken = BTreeSet::new();
    for (broker, dirs) in by_broker {
        let request = AlterReplicaLogDirsRequest::default().with_dirs(dirs);
        let answer = cluster.broker(broker).await?.ask(|_| request).await?;
        for topic in &answer.results {
            for result in &topic.partitions {
                let partition =
                    crate::base::ids::TopicPartition::new(topic.topic_name.as_str(), result.partition_index);
                let replica = Replica { broker, partition };
                match ErrorCode::from_code(result.error_code) {
                    ErrorCode::None => drop(taken.insert(replica)),
                    ErrorCode::ReplicaNotAvailable => {}
                    code => return Err(anyhow!("Failed to alter dir for {replica}: {code}")),
                }
            }
        }
    }
    Ok(taken)
}
