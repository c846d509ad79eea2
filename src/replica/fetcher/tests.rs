//! Fetchers with a network that is a channel.

use std::time::Duration;

use futures::FutureExt;
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use tokio::sync::{mpsc, oneshot};

use super::follower_log::{FollowerLog, FromLeader, Position, Refusal};
use super::leader::{Answer, LeaderEndpoint};
use super::*;
use crate::base::ids::{LeaderEpoch, Offset, TopicId};

/// A fetch that arrived at a leader, and the way back.
struct Arrived {
    fetcher: usize,
    request: FetchRequest,
    answer: oneshot::Sender<FetchResponse>,
}

struct Wire {
    fetcher: usize,
    to: mpsc::UnboundedSender<Arrived>,
}

impl LeaderEndpoint for Wire {
    fn fetch(&mut self, request: FetchRequest, _version: i16) -> Answer<'_, FetchResponse> {
        let (answer, answered) = oneshot::channel();
        let sent = self.to.send(Arrived { fetcher: self.fetcher, request, answer });
        async move {
            sent.map_err(|_| "no leader".to_owned())?;
            answered.await.map_err(|_| "the leader hung up".to_owned())
        }
        .boxed()
    }

    fn list_offsets(&mut self, _: ListOffsetsRequest, _: i16) -> Answer<'_, ListOffsetsResponse> {
        std::future::ready(Err("not asked here".to_owned())).boxed()
    }

    fn offsets_for_leader_epoch(
        &mut self,
        _: OffsetForLeaderEpochRequest,
        _: i16,
    ) -> Answer<'_, OffsetForLeaderEpochResponse> {
        std::future::ready(Err("not asked here".to_owned())).boxed()
    }

    fn reset(&mut self) {}
}

struct Network(mpsc::UnboundedSender<Arrived>);

impl LeaderConnector for Network {
    fn endpoint(&self, _leader: BrokerId, fetcher: usize) -> Box<dyn LeaderEndpoint> {
        Box::new(Wire { fetcher, to: self.0.clone() })
    }
}

/// A log that stays as it is.
struct Still;

impl FollowerLog for Still {
    fn position(&self) -> Result<Position, Refusal> {
        let at = Offset(5);
        Ok(Position { log_start: at, log_end: at, high_watermark: at, latest_epoch: Some(LeaderEpoch(0)) })
    }

    fn end_offset_for_epoch(&self, _epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        None
    }

    fn append(&self, _epoch: LeaderEpoch, _data: FromLeader) -> Result<Position, Refusal> {
        self.position()
    }

    fn truncate_to(&self, _epoch: LeaderEpoch, _offset: Offset) -> Result<(), Refusal> {
        Ok(())
    }

    fn truncate_fully_and_start_at(&self, _epoch: LeaderEpoch, _offset: Offset) -> Result<(), Refusal> {
        Ok(())
    }
}

fn manager(fetchers: &str) -> (FetcherManager, mpsc::UnboundedReceiver<Arrived>) {
    let (to, arrivals) = mpsc::unbounded_channel();
    let config = BrokerConfig::from_pairs([("num.replica.fetchers", fetchers)]).expect("a configuration");
    let (epoch, runtime) = (Arc::new(AtomicI64::new(9)), Handle::current());
    (FetcherManager::new(BrokerId(1), &config, epoch, Arc::new(Network(to)), runtime), arrivals)
}

fn follow(partition: i32, leader: i32, epoch: i32) -> Follow {
    Follow {
        topic_partition: TopicPartition::new("t", partition),
        leader: BrokerId(leader),
        new: NewPartition { topic_id: TopicId::from_u128(1), leader_epoch: LeaderEpoch(epoch), log: Arc::new(Still) },
    }
}

async fn next(arrivals: &mut mpsc::UnboundedReceiver<Arrived>) -> Arrived {
    let arrived = tokio::time::timeout(Duration::from_secs(60), arrivals.recv()).await;
    arrived.expect("a fetch in time").expect("fetchers run")
}

fn partitions(request: &FetchRequest) -> Vec<i32> {
    request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.partition)).collect()
}

#[tokio::test(start_paused = true)]
async fn partitions_are_spread_as_kafka_spreads_them() {
    let (manager, mut arrivals) = manager("3");
    manager.add((0..3).map(|n| follow(n, 2, 0)).collect());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let arrived = next(&mut arrivals).await;
        seen.push((arrived.fetcher, partitions(&arrived.request)));
    }
    seen.sort();
    // "t".hashCode() is 116; 31 * 116 + n, modulo 3.
    assert_eq!(seen, [(0, vec![1]), (1, vec![2]), (2, vec![0])]);
    assert_eq!(fetcher_of(&TopicPartition::new("polygenelubricants", 0), 7), 0, "a hash that is i32::MIN");
}

#[tokio::test(start_paused = true)]
async fn partitions_go_over_to_their_new_fetchers_when_their_number_changes() {
    let (manager, mut arrivals) = manager("1");
    manager.add((0..3).map(|n| follow(n, 2, 0)).collect());
    let mut all = next(&mut arrivals).await;
    while partitions(&all.request).len() < 3 {
        all = next(&mut arrivals).await;
    }
    let moved: Vec<i32> = manager.resize(2).iter().map(|tp| tp.partition).collect();
    assert_eq!(moved, [1], "31 * 116 + n, modulo 2");
    manager.add(moved.into_iter().map(|n| follow(n, 2, 0)).collect());
    let arrived = next(&mut arrivals).await;
    assert_eq!((arrived.fetcher, partitions(&arrived.request)), (1, vec![1]));
    let back: Vec<i32> = manager.resize(1).iter().map(|tp| tp.partition).collect();
    assert_eq!(back, [1]);
    manager.add(back.into_iter().map(|n| follow(n, 2, 0)).collect());
    manager.stop_idle();
    assert_eq!((manager.len(), manager.resize(0)), (1, Vec::new()), "never fewer than one");
}

#[tokio::test(start_paused = true)]
async fn a_new_partition_does_not_wait_for_a_fetch_under_way() {
    let (manager, mut arrivals) = manager("1");
    manager.add(vec![follow(0, 2, 0)]);
    let waiting = next(&mut arrivals).await;
    assert_eq!((partitions(&waiting.request), waiting.request.replica_state.replica_epoch), (vec![0], 9));
    manager.add(vec![follow(1, 2, 0)]);
    let both = next(&mut arrivals).await;
    assert_eq!(partitions(&both.request), [0, 1]);
    assert!(waiting.answer.is_closed(), "nobody waits for the first any more");
}

#[tokio::test(start_paused = true)]
async fn a_partition_changes_its_leader_and_idle_fetchers_end() {
    let (manager, mut arrivals) = manager("1");
    manager.add(vec![follow(0, 2, 0)]);
    let old = next(&mut arrivals).await;
    manager.add(vec![follow(0, 3, 1)]);
    assert_eq!(partitions(&next(&mut arrivals).await.request), [0]);
    manager.stop_idle();
    assert_eq!(manager.len(), 1);
    tokio::time::timeout(Duration::from_secs(60), async move {
        let mut answer = old.answer;
        answer.closed().await;
    })
    .await
    .expect("the fetcher of the old leader ends");
    manager.remove(&TopicPartition::new("t", 0));
    manager.stop_idle();
    assert!(manager.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_up_is_asked_again_later() {
    let (manager, mut arrivals) = manager("1");
    manager.add(vec![follow(0, 2, 0)]);
    let start = Instant::now();
    for _ in 0..4 {
        drop(next(&mut arrivals).await.answer);
    }
    next(&mut arrivals).await;
    assert_eq!(start.elapsed(), Duration::from_millis(20 + 40 + 80 + 160));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_followed_after_the_stop() {
    let (manager, mut arrivals) = manager("1");
    manager.add(vec![follow(0, 2, 0)]);
    let waiting = next(&mut arrivals).await;
    manager.shutdown();
    manager.add(vec![follow(1, 2, 0)]);
    let mut answer = waiting.answer;
    answer.closed().await;
    assert!(arrivals.try_recv().is_err() && manager.is_empty());
}
