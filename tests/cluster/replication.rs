//! Three brokers: what one acknowledged is on all, byte for byte; followers and leaders die and come back.

use crate::support::broker::Kind;
use crate::support::brokers::Brokers;
use crate::support::wire::{Wire, batch, fetch_request, produce_request, topic_name};
use crate::support::{PATIENCE, wait_for};
use kafka_protocol::messages::OffsetForLeaderEpochRequest;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::protocol::StrBytes;

/// Errors after which a client looks for the leader and asks again, too few in sync among them: ZooKeeper has a new ISR a
/// moment before the leader hears of it.
const MOVED: [i16; 6] = [3, 5, 6, 7, 19, 20];

/// Appends values with acks=all, wherever the leader is; answers their offsets.
pub fn append(brokers: &Brokers, topic: &str, partition: i32, values: &[String]) -> Vec<i64> {
    let mut wire: Option<Wire> = None;
    values
        .iter()
        .map(|value| {
            let records = batch(&[value]);
            wait_for(&format!("an acknowledgement of {value}"), PATIENCE, || {
                let connection = wire.get_or_insert_with(|| brokers.leader(topic, partition));
                let request = produce_request(topic, partition, -1, records.clone());
                if let Ok(answer) = connection.try_call(7, &request) {
                    let answer = &answer.responses[0].partition_responses[0];
                    if answer.error_code == 0 {
                        return Some(answer.base_offset);
                    }
                    assert!(MOVED.contains(&answer.error_code), "{value}: error {}", answer.error_code);
                }
                wire = None;
                None
            })
        })
        .collect()
}

pub fn values(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("value-{n}")).collect()
}

pub fn read(brokers: &Brokers, topic: &str, partition: i32) -> Vec<String> {
    brokers.leader(topic, partition).read_values(topic, partition, 0).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn what_is_acknowledged_is_on_all_and_outlives_followers_and_leaders() {
    let mut cluster = Brokers::start(&[Kind::Barnabas; 3], |_, broker| {
        broker.set("replica.lag.time.max.ms", 4000);
        broker.set("min.insync.replicas", 2);
    });
    cluster.create_topic("t", 1, 3, &[]);
    cluster.wait_isr("t", 0, &[0, 1, 2]);
    append(&cluster, "t", 0, &values(0, 200));
    assert!(cluster.wait_same_bytes(&[0, 1, 2], "t", 0) > 200 * 61);

    // A follower dies: the ISR shrinks, the others go on.
    let leader = cluster.state("t", 0).leader as usize;
    let follower = (0..3).find(|id| *id != leader && *id != cluster.controller()).expect("one of three");
    let others: Vec<usize> = (0..3).filter(|id| *id != follower).collect();
    cluster.brokers[follower].kill();
    append(&cluster, "t", 0, &values(200, 50));
    let ids: Vec<i64> = others.iter().map(|id| *id as i64).collect();
    cluster.wait_isr("t", 0, &ids);
    append(&cluster, "t", 0, &values(250, 50));

    // It comes back: it catches up, and the ISR grows.
    cluster.brokers[follower].start();
    cluster.wait_isr("t", 0, &[0, 1, 2]);
    cluster.wait_same_bytes(&[0, 1, 2], "t", 0);

    // The leader dies: the next one has all that was acknowledged.
    let before = cluster.state("t", 0);
    let leader = before.leader as usize;
    cluster.brokers[leader].kill();
    append(&cluster, "t", 0, &values(300, 50));
    let after = cluster.state("t", 0);
    assert!(after.leader != before.leader && after.leader_epoch > before.leader_epoch, "{before:?} {after:?}");
    let all = values(0, 350);
    let mut found = read(&cluster, "t", 0);
    // One that was sent again may stand twice: these producers are not idempotent.
    found.dedup();
    assert_eq!(found, all);

    // The old leader follows the new one, and cuts what only it has.
    cluster.brokers[leader].start();
    cluster.wait_isr("t", 0, &[0, 1, 2]);
    append(&cluster, "t", 0, &values(350, 1));
    cluster.wait_same_bytes(&[0, 1, 2], "t", 0);
    the_end_of_epochs_is_known(&cluster, after.leader_epoch as i32);
}

/// OffsetForLeaderEpoch tells where the first leader's epoch ended.
fn the_end_of_epochs_is_known(cluster: &Brokers, second: i32) {
    let asked = OffsetForLeaderPartition::default().with_partition(0).with_leader_epoch(second - 1);
    let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(vec![asked]);
    let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    for version in 0..=4 {
        let answer = cluster.leader("t", 0).call(version, &request);
        let end = &answer.topics[0].partitions[0];
        assert_eq!(end.error_code, 0);
        assert!((300..=302).contains(&end.end_offset), "version {version}: {end:?}");
    }
}

/// With too few in sync acks=all is refused, and a consumer sees nothing that fewer have.
#[test]
fn too_few_in_sync_take_no_writes() {
    let mut cluster = Brokers::start(&[Kind::Barnabas; 2], |_, broker| {
        broker.set("replica.lag.time.max.ms", 2000);
    });
    cluster.create_topic("t", 1, 2, &[("min.insync.replicas", "2")]);
    cluster.wait_isr("t", 0, &[0, 1]);
    append(&cluster, "t", 0, &values(0, 10));
    let leader = cluster.state("t", 0).leader;
    cluster.brokers[1 - leader as usize].kill();
    cluster.wait_isr("t", 0, &[leader]);
    let mut wire = cluster.leader("t", 0);
    wait_for("NOT_ENOUGH_REPLICAS", PATIENCE, || (wire.produce("t", 0, -1, batch(&["no"])).0 == 19).then_some(()));
    assert_eq!(wire.produce("t", 0, 1, batch(&["hidden"])).0, 0);
    assert_eq!(wire.read_values("t", 0, 0).len(), 10, "one replica alone commits nothing");
    cluster.brokers[1 - leader as usize].start();
    cluster.wait_isr("t", 0, &[0, 1]);
    wait_for("the record that waited", PATIENCE, || (wire.read_values("t", 0, 0).len() == 11).then_some(()));
}

/// KIP-903: a broker that comes back with an empty disk is in sync when it has everything again, not before.
#[test]
fn an_emptied_disk_loses_nothing() {
    let mut cluster = Brokers::start(&[Kind::Barnabas; 2], |_, _| {});
    cluster.create_topic("t", 1, 2, &[]);
    cluster.wait_isr("t", 0, &[0, 1]);
    append(&cluster, "t", 0, &values(0, 100));
    let leader = cluster.state("t", 0).leader as usize;
    let emptied = 1 - leader;
    cluster.brokers[emptied].kill();
    std::fs::remove_dir_all(cluster.brokers[emptied].data()).expect("the disk is emptied");
    cluster.brokers[emptied].start();
    append(&cluster, "t", 0, &values(100, 10));
    cluster.wait_isr("t", 0, &[0, 1]);
    cluster.brokers[leader].kill();
    wait_for("the emptied broker to lead", PATIENCE, || (cluster.state("t", 0).leader == emptied as i64).then_some(()));
    // The last ones can be read once the dead one is out of the ISR: of two it stays in it until its session ends.
    wait_for("all records", PATIENCE, || (read(&cluster, "t", 0) == values(0, 110)).then_some(()));
}

/// KIP-392: the leader sends a consumer to the replica in its rack, which then serves it.
#[test]
fn a_consumer_reads_in_its_own_rack() {
    let mut cluster = Brokers::start(&[Kind::Barnabas; 2], |id, broker| {
        broker.set("broker.rack", format!("rack-{id}"));
        broker.set("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector");
    });
    cluster.create_topic("t", 1, 2, &[]);
    cluster.wait_isr("t", 0, &[0, 1]);
    append(&cluster, "t", 0, &values(0, 5));
    let leader = cluster.state("t", 0).leader;
    let other = 1 - leader;
    let fetch = |rack: i64| {
        let rack = StrBytes::from_string(format!("rack-{rack}"));
        let request = fetch_request("t", 0, 0, 1 << 20, 0, 0).with_rack_id(rack);
        let mut answer = cluster.leader("t", 0).call(11, &request);
        answer.responses.remove(0).partitions.remove(0)
    };
    let near = fetch(leader);
    assert_eq!((near.error_code, near.preferred_read_replica.0), (0, -1));
    assert!(near.records.is_some_and(|records| !records.is_empty()));
    let far =
        wait_for("a preferred replica", PATIENCE, || Some(fetch(other)).filter(|p| p.preferred_read_replica.0 >= 0));
    assert_eq!((far.error_code, i64::from(far.preferred_read_replica.0)), (0, other));
    assert!(far.records.is_none_or(|records| records.is_empty()));
    let mut follower = cluster.brokers[other as usize].wire();
    wait_for("the follower to serve all", PATIENCE, || {
        let read = follower.try_read_values("t", 0, 0).ok()?;
        (read.len() == 5).then_some(())
    });
}
