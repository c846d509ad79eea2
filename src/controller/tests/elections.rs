//! Elections that are asked for, by request, by znode, by configuration and by the clock.

use kafka_protocol::messages::ControlledShutdownRequest;

use super::*;
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::zk::znodes::configs;

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

/// Topic `t` on brokers 2 and 3, led by 3 though 2 is preferred, both in sync.
async fn led_elsewhere(adjust: fn(&mut ControllerConfig)) -> (Cluster, [Broker; 3]) {
    let (cluster, [one, two, three]) = Cluster::of_three_with(adjust).await;
    cluster.create_led("t", 1, &[2, 3]).await;
    let stop = ControlledShutdownRequest::default().with_broker_id(WireBroker(2)).with_broker_epoch(two.epoch);
    assert_eq!(one.handle.controlled_shutdown(stop).await.error_code, 0);
    assert_eq!(cluster.leader("t", 0).await, Some(3));
    two.handle.shut_down();
    two.zk.close().await;
    eventually("gone", async || cluster.brokers.alive(1) == [1, 3]).await;
    let two = cluster.start(2).await;
    cluster.know_each_other(&[1, 2, 3]).await;
    assert_eq!(cluster.propose(&one, &three, "t", &[3, 2]).await, 0);
    (cluster, [one, two, three])
}

#[tokio::test]
async fn preferred_leaders_are_elected_on_request() {
    let (cluster, [one, two, three]) = led_elsewhere(|_| {}).await;
    let wanted = vec![tp("t", 0), tp("t", 7)];
    assert_eq!(two.handle.elect_leaders(ElectionType::Preferred, wanted.clone()).await, None);
    let outcomes = one.handle.elect_leaders(ElectionType::Preferred, wanted.clone()).await.unwrap();
    assert_eq!(outcomes[&tp("t", 0)], Outcome::DONE);
    assert_eq!(outcomes[&tp("t", 7)].code, ErrorCode::UnknownTopicOrPartition);
    assert_eq!((cluster.leader("t", 0).await, cluster.isr("t", 0).await), (Some(2), vec![3, 2]));
    let again = one.handle.elect_leaders(ElectionType::Preferred, wanted).await.unwrap();
    assert_eq!(again[&tp("t", 0)].code, ErrorCode::ElectionNotNeeded);
    // Out of sync it may not lead.
    cluster.create_led("u", 1, &[3, 2]).await;
    let stop = ControlledShutdownRequest::default().with_broker_id(WireBroker(3)).with_broker_epoch(three.epoch);
    assert_eq!(one.handle.controlled_shutdown(stop).await.error_code, 0);
    let outcomes = one.handle.elect_leaders(ElectionType::Preferred, vec![tp("u", 0)]).await.unwrap();
    assert_eq!(outcomes[&tp("u", 0)].code, ErrorCode::PreferredLeaderNotAvailable);
}

#[tokio::test]
async fn the_old_tool_writes_a_node_that_goes_when_done() {
    let (cluster, _brokers) = led_elsewhere(|_| {}).await;
    let asked = admin::encode_partitions(&[tp("t", 0), tp("none", 0)]);
    for _ in 0..2 {
        cluster.admin.create(admin::PREFERRED_ELECTION_PATH, &asked, CreateMode::Persistent).await.unwrap();
        let gone = async || cluster.admin.find(admin::PREFERRED_ELECTION_PATH).await.unwrap().is_none();
        eventually("the node goes", gone).await;
        assert_eq!(cluster.leader("t", 0).await, Some(2));
    }
}

#[tokio::test]
async fn leaderships_that_drifted_go_back_by_themselves() {
    let often = |config: &mut ControllerConfig| {
        config.rebalance = Some(Rebalance { interval: Duration::from_millis(20), percentage: 10 });
    };
    let (cluster, _brokers) = led_elsewhere(often).await;
    eventually("the preferred leader", async || cluster.leader("t", 0).await == Some(2)).await;
    assert_eq!(cluster.isr("t", 0).await, [3, 2]);
}

/// Topic `t` on brokers 2 and 3; 3 is out of the ISR and 2 is gone.
async fn without_a_leader() -> (Cluster, [Broker; 3]) {
    let (cluster, [one, two, three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 3]).await;
    assert_eq!(cluster.propose(&one, &two, "t", &[2]).await, 0);
    two.handle.shut_down();
    two.zk.close().await;
    eventually("no leader", async || cluster.leader("t", 0).await == Some(-1)).await;
    assert_eq!(cluster.isr("t", 0).await, [2]);
    (cluster, [one, two, three])
}

#[tokio::test]
async fn an_unclean_leader_is_elected_on_request_only() {
    let (cluster, [one, ..]) = without_a_leader().await;
    let wanted = vec![tp("t", 0)];
    let clean = one.handle.elect_leaders(ElectionType::Preferred, wanted.clone()).await.unwrap();
    assert_eq!(clean[&tp("t", 0)].code, ErrorCode::PreferredLeaderNotAvailable);
    let unclean = one.handle.elect_leaders(ElectionType::Unclean, wanted.clone()).await.unwrap();
    assert_eq!(unclean[&tp("t", 0)], Outcome::DONE);
    let state = cluster.state("t", 0).await.unwrap().leader_and_isr;
    assert_eq!((state.leader.get(), state.isr, state.leader_recovery_state), (3, vec![BrokerId(3)], 1));
    let again = one.handle.elect_leaders(ElectionType::Unclean, wanted).await.unwrap();
    assert_eq!(again[&tp("t", 0)].code, ErrorCode::ElectionNotNeeded);
}

#[tokio::test]
async fn a_topic_that_allows_unclean_leaders_gets_one_at_once() {
    let (cluster, [one, ..]) = without_a_leader().await;
    let tell = async || {
        let change = configs::encode_change("topics/t");
        let mode = CreateMode::PersistentSequential;
        cluster.admin.create(&configs::change_path_prefix(), &change, mode).await.unwrap();
    };
    // Nothing happens as long as the configuration does not say so.
    tell().await;
    let list = one.handle.list_reassignments(None).await.unwrap();
    assert!(list.is_empty());
    assert_eq!(cluster.leader("t", 0).await, Some(-1));
    let overrides = BTreeMap::from([("unclean.leader.election.enable".to_owned(), "true".to_owned())]);
    let path = configs::path(configs::EntityType::Topics, "t");
    cluster.admin.create_recursive(&path, &configs::encode(&overrides)).await.unwrap();
    tell().await;
    eventually("an unclean leader", async || cluster.leader("t", 0).await == Some(3)).await;
    assert!(one.handle.is_active());
}

#[tokio::test]
async fn unclean_leaders_that_are_allowed_for_all_topics_are_elected_at_once() {
    let (cluster, [one, ..]) = without_a_leader().await;
    one.handle.allow_unclean_leaders(false);
    assert!(one.handle.list_reassignments(None).await.is_some());
    assert_eq!(cluster.leader("t", 0).await, Some(-1));
    one.handle.allow_unclean_leaders(true);
    eventually("an unclean leader", async || cluster.leader("t", 0).await == Some(3)).await;
    assert!(one.handle.is_active());
}

#[tokio::test]
async fn who_died_while_nobody_was_controller_leaves_the_isrs() {
    let (cluster, [one, two, three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 3]).await;
    [&two, &three, &one].iter().for_each(|broker| broker.handle.shut_down());
    eventually("nobody is controller", async || !one.handle.is_active()).await;
    three.zk.close().await;
    let four = cluster.start(4).await;
    eventually("a new controller", async || four.handle.is_active()).await;
    eventually("3 leaves the ISR", async || cluster.isr("t", 0).await == [2]).await;
    assert_eq!(cluster.leader("t", 0).await, Some(2), "the leader stays");
    eventually("2 is told", async || cluster.brokers.isr(2, "t") == [2]).await;
}
