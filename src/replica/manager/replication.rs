//! What keeps replicas together: the fetchers of the partitions that follow, and the ISR changes of those that lead.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::info;

use super::ReplicaManager;
use crate::base::ids::{BrokerId, TopicId, TopicPartition};
use crate::base::purgatory::{Event, Watched};
use crate::replica::alter_partition::{self, AlterPartitionSender, Item};
use crate::replica::broker_epochs::BrokerEpochs;
use crate::replica::fetcher::leader::LeaderConnector;
use crate::replica::fetcher::state::NewPartition;
use crate::replica::fetcher::{FetcherManager, Follow};
use crate::replica::isr::{Attempts, IsrProposal, Outcome};
use crate::replica::partition::Partition;

impl ReplicaManager {
    /// Follows leaders from now on, by way of `connector`; the fetchers run on `runtime`, where an append may hold a
    /// thread up. The first call counts.
    pub fn start_fetchers(&self, connector: Arc<dyn LeaderConnector>, runtime: Handle) {
        let epoch = Arc::clone(&self.broker_epoch);
        let _ = self.fetchers.set(FetcherManager::new(self.me, &self.configs.broker(), epoch, connector, runtime));
    }

    /// Has `num.replica.fetchers` fetchers for each leader from now on; partitions go over to their new ones.
    pub async fn resize_fetchers(&self, per_leader: i32) {
        let _no_control_request = self.control.lock().await;
        let Some(fetchers) = self.fetchers.get() else { return };
        let moved = fetchers.resize(per_leader);
        info!("{per_leader} fetchers for each leader from now on: {} partitions change theirs", moved.len());
        let follow = |tp: &TopicPartition| {
            let partition = self.hosted(&tp.topic, tp.partition)?;
            self.follow(&partition, self.topic_id(&tp.topic))
        };
        fetchers.add(moved.iter().filter_map(follow).collect());
        fetchers.stop_idle();
    }

    /// Sends ISR changes through `sender` from now on, and looks for followers that lag.
    pub fn start_isr_changes(self: &Arc<Self>, sender: Arc<dyn AlterPartitionSender>, runtime: &Handle) {
        let (queue, epoch) = (Arc::clone(&self.isr_changes), Arc::clone(&self.broker_epoch));
        let manager = Arc::downgrade(self);
        let answered = move |(proposal, answer, attempts): alter_partition::Answered| {
            let Some(manager) = manager.upgrade() else { return false };
            let tp = &proposal.topic_partition;
            let Some(partition) = manager.hosted(&tp.topic, tp.partition) else { return false };
            partition.isr_answered(&proposal, answer, attempts, manager.clock.now_ms()) == Outcome::Retry
        };
        let broker_epoch = move || super::load_epoch(&epoch);
        let sending = alter_partition::run(queue, self.me, broker_epoch, sender, answered);
        let manager = Arc::downgrade(self);
        let period = Duration::from_millis(u64::try_from(self.context.max_lag_ms / 2).unwrap_or(0).max(1));
        let shrinking = async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(manager) = manager.upgrade() else { return };
                manager.maybe_shrink_isrs();
            }
        };
        self.replication_tasks.lock().extend([runtime.spawn(sending), runtime.spawn(shrinking)]);
    }

    /// Proposes smaller ISRs where followers lag.
    pub fn maybe_shrink_isrs(&self) {
        let (epoch, now_ms) = (self.broker_epoch(), self.clock.now_ms());
        for partition in self.sorted_partitions() {
            if let Some(proposal) = partition.maybe_shrink_isr(epoch, now_ms) {
                self.submit(proposal);
            }
        }
    }

    /// Ends fetchers and ISR changes: once this returns no log is written to but by producers.
    pub fn stop_replication(&self) {
        if let Some(fetchers) = self.fetchers.get() {
            fetchers.shutdown();
        }
        self.replication_tasks.lock().drain(..).for_each(|task| task.abort());
    }

    /// Which life each broker is in; whoever watches the registrations writes it.
    pub fn broker_epochs(&self) -> &Arc<BrokerEpochs> {
        &self.broker_epochs
    }

    /// Fetchers at work.
    pub fn fetcher_count(&self) -> usize {
        self.fetchers.get().map_or(0, FetcherManager::len)
    }

    pub(super) fn submit(&self, proposal: IsrProposal) {
        let topic_id = self.topic_id(&proposal.topic_partition.topic);
        self.isr_changes.submit(Item { topic_id, proposal, attempts: Attempts::Answered });
    }

    /// What a fetcher is to be told of a partition that follows; `None` while nobody leads.
    pub(super) fn follow(&self, partition: &Arc<Partition>, topic_id: TopicId) -> Option<Follow> {
        let leadership = partition.leadership();
        let leader: BrokerId = leadership.leader?;
        Some(Follow {
            topic_partition: partition.topic_partition.clone(),
            leader,
            new: NewPartition {
                topic_id,
                leader_epoch: leadership.leader_epoch,
                log: Arc::clone(partition) as Arc<dyn crate::replica::fetcher::follower_log::FollowerLog>,
            },
        })
    }

    /// All leaders look whether the high watermark may rise, and whether all replicas that live have deleted what was to be
    /// deleted: brokers came or went.
    pub(super) fn live_brokers_changed(&self) {
        let now_ms = self.clock.now_ms();
        for partition in self.sorted_partitions() {
            partition.maybe_advance_high_watermark(now_ms);
            partition.wait_list().wake(Event::LOG_START, 1);
        }
    }
}
