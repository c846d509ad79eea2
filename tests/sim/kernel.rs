//! The simulator's kernel: virtual time, the queue of what is to happen, the one source of randomness, the trace.
//!
//! Everything outside of processes (messages under way, ZooKeeper, faults) lives in one [`Core`] and happens in events of
//! it, in the order of their times and, at one time, of their making. Processes reach it through [`Sim`]. It never knows
//! what a broker is.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::UnboundedSender;

use crate::network::Network;
use crate::old::Old;
use crate::zookeeper::Ensemble;

/// How far processes run before messages are handed over, in ms. No message takes less.
pub const TICK: u64 = 5;

/// The number of a machine: a broker's id, or [`CLIENTS`].
pub type Node = i32;

/// Where the clients run.
pub const CLIENTS: Node = 100;

/// Something to do inside a process.
pub type Job = Box<dyn FnOnce() + Send>;

/// Something that happens to the world.
pub type Event = Box<dyn FnOnce(&mut Core) + Send>;

/// A machine's running process.
pub struct Running {
    /// Counts the lives of the process on that machine.
    pub life: u64,
    /// Whether it is stopped as by SIGSTOP.
    pub frozen: bool,
    /// Takes jobs.
    pub jobs: UnboundedSender<Job>,
}

/// The world but for the processes.
pub struct Core {
    /// Now, in ms since the start.
    pub now: u64,
    /// The source of all that is random.
    pub rng: StdRng,
    /// What happened.
    pub trace: Trace,
    /// The processes that run.
    pub running: BTreeMap<Node, Running>,
    /// Messages.
    pub network: Network,
    /// ZooKeeper.
    pub zookeeper: Ensemble,
    /// What of the brokers is as it was before a fix.
    pub old: Old,
    events: BTreeMap<(u64, u64), Event>,
    made: u64,
}

impl Core {
    /// Lets something happen `delay` ms from now, at the earliest in the next tick.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + TICK + delay, event);
    }

    /// Lets something happen at a time.
    pub fn at(&mut self, time: u64, event: Event) {
        self.made += 1;
        self.events.insert((time, self.made), event);
    }

    /// Lets everything happen that is due.
    pub fn run_due(&mut self) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let event = entry.remove();
            event(self);
        }
    }

    /// The life that a machine's process is in, if it runs.
    pub fn life(&self, node: Node) -> Option<u64> {
        self.running.get(&node).map(|running| running.life)
    }

    /// Whether that life of the process runs and is not frozen.
    pub fn is_awake(&self, node: Node, life: u64) -> bool {
        self.running.get(&node).is_some_and(|running| running.life == life && !running.frozen)
    }

    /// Hands a job to a process, if that life of it still runs.
    pub fn post(&mut self, node: Node, life: u64, job: Job) {
        if let Some(running) = self.running.get(&node).filter(|running| running.life == life) {
            let _ = running.jobs.send(job);
        }
    }

    /// Whether something of that chance happens.
    pub fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.rng.random_bool(chance)
    }

    /// A number from the range, both ends included.
    pub fn pick(&mut self, range: (u64, u64)) -> u64 {
        self.rng.random_range(range.0..=range.1)
    }

    /// Notes what happened.
    pub fn note(&mut self, line: &str) {
        tracing::info!("{} {line}", self.now);
        let now = self.now;
        self.trace.note(now, false, line);
    }

    /// Notes that a message arrived.
    pub fn note_message(&mut self, line: &str) {
        let now = self.now;
        self.trace.note(now, true, line);
    }
}

/// The kernel, as processes hold it.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<Core>>);

impl Sim {
    /// A world of that seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Core {
            now: 0,
            rng: StdRng::seed_from_u64(seed),
            trace: Trace::default(),
            running: BTreeMap::new(),
            network: Network::default(),
            zookeeper: Ensemble::default(),
            old: Old::default(),
            events: BTreeMap::new(),
            made: 0,
        })))
    }

    /// The core. Never hold it across an await, nor while a process is driven or ended.
    pub fn core(&self) -> MutexGuard<'_, Core> {
        self.0.lock()
    }

    /// Notes what happened.
    pub fn note(&self, line: &str) {
        self.core().note(line);
    }
}

/// How many lines of the trace a failure shows; all of them, messages too, if `SIM_TRACE` is set.
const SHOWN: usize = 80;

/// What happened, in lines with their times.
#[derive(Default)]
pub struct Trace {
    lines: Vec<(bool, String)>,
}

impl Trace {
    fn note(&mut self, now: u64, is_message: bool, line: &str) {
        self.lines.push((is_message, format!("{now:>6} {line}")));
    }

    /// All lines.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &str> {
        self.lines.iter().map(|(_, line)| line.as_str())
    }

    /// What a failure shows.
    pub fn tail(&self) -> String {
        if std::env::var_os("SIM_TRACE").is_some() {
            return self.lines().collect::<Vec<_>>().join("\n");
        }
        let told = self.lines.iter().rev().filter(|(is_message, _)| !is_message).take(SHOWN);
        let mut told: Vec<&str> = told.map(|(_, line)| line.as_str()).collect();
        told.reverse();
        told.join("\n")
    }
}
