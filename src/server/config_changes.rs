//! Configurations out of ZooKeeper: all of them at the start, a topic's when a partition of it comes, and those of topics
//! and brokers that `/config/changes` tells of (`ZkConfigManager`, `ZkNodeChangeNotificationListener`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::broker_configs::BrokerConfigs;
use super::live_config::LiveConfig;
use crate::replica::manager::ReplicaManager;
use crate::replica::topic_configs::{Overrides, OverridesFuture, TopicConfigSource};
use crate::zk::backend::WatchSink;
use crate::zk::client::{SessionState, ZkClient};
use crate::zk::error::ZkError;
use crate::zk::znodes::configs::{self, EntityType};

const TOPICS_PATH: &str = "/config/topics";
/// A notification that this broker saw so long ago is removed, as every broker does
/// (`ZkNodeChangeNotificationListener`).
const EXPIRATION: Duration = Duration::from_secs(15 * 60);

/// Reads a topic's overrides when they are asked for.
pub struct ZkTopicConfigs {
    zk: ZkClient,
}

impl ZkTopicConfigs {
    /// Reads through `zk`.
    pub fn new(zk: ZkClient) -> Self {
        Self { zk }
    }
}

impl TopicConfigSource for ZkTopicConfigs {
    fn overrides(&self, topic: &str) -> OverridesFuture<'_> {
        let path = configs::path(EntityType::Topics, topic);
        Box::pin(async move { read(&self.zk, &path).await.map_err(|error| error.to_string()) })
    }
}

async fn read(zk: &ZkClient, path: &str) -> Result<Overrides, ZkError> {
    match zk.find(path).await? {
        Some(node) => configs::decode(path, &node.data),
        None => Ok(BTreeMap::new()),
    }
}

fn path_of(notification: &str) -> String {
    format!("{}/{notification}", configs::CHANGES_PATH)
}

/// The notifications that were acted on.
struct Seen {
    /// The number of the newest.
    last: i64,
    /// When which was seen, oldest first; those that are still there.
    at: VecDeque<(Instant, String)>,
}

/// Follows the changes.
pub struct ConfigChanges {
    zk: ZkClient,
    manager: Arc<ReplicaManager>,
    brokers: BrokerConfigs,
}

impl ConfigChanges {
    /// Reads through `zk`, tells `manager` of topics and `brokers` of brokers.
    pub fn new(zk: ZkClient, manager: Arc<ReplicaManager>, brokers: BrokerConfigs) -> Self {
        Self { zk, manager, brokers }
    }

    /// Changes of brokers' configs reach `live` too from now on.
    pub fn reach(&mut self, live: LiveConfig) {
        self.brokers.reach(live);
    }

    /// Reads what is set for brokers, and the overrides of all topics that have any.
    pub async fn load_all(&self) -> Result<(), ZkError> {
        self.brokers.load().await?;
        let topics = match self.zk.children(TOPICS_PATH).await {
            Ok(topics) => topics,
            Err(ZkError::NoNode) => return Ok(()),
            Err(error) => return Err(error),
        };
        let paths: Vec<String> = topics.iter().map(|topic| configs::path(EntityType::Topics, topic)).collect();
        let nodes = self.zk.get_many(&paths).await?;
        for ((topic, path), node) in topics.iter().zip(&paths).zip(nodes) {
            let Some(node) = node else { continue };
            match configs::decode(path, &node.data) {
                Ok(overrides) => self.manager.update_topic_config(topic, &overrides),
                Err(error) => warn!("the configuration of topic {topic} cannot be read: {error}"),
            }
        }
        Ok(())
    }

    /// Acts on notifications until it is aborted. After a new session everything is read anew, as changes may have gone
    /// by unseen.
    pub async fn run(self) {
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        let sink: WatchSink = Arc::new(move |_| notify.notify_one());
        let mut state = self.zk.state();
        let mut seen = Seen { last: -1, at: VecDeque::new() };
        let mut generation = 0;
        loop {
            let now = match *state.borrow_and_update() {
                SessionState::Open { generation, .. } => Some(generation),
                SessionState::Expired { .. } => None,
                SessionState::Closed => return,
            };
            if let Some(now) = now {
                let fresh = now != generation;
                match self.catch_up(&sink, fresh, &mut seen).await {
                    Ok(()) => generation = now,
                    Err(error) => {
                        warn!("the changes of configurations cannot be read: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                }
            }
            tokio::select! {
                () = changed.notified() => {}
                alive = state.changed() => if alive.is_err() { return },
            }
        }
    }

    /// Watches again, then acts on the notifications that were not seen yet.
    async fn catch_up(&self, sink: &WatchSink, fresh: bool, seen: &mut Seen) -> Result<(), ZkError> {
        let names = match self.zk.children_and_watch(configs::CHANGES_PATH, sink).await {
            Ok(names) => names,
            Err(ZkError::NoNode) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut numbers: Vec<(i64, String)> =
            names.into_iter().filter_map(|name| Some((configs::change_number(&name)?, name))).collect();
        numbers.sort_unstable();
        numbers.retain(|(number, _)| *number > seen.last);
        if fresh {
            self.load_all().await?;
        } else {
            for (_, name) in &numbers {
                self.apply(&path_of(name)).await?;
            }
        }
        for (number, name) in numbers {
            seen.last = number;
            seen.at.push_back((Instant::now(), name));
        }
        self.purge(seen).await;
        Ok(())
    }

    /// Removes what every broker has had the time to see. Another broker may be faster, and one that fails is tried by
    /// the others.
    async fn purge(&self, seen: &mut Seen) {
        while let Some((at, name)) = seen.at.front() {
            if at.elapsed() < EXPIRATION {
                return;
            }
            let path = path_of(name);
            seen.at.pop_front();
            match self.zk.delete(&path, None).await {
                Ok(()) | Err(ZkError::NoNode) => {}
                Err(error) => debug!("{path} could not be removed: {error}"),
            }
        }
    }

    async fn apply(&self, path: &str) -> Result<(), ZkError> {
        let Some(node) = self.zk.find(path).await? else { return Ok(()) };
        let entity = match configs::decode_change(&node.data) {
            Ok(entity) => entity,
            Err(error) => {
                warn!("a notification of a changed configuration cannot be read: {error}");
                return Ok(());
            }
        };
        if let Some(topic) = entity.strip_prefix("topics/") {
            let overrides = read(&self.zk, &configs::path(EntityType::Topics, topic)).await?;
            info!("the configuration of topic {topic} is now {overrides:?}");
            self.manager.update_topic_config(topic, &overrides);
        } else if entity.strip_prefix("brokers/").is_some_and(|name| self.brokers.concerns(name)) {
            self.brokers.load().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::ids::BrokerId;
    use crate::config::broker::BrokerConfig;
    use crate::log::manager::{LogManager, ManagerOptions};
    use crate::network::limits::{Admission, ConnectionLimits, ConnectionQuotas};
    use crate::zk::backend::CreateMode;
    use crate::zk::memory::MemoryZk;

    fn manager(dir: &std::path::Path, zk: &ZkClient) -> Arc<ReplicaManager> {
        let config = BrokerConfig::default();
        let logs = Arc::new(LogManager::open(ManagerOptions::new([dir])).expect("a log dir"));
        let source = Arc::new(ZkTopicConfigs::new(zk.clone()));
        Arc::new(ReplicaManager::new(BrokerId(0), &config, Arc::new(SystemClock), logs, source))
    }

    async fn set(zk: &ZkClient, topic: &str, segment_bytes: i32) {
        let overrides = BTreeMap::from([("segment.bytes".to_owned(), segment_bytes.to_string())]);
        let path = configs::path(EntityType::Topics, topic);
        if zk.create_recursive(&path, &configs::encode(&overrides)).await.is_err() {
            zk.set(&path, &configs::encode(&overrides), None).await.expect("set");
        }
    }

    #[tokio::test]
    async fn notifications_change_what_topics_act_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let zk = ZkClient::connect(Arc::new(MemoryZk::new()), Duration::from_secs(5)).await.expect("a session");
        zk.ensure_path(configs::CHANGES_PATH).await.expect("made");
        set(&zk, "a", 1_000_000).await;
        let manager = manager(dir.path(), &zk);
        let connections = ConnectionQuotas::new(ConnectionLimits::default());
        let brokers = BrokerConfigs::new(zk.clone(), BrokerId(0), Arc::clone(&manager), connections.clone());
        let changes = ConfigChanges::new(zk.clone(), Arc::clone(&manager), brokers);
        changes.load_all().await.expect("read");
        let segment_bytes = |topic: &str| manager.configs().get(topic).log.segment_bytes;
        assert_eq!((segment_bytes("a"), segment_bytes("b")), (1_000_000, 1 << 30));

        let running = tokio::spawn(changes.run());
        set(&zk, "a", 2_000_000).await;
        set(&zk, "b", 3_000_000).await;
        for topic in ["a", "b"] {
            let change = configs::encode_change(&format!("topics/{topic}"));
            zk.create(&configs::change_path_prefix(), &change, CreateMode::PersistentSequential).await.expect("told");
        }
        let seen = async {
            while (segment_bytes("a"), segment_bytes("b")) != (2_000_000, 3_000_000) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("the changes are seen");

        let own: &[_] = &[
            ("listener.name.plaintext.max.connections", "0"),
            ("max.connection.creation.rate", "1"),
            ("producer.id.expiration.ms", "7"),
        ];
        for (entity, values) in [("<default>", &[("log.segment.bytes", "4000000")][..]), ("0", own)] {
            let set: BTreeMap<_, _> =
                values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            zk.create_recursive(&configs::path(EntityType::Brokers, entity), &configs::encode(&set))
                .await
                .expect("set");
            let change = configs::encode_change(&format!("brokers/{entity}"));
            zk.create(&configs::change_path_prefix(), &change, CreateMode::PersistentSequential).await.expect("told");
        }
        let listener: Arc<str> = Arc::from("PLAINTEXT");
        let is_full = || matches!(connections.admit(&listener, [127, 0, 0, 1].into()), Admission::Full);
        assert_eq!(connections.creation_delay(&listener, std::time::Instant::now()), Duration::ZERO);
        let seen = async {
            while segment_bytes("c") != 4_000_000
                || !is_full()
                || connections.creation_delay(&listener, std::time::Instant::now()).is_zero()
                || manager.log_manager().producer_expiration_ms() != 7
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("brokers' configs are seen");
        assert_eq!(segment_bytes("a"), 2_000_000, "a topic's own value goes first");
        running.abort();
    }
}
