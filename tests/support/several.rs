//! Several brokers around one ZooKeeper ensemble: barnabas, JVM brokers, or both, each on an id, a port and a folder that
//! stay its own when it is stopped, killed, or swapped for a broker of another kind.

use super::broker::{Broker, Kind};
use super::wire::{Wire, topic_name};
use super::zookeeper::ZooKeeper;
use super::{PATIENCE, poll, wait_for};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The cluster. Brokers have the ids 1, 2, 3 and so on.
pub struct Several {
    pub brokers: Vec<Broker>,
    pub zookeeper: ZooKeeper,
}

/// Keys that every broker of a cluster under test gets.
const CONFIG: [(&str, &str); 9] = [
    ("default.replication.factor", "3"),
    ("offsets.topic.replication.factor", "3"),
    ("offsets.topic.num.partitions", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("replica.lag.time.max.ms", "4000"),
    ("replica.fetch.wait.max.ms", "200"),
    ("controlled.shutdown.retry.backoff.ms", "500"),
    ("auto.create.topics.enable", "false"),
];

impl Several {
    /// One broker of each kind, started together; `adjust` sets configuration before.
    pub fn start(kinds: &[Kind], ensemble: usize, adjust: impl Fn(&mut Broker)) -> Several {
        Several::around(ZooKeeper::start(ensemble), kinds, |_, broker| adjust(broker))
    }

    /// As [`Several::start`] around an ensemble that runs; `adjust` is told each broker's id too.
    pub fn around(zookeeper: ZooKeeper, kinds: &[Kind], adjust: impl Fn(i32, &mut Broker)) -> Several {
        let connect = zookeeper.connect();
        let mut brokers: Vec<Broker> =
            kinds.iter().zip(1..).map(|(kind, id)| Broker::with_id(*kind, id, &connect)).collect();
        for (broker, id) in brokers.iter_mut().zip(1..) {
            for (key, value) in CONFIG {
                broker.set(key, value);
            }
            adjust(id, broker);
            broker.launch();
        }
        for broker in &mut brokers {
            broker.wait_serving();
        }
        let cluster = Several { brokers, zookeeper };
        cluster.wait_alive(kinds.len());
        cluster
    }

    /// The addresses of all brokers, running or not.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(Broker::address).collect::<Vec<_>>().join(",")
    }

    /// The broker with an id.
    pub fn broker(&mut self, id: i32) -> &mut Broker {
        &mut self.brokers[id as usize - 1]
    }

    /// What the first broker that answers knows of these topics.
    pub fn metadata(&self, topics: &[&str]) -> Option<MetadataResponse> {
        self.brokers.iter().find_map(|broker| metadata_of(broker, topics))
    }

    /// Waits until every running broker knows of `count` brokers.
    pub fn wait_alive(&self, count: usize) {
        wait_for(&format!("{count} brokers in the metadata"), PATIENCE, || {
            let answers: Vec<_> = self.brokers.iter().filter_map(|broker| metadata_of(broker, &[])).collect();
            let all = answers.len() >= count && answers.iter().all(|answer| answer.brokers.len() == count);
            all.then_some(())
        });
    }

    /// Creates a topic with three replicas and waits until they are all in sync.
    pub fn create_topic(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| {
            let value = Some(StrBytes::from_string((*value).to_owned()));
            CreatableTopicConfig::default().with_name(StrBytes::from_string((*name).to_owned())).with_value(value)
        });
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(3)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000);
        wait_for(&format!("the creation of {topic}"), PATIENCE, || {
            let controller = self.controller()?;
            let mut wire = Wire::connect(&self.brokers[controller as usize - 1].address()).ok()?;
            let answer = wire.try_call(4, &request).ok()?;
            match answer.topics[0].error_code {
                0 | 36 => Some(()),
                41 | 7 => None, // the controller moved
                code => panic!("creating {topic}: {code} {:?}", answer.topics[0].error_message),
            }
        });
        self.wait_in_sync(topic, partitions as usize, 3);
    }

    /// Has the controller give partitions of a topic other replicas; does not wait for them.
    pub fn reassign(&self, topic: &str, wanted: impl Iterator<Item = (i32, Vec<i32>)>) {
        let partitions = wanted.map(|(partition, replicas)| {
            let replicas = replicas.into_iter().map(BrokerId).collect();
            ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(replicas))
        });
        let topic = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect());
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        wait_for("the reassignment to be taken", PATIENCE, || {
            let controller = self.controller()?;
            let mut wire = Wire::connect(&self.brokers[controller as usize - 1].address()).ok()?;
            let answer = wire.try_call(0, &request).ok()?;
            let mut codes = answer.responses.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            match codes.find(|code| *code != 0).unwrap_or(answer.error_code) {
                0 => Some(()),
                41 | 7 => None, // the controller moved
                code => panic!("reassigning: {code} {:?}", answer.error_message),
            }
        });
    }

    /// Waits until every partition has a leader and `replicas` replicas in sync, as every running broker sees it.
    pub fn wait_in_sync(&self, topic: &str, partitions: usize, replicas: usize) {
        let well = |p: &MetadataResponsePartition| p.leader_id.0 >= 0 && p.isr_nodes.len() == replicas;
        let seen = poll(PATIENCE, || {
            let answers: Vec<_> = self.brokers.iter().filter_map(|broker| metadata_of(broker, &[topic])).collect();
            let all = answers.iter().all(|answer| {
                answer.topics.iter().any(|t| t.partitions.len() == partitions && t.partitions.iter().all(well))
            });
            (all && !answers.is_empty()).then_some(())
        });
        assert!(seen.is_some(), "{topic} does not get {replicas} replicas in sync: {:#?}", self.partitions(topic));
    }

    /// The partitions of a topic as one broker sees them, by number.
    pub fn partitions(&self, topic: &str) -> BTreeMap<i32, MetadataResponsePartition> {
        let Some(answer) = self.metadata(&[topic]) else { return BTreeMap::new() };
        let partitions = answer.topics.into_iter().flat_map(|t| t.partitions);
        partitions.map(|p| (p.partition_index, p)).collect()
    }

    /// Who leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        wait_for(&format!("a leader of {topic}-{partition}"), PATIENCE, || {
            self.partitions(topic).get(&partition).map(|p| p.leader_id.0).filter(|id| *id >= 0)
        })
    }

    /// The id in `/controller`.
    pub fn controller(&self) -> Option<i32> {
        let text = self.zookeeper.read("/controller")?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        i32::try_from(value["brokerid"].as_i64()?).ok()
    }

    /// Waits for a controller other than `before`.
    pub fn wait_other_controller(&self, before: i32) -> i32 {
        wait_for("another controller", PATIENCE, || self.controller().filter(|id| *id != before))
    }

    /// The log files of a partition on every broker, by broker id: names and bytes of all segments joined in order.
    pub fn logs(&self, topic: &str, partition: i32) -> BTreeMap<i32, Vec<u8>> {
        (1..).zip(&self.brokers).map(|(id, broker)| (id, log_bytes(&broker.partition_dir(topic, partition)))).collect()
    }

    /// Waits until the logs of a partition hold the same bytes everywhere: from the latest start on, as retention may have
    /// come further on one broker than on another.
    pub fn wait_same_logs(&self, topic: &str, partitions: i32) {
        for partition in 0..partitions {
            let same = poll(Duration::from_secs(30), || {
                let logs = self.logs(topic, partition);
                let first = logs.values().next()?;
                (logs.values().all(|log| log == first)).then_some(first.len())
            });
            let lengths = || self.logs(topic, partition).into_iter().map(|(id, l)| (id, l.len())).collect::<Vec<_>>();
            assert!(same.is_some(), "{topic}-{partition} differs between brokers, bytes: {:?}", lengths());
        }
    }
}

/// What a broker knows of topics; `None` if it does not answer.
pub fn metadata_of(broker: &Broker, topics: &[&str]) -> Option<MetadataResponse> {
    Wire::connect(&broker.address()).ok()?.try_metadata(topics).ok()
}

/// The segments of a log joined: where they are cut may differ between replicas, what is in them not.
fn log_bytes(dir: &PathBuf) -> Vec<u8> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut logs: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs.iter().flat_map(|path| fs::read(path).unwrap_or_default()).collect()
}
