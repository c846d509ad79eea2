//! Transactions: copiers that bring numbers to the output exactly once, a reader of what is committed, and what must hold of
//! both and of the logs.
//!
//! - The reader reads each number once and in order in its partition, and nothing of a transaction that its producer was
//!   told is aborted; how far it can read never falls.
//! - What a producer was told of a transaction's end is so, and a transaction ends alike in all partitions, offsets of
//!   groups included.
//! - No record comes into a transaction that is over, nor into one that it does not belong to.
//! - When it is calm nothing stays open, all numbers are copied, and the offset committed with them says so.

pub mod copier;
pub mod outcomes;
pub mod reader;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use barnabas::base::ids::TopicPartition;
use barnabas::base::topic_names::{GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC};
use barnabas::coordinator::txn::state::TxnState;
use barnabas::coordinator::txn::views::Filter;

use crate::kernel::Node;
use crate::world::World;
use copier::{Copier, Shared};

/// Where numbers are copied to.
pub const OUTPUT: &str = "out";
/// Its partitions: number n goes to partition n modulo this.
pub const PARTITIONS: i32 = 2;

/// What brokers are started with where there are transactions.
pub const SETTINGS: &[(&str, &str)] = &[
    ("request.timeout.ms", "1000"),
    ("offsets.commit.timeout.ms", "500"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "200"),
];

/// Makes the output and the internal topics, all partitions on these machines.
pub fn create_topics(world: &mut World, replicas: &[Node]) {
    world.create_topic(OUTPUT, PARTITIONS, replicas);
    world.create_internal(&[TRANSACTION_STATE_TOPIC, GROUP_METADATA_TOPIC], replicas);
}

/// A partition of the output.
pub fn output(partition: i32) -> TopicPartition {
    TopicPartition::new(OUTPUT, partition)
}

/// A copier of numbers below `count` under the transactional id `id`; none of it runs yet.
pub fn copier(world: &World, id: &'static str, count: i64) -> Copier {
    let client = world.client_of(&output(0));
    Copier { client, id, shared: Arc::new(Shared::new(count)) }
}

/// Starts what a random history has: copiers that replace each other, and a reader of each partition.
pub fn start(world: &World, count: i64) -> Copier {
    let copier = copier(world, "copier", count);
    world.client(copier.clone().replace_each_other());
    for partition in 0..PARTITIONS {
        world.client(world.client_of(&output(partition)).read_committed());
    }
    copier
}

/// It is calm: no more copiers come, the last one goes on to the end, and then the offset that is committed is looked at.
pub fn calm(world: &World, copier: &Copier) {
    copier.shared.is_calm.store(true, Ordering::Relaxed);
    world.client(copier.clone().audit());
}

/// What is not as it must be at the end.
pub fn unfinished(world: &World, copier: &Copier) -> Option<String> {
    let ledger = world.checker.ledger.lock();
    let read: i64 = ledger.copies.read.values().sum();
    let audited = ledger.copies.audited;
    drop(ledger);
    let count = copier.shared.count;
    if read != count || audited != Some(count) {
        return Some(format!("{read} of {count} numbers are read, the offset committed is {audited:?}"));
    }
    let still = world.checker.outcomes.still_open();
    still.or_else(|| world.nodes().into_iter().find_map(|node| under_way(world, node)))
}

/// A transaction that its coordinator has not ended.
fn under_way(world: &World, node: Node) -> Option<String> {
    let view = world.view(node)?;
    let is_over = |state| matches!(state, TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort);
    let listed = view.transactions.list(&Filter { longer_than_ms: -1, ..Filter::default() });
    match listed {
        Err(error) => Some(format!("{node} does not list its transactions: {error}")),
        Ok(listed) => {
            let open = listed.into_iter().find(|one| !is_over(one.state))?;
            Some(format!("{node} has {} in {}", open.id, open.state.name()))
        }
    }
}
