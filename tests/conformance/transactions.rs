//! Transactions: every request in every version, from the first producer to the markers, and what is refused. Whoever leads
//! the partitions is played by the harness, which answers each marker.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::Offset;
use barnabas::coordinator::txn::records::{Key, decode_value};
use barnabas::coordinator::txn::state::{Producer, TxnState};
use barnabas::log::partition_log::ReadUpTo;
use barnabas::protocol::batch::{HEADER_LEN, entries};
use barnabas::protocol::records::records;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::*;

use crate::harness::{Broker, text, topic_name};

const STATE: &str = "__transaction_state";
const INIT: i16 = 5;
const ADD: i16 = 3;
const END: i16 = 4;

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code)
}

fn id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}

/// A broker that coordinates every transaction, with a topic `t` of two partitions.
async fn coordinator() -> Broker {
    coordinator_with(&[]).await
}

async fn coordinator_with(pairs: &[(&str, &str)]) -> Broker {
    let broker = Broker::with(pairs).await;
    broker.topic("t", 2).await;
    broker.topic("__consumer_offsets", 2).await;
    broker.topic(STATE, 2).await;
    until("loading", || (0..2).all(|partition| broker.context.transactions.is_served(partition))).await;
    broker
}

fn init_request(version: i16, name: &str, as_who: Option<Producer>) -> InitProducerIdRequest {
    let mut request =
        InitProducerIdRequest::default().with_transactional_id(Some(id(name))).with_transaction_timeout_ms(60_000);
    if version >= 3
        && let Some(producer) = as_who
    {
        request.producer_id = ProducerId(producer.id.get());
        request.producer_epoch = producer.epoch.get();
    }
    request
}

async fn init(broker: &Broker, version: i16, name: &str) -> Producer {
    let response = broker.call(version, &init_request(version, name, None)).await;
    assert_eq!(code(response.error_code), ErrorCode::None);
    Producer::new(response.producer_id.0, response.producer_epoch)
}

fn topics(partitions: &[i32]) -> Vec<AddPartitionsToTxnTopic> {
    vec![AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(partitions.to_vec())]
}

fn add_request(name: &str, producer: Producer, partitions: &[i32]) -> AddPartitionsToTxnRequest {
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id(name))
        .with_v3_and_below_producer_id(ProducerId(producer.id.get()))
        .with_v3_and_below_producer_epoch(producer.epoch.get())
        .with_v3_and_below_topics(topics(partitions))
}

/// The error of each partition.
async fn add(broker: &Broker, version: i16, name: &str, producer: Producer, partitions: &[i32]) -> Vec<ErrorCode> {
    let response = broker.call(version, &add_request(name, producer, partitions)).await;
    let results = response.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
    results.map(|result| code(result.partition_error_code)).collect()
}

fn transaction(name: &str, producer: Producer, partitions: &[i32], verify_only: bool) -> AddPartitionsToTxnTransaction {
    AddPartitionsToTxnTransaction::default()
        .with_transactional_id(id(name))
        .with_producer_id(ProducerId(producer.id.get()))
        .with_producer_epoch(producer.epoch.get())
        .with_verify_only(verify_only)
        .with_topics(topics(partitions))
}

/// The errors of each transaction's partitions.
async fn batch(broker: &Broker, version: i16, transactions: Vec<AddPartitionsToTxnTransaction>) -> Vec<Vec<ErrorCode>> {
    let response = broker.call(version, &AddPartitionsToTxnRequest::default().with_transactions(transactions)).await;
    assert_eq!(code(response.error_code), ErrorCode::None);
    let errors = response.results_by_transaction.iter().map(|result| {
        let results = result.topic_results.iter().flat_map(|topic| &topic.results_by_partition);
        results.map(|result| code(result.partition_error_code)).collect()
    });
    errors.collect()
}

async fn add_offsets(broker: &Broker, version: i16, name: &str, producer: Producer) -> ErrorCode {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id(name))
        .with_producer_id(ProducerId(producer.id.get()))
        .with_producer_epoch(producer.epoch.get())
        .with_group_id(GroupId(text("g")));
    code(broker.call(version, &request).await.error_code)
}

async fn end(broker: &Broker, version: i16, name: &str, producer: Producer, commit: bool) -> ErrorCode {
    let request = EndTxnRequest::default()
        .with_transactional_id(id(name))
        .with_producer_id(ProducerId(producer.id.get()))
        .with_producer_epoch(producer.epoch.get())
        .with_committed(commit);
    code(broker.call(version, &request).await.error_code)
}

async fn until_state(broker: &Broker, name: &str, state: TxnState) {
    until(state.name(), || broker.context.transactions.describe(name).is_ok_and(|value| value.state == state)).await;
}

/// What stands in the log of the state topic, partition after partition.
fn stored(broker: &Broker) -> Vec<(String, TxnState)> {
    let mut out = Vec::new();
    for partition in 0..2 {
        let partition = broker.context.replica_manager.partition(STATE, partition).expect("it is here");
        let log = partition.log().expect("a log");
        let read = log.read(Offset::ZERO, 1 << 20, true, ReadUpTo::LogEnd).expect("it can be read");
        let Some(slice) = read.data else { continue };
        let mut bytes = vec![0; slice.len];
        std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut bytes, slice.position)
            .expect("the slice is there");
        for entry in entries(&bytes) {
            let (header, batch) = entry.expect("a batch");
            for record in records(&batch[HEADER_LEN..], header.record_count) {
                let record = record.expect("a record");
                let key = Key::decode(record.key.expect("a key")).expect("a key");
                let Key::Transaction(name) = key else { panic!("another key: {key:?}") };
                let value = decode_value(record.value.expect("a value"), |name| name.into()).expect("a value");
                out.push((name.to_owned(), value.state));
            }
        }
    }
    out
}

#[tokio::test]
async fn a_transaction_goes_through_in_every_version() {
    let broker = coordinator().await;
    for version in 0..=5_i16 {
        let (name, commit) = (format!("x{version}"), version % 2 == 0);
        let producer = init(&broker, version, &name).await;
        assert_eq!(producer.epoch.get(), 0);
        assert_eq!(add(&broker, version.min(3), &name, producer, &[0, 1]).await, [ErrorCode::None; 2]);
        assert_eq!(add_offsets(&broker, version.min(4), &name, producer).await, ErrorCode::None);
        assert_eq!(end(&broker, version.min(4), &name, producer, commit).await, ErrorCode::None);
        let state = if commit { TxnState::CompleteCommit } else { TxnState::CompleteAbort };
        until_state(&broker, &name, state).await;
        assert_eq!(end(&broker, version.min(4), &name, producer, commit).await, ErrorCode::None, "a retry");
        assert_eq!(end(&broker, version.min(4), &name, producer, !commit).await, ErrorCode::InvalidTxnState);

        let sent: Vec<_> = broker.markers.sent.lock().drain(..).collect();
        let markers: Vec<_> = sent.iter().flat_map(|request| &request.markers).collect();
        assert_eq!(markers.len(), 1, "{markers:?}");
        let (topic, coordinator_epoch) = (&markers[0].topics, markers[0].coordinator_epoch);
        assert_eq!((markers[0].producer_id.0, markers[0].transaction_result), (producer.id.get(), commit));
        assert_eq!((topic[0].name.as_str(), topic[0].partition_indexes.len()), ("__consumer_offsets", 1));
        assert_eq!((topic[1].name.as_str(), &*topic[1].partition_indexes), ("t", &[0, 1][..]));
        assert_eq!(coordinator_epoch, 0, "the leader epoch of the state partition");
    }
    let of_x0: Vec<_> = stored(&broker).into_iter().filter(|(name, _)| name == "x0").map(|(_, state)| state).collect();
    let expected =
        [TxnState::Empty, TxnState::Ongoing, TxnState::Ongoing, TxnState::PrepareCommit, TxnState::CompleteCommit];
    assert_eq!(of_x0, expected);
}

#[tokio::test]
async fn a_producer_that_was_replaced_is_told_so_in_words_its_version_knows() {
    let broker = coordinator().await;
    let former = init(&broker, INIT, "x").await;
    let latter = init(&broker, INIT, "x").await;
    assert_eq!((latter.id, latter.epoch.get()), (former.id, 1));
    for version in 0..=3 {
        let told = if version < 2 { ErrorCode::InvalidProducerEpoch } else { ErrorCode::ProducerFenced };
        assert_eq!(add(&broker, version, "x", former, &[0]).await, [told], "v{version}");
        assert_eq!(add_offsets(&broker, version, "x", former).await, told, "v{version}");
        assert_eq!(end(&broker, version, "x", former, true).await, told, "v{version}");
    }
    let later = init(&broker, INIT, "x").await;
    for version in 3..=5 {
        let told = if version < 4 { ErrorCode::InvalidProducerEpoch } else { ErrorCode::ProducerFenced };
        let response = broker.call(version, &init_request(version, "x", Some(former))).await;
        assert_eq!((code(response.error_code), response.producer_id.0, response.producer_epoch), (told, -1, -1));
        let response = broker.call(version, &init_request(version, "x", Some(later))).await;
        assert_eq!((code(response.error_code), response.producer_epoch), (ErrorCode::None, 3), "once, and its retries");
    }
    let stranger = Producer::new(former.id.get() + 99, 0);
    assert_eq!(end(&broker, END, "x", stranger, true).await, ErrorCode::InvalidProducerIdMapping);
    assert_eq!(end(&broker, END, "y", later, true).await, ErrorCode::InvalidProducerIdMapping);
}

#[tokio::test]
async fn brokers_add_and_verify_many_transactions_at_once() {
    let broker = coordinator().await;
    let (x, y) = (init(&broker, INIT, "x").await, init(&broker, INIT, "y").await);
    for version in 4..=5 {
        let added = batch(
            &broker,
            version,
            vec![transaction("x", x, &[0], false), transaction("y", y, &[1], false), transaction("z", y, &[1], false)],
        )
        .await;
        assert_eq!(added, [[ErrorCode::None], [ErrorCode::None], [ErrorCode::InvalidProducerIdMapping]]);
        let stale = Producer::new(y.id.get(), 7);
        let verified = batch(
            &broker,
            version,
            vec![
                transaction("x", x, &[0, 1], true),
                transaction("y", y, &[1], true),
                transaction("y", stale, &[1], true),
            ],
        )
        .await;
        assert_eq!(verified[0], [ErrorCode::None, ErrorCode::TransactionAbortable], "1 takes no part in x");
        assert_eq!(verified[1..], [[ErrorCode::None], [ErrorCode::ProducerFenced]]);
    }
    assert_eq!(broker.context.transactions.describe("x").expect("known").partitions.len(), 1, "nothing was added");
    broker.markers.held.store(true, Ordering::SeqCst);
    assert_eq!(end(&broker, END, "x", x, true).await, ErrorCode::None);
    let verified = batch(&broker, 5, vec![transaction("x", x, &[0], true)]).await;
    assert_eq!(verified, [[ErrorCode::ConcurrentTransactions]]);
    assert_eq!(add(&broker, ADD, "x", x, &[1]).await, [ErrorCode::ConcurrentTransactions]);
    assert_eq!(end(&broker, END, "x", x, true).await, ErrorCode::ConcurrentTransactions);
    let again = broker.call(INIT, &init_request(INIT, "x", None)).await;
    assert_eq!(code(again.error_code), ErrorCode::ConcurrentTransactions);
    broker.markers.held.store(false, Ordering::SeqCst);
    until_state(&broker, "x", TxnState::CompleteCommit).await;
}

#[tokio::test]
async fn a_partition_that_does_not_exist_fails_the_whole_transaction() {
    let broker = coordinator().await;
    let producer = init(&broker, INIT, "x").await;
    let expected = [ErrorCode::OperationNotAttempted, ErrorCode::UnknownTopicOrPartition];
    assert_eq!(add(&broker, ADD, "x", producer, &[0, 9]).await, expected);
    assert_eq!(batch(&broker, 5, vec![transaction("x", producer, &[0, 9], true)]).await, [expected]);
    assert_eq!(end(&broker, END, "x", producer, true).await, ErrorCode::InvalidTxnState, "nothing is under way");
}

#[tokio::test]
async fn a_new_producer_comes_once_the_former_one_s_transaction_is_aborted() {
    let broker = coordinator().await;
    let former = init(&broker, INIT, "x").await;
    assert_eq!(add(&broker, ADD, "x", former, &[0]).await, [ErrorCode::None]);
    let first = broker.call(INIT, &init_request(INIT, "x", None)).await;
    assert_eq!(code(first.error_code), ErrorCode::ConcurrentTransactions);
    until_state(&broker, "x", TxnState::CompleteAbort).await;
    assert_eq!(init(&broker, INIT, "x").await, Producer::new(former.id.get(), 2));
    assert!(!broker.markers.sent.lock()[0].markers[0].transaction_result);
}

#[tokio::test]
async fn transactions_time_out_by_the_clock() {
    let broker = coordinator_with(&[("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10")]).await;
    let response = broker.call(INIT, &init_request(INIT, "x", None).with_transaction_timeout_ms(1)).await;
    let producer = Producer::new(response.producer_id.0, response.producer_epoch);
    assert_eq!(add(&broker, ADD, "x", producer, &[0]).await, [ErrorCode::None]);
    until_state(&broker, "x", TxnState::CompleteAbort).await;
    assert_eq!(end(&broker, END, "x", producer, true).await, ErrorCode::ProducerFenced);
}

#[tokio::test]
async fn ids_expire_by_the_clock() {
    let broker = coordinator_with(&[
        ("transactional.id.expiration.ms", "1"),
        ("transaction.remove.expired.transaction.cleanup.interval.ms", "10"),
    ])
    .await;
    init(&broker, INIT, "x").await;
    until("it has expired", || broker.context.transactions.describe("x") == Err(ErrorCode::TransactionalIdNotFound))
        .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let broker = coordinator_with(&[("transaction.max.timeout.ms", "60000")]).await;
    let error = async |request: InitProducerIdRequest| code(broker.call(INIT, &request).await.error_code);
    for timeout in [0, -1, 60_001] {
        let request = init_request(INIT, "x", None).with_transaction_timeout_ms(timeout);
        assert_eq!(error(request).await, ErrorCode::InvalidTransactionTimeout);
    }
    assert_eq!(error(init_request(INIT, "", None)).await, ErrorCode::InvalidRequest);
    assert_eq!(error(init_request(INIT, "x", None).with_producer_id(ProducerId(3))).await, ErrorCode::InvalidRequest);
    assert_eq!(error(init_request(INIT, "x", None).with_producer_epoch(3)).await, ErrorCode::InvalidRequest);
    let nobody = Producer::new(0, 0);
    assert_eq!(add(&broker, ADD, "", nobody, &[0]).await, [ErrorCode::InvalidRequest]);
    assert_eq!(add_offsets(&broker, END, "", nobody).await, ErrorCode::InvalidRequest);
    assert_eq!(end(&broker, END, "", nobody, true).await, ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn only_the_coordinator_answers() {
    let broker = Broker::start().await;
    broker.topic("t", 1).await;
    broker.topic_led_by(STATE, 2, 2, 0).await;
    let nobody = Producer::new(0, 0);
    let response = broker.call(INIT, &init_request(INIT, "x", None)).await;
    assert_eq!(code(response.error_code), ErrorCode::NotCoordinator);
    assert_eq!(add(&broker, ADD, "x", nobody, &[0]).await, [ErrorCode::NotCoordinator]);
    assert_eq!(add_offsets(&broker, END, "x", nobody).await, ErrorCode::NotCoordinator);
    assert_eq!(end(&broker, END, "x", nobody, true).await, ErrorCode::NotCoordinator);
    // The one that leads tells in which epoch.
    broker.topic_led_by(STATE, 2, crate::harness::ME, 7).await;
    until("loading", || (0..2).all(|partition| broker.context.transactions.is_served(partition))).await;
    let producer = init(&broker, INIT, "x").await;
    assert_eq!(add(&broker, ADD, "x", producer, &[0]).await, [ErrorCode::None]);
    assert_eq!(end(&broker, END, "x", producer, true).await, ErrorCode::None);
    until_state(&broker, "x", TxnState::CompleteCommit).await;
    assert_eq!(broker.markers.sent.lock()[0].markers[0].coordinator_epoch, 7);
    // And gives it up again.
    broker.topic_led_by(STATE, 2, 2, 8).await;
    assert_eq!(end(&broker, END, "x", producer, true).await, ErrorCode::NotCoordinator);
}

#[tokio::test]
async fn transactions_are_described_and_listed() {
    let broker = coordinator().await;
    let x = init(&broker, INIT, "x").await;
    let y = init(&broker, INIT, "y").await;
    assert_eq!(add(&broker, ADD, "x", x, &[1, 0]).await, [ErrorCode::None; 2]);
    let request =
        DescribeTransactionsRequest::default().with_transactional_ids(vec![id("x"), id("y"), id("z"), id("")]);
    let described = broker.call(0, &request).await.transaction_states;
    let brief: Vec<_> = described
        .iter()
        .map(|d| (d.transactional_id.as_str(), code(d.error_code), d.transaction_state.as_str(), d.producer_id.0))
        .collect();
    let expected = [
        ("x", ErrorCode::None, "Ongoing", x.id.get()),
        ("y", ErrorCode::None, "Empty", y.id.get()),
        ("z", ErrorCode::TransactionalIdNotFound, "", 0),
        ("", ErrorCode::InvalidRequest, "", 0),
    ];
    assert_eq!(brief, expected);
    assert_eq!((described[0].transaction_timeout_ms, described[0].producer_epoch), (60_000, 0));
    assert!(described[0].transaction_start_time_ms > 0 && described[1].transaction_start_time_ms == -1);
    assert_eq!((described[0].topics[0].topic.as_str(), &*described[0].topics[0].partitions), ("t", &[0, 1][..]));

    let list = async |version, request: ListTransactionsRequest| {
        let response = broker.call(version, &request).await;
        assert_eq!(code(response.error_code), ErrorCode::None);
        let mut ids: Vec<_> =
            response.transaction_states.iter().map(|listed| listed.transactional_id.to_string()).collect();
        ids.sort_unstable();
        (ids.join(" "), response.unknown_state_filters.len())
    };
    for version in 0..=1 {
        let all = ListTransactionsRequest::default();
        assert_eq!(list(version, all.clone()).await, ("x y".to_owned(), 0));
        let ongoing = all.clone().with_state_filters(vec![text("Ongoing"), text("Nonsense")]);
        assert_eq!(list(version, ongoing).await, ("x".to_owned(), 1));
        let nonsense = all.clone().with_state_filters(vec![text("Nonsense")]);
        assert_eq!(list(version, nonsense).await, (String::new(), 1));
        let of_y = all.with_producer_id_filters(vec![ProducerId(y.id.get())]);
        assert_eq!(list(version, of_y).await, ("y".to_owned(), 0));
    }
    let long =
        ListTransactionsRequest::default().with_duration_filter(3_600_000).with_state_filters(vec![text("Ongoing")]);
    assert_eq!(list(1, long).await, (String::new(), 0));
}

#[tokio::test]
async fn the_coordinator_of_a_transactional_id_is_found() {
    let broker = Broker::start().await;
    let one = FindCoordinatorRequest::default().with_key_type(1).with_key(text("x"));
    let many = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("x"), text("y")]);
    for version in 1..=6 {
        let error = match version {
            ..4 => broker.call(version, &one).await.error_code,
            _ => broker.call(version, &many).await.coordinators[1].error_code,
        };
        assert_eq!(code(error), ErrorCode::CoordinatorNotAvailable, "there is no topic yet");
    }
    broker.topic(STATE, 2).await;
    for version in 1..=3 {
        let found = broker.call(version, &one).await;
        assert_eq!((code(found.error_code), found.node_id.0, found.port), (ErrorCode::None, 1, 9093));
    }
    for version in 4..=6 {
        let found = broker.call(version, &many).await.coordinators;
        let brief: Vec<_> = found.iter().map(|c| (c.key.as_str(), code(c.error_code), c.node_id.0)).collect();
        assert_eq!(brief, [("x", ErrorCode::None, 1), ("y", ErrorCode::None, 1)]);
    }
}

#[tokio::test]
async fn markers_go_where_the_metadata_says() {
    use barnabas::base::ids::{BrokerId, TopicPartition};
    use barnabas::coordinator::txn::markers::{MarkerChannel, Route};
    use barnabas::server::transactions::MarkerConnections;
    let broker = Broker::start().await;
    let manager = broker.context.replica_manager.clone();
    let channel = MarkerConnections::new(&broker.context.config, manager, broker.context.control.clone());
    let route = |topic: &str, partition| channel.route(&TopicPartition::new(topic, partition));
    assert_eq!(route("t", 0), Route::NoLeader, "nothing is known yet");
    broker.topic_led_by("t", 1, 2, 0).await;
    assert_eq!(route("t", 0), Route::Leader(BrokerId(2)));
    assert_eq!((route("t", 1), route("u", 0)), (Route::NoPartition, Route::NoPartition));
    broker.topic_led_by("u", 1, 3, 0).await;
    assert_eq!(route("u", 0), Route::NoLeader, "nobody knows how to reach broker 3");
}
