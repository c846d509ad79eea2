//! Several brokers around one ZooKeeper.

use super::broker::{Broker, Kind};
use super::wire::{Wire, topic_name};
use super::zookeeper::ZooKeeper;
use super::{PATIENCE, wait_for};
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::protocol::StrBytes;
use serde_json::Value;
use std::fs;

/// Brokers with the ids from 0 on.
pub struct Brokers {
    pub brokers: Vec<Broker>,
    pub zookeeper: ZooKeeper,
}

/// A partition's state as ZooKeeper has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub leader: i64,
    pub leader_epoch: i64,
    /// Sorted.
    pub isr: Vec<i64>,
}

impl Brokers {
    /// Starts `kinds.len()` brokers; `adjust` sets the configuration of each, by its id, before. The first of different
    /// kinds becomes controller.
    pub fn start(kinds: &[Kind], adjust: impl Fn(usize, &mut Broker)) -> Brokers {
        let zookeeper = ZooKeeper::single();
        let connect = zookeeper.connect();
        let mut brokers: Vec<Broker> = Vec::new();
        for (id, kind) in kinds.iter().enumerate() {
            let mut broker = Broker::with_id(*kind, id as i32, &connect);
            adjust(id, &mut broker);
            broker.launch();
            if kinds.iter().any(|other| other != kind) {
                broker.wait_serving();
            }
            brokers.push(broker);
        }
        brokers.iter_mut().for_each(Broker::wait_serving);
        let all = Brokers { brokers, zookeeper };
        for broker in &all.brokers {
            wait_for("every broker to know all others", PATIENCE, || {
                let known = Wire::connect(&broker.address()).ok()?.try_metadata(&[]).ok()?.brokers.len();
                (known == kinds.len()).then_some(())
            });
        }
        all
    }

    /// Creates a topic and waits until every broker that runs knows its leaders.
    pub fn create_topic(&mut self, topic: &str, partitions: i32, replicas: i16, configs: &[(&str, &str)]) {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
        let wanted = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(30_000);
        let controller = self.controller();
        let answer = self.brokers[controller].wire().call(4, &request);
        assert_eq!(answer.topics[0].error_code, 0, "creating {topic}: {:?}", answer.topics[0].error_message);
        for broker in self.brokers.iter_mut() {
            if broker.is_running() {
                let mut wire = broker.wire();
                wait_for(&format!("leaders of {topic}"), PATIENCE, || {
                    wire.topic_ready(topic, partitions as usize).then_some(())
                });
            }
        }
    }

    /// The broker that is controller.
    pub fn controller(&self) -> usize {
        let (data, _) = self.zookeeper.wait_node("/controller", |_| true);
        let json: Value = serde_json::from_str(&data).expect("JSON");
        json["brokerid"].as_u64().expect("a broker id") as usize
    }

    /// A partition's state.
    pub fn state(&self, topic: &str, partition: i32) -> State {
        let path = format!("/brokers/topics/{topic}/partitions/{partition}/state");
        let (data, _) = self.zookeeper.wait_node(&path, |_| true);
        let json: Value = serde_json::from_str(&data).expect("JSON");
        let mut isr: Vec<i64> =
            json["isr"].as_array().expect("an array").iter().map(|id| id.as_i64().expect("a broker id")).collect();
        isr.sort_unstable();
        let number = |name: &str| json[name].as_i64().expect("a number");
        State { leader: number("leader"), leader_epoch: number("leader_epoch"), isr }
    }

    /// Waits until exactly these are in sync.
    pub fn wait_isr(&self, topic: &str, partition: i32, isr: &[i64]) -> State {
        wait_for(&format!("the ISR {isr:?} of {topic}-{partition}"), PATIENCE, || {
            Some(self.state(topic, partition)).filter(|state| state.isr == isr)
        })
    }

    /// A connection to who leads the partition now.
    pub fn leader(&self, topic: &str, partition: i32) -> Wire {
        wait_for(&format!("a leader of {topic}-{partition}"), PATIENCE, || {
            let leader = usize::try_from(self.state(topic, partition).leader).ok()?;
            Wire::connect(&self.brokers[leader].address()).ok()
        })
    }

    /// The `.log` files of a broker's replica, one behind the other.
    pub fn log_bytes(&self, broker: usize, topic: &str, partition: i32) -> Vec<u8> {
        let folder = self.brokers[broker].partition_dir(topic, partition);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        files.sort();
        files.iter().flat_map(|path| fs::read(path).expect("a segment")).collect()
    }

    /// Waits until all these replicas hold the same bytes; answers how many.
    pub fn wait_same_bytes(&self, brokers: &[usize], topic: &str, partition: i32) -> usize {
        wait_for(&format!("equal logs of {topic}-{partition}"), PATIENCE, || {
            let first = self.log_bytes(brokers[0], topic, partition);
            let same = brokers[1..].iter().all(|broker| self.log_bytes(*broker, topic, partition) == first);
            same.then_some(first.len())
        })
    }
}
