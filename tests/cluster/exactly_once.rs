//! Copies of a numbered topic through transactions, under faults: copiers and coordinators are killed -9 and frozen, and in a
//! mixed cluster the coordinators move between JVM brokers and ours. Every number arrives once and in order, and what was
//! aborted is never seen by readers of what is committed.

use std::thread::sleep;
use std::time::Duration;

use kafka_protocol::messages::ElectLeadersRequest;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;

use crate::support::broker::{Broker, Kind};
use crate::support::copies::{Copier, Copy, Reader, Running, wait_copied};
use crate::support::load::Load;
use crate::support::several::Several;
use crate::support::wire::{Wire, topic_name};
use crate::support::{PATIENCE, jvm, wait_for};

const PARTITIONS: i32 = 3;
const TRANSACTIONS: &str = "__transaction_state";
const OFFSETS: &str = "__consumer_offsets";
const SESSION: Duration = Duration::from_secs(3);
/// What the copiers ask for.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster with a single coordinator of each kind, and two members of a group that copy.
struct Copies {
    cluster: Several,
    load: Load,
    copy: Copy,
    members: Vec<Running>,
}

impl Copies {
    fn start(kinds: &[Kind; 3], copier: Copier, adjust: impl Fn(&mut Broker)) -> Copies {
        let cluster = Several::start(kinds, 1, |broker| {
            broker.set("zookeeper.session.timeout.ms", SESSION.as_millis());
            broker.set("auto.leader.rebalance.enable", false);
            broker.set("transaction.state.log.num.partitions", 1);
            broker.set("transaction.state.log.min.isr", 2);
            broker.set("transaction.abort.timed.out.transaction.cleanup.interval.ms", 1_000);
            broker.set("offsets.topic.num.partitions", 1);
            adjust(broker);
        });
        cluster.create_topic("from", PARTITIONS, &[]);
        cluster.create_topic("to", PARTITIONS, &[]);
        let load = Load::start_in_step(&cluster.bootstrap(), "from", PARTITIONS);
        let copy = Copy {
            bootstrap: cluster.bootstrap(),
            group: "copies".into(),
            from: "from".into(),
            to: "to".into(),
            abort_each: 9,
        };
        let members = (0..2).map(|number| copier.start(&copy, &format!("copier-{number}"))).collect();
        let copies = Copies { cluster, load, copy, members };
        copies.wait_progress("at the beginning");
        copies
    }

    /// Every member that runs commits some more transactions, where it has partitions to read; together they do.
    fn wait_progress(&self, what: &str) {
        let count = || self.members.iter().map(|member| member.count("committed")).sum::<usize>();
        let before = count();
        wait_for(&format!("transactions to go on {what}"), PATIENCE, || (count() >= before + 20).then_some(()));
    }

    fn replace(&mut self, member: usize, copier: Copier) {
        self.members[member].kill();
        self.members[member] = copier.start(&self.copy, &format!("copier-{member}"));
    }

    /// Has a broker lead the only partition of an internal topic.
    fn coordinate_on(&self, topic: &str, broker: i32) {
        let others = (1..=3).filter(|id| *id != broker);
        let replicas: Vec<i32> = [broker].into_iter().chain(others).collect();
        self.cluster.reassign(topic, [(0, replicas)].into_iter());
        let partitions = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(vec![0]);
        let request = ElectLeadersRequest::default()
            .with_election_type(0)
            .with_topic_partitions(Some(vec![partitions]))
            .with_timeout_ms(10_000);
        wait_for(&format!("{topic} to be led by {broker}"), PATIENCE, || {
            if self.cluster.leader(topic, 0) == broker {
                return Some(());
            }
            let controller = self.cluster.controller()?;
            let address = self.cluster.brokers[controller as usize - 1].address();
            let _ = Wire::connect(&address).ok()?.try_call(1, &request);
            None
        });
    }

    /// Nothing more is written; everything arrives.
    fn finish(mut self) {
        for topic in ["from", "to"] {
            self.cluster.wait_in_sync(topic, PARTITIONS as usize, 3);
        }
        let total = self.load.finish();
        wait_copied(&self.copy.bootstrap, "to", PARTITIONS, total);
        self.members.iter_mut().for_each(Running::leave);
        let all = Reader::new(&self.copy.bootstrap, "to", PARTITIONS, "read_uncommitted").all();
        assert!(all.len() > total, "{} records with those that were aborted, {total} numbers", all.len());
        println!("{total} numbers, {} records with those of aborted transactions", all.len());
        self.cluster.wait_same_logs("to", PARTITIONS);
    }
}

#[test]
fn copiers_and_coordinators_are_killed() {
    let mut copies = Copies::start(&[Kind::under_test(); 3], Copier::Go, |_| {});
    for topic in [TRANSACTIONS, OFFSETS, TRANSACTIONS] {
        let coordinator = copies.cluster.leader(topic, 0);
        copies.cluster.broker(coordinator).kill();
        copies.wait_progress(&format!("without the leader of {topic}"));
        copies.replace(0, Copier::Go);
        copies.cluster.broker(coordinator).start();
        copies.cluster.wait_in_sync(topic, 1, 3);
        copies.replace(1, Copier::Go);
        copies.wait_progress("with copiers in the place of those that were killed");
    }
    copies.finish();
}

#[test]
fn copiers_and_coordinators_freeze() {
    let mut copies = Copies::start(&[Kind::under_test(); 3], Copier::Go, |_| {});
    for topic in [TRANSACTIONS, OFFSETS] {
        // Another leads, and the old one wakes up in the middle of what it did.
        let coordinator = copies.cluster.leader(topic, 0);
        copies.cluster.broker(coordinator).process().signal(libc::SIGSTOP);
        wait_for("another coordinator", PATIENCE, || (copies.cluster.leader(topic, 0) != coordinator).then_some(()));
        copies.wait_progress(&format!("with the leader of {topic} frozen"));
        copies.cluster.broker(coordinator).process().signal(libc::SIGCONT);
        copies.cluster.wait_in_sync(topic, 1, 3);
        copies.wait_progress("with the old leader back");
    }
    // A copier that stops for longer than its transaction may take is fenced when it goes on; its partitions have gone to
    // the other meanwhile.
    for member in 0..2 {
        copies.members[member].talking.process.signal(libc::SIGSTOP);
        let frozen = std::time::Instant::now();
        copies.wait_progress("with one copier frozen");
        sleep((TRANSACTION_TIMEOUT + SESSION).saturating_sub(frozen.elapsed()));
        copies.members[member].talking.process.signal(libc::SIGCONT);
        copies.wait_progress("with the frozen copier back");
    }
    copies.finish();
}

/// The coordinators of the group and of the transactions move from kind to kind while transactions are under way.
fn coordinators_move(version: &'static str, copier: Copier) {
    let kinds = [Kind::Jvm(version), Kind::Barnabas, Kind::Jvm(version)];
    let copies = Copies::start(&kinds, copier, |broker| {
        // Nobody dies here.
        broker.set("zookeeper.session.timeout.ms", 18_000);
        if version == jvm::OLD {
            broker.set("inter.broker.protocol.version", "2.8");
        }
    });
    for (transactions, offsets) in [(2, 1), (1, 2), (2, 2), (3, 3), (2, 1)] {
        copies.coordinate_on(TRANSACTIONS, transactions);
        copies.wait_progress(&format!("with {transactions} coordinating transactions"));
        copies.coordinate_on(OFFSETS, offsets);
        copies.wait_progress(&format!("with {offsets} coordinating the group"));
    }
    copies.finish();
}

#[test]
fn coordinators_move_between_kafka_3_9_and_us() {
    coordinators_move(jvm::NEW, Copier::Java);
}

#[test]
fn coordinators_move_between_kafka_2_8_and_us() {
    coordinators_move(jvm::OLD, Copier::Go);
}
