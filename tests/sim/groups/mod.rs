//! Groups: members that share a few partitions and commit offsets, as Kafka's consumers with the classic protocol do, and
//! what must hold of what they are told and of the log of `__consumer_offsets`.
//!
//! - In the log generations never fall, and the assignment of a generation is one that its leader sent: every partition
//!   has one owner, as leaders assign so. What SyncGroup answers is that assignment, and it is never lost.
//! - An offset that was acknowledged is in the log for good, and none below it comes after it: members only go on from what
//!   they read, so a lower one would be a zombie's. A member that takes a partition over reads at least what others were
//!   acknowledged up to that generation.
//! - When it is calm the group is Stable, all that live are in its last generation and commit in it, and the offsets are those
//!   that were acknowledged.
//!
//! Not promised, by Kafka neither: OffsetFetch, JoinGroup, Heartbeat and the answer of a SyncGroup out of memory need no
//! write, so a coordinator that was replaced and does not know it may answer with what was. Hence a generation counts once it
//! is in the log, and a read counts if the broker that answered the SyncGroup answers it over the same connection: all that
//! was committed before that generation is older than the generation's record.

pub mod ledger;
pub mod log;
pub mod member;
pub mod members;

use std::collections::BTreeSet;

use barnabas::base::ids::TopicPartition;
use barnabas::base::topic_names::GROUP_METADATA_TOPIC;
use barnabas::coordinator::group::state::GroupState;

use crate::kernel::Node;
use crate::world::World;
use members::{Members, SLOTS};

/// The group.
pub const GROUP: &str = "workers";
/// The topic that its members share; what is in it does not matter.
pub const WORK: &str = "work";
/// The partitions of that topic.
pub const PARTITIONS: i32 = 4;

/// What brokers are started with where there are groups.
pub const SETTINGS: &[(&str, &str)] = &[
    ("group.min.session.timeout.ms", "100"),
    ("group.initial.rebalance.delay.ms", "100"),
    ("offsets.commit.timeout.ms", "500"),
];

/// Makes the topic that is worked on and the internal one, all partitions on these machines.
pub fn create_topics(world: &mut World, replicas: &[Node]) {
    world.create_topic(WORK, PARTITIONS, replicas);
    world.create_internal(&[GROUP_METADATA_TOPIC], replicas);
}

/// The members of the group; none of them runs yet.
pub fn members(world: &World) -> Members {
    Members::new(world.client_of(&TopicPartition::new(WORK, 0)))
}

/// Starts what a random history has: members that come and go.
pub fn start(world: &World) -> Members {
    let members = members(world);
    world.client(members.clone().come_and_go());
    members
}

/// It is calm: the members that are there stay, and somebody asks for the offsets.
pub fn calm(world: &World, members: &Members) {
    members.be_calm();
    world.client(members.clone().audit());
}

/// What is not as it must be at the end.
pub fn unfinished(world: &World, members: &Members) -> Option<String> {
    let ledger = world.checker.ledger.lock();
    let told = &ledger.groups;
    let log = &world.checker.group_log;
    if let Some(lost) = log.lost(told) {
        return Some(lost);
    }
    let Some(last) = log.last() else { return Some("no generation is in the log".to_owned()) };
    let generation = last.generation;
    if last.shares.len() != SLOTS {
        return Some(format!("generation {generation} has {} members, not {SLOTS}", last.shares.len()));
    }
    for slot in 0..SLOTS {
        let alive = told.alive.get(&slot);
        if alive != Some(&(members.newest(slot), generation)) {
            return Some(format!("the member of slot {slot} is not in generation {generation}: {alive:?}"));
        }
    }
    let done: BTreeSet<i32> = told.committed_in(generation).collect();
    if done.len() != usize::try_from(PARTITIONS).unwrap_or(0) {
        return Some(format!("in generation {generation} offsets are committed for {done:?} only"));
    }
    if let Some(wrong) = told.audit() {
        return Some(wrong);
    }
    drop(ledger);
    let states = world.nodes().into_iter().filter_map(|node| world.view(node)?.groups.describe(GROUP).ok());
    let states: Vec<GroupState> = states.map(|group| group.state).collect();
    (states != [GroupState::Stable]).then(|| format!("coordinators know the group as {states:?}"))
}
