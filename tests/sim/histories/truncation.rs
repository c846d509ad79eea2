//! What followers cut off their logs: KIP-101, KIP-279, KIP-320.

use super::{CONTROLLER, LOST_OR_DIVERGED, cluster, end, is_done, leads, settle, tp, with_and_without, write};
use crate::old::Old;
use crate::world::World;

fn epoch_of(world: &World, node: i32) -> Option<i32> {
    world.replica(node, &tp()).map(|replica| replica.leader_epoch().get())
}

fn newest_epoch(world: &World) -> Option<i32> {
    world.checker.state(&tp()).map(|state| state.leader_epoch.get())
}

/// A follower that has all, but has not heard yet that it is committed, gets a new leader. If it cut its log at what it
/// knows to be committed and became leader itself before it fetched again, acknowledged records were gone.
fn high_watermark_truncation(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 3, 2], &[]);
    write(&mut world, 1);
    world.run(300);
    let before = end(&world, 1);
    world.client(world.client_of(&tp()).produce(2, 1));
    world.run_until("2 has the second batch", 1_000, |w| end(w, 2) > before);
    world.set_link(1, 2, false);
    world.run_until("the batch is acknowledged", 1_000, |w| is_done(w, 2));
    let known = world.replica(2, &tp()).and_then(|replica| replica.log()).map(|log| log.high_watermark());
    assert_eq!(known, Some(before), "2 does not know that it is committed");
    world.kill(1);
    world.set_link(3, 2, false);
    world.run_until("3 leads", 2_000, |w| leads(w, 3));
    world.run_until("2 knows", 300, |w| epoch_of(w, 2) == newest_epoch(w));
    world.kill(3);
    world.run_until("2 leads", 2_000, |w| leads(w, 2));
    settle(&mut world);
}

#[test]
fn kip_101_followers_cut_where_epochs_part() {
    let fix = Old { cuts_at_high_watermark: true, ..Old::default() };
    with_and_without(fix, LOST_OR_DIVERGED, high_watermark_truncation);
}

/// Leadership goes from 1 to 2 and back before 1 fetched from 2. Both have written at the same offset; 1 has never heard
/// of the epoch that 2 wrote in, and can only say where the last epoch before it ends.
fn fast_leader_change(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[2, 1], &[("min.insync.replicas", "1")]);
    write(&mut world, 1);
    world.kill(2);
    world.run_until("1 leads alone", 2_000, |w| {
        leads(w, 1) && w.checker.state(&tp()).is_some_and(|state| state.isr.len() == 1)
    });
    world.boot(2);
    world.run_until("2 is back", 3_000, |w| w.checker.state(&tp()).is_some_and(|state| state.isr.len() == 2));
    world.run(200);
    let before = end(&world, 1);
    world.set_link(1, 2, false);
    world.client(world.client_of(&tp()).produce(2, 1));
    world.run_until("1 has a batch of its own", 500, |w| end(w, 1) > before);
    world.set_link(2, 1, false);
    world.client(world.client_of(&tp()).elect_preferred(CONTROLLER));
    world.run_until("2 leads", 300, |w| leads(w, 2));
    world.client(world.client_of(&tp()).produce(3, 1));
    world.run_until("2 has a batch of its own", 500, |w| end(w, 2) > before);
    world.kill(2);
    world.run_until("1 leads again", 2_000, |w| leads(w, 1));
    write(&mut world, 4);
    settle(&mut world);
}

#[test]
fn kip_279_leaders_say_which_epoch_they_mean() {
    let fix = Old { hides_found_epoch: true, ..Old::default() };
    with_and_without(fix, LOST_OR_DIVERGED, fast_leader_change);
}

/// 2 hears of no new leader, and fetches from 1 until 1 leads again: it has missed that what it has was cut elsewhere.
fn zombie_follower(seed: u64, old: Old) {
    let mut world = cluster(seed, old, &[1, 3, 2], &[]);
    write(&mut world, 1);
    world.run(300);
    let before = end(&world, 1);
    world.set_link(1, 3, false);
    world.client(world.client_of(&tp()).produce(2, 1));
    world.run_until("2 has a batch that 3 has not", 500, |w| end(w, 2) > before && end(w, 3) == before);
    world.set_link(CONTROLLER, 2, false);
    world.sim.core().expire_sessions_of(1);
    world.run_until("3 leads", 1_000, |w| leads(w, 3));
    world.set_link(1, 3, true);
    world.run_until("1 is in sync, 2 is not", 4_000, |w| {
        let isr = w.checker.state(&tp()).map(|state| state.isr.iter().map(|id| id.get()).collect::<Vec<_>>());
        isr.is_some_and(|isr| isr.contains(&1) && !isr.contains(&2))
    });
    write(&mut world, 3);
    world.kill(3);
    world.run_until("1 leads", 2_000, |w| leads(w, 1));
    world.run(1_000);
    settle(&mut world);
}

#[test]
fn kip_320_fetches_name_their_leader_epoch() {
    let fix = Old { hides_leader_epoch: true, ..Old::default() };
    with_and_without(fix, LOST_OR_DIVERGED, zombie_follower);
}
