//! Broker processes: barnabas itself, or a JVM broker in ZooKeeper mode as the reference.

use super::dirs::TestDir;
use super::netns::Place;
use super::process::Process;
use super::wire::Wire;
use super::{PATIENCE, free_port, jvm, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Which program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Barnabas,
    /// Apache Kafka of this version.
    Jvm(&'static str),
}

impl Kind {
    /// The broker that the interop tests run against: barnabas, unless `BARNABAS_TEST_BROKER` is `jvm-3.9.1` or
    /// `jvm-2.8.2`, which proves the tests themselves.
    pub fn under_test() -> Kind {
        match std::env::var("BARNABAS_TEST_BROKER").as_deref() {
            Ok("jvm-3.9.1") => Kind::Jvm(jvm::NEW),
            Ok("jvm-2.8.2") => Kind::Jvm(jvm::OLD),
            Ok("") | Ok("barnabas") | Err(_) => Kind::Barnabas,
            Ok(other) => panic!("BARNABAS_TEST_BROKER={other}: not barnabas, jvm-3.9.1 or jvm-2.8.2"),
        }
    }
}

/// What a broker is started with; its port and folders stay the same over restarts and changes of [`Kind`].
pub struct Broker {
    pub kind: Kind,
    pub host: String,
    pub port: u16,
    /// Command words that start the broker's command, e.g. strace and its options.
    pub wrapper: Vec<String>,
    /// Environment variables added to the broker's.
    pub env: Vec<(String, String)>,
    dir: TestDir,
    config: BTreeMap<String, String>,
    process: Option<Process>,
    starts: u32,
}

impl Broker {
    /// Broker 0 of the cluster at `zookeeper_connect`, not started yet.
    pub fn new(kind: Kind, zookeeper_connect: &str) -> Broker {
        Broker::with_id(kind, 0, zookeeper_connect)
    }

    pub fn with_id(kind: Kind, id: i32, zookeeper_connect: &str) -> Broker {
        let dir = TestDir::new("broker");
        let port = free_port();
        let mut config = BTreeMap::new();
        for (key, value) in [
            ("broker.id", id.to_string()),
            ("listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
            ("zookeeper.connect", zookeeper_connect.to_owned()),
            ("zookeeper.session.timeout.ms", "6000".to_owned()),
            ("log.dirs", dir.join("data").display().to_string()),
            ("num.partitions", "1".to_owned()),
            ("offsets.topic.num.partitions", "5".to_owned()),
            ("offsets.topic.replication.factor", "1".to_owned()),
            ("transaction.state.log.num.partitions", "5".to_owned()),
            ("transaction.state.log.replication.factor", "1".to_owned()),
            ("transaction.state.log.min.isr", "1".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ] {
            config.insert(key.to_owned(), value);
        }
        Broker {
            kind,
            host: "127.0.0.1".to_owned(),
            port,
            wrapper: Vec::new(),
            env: Vec::new(),
            dir,
            config,
            process: None,
            starts: 0,
        }
    }

    /// Sets a configuration key for the next start.
    pub fn set(&mut self, key: &str, value: impl ToString) -> &mut Broker {
        self.config.insert(key.to_owned(), value.to_string());
        self
    }

    /// Moves it to another place for the next start.
    pub fn move_to(&mut self, place: Place) -> &mut Broker {
        self.wrapper = place.wrapper;
        self.host = place.host;
        let listeners = format!("PLAINTEXT://{}", self.address());
        self.set("listeners", listeners)
    }

    /// A broker folder's first log dir.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A path in the broker's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Folder of a partition in the first log dir.
    pub fn partition_dir(&self, topic: &str, partition: i32) -> PathBuf {
        self.data().join(format!("{topic}-{partition}"))
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Starts and waits until it serves.
    pub fn started(mut self) -> Broker {
        self.start();
        self
    }

    /// Starts and waits until it serves; answers the time that took.
    pub fn start(&mut self) -> Duration {
        let begin = std::time::Instant::now();
        self.launch();
        self.wait_serving();
        begin.elapsed()
    }

    /// Starts without waiting.
    pub fn launch(&mut self) {
        self.starts += 1;
        let config = self.dir.join("server.properties");
        let text: String = self.config.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        fs::write(&config, text).expect("server.properties");
        let command = self.wrapped(self.command(&config));
        self.process = Some(Process::start(&format!("{:?}", self.kind), command, &self.log_path()));
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = match self.kind {
            Kind::Barnabas => Command::new(barnabas()),
            Kind::Jvm(version) => jvm::java(version, "512m", "kafka.Kafka"),
        };
        if self.kind == Kind::Barnabas {
            command.arg("kafka-server-start");
        }
        command.arg(config).current_dir(self.dir.path());
        command.envs(self.env.iter().cloned());
        command
    }

    fn wrapped(&self, inner: Command) -> Command {
        let Some((first, rest)) = self.wrapper.split_first() else { return inner };
        let mut outer = Command::new(first);
        outer.args(rest).arg(inner.get_program()).args(inner.get_args());
        outer.current_dir(self.dir.path()).envs(self.env.iter().cloned());
        outer
    }

    /// The log of the current run; each start has a file of its own.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(&format!("broker-{}.log", self.starts))
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits until it answers Metadata with itself and a controller among the brokers.
    pub fn wait_serving(&mut self) {
        let address = self.address();
        let id: i32 = self.config["broker.id"].parse().expect("a number");
        wait_for("the broker to serve", PATIENCE, || {
            if !self.is_running() {
                assert!(self.lost_its_session(), "the broker ended at start:\n{}", self.process().log_tail());
                self.launch();
            }
            let brokers = Wire::connect(&address).ok()?.try_metadata(&[]).ok()?;
            (brokers.controller_id.0 >= 0 && brokers.brokers.iter().any(|b| b.node_id.0 == id)).then_some(())
        });
    }

    /// Whether it is a JVM broker whose session ran out while it started, as on a machine that was stalled: it ends then, and
    /// is started again wherever somebody looks after it.
    fn lost_its_session(&self) -> bool {
        matches!(self.kind, Kind::Jvm(_)) && self.log_text().contains("KeeperException$SessionExpiredException")
    }

    /// A new connection.
    pub fn wire(&self) -> Wire {
        Wire::connect(&self.address()).expect("the broker accepts")
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("started")
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// SIGTERM and waits for the end.
    pub fn stop(&mut self) -> Duration {
        let took = self.process().terminate();
        self.process = None;
        took
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&mut self) -> u64 {
        let pid = self.process().pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

/// The program that cargo built for this test, or another one (such as a release build) that `BARNABAS_TEST_BIN` names.
pub fn barnabas() -> PathBuf {
    std::env::var_os("BARNABAS_TEST_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_barnabas")), PathBuf::from)
}
