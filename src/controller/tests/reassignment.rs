//! Replicas that move: to the end, back, by another controller, by the old tool's znode, against a deletion.

use super::*;
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

async fn reassign(controller: &Broker, target: Option<&[i32]>) -> ErrorCode {
    let targets = BTreeMap::from([(tp(0), target.map(ids))]);
    controller.handle.alter_reassignments(targets).await.unwrap()[&tp(0)].code
}

async fn assignment(cluster: &Cluster) -> (Vec<BrokerId>, Vec<BrokerId>, Vec<BrokerId>) {
    let assignment = cluster.node("t").await.partitions[&0].clone();
    (assignment.replicas, assignment.adding, assignment.removing)
}

#[tokio::test]
async fn replicas_move_once_the_new_ones_are_in_sync() {
    let (cluster, [one, two, _]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 1]).await;
    assert_eq!(reassign(&one, Some(&[3])).await, ErrorCode::None);
    assert_eq!(assignment(&cluster).await, (ids(&[3, 2, 1]), ids(&[3]), ids(&[2, 1])));
    let under_way = one.handle.list_reassignments(None).await.unwrap();
    assert_eq!(under_way[&tp(0)].adding, ids(&[3]));
    assert!(one.handle.list_reassignments(Some(vec![tp(1)])).await.unwrap().is_empty());
    eventually("3 is told that it is new", async || cluster.brokers.is_new(3, "t")).await;
    eventually("all in a new epoch", async || {
        [1, 2, 3].iter().all(|id| cluster.brokers.leaders(*id, "t").get(&0) == Some(&(2, 1)))
    })
    .await;

    assert_eq!(cluster.propose(&one, &two, "t", &[2, 1, 3]).await, 0);
    eventually("done", async || assignment(&cluster).await == (ids(&[3]), vec![], vec![])).await;
    assert_eq!((cluster.leader("t", 0).await, cluster.isr("t", 0).await), (Some(3), vec![3]));
    eventually("the others are deleted", async || {
        [1, 2].iter().all(|id| cluster.brokers.stopped(*id, "t").get(&0) == Some(&true))
    })
    .await;
    assert!(cluster.brokers.stopped(3, "t").is_empty());
    assert!(one.handle.list_reassignments(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_reassignment_that_is_cancelled_leaves_the_origin() {
    let (cluster, [one, ..]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 1]).await;
    assert_eq!(reassign(&one, None).await, ErrorCode::NoReassignmentInProgress);
    assert_eq!(reassign(&one, Some(&[])).await, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(&one, Some(&[3, 3])).await, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(&one, Some(&[7])).await, ErrorCode::InvalidReplicaAssignment, "7 is not alive");
    assert_eq!(reassign(&one, Some(&[3, 1])).await, ErrorCode::None);
    assert_eq!(reassign(&one, None).await, ErrorCode::None);
    assert_eq!(assignment(&cluster).await, (ids(&[1, 2]), vec![], vec![]));
    eventually("3 is deleted", async || cluster.brokers.stopped(3, "t").get(&0) == Some(&true)).await;
    assert_eq!(cluster.leader("t", 0).await, Some(2));
    let unknown = BTreeMap::from([(TopicPartition::new("none", 0), Some(ids(&[1])))]);
    let outcomes = one.handle.alter_reassignments(unknown).await.unwrap();
    assert_eq!(outcomes[&TopicPartition::new("none", 0)].code, ErrorCode::UnknownTopicOrPartition);
}

/// The origin has nobody in sync: without the replica that was added, nobody could lead.
#[tokio::test]
async fn the_last_in_sync_is_not_given_up() {
    let (cluster, [one, two, _three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 1]).await;
    assert_eq!(reassign(&one, Some(&[3, 1])).await, ErrorCode::None);
    assert_eq!(cluster.propose(&one, &two, "t", &[2, 3]).await, 0);
    two.zk.close().await;
    eventually("3 leads", async || cluster.leader("t", 0).await == Some(3)).await;
    assert_eq!(cluster.isr("t", 0).await, vec![3]);
    let before = assignment(&cluster).await;
    for target in [None, Some(&[2, 1][..])] {
        assert_eq!(reassign(&one, target).await, ErrorCode::InvalidReplicaAssignment, "{target:?}");
    }
    assert_eq!(assignment(&cluster).await, before);
    assert_eq!(reassign(&one, Some(&[3])).await, ErrorCode::None);
    eventually("done", async || assignment(&cluster).await == (ids(&[3]), vec![], vec![])).await;
}

/// A broker that does not answer cannot be told to stop what is taken from it. It is told once it has registered anew, but
/// not of what is its own again.
#[tokio::test]
async fn who_registers_anew_stops_what_was_taken_meanwhile() {
    let (cluster, [one, _two, three]) = Cluster::of_three().await;
    cluster.create_led("t", 2, &[2, 3]).await;
    cluster.brokers.set_dead(3, true);
    let both = BTreeMap::from([0, 1].map(|partition| (tp(partition), Some(ids(&[2])))));
    assert!(one.handle.alter_reassignments(both).await.unwrap().values().all(|o| o.code == ErrorCode::None));
    let on = async |partition: i32| cluster.node("t").await.partitions[&partition].replicas.clone();
    eventually("both are on 2 alone", async || on(0).await == ids(&[2]) && on(1).await == ids(&[2])).await;
    let back = admin::encode_reassignment(&[(tp(1), ids(&[2, 3]))]);
    cluster.admin.create(admin::REASSIGN_PATH, &back, CreateMode::Persistent).await.unwrap();
    eventually("one goes back", async || on(1).await == ids(&[2, 3])).await;

    let before = cluster.brokers.told(2).len();
    cluster.model.expire(three.zk.session_id().unwrap());
    eventually("it was seen to register anew", async || cluster.brokers.told(2).len() > before).await;
    assert!(cluster.brokers.stopped(3, "t").is_empty());
    cluster.brokers.set_dead(3, false);
    eventually("3 is told", async || cluster.brokers.stopped(3, "t") == BTreeMap::from([(0, true)])).await;
    eventually("3 is told what is its own", async || cluster.brokers.leaders(3, "t").contains_key(&1)).await;
}

#[tokio::test]
async fn another_controller_goes_on() {
    let (cluster, [one, two, _three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2]).await;
    assert_eq!(reassign(&one, Some(&[3])).await, ErrorCode::None);
    one.handle.shut_down();
    one.zk.close().await;
    eventually("another controller", async || two.handle.is_active() || _three.handle.is_active()).await;
    let controller = if two.handle.is_active() { &two } else { &_three };
    eventually("in a third epoch", async || {
        cluster.state("t", 0).await.unwrap().leader_and_isr.leader_epoch.get() == 2
    })
    .await;
    assert_eq!(controller.handle.list_reassignments(None).await.unwrap().len(), 1);
    assert_eq!(cluster.propose(controller, &two, "t", &[2, 3]).await, 0);
    eventually("done", async || assignment(&cluster).await == (ids(&[3]), vec![], vec![])).await;
    assert_eq!(cluster.leader("t", 0).await, Some(3));
}

#[tokio::test]
async fn the_old_tools_node_empties_as_its_reassignments_end() {
    let (cluster, [one, two, _]) = Cluster::of_three().await;
    cluster.create_led("t", 2, &[2, 1]).await;
    let asked = [(tp(0), ids(&[2, 3])), (tp(1), ids(&[1, 2])), (tp(5), ids(&[1])), (tp(1), ids(&[1, 2]))];
    let asked = admin::encode_reassignment(&asked[..3]);
    cluster.admin.create(admin::REASSIGN_PATH, &asked, CreateMode::Persistent).await.unwrap();
    // Partition 1 only changes order and is done at once; partition 5 does not exist.
    let left = async || {
        let node = cluster.admin.find(admin::REASSIGN_PATH).await.unwrap()?;
        Some(admin::decode_reassignment(&node.data).unwrap())
    };
    eventually("one is left", async || left().await == Some(vec![(tp(0), ids(&[2, 3]))])).await;
    assert_eq!(cluster.node("t").await.partitions[&1].replicas, ids(&[1, 2]));
    let epoch = cluster.state("t", 0).await.unwrap().leader_and_isr.leader_epoch;
    assert_eq!(cluster.propose(&one, &two, "t", &[2, 1, 3]).await, 0);
    eventually("the node goes", async || left().await.is_none()).await;
    assert_eq!(assignment(&cluster).await.0, ids(&[2, 3]));
    let after = cluster.state("t", 0).await.unwrap().leader_and_isr.leader_epoch;
    assert!(after > epoch);
    // The watch is set again.
    cluster.admin.create(admin::REASSIGN_PATH, b"not json", CreateMode::Persistent).await.unwrap();
    assert!(one.handle.list_reassignments(None).await.unwrap().is_empty());
    cluster.admin.delete(admin::REASSIGN_PATH, None).await.unwrap();
    let asked = admin::encode_reassignment(&[(tp(1), ids(&[2, 1]))]);
    cluster.admin.create(admin::REASSIGN_PATH, &asked, CreateMode::Persistent).await.unwrap();
    eventually("seen again", async || left().await.is_none()).await;
    assert_eq!(cluster.node("t").await.partitions[&1].replicas, ids(&[2, 1]));
}

/// The leader of partition 0 as a broker was told last by UpdateMetadata.
fn told_leader(cluster: &Cluster, broker: i32) -> Option<i32> {
    cluster.brokers.told(broker).into_iter().rev().find_map(|request| match request {
        ControlRequest::UpdateMetadata(request) => {
            request.topic_states.first().and_then(|topic| topic.partition_states.first()).map(|p| p.leader.0)
        }
        _ => None,
    })
}

#[tokio::test]
async fn a_deletion_waits_for_a_reassignment() {
    let (cluster, [one, two, _]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2]).await;
    assert_eq!(reassign(&one, Some(&[3])).await, ErrorCode::None);
    cluster.admin.create(&admin::delete_topic_path("t"), b"", CreateMode::Persistent).await.unwrap();
    assert_eq!(reassign(&one, Some(&[1])).await, ErrorCode::UnknownTopicOrPartition, "it is to be deleted");
    assert!(cluster.admin.find(&topics::path("t")).await.unwrap().is_some());
    // Until then brokers know the topic's id: 3 could not fetch otherwise.
    let _four = cluster.start(4).await;
    eventually("told", async || told_leader(&cluster, 4).is_some()).await;
    assert_eq!(told_leader(&cluster, 4), Some(2));
    assert_eq!(cluster.propose(&one, &two, "t", &[2, 3]).await, 0);
    eventually("told of the deletion", async || told_leader(&cluster, 4) == Some(-2)).await;
    eventually("deleted", async || cluster.admin.find(&topics::path("t")).await.unwrap().is_none()).await;
    eventually("on all", async || [2, 3].iter().all(|id| cluster.brokers.stopped(*id, "t").get(&0) == Some(&true)))
        .await;
}

#[tokio::test]
async fn what_holds_a_deletion_up_is_led_until_it_is_done() {
    let (cluster, [one, two, _three]) = Cluster::of_three().await;
    cluster.create_led("t", 1, &[2, 1]).await;
    assert_eq!(reassign(&one, Some(&[3])).await, ErrorCode::None);
    cluster.admin.create(&admin::delete_topic_path("t"), b"", CreateMode::Persistent).await.unwrap();
    two.zk.close().await;
    eventually("another leader", async || cluster.leader("t", 0).await == Some(1)).await;
    assert_eq!(cluster.propose(&one, &one, "t", &[1, 3]).await, 0);
    eventually("deleted", async || cluster.admin.find(&topics::path("t")).await.unwrap().is_none()).await;
}
