//! Creation, deletion, deaths, lost sessions and lost answers.

use super::*;

#[tokio::test]
async fn topics_get_leaders_and_their_brokers_are_told() {
    let cluster = Cluster::new().await;
    let broker = cluster.start(0).await;
    eventually("a controller", async || broker.handle.is_active()).await;
    cluster.create("t", 3, &[0]).await;
    eventually("told", async || cluster.brokers.leaders(0, "t").len() == 3).await;
    assert_eq!(cluster.leader("t", 2).await, Some(0));
    assert_eq!(cluster.admin.get(controller::EPOCH_PATH).await.unwrap().data, b"1");
    // More partitions.
    let path = topics::path("t");
    let mut node = TopicNode::decode("t", &cluster.admin.get(&path).await.unwrap().data).unwrap();
    node.partitions.insert(3, node.partitions[&0].clone());
    cluster.admin.set(&path, &node.encode(), None).await.unwrap();
    eventually("the fourth partition", async || cluster.brokers.leaders(0, "t").len() == 4).await;
}

#[tokio::test]
async fn a_thousand_partitions_take_few_requests() {
    let cluster = Cluster::new().await;
    let broker = cluster.start(0).await;
    eventually("a controller", async || broker.handle.is_active()).await;
    let before = cluster.model.write_requests();
    cluster.create("t", 1000, &[0]).await;
    eventually("told", async || cluster.brokers.leaders(0, "t").len() == 1000).await;
    let requests = cluster.model.write_requests() - before;
    assert!(requests <= 6, "{requests} requests");
}

#[tokio::test]
async fn deletion_leaves_nothing_behind() {
    let cluster = Cluster::new().await;
    let broker = cluster.start(0).await;
    cluster.create("t", 5, &[0]).await;
    eventually("told", async || cluster.brokers.leaders(0, "t").len() == 5).await;
    cluster.admin.create("/brokers/topics/t/partitions/3/other", b"", CreateMode::Persistent).await.unwrap();
    cluster.admin.create(&admin::delete_topic_path("none"), b"", CreateMode::Persistent).await.unwrap();
    cluster.admin.create(&admin::delete_topic_path("t"), b"", CreateMode::Persistent).await.unwrap();
    eventually("no marks", async || cluster.admin.children(admin::DELETE_TOPICS_PATH).await.unwrap().is_empty()).await;
    assert_eq!(cluster.admin.find(&topics::path("t")).await.unwrap(), None);
    let stopped = cluster.brokers.stopped(0, "t");
    assert!(stopped.len() == 5 && stopped.values().all(|deleted| *deleted), "{stopped:?}");
    // The name can be used again.
    cluster.create("t", 1, &[0]).await;
    eventually("leader", async || cluster.leader("t", 0).await == Some(0)).await;
    assert!(broker.handle.is_active());
}

#[tokio::test]
async fn a_dead_leader_is_replaced_and_a_dead_last_replica_stays_in_the_isr() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.start(1).await, cluster.start(2).await);
    eventually("a controller", async || first.handle.is_active() || second.handle.is_active()).await;
    let (active, other) = if first.handle.is_active() { (&first, 2) } else { (&second, 1) };
    let active_id = 3 - other;
    eventually("two brokers", async || cluster.admin.children("/brokers/ids").await.unwrap().len() == 2).await;
    cluster.create("t", 1, &[other, active_id]).await;
    eventually("a leader", async || cluster.leader("t", 0).await.is_some()).await;
    if cluster.leader("t", 0).await != Some(other) {
        return; // the controller did not yet know the other broker
    }
    let dead = if other == 2 { &second } else { &first };
    cluster.model.set_down(false);
    dead.handle.shut_down();
    dead.zk.close().await;
    eventually("a new leader", async || cluster.leader("t", 0).await == Some(active_id)).await;
    let state = cluster.state("t", 0).await.unwrap();
    assert_eq!(state.leader_and_isr.isr, vec![BrokerId(active_id)]);
    active.handle.shut_down();
    active.zk.close().await;
    let third = cluster.start(other).await;
    eventually("a third controller", async || third.handle.is_active()).await;
    eventually("no leader", async || cluster.leader("t", 0).await != Some(other)).await;
    assert_eq!(cluster.state("t", 0).await.unwrap().leader_and_isr.isr, vec![BrokerId(active_id)]);
}

#[tokio::test]
async fn an_expired_session_ends_the_controllership_and_a_new_one_begins() {
    let cluster = Cluster::new().await;
    let broker = cluster.start(0).await;
    eventually("a controller", async || broker.handle.is_active()).await;
    cluster.create("t", 2, &[0]).await;
    eventually("told", async || cluster.brokers.leaders(0, "t").len() == 2).await;
    let told = cluster.brokers.told(0).len();
    cluster.model.expire(broker.zk.session_id().unwrap());
    eventually("a new epoch", async || broker.handle.is_active() && broker.handle.epoch().get() == 2).await;
    eventually("told anew", async || {
        let told_since = cluster.brokers.told(0).split_off(told);
        told_since.iter().any(|request| matches!(request, ControlRequest::LeaderAndIsr(r) if r.controller_epoch == 2))
    })
    .await;
    assert_eq!(cluster.leader("t", 1).await, Some(0));
}

#[tokio::test]
async fn a_lost_answer_makes_the_controller_read_anew() {
    let cluster = Cluster::new().await;
    let broker = cluster.start(0).await;
    eventually("a controller", async || broker.handle.is_active()).await;
    cluster.create("t", 1, &[0]).await;
    eventually("told", async || cluster.brokers.leaders(0, "t").len() == 1).await;
    // The first write is the topic itself, whose creation is retried; the second is the controller's.
    cluster.model.fail_next_writes(&[crate::zk::memory::Fault::Lost]);
    cluster.create("u", 3, &[0]).await;
    cluster.model.fail_next_writes(&[crate::zk::memory::Fault::AnswerLost]);
    cluster.create("v", 3, &[0]).await;
    eventually("told", async || {
        cluster.brokers.leaders(0, "u").len() == 3 && cluster.brokers.leaders(0, "v").len() == 3
    })
    .await;
    assert!(broker.handle.is_active());
}

/// KAFKA-13407: a broker that was elected without hearing of it must find out, or nobody acts for its `/controller`.
#[tokio::test]
async fn an_election_whose_answer_is_lost_is_found_out_to_be_won() {
    use crate::zk::memory::Fault;
    let cluster = Cluster::new().await;
    let one = cluster.start(1).await;
    eventually("a controller", async || one.handle.is_active()).await;
    let two = cluster.start(2).await;
    cluster.know_each_other(&[1, 2]).await;
    // The first is the resignation, the second the election.
    cluster.model.fail_next_writes(&[Fault::AnswerLost, Fault::AnswerLost]);
    one.handle.shut_down();
    eventually("another controller", async || two.handle.is_active()).await;
    assert_eq!(two.handle.epoch().get(), 2);
    cluster.create("t", 1, &[2]).await;
    eventually("it acts", async || cluster.leader("t", 0).await == Some(2)).await;
}

/// A broker whose session is over decides nothing more, though it does not reach ZooKeeper for a new one.
#[tokio::test]
async fn a_controller_without_a_session_is_none_at_once() {
    let cluster = Cluster::new().await;
    let one = cluster.start(1).await;
    eventually("a controller", async || one.handle.is_active()).await;
    cluster.model.set_down(true);
    cluster.model.expire(one.zk.session_id().unwrap());
    eventually("no more", async || !one.handle.is_active()).await;
    assert_eq!(one.handle.controller_id(), None);
    assert_eq!(one.handle.list_reassignments(None).await, None);
    cluster.model.set_down(false);
    eventually("again, in the next epoch", async || one.handle.is_active() && one.handle.epoch().get() == 2).await;
}

#[tokio::test]
async fn producer_ids_are_given_out_once() {
    use kafka_protocol::messages::AllocateProducerIdsRequest;

    use crate::base::error::ErrorCode;
    let cluster = Cluster::new().await;
    let one = cluster.start(1).await;
    eventually("a controller", async || one.handle.is_active()).await;
    let ask = async |id: i32, epoch: i64| {
        let request = AllocateProducerIdsRequest::default().with_broker_id(WireBroker(id)).with_broker_epoch(epoch);
        let answer = one.handle.allocate_producer_ids(request).await;
        (ErrorCode::from_code(answer.error_code), answer.producer_id_start.0, answer.producer_id_len)
    };
    assert_eq!(ask(1, one.epoch).await, (ErrorCode::None, 0, 1000));
    assert_eq!(ask(1, one.epoch).await, (ErrorCode::None, 1000, 1000));
    assert_eq!(ask(1, one.epoch - 1).await.0, ErrorCode::StaleBrokerEpoch);
    assert_eq!(ask(7, 1).await.0, ErrorCode::BrokerIdNotRegistered);
    let node = cluster.admin.get("/latest_producer_id_block").await.unwrap();
    assert_eq!(node.data, br#"{"version":1,"broker":1,"block_start":"1000","block_end":"1999"}"#);
}
