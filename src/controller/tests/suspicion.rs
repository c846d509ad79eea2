//! Deaths that are seen before the session ends, and suspicions that are wrong.

use super::*;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, ControllerEpoch, LeaderEpoch};
use crate::controller::event::Event;
use crate::zk::Op;
use crate::zk::znodes::configs;

#[tokio::test]
async fn a_suspects_leaderships_go_to_the_isr_and_come_to_no_harm() {
    let (cluster, [one, two, three]) = Cluster::of_three().await;
    cluster.create_led("t", 20, &[2, 3, 1]).await;
    cluster.create_led("followed", 1, &[3, 2, 1]).await;
    cluster.create_led("alone", 1, &[2, 3]).await;
    assert_eq!(cluster.propose(&one, &two, "alone", &[2]).await, 0);
    cluster.brokers.set_dead(2, true);
    eventually("another leader", async || cluster.leader("t", 19).await == Some(3)).await;
    eventually("one less in sync", async || cluster.isr("followed", 0).await == [3, 1]).await;
    assert_eq!(cluster.isr("t", 19).await, [3, 1]);
    // What only the suspect has in full stays with it.
    let alone = cluster.state("alone", 0).await.unwrap().leader_and_isr;
    assert_eq!((alone.leader, alone.isr, alone.leader_epoch), (BrokerId(2), vec![BrokerId(2)], LeaderEpoch(0)));
    // It is alive after all: what it proposes in its old epoch is refused, and it may not join as long as it is suspected.
    assert_eq!(cluster.propose(&one, &three, "t", &[3, 1, 2]).await, ErrorCode::IneligibleReplica.code());
    cluster.brokers.set_dead(2, false);
    eventually("told its role", async || cluster.brokers.leaders(2, "t").get(&0) == Some(&(3, 1))).await;
    eventually("it may join again", async || cluster.propose(&one, &three, "t", &[3, 1, 2]).await == 0).await;
}

#[tokio::test]
async fn a_suspect_stays_in_an_isr_that_would_become_too_small() {
    let (cluster, [one, two, three]) = Cluster::of_three().await;
    let overrides = BTreeMap::from([("min.insync.replicas".to_owned(), "3".to_owned())]);
    let path = configs::path(configs::EntityType::Topics, "strict");
    cluster.admin.create_recursive(&path, &configs::encode(&overrides)).await.unwrap();
    cluster.create_led("strict", 1, &[2, 3, 1]).await;
    cluster.create_led("pair", 1, &[2, 3]).await;
    cluster.create_led("followed", 1, &[3, 2]).await;
    cluster.create_led("joined", 1, &[3, 2, 1]).await;
    assert_eq!(cluster.propose(&one, &three, "joined", &[3, 2]).await, 0);
    cluster.brokers.set_dead(2, true);
    for topic in ["strict", "pair"] {
        eventually("another leader", async || cluster.leader(topic, 0).await == Some(3)).await;
    }
    assert_eq!(cluster.isr("strict", 0).await, [2, 3, 1]);
    assert_eq!(cluster.isr("pair", 0).await, [2, 3]);
    assert_eq!(cluster.isr("followed", 0).await, [3, 2]);
    // Others may join beside it, and it leaves once it lags.
    assert_eq!(cluster.propose(&one, &three, "joined", &[3, 2, 1]).await, 0);
    assert_eq!(cluster.propose(&one, &three, "pair", &[3]).await, 0);
    // When its session ends it has died indeed.
    cluster.brokers.set_dead(2, false);
    eventually("trusted", async || cluster.brokers.leaders(2, "strict").get(&0) == Some(&(3, 1))).await;
    cluster.brokers.set_dead(2, true);
    two.zk.close().await;
    eventually("it has left", async || cluster.isr("strict", 0).await == [3, 1]).await;
}

#[tokio::test]
async fn a_suspect_leads_where_nobody_else_can() {
    let (cluster, [_one, _two, three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[3, 2]).await;
    cluster.create_led("u", 1, &[2, 1, 3]).await;
    cluster.brokers.set_dead(2, true);
    eventually("it is suspected", async || cluster.leader("u", 0).await == Some(1)).await;
    three.zk.close().await;
    eventually("the suspect leads", async || cluster.leader("t", 0).await == Some(2)).await;
    assert_eq!(cluster.isr("t", 0).await, [2]);
}

#[tokio::test]
async fn a_suspicion_outlives_what_makes_the_controller_read_everything_anew() {
    let (cluster, [one, _, three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 3, 1]).await;
    cluster.brokers.set_dead(2, true);
    eventually("another leader", async || cluster.isr("t", 0).await == [3, 1]).await;
    one.handle.queue.push(Event::Reload);
    cluster.create_led("u", 1, &[3]).await;
    assert_eq!(cluster.propose(&one, &three, "t", &[3, 1, 2]).await, ErrorCode::IneligibleReplica.code());
    // Whoever died in the meantime is suspected too: what waits in the queue counts.
    one.handle.queue.push(Event::Suspected(BrokerId(3), BrokerEpoch(three.epoch)));
    let taken = one.handle.queue.take_suspicions(BTreeMap::new());
    assert_eq!(taken, BTreeMap::from([(BrokerId(3), BrokerEpoch(three.epoch))]));
    cluster.brokers.set_dead(2, false);
    eventually("it may join again", async || cluster.propose(&one, &three, "t", &[3, 1, 2]).await == 0).await;
}

#[tokio::test]
async fn no_unclean_election_follows_from_a_suspicion() {
    let (cluster, [one, two, _]) = Cluster::of_three().await;
    let overrides = BTreeMap::from([("unclean.leader.election.enable".to_owned(), "true".to_owned())]);
    let path = configs::path(configs::EntityType::Topics, "t");
    cluster.admin.create_recursive(&path, &configs::encode(&overrides)).await.unwrap();
    cluster.create_led("t", 1, &[1, 3]).await;
    assert_eq!(cluster.propose(&one, &one, "t", &[1]).await, 0);
    // Broker 1 is the controller: another one takes over, and finds a partition that only broker 1 has in full.
    cluster.brokers.set_dead(1, true);
    eventually("another controller", async || two.handle.epoch().get() == 2 || !one.handle.is_active()).await;
    cluster.create("u", 1, &[2]).await;
    eventually("it works", async || cluster.leader("u", 0).await == Some(2)).await;
    assert_eq!((cluster.leader("t", 0).await, cluster.isr("t", 0).await), (Some(1), vec![1]));
}

#[tokio::test]
async fn a_suspected_controller_is_replaced_at_once_and_knows_it() {
    let (cluster, [one, two, three]) = Cluster::of_three().await;
    cluster.create_led("t", 20, &[1, 2, 3]).await;
    cluster.create_led("followed", 1, &[2, 1, 3]).await;
    cluster.brokers.set_dead(1, true);
    eventually("another controller", async || two.handle.is_active() || three.handle.is_active()).await;
    // Its session lives on, and so does its registration.
    assert!(cluster.admin.find("/brokers/ids/1").await.unwrap().is_some());
    assert_eq!(cluster.admin.get(controller::EPOCH_PATH).await.unwrap().data, b"2");
    eventually("the old one resigns", async || !one.handle.is_active()).await;
    eventually("other leaders", async || cluster.leader("t", 19).await == Some(2)).await;
    assert_eq!(cluster.isr("t", 0).await, [2, 3]);
    // Writes to what it followed would wait for it otherwise.
    eventually("one less in sync", async || cluster.isr("followed", 0).await == [2, 3]).await;
    assert_eq!(cluster.leader("followed", 0).await, Some(2));
    assert!(two.handle.is_active() != three.handle.is_active(), "one of them");
}

#[tokio::test]
async fn a_late_suspicion_deposes_nobody() {
    let (cluster, [one, two, _]) = Cluster::of_three().await;
    let node = cluster.admin.get(controller::PATH).await.unwrap();
    let life = (BrokerId(1), BrokerEpoch(one.epoch));
    two.handle.queue.push(Event::ControllerSuspected { czxid: node.stat.czxid - 1, life });
    // It was looked at once the next event is through.
    two.handle.queue.push(Event::Elect);
    eventually("through", async || two.handle.queue.is_empty()).await;
    cluster.create_led("t", 1, &[1]).await;
    assert!(one.handle.is_active() && !two.handle.is_active());
    assert_eq!(cluster.admin.get(controller::EPOCH_PATH).await.unwrap().data, b"1");
}

#[tokio::test]
async fn a_deposed_controller_refuses_nobody() {
    let (cluster, [one, _two, three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[3, 1, 2]).await;
    assert_eq!(cluster.propose(&one, &three, "t", &[3, 1]).await, 0);
    cluster.create_led("u", 1, &[2, 1, 3]).await;
    cluster.brokers.set_dead(2, true);
    eventually("it is suspected", async || cluster.leader("u", 0).await == Some(1)).await;
    assert_eq!(cluster.propose(&one, &three, "t", &[3, 1, 2]).await, ErrorCode::IneligibleReplica.code());
    // Another one was elected, which 1 has not heard of yet.
    cluster.admin.set(controller::EPOCH_PATH, b"9", None).await.unwrap();
    let refused = cluster.proposal("t", &three, &[3, 1, 2]).await;
    assert_eq!(one.handle.alter_partition(refused, 2).await.error_code, ErrorCode::NotController.code());
}

#[tokio::test]
async fn a_controller_that_reads_everything_anew_does_so_before_anything_else() {
    let (_cluster, [one, ..]) = Cluster::of_three().await;
    one.handle.shut_down();
    let queue = crate::controller::event::EventQueue::default();
    queue.push(Event::TopicChange);
    queue.push(Event::Reload);
    assert!(matches!(queue.next().await, Event::Reload));
    assert!(matches!(queue.next().await, Event::TopicChange));
}

/// A controller that was deposed reads its node, which is there still, and then the epoch, which is another's by then.
#[tokio::test]
async fn nobody_takes_anothers_epoch_for_its_own() {
    let (cluster, [one, _two, _three]) = Cluster::of_three().await;
    let deposed = vec![
        Op::delete(controller::PATH, None),
        Op::create(controller::PATH, controller::encode(BrokerId(2), 0)),
        Op::set(controller::EPOCH_PATH, controller::encode_epoch(ControllerEpoch(2)), None),
    ];
    cluster.model.write_before_get(controller::EPOCH_PATH, deposed);
    one.handle.queue.push(Event::Reload);
    eventually("it resigns", async || !one.handle.is_active()).await;
    assert_eq!(one.handle.epoch(), ControllerEpoch(1), "it never acts under the other's");
}
