//! After kill -9: all log dirs are recovered at once and the log says how far that is; what was flushed is not read.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::records::noise;
use crate::support::{PATIENCE, wait_for};
use std::fs;
use std::path::PathBuf;

const PARTITIONS: i32 = 8;
const COUNT: usize = 20;

/// The number before `word` in a line.
fn number_before(line: &str, word: &str) -> Option<u64> {
    line.split_once(word)?.0.split_whitespace().next_back()?.parse().ok()
}

#[test]
fn several_log_dirs_with_progress_in_the_log() {
    let mut cluster = Cluster::with(Kind::Barnabas, |broker| {
        let dirs = format!("{},{}", broker.data().display(), broker.path("data-2").display());
        broker.set("log.dirs", dirs).set("num.recovery.threads.per.data.dir", 2);
        broker.set("log.flush.offset.checkpoint.interval.ms", 300);
    });
    let dirs = [cluster.broker.data(), cluster.broker.path("data-2")];
    let dir_of = |partition: i32| -> PathBuf {
        let folders = dirs.iter().map(|dir| dir.join(format!("t-{partition}")));
        folders.into_iter().find(|folder| folder.exists()).expect("a folder in one of both")
    };
    let mut wire = cluster.broker.wire();
    wire.create_topic("t", PARTITIONS, &[("segment.bytes", "10000")]);
    for index in 0..COUNT {
        for partition in 0..PARTITIONS {
            wire.append("t", partition, &noise(index as u64, 1_000));
        }
    }
    let written: Vec<_> = (0..PARTITIONS).map(|partition| wire.read_values("t", partition, 0)).collect();
    for dir in &dirs {
        assert!((0..PARTITIONS).any(|partition| dir_of(partition).starts_with(dir)), "{} is used", dir.display());
    }
    // Segments that were rolled are flushed soon; the last one of each partition never is.
    let is_noted = |partition: i32| {
        let file = dir_of(partition).with_file_name("recovery-point-offset-checkpoint");
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("t {partition} ")).map(str::to_owned));
        line.and_then(|point| point.parse::<usize>().ok()).is_some_and(|point| point > 9)
    };
    wait_for("recovery points behind the first segments", PATIENCE, || (0..PARTITIONS).all(is_noted).then_some(()));
    cluster.broker.kill();
    let first = dir_of(0).join(format!("{:020}.log", 0));
    let mut damaged = fs::read(&first).expect("the first segment");
    damaged[500] ^= 0xff;
    fs::write(&first, &damaged).expect("the first segment");
    let total: u64 = (0..PARTITIONS)
        .flat_map(|partition| fs::read_dir(dir_of(partition)).expect("a folder").flatten())
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "log"))
        .map(|file| file.metadata().expect("a file").len())
        .sum();

    cluster.broker.start();
    let text = cluster.broker.log_text();
    let find = |word: &str| -> &str {
        text.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no line with '{word}' in:\n{text}"))
    };
    let to_check = number_before(find("recovering 8 partitions with up to"), " bytes to check").expect("bytes");
    let progress = find("recovered partition t-");
    assert!(progress.contains(" of 8, ") && number_before(progress, " bytes left").is_some(), "{progress}");
    let checked = number_before(find("recovered 8 partitions"), " bytes checked").expect("bytes");
    assert!(to_check < total && checked == to_check, "{checked} of {to_check} bytes, {total} in all");
    assert_eq!(fs::read(&first).expect("the first segment"), damaged, "what was flushed is left alone");
    let mut wire = cluster.broker.wire();
    for (partition, values) in (0..PARTITIONS).zip(&written) {
        let from = if partition == 0 { 9 } else { 0 };
        assert_eq!(wire.read_values("t", partition, from as i64), values[from..], "partition {partition}");
    }
}
