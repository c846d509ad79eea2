//! Loops that consume, transform and produce in transactions, in every library: each number once, in order, and nothing of
//! what was aborted for readers of what is committed.

use crate::support::broker::Kind;
use crate::support::copies::{Copier, Copy, Reader, wait_copied};
use crate::support::load::Load;
use crate::support::several::Several;
use crate::support::{PATIENCE, wait_for};

const PARTITIONS: i32 = 3;

/// A cluster of three of the kind under test.
pub fn three() -> Several {
    Several::start(&[Kind::under_test(); 3], 1, |broker| {
        broker.set("auto.leader.rebalance.enable", false);
        broker.set("transaction.state.log.min.isr", 2);
    })
}

/// Copies in two members of a group, one of which is killed and replaced, while a broker is killed.
fn copies(copier: Copier) {
    let mut cluster = three();
    cluster.create_topic("from", PARTITIONS, &[]);
    cluster.create_topic("to", PARTITIONS, &[]);
    let load = Load::start_in_step(&cluster.bootstrap(), "from", PARTITIONS);
    let copy = Copy {
        bootstrap: cluster.bootstrap(),
        group: "copies".into(),
        from: "from".into(),
        to: "to".into(),
        abort_each: 7,
    };
    let mut first = copier.start(&copy, "copier-1");
    let mut second = copier.start(&copy, "copier-2");
    let committed = |count: usize, one: &crate::support::copies::Running| {
        wait_for(&format!("{count} transactions"), PATIENCE, || (one.count("committed") >= count).then_some(()));
    };
    committed(10, &first);
    committed(10, &second);
    first.kill();
    let mut first = copier.start(&copy, "copier-1");
    committed(10, &first);
    cluster.broker(2).kill();
    let before = second.count("committed");
    committed(before + 20, &second);
    cluster.broker(2).start();
    wait_for("an aborted transaction of each", PATIENCE, || {
        (first.count("aborted") > 0 && second.count("aborted") > 0).then_some(())
    });
    cluster.wait_in_sync("from", PARTITIONS as usize, 3);
    let total = load.finish();
    wait_copied(&cluster.bootstrap(), "to", PARTITIONS, total);
    first.leave();
    second.leave();
    let all = Reader::new(&cluster.bootstrap(), "to", PARTITIONS, "read_uncommitted").all();
    assert!(all.len() > total, "{} records with those that were aborted, {total} numbers", all.len());
    cluster.wait_same_logs("to", PARTITIONS);
}

#[test]
fn the_java_client_copies_exactly_once() {
    copies(Copier::Java);
}

#[test]
fn franz_go_copies_exactly_once() {
    copies(Copier::Go);
}

#[test]
fn librdkafka_copies_exactly_once() {
    copies(Copier::Python);
}
