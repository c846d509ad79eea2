//! Old segments go, by size, by time and below the log start offset, and what went stays gone over a restart.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::records::noise;
use crate::support::{PATIENCE, wait_for};
use std::fs;
use std::time::Duration;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const COUNT: usize = 60;

/// The base offsets of the segments on the disk.
fn bases(cluster: &Cluster, topic: &str) -> Vec<i64> {
    let files = fs::read_dir(cluster.broker.partition_dir(topic, 0)).expect("a folder").flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let mut bases: Vec<i64> =
        names.filter_map(|name| name.strip_suffix(".log").and_then(|base| base.parse().ok())).collect();
    bases.sort_unstable();
    bases
}

fn segments(cluster: &Cluster, topic: &str) -> usize {
    bases(cluster, topic).len()
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

/// DeleteRecords moves the log start offset, which a broker keeps in a file; whole segments below it go, and nothing
/// below it is read, whether its segment went or not.
#[test]
fn by_start_offset() {
    const START: i64 = 23;
    let mut cluster = Cluster::with(Kind::under_test(), |broker| {
        broker.set("log.retention.check.interval.ms", 300).set("log.initial.task.delay.ms", 300);
    });
    let mut wire = cluster.broker.wire();
    wire.create_topic("t", 1, &[("segment.bytes", "10000"), ("file.delete.delay.ms", "0")]);
    for index in 0..COUNT {
        wire.append("t", 0, &noise(index as u64, 2_000));
    }
    let all = wire.read_values("t", 0, 0);
    assert_eq!(all.len(), COUNT);
    cluster.broker.stop();
    let before = segments(&cluster, "t");
    let file = cluster.broker.data().join("log-start-offset-checkpoint");
    fs::write(file, format!("0\n1\nt 0 {START}\n")).expect("a checkpoint");
    cluster.broker.start();
    wait_for("retention by start offset", PATIENCE, || (segments(&cluster, "t") < before).then_some(()));
    let found = bases(&cluster, "t");
    assert!(found[0] > 0 && found[0] <= START && found[1] > START, "the segment with {START} is the first: {found:?}");
    let mut wire = cluster.broker.wire();
    assert_eq!(wire.list_offset("t", 0, -2), (0, START));
    for below in [0, found[0], START - 1] {
        assert_eq!(wire.fetch("t", 0, below, 1_000_000).error, OFFSET_OUT_OF_RANGE, "at {below}");
    }
    assert_eq!(wire.read_values("t", 0, START), all[START as usize..]);

    cluster.broker.stop();
    cluster.broker.start();
    assert_eq!(cluster.broker.wire().list_offset("t", 0, -2), (0, START), "over a restart");
    assert_eq!(cluster.broker.wire().read_values("t", 0, START), all[START as usize..]);
    assert_eq!(bases(&cluster, "t"), found);
}
