//! MirrorMaker 2 between a cluster of JVM brokers and one of the kind under test, both ways at once.

use std::fs;

use crate::support::broker::Kind;
use crate::support::clients::Client;
use crate::support::cluster::Cluster;
use crate::support::copies::Reader;
use crate::support::dirs::TestDir;
use crate::support::process::Process;
use crate::support::wire::{Wire, topic_name};
use crate::support::{PATIENCE, free_port, jvm, wait_for};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

fn fill(cluster: &Cluster, topic: &str) {
    cluster.broker.wire().create_topic(topic, 2, &[]);
    for partition in 0..2 {
        for number in 0..100 {
            assert_eq!(cluster.broker.wire().append(topic, partition, &format!("{topic}-{number}")), number);
        }
    }
}

fn values(cluster: &Cluster, topic: &str, partition: i32) -> Vec<String> {
    let known = Wire::connect(&cluster.broker.address()).expect("it accepts").topic_ready(topic, 2);
    if !known {
        return Vec::new();
    }
    let all = Reader::new(&cluster.broker.address(), topic, 2, "read_committed").all();
    all.into_iter().filter(|(p, ..)| *p == partition).map(|(_, _, value)| value).collect()
}

/// The offsets that a group has committed for both partitions of a topic; -1 for none.
fn committed(cluster: &Cluster, group: &str, topic: &str) -> Vec<i64> {
    let wanted = OffsetFetchRequestTopic::default().with_name(topic_name(topic)).with_partition_indexes(vec![0, 1]);
    let group = GroupId(StrBytes::from_string(group.to_owned()));
    let request = OffsetFetchRequest::default().with_group_id(group).with_topics(Some(vec![wanted]));
    let answer = cluster.broker.wire().call(7, &request);
    answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.committed_offset).collect()
}

#[test]
fn two_clusters_mirror_one_another() {
    let (jvm_side, ours) = (Cluster::start(Kind::Jvm(jvm::NEW)), Cluster::start(Kind::under_test()));
    fill(&jvm_side, "there");
    fill(&ours, "here");
    // A group that has read on our side is found on the other with the offsets of the mirrored topic.
    let mut member = Client::Java(jvm::NEW).join(&ours.broker.address(), &[], "readers", &["here"]);
    wait_for("the group to read", PATIENCE, || (member.records().len() == 200).then_some(()));
    member.leave();
    let dir = TestDir::new("mirror");
    let config = format!(
        "clusters=there,here\nthere.bootstrap.servers={}\nhere.bootstrap.servers={}\n\
         there->here.enabled=true\nhere->there.enabled=true\ntopics=here|there\ngroups=readers\n\
         replication.factor=1\ncheckpoints.topic.replication.factor=1\nheartbeats.topic.replication.factor=1\n\
         offset-syncs.topic.replication.factor=1\noffset.storage.replication.factor=1\n\
         status.storage.replication.factor=1\nconfig.storage.replication.factor=1\n\
         here.exactly.once.source.support=enabled\nthere.exactly.once.source.support=enabled\n\
         sync.group.offsets.enabled=true\nsync.group.offsets.interval.seconds=2\n\
         emit.checkpoints.interval.seconds=2\nrefresh.topics.interval.seconds=2\nrefresh.groups.interval.seconds=2\n\
         offset.lag.max=1\ndedicated.mode.enable.internal.rest=true\nlisteners=http://127.0.0.1:{}\n",
        jvm_side.broker.address(),
        ours.broker.address(),
        free_port(),
    );
    let path = dir.join("mm2.properties");
    fs::write(&path, config).expect("mm2.properties");
    let mut command = jvm::program("org.apache.kafka.connect.mirror.MirrorMaker");
    command.arg(&path);
    let mut mirror = Process::start("mirror-maker", command, &dir.join("mirror.log"));
    for (to, topic, from) in [(&ours, "there.there", "there"), (&jvm_side, "here.here", "here")] {
        let wanted: Vec<String> = (0..100).map(|number| format!("{from}-{number}")).collect();
        for partition in 0..2 {
            wait_for(&format!("{topic}-{partition} to be mirrored"), 2 * PATIENCE, || {
                let found = values(to, topic, partition);
                assert!(wanted.starts_with(&found), "{topic}-{partition} holds {found:?}");
                (found == wanted).then_some(())
            });
        }
    }
    // What comes later is mirrored too.
    ours.broker.wire().append("here", 0, "late");
    wait_for("the late record", PATIENCE, || {
        (values(&jvm_side, "here.here", 0).last().map(String::as_str) == Some("late")).then_some(())
    });
    wait_for("the group's offsets on the other side", 2 * PATIENCE, || {
        (committed(&jvm_side, "readers", "here.here").iter().all(|offset| *offset > 0)).then_some(())
    });
    mirror.terminate();
}
