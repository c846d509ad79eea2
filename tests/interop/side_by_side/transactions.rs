//! Transactional producers: what each request is answered in each state, up to where markers are written.

use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnTopicResult;
use std::time::Duration;

use super::*;
use crate::support::poll;

/// How long a transaction in which nothing takes part may take to end.
const ENDED: Duration = Duration::from_secs(20);
/// Loading, not available, not the coordinator.
const NOT_READY: [i16; 3] = [14, 15, 16];

fn txn_id(name: &str) -> TransactionalId {
    TransactionalId(text(name))
}

fn describe_request(name: &str) -> DescribeTransactionsRequest {
    DescribeTransactionsRequest::default().with_transactional_ids(vec![txn_id(name)])
}

/// The id's state, and its producer's id.
fn described(side: &mut Side, name: &str) -> (String, i64) {
    let answer = side.ask(0, &describe_request(name)).expect("an answer");
    let state = &answer.transaction_states[0];
    (state.transaction_state.to_string(), state.producer_id.0)
}

/// Waits until the id's coordinator has loaded its partition.
fn wait_for_coordinator(side: &mut Side, name: &str) {
    let find = FindCoordinatorRequest::default().with_key_type(1).with_key(text(name));
    wait_for("a coordinator of transactions", PATIENCE, || {
        let found = side.ask(1, &find).is_ok_and(|answer| answer.error_code == 0);
        let answer = side.ask(0, &describe_request(name)).ok()?;
        (found && !NOT_READY.contains(&answer.transaction_states[0].error_code)).then_some(())
    });
}

fn init_request(name: &str) -> InitProducerIdRequest {
    InitProducerIdRequest::default().with_transactional_id(Some(txn_id(name))).with_transaction_timeout_ms(60_000)
}

fn hide_init(answer: &mut InitProducerIdResponse) {
    answer.producer_id = ProducerId(answer.producer_id.0.min(0));
}

fn hide_described(answer: &mut DescribeTransactionsResponse) {
    for state in &mut answer.transaction_states {
        state.producer_id = ProducerId(state.producer_id.0.min(0));
        // Kafka keeps the start of the last transaction until the partition is loaded again.
        if *state.transaction_state == *"Empty" {
            state.transaction_start_time_ms = -1;
        }
        state.topics.sort_by(|one, other| one.topic.cmp(&other.topic));
        state.topics.iter_mut().for_each(|topic| topic.partitions.sort_unstable());
    }
}

fn topics(partitions: &[i32]) -> Vec<AddPartitionsToTxnTopic> {
    let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(partitions.to_vec());
    if partitions.is_empty() { Vec::new() } else { vec![topic] }
}

fn sort_topics(topics: &mut [AddPartitionsToTxnTopicResult]) {
    topics.sort_by(|one, other| one.name.cmp(&other.name));
    topics.iter_mut().for_each(|topic| topic.results_by_partition.sort_by_key(|result| result.partition_index));
}

/// The same producer on both sides, each with the id that it was given there.
struct Client<'a> {
    pair: &'a mut Pair,
    name: String,
    /// The version of the test; each request goes in the newest one that is no newer.
    version: i16,
    ids: [i64; 2],
}

impl Client<'_> {
    fn learn_ids(&mut self) {
        let name = self.name.clone();
        self.ids = [described(&mut self.pair.ours, &name).1, described(&mut self.pair.original, &name).1];
    }

    fn describe(&mut self, what: &str) {
        let request = describe_request(&self.name);
        self.pair.same(&format!("DescribeTransactions {what}"), 0, &request, hide_described);
    }

    fn init(&mut self, what: &str, as_who: Option<i16>) {
        let ids = self.ids;
        let name = self.name.clone();
        let request = |side: usize| match as_who {
            Some(epoch) => init_request(&name).with_producer_id(ProducerId(ids[side])).with_producer_epoch(epoch),
            None => init_request(&name),
        };
        self.pair.differ(&format!("InitProducerId {what}"), self.version, request, hide_init);
    }

    fn add(&mut self, what: &str, epoch: i16, partitions: &[i32]) {
        let (ids, name) = (self.ids, self.name.clone());
        let request = |side: usize| {
            AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(txn_id(&name))
                .with_v3_and_below_producer_id(ProducerId(ids[side]))
                .with_v3_and_below_producer_epoch(epoch)
                .with_v3_and_below_topics(topics(partitions))
        };
        let shape = |answer: &mut AddPartitionsToTxnResponse| sort_topics(&mut answer.results_by_topic_v3_and_below);
        self.pair.differ(&format!("AddPartitionsToTxn {what}"), self.version.min(3), request, shape);
    }

    fn batch(&mut self, what: &str, epoch: i16, partitions: &[i32], verify_only: bool) {
        let (ids, name) = (self.ids, self.name.clone());
        let request = |side: usize| {
            let transaction = AddPartitionsToTxnTransaction::default()
                .with_transactional_id(txn_id(&name))
                .with_producer_id(ProducerId(ids[side]))
                .with_producer_epoch(epoch)
                .with_verify_only(verify_only)
                .with_topics(topics(partitions));
            AddPartitionsToTxnRequest::default().with_transactions(vec![transaction])
        };
        let shape = |answer: &mut AddPartitionsToTxnResponse| {
            answer.results_by_transaction.iter_mut().for_each(|result| sort_topics(&mut result.topic_results));
        };
        for version in 4..=5 {
            self.pair.differ(&format!("AddPartitionsToTxn, batched, {what}"), version, request, shape);
        }
    }

    fn add_offsets(&mut self, what: &str, epoch: i16) {
        let (ids, name) = (self.ids, self.name.clone());
        let request = |side: usize| {
            AddOffsetsToTxnRequest::default()
                .with_transactional_id(txn_id(&name))
                .with_producer_id(ProducerId(ids[side]))
                .with_producer_epoch(epoch)
                .with_group_id(group("g"))
        };
        self.pair.differ(&format!("AddOffsetsToTxn {what}"), self.version.min(4), request, |_| {});
    }

    fn end(&mut self, what: &str, epoch: i16, commit: bool) {
        let (ids, name) = (self.ids, self.name.clone());
        let request = |side: usize| {
            EndTxnRequest::default()
                .with_transactional_id(txn_id(&name))
                .with_producer_id(ProducerId(ids[side]))
                .with_producer_epoch(epoch)
                .with_committed(commit)
        };
        let what = format!("EndTxn {what} ({})", if commit { "commit" } else { "abort" });
        self.pair.differ(&what, self.version.min(4), request, |_| {});
    }

    /// A transaction without partitions goes to its end at once.
    fn whole(&mut self, epoch: i16, commit: bool) {
        self.add("of nothing", epoch, &[]);
        self.end("of nothing", epoch, commit);
        let state = if commit { "CompleteCommit" } else { "CompleteAbort" };
        let name = self.name.clone();
        let waited = |side: &mut Side| poll(ENDED, || (described(side, &name).0 == state).then_some(())).is_some();
        let ended = (waited(&mut self.pair.ours), waited(&mut self.pair.original));
        assert_eq!(ended, (true, true), "{state} of epoch {epoch}, {:#?}", self.pair.differences);
        self.end("again", epoch, commit);
        self.end("the other way", epoch, !commit);
        self.describe(state);
    }

    fn strangers(&mut self, epoch: i16) {
        for stale in [epoch - 1, epoch + 1] {
            self.add("of another epoch", stale, &[0]);
            self.batch("of another epoch", stale, &[0], true);
            self.add_offsets("of another epoch", stale);
            self.end("of another epoch", stale, true);
        }
        let mine = self.ids;
        self.ids = mine.map(|id| id + 7_000);
        self.add("of another producer", epoch, &[0]);
        self.batch("of another producer", epoch, &[0], true);
        self.batch("of another producer", epoch, &[0], false);
        self.add_offsets("of another producer", epoch);
        self.end("of another producer", epoch, true);
        if self.version >= 3 {
            self.init("of another producer", Some(epoch));
        }
        self.ids = mine;
    }
}

fn life_of_a_producer(pair: &mut Pair, version: i16) {
    let name = format!("x-{version}");
    pair.each(|side| wait_for_coordinator(side, &name));
    let mut client = Client { pair, name, version, ids: [-1; 2] };
    client.describe("of nobody");
    client.add("of nobody", 0, &[0]);
    client.add_offsets("of nobody", 0);
    client.end("of nobody", 0, true);
    client.init("", None);
    client.learn_ids();
    client.describe("Empty");
    client.end("of none", 0, true);
    client.end("of none", 0, false);
    client.batch("of none", 0, &[0, 1], true);
    client.strangers(0);
    client.add("where one does not exist", 0, &[0, 9]);
    client.batch("where one does not exist", 0, &[0, 9], true);
    client.whole(0, true);
    client.whole(0, false);
    let mut epoch = 0;
    if version >= 3 {
        client.init("with its epoch", Some(0));
        client.init("with its epoch again", Some(0));
        client.init("with its epoch, the next", Some(1));
        client.init("with a former epoch", Some(0));
        epoch = 2;
    }
    client.init("of a new producer", None);
    epoch += 1;
    client.strangers(epoch);
    client.whole(epoch, true);
    client.add("of some", epoch, &[0]);
    client.add("of some again", epoch, &[0]);
    client.batch("of some", epoch, &[0, 1], true);
    client.batch("of one more", epoch, &[1], false);
    client.batch("of all", epoch, &[0, 1], true);
    client.add_offsets("of a group", epoch);
    client.strangers(epoch);
    client.describe("Ongoing");
    let list = ListTransactionsRequest::default().with_state_filters(vec![text("Ongoing"), text("Gone")]);
    let shape = |answer: &mut ListTransactionsResponse| {
        answer.transaction_states.iter_mut().for_each(|listed| listed.producer_id = ProducerId(1));
        answer.transaction_states.sort_by(|one, other| one.transactional_id.cmp(&other.transactional_id));
    };
    for version in 0..=1 {
        client.pair.same("ListTransactions", version, &list, shape);
    }
    for longer in [0, 3_600_000] {
        let list = list.clone().with_duration_filter(longer);
        client.pair.same("ListTransactions, long ones", 1, &list, shape);
    }
    if version % 2 == 0 {
        client.init("over an open transaction", None);
    } else {
        client.end("of some", epoch, true);
    }
}

#[test]
fn transactions() {
    let mut pair = Pair::start();
    pair.create("t", 2);
    pair.each(|side| {
        wait_for("producer ids", PATIENCE, || {
            let answer = side.ask(1, &InitProducerIdRequest::default().with_transactional_id(None)).ok()?;
            (answer.error_code == 0).then_some(())
        });
    });
    for version in 1..=6 {
        let mut request = FindCoordinatorRequest::default().with_key_type(1);
        match version {
            1..=3 => request.key = text("x"),
            _ => request.coordinator_keys = vec![text("x"), text("y")],
        }
        pair.each(|side| wait_for_coordinator(side, "x"));
        pair.same("FindCoordinator of a transaction", version, &request, as_is);
    }
    for version in 0..=5 {
        for timeout in [0, -1, 900_001] {
            let request = init_request("x").with_transaction_timeout_ms(timeout);
            pair.same("InitProducerId with a bad time-out", version, &request, as_is);
        }
        let nobody = EndTxnRequest::default().with_transactional_id(txn_id(""));
        pair.same("EndTxn without an id", version.min(4), &nobody, as_is);
        let nobody = AddOffsetsToTxnRequest::default().with_transactional_id(txn_id("")).with_group_id(group("g"));
        pair.same("AddOffsetsToTxn without an id", version.min(4), &nobody, as_is);
        life_of_a_producer(&mut pair, version);
    }
    pair.done("transactions");
}
