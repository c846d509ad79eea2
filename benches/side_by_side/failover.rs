//! Three brokers, one of which stops, dies or falls silent under writers: the longest time for which a partition took no
//! write.
//!
//! Every partition is written to all the time, with acks=all and whatever it takes to find its leader: a lane for each
//! broker sends it, in one request, a record for every partition that it is known to lead. When anything fails or no
//! answer comes for a while, brokers are asked for Metadata until all is well. No answer is waited for once
//! another broker leads, so that what is measured are the brokers and not a client's time-outs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, ElectLeadersRequest, MetadataResponse, ProduceRequest};
use parking_lot::Mutex;

use super::brokers::{Broker, Kind, SESSION_MS, ZooKeeper};
use super::process::wait_for;
use super::wire::{self, Wire};

pub const BROKERS: i32 = 3;
const PARTITIONS: i32 = 300;
pub const TOPIC: &str = "failover";
const ELECT_LEADERS: i16 = 1;
const PREFERRED: i8 = 0;
/// Pause of a lane between two requests.
const PACE: Duration = Duration::from_millis(50);
/// Pause before Metadata is asked for again while something is wrong.
const RETRY: Duration = Duration::from_millis(50);
/// A partition without a write for so long is looked after.
const SILENCE: Duration = Duration::from_millis(500);
/// How long a broker may take to answer Metadata before another is asked.
const METADATA_PATIENCE: Duration = Duration::from_millis(500);
/// What a broker may wait for replicas, so that partitions that have to wait do not hold up the others of a request.
const ACKS_TIMEOUT_MS: i32 = 500;
const PATIENCE: Duration = Duration::from_secs(120);
/// Writes go on for so long after the last trouble before the figure is taken.
const CALM: Duration = Duration::from_secs(4);

/// What happens to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGTERM.
    Stop,
    /// SIGKILL: its host ends its connections.
    Kill,
    /// SIGSTOP: nobody is told anything, as when a host dies.
    Freeze,
}

/// Whom it happens to, and what.
pub const CASES: [(&str, bool, Fault); 5] = [
    ("a leader stops", false, Fault::Stop),
    ("a leader is killed", false, Fault::Kill),
    ("the controller is killed", true, Fault::Kill),
    ("a leader falls silent", false, Fault::Freeze),
    ("the controller falls silent", true, Fault::Freeze),
];

/// The longest gap of each of [`CASES`] in seconds.
pub fn run(kind: Kind, dir: &Path, zookeeper: &ZooKeeper) -> Result<[f64; CASES.len()]> {
    let mut cluster = Cluster::start(kind, dir, zookeeper)?;
    cluster.create(PARTITIONS)?;
    cluster.writers = Some(Writers::start(&cluster.brokers)?);
    let mut gaps = [0.0; CASES.len()];
    for ((name, controller, fault), gap) in CASES.into_iter().zip(&mut gaps) {
        *gap = cluster.measure(controller, fault)?.as_secs_f64();
        eprintln!("  {kind:?}, {name}: {gap:.2} s");
    }
    cluster.brokers.iter_mut().try_for_each(|broker| broker.kill())?;
    Ok(gaps)
}

/// Three brokers and their one topic.
pub struct Cluster<'a> {
    zookeeper: &'a ZooKeeper,
    pub brokers: Vec<Broker>,
    partitions: i32,
    writers: Option<Writers>,
}

impl<'a> Cluster<'a> {
    /// The brokers, none of which has anything yet.
    pub fn start(kind: Kind, dir: &Path, zookeeper: &'a ZooKeeper) -> Result<Self> {
        let chroot = Broker::fresh_chroot(kind);
        let broker = |id: i32| Broker::with_id(kind, &dir.join(id.to_string()), zookeeper, &chroot, id);
        let mut brokers = (0..BROKERS).map(broker).collect::<Result<Vec<_>>>()?;
        brokers.iter_mut().try_for_each(|broker| broker.start().map(|_| ()))?;
        let cluster = Self { zookeeper, brokers, partitions: 0, writers: None };
        cluster.wait_metadata("all brokers", |metadata| metadata.brokers.len() == BROKERS as usize)?;
        Ok(cluster)
    }

    /// Creates the topic; when it is there, each broker leads its third of it.
    pub fn create(&mut self, partitions: i32) -> Result<()> {
        self.partitions = partitions;
        let topic = CreatableTopic::default()
            .with_name(wire::name(TOPIC))
            .with_num_partitions(partitions)
            .with_replication_factor(BROKERS as i16);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(60_000);
        let answer = self.controller()?.wire()?.call(&request, wire::CREATE_TOPICS)?;
        ensure!(answer.topics[0].error_code == 0, "creating the topic failed: {}", answer.topics[0].error_code);
        self.settle()
    }

    /// What any broker knows; not every one answers.
    pub fn metadata(&self) -> Result<MetadataResponse> {
        let asked = self.brokers.iter().find_map(|broker| ask(broker.port).ok());
        asked.context("no broker answers")
    }

    /// Waits until all brokers that run say so.
    fn wait_metadata(&self, what: &str, wanted: impl Fn(&MetadataResponse) -> bool) -> Result<()> {
        wait_for(what, PATIENCE, || {
            let all = self.brokers.iter().all(|broker| ask(broker.port).is_ok_and(|answer| wanted(&answer)));
            Ok(all.then_some(()))
        })
    }

    fn controller(&mut self) -> Result<&mut Broker> {
        let id = self.metadata()?.controller_id.0;
        self.brokers.get_mut(usize::try_from(id)?).context("a controller")
    }

    /// All replicas in sync, each broker leads its third.
    pub fn settle(&mut self) -> Result<()> {
        let count = self.partitions as usize;
        let in_sync = |metadata: &MetadataResponse| {
            partitions(metadata).filter(|p| p.isr_nodes.len() == BROKERS as usize).count() == count
        };
        self.wait_metadata("all replicas in sync", in_sync)?;
        let request = ElectLeadersRequest::default()
            .with_election_type(PREFERRED)
            .with_topic_partitions(None)
            .with_timeout_ms(30_000);
        // Where preferred replicas lead already, the answer says so; and what counts is seen below.
        self.controller()?.wire()?.call(&request, ELECT_LEADERS)?;
        let preferred = |metadata: &MetadataResponse| {
            partitions(metadata).filter(|p| p.replica_nodes.first() == Some(&p.leader_id)).count() == count
        };
        self.wait_metadata("preferred leaders", preferred)
    }

    fn measure(&mut self, controller: bool, fault: Fault) -> Result<Duration> {
        self.settle()?;
        let it = usize::try_from(self.metadata()?.controller_id.0)?;
        let victim = if controller { it } else { (it + 1) % BROKERS as usize };
        let writers = self.writers.as_ref().context("writers")?;
        // All three share one disk here: what others left to be written shall not hold up their appends.
        nix::unistd::sync();
        writers.wait_calm(CALM)?;
        writers.begin();
        let broker = &mut self.brokers[victim];
        match fault {
            // Not waited for: writers are what is watched.
            Fault::Stop => broker.process()?.signal(libc::SIGTERM)?,
            Fault::Kill => broker.kill()?,
            Fault::Freeze => broker.process()?.signal(libc::SIGSTOP)?,
        }
        // Whatever comes of it comes before or shortly after the session's end.
        thread::sleep(Duration::from_millis(SESSION_MS) + CALM);
        writers.wait_calm(CALM)?;
        let gap = writers.longest();
        match fault {
            Fault::Freeze => broker.process()?.signal(libc::SIGCONT)?,
            Fault::Stop => drop(broker.stop()?),
            Fault::Kill => {}
        }
        if fault != Fault::Freeze {
            self.bring_back(victim)?;
        }
        Ok(gap)
    }

    /// Starts a broker again that was stopped or killed, as soon as Kafka's would start.
    pub fn bring_back(&mut self, victim: usize) -> Result<()> {
        let broker = &mut self.brokers[victim];
        self.zookeeper.wait_unregistered(&broker.chroot, broker.id)?;
        broker.start().map(drop)
    }
}

/// The topic's partitions.
pub fn partitions(
    metadata: &MetadataResponse,
) -> impl Iterator<Item = &kafka_protocol::messages::metadata_response::MetadataResponsePartition> {
    metadata.topics.iter().flat_map(|topic| &topic.partitions)
}

/// Metadata from one broker, soon or not at all.
pub fn ask(port: u16) -> Result<MetadataResponse> {
    let mut wire = Wire::connect(port)?;
    wire.stream.set_read_timeout(Some(METADATA_PATIENCE))?;
    wire.metadata(&[TOPIC])
}

/// How the writes to one partition go.
#[derive(Debug, Clone, Copy)]
struct Progress {
    last: Instant,
    longest: Duration,
}

/// What lanes and the one who finds leaders share.
struct Shared {
    /// Of each broker the partitions it leads, and the leader epoch of each.
    routes: Mutex<BTreeMap<i32, (i32, i32)>>,
    progress: Mutex<Vec<Progress>>, // by partition
    trouble: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    fn acknowledged(&self, numbers: &[i32]) {
        let now = Instant::now();
        let mut progress = self.progress.lock();
        for number in numbers {
            let one = &mut progress[*number as usize];
            one.longest = one.longest.max(now - one.last);
            one.last = now;
        }
    }

    /// The partitions that a broker leads, as far as is known.
    fn led_by(&self, broker: i32) -> Vec<i32> {
        let routes = self.routes.lock();
        routes.iter().filter(|(_, route)| route.0 == broker).map(|(number, _)| *number).collect()
    }

    /// Takes in who leads, but nothing older than what is known.
    fn learn(&self, metadata: &MetadataResponse) {
        let mut routes = self.routes.lock();
        for partition in partitions(metadata).filter(|partition| partition.leader_id.0 >= 0) {
            let known = routes.entry(partition.partition_index).or_insert((-1, -1));
            if partition.leader_epoch >= known.1 {
                *known = (partition.leader_id.0, partition.leader_epoch);
            }
        }
    }

    fn silence(&self) -> Duration {
        self.progress.lock().iter().map(|one| one.last.elapsed()).max().unwrap_or_default()
    }
}

/// The threads that write.
struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(brokers: &[Broker]) -> Result<Self> {
        let fresh = Progress { last: Instant::now(), longest: Duration::ZERO };
        let shared = Arc::new(Shared {
            routes: Mutex::default(),
            progress: Mutex::new(vec![fresh; PARTITIONS as usize]),
            trouble: AtomicBool::new(true),
            over: AtomicBool::new(false),
        });
        let record = wire::batch(1, 100, 0)?;
        let mut writers = Self { shared: shared.clone(), threads: Vec::new() };
        for broker in brokers {
            let (shared, record, id, port) = (shared.clone(), record.clone(), broker.id, broker.port);
            writers.threads.push(thread::spawn(move || lane(&shared, &record, id, port)));
        }
        let ports: Vec<u16> = brokers.iter().map(|broker| broker.port).collect();
        writers.threads.push(thread::spawn(move || find_leaders(&shared, &ports)));
        Ok(writers)
    }

    fn begin(&self) {
        self.shared.progress.lock().iter_mut().for_each(|one| one.longest = Duration::ZERO);
    }

    /// The longest time without a write to one and the same partition since the beginning.
    fn longest(&self) -> Duration {
        let progress = self.shared.progress.lock();
        progress.iter().map(|one| one.longest.max(one.last.elapsed())).max().unwrap_or_default()
    }

    /// Waits until every partition has been written to all the time for `calm`.
    fn wait_calm(&self, calm: Duration) -> Result<()> {
        let mut since = Instant::now();
        wait_for("writes to go on", PATIENCE, || {
            if self.shared.silence() > SILENCE {
                since = Instant::now();
            }
            Ok((since.elapsed() > calm).then_some(()))
        })
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Their brokers may be frozen: not waited for.
        self.threads.clear();
    }
}

/// Writes to the partitions that one broker leads.
fn lane(shared: &Shared, record: &Bytes, id: i32, port: u16) {
    let mut wire: Option<Wire> = None;
    while !shared.over.load(Ordering::Relaxed) {
        let led = shared.led_by(id);
        let answer = match (&mut wire, led.is_empty()) {
            (_, true) => Ok(Vec::new()),
            (Some(wire), _) => write(wire, record, &led),
            (none, _) => match Wire::connect(port) {
                Ok(fresh) => write(none.insert(fresh), record, &led),
                Err(error) => Err(error),
            },
        };
        match answer {
            Ok(written) => {
                shared.acknowledged(&written);
                if written.len() < led.len() {
                    shared.trouble.store(true, Ordering::Relaxed);
                }
            }
            Err(_) => {
                wire = None;
                shared.trouble.store(true, Ordering::Relaxed);
            }
        }
        thread::sleep(PACE);
    }
}

/// One request; the partitions whose writes were acknowledged.
fn write(wire: &mut Wire, record: &Bytes, led: &[i32]) -> Result<Vec<i32>> {
    let data = |number: &i32| PartitionProduceData::default().with_index(*number).with_records(Some(record.clone()));
    let topic =
        TopicProduceData::default().with_name(wire::name(TOPIC)).with_partition_data(led.iter().map(data).collect());
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(ACKS_TIMEOUT_MS).with_topic_data(vec![topic]);
    let response = wire.call(&request, wire::PRODUCE)?;
    let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    Ok(answers.filter(|answer| answer.error_code == 0).map(|answer| answer.index).collect())
}

/// Asks one broker after the other who leads, while anything is wrong.
fn find_leaders(shared: &Shared, ports: &[u16]) {
    let mut next = 0;
    while !shared.over.load(Ordering::Relaxed) {
        if shared.trouble.swap(false, Ordering::Relaxed) || shared.silence() > SILENCE {
            next += 1;
            match ask(ports[next % ports.len()]) {
                Ok(metadata) => shared.learn(&metadata),
                Err(_) => {
                    shared.trouble.store(true, Ordering::Relaxed);
                    continue;
                }
            }
        }
        thread::sleep(RETRY);
    }
}
