//! Old segments go, by size and by time, and what went stays gone over a restart.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::records::noise;
use crate::support::{PATIENCE, wait_for};
use std::fs;
use std::time::Duration;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const COUNT: usize = 60;

fn segments(cluster: &Cluster, topic: &str) -> usize {
    let files = fs::read_dir(cluster.broker.partition_dir(topic, 0)).expect("a folder").flatten();
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "log")).count()
}

#[test]
fn by_size_and_by_time() {
    let mut cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("log.retention.check.interval.ms", 300).set("log.initial.task.delay.ms", 300);
        broker.set("log.segment.delete.delay.ms", 500);
    });
    let mut wire = cluster.broker.wire();
    wire.create_topic("by-size", 1, &[("retention.bytes", "50000"), ("segment.bytes", "10000")]);
    wire.create_topic("by-time", 1, &[("retention.ms", "1500"), ("segment.bytes", "10000")]);
    wire.create_topic("kept", 1, &[("segment.bytes", "10000")]);
    for index in 0..COUNT {
        for topic in ["by-size", "by-time", "kept"] {
            wire.append(topic, 0, &noise(index as u64, 2_000));
        }
    }
    assert!(segments(&cluster, "kept") >= 10, "the log rolls");
    let start_of = |topic: &str| cluster.broker.wire().list_offset(topic, 0, -2);
    wait_for("retention by size", PATIENCE, || (start_of("by-size").1 > 0).then_some(()));
    wait_for("retention by time", PATIENCE, || (start_of("by-time").1 > COUNT as i64 / 2).then_some(()));
    wait_for("files to be gone", PATIENCE, || (segments(&cluster, "by-size") <= 7).then_some(()));
    std::thread::sleep(Duration::from_millis(700)); // another check or two, which must change nothing
    let size_start = start_of("by-size").1;
    assert!((COUNT as i64 - 35..COUNT as i64 - 20).contains(&size_start), "50 kB stay: from {size_start} on");
    assert_eq!(start_of("kept"), (0, 0));
    assert_eq!(wire.fetch("by-size", 0, 0, 1_000_000).error, OFFSET_OUT_OF_RANGE);
    let read = wire.read_values("by-size", 0, size_start);
    assert_eq!(read.len(), COUNT - size_start as usize);
    assert_eq!(wire.list_offset("by-time", 0, -1), (0, COUNT as i64), "the end stays");

    cluster.broker.stop();
    cluster.broker.start();
    let mut wire = cluster.broker.wire();
    assert_eq!(wire.read_values("by-size", 0, size_start), read);
    assert_eq!(wire.list_offset("by-size", 0, -2), (0, size_start));
    assert_eq!(wire.read_values("kept", 0, 0).len(), COUNT);
}
