//! Reading for consumers and followers: once at once, and if that is too little, again when enough has come or the time is
//! up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ReplicaManager;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, TopicId};
use crate::base::purgatory::{Event, Watch, Woken};
use crate::log::disk::Disk;
use crate::log::partition_log::ReadUpTo;
use crate::replica::fetch_session::FetchTarget;
use crate::replica::leadership::FollowerState;
use crate::replica::partition::{Partition, PartitionRead, ReadRules};
use crate::replica::selector::{ReplicaSelector, ReplicaView};

/// What holds for all partitions of one fetch.
#[derive(Debug, Clone)]
pub struct FetchParams {
    /// The follower, or -1 for a consumer, -2 for a debugging one.
    pub replica_id: BrokerId,
    /// The life of the follower's broker (KIP-903), or -1.
    pub replica_epoch: BrokerEpoch,
    /// How long to wait for `min_bytes`.
    pub max_wait: Duration,
    /// The least to answer with before the time is up.
    pub min_bytes: usize,
    /// The most to answer with; one batch may pass it.
    pub max_bytes: usize,
    /// Whether not even one batch may pass it (versions before 3).
    pub hard_max_bytes: bool,
    /// Up to where, and from whom.
    pub rules: ReadRules,
    /// A consumer's rack and the listener it came by, from v11 on (KIP-392).
    pub client: Option<(String, Arc<str>)>,
}

impl FetchParams {
    /// Whether a broker asks.
    pub fn is_from_follower(&self) -> bool {
        self.replica_id.get() >= 0
    }
}

/// What a fetch got of one partition.
#[derive(Debug)]
pub struct FetchResult {
    /// The error, if nothing could be read.
    pub error: ErrorCode,
    /// What was read; none with an error.
    pub read: Option<PartitionRead>,
}

impl FetchResult {
    fn bytes(&self) -> usize {
        self.read.as_ref().map_or(0, PartitionRead::bytes)
    }
}

/// What one look at all partitions found.
struct Look {
    results: Vec<FetchResult>,
    bytes: usize,
    /// An error or a diverging epoch: answer at once.
    at_once: bool,
    /// Whether the disk would have to be waited for somewhere.
    cold: bool,
}

type Resolved = Vec<Result<Arc<Partition>, ErrorCode>>;

impl ReplicaManager {
    /// The largest answer to a fetch: the client's wish within `fetch.max.bytes`.
    pub fn bounded_max_bytes(&self, wanted: i32) -> usize {
        usize::try_from(wanted.min(self.fetch_max_bytes)).unwrap_or(0)
    }

    /// Reads `targets` in their order, one result for each. Waits up to `max_wait` while there are fewer than `min_bytes`
    /// and no error (`ReplicaManager.fetchMessages`).
    pub async fn fetch_messages(&self, params: &FetchParams, targets: &[FetchTarget]) -> Vec<FetchResult> {
        let partitions: Resolved = targets.iter().map(|target| self.resolve(target)).collect();
        let look = self.look(params, targets, &partitions, true).await;
        if targets.is_empty() || params.max_wait.is_zero() || look.is_enough(params) {
            return look.results;
        }
        drop(look);
        self.wait_and_read(params, targets, &partitions).await
    }

    /// The partition of `target`, if its topic's id is the one asked for.
    fn resolve(&self, target: &FetchTarget) -> Result<Arc<Partition>, ErrorCode> {
        if target.topic.is_empty() && !target.topic_id.is_nil() {
            return Err(ErrorCode::UnknownTopicId);
        }
        let partition = self.partition(&target.topic, target.partition)?;
        if !target.topic_id.is_nil() && is_other_topic(self.topic_id(&target.topic), target.topic_id) {
            return Err(ErrorCode::InconsistentTopicId);
        }
        Ok(partition)
    }

    async fn wait_and_read(
        &self,
        params: &FetchParams,
        targets: &[FetchTarget],
        partitions: &Resolved,
    ) -> Vec<FetchResult> {
        let deadline = Instant::now() + params.max_wait;
        let interest = match params.rules.up_to {
            ReadUpTo::LogEnd => Event::LOG_END,
            ReadUpTo::HighWatermark | ReadUpTo::LastStableOffset => Event::HIGH_WATERMARK,
        };
        let mut watch = Watch::new(interest, targets.len());
        partitions.iter().flatten().for_each(|partition| watch.add(Arc::clone(partition)));
        loop {
            watch.begin_look();
            let look = self.look(params, targets, partitions, false).await;
            if look.is_enough(params) || self.is_stopping() {
                return look.results;
            }
            watch.expect(i64::try_from(params.min_bytes - look.bytes).unwrap_or(i64::MAX));
            drop(look);
            if watch.wait(deadline).await == Woken::TimedOut {
                return self.look(params, targets, partitions, false).await.results;
            }
        }
    }

    /// Reads every partition once. What is not in the page cache is brought there by a thread that may wait, so that the
    /// other connections of this thread go on. A follower's place is noted by the `first` look at its fetch only: it asked
    /// then, not when it has waited.
    async fn look(&self, params: &FetchParams, targets: &[FetchTarget], partitions: &Resolved, first: bool) -> Look {
        let look = self.look_once(params, targets, partitions, Disk::NoWait, first);
        if !look.cold {
            return look;
        }
        let (rules, max_bytes) = (params.rules, params.max_bytes);
        let found = targets.iter().zip(partitions).filter_map(|(t, p)| Some((t.clone(), p.as_ref().ok()?.clone())));
        let found: Vec<_> = found.collect();
        let warm = move || {
            for (target, partition) in &found {
                // Errors are met again by the look that follows.
                let _ = partition.read_records(target, rules, max_bytes, true, Disk::Wait);
            }
        };
        if let Err(error) = self.apart(warm).await {
            tracing::error!("a read on a thread that may wait failed: {error}");
        }
        self.look_once(params, targets, partitions, Disk::Wait, first)
    }

    /// The first partition with records may pass the limit with one batch, so that a large batch does not stop a consumer
    /// for ever (KIP-74).
    fn look_once(
        &self,
        params: &FetchParams,
        targets: &[FetchTarget],
        partitions: &Resolved,
        disk: Disk,
        first: bool,
    ) -> Look {
        let mut look = Look { results: Vec::with_capacity(targets.len()), bytes: 0, at_once: false, cold: false };
        let mut min_one = !params.hard_max_bytes;
        for (target, partition) in targets.iter().zip(partitions) {
            let left = params.max_bytes.saturating_sub(look.bytes);
            let max_bytes = usize::try_from(target.max_bytes).unwrap_or(0).min(left);
            let read = partition.as_ref().map_err(|error| *error).and_then(|partition| {
                let (max_bytes, min_one) =
                    if self.is_held_back(params, partition) { (0, false) } else { (max_bytes, min_one) };
                if let Some(preferred) = self.preferred_read_replica(params, partition, target) {
                    return partition.redirect(target, preferred).map(Some);
                }
                let Some(mut read) = partition.read_records(target, params.rules, max_bytes, min_one, disk)? else {
                    look.cold = true;
                    return Ok(None);
                };
                if read.log.first_entry_incomplete && !params.hard_max_bytes {
                    // From v3 on a consumer gets on without half a batch.
                    read.log.data = None;
                }
                if first {
                    self.note_follower(params, partition, target, &read)?;
                }
                Ok(Some(read))
            });
            let result = match read {
                Ok(read) => FetchResult { error: ErrorCode::None, read },
                Err(error) => FetchResult { error, read: None },
            };
            look.at_once |= !result.error.is_none() || result.read.as_ref().is_some_and(PartitionRead::must_tell);
            min_one &= result.bytes() == 0;
            look.bytes += result.bytes();
            look.results.push(result);
        }
        look
    }

    /// Whether a follower gets nothing of the partition for now: it is throttled and not in sync.
    fn is_held_back(&self, params: &FetchParams, partition: &Partition) -> bool {
        let tp = &partition.topic_partition;
        params.is_from_follower()
            && self.throttle.holds_back_followers(&tp.topic, tp.partition, self.clock.now_ms())
            && !partition.is_in_sync(params.replica_id)
    }

    /// Counts what a follower is served against the throttle.
    pub fn note_served(&self, params: &FetchParams, targets: &[FetchTarget], results: &[FetchResult]) {
        if params.is_from_follower() {
            let now_ms = self.clock.now_ms();
            for (target, result) in targets.iter().zip(results) {
                self.throttle.served(&target.topic, target.partition, result.bytes(), now_ms);
            }
        }
    }

    /// The follower that a consumer should rather ask (`ReplicaManager.findPreferredReadReplica`): one in sync that has the
    /// offset.
    fn preferred_read_replica(
        &self,
        params: &FetchParams,
        partition: &Partition,
        target: &FetchTarget,
    ) -> Option<BrokerId> {
        let (rack, listener) = params.client.as_ref().filter(|_| self.selector != ReplicaSelector::Leader)?;
        if rack.is_empty() || params.is_from_follower() || !partition.is_leader() {
            return None;
        }
        let (snapshot, leadership, now_ms) = (self.metadata.snapshot(), partition.leadership(), self.clock.now_ms());
        let view = |broker: BrokerId, log_end_offset, lag_ms| {
            let known = snapshot.broker(broker).filter(|known| known.endpoint(listener).is_some())?;
            Some(ReplicaView { broker, rack: known.rack.as_ref().map(ToString::to_string), log_end_offset, lag_ms })
        };
        let leader = view(self.me, partition.log()?.log_end_offset(), 0)?;
        let has = |f: &&FollowerState| {
            leadership.isr.contains(&f.broker) && (f.log_start_offset..=f.log_end_offset).contains(&target.fetch_offset)
        };
        let followers = leadership.followers.iter().filter(has);
        let views: Vec<ReplicaView> =
            followers.filter_map(|f| view(f.broker, f.log_end_offset, now_ms - f.last_caught_up_ms)).collect();
        self.selector.select(rack, &leader, &views)
    }

    /// A follower's fetch tells the leader how far its log is.
    fn note_follower(
        &self,
        params: &FetchParams,
        partition: &Partition,
        target: &FetchTarget,
        read: &PartitionRead,
    ) -> Result<(), ErrorCode> {
        if !params.is_from_follower() || read.diverging.is_some() {
            return Ok(());
        }
        let (follower, now_ms) = ((params.replica_id, params.replica_epoch), self.clock.now_ms());
        if let Some(proposal) = partition.update_follower_fetch_state(follower, self.broker_epoch(), target, now_ms)? {
            self.submit(proposal);
        }
        Ok(())
    }
}

impl Look {
    fn is_enough(&self, params: &FetchParams) -> bool {
        self.at_once || self.bytes >= params.min_bytes
    }
}

/// A topic without an id here matches any.
fn is_other_topic(ours: TopicId, asked: TopicId) -> bool {
    !ours.is_nil() && ours != asked
}
