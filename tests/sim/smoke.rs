//! Without faults: a topic is made, written, read.

use barnabas::base::ids::TopicPartition;

use crate::world::World;

fn run(seed: u64) -> World {
    let mut world = World::new(seed, 3, &[]);
    world.boot_all();
    world.run_until("all brokers are up", 2_000, |w| w.nodes().iter().all(|n| w.view(*n).is_some()));
    world.create_topic("t", 1, &[1, 2, 3]);
    let tp = TopicPartition::new("t", 0);
    world.run_until("the partition has a leader", 2_000, |w| w.checker.state(&tp).is_some());
    let client = world.client_of(&tp);
    world.client(client.clone().produce(1, 20));
    world.client(client.consume());
    world.run_until("all is written and read", 10_000, |w| {
        let ledger = w.checker.ledger.lock();
        ledger.acknowledged.len() == 20 && ledger.batches_read() == 20
    });
    world
}

#[test]
fn a_cluster_without_faults_serves() {
    run(1);
}
