//! Rounds with the controller.

use std::collections::VecDeque;

use futures::FutureExt;
use kafka_protocol::messages::alter_partition_response::{PartitionData as Answer, TopicData as TopicAnswer};

use super::*;

type Reply = Box<dyn Fn(&AlterPartitionRequest) -> Result<AlterPartitionResponse, String> + Send + Sync>;

/// A controller of a version that answers in turn, and remembers what it was sent.
struct Controller {
    version: i16,
    replies: Mutex<VecDeque<Reply>>,
    seen: Mutex<Vec<(i16, AlterPartitionRequest)>>,
}

impl AlterPartitionSender for Controller {
    fn alter_partition<'a>(
        &'a self,
        max_version: i16,
        build: BuildRequest<'a>,
    ) -> BoxFuture<'a, Result<(i16, AlterPartitionResponse), String>> {
        let version = self.version.min(max_version);
        let request = build(version);
        let reply = self.replies.lock().pop_front();
        self.seen.lock().push((version, request.clone()));
        match reply {
            Some(reply) => std::future::ready(reply(&request).map(|response| (version, response))).boxed(),
            None => std::future::pending().boxed(),
        }
    }
}

fn agree(request: &AlterPartitionRequest) -> Result<AlterPartitionResponse, String> {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let isr = match p.new_isr_with_epochs.is_empty() {
                true => p.new_isr.clone(),
                false => p.new_isr_with_epochs.iter().map(|state| state.broker_id).collect(),
            };
            Answer::default()
                .with_partition_index(p.partition_index)
                .with_leader_epoch(p.leader_epoch)
                .with_partition_epoch(p.partition_epoch + 1)
                .with_isr(isr)
        });
        TopicAnswer::default()
            .with_topic_name(topic.topic_name.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    Ok(AlterPartitionResponse::default().with_topics(topics.collect()))
}

fn item(topic: &'static str, id: u128, partition: i32) -> Item {
    let proposal = IsrProposal {
        topic_partition: TopicPartition::new(topic, partition),
        leader_epoch: LeaderEpoch(3),
        partition_epoch: 5,
        isr: vec![(BrokerId(1), BrokerEpoch(10)), (BrokerId(2), BrokerEpoch(20))],
    };
    Item { topic_id: TopicId::from_u128(id), proposal, attempts: Attempts::Answered }
}

struct Round {
    queue: Arc<AlterPartitionQueue>,
    controller: Arc<Controller>,
    answers: Arc<Mutex<Vec<Answered>>>,
}

/// Starts the loop; answers with an error of NOT_CONTROLLER are sent again.
fn start(version: i16, replies: Vec<Reply>) -> Round {
    let controller = Arc::new(Controller { version, replies: Mutex::new(replies.into()), seen: Mutex::default() });
    let (queue, answers) = (Arc::<AlterPartitionQueue>::default(), Arc::<Mutex<Vec<Answered>>>::default());
    let heard = Arc::clone(&answers);
    let answered = move |answer: Answered| {
        let again = answer.1 == Err(ErrorCode::NotController);
        heard.lock().push(answer);
        again
    };
    let sender = Arc::clone(&controller) as Arc<dyn AlterPartitionSender>;
    tokio::spawn(run(Arc::clone(&queue), BrokerId(1), || BrokerEpoch(10), sender, answered));
    Round { queue, controller, answers }
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not come");
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_together_in_the_controllers_version() {
    for version in 0..=3 {
        let round = start(version, vec![Box::new(agree)]);
        [item("b", 2, 0), item("a", 1, 1), item("a", 1, 0)].into_iter().for_each(|item| round.queue.submit(item));
        until(|| round.answers.lock().len() == 3).await;
        let seen = round.controller.seen.lock();
        let (spoken, request) = &seen[0];
        assert_eq!((*spoken, seen.len(), request.topics.len()), (version, 1, 2));
        assert_eq!((request.broker_id.0, request.broker_epoch), (1, 10));
        assert_eq!(request.topics[0].topic_name.is_empty(), version >= 2);
        assert_eq!(request.topics[0].topic_id.is_nil(), version < 2);
        let partition = &request.topics[0].partitions[0];
        assert_eq!(partition.new_isr.len(), if version < 3 { 2 } else { 0 });
        let epochs: Vec<i64> = partition.new_isr_with_epochs.iter().map(|state| state.broker_epoch).collect();
        assert_eq!(epochs, if version < 3 { vec![] } else { vec![10, 20] });
        let mut bytes = bytes::BytesMut::new();
        kafka_protocol::protocol::Encodable::encode(request, &mut bytes, version).expect("it fits its version");
        for (proposal, answer, attempts) in round.answers.lock().iter() {
            assert_eq!(*attempts, Attempts::Answered);
            let state = answer.as_ref().expect("agreed");
            assert_eq!((state.partition_epoch, state.isr.len()), (proposal.partition_epoch + 1, 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_without_an_id_is_named() {
    let round = start(3, vec![Box::new(agree)]);
    round.queue.submit(item("a", 1, 0));
    round.queue.submit(item("b", 0, 0));
    until(|| round.answers.lock().len() == 2).await;
    assert_eq!(round.controller.seen.lock()[0].0, 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_sent_again_and_what_came_meanwhile_with_it() {
    let stale = AlterPartitionResponse::default().with_error_code(ErrorCode::StaleBrokerEpoch.code());
    let empty = AlterPartitionResponse::default();
    let round = start(
        3,
        vec![
            Box::new(|_| Err("nobody is there".to_owned())),
            Box::new(move |_| Ok(stale.clone())),
            Box::new(move |_| Ok(empty.clone())),
            Box::new(agree),
        ],
    );
    round.queue.submit(item("a", 1, 0));
    until(|| round.controller.seen.lock().len() == 1).await;
    round.queue.submit(item("a", 1, 1));
    until(|| round.answers.lock().len() == 2).await;
    let sizes: Vec<usize> = round.controller.seen.lock().iter().map(|(_, r)| r.topics[0].partitions.len()).collect();
    assert_eq!(sizes, [1, 2, 2, 2]);
    assert!(round.queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_newer_proposal_takes_the_place_of_one_that_waits() {
    let round = start(3, vec![]);
    round.queue.submit(item("a", 1, 0));
    until(|| round.controller.seen.lock().len() == 1).await;
    round.queue.submit(item("a", 1, 0));
    let newer = IsrProposal { leader_epoch: LeaderEpoch(9), ..item("a", 1, 0).proposal };
    round.queue.submit(Item { topic_id: TopicId::from_u128(1), proposal: newer, attempts: Attempts::Answered });
    round.queue.retry(item("a", 1, 0));
    assert_eq!(round.queue.len(), 1, "and one request is under way at a time");
    let waiting = round.queue.waiting.lock();
    assert_eq!(waiting.values().next().expect("one").proposal.leader_epoch, LeaderEpoch(9));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_not_answered_is_remembered() {
    let round = start(3, vec![Box::new(|_| Err("no answer in time".to_owned())), Box::new(agree)]);
    round.queue.submit(item("a", 1, 0));
    until(|| round.answers.lock().len() == 1).await;
    assert_eq!(round.answers.lock()[0].2, Attempts::Open);
}

/// Tries again by itself.
struct Twice(Controller);

impl AlterPartitionSender for Twice {
    fn alter_partition<'a>(
        &'a self,
        max_version: i16,
        build: BuildRequest<'a>,
    ) -> BoxFuture<'a, Result<(i16, AlterPartitionResponse), String>> {
        drop(build(max_version.min(3)));
        self.0.alter_partition(max_version, build)
    }
}

#[tokio::test(start_paused = true)]
async fn so_is_one_that_the_sender_made_again_by_itself() {
    let controller = Controller {
        version: 3,
        replies: Mutex::new(VecDeque::from([Box::new(agree) as Reply])),
        seen: Mutex::default(),
    };
    let (queue, answers) = (Arc::<AlterPartitionQueue>::default(), Arc::<Mutex<Vec<Answered>>>::default());
    let heard = Arc::clone(&answers);
    let answered = move |answer: Answered| {
        heard.lock().push(answer);
        false
    };
    tokio::spawn(run(Arc::clone(&queue), BrokerId(1), || BrokerEpoch(10), Arc::new(Twice(controller)), answered));
    queue.submit(item("a", 1, 0));
    until(|| answers.lock().len() == 1).await;
    assert_eq!(answers.lock()[0].2, Attempts::Open);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_refused_is_not_proposed_again_at_once() {
    let refuse = |request: &AlterPartitionRequest| {
        let mut response = agree(request)?;
        response.topics[0].partitions[0].error_code = ErrorCode::IneligibleReplica.code();
        Ok(response)
    };
    let round = start(3, vec![Box::new(refuse), Box::new(agree)]);
    round.queue.submit(item("a", 1, 0));
    until(|| round.answers.lock().len() == 1).await;
    let refused = tokio::time::Instant::now();
    round.queue.submit(item("a", 1, 0));
    until(|| round.answers.lock().len() == 2).await;
    assert!(refused.elapsed() >= RETRY_BACKOFF - Duration::from_millis(2));
}
