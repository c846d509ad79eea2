//! Disks that fill up or cannot be read: a clear log line, their partitions offline, the rest serving, nothing lost.

use crate::support::broker::{Broker, Kind};
use crate::support::cluster::Cluster;
use crate::support::records::noise;
use crate::support::wire::{Wire, batch};
use crate::support::{PATIENCE, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` when this process may not mount.
    fn mount(path: &Path, mebibytes: u32) -> Option<SmallDisk> {
        fs::create_dir_all(path).expect("a folder");
        let size = format!("size={mebibytes}m");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status();
        status.is_ok_and(|status| status.success()).then(|| SmallDisk(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Which partition of `topic` lies in which log dir.
fn is_in(dir: &Path, topic: &str, partition: i32) -> bool {
    dir.join(format!("{topic}-{partition}")).exists()
}

#[test]
fn full_disk() {
    let mut cluster = Cluster::start(Kind::under_test());
    cluster.broker.stop();
    let small = cluster.broker.path("small");
    let Some(disk) = SmallDisk::mount(&small, 24) else {
        panic!("mounting a small disk needs root: run this as root");
    };
    let ballast = small.join("ballast");
    fs::write(&ballast, vec![7; 6 << 20]).expect("ballast");
    let both = format!("{},{}", cluster.broker.data().display(), small.join("logs").display());
    cluster.broker.set("log.dirs", both).set("log.index.size.max.bytes", 100_000).start();

    const PARTITIONS: i32 = 8;
    cluster.broker.wire().create_topic("t", PARTITIONS, &[]);
    let on_small: Vec<i32> = (0..PARTITIONS).filter(|p| is_in(&small.join("logs"), "t", *p)).collect();
    assert!(!on_small.is_empty() && on_small.len() < PARTITIONS as usize, "both dirs are used: {on_small:?}");

    let mut kept: BTreeMap<(i32, i64), String> = BTreeMap::new();
    let mut wire = cluster.broker.wire();
    let mut refused = 0;
    for round in 0..200 {
        let partition = on_small[round % on_small.len()];
        let value = format!("{partition}-{round}-{}", noise(round as u64, 500_000));
        match try_append(&mut wire, partition, &value) {
            Ok(offset) => drop(kept.insert((partition, offset), value)),
            Err(code) => {
                refused += 1;
                assert!([3, 5, 6, 56].contains(&code), "error {code}: not about storage or leaders");
                if refused > 3 {
                    break;
                }
            }
        }
    }
    assert!(refused > 3, "the disk did not fill");
    assert!(cluster.broker.is_running(), "one of two disks is well");
    let text = cluster.broker.log_text();
    let names_dir = text.lines().any(|line| line.contains("small/logs") && line.to_lowercase().contains("no space"));
    let names_cause = text.to_lowercase().contains("no space left");
    assert!(names_dir || names_cause, "the log says which disk is full");

    wait_for("the partitions of the full disk to be offline", PATIENCE, || {
        let answer = cluster.broker.wire().try_metadata(&["t"]).ok()?;
        let offline = |p: i32| {
            answer.topics[0]
                .partitions
                .iter()
                .any(|m| m.partition_index == p && (m.error_code != 0 || m.leader_id.0 < 0))
        };
        on_small.iter().all(|p| offline(*p)).then_some(())
    });
    let mut wire = cluster.broker.wire();
    for partition in (0..PARTITIONS).filter(|p| !on_small.contains(p)) {
        let value = format!("{partition} still serves");
        let offset = try_append(&mut wire, partition, &value).expect("the other disk serves");
        kept.insert((partition, offset), value);
    }

    // Room again: the same folders serve whatever was acknowledged.
    cluster.broker.kill();
    cluster.wait_unregistered();
    fs::remove_file(&ballast).expect("ballast");
    cluster.broker.start();
    wait_for("all partitions", PATIENCE, || cluster.broker.wire().topic_ready("t", PARTITIONS as usize).then_some(()));
    let mut wire = cluster.broker.wire();
    let mut found = BTreeMap::new();
    for partition in 0..PARTITIONS {
        found.extend(wire.read_values("t", partition, 0).into_iter().map(|(o, v)| ((partition, o), v)));
    }
    for (place, value) in &kept {
        assert!(found.get(place) == Some(value), "acknowledged at {place:?} and lost");
    }
    for partition in 0..PARTITIONS {
        wire.append("t", partition, "and on it goes");
    }
    cluster.broker.stop();
    drop(disk);
}

fn try_append(wire: &mut Wire, partition: i32, value: &str) -> Result<i64, i16> {
    match wire.produce("t", partition, -1, batch(&[value])) {
        (0, offset) => Ok(offset),
        (code, _) => Err(code),
    }
}

/// One of two log dirs cannot be made: the broker says so and serves with the other.
#[test]
fn unusable_log_dir_at_start() {
    let mut cluster = Cluster::start(Kind::under_test());
    cluster.broker.wire().create_topic("before", 1, &[]);
    cluster.broker.wire().append("before", 0, "kept");
    cluster.broker.stop();
    let file = cluster.broker.path("a-file");
    fs::write(&file, "not a folder").expect("a file");
    let bad = file.join("logs");
    let both = format!("{},{}", cluster.broker.data().display(), bad.display());
    cluster.broker.set("log.dirs", both).start();
    assert!(cluster.broker.log_text().contains(&bad.display().to_string()), "the log names the dir");
    let mut wire = cluster.broker.wire();
    assert_eq!(wire.read_values("before", 0, 0), [(0, "kept".to_owned())]);
    wire.create_topic("after", 3, &[]);
    wire.append("after", 2, "fine");
}

/// No usable log dir at all: the start fails and says why.
#[test]
fn no_usable_log_dir() {
    let cluster = Cluster::start(Kind::under_test());
    let mut broker = Broker::with_id(Kind::under_test(), 1, &cluster.zookeeper.connect());
    let file = broker.path("a-file");
    fs::write(&file, "not a folder").expect("a file");
    broker.set("log.dirs", file.join("logs").display());
    broker.launch();
    let status = broker.process().wait(PATIENCE).expect("it does not start");
    assert!(!status.success());
    assert!(broker.log_text().contains("a-file"), "{}", broker.log_text());
}

/// A log that cannot be opened takes its log dir offline, not the broker.
#[test]
fn unreadable_log_at_start() {
    let mut cluster = Cluster::with(Kind::under_test(), |broker| {
        let both = format!("{},{}", broker.data().display(), broker.path("second").display());
        broker.set("log.dirs", both);
    });
    const PARTITIONS: i32 = 6;
    let mut wire = cluster.broker.wire();
    wire.create_topic("t", PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        wire.append("t", partition, "kept");
    }
    let second = cluster.broker.path("second");
    let there: Vec<i32> = (0..PARTITIONS).filter(|p| is_in(&second, "t", *p)).collect();
    assert!(!there.is_empty() && there.len() < PARTITIONS as usize, "both dirs are used: {there:?}");
    cluster.broker.kill();
    cluster.wait_unregistered();
    let log = second.join(format!("t-{}", there[0])).join("00000000000000000000.log");
    let aside = cluster.broker.path("aside");
    fs::rename(&log, &aside).expect("the log");
    fs::create_dir(&log).expect("a folder in its place");
    cluster.broker.start();
    assert!(cluster.broker.log_text().contains("second"), "the log names the dir");
    let others = || (0..PARTITIONS).filter(|p| !there.contains(p));
    wait_for("the rest to serve", PATIENCE, || {
        let answer = cluster.broker.wire().try_metadata(&["t"]).ok()?;
        let led = |p: i32| answer.topics[0].partitions.iter().any(|m| m.partition_index == p && m.leader_id.0 == 0);
        others().all(led).then_some(())
    });
    for partition in others() {
        assert_eq!(cluster.broker.wire().read_values("t", partition, 0), [(0, "kept".to_owned())]);
    }
    let error = cluster.broker.wire().fetch("t", there[0], 0, 1000).error;
    assert!([3, 5, 6, 56].contains(&error), "error {error} for a partition that is offline");

    cluster.broker.stop();
    fs::remove_dir(&log).expect("the folder");
    fs::rename(&aside, &log).expect("the log");
    cluster.broker.start();
    wait_for("all partitions", PATIENCE, || cluster.broker.wire().topic_ready("t", PARTITIONS as usize).then_some(()));
    for partition in 0..PARTITIONS {
        assert_eq!(cluster.broker.wire().read_values("t", partition, 0), [(0, "kept".to_owned())]);
    }
}
