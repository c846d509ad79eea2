//! AlterPartition from the queue to ZooKeeper and to the brokers.

use kafka_protocol::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use kafka_protocol::messages::{AlterPartitionRequest, BrokerId as WireBroker};

use super::*;
use crate::base::error::ErrorCode;

/// A proposal for partition 0 of a topic by its leader.
async fn proposal(cluster: &Cluster, topic: &str, leader: (i32, i64), isr: &[(i32, i64)]) -> AlterPartitionRequest {
    let state = cluster.state(topic, 0).await.unwrap().leader_and_isr;
    let id = TopicNode::decode(topic, &cluster.admin.get(&topics::path(topic)).await.unwrap().data).unwrap().topic_id;
    let members =
        isr.iter().map(|(id, epoch)| BrokerState::default().with_broker_id(WireBroker(*id)).with_broker_epoch(*epoch));
    let partition = PartitionData::default()
        .with_leader_epoch(state.leader_epoch.get())
        .with_partition_epoch(state.partition_epoch)
        .with_new_isr_with_epochs(members.collect());
    AlterPartitionRequest::default()
        .with_broker_id(WireBroker(leader.0))
        .with_broker_epoch(leader.1)
        .with_topics(vec![TopicData::default().with_topic_id(id.unwrap()).with_partitions(vec![partition])])
}

#[tokio::test]
async fn an_isr_is_written_and_told_to_all() {
    let cluster = Cluster::new().await;
    let one = cluster.start(1).await;
    eventually("a controller", async || one.handle.is_active()).await;
    let two = cluster.start(2).await;
    cluster.know_each_other(&[1, 2]).await;
    cluster.create("t", 1, &[1, 2]).await;
    eventually("a leader", async || cluster.leader("t", 0).await == Some(1)).await;

    let shrink = proposal(&cluster, "t", (1, one.epoch), &[(1, one.epoch)]).await;
    let response = one.handle.alter_partition(shrink.clone(), 3).await;
    let answered = &response.topics[0].partitions[0];
    assert_eq!((response.error_code, answered.error_code, answered.partition_epoch), (0, 0, 1));
    assert_eq!((answered.leader_id.0, answered.isr.clone()), (1, vec![WireBroker(1)]));
    assert_eq!(cluster.state("t", 0).await.unwrap().leader_and_isr.isr, vec![BrokerId(1)]);
    eventually("both told", async || [1, 2].iter().all(|id| cluster.brokers.isr(*id, "t") == [1])).await;
    // The same proposal again changes nothing.
    let again = one.handle.alter_partition(shrink, 3).await;
    assert_eq!(again.topics[0].partitions[0].partition_epoch, 1);

    let restarted = proposal(&cluster, "t", (1, one.epoch), &[(1, one.epoch), (2, two.epoch - 1)]).await;
    let refused = one.handle.alter_partition(restarted, 3).await;
    assert_eq!(refused.topics[0].partitions[0].error_code, ErrorCode::IneligibleReplica.code());
    let stale = proposal(&cluster, "t", (1, one.epoch - 1), &[(1, one.epoch)]).await;
    assert_eq!(one.handle.alter_partition(stale, 3).await.error_code, ErrorCode::StaleBrokerEpoch.code());
    let grow = proposal(&cluster, "t", (1, one.epoch), &[(1, one.epoch), (2, two.epoch)]).await;
    assert_eq!(two.handle.alter_partition(grow.clone(), 3).await.error_code, ErrorCode::NotController.code());
    let grown = one.handle.alter_partition(grow, 3).await;
    assert_eq!(grown.topics[0].partitions[0].isr, vec![WireBroker(1), WireBroker(2)]);
    let nowhere = one.handle.alter_partition(unknown_topic(one.epoch), 3).await;
    assert_eq!(nowhere.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicId.code());
}

fn unknown_topic(epoch: i64) -> AlterPartitionRequest {
    let topic =
        TopicData::default().with_topic_id(TopicId::from_u128(1)).with_partitions(vec![PartitionData::default()]);
    AlterPartitionRequest::default().with_broker_id(WireBroker(1)).with_broker_epoch(epoch).with_topics(vec![topic])
}

/// The state node was changed behind the controller's back: the leader is to wait for what the controller says next.
#[tokio::test]
async fn a_state_that_changed_meanwhile_is_not_overwritten() {
    let cluster = Cluster::new().await;
    let one = cluster.start(1).await;
    eventually("a controller", async || one.handle.is_active()).await;
    cluster.start(2).await;
    cluster.know_each_other(&[1, 2]).await;
    cluster.create("t", 1, &[1, 2]).await;
    eventually("told", async || cluster.brokers.leaders(2, "t").len() == 1).await;
    let request = proposal(&cluster, "t", (1, one.epoch), &[(1, one.epoch)]).await;
    let path = topics::state_path("t", 0);
    let data = cluster.admin.get(&path).await.unwrap().data;
    cluster.admin.set(&path, &data, None).await.unwrap();
    let response = one.handle.alter_partition(request, 3).await;
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::InvalidUpdateVersion.code());
    assert_eq!(cluster.state("t", 0).await.unwrap().leader_and_isr.isr.len(), 2);
}

#[tokio::test]
async fn who_asks_a_controller_that_stops_is_told() {
    let cluster = Cluster::new().await;
    let one = cluster.start(1).await;
    eventually("a controller", async || one.handle.is_active()).await;
    one.handle.shut_down();
    let response = one.handle.alter_partition(unknown_topic(one.epoch), 3).await;
    assert_eq!(response.error_code, ErrorCode::NotController.code());
}
