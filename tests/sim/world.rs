//! The whole: machines, their processes, what is done to them. One thread drives every process from tick to tick and lets
//! the checker look after each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use barnabas::base::ids::{BrokerId, Offset, TopicId, TopicPartition};
use barnabas::replica::partition::Partition;
use barnabas::zk::Op;
use barnabas::zk::znodes::admin;
use barnabas::zk::znodes::topics::{self, ReplicaAssignment, TopicNode};
use rand::Rng;
use tokio::sync::mpsc;

use crate::broker::{self, Setup, View};
use crate::checker::Checker;
use crate::clients::Client;
use crate::disk::{self, Flushed};
use crate::kernel::{CLIENTS, Node, Sim, TICK};
use crate::process::Process;

/// How soon a broker that ended by itself is started again, in ms.
const RESTART_DELAY: u64 = 200;
/// Partitions of each internal topic.
const INTERNAL_PARTITIONS: i32 = 2;
/// With it nothing is lost whoever loses its power.
pub const FLUSH_EACH_BATCH: (&str, &str) = ("log.flush.interval.messages", "1");

/// A machine that brokers run on.
struct Machine {
    dir: PathBuf,
    process: Option<Process>,
    views: mpsc::UnboundedReceiver<View>,
    up: mpsc::UnboundedSender<View>,
    view: Option<View>,
    flushed: Flushed,
}

/// The simulated world.
pub struct World {
    /// The kernel.
    pub sim: Sim,
    /// What holds and what does not.
    pub checker: Checker,
    seed: u64,
    machines: BTreeMap<Node, Machine>,
    clients: Process,
    settings: Vec<(&'static str, &'static str)>,
    lives: u64,
    /// Brokers that ended by themselves, and when they are started again, as an operator's supervisor does.
    restarts: Vec<(u64, Node)>,
    _root: tempfile::TempDir,
}

impl World {
    /// A world of that seed with machines 1 to `brokers`, all of them off.
    pub fn new(seed: u64, brokers: Node, settings: &[(&'static str, &'static str)]) -> Self {
        show_log();
        let sim = Sim::new(seed);
        let root = disk::root();
        let machine = |node: Node| {
            let dir = root.path().join(node.to_string());
            let (up, views) = mpsc::unbounded_channel();
            (node, Machine { dir, process: None, views, up, view: None, flushed: Flushed::default() })
        };
        let clients = Process::start(&sim, CLIENTS, 0, std::future::pending());
        Self {
            checker: Checker::new(sim.clone()),
            machines: (1..=brokers).map(machine).collect(),
            sim,
            seed,
            clients,
            settings: settings.to_vec(),
            lives: 0,
            restarts: Vec::new(),
            _root: root,
        }
    }

    /// All machines.
    pub fn nodes(&self) -> Vec<Node> {
        self.machines.keys().copied().collect()
    }

    /// Those with a running process.
    pub fn running(&self) -> Vec<Node> {
        self.machines.iter().filter(|(_, m)| m.process.is_some()).map(|(node, _)| *node).collect()
    }

    /// A broker as it can be looked at, once it is up.
    pub fn view(&self, node: Node) -> Option<&View> {
        self.machines.get(&node)?.view.as_ref()
    }

    /// Starts the broker of a machine.
    pub fn boot(&mut self, node: Node) {
        self.lives += 1;
        let (sim, life) = (self.sim.clone(), self.lives);
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.process.is_none()) else { return };
        sim.note(&format!("{node} starts"));
        sim.core().network.dark.remove(&node);
        let late = sim.core().old.flushes_later;
        let heeded: Vec<_> = self.settings.iter().copied().filter(|pair| !late || *pair != FLUSH_EACH_BATCH).collect();
        let pairs = broker::settings(node, &machine.dir, &heeded);
        let setup = Setup { sim: sim.clone(), node, dir: machine.dir.clone(), pairs, up: machine.up.clone() };
        machine.process = Some(Process::start(&sim, node, life, broker::run(setup)));
    }

    /// Starts them all.
    pub fn boot_all(&mut self) {
        self.nodes().into_iter().for_each(|node| self.boot(node));
    }

    /// kill -9.
    pub fn kill(&mut self, node: Node) {
        self.sim.note(&format!("{node} is killed"));
        self.end(node, false);
    }

    /// SIGTERM. The process is there until it is killed.
    pub fn stop(&mut self, node: Node) {
        self.sim.note(&format!("{node} is stopped"));
        let machine = &self.machines[&node];
        if let (Some(process), Some(view)) = (&machine.process, &machine.view) {
            process.spawn(view.stop());
        }
    }

    /// kill -9, and the logs are gone: the folder of each partition.
    pub fn kill_and_wipe(&mut self, node: Node) {
        self.kill(node);
        if let Some(machine) = self.machines.get(&node) {
            disk::wipe(&machine.dir);
        }
        self.checker.lost_power(node);
    }

    /// The machine loses its power: what was not flushed is lost, in part or whole.
    pub fn cut_power(&mut self, node: Node) {
        self.sim.note(&format!("{node} loses its power"));
        self.end(node, true);
        let mut core = self.sim.core();
        core.network.dark.insert(node);
        if let Some(machine) = self.machines.get_mut(&node) {
            let lines = disk::lose_power(&machine.dir, &mut machine.flushed, &mut core.rng);
            lines.iter().for_each(|line| core.note(line));
        }
        drop(core);
        if self.flushes_each_batch() {
            self.checker.must_look_again(node);
        } else {
            self.checker.lost_power(node);
        }
    }

    /// Whether brokers promise that what they have taken in is on the disk.
    pub fn flushes_each_batch(&self) -> bool {
        self.settings.contains(&FLUSH_EACH_BATCH)
    }

    /// All machines lose their power at once. What every member of an ISR had flushed is there afterwards.
    pub fn cut_power_of_all(&mut self) {
        let flushed = |tp: &TopicPartition, node: Node| {
            let log =
                self.machines.get(&node).map(|machine| machine.dir.join(format!("{}-{}", tp.topic, tp.partition)));
            log.map_or(Offset(0), |dir| self.machines[&node].flushed.recovery_point(&dir))
        };
        let safe: Vec<(TopicPartition, Offset)> = self
            .checker
            .partitions()
            .map(|(tp, state, _)| {
                (tp.clone(), state.isr.iter().map(|id| flushed(tp, id.get())).min().unwrap_or(Offset(0)))
            })
            .collect();
        for node in self.nodes() {
            self.cut_power(node);
        }
        if !self.flushes_each_batch() {
            self.checker.forgive(&safe);
        }
    }

    /// Takes ZooKeeper's quorum away, or gives it back.
    pub fn set_quorum(&mut self, there: bool) {
        let mut core = self.sim.core();
        if there { core.find_quorum() } else { core.lose_quorum() }
    }

    /// Asks for a topic's deletion, as kafka-topics with `--zookeeper` does; it comes about when all its brokers are there.
    pub fn delete_topic(&mut self, topic: &str) {
        let made = self.sim.core().write_as_admin(vec![Op::create(admin::delete_topic_path(topic), "")]);
        made.expect("brokers have made the nodes above");
    }

    /// Whether nothing of a topic is left in ZooKeeper, nor a wish to delete it.
    pub fn is_deleted(&self, topic: &str) -> bool {
        let core = self.sim.core();
        let tree = core.zookeeper.committed();
        [topics::path(topic), admin::delete_topic_path(topic)].iter().all(|path| tree.stat(path).is_none())
    }

    fn end(&mut self, node: Node, silent: bool) {
        let Some(machine) = self.machines.get_mut(&node) else { return };
        machine.view = None;
        let process = machine.process.take();
        {
            let mut core = self.sim.core();
            if let Some(running) = core.running.remove(&node) {
                core.drop_connections(node, running.life, silent);
            }
        }
        drop(process);
        self.checker.ended(node);
        // A view that was sent and not yet taken would keep the logs open.
        while machine.views.try_recv().is_ok() {}
    }

    /// SIGSTOP.
    pub fn freeze(&mut self, node: Node) {
        self.sim.note(&format!("{node} is frozen"));
        if let Some(running) = self.sim.core().running.get_mut(&node) {
            running.frozen = true;
        }
    }

    /// SIGCONT.
    pub fn thaw(&mut self, node: Node) {
        self.sim.note(&format!("{node} goes on"));
        if let Some(running) = self.sim.core().running.get_mut(&node) {
            running.frozen = false;
        }
    }

    /// Whether a machine's process is frozen.
    pub fn is_frozen(&self, node: Node) -> bool {
        self.sim.core().running.get(&node).is_some_and(|running| running.frozen)
    }

    /// Blocks what goes from one machine to another, or opens it.
    pub fn set_link(&mut self, from: Node, to: Node, open: bool) {
        self.sim.note(&format!("{from} -> {to} {}", if open { "is open" } else { "is blocked" }));
        let mut core = self.sim.core();
        if open { core.unblock(from, to) } else { core.block(from, to) }
    }

    /// Cuts a machine off from ZooKeeper, or not.
    pub fn set_zookeeper_link(&mut self, node: Node, open: bool) {
        self.sim.note(&format!("{node} {} ZooKeeper", if open { "reaches" } else { "is cut off from" }));
        let mut core = self.sim.core();
        if open {
            core.zookeeper.unreachable.remove(&node)
        } else {
            core.zookeeper.unreachable.insert(node)
        };
    }

    /// Makes a topic whose partitions all have these replicas, each another one first, as kafka-topics with `--zookeeper` does.
    pub fn create_topic(&mut self, topic: &str, partitions: i32, replicas: &[Node]) {
        let mut core = self.sim.core();
        let id: u128 = core.rng.random();
        let assignment = |p: i32| {
            let first = usize::try_from(p).unwrap_or(0) % replicas.len();
            let rotated = replicas[first..].iter().chain(&replicas[..first]);
            ReplicaAssignment::new(rotated.copied().map(BrokerId).collect())
        };
        let node = TopicNode {
            topic_id: Some(TopicId::from_u128(id)),
            partitions: (0..partitions).map(|p| (p, assignment(p))).collect(),
        };
        let made = core.write_as_admin(vec![Op::create(topics::path(topic), node.encode())]);
        made.expect("brokers have made the nodes above");
    }

    /// Makes these internal topics, with [`INTERNAL_PARTITIONS`] each.
    pub fn create_internal(&mut self, topics: &[&str], replicas: &[Node]) {
        topics.iter().for_each(|topic| self.create_topic(topic, INTERNAL_PARTITIONS, replicas));
    }

    /// A client of a partition.
    pub fn client_of(&self, tp: &TopicPartition) -> Client {
        let (sim, ledger) = (self.sim.clone(), self.checker.ledger.clone());
        Client { sim, brokers: self.nodes(), tp: tp.clone(), ledger, over: Arc::default() }
    }

    /// A replica, where it is hosted.
    pub fn replica(&self, node: Node, tp: &TopicPartition) -> Option<Arc<Partition>> {
        self.view(node)?.manager.partition(&tp.topic, tp.partition).ok()
    }

    /// The end of a replica's log.
    pub fn end_of(&self, node: Node, tp: &TopicPartition) -> Option<Offset> {
        Some(self.replica(node, tp)?.log()?.log_end_offset())
    }

    /// Starts a client.
    pub fn client(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.clients.spawn(task);
    }

    /// Lets the world go on for so long.
    pub fn run(&mut self, ms: u64) {
        let until = self.sim.core().now + ms;
        while self.sim.core().now < until {
            self.step();
        }
    }

    /// Lets the world go on until something holds, for `ms` at most.
    pub fn run_until(&mut self, what: &str, ms: u64, holds: impl Fn(&Self) -> bool) {
        let until = self.sim.core().now + ms;
        while !holds(self) {
            if self.sim.core().now >= until {
                self.fail(&format!("not within {ms} ms: {what}"));
            }
            self.step();
        }
    }

    /// Lets the world go on until nothing is left to do, for `ms` at most; looks less often than [`Self::run_until`].
    pub fn finish(&mut self, ms: u64, unfinished: impl Fn(&Self) -> Option<String>) {
        let until = self.sim.core().now + ms;
        while let Some(what) = unfinished(self) {
            if self.sim.core().now >= until {
                self.fail(&what);
            }
            self.run(100);
        }
    }

    fn step(&mut self) {
        let until = {
            let mut core = self.sim.core();
            core.run_due();
            core.keep_sessions();
            core.now + TICK
        };
        for (node, machine) in &mut self.machines {
            let frozen = self.sim.core().running.get(node).is_some_and(|running| running.frozen);
            if let Some(process) = machine.process.as_ref().filter(|_| !frozen) {
                process.drive(until);
            }
        }
        self.clients.drive(until);
        self.sim.core().now = until;
        self.look_at_processes();
        if let Err(violation) = self.check() {
            self.fail(&violation);
        }
    }

    fn look_at_processes(&mut self) {
        let mut over = Vec::new();
        for (node, machine) in &mut self.machines {
            while let Ok(view) = machine.views.try_recv() {
                machine.view = Some(view);
                machine.flushed.begin_life();
            }
            if let Some(view) = &machine.view {
                machine.flushed.look(view.manager.log_manager());
            }
            if let Some(why) = machine.process.as_mut().and_then(Process::ended) {
                over.push((*node, why));
            }
        }
        for (node, why) in over {
            self.sim.note(&format!("the broker on {node} ends: {why}"));
            self.end(node, false);
            self.restarts.push((self.sim.core().now + RESTART_DELAY, node));
        }
        let now = self.sim.core().now;
        let (due, later) = std::mem::take(&mut self.restarts).into_iter().partition(|(at, _)| *at <= now);
        self.restarts = later;
        let due: Vec<(u64, Node)> = due;
        due.into_iter().for_each(|(_, node)| self.boot(node));
    }

    fn check(&mut self) -> Result<(), String> {
        let views: Vec<(Node, &View)> =
            self.machines.iter().filter_map(|(node, machine)| Some((*node, machine.view.as_ref()?))).collect();
        self.checker.look(&views)
    }

    /// Ends the test: says what is wrong, what happened before, and how to see it again.
    pub fn fail(&self, violation: &str) -> ! {
        let tail = self.sim.core().trace.tail();
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("random_histories").to_owned();
        panic!(
            "\n{tail}\n\n{}\nseed {}: {violation}\nreplay: SIM_SEED={} SIM_TRACE=all cargo test --test sim {test}\n",
            self.describe(),
            self.seed,
            self.seed,
        );
    }

    /// How the partitions and the brokers stand.
    fn describe(&self) -> String {
        let mut lines = Vec::new();
        for (tp, state, _) in self.checker.partitions() {
            lines.push(format!("{tp}: leader {}, epoch {}, ISR {:?}", state.leader, state.leader_epoch, state.isr));
        }
        for (node, machine) in &self.machines {
            let Some(view) = &machine.view else {
                lines.push(format!("{node} does not serve"));
                continue;
            };
            let controller = view.controller.controller_id();
            lines.push(format!(
                "{node} serves, broker epoch {}, controller {controller:?}",
                view.manager.broker_epoch()
            ));
            let mut partitions = view.manager.partitions();
            partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
            for partition in partitions {
                let log = partition.log().map(|log| (log.log_end_offset(), log.high_watermark()));
                let (tp, leadership) = (&partition.topic_partition, partition.leadership());
                let (role, epoch) = (leadership.role, leadership.leader_epoch);
                lines.push(format!("  {tp}: {role:?} in epoch {epoch}, ISR {:?}, (end, HW) {log:?}", leadership.isr));
            }
        }
        lines.join("\n")
    }
}

/// `SIM_LOG=debug` and the like: what brokers log goes to the test's output.
fn show_log() {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_test_writer().try_init();
    }
}
