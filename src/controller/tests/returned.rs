//! Brokers that came anew while there was no controller to see it.

use super::*;
use crate::base::ids::{BrokerEpoch, ControllerEpoch, LeaderEpoch};
use crate::zk::znodes::{broker_ids, topics::LeaderAndIsr};

/// Writes the state of partition 0 of `t` as an earlier controller did.
async fn write_state(cluster: &Cluster, leader: i32, isr: &[i32]) {
    write_state_of(cluster, leader, isr, Vec::new()).await;
}

/// The same by one of ours, which wrote the lives of the ISR's brokers that it knew.
async fn write_state_of(cluster: &Cluster, leader: i32, isr: &[i32], isr_lives: Vec<BrokerEpoch>) {
    let isr = isr.iter().copied().map(BrokerId).collect();
    let leader_and_isr = LeaderAndIsr { leader_epoch: LeaderEpoch(3), ..LeaderAndIsr::initial(BrokerId(leader), isr) };
    let state = PartitionState { leader_and_isr, controller_epoch: ControllerEpoch(0), isr_lives };
    cluster.admin.create_recursive(&topics::state_path("t", 0), &state.encode()).await.unwrap();
}

#[tokio::test]
async fn a_leader_that_came_anew_unseen_follows_one_that_stayed() {
    let cluster = Cluster::new().await;
    cluster.create("t", 1, &[2, 3]).await;
    let three = register(&cluster, 3).await;
    write_state(&cluster, 2, &[2, 3]).await;
    let two = register(&cluster, 2).await;
    let one = cluster.start(1).await;
    eventually("told", async || cluster.brokers.leaders(2, "t").get(&0) == Some(&(3, 4))).await;
    assert_eq!(cluster.brokers.leaders(3, "t").get(&0), Some(&(3, 4)));
    let state = cluster.state("t", 0).await.unwrap().leader_and_isr;
    assert_eq!((state.leader, state.isr), (BrokerId(3), vec![BrokerId(3)]));
    assert!(one.handle.is_active());
    drop((two, three));
}

/// The state was written after 2 came anew, but by a controller that had not seen it.
#[tokio::test]
async fn a_leader_whom_the_last_controller_knew_in_another_life_follows() {
    for (life_of_2, leads) in [(BrokerEpoch(1), 3), (BrokerEpoch::NONE, 3), (BrokerEpoch(i64::MAX), 2)] {
        let cluster = Cluster::new().await;
        cluster.create("t", 1, &[2, 3]).await;
        let registered = (register(&cluster, 2).await, register(&cluster, 3).await);
        write_state_of(&cluster, 2, &[2, 3], vec![life_of_2, BrokerEpoch(i64::MAX)]).await;
        let one = cluster.start(1).await;
        eventually("told", async || cluster.brokers.leaders(2, "t").get(&0).is_some_and(|(l, _)| *l == leads)).await;
        let expected = if leads == 3 { vec![3] } else { vec![2, 3] };
        assert_eq!(cluster.isr("t", 0).await, expected, "{life_of_2}");
        assert!(one.handle.is_active());
        drop(registered);
    }
}

/// A controller writes the lives that it knows, and its successor has no other.
#[tokio::test]
async fn a_state_names_the_lives_of_its_members() {
    let cluster = Cluster::new().await;
    let two = register(&cluster, 2).await;
    let one = cluster.start(1).await;
    cluster.create("t", 1, &[2]).await;
    eventually("told", async || cluster.brokers.leaders(2, "t").contains_key(&0)).await;
    let epoch = cluster.admin.get(&broker_ids::path(BrokerId(2))).await.unwrap().stat.czxid;
    assert_eq!(cluster.state("t", 0).await.unwrap().isr_lives, [BrokerEpoch(epoch)]);
    assert!(one.handle.is_active());
    drop(two);
}

#[tokio::test]
async fn where_all_came_anew_the_leader_stays() {
    let cluster = Cluster::new().await;
    cluster.create("t", 1, &[2, 3]).await;
    write_state(&cluster, 3, &[2, 3]).await;
    let registered = (register(&cluster, 3).await, register(&cluster, 2).await);
    let one = cluster.start(1).await;
    eventually("told", async || cluster.brokers.leaders(2, "t").get(&0) == Some(&(3, 3))).await;
    assert_eq!(cluster.state("t", 0).await.unwrap().leader_and_isr.isr, vec![BrokerId(2), BrokerId(3)]);
    assert!(one.handle.is_active());
    drop(registered);
}

/// Its session was over, not its process: it has lost nothing.
#[tokio::test]
async fn a_leader_that_only_registered_anew_stays() {
    let cluster = Cluster::new().await;
    cluster.create("t", 1, &[2, 3]).await;
    let three = register(&cluster, 3).await;
    let two = connect(&cluster.model).await;
    let info = BrokerInfo::new(BrokerId(2), vec![Endpoint::plaintext("h", 9094)], 0);
    let registration = Arc::new(Registration::new(two.clone(), info, None, Arc::new(ManualClock::new(0))));
    let first = registration.register().await.unwrap();
    tokio::spawn(registration.clone().keep());
    write_state(&cluster, 2, &[2, 3]).await;
    cluster.model.expire(two.session_id().unwrap());
    eventually("registered anew", async || registration.epoch().borrow().is_some_and(|epoch| epoch > first)).await;
    let one = cluster.start(1).await;
    eventually("told", async || cluster.brokers.leaders(3, "t").get(&0).is_some_and(|(leader, _)| *leader == 2)).await;
    assert_eq!(cluster.state("t", 0).await.unwrap().leader_and_isr.isr, vec![BrokerId(2), BrokerId(3)]);
    assert!(one.handle.is_active());
    drop(three);
}

/// A reassignment that added 3 was called back; whoever did that did not get to the ISR.
#[tokio::test]
async fn who_is_no_replica_leaves_the_isr() {
    let cluster = Cluster::new().await;
    cluster.create("t", 1, &[2, 1]).await;
    let registered = (register(&cluster, 2).await, register(&cluster, 3).await);
    write_state(&cluster, 2, &[2, 3]).await;
    let one = cluster.start(1).await;
    eventually("told", async || cluster.brokers.leaders(2, "t").get(&0) == Some(&(2, 4))).await;
    assert_eq!(cluster.isr("t", 0).await, [2]);
    eventually("deleted", async || cluster.brokers.stopped(3, "t").get(&0) == Some(&true)).await;
    assert!(one.handle.is_active());
    drop(registered);
}

/// Registers a broker that does not stand for election.
async fn register(cluster: &Cluster, id: i32) -> ZkClient {
    let zk = connect(&cluster.model).await;
    let info = BrokerInfo::new(BrokerId(id), vec![Endpoint::plaintext("h", 9092 + id)], 0);
    Registration::new(zk.clone(), info, None, Arc::new(ManualClock::new(0))).register().await.unwrap();
    zk
}
