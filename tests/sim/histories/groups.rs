//! Members of a group whose coordinator is replaced under their hands, and members that are taken for dead.

use barnabas::base::ids::{Offset, TopicPartition};
use barnabas::base::topic_names::GROUP_METADATA_TOPIC;
use barnabas::coordinator::group::state::GroupState;

use super::{CONTROLLER, SEEDS, cluster, settle, with_and_without};
use crate::groups::members::{Members, Order, SLOTS};
use crate::groups::{self, GROUP, PARTITIONS, SETTINGS, WORK};
use crate::kernel::{CLIENTS, Node};
use crate::old::Old;
use crate::world::World;

/// A cluster where 1 coordinates the group, and the members of it, at work.
fn at_work(seed: u64, old: Old) -> (World, Members) {
    let mut world = cluster(seed, old, &[1, 2, 3], SETTINGS);
    world.create_topic(WORK, PARTITIONS, &[2, CONTROLLER]);
    world.create_topic(GROUP_METADATA_TOPIC, 1, &[1, 2, 3]);
    world.run_until("all partitions have leaders", 2_000, |w| w.checker.partitions().count() == 6);
    world.run(100);
    let members = groups::members(&world);
    (0..SLOTS).for_each(|slot| send(&world, &members, slot));
    world.run_until("all work", 5_000, |w| works(w, &members));
    (world, members)
}

/// Sends a member in.
fn send(world: &World, members: &Members, slot: usize) {
    let members = members.clone();
    world.client(async move { members.spawn(slot) });
}

/// Whether all members are in the last generation, and each partition has an offset of it.
fn works(world: &World, members: &Members) -> bool {
    let ledger = world.checker.ledger.lock();
    let Some(last) = world.checker.group_log.last().filter(|last| last.shares.len() == SLOTS) else { return false };
    let is_in = |slot| ledger.groups.alive.get(&slot) == Some(&(members.newest(slot), last.generation));
    (0..SLOTS).all(is_in) && (0..PARTITIONS).all(|p| ledger.groups.committed_in(last.generation).any(|of| of == p))
}

fn generation(world: &World) -> i32 {
    world.checker.group_log.last().map_or(0, |last| last.generation)
}

fn group_end(world: &World, node: Node) -> Option<Offset> {
    world.end_of(node, &TopicPartition::new(GROUP_METADATA_TOPIC, 0))
}

fn state(world: &World, node: Node) -> Option<GroupState> {
    world.view(node)?.groups.describe(GROUP).ok().map(|group| group.state)
}

/// All comes right, and nothing is lost that members were told.
fn finish(world: &mut World, members: &Members) {
    groups::calm(world, members);
    settle(world);
    world.finish(8_000, |w| groups::unfinished(w, members));
    settle(world);
}

/// 1 is frozen while members wait for it to let them join, and while one stands still that goes on, when 1 does, with what
/// it had: both think that nothing has been.
#[test]
fn a_coordinator_that_wakes_is_none_any_more() {
    for seed in 1..=SEEDS {
        let (mut world, members) = at_work(seed, Old::default());
        let before = generation(&world);
        members.order(1, Order::Freeze(2_500));
        members.kill(2);
        send(&world, &members, 2);
        let is_prepared = |w: &World| state(w, 1) == Some(GroupState::PreparingRebalance);
        world.run_until("members wait for others", 2_000, is_prepared);
        world.freeze(1);
        world.run_until("2 coordinates a newer generation", 5_000, |w| {
            state(w, 2) == Some(GroupState::Stable) && generation(w) > before
        });
        let acked = world.checker.ledger.lock().groups.acked.len();
        world.run_until("members go on", 3_000, |w| w.checker.ledger.lock().groups.acked.len() > acked + 10);
        world.thaw(1);
        world.run(1_500);
        finish(&mut world, &members);
    }
}

/// 1 dies when it has stored commits, and nobody was told so.
#[test]
fn a_commit_that_nobody_answered_does_no_harm() {
    for seed in 1..=SEEDS {
        let (mut world, members) = at_work(seed, Old::default());
        world.set_link(1, CLIENTS, false);
        let before = group_end(&world, 1);
        let all_have_it =
            |w: &World| group_end(w, 1) > before && [2, 3].iter().all(|n| group_end(w, *n) == group_end(w, 1));
        world.run_until("a commit is replicated", 1_000, all_have_it);
        world.kill(1);
        world.run_until("2 coordinates", 5_000, |w| state(w, 2) == Some(GroupState::Stable) && works(w, &members));
        world.set_link(1, CLIENTS, true);
        finish(&mut world, &members);
    }
}

/// 1 dies when only it has the last commits.
fn unreplicated_commits(seed: u64, old: Old) {
    let (mut world, members) = at_work(seed, old);
    [2, 3].iter().for_each(|node| world.set_link(1, *node, false));
    // Before they are taken out of the ISR.
    world.run_until("only 1 has the last commits", 250, |w| group_end(w, 1) >= group_end(w, 2).map(|end| end.plus(2)));
    world.run(50);
    world.kill(1);
    world.run_until("2 coordinates", 5_000, |w| state(w, 2).is_some());
    finish(&mut world, &members);
}

#[test]
fn a_commit_is_answered_when_all_replicas_have_it() {
    let without = Old { answers_at_once: true, ..Old::default() };
    with_and_without(
        without,
        &["is not in the log", "acknowledged was", "which was acknowledged"],
        unreplicated_commits,
    );
}

/// 1 has stored a generation that nobody else has. 3 dies, so that 1 leads anew, and reads what it has. One member asks it
/// for its share; the other, `dead`, cannot ask for a new generation. Then 1 dies, and 2 gives that generation anew.
fn unreplicated_generation(seed: u64, old: Old, dead: usize) {
    let (mut world, members) = at_work(seed, old);
    members.kill(2);
    send(&world, &members, 2);
    let is = |state_of_1| move |w: &World| state(w, 1) == Some(state_of_1);
    world.run_until("members are waited for", 2_000, is(GroupState::PreparingRebalance));
    let cut = [(2, 1), (3, 1), (1, CONTROLLER)];
    cut.iter().for_each(|(from, to)| world.set_link(*from, *to, false));
    world.run_until("all have joined", 2_000, is(GroupState::CompletingRebalance));
    let before = group_end(&world, 1);
    world.run_until("only 1 has the generation", 300, |w| group_end(w, 1) > before);
    members.kill(dead);
    world.kill(3);
    world.run(400);
    world.kill(1);
    world.boot(3);
    send(&world, &members, dead);
    world.run_until("2 coordinates", 5_000, |w| state(w, 2).is_some());
    cut.iter().for_each(|(from, to)| world.set_link(*from, *to, true));
    finish(&mut world, &members);
}

#[test]
fn a_generation_is_confirmed_when_all_replicas_have_it() {
    let without = Old { acts_at_once: true, ..Old::default() };
    with_and_without(without, &["the log knows nothing of"], |seed, old| {
        // One of the two leads the generation: the leader would have a new one made at once.
        [0, 2].iter().for_each(|slot| unreplicated_generation(seed, old, *slot));
    });
}

/// A member stands still for so long that others take its partitions over, and goes on.
fn zombie(seed: u64, old: Old) {
    let (mut world, members) = at_work(seed, old);
    let before = generation(&world);
    members.order(1, Order::Freeze(1_500));
    let is_left_out =
        |w: &World| w.checker.group_log.last().is_some_and(|l| l.generation > before && l.shares.len() < SLOTS);
    world.run_until("the others go on", 2_000, is_left_out);
    world.run(2_000);
    finish(&mut world, &members);
}

#[test]
fn a_member_that_was_taken_for_dead_commits_nothing() {
    let without = Old { takes_all_commits: true, ..Old::default() };
    with_and_without(without, &["which was acknowledged"], zombie);
}

/// A static member is killed and comes back before its session ends: nobody else hears of it.
#[test]
fn kip_345_a_static_member_comes_back_as_who_it_was() {
    for seed in 1..=SEEDS {
        let (mut world, members) = at_work(seed, Old::default());
        let before = generation(&world);
        members.kill(0);
        world.run(150);
        send(&world, &members, 0);
        world.run_until("it works", 1_000, |w| works(w, &members));
        world.run(1_000);
        assert_eq!(generation(&world), before);
        assert!(works(&world, &members));
        finish(&mut world, &members);
    }
}
