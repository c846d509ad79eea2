//! Many partitions: created, written to, stopped, started again; and what they cost in memory.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kafka_protocol::messages::FetchResponse;

use super::brokers::{Broker, Kind, ZooKeeper};
use super::wire::{self, Wire};

/// Partitions of each topic.
const EACH: i32 = 1000;
/// Records of one kilobyte in a batch written to a partition.
const BATCH: usize = 64;

/// What a partition has on the disk once it is created.
const FILES: [&str; 4] = ["00.log", "00.index", "00.timeindex", "partition.metadata"];

/// All figures for one number of partitions, in seconds and MiB.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub create: f64,
    pub rss_created: f64,
    pub rss_written: f64,
    pub stop: f64,
    pub restart: f64,
    pub restart_after_kill: f64,
}

/// Takes a fresh broker through its life with `count` partitions, `total` bytes in them. Its folder stays: for minutes
/// after a removal ext4 passes each removed inode by whenever it creates a file, which the next broker would pay for.
pub fn run(kind: Kind, dir: &Path, zookeeper: &ZooKeeper, count: i32, total: usize) -> Result<Figures> {
    settle();
    let mut broker = Broker::new(kind, dir, zookeeper)?;
    broker.start()?;
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or("many");
    let topics: Vec<_> = (0..count / EACH).map(|number| (format!("{name}-{number}"), EACH)).collect();
    let begun = Instant::now();
    broker.wire()?.create_topics(&topics)?;
    let create = begun.elapsed().as_secs_f64();
    thread::sleep(Duration::from_secs(2));
    let rss_created = broker.process()?.rss_kib()? / 1024.0;
    // A little in each partition, so that the times are the broker's and not those of the disk.
    write(&broker, &topics, 0)?;
    let stop = broker.stop()?.as_secs_f64();
    zookeeper.wait_unregistered(&broker.chroot, broker.id)?;
    let readable = |wire: &mut Wire| all_readable(wire, &topics);
    let restart = broker.start_until("all data to be readable", readable)?.as_secs_f64();
    // Something to check after the kill.
    write(&broker, &topics, 0)?;
    broker.kill()?;
    if kind == Kind::Kafka {
        // It would give up at its predecessor's registration.
        zookeeper.wait_unregistered(&broker.chroot, broker.id)?;
    }
    let restart_after_kill = broker.start_until("all data to be readable", readable)?.as_secs_f64();
    write(&broker, &topics, total)?;
    thread::sleep(Duration::from_secs(2));
    let rss_written = broker.process()?.rss_kib()? / 1024.0;
    broker.stop()?;
    Ok(Figures { create, rss_created, rss_written, stop, restart, restart_after_kill })
}

/// The disk has nothing left to write of what others did before.
fn settle() {
    nix::unistd::sync();
    thread::sleep(Duration::from_secs(1));
}

/// Without a broker: how long the file system takes to create the folders and files of `count` partitions, and how long
/// to bring to the disk what [`run`] writes to each before the stop.
pub fn bare_files(dir: &Path, count: i32) -> Result<[f64; 2]> {
    settle();
    let batch = wire::batch(BATCH, 1024, 0)?;
    let folders: Vec<_> = (0..count).map(|number| dir.join(format!("bare-{number}"))).collect();
    fs::create_dir_all(dir)?;
    let begun = Instant::now();
    for folder in &folders {
        fs::create_dir(folder)?;
        for file in FILES {
            fs::File::create(folder.join(file))?;
        }
    }
    let create = begun.elapsed().as_secs_f64();
    thread::sleep(Duration::from_secs(2));
    for folder in &folders {
        // Not truncated: ext4 would then write it out at once.
        fs::OpenOptions::new().append(true).open(folder.join(FILES[0]))?.write_all(&batch)?;
    }
    let begun = Instant::now();
    nix::unistd::syncfs(fs::File::open(dir)?)?;
    Ok([create, begun.elapsed().as_secs_f64()])
}

/// Writes batches to all partitions in turn, at least one to each, a few requests at a time.
fn write(broker: &Broker, topics: &[(String, i32)], total: usize) -> Result<()> {
    const DEPTH: usize = 8;
    let batch = wire::batch(BATCH, 1024, 0)?;
    let rounds = (total / batch.len() / (topics.len() * EACH as usize)).max(1);
    let mut wire = broker.wire()?;
    let mut under_way = 0;
    for _ in 0..rounds {
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                wire.stream.write_all(&wire::produce_frame(topic, partition, 1, batch.clone())?)?;
                under_way += 1;
                if under_way == DEPTH {
                    wire.receive_produced()?;
                    under_way -= 1;
                }
            }
        }
    }
    for _ in 0..under_way {
        wire.receive_produced()?;
    }
    Ok(())
}

/// Whether every partition can be fetched from and shows its data.
fn all_readable(wire: &mut Wire, topics: &[(String, i32)]) -> Result<Option<()>> {
    for (topic, count) in topics {
        let offsets: Vec<(i32, i64)> = (0..*count).map(|partition| (partition, 0)).collect();
        let response: FetchResponse = wire.call(&wire::fetch_request(topic, &offsets, 1, 0), wire::FETCH)?;
        let mut readable = 0;
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            ensure!(partition.error_code == 0, "not yet");
            readable += i32::from(partition.high_watermark > 0);
        }
        if readable < *count {
            return Ok(None);
        }
    }
    Ok(Some(()))
}
