//! Proposals of ISRs on their way to the controller (`AlterPartitionManager`): all that wait go into one request, one
//! request is under way at a time. Knows the wire form of each version; the way to the controller is a trait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use kafka_protocol::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use kafka_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse, BrokerId as WireBroker, TopicName};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use super::isr::{Attempts, IsrProposal, IsrState};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, LeaderEpoch, TopicId, TopicPartition};

/// How long to wait after a request that failed (`DefaultAlterPartitionManager`: 50 ms), and after one in which a member was
/// refused: its next fetch makes for the next proposal.
const RETRY_BACKOFF: Duration = Duration::from_millis(50);
/// The first version that names topics by id.
const FIRST_BY_ID: i16 = 2;
/// The first version with the broker epochs of the ISR (KIP-903).
const FIRST_WITH_EPOCHS: i16 = 3;

/// Makes the request in a version.
pub type BuildRequest<'a> = &'a (dyn Fn(i16) -> AlterPartitionRequest + Send + Sync);

/// The way to the controller.
pub trait AlterPartitionSender: Send + Sync {
    /// Sends the request that `build` makes for the version both sides know, `max_version` at most; answers with that
    /// version. An error leaves it open whether the controller got the request, as does building it more than once for
    /// all attempts but the last.
    fn alter_partition<'a>(
        &'a self,
        max_version: i16,
        build: BuildRequest<'a>,
    ) -> BoxFuture<'a, Result<(i16, AlterPartitionResponse), String>>;
}

/// A proposal with the id of its topic, nil if it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The topic's id.
    pub topic_id: TopicId,
    /// What is proposed.
    pub proposal: IsrProposal,
    /// What became of the times it was sent before.
    pub attempts: Attempts,
}

/// What a round came to, for one partition.
pub type Answered = (IsrProposal, Result<IsrState, ErrorCode>, Attempts);

/// Proposals that wait: one for each partition.
#[derive(Debug, Default)]
pub struct AlterPartitionQueue {
    waiting: Mutex<BTreeMap<TopicPartition, Item>>, // locked for a look only
    arrived: Notify,
}

impl AlterPartitionQueue {
    /// Queues a proposal. One that waits for the same partition is of an older state, and goes.
    pub fn submit(&self, item: Item) {
        self.waiting.lock().insert(item.proposal.topic_partition.clone(), item);
        self.arrived.notify_one();
    }

    /// Queues a proposal again after an error, unless a newer one came meanwhile.
    fn retry(&self, item: Item) {
        self.waiting.lock().entry(item.proposal.topic_partition.clone()).or_insert(item);
        self.arrived.notify_one();
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all that wait, once there are some.
    async fn next(&self) -> Vec<Item> {
        loop {
            let items = std::mem::take(&mut *self.waiting.lock());
            if !items.is_empty() {
                return items.into_values().collect();
            }
            self.arrived.notified().await;
        }
    }
}

/// Sends what is queued, for ever: `answered` takes an answer and tells whether the proposal is to be sent again.
pub async fn run(
    queue: Arc<AlterPartitionQueue>,
    me: BrokerId,
    broker_epoch: impl Fn() -> BrokerEpoch + Send + Sync,
    sender: Arc<dyn AlterPartitionSender>,
    answered: impl Fn(Answered) -> bool + Send + Sync,
) {
    loop {
        let mut items = queue.next().await;
        let max_version = if items.iter().any(|item| item.topic_id.is_nil()) { FIRST_BY_ID - 1 } else { i16::MAX };
        let built = AtomicUsize::new(0);
        let build = |version| {
            built.fetch_add(1, Ordering::Relaxed);
            request(&items, me, broker_epoch(), version)
        };
        let sent = sender.alter_partition(max_version, &build).await;
        // Whoever sends tries again by itself; only the last attempt can have been answered.
        if sent.is_err() || built.into_inner() > 1 {
            items.iter_mut().for_each(|item| item.attempts = Attempts::Open);
        }
        let mut wait = false;
        let again = match sent.map(|(version, response)| answers(&items, response, version)) {
            Ok(Ok(answers)) => {
                let mut again = Vec::new();
                let refused = |answer: &Option<Result<IsrState, ErrorCode>>| {
                    matches!(answer, Some(Err(ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted)))
                };
                wait = answers.iter().any(refused);
                for (item, answer) in items.into_iter().zip(answers) {
                    // What the controller did not answer for is asked again.
                    let retry = answer.is_none_or(|answer| answered((item.proposal.clone(), answer, item.attempts)));
                    again.extend(retry.then_some(item));
                }
                again
            }
            Ok(Err(ErrorCode::StaleBrokerEpoch)) => {
                warn!("the controller knows another registration of this broker; its ISR changes wait");
                items
            }
            Ok(Err(code)) => {
                error!("the controller refuses ISR changes: {}", code.message());
                items
            }
            Err(why) => {
                debug!("ISR changes did not get through: {why}");
                items
            }
        };
        if wait || !again.is_empty() {
            again.into_iter().for_each(|item| queue.retry(item));
            tokio::time::sleep(RETRY_BACKOFF).await;
        }
    }
}

fn request(items: &[Item], me: BrokerId, broker_epoch: BrokerEpoch, version: i16) -> AlterPartitionRequest {
    let mut topics: Vec<(Arc<str>, TopicData)> = Vec::new();
    for item in items {
        let name = &item.proposal.topic_partition.topic;
        let same = |(known, _): &(Arc<str>, TopicData)| known == name;
        if !topics.last().is_some_and(same) {
            let topic = match version {
                FIRST_BY_ID.. => TopicData::default().with_topic_id(item.topic_id),
                _ => TopicData::default().with_topic_name(TopicName(StrBytes::from_string(name.to_string()))),
            };
            topics.push((Arc::clone(name), topic));
        }
        if let Some((_, topic)) = topics.last_mut() {
            topic.partitions.push(partition(&item.proposal, version));
        }
    }
    AlterPartitionRequest::default()
        .with_broker_id(WireBroker(me.get()))
        .with_broker_epoch(broker_epoch.get())
        .with_topics(topics.into_iter().map(|(_, topic)| topic).collect())
}

fn partition(proposal: &IsrProposal, version: i16) -> PartitionData {
    let data = PartitionData::default()
        .with_partition_index(proposal.topic_partition.partition)
        .with_leader_epoch(proposal.leader_epoch.get())
        .with_partition_epoch(proposal.partition_epoch);
    if version >= FIRST_WITH_EPOCHS {
        let state = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            BrokerState::default().with_broker_id(WireBroker(id.get())).with_broker_epoch(epoch.get())
        };
        data.with_new_isr_with_epochs(proposal.isr.iter().map(state).collect())
    } else {
        data.with_new_isr(proposal.isr.iter().map(|(id, _)| WireBroker(id.get())).collect())
    }
}

type Answers = Vec<Option<Result<IsrState, ErrorCode>>>;

/// One answer for each item, where the controller gave one; or the error of the whole.
fn answers(items: &[Item], response: AlterPartitionResponse, version: i16) -> Result<Answers, ErrorCode> {
    let error = ErrorCode::from_code(response.error_code);
    if !error.is_none() {
        return Err(error);
    }
    let ids: BTreeMap<TopicId, &Arc<str>> =
        items.iter().map(|item| (item.topic_id, &item.proposal.topic_partition.topic)).collect();
    let mut found = BTreeMap::new();
    for topic in response.topics {
        let name: Arc<str> = match version {
            FIRST_BY_ID.. => match ids.get(&topic.topic_id) {
                Some(name) => Arc::clone(name),
                None => continue,
            },
            _ => Arc::from(topic.topic_name.as_str()),
        };
        for p in topic.partitions {
            let answer = match ErrorCode::from_code(p.error_code) {
                ErrorCode::None => Ok(IsrState {
                    leader_epoch: LeaderEpoch(p.leader_epoch),
                    partition_epoch: p.partition_epoch,
                    isr: p.isr.iter().map(|id| BrokerId(id.0)).collect(),
                }),
                error => Err(error),
            };
            found.insert(TopicPartition::new(Arc::clone(&name), p.partition_index), answer);
        }
    }
    Ok(items.iter().map(|item| found.remove(&item.proposal.topic_partition)).collect())
}

#[cfg(test)]
mod tests;
