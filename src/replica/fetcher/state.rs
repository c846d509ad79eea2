//! What one fetcher does next, and what an answer changes: the heart of `AbstractFetcherThread` without a thread. Time is
//! passed in; logs are changed through [`FollowerLog`], each change under the leader epoch of its partition.
//!
//! ```text
//!                 records here have epochs ─────────────┐
//!   add ──┤                                             ├──> Fetching ──(offset out of range)──> Locating
//!                 none: cut at the high watermark ──────┘       │  ▲                                │
//!                 (before 2.7-IV1: ask for the epoch's end)     └──┘ diverging epoch: cut   <───────┘
//! ```
//!
//! An error delays its partition, longer each time up to `replica.fetch.backoff.ms`; one that only a new leader epoch can
//! end removes it. Invariant: a partition that fetches has its log end as fetch offset.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::follower_log::{At, FollowerLog, FromLeader, Position, Refusal};
use super::session::Wanted;
use super::truncation::truncation;
use super::wire::Fetched;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, TopicId, TopicPartition};

/// The first delay after an error.
const FIRST_DELAY_MS: i64 = 20;

/// How long a throttled partition rests before it is looked at again.
const THROTTLE_REST_MS: i64 = 100;

/// What a partition waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Records.
    Fetching,
    /// The end of its last epoch in the leader's log.
    Truncating,
    /// Where the leader's log starts and ends.
    Locating,
}

/// One partition as a fetcher has it.
struct Followed {
    topic_id: TopicId,
    leader_epoch: LeaderEpoch,
    log: Arc<dyn FollowerLog>,
    phase: Phase,
    fetch_offset: Offset,
    last_fetched_epoch: Option<LeaderEpoch>,
    delayed_until: i64,
    failures: u32,
    /// Whether it had all that was committed when the leader last answered (`PartitionFetchState.isReplicaInSync`).
    caught_up: bool,
}

/// A partition to follow.
#[derive(Clone)]
pub struct NewPartition {
    /// The topic's id; nil if it has none.
    pub topic_id: TopicId,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Its log here.
    pub log: Arc<dyn FollowerLog>,
}

/// A question to the leader about one partition, with the leader epoch it is asked under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// For [`Step::AskEpochs`] the last epoch here.
    pub last_epoch: LeaderEpoch,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until partitions come.
    Idle,
    /// Nothing, until that moment or until partitions come.
    Wait(i64),
    /// Ask where epochs end.
    AskEpochs(Vec<Question>),
    /// Ask where logs start and end.
    AskOffsets(Vec<Question>),
    /// Fetch these.
    Fetch(BTreeMap<TopicPartition, Wanted>),
}

/// The keys a fetcher acts on.
#[derive(Debug, Clone, Copy)]
pub struct StateConfig {
    /// `replica.fetch.max.bytes`.
    pub partition_max_bytes: i32,
    /// `replica.fetch.backoff.ms`.
    pub max_delay_ms: i64,
    /// Whether the leader tells of diverging epochs in a Fetch answer.
    pub truncates_on_fetch: bool,
}

/// All partitions of one fetcher.
pub struct FetcherState {
    config: StateConfig,
    partitions: BTreeMap<TopicPartition, Followed>,
}

impl FetcherState {
    /// A fetcher without partitions.
    pub fn new(config: StateConfig) -> Self {
        Self { config, partitions: BTreeMap::new() }
    }

    /// How many partitions it has.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Where a partition is.
    pub fn phase(&self, tp: &TopicPartition) -> Option<(Phase, Offset)> {
        self.partitions.get(tp).map(|followed| (followed.phase, followed.fetch_offset))
    }

    /// Follows a partition from now on; does nothing if it does so in that epoch already
    /// (`AbstractFetcherThread.partitionFetchState`). Cuts a log without epochs at its high watermark at once.
    pub fn add(&mut self, tp: &TopicPartition, new: NewPartition) {
        if self.partitions.get(tp).is_some_and(|known| known.leader_epoch == new.leader_epoch) {
            return;
        }
        let (fetch_offset, last_fetched_epoch, phase) = match self.begin(&new) {
            Ok(begin) => begin,
            Err(refusal) => {
                refused(tp, &refusal);
                self.partitions.remove(tp);
                return;
            }
        };
        let NewPartition { topic_id, leader_epoch, log } = new;
        let followed = Followed {
            topic_id,
            leader_epoch,
            log,
            phase,
            fetch_offset,
            last_fetched_epoch,
            delayed_until: i64::MIN,
            failures: 0,
            caught_up: false,
        };
        self.partitions.insert(tp.clone(), followed);
    }

    fn begin(&self, new: &NewPartition) -> Result<(Offset, Option<LeaderEpoch>, Phase), Refusal> {
        let at = new.log.position()?;
        match at.latest_epoch {
            Some(_) if self.config.truncates_on_fetch => Ok((at.log_end, at.latest_epoch, Phase::Fetching)),
            Some(_) => Ok((at.log_end, at.latest_epoch, Phase::Truncating)),
            None => {
                new.log.truncate_to(new.leader_epoch, at.high_watermark)?;
                let at = new.log.position()?;
                Ok((at.log_end, at.latest_epoch, Phase::Fetching))
            }
        }
    }

    /// Leaves a partition alone; whether it was there. Once this returns nothing of an answer under way reaches its log.
    pub fn remove(&mut self, tp: &TopicPartition) -> bool {
        self.partitions.remove(tp).is_some()
    }

    /// Leaves all partitions alone.
    pub fn clear(&mut self) {
        self.partitions.clear();
    }

    /// What to do at `now_ms`.
    pub fn step(&mut self, now_ms: i64) -> Step {
        let ready = |phase: Phase| {
            let list = self.partitions.iter().filter(move |(_, p)| p.phase == phase && p.delayed_until <= now_ms);
            list.map(|(tp, p)| Question {
                topic_partition: tp.clone(),
                leader_epoch: p.leader_epoch,
                last_epoch: p.last_fetched_epoch.unwrap_or(LeaderEpoch::NONE),
            })
        };
        let epochs: Vec<Question> = ready(Phase::Truncating).collect();
        if !epochs.is_empty() {
            return Step::AskEpochs(epochs);
        }
        let offsets: Vec<Question> = ready(Phase::Locating).collect();
        if !offsets.is_empty() {
            return Step::AskOffsets(offsets);
        }
        let wanted = self.wanted(now_ms);
        if !wanted.is_empty() {
            return Step::Fetch(wanted);
        }
        self.partitions.values().map(|p| p.delayed_until).min().map_or(Step::Idle, Step::Wait)
    }

    fn wanted(&mut self, now_ms: i64) -> BTreeMap<TopicPartition, Wanted> {
        let max_bytes = self.config.partition_max_bytes;
        let mut gone = Vec::new();
        let mut wanted = BTreeMap::new();
        let ready = |p: &Followed| p.phase == Phase::Fetching && p.delayed_until <= now_ms;
        for (tp, p) in self.partitions.iter_mut().filter(|(_, p)| ready(p)) {
            if !p.caught_up && p.log.holds_back() {
                p.delayed_until = now_ms + THROTTLE_REST_MS;
                continue;
            }
            let log_start_offset = match p.log.position() {
                Ok(at) => at.log_start,
                Err(refusal) => {
                    refused(tp, &refusal);
                    gone.push(tp.clone());
                    continue;
                }
            };
            let (fetch_offset, last_fetched_epoch) = (p.fetch_offset, p.last_fetched_epoch);
            let (topic_id, leader_epoch) = (p.topic_id, p.leader_epoch);
            wanted.insert(
                tp.clone(),
                Wanted { topic_id, fetch_offset, log_start_offset, max_bytes, leader_epoch, last_fetched_epoch },
            );
        }
        gone.iter().for_each(|tp| drop(self.partitions.remove(tp)));
        wanted
    }

    /// Delays what was asked for, after a request that failed as a whole.
    pub fn request_failed<'a>(&mut self, asked: impl IntoIterator<Item = &'a TopicPartition>, now_ms: i64) {
        asked.into_iter().for_each(|tp| self.delay(tp, now_ms));
    }

    /// Takes in one partition of a Fetch answer to `asked` (`AbstractFetcherThread.processFetchRequest`).
    pub fn fetched(&mut self, tp: &TopicPartition, asked: &Wanted, answer: Fetched, now_ms: i64) {
        let Some(p) = self.partitions.get_mut(tp) else { return };
        // Its epoch or place may have changed while the answer was under way.
        if p.leader_epoch != asked.leader_epoch
            || p.fetch_offset != asked.fetch_offset
            || p.phase != Phase::Fetching
            || p.delayed_until > now_ms
        {
            return;
        }
        match answer.error {
            ErrorCode::None => match answer.diverging {
                Some((epoch, end)) => self.cut(tp, epoch, end),
                None => self.append(tp, asked.fetch_offset, answer, now_ms),
            },
            ErrorCode::OffsetOutOfRange => {
                debug!("{tp}: offset {} is out of the leader's range", asked.fetch_offset);
                p.phase = Phase::Locating;
            }
            error => self.failed(tp, error, now_ms),
        }
    }

    fn append(&mut self, tp: &TopicPartition, fetch_offset: Offset, answer: Fetched, now_ms: i64) {
        let Some(p) = self.partitions.get_mut(tp) else { return };
        let data = FromLeader {
            fetch_offset,
            records: answer.records,
            high_watermark: answer.high_watermark,
            log_start: answer.log_start_offset,
        };
        match p.log.append(p.leader_epoch, data) {
            Ok(at) => {
                p.stands_at(at);
                p.caught_up = answer.high_watermark <= at.log_end;
            }
            Err(Refusal::Corrupt(why)) => {
                error!("{tp}: what came for offset {fetch_offset} is damaged and is fetched again: {why}");
                self.delay(tp, now_ms);
            }
            Err(refusal) => self.give_up(tp, &refusal),
        }
    }

    /// Cuts a log where the leader says the two part, `epoch` ending at `end` there.
    fn cut(&mut self, tp: &TopicPartition, epoch: LeaderEpoch, end: Offset) {
        let Some(p) = self.partitions.get_mut(tp) else { return };
        let cut = |p: &Followed| {
            let before = p.log.position()?;
            let to = truncation(&At(&*p.log, before.log_end), epoch, end, p.fetch_offset);
            if to.offset < before.high_watermark {
                warn!("{tp}: cuts its log at {}, below its high watermark {}", to.offset, before.high_watermark);
            }
            p.log.truncate_to(p.leader_epoch, to.offset)?;
            Ok((to, p.log.position()?))
        };
        match cut(p) {
            Ok((to, at)) => {
                p.stands_at(at);
                if !to.completed && !self.config.truncates_on_fetch {
                    p.phase = Phase::Truncating;
                }
            }
            Err(refusal) => self.give_up(tp, &refusal),
        }
    }

    /// Takes in where an epoch ends in the leader's log (`maybeTruncateToEpochEndOffsets`).
    pub fn epoch_ends(&mut self, asked: &Question, answer: Result<(LeaderEpoch, Offset), ErrorCode>, now_ms: i64) {
        let tp = &asked.topic_partition;
        if !self.is_still(asked, Phase::Truncating) {
            return;
        }
        match answer {
            Ok((epoch, end)) => self.cut(tp, epoch, end),
            Err(error) => self.failed(tp, error, now_ms),
        }
    }

    /// Takes in where the leader's log starts and ends (`fetchOffsetAndTruncate`): a leader that ends below us was
    /// elected unclean, and what it has not goes; one that starts above our end has forgotten what we miss.
    pub fn located(&mut self, asked: &Question, answer: Result<(Offset, Offset), ErrorCode>, now_ms: i64) {
        let tp = &asked.topic_partition;
        if !self.is_still(asked, Phase::Locating) {
            return;
        }
        let (start, end) = match answer {
            Ok(found) => found,
            Err(error) => return self.failed(tp, error, now_ms),
        };
        let Some(p) = self.partitions.get_mut(tp) else { return };
        match p.fit_between(tp, start, end) {
            Ok(at) => p.stands_at(at),
            Err(refusal) => self.give_up(tp, &refusal),
        }
    }

    fn is_still(&self, asked: &Question, phase: Phase) -> bool {
        let now = self.partitions.get(&asked.topic_partition);
        now.is_some_and(|p| p.leader_epoch == asked.leader_epoch && p.phase == phase)
    }

    /// An error the leader gave for one partition.
    fn failed(&mut self, tp: &TopicPartition, error: ErrorCode, now_ms: i64) {
        match error {
            // Ours is older: there is a new leader, of which the controller will tell.
            ErrorCode::FencedLeaderEpoch => {
                info!("{tp}: the leader is in a newer epoch; waits for the controller");
                self.partitions.remove(tp);
            }
            ErrorCode::UnknownLeaderEpoch
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId => {
                debug!("{tp}: the leader is not ready: {}", error.message());
                self.delay(tp, now_ms);
            }
            error => {
                warn!("{tp}: the leader answers: {}", error.message());
                self.delay(tp, now_ms);
            }
        }
    }

    fn give_up(&mut self, tp: &TopicPartition, refusal: &Refusal) {
        refused(tp, refusal);
        self.partitions.remove(tp);
    }

    fn delay(&mut self, tp: &TopicPartition, now_ms: i64) {
        let max = self.config.max_delay_ms;
        if let Some(p) = self.partitions.get_mut(tp) {
            let delay = FIRST_DELAY_MS.checked_shl(p.failures.min(16)).unwrap_or(max).min(max);
            p.failures = p.failures.saturating_add(1);
            p.delayed_until = now_ms.saturating_add(delay);
        }
    }
}

impl Followed {
    fn stands_at(&mut self, at: Position) {
        self.phase = Phase::Fetching;
        self.fetch_offset = at.log_end;
        self.last_fetched_epoch = at.latest_epoch;
        self.failures = 0;
        self.delayed_until = i64::MIN;
    }

    fn fit_between(&self, tp: &TopicPartition, start: Offset, end: Offset) -> Result<Position, Refusal> {
        let ours = self.log.position()?;
        if end < ours.log_end {
            warn!("{tp}: ends at {}, but its leader at {end}: what is above goes", ours.log_end);
            self.log.truncate_to(self.leader_epoch, end)?;
        } else if start > ours.log_end {
            warn!("{tp}: ends at {}, but its leader starts at {start}: begins anew there", ours.log_end);
            self.log.truncate_fully_and_start_at(self.leader_epoch, start)?;
        }
        self.log.position()
    }
}

fn refused(tp: &TopicPartition, refusal: &Refusal) {
    match refusal {
        Refusal::Fenced => debug!("{tp}: is not followed in that epoch any more"),
        Refusal::Corrupt(why) => error!("{tp}: is not followed any more: {why}"),
        Refusal::Failed(code, why) => error!("{tp}: is not followed any more: {why} ({})", code.message()),
    }
}

#[cfg(test)]
mod tests;
