//! Throttles of replication (KIP-73) and of moves between log dirs: how much was served to followers, fetched from leaders
//! and copied between disks, and who has to wait. Which replicas are throttled their topics say, at which rate the
//! brokers' dynamic configs (`ReplicationQuotaManager`).

use std::sync::Arc;

use parking_lot::Mutex;

use super::topic_configs::TopicConfigs;
use crate::base::ids::BrokerId;
use crate::base::quota::Quota;
use crate::config::broker::BrokerConfig;
use crate::config::dynamic::{self, Dynamic};

/// A quota that requests of several threads count on. The lock is held for a few additions only.
#[derive(Debug)]
struct Shared(Mutex<Quota>);

impl Shared {
    fn new(windows: i32, window_seconds: i32) -> Self {
        let windows = usize::try_from(windows).unwrap_or(1);
        Self(Mutex::new(Quota::new(windows, i64::from(window_seconds) * 1000)))
    }

    fn set_rate(&self, dynamic: &Dynamic, name: &str) {
        let rate = dynamic.get(name).filter(|text| dynamic::check(name, text).is_ok());
        self.0.lock().set_bound(rate.and_then(|text| text.trim().parse().ok()));
    }

    fn is_exceeded(&self, now_ms: i64) -> bool {
        self.0.lock().is_exceeded(now_ms)
    }

    fn record(&self, bytes: usize, now_ms: i64) {
        self.0.lock().record(bytes as u64, now_ms);
    }
}

/// The throttles of one broker.
pub struct ReplicationThrottle {
    me: BrokerId,
    configs: Arc<TopicConfigs>,
    leader: Shared,
    follower: Shared,
    log_dirs: Shared,
}

impl ReplicationThrottle {
    /// No rate is set yet. `configs` tells which replicas are throttled.
    pub fn new(me: BrokerId, config: &BrokerConfig, configs: Arc<TopicConfigs>) -> Self {
        let replication =
            || Shared::new(config.replication_quota_window_num, config.replication_quota_window_size_seconds);
        let log_dirs = Shared::new(
            config.alter_log_dirs_replication_quota_window_num,
            config.alter_log_dirs_replication_quota_window_size_seconds,
        );
        Self { me, configs, leader: replication(), follower: replication(), log_dirs }
    }

    /// Takes the rates out of what was set for brokers while they run.
    pub fn set_rates(&self, dynamic: &Dynamic) {
        self.leader.set_rate(dynamic, dynamic::LEADER_RATE);
        self.follower.set_rate(dynamic, dynamic::FOLLOWER_RATE);
        self.log_dirs.set_rate(dynamic, dynamic::LOG_DIRS_RATE);
    }

    /// Whether followers out of sync get nothing of this partition at the moment (`shouldLeaderThrottle`).
    pub fn holds_back_followers(&self, topic: &str, partition: i32, now_ms: i64) -> bool {
        self.leads_throttled(topic, partition) && self.leader.is_exceeded(now_ms)
    }

    /// Notes what a follower was served of a partition.
    pub fn served(&self, topic: &str, partition: i32, bytes: usize, now_ms: i64) {
        if bytes > 0 && self.leads_throttled(topic, partition) {
            self.leader.record(bytes, now_ms);
        }
    }

    fn leads_throttled(&self, topic: &str, partition: i32) -> bool {
        self.configs.get(topic).throttled_leaders.has(partition, self.me)
    }

    /// Whether this broker, not in sync, asks its leader for nothing of this partition at the moment
    /// (`shouldFollowerThrottle`).
    pub fn holds_back_fetch(&self, topic: &str, partition: i32, now_ms: i64) -> bool {
        self.follows_throttled(topic, partition) && self.follower.is_exceeded(now_ms)
    }

    /// Notes what the leader sent of a partition.
    pub fn fetched(&self, topic: &str, partition: i32, bytes: usize, now_ms: i64) {
        if bytes > 0 && self.follows_throttled(topic, partition) {
            self.follower.record(bytes, now_ms);
        }
    }

    fn follows_throttled(&self, topic: &str, partition: i32) -> bool {
        self.configs.get(topic).throttled_followers.has(partition, self.me)
    }

    /// Whether moves between log dirs rest at the moment.
    pub fn holds_back_copies(&self, now_ms: i64) -> bool {
        self.log_dirs.is_exceeded(now_ms)
    }

    /// Notes what was copied between log dirs.
    pub fn copied(&self, bytes: usize, now_ms: i64) {
        self.log_dirs.record(bytes, now_ms);
    }
}

/// Replicas that a topic's config names: `*`, or `partition:broker` pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThrottledReplicas {
    all: bool,
    /// Partition and broker, sorted.
    pairs: Vec<(i32, i32)>,
}

impl ThrottledReplicas {
    /// Reads the items of the config; they were checked when it was set.
    pub fn parse(items: &[String]) -> Self {
        let pair = |item: &String| {
            let (partition, broker) = item.split_once(':')?;
            Some((partition.trim().parse().ok()?, broker.trim().parse().ok()?))
        };
        let mut pairs: Vec<(i32, i32)> = items.iter().filter_map(pair).collect();
        pairs.sort_unstable();
        Self { all: items.iter().any(|item| item.trim() == "*"), pairs }
    }

    /// Whether the replica of `partition` on `broker` is among them.
    pub fn has(&self, partition: i32, broker: BrokerId) -> bool {
        self.all || self.pairs.binary_search(&(partition, broker.get())).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::replica::topic_configs::NoOverrides;

    fn set(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn only_named_replicas_wait_and_only_when_too_much_was_moved() {
        let config = BrokerConfig::default();
        let configs = Arc::new(TopicConfigs::new(config.clone(), Arc::new(NoOverrides)));
        let throttle = ReplicationThrottle::new(BrokerId(1), &config, Arc::clone(&configs));
        configs.set_overrides("t", &set("leader.replication.throttled.replicas", "0:1,1:2,3:1"));
        configs.set_overrides("u", &set("follower.replication.throttled.replicas", "*"));
        let rates = [(dynamic::LEADER_RATE, "1000"), (dynamic::FOLLOWER_RATE, "2000"), (dynamic::LOG_DIRS_RATE, "10")];
        let broker = rates.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        throttle.set_rates(&Dynamic { broker, cluster: BTreeMap::new() });

        throttle.served("t", 1, 1_000_000, 0);
        assert!(!throttle.holds_back_followers("t", 0, 0), "partition 1 is throttled on broker 2, not here");
        throttle.served("t", 0, 3_000, 0);
        assert!(throttle.holds_back_followers("t", 3, 0) && !throttle.holds_back_followers("t", 1, 0));
        assert!(!throttle.holds_back_followers("u", 0, 0) && !throttle.holds_back_followers("t", 3, 3_000));

        throttle.fetched("u", 9, 3_000, 0);
        assert!(throttle.holds_back_fetch("u", 5, 0) && !throttle.holds_back_fetch("t", 0, 0));
        throttle.copied(11, 0);
        assert!(throttle.holds_back_copies(0) && !throttle.holds_back_copies(2_000));

        throttle.set_rates(&Dynamic::default());
        assert!(!throttle.holds_back_followers("t", 0, 0) && !throttle.holds_back_copies(0));
    }
}
