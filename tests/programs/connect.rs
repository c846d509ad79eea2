//! Kafka Connect with its file connectors, standalone and distributed: lines of one file come out in another, once each,
//! while workers and a broker are killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::loops::three;
use crate::support::copies::Reader;
use crate::support::dirs::TestDir;
use crate::support::process::Process;
use crate::support::{PATIENCE, free_port, jvm, wait_for};

const SOURCE: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";
const SINK: &str = "org.apache.kafka.connect.file.FileStreamSinkConnector";

fn properties(dir: &TestDir, name: &str, pairs: &[(&str, &str)]) -> PathBuf {
    let text: String = pairs.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let path = dir.join(name);
    fs::write(&path, text).expect("properties");
    path
}

/// Appends numbered lines to a file.
fn append(path: &Path, numbers: std::ops::Range<usize>) {
    let mut file = fs::File::options().create(true).append(true).open(path).expect("a file");
    for number in numbers {
        writeln!(file, "line {number}").expect("written");
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

#[test]
fn standalone_connectors_carry_a_file_through_a_topic() {
    let mut cluster = three();
    cluster.create_topic("carried", 1, &[]);
    let dir = TestDir::new("connect");
    let (from, to) = (dir.join("from.txt"), dir.join("to.txt"));
    append(&from, 0..100);
    let listener = format!("http://127.0.0.1:{}", free_port());
    let converter = "org.apache.kafka.connect.storage.StringConverter";
    let offsets = dir.join("offsets");
    let worker = properties(
        &dir,
        "worker.properties",
        &[
            ("bootstrap.servers", &cluster.bootstrap()),
            ("key.converter", converter),
            ("value.converter", converter),
            ("offset.storage.file.filename", &offsets.display().to_string()),
            ("offset.flush.interval.ms", "200"),
            ("listeners", &listener),
        ],
    );
    let source = properties(
        &dir,
        "source.properties",
        &[("name", "source"), ("connector.class", SOURCE), ("file", &from.display().to_string()), ("topic", "carried")],
    );
    let sink = properties(
        &dir,
        "sink.properties",
        &[("name", "sink"), ("connector.class", SINK), ("file", &to.display().to_string()), ("topics", "carried")],
    );
    let start = |log: &str| {
        let mut command = jvm::program("org.apache.kafka.connect.cli.ConnectStandalone");
        command.args([&worker, &source, &sink]);
        Process::start("connect-standalone", command, &dir.join(log))
    };
    let carried = |count: usize| {
        wait_for(&format!("{count} lines to arrive"), 2 * PATIENCE, || (lines(&to).len() >= count).then_some(()));
        assert_eq!(lines(&to), numbered(count));
    };
    let mut connect = start("first.log");
    carried(100);
    cluster.broker(1).kill();
    append(&from, 100..200);
    carried(200);
    cluster.broker(1).start();
    // A worker that ends in order goes on where it was.
    connect.terminate();
    append(&from, 200..300);
    let mut connect = start("second.log");
    carried(300);
    connect.terminate();
}

/// One request to a worker's REST interface; its status and body, if it answers.
fn rest(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split_whitespace().nth(1)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n")?.1.to_owned();
    Some((status, body))
}

/// Workers that share their work through a group and three compacted topics, with exactly-once sources.
struct Workers {
    dir: TestDir,
    bootstrap: String,
    ports: [u16; 2],
}

impl Workers {
    fn start(&self, number: usize, run: usize) -> Process {
        let listener = format!("http://127.0.0.1:{}", self.ports[number]);
        let converter = "org.apache.kafka.connect.storage.StringConverter";
        let worker = properties(
            &self.dir,
            &format!("worker-{number}.properties"),
            &[
                ("bootstrap.servers", &self.bootstrap),
                ("group.id", "workers"),
                ("key.converter", converter),
                ("value.converter", converter),
                ("config.storage.topic", "connect-configs"),
                ("offset.storage.topic", "connect-offsets"),
                ("offset.storage.partitions", "3"),
                ("status.storage.topic", "connect-status"),
                ("config.storage.replication.factor", "3"),
                ("offset.storage.replication.factor", "3"),
                ("status.storage.replication.factor", "3"),
                ("exactly.once.source.support", "enabled"),
                ("offset.flush.interval.ms", "500"),
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "1000"),
                ("scheduled.rebalance.max.delay.ms", "1000"),
                ("listeners", &listener),
            ],
        );
        let mut command = jvm::program("org.apache.kafka.connect.cli.ConnectDistributed");
        command.arg(worker);
        Process::start("connect-distributed", command, &self.dir.join(&format!("worker-{number}-{run}.log")))
    }

    /// Has any worker that answers create a connector.
    fn create(&self, name: &str, config: &BTreeMap<&str, String>) {
        let body = serde_json::to_string(config).expect("JSON");
        wait_for(&format!("the connector {name} to be created"), 2 * PATIENCE, || {
            let path = format!("/connectors/{name}/config");
            let answers = self.ports.iter().filter_map(|port| rest(*port, "PUT", &path, &body));
            answers.map(|(status, _)| status).find(|status| matches!(status, 200 | 201))
        });
    }

    fn wait_running(&self, name: &str) {
        wait_for(&format!("the task of {name} to run"), 2 * PATIENCE, || {
            let path = format!("/connectors/{name}/status");
            let answers = self.ports.iter().filter_map(|port| rest(*port, "GET", &path, ""));
            answers.map(|(_, body)| body.matches("RUNNING").count()).find(|count| *count >= 2)
        });
    }
}

#[test]
fn distributed_workers_carry_a_file_exactly_once() {
    let mut cluster = three();
    cluster.create_topic("carried", 1, &[]);
    let workers =
        Workers { dir: TestDir::new("connect"), bootstrap: cluster.bootstrap(), ports: [free_port(), free_port()] };
    let (from, to) = (workers.dir.join("from.txt"), workers.dir.join("to.txt"));
    append(&from, 0..100);
    let mut running = [workers.start(0, 0), workers.start(1, 0)];
    let config =
        |pairs: &[(&'static str, &str)]| pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let from_text = from.display().to_string();
    workers.create("source", &config(&[("connector.class", SOURCE), ("file", &from_text), ("topic", "carried")]));
    let to_text = to.display().to_string();
    workers.create("sink", &config(&[("connector.class", SINK), ("file", &to_text), ("topics", "carried")]));
    workers.wait_running("source");
    workers.wait_running("sink");
    let carried = |count: usize| {
        wait_for(&format!("{count} lines to arrive"), 2 * PATIENCE, || {
            let there = lines(&to);
            numbered(count).iter().all(|line| there.contains(line)).then_some(())
        });
    };
    carried(100);
    running[0].kill();
    append(&from, 100..200);
    carried(200);
    running[0] = workers.start(0, 1);
    cluster.broker(2).kill();
    append(&from, 200..300);
    carried(300);
    cluster.broker(2).start();
    // The sink may write lines again after a death; the source put each into the topic once.
    let records = Reader::new(&cluster.bootstrap(), "carried", 1, "read_committed").all();
    let values: Vec<String> = records.into_iter().map(|(_, _, value)| value).collect();
    assert_eq!(values, numbered(300));
    for worker in &mut running {
        worker.terminate();
    }
}
