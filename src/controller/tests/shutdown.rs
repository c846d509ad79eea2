//! ControlledShutdown.

use kafka_protocol::messages::{ControlledShutdownRequest, ControlledShutdownResponse};

use super::*;
use crate::base::error::ErrorCode;

async fn shut_down(controller: &Broker, id: i32, epoch: i64) -> ControlledShutdownResponse {
    let request = ControlledShutdownRequest::default().with_broker_id(WireBroker(id)).with_broker_epoch(epoch);
    controller.handle.controlled_shutdown(request).await
}

#[tokio::test]
async fn a_broker_that_stops_hands_its_leaderships_on() {
    let (cluster, [one, two, _three]) = Cluster::of_three().await;
    cluster.create_led("led", 300, &[2, 3, 1]).await;
    cluster.create_led("followed", 2, &[3, 2]).await;
    cluster.create_led("alone", 1, &[2]).await;
    let before = cluster.model.write_requests();
    let response = shut_down(&one, 2, two.epoch).await;
    assert_eq!((response.error_code, response.remaining_partitions.len()), (0, 0));
    let requests = cluster.model.write_requests() - before;
    assert!(requests <= 4, "{requests} writes");
    for partition in [0, 299] {
        assert_eq!(cluster.leader("led", partition).await, Some(3));
        assert_eq!(cluster.isr("led", partition).await, [3, 1]);
    }
    assert_eq!(cluster.isr("followed", 1).await, [3]);
    assert_eq!(cluster.leader("alone", 0).await, Some(2));
    eventually("the old leader yields", async || cluster.brokers.leaders(2, "led").get(&0) == Some(&(3, 1))).await;
    eventually("followers stop", async || cluster.brokers.stopped(2, "followed").get(&1) == Some(&false)).await;
    assert!(cluster.brokers.stopped(2, "led").is_empty(), "a leader that became a follower is not stopped");
    // Nothing that stops comes back into an ISR, and nothing new is led by it.
    assert_eq!(cluster.propose(&one, &_three, "led", &[3, 1, 2]).await, ErrorCode::IneligibleReplica.code());
    cluster.create("new", 1, &[2, 1]).await;
    eventually("led by another", async || cluster.leader("new", 0).await == Some(1)).await;
    // Asking again is allowed.
    assert_eq!(shut_down(&one, 2, two.epoch).await.error_code, 0);
}

#[tokio::test]
async fn what_nobody_else_can_lead_remains() {
    let (cluster, [one, two, _]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 3]).await;
    assert_eq!(cluster.propose(&one, &two, "t", &[2]).await, 0);
    let response = shut_down(&one, 2, two.epoch).await;
    let remaining: Vec<_> = response.remaining_partitions.iter().map(|p| p.topic_name.0.as_str().to_owned()).collect();
    assert_eq!(remaining, ["t"]);
    assert_eq!(cluster.leader("t", 0).await, Some(2));
}

#[tokio::test]
async fn only_the_present_life_of_a_broker_may_stop() {
    let (cluster, [one, two, three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 3]).await;
    assert_eq!(shut_down(&one, 2, two.epoch - 1).await.error_code, ErrorCode::StaleBrokerEpoch.code());
    assert_eq!(shut_down(&one, 9, 1).await.error_code, ErrorCode::BrokerNotAvailable.code());
    assert_eq!(shut_down(&three, 2, two.epoch).await.error_code, ErrorCode::NotController.code());
    assert_eq!(cluster.leader("t", 0).await, Some(2));
    assert_eq!(shut_down(&one, 2, -1).await.error_code, 0, "from before KIP-380");
    assert_eq!(cluster.leader("t", 0).await, Some(3));
}
