//! `kafka-preferred-replica-election.sh`: 2.8's way to give leadership back to preferred replicas, through the brokers or
//! through the node in ZooKeeper that the controller watches.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::Parser;

use super::{Elected, ElectionType, client_config, comma_separated, elect, read_partitions};
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::cli::cluster::{self, Cluster};
use crate::cli::zookeeper_client;
use crate::zk::client::ZkClient;
use crate::zk::error::ZkError;
use crate::zk::znodes::admin::{PREFERRED_ELECTION_PATH, decode_partitions, encode_partitions};
use crate::zk::znodes::topics::{self, TopicNode};

/// Scala's sets of more elements are hash sets and are shown so.
const SMALL_SET: usize = 4;

/// Give the leadership of partitions back to their preferred replicas.
#[derive(Parser, Debug)]
#[command(name = "kafka-preferred-replica-election", infer_long_args = true)]
struct Options {
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// ZooKeeper's servers: HOST1:PORT1,HOST2:PORT2/CHROOT
    #[arg(long)]
    zookeeper: Option<String>,
    /// A properties file for the admin client
    #[arg(long = "admin.config", requires = "bootstrap_server")]
    admin_config: Option<PathBuf>,
    /// A file with partitions, {"partitions": [{"topic": "a", "partition": 1}]}; all partitions if there is none
    #[arg(long)]
    path_to_json_file: Option<PathBuf>,
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    println!("This tool is deprecated. Please use kafka-leader-election tool. Tracking issue: KAFKA-8405");
    let options: Options = match crate::cli::parse("kafka-preferred-replica-election", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    let path = options.path_to_json_file.as_deref();
    let partitions = path.map(|path| read_partitions(path, "Preferred replica election data")).transpose()?;
    match (&options.bootstrap_server, &options.zookeeper) {
        (Some(bootstrap), None) => {
            let config = client_config(options.admin_config.as_deref())?;
            cluster::block_on(async {
                let mut cluster = Cluster::connect(bootstrap, &config).await?;
                report(elect(&mut cluster, ElectionType::Preferred, partitions.as_ref()).await?)
            })?;
        }
        (None, Some(connect)) => {
            println!("Warning: --zookeeper is deprecated and will be removed in a future version of Kafka.");
            println!("Use --bootstrap-server instead to specify a broker to connect to.");
            cluster::block_on(async {
                let zk = zookeeper_client::connect(connect).await?;
                let done = request(&zk, partitions).await;
                zk.close().await;
                done
            })?;
        }
        _ => bail!("Exactly one of 'bootstrap-server' or 'zookeeper' must be provided"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The original names the wrong partitions, mostly none, as those that needed no election; here they are named.
fn report(results: Vec<Elected>) -> anyhow::Result<()> {
    let with = |code: ErrorCode| results.iter().filter(move |result| result.code == code).map(|r| &r.partition);
    let done = comma_separated(with(ErrorCode::None), ", ");
    if !done.is_empty() {
        println!("Successfully completed preferred leader election for partitions {done}");
    }
    let needless = comma_separated(with(ErrorCode::ElectionNotNeeded), ", ");
    if !needless.is_empty() {
        println!("Preferred replica already elected for partitions {needless}");
    }
    let failed = results.iter().filter(|r| !matches!(r.code, ErrorCode::None | ErrorCode::ElectionNotNeeded));
    let failed: Vec<&Elected> = failed.collect();
    for result in &failed {
        let (partition, exception) = (&result.partition, result.exception());
        println!("Error completing preferred leader election for partition: {partition}: {exception}");
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow!("{} preferred replica(s) could not be elected", failed.len())) }
}

/// Asks the controller through its node in ZooKeeper, which it takes away once it is done.
async fn request(zk: &ZkClient, named: Option<BTreeSet<TopicPartition>>) -> anyhow::Result<()> {
    let existing = existing(zk).await?;
    let (valid, invalid): (BTreeSet<_>, BTreeSet<_>) = match named {
        Some(named) => named.into_iter().partition(|tp| existing.contains(tp)),
        None => (existing, BTreeSet::new()),
    };
    let partitions: Vec<TopicPartition> = valid.iter().cloned().collect();
    match zk.create_recursive(PREFERRED_ELECTION_PATH, &encode_partitions(&partitions)).await {
        Ok(()) => println!("Created preferred replica election path with {}", comma_separated(&valid, ",")),
        Err(ZkError::NodeExists) => bail!(
            "Admin command failed: Preferred replica leader election currently in progress for {}. Aborting operation",
            under_way(zk).await?
        ),
        Err(error) => return Err(error.into()),
    }
    let set = if valid.len() > SMALL_SET { "HashSet" } else { "Set" };
    println!("Successfully started preferred replica election for partitions {set}({})", comma_separated(&valid, ", "));
    for tp in invalid {
        println!("Skipping preferred replica leader election for partition {tp} since it doesn't exist.");
    }
    Ok(())
}

async fn under_way(zk: &ZkClient) -> anyhow::Result<String> {
    let partitions = match zk.find(PREFERRED_ELECTION_PATH).await? {
        Some(node) => decode_partitions(PREFERRED_ELECTION_PATH, &node.data)?,
        None => Vec::new(),
    };
    Ok(comma_separated(&partitions, ","))
}

/// All partitions of the cluster.
async fn existing(zk: &ZkClient) -> anyhow::Result<BTreeSet<TopicPartition>> {
    let names = zk.children(topics::PATH).await?;
    let paths: Vec<String> = names.iter().map(|name| topics::path(name)).collect();
    let mut partitions = BTreeSet::new();
    for (name, node) in names.iter().zip(zk.get_many(&paths).await?) {
        let Some(node) = node else { continue };
        let topic = TopicNode::decode(name, &node.data)?;
        partitions.extend(topic.partitions.keys().map(|number| TopicPartition::new(name.as_str(), *number)));
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::base::ids::BrokerId;
    use crate::zk::backend::CreateMode;
    use crate::zk::memory::MemoryZk;
    use crate::zk::session::create_persistent_paths;
    use crate::zk::znodes::topics::ReplicaAssignment;

    #[tokio::test]
    async fn elections_are_asked_for_once_and_only_of_partitions_that_exist() {
        let zk = ZkClient::connect(Arc::new(MemoryZk::new()), Duration::from_secs(1)).await.expect("a session");
        create_persistent_paths(&zk).await.expect("paths");
        let replicas = || ReplicaAssignment::new(vec![BrokerId(1)]);
        let node = TopicNode { topic_id: None, partitions: [(0, replicas()), (1, replicas())].into() };
        zk.create(&topics::path("t"), &node.encode(), CreateMode::Persistent).await.expect("a topic");
        let named = [("t", 1), ("t", 7)].map(|(topic, partition)| TopicPartition::new(topic, partition));
        request(&zk, Some(named.into())).await.expect("asked");
        let asked = zk.get(PREFERRED_ELECTION_PATH).await.expect("the node");
        assert_eq!(asked.data, br#"{"version":1,"partitions":[{"topic":"t","partition":1}]}"#);
        let error = request(&zk, None).await.expect_err("under way").to_string();
        assert!(error.contains("currently in progress for t-1. Aborting operation"), "{error}");
        zk.delete(PREFERRED_ELECTION_PATH, None).await.expect("the controller is done");
        request(&zk, None).await.expect("asked");
        assert_eq!(under_way(&zk).await.expect("read"), "t-0,t-1");
    }
}
