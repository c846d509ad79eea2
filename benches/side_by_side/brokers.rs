//! ZooKeeper, Apache Kafka and Barnabas as processes, with the same settings for both brokers.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::process::{Process, wait_for};
use super::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(90);
/// How long ZooKeeper keeps the registration of a broker that was killed.
pub const SESSION_MS: u64 = 6000;

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kafka,
    Barnabas,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Kafka, Self::Barnabas];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Barnabas => "barnabas",
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::options().create(true).append(true).open(log)?;
    command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
    Ok(())
}

/// A real ZooKeeper server on an empty folder.
pub struct ZooKeeper {
    _process: Process,
    port: u16,
}

impl ZooKeeper {
    pub fn start(dir: &Path) -> Result<Self> {
        Self::with_tick(dir, 2000)
    }

    /// Sessions end at its next tick, so that is how precise their ends are.
    pub fn with_tick(dir: &Path, tick_ms: u64) -> Result<Self> {
        let port = free_port()?;
        fs::create_dir_all(dir)?;
        let config = format!(
            "tickTime={tick_ms}\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n\
             clientPortAddress=127.0.0.1\nclientPort={port}\ndataDir={}\n",
            dir.join("data").display()
        );
        fs::write(dir.join("zoo.cfg"), config)?;
        let classpath = match std::env::var("ZOOKEEPER_HOME") {
            Ok(home) if !home.is_empty() => format!("{home}/*:{home}/lib/*"),
            _ => "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar".to_owned(),
        };
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-cp", &classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]);
        command.arg(dir.join("zoo.cfg"));
        logged(&mut command, &dir.join("log"))?;
        let mut process = Process::start("ZooKeeper", &mut command)?;
        wait_for("ZooKeeper", PATIENCE, || {
            process.check()?;
            Ok(four_letters(port, "srvr").filter(|text| text.contains("Mode: ")))
        })?;
        Ok(Self { _process: process, port })
    }

    /// Waits until broker `id` is not registered under `chroot` any more.
    pub fn wait_unregistered(&self, chroot: &str, id: i32) -> Result<()> {
        let path = format!("/{chroot}/brokers/ids/{id}");
        wait_for("the session's end", PATIENCE, || {
            Ok(four_letters(self.port, "dump").filter(|text| !text.contains(&path)))
        })?;
        Ok(())
    }
}

fn four_letters(port: u16, word: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A broker with a folder and a port of its own, which it keeps over restarts.
pub struct Broker {
    pub kind: Kind,
    pub id: i32,
    pub port: u16,
    /// Its part of ZooKeeper, which no other broker has used: what that remembers would be created again.
    pub chroot: String,
    dir: PathBuf,
    process: Option<Process>,
}

impl Broker {
    /// Writes its configuration; does not start it. What was in the folder is removed.
    pub fn new(kind: Kind, dir: &Path, zookeeper: &ZooKeeper) -> Result<Self> {
        Self::with_id(kind, dir, zookeeper, &Self::fresh_chroot(kind), 0)
    }

    /// A part of ZooKeeper that nobody has used.
    pub fn fresh_chroot(kind: Kind) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        format!("{}-{}", kind.name(), NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// As [`Self::new`], one of several brokers in the same part of ZooKeeper.
    pub fn with_id(kind: Kind, dir: &Path, zookeeper: &ZooKeeper, chroot: &str, id: i32) -> Result<Self> {
        let port = free_port()?;
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::create_dir_all(dir)?;
        // As in the original's config/server.properties, except for the addresses and the times marked.
        let config = format!(
            "broker.id={id}\nlisteners=PLAINTEXT://127.0.0.1:{port}\n\
             num.network.threads=3\nnum.io.threads=8\n\
             socket.send.buffer.bytes=102400\nsocket.receive.buffer.bytes=102400\n\
             socket.request.max.bytes=104857600\n\
             log.dirs={}\nnum.partitions=1\nnum.recovery.threads.per.data.dir=1\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\nlog.retention.hours=168\n\
             zookeeper.connect=127.0.0.1:{}/{chroot}\nzookeeper.session.timeout.ms={SESSION_MS}\n\
             log.segment.delete.delay.ms=1000\n",
            dir.join("data").display(),
            zookeeper.port,
        );
        fs::write(dir.join("server.properties"), config)?;
        fs::write(dir.join("log4j.properties"), LOG4J)?;
        Ok(Self { kind, id, port, chroot: chroot.to_owned(), dir: dir.into(), process: None })
    }

    /// Sets one more key, for the next start.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let mut file = File::options().append(true).open(self.dir.join("server.properties"))?;
        Ok(writeln!(file, "{key}={value}")?)
    }

    /// Up to where partition 0 of a topic is compacted, as the broker wrote it down.
    pub fn cleaned_to(&self, topic: &str) -> Option<i64> {
        let text = fs::read_to_string(self.dir.join("data/cleaner-offset-checkpoint")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(&format!("{topic} 0 "))?.parse().ok())
    }

    fn command(&self) -> Result<Command> {
        let config = self.dir.join("server.properties");
        let mut command = match self.kind {
            Kind::Barnabas => {
                let mut command = Command::new(std::env::var("BARNABAS_BIN").context("BARNABAS_BIN")?);
                command.arg("kafka-server-start");
                command
            }
            Kind::Kafka => {
                let jars = std::env::var("KAFKA_LIBS").context("KAFKA_LIBS")?;
                let mut command = Command::new("java");
                // What kafka-server-start.sh and kafka-run-class.sh pass.
                command.args(["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
                command.args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]);
                command.args(["-XX:MaxInlineLevel=15", "-Djava.awt.headless=true"]);
                command.arg(format!("-Dlog4j.configuration=file:{}", self.dir.join("log4j.properties").display()));
                command.args(["-cp", &format!("{jars}/*"), "kafka.Kafka"]);
                command
            }
        };
        command.arg(config).current_dir(&self.dir);
        logged(&mut command, &self.dir.join("log"))?;
        Ok(command)
    }

    /// Starts it and waits until `ready` yields something; returns how long that took.
    pub fn start_until<T>(
        &mut self,
        what: &str,
        mut ready: impl FnMut(&mut Wire) -> Result<Option<T>>,
    ) -> Result<Duration> {
        let begun = Instant::now();
        let mut process = Process::start(self.kind.name(), &mut self.command()?)?;
        let port = self.port;
        wait_for(what, PATIENCE, || {
            process.check().with_context(|| self.log_end())?;
            let Ok(mut wire) = Wire::connect(port) else { return Ok(None) };
            // What fails while it starts is asked again.
            Ok(ready(&mut wire).ok().flatten())
        })
        .with_context(|| self.log_end())?;
        let took = begun.elapsed();
        self.process = Some(process);
        Ok(took)
    }

    /// Starts it and waits until it answers Metadata with itself and a controller.
    pub fn start(&mut self) -> Result<Duration> {
        self.start_until("the broker to serve", |wire| {
            let metadata = wire.metadata(&[])?;
            Ok((metadata.controller_id.0 >= 0 && !metadata.brokers.is_empty()).then_some(()))
        })
    }

    /// What is counted for its process.
    pub fn counted(&self) -> Result<&Process> {
        self.process.as_ref().context("not started")
    }

    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("not started")
    }

    pub fn wire(&self) -> Result<Wire> {
        Wire::connect(self.port)
    }

    pub fn stop(&mut self) -> Result<Duration> {
        let took = self.process()?.terminate()?;
        self.process = None;
        Ok(took)
    }

    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// The records of a topic.
    pub fn log_files(&self, topic: &str) -> Result<Vec<PathBuf>> {
        let mut files = self.files(topic)?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
        Ok(files)
    }

    /// What the files of a topic take, those too that are about to be removed, in bytes.
    pub fn log_size(&self, topic: &str) -> Result<u64> {
        // One may go meanwhile.
        Ok(self.files(topic)?.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum())
    }

    fn files(&self, topic: &str) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for partition in fs::read_dir(self.dir.join("data"))? {
            let partition = partition?.path();
            let named = partition.file_name().and_then(|name| name.to_str()).unwrap_or("").rsplit_once('-');
            if named.is_some_and(|(name, _)| name == topic) {
                files.extend(fs::read_dir(partition)?.filter_map(|entry| Some(entry.ok()?.path())));
            }
        }
        Ok(files)
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("the end of its log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

const LOG4J: &str = "log4j.rootLogger=INFO, stdout\n\
    log4j.appender.stdout=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.stdout.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c)%n\n";
