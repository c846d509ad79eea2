//! What this broker knows of the cluster from the controller's UpdateMetadata requests: live brokers and their endpoints,
//! topics, their ids, each partition's leader, ISR and replicas. Owns one snapshot that is swapped or, while no reader
//! holds it, changed in place; readers clone an `Arc` and keep no lock. It never asks ZooKeeper.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::base::address::host_port;
use crate::base::watch;
use kafka_protocol::messages::UpdateMetadataRequest;
use kafka_protocol::messages::update_metadata_request::{UpdateMetadataBroker, UpdateMetadataPartitionState};
use kafka_protocol::protocol::StrBytes;
use parking_lot::RwLock;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::base::ids::{BrokerId, ControllerEpoch, LeaderEpoch, TopicId, TopicPartition};

/// Sent as leader of a partition whose topic is being deleted (`LeaderAndIsr.LEADER_DURING_DELETE`).
pub const LEADER_DURING_DELETE: i32 = -2;

/// The security protocol's number for PLAINTEXT.
const PLAINTEXT: i16 = 0;

/// One of a broker's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, for example `PLAINTEXT`.
    pub listener: StrBytes,
    /// The advertised host.
    pub host: StrBytes,
    /// The advertised port.
    pub port: i32,
    /// The security protocol's number (`SecurityProtocol.id`).
    pub security_protocol: i16,
}

/// A live broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerMetadata {
    /// Its id.
    pub id: BrokerId,
    /// Its rack, if it told one.
    pub rack: Option<StrBytes>,
    /// Its addresses.
    pub endpoints: Vec<Endpoint>,
}

impl BrokerMetadata {
    /// Its address for clients of `listener`.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener.as_str() == listener)
    }
}

/// Broker ids of one partition; most have no more than four.
pub type BrokerIds = SmallVec<[BrokerId; 4]>;

/// What the controller says of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// The leader, or -1.
    pub leader: BrokerId,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The controller that decided it.
    pub controller_epoch: ControllerEpoch,
    /// The in-sync replicas.
    pub isr: BrokerIds,
    /// The version of the partition's state znode.
    pub partition_epoch: i32,
    /// All assigned replicas, the preferred leader first.
    pub replicas: BrokerIds,
    /// Replicas on failed disks or dead brokers.
    pub offline_replicas: BrokerIds,
}

/// What the controller says of one topic.
#[derive(Debug, Clone)]
pub struct TopicMetadata {
    /// Its name.
    pub name: StrBytes,
    /// Its id; all zero while unknown.
    pub id: TopicId,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

/// The cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct MetadataSnapshot {
    controller: Option<BrokerId>,
    brokers: BTreeMap<BrokerId, Arc<BrokerMetadata>>,
    topics: HashMap<Arc<str>, Arc<TopicMetadata>>,
    names: HashMap<TopicId, Arc<str>>,
}

impl MetadataSnapshot {
    /// The controller, if it is alive.
    pub fn controller(&self) -> Option<BrokerId> {
        self.controller.filter(|id| self.brokers.contains_key(id))
    }

    /// All live brokers, by rising id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerMetadata>> {
        self.brokers.values()
    }

    /// A live broker.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerMetadata>> {
        self.brokers.get(&id)
    }

    /// A live broker's address on `listener`.
    pub fn endpoint(&self, id: BrokerId, listener: &str) -> Option<&Endpoint> {
        self.brokers.get(&id)?.endpoint(listener)
    }

    /// The same as `host:port`.
    pub fn address(&self, id: BrokerId, listener: &str) -> Option<String> {
        let endpoint = self.endpoint(id, listener)?;
        Some(host_port(&endpoint.host, endpoint.port))
    }

    /// All topics, in no order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicMetadata>> {
        self.topics.values()
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)
    }

    /// A topic's name by its id.
    pub fn topic_name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// A topic's id, if it is known and not zero.
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topics.get(name).map(|topic| topic.id).filter(|id| !id.is_nil())
    }

    /// A partition.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMetadata> {
        self.topics.get(topic)?.partitions.get(&partition)
    }

    /// How many partitions `topic` has; `None` if it is unknown.
    pub fn partition_count(&self, topic: &str) -> Option<usize> {
        self.topics.get(topic).map(|topic| topic.partitions.len())
    }

    /// Whether the topic or the partition is known.
    pub fn contains(&self, tp: &TopicPartition) -> bool {
        self.partition(&tp.topic, tp.partition).is_some()
    }

    /// Applies an UpdateMetadata request (`ZkMetadataCache.updateMetadata`): live brokers are replaced, partitions are
    /// added, changed, or removed if their leader is [`LEADER_DURING_DELETE`]. Returns the removed ones.
    pub fn apply(&mut self, request: &UpdateMetadataRequest) -> Vec<TopicPartition> {
        self.controller = Some(BrokerId(request.controller_id.0)).filter(|id| id.get() >= 0);
        self.brokers = request.live_brokers.iter().map(broker).map(|b| (b.id, Arc::new(b))).collect();
        let mut removed = Vec::new();
        for (topic, id, state) in partitions(request) {
            self.apply_partition(topic, id, state, &mut removed);
        }
        removed
    }

    fn apply_partition(
        &mut self,
        topic: &str,
        id: TopicId,
        state: &UpdateMetadataPartitionState,
        removed: &mut Vec<TopicPartition>,
    ) {
        if state.leader.0 == LEADER_DURING_DELETE {
            removed.extend(self.remove_partition(topic, state.partition_index));
            return;
        }
        let metadata = self.topic_mut(topic, id);
        metadata.partitions.insert(state.partition_index, partition(state));
    }

    /// The topic's entry, made if it is new, with its id as the controller last told it.
    fn topic_mut(&mut self, name: &str, id: TopicId) -> &mut TopicMetadata {
        let key = match self.topics.get_key_value(name) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(name),
        };
        let entry = self.topics.entry(Arc::clone(&key)).or_insert_with(|| {
            let name = StrBytes::from_string(name.to_owned());
            Arc::new(TopicMetadata { name, id: TopicId::nil(), partitions: BTreeMap::new() })
        });
        let topic = Arc::make_mut(entry);
        if !id.is_nil() && topic.id != id {
            self.names.remove(&topic.id);
            self.names.insert(id, key);
            topic.id = id;
        }
        topic
    }

    fn remove_partition(&mut self, name: &str, partition: i32) -> Option<TopicPartition> {
        let (key, entry) = self.topics.get_key_value(name).map(|(key, _)| Arc::clone(key)).and_then(|key| {
            let entry = self.topics.get_mut(&key)?;
            Some((key, entry))
        })?;
        let topic = Arc::make_mut(entry);
        let was_there = topic.partitions.remove(&partition).is_some();
        if topic.partitions.is_empty() {
            let id = topic.id;
            self.names.remove(&id);
            self.topics.remove(&key);
        }
        was_there.then(|| TopicPartition::new(key, partition))
    }
}

/// The partitions of an UpdateMetadata in any version, each with its topic's name and id.
pub fn partitions(
    request: &UpdateMetadataRequest,
) -> impl Iterator<Item = (&str, TopicId, &UpdateMetadataPartitionState)> {
    let ungrouped = request.ungrouped_partition_states.iter();
    let grouped = request.topic_states.iter().flat_map(|topic| {
        topic.partition_states.iter().map(|state| (topic.topic_name.as_str(), topic.topic_id, state))
    });
    ungrouped.map(|state| (state.topic_name.as_str(), TopicId::nil(), state)).chain(grouped)
}

fn broker(update: &UpdateMetadataBroker) -> BrokerMetadata {
    let mut endpoints: Vec<Endpoint> = update
        .endpoints
        .iter()
        .map(|e| Endpoint {
            // Versions before 3 name no listener: it has the security protocol's name.
            listener: if e.listener.is_empty() { StrBytes::from_static_str("PLAINTEXT") } else { owned(&e.listener) },
            host: owned(&e.host),
            port: e.port,
            security_protocol: e.security_protocol,
        })
        .collect();
    if endpoints.is_empty() && !update.v0_host.is_empty() {
        endpoints.push(Endpoint {
            listener: StrBytes::from_static_str("PLAINTEXT"),
            host: owned(&update.v0_host),
            port: update.v0_port,
            security_protocol: PLAINTEXT,
        });
    }
    BrokerMetadata { id: BrokerId(update.id.0), rack: update.rack.as_ref().map(owned), endpoints }
}

fn partition(state: &UpdateMetadataPartitionState) -> PartitionMetadata {
    let ids = |list: &[kafka_protocol::messages::BrokerId]| list.iter().map(|id| BrokerId(id.0)).collect();
    PartitionMetadata {
        leader: BrokerId(state.leader.0),
        leader_epoch: LeaderEpoch(state.leader_epoch),
        controller_epoch: ControllerEpoch(state.controller_epoch),
        isr: ids(&state.isr),
        partition_epoch: state.zk_version,
        replicas: ids(&state.replicas),
        offline_replicas: ids(&state.offline_replicas),
    }
}

/// A string of its own: one decoded off the wire would keep the whole frame in memory.
fn owned(text: &StrBytes) -> StrBytes {
    StrBytes::from_string(text.as_str().to_owned())
}

/// The cache: the newest snapshot.
#[derive(Debug)]
pub struct MetadataCache {
    current: RwLock<Arc<MetadataSnapshot>>,
    /// Counts the updates, for those who wait for one.
    updates: watch::Sender<u64>,
    /// When it was made: with the broker.
    made: Instant,
}

impl Default for MetadataCache {
    fn default() -> Self {
        Self { current: RwLock::default(), updates: watch::Sender::default(), made: Instant::now() }
    }
}

impl MetadataCache {
    /// A cache that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cluster as it is known now.
    pub fn snapshot(&self) -> Arc<MetadataSnapshot> {
        Arc::clone(&self.current.read())
    }

    /// Takes in an UpdateMetadata request and returns the partitions it removed. The caller has fenced its epochs.
    pub fn update(&self, request: &UpdateMetadataRequest) -> Vec<TopicPartition> {
        // Copied only while a reader holds the old one.
        let removed = Arc::make_mut(&mut self.current.write()).apply(request);
        self.updates.send_modify(|count| *count += 1);
        removed
    }

    /// Tells of every update from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.updates.subscribe()
    }

    /// Waits for the first update, but not beyond `patience` after the cache was made. A client that asks a broker which
    /// just started is so spared an answer without brokers; the original gives that one.
    pub async fn first_update(&self, patience: Duration) {
        let mut updates = self.updates.subscribe();
        let first = updates.wait_for(|count| *count > 0);
        // Too late is as good as updated: what is known is answered.
        let _ = tokio::time::timeout_at(self.made + patience, first).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::BrokerId as WireBroker;
    use kafka_protocol::messages::update_metadata_request::{UpdateMetadataEndpoint, UpdateMetadataTopicState};

    fn request(topic: &'static str, id: u128, partitions: &[(i32, i32)]) -> UpdateMetadataRequest {
        let endpoint = UpdateMetadataEndpoint::default()
            .with_listener(StrBytes::from_static_str("PLAINTEXT"))
            .with_host(StrBytes::from_static_str("localhost"))
            .with_port(9092);
        let states = partitions.iter().map(|&(index, leader)| {
            UpdateMetadataPartitionState::default().with_partition_index(index).with_leader(WireBroker(leader))
        });
        let topic = UpdateMetadataTopicState::default()
            .with_topic_name(StrBytes::from_static_str(topic).into())
            .with_topic_id(TopicId::from_u128(id))
            .with_partition_states(states.collect());
        UpdateMetadataRequest::default()
            .with_controller_id(WireBroker(1))
            .with_live_brokers(vec![
                UpdateMetadataBroker::default().with_id(WireBroker(1)).with_endpoints(vec![endpoint]),
            ])
            .with_topic_states(vec![topic])
    }

    #[test]
    fn topics_come_and_go() {
        let cache = MetadataCache::new();
        assert!(cache.update(&request("a", 7, &[(0, 1), (1, 1)])).is_empty());
        let before = cache.snapshot();
        assert_eq!(before.controller(), Some(BrokerId(1)));
        assert_eq!(before.topic_id("a"), Some(TopicId::from_u128(7)));
        assert_eq!(before.topic_name(TopicId::from_u128(7)).map(|name| &**name), Some("a"));
        assert_eq!(before.endpoint(BrokerId(1), "PLAINTEXT").map(|e| e.port), Some(9092));
        assert!(before.endpoint(BrokerId(1), "SSL").is_none());

        let removed = cache.update(&request("a", 7, &[(0, LEADER_DURING_DELETE), (1, LEADER_DURING_DELETE)]));
        assert_eq!(removed, vec![TopicPartition::new("a", 0), TopicPartition::new("a", 1)]);
        let after = cache.snapshot();
        assert!(after.topic("a").is_none() && after.topic_name(TopicId::from_u128(7)).is_none());
        assert_eq!(before.partition_count("a"), Some(2), "a snapshot in a reader's hands does not change");
    }

    #[tokio::test]
    async fn the_first_update_is_waited_for_but_not_forever() {
        let long = Duration::from_secs(600);
        let cache = MetadataCache::new();
        let telling = async { cache.update(&request("a", 1, &[(0, 1)])) };
        tokio::join!(cache.first_update(long), telling);
        cache.first_update(long).await;

        let (forgotten, short) = (MetadataCache::new(), Duration::from_millis(50));
        forgotten.first_update(short).await;
        assert!(forgotten.made.elapsed() >= short);
        let again = tokio::time::timeout(Duration::ZERO, forgotten.first_update(short)).await;
        assert!(again.is_ok(), "only a broker that just started waits");
    }

    #[test]
    fn a_topic_made_anew_changes_its_id() {
        let cache = MetadataCache::new();
        cache.update(&request("a", 7, &[(0, 1)]));
        cache.update(&request("a", 8, &[(0, 1)]));
        let now = cache.snapshot();
        assert!(now.topic_name(TopicId::from_u128(7)).is_none());
        assert_eq!(now.topic_id("a"), Some(TopicId::from_u128(8)));
    }

    #[test]
    fn removing_what_is_unknown_removes_nothing() {
        let cache = MetadataCache::new();
        assert!(cache.update(&request("a", 7, &[(3, LEADER_DURING_DELETE)])).is_empty());
        assert!(cache.snapshot().topic("a").is_none());
    }
}
