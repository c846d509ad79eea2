//! Loading the partitions of an internal topic that come to be led here, the same for groups and for transactions: a few
//! loaders read them one after the other; each is served once every in-sync replica has what was read of it.
//!
//! ```text
//!   on_election --> LoadQueue --> read_all --> InternalLog::replicated --> Loads::serve
//!                      ^             |                  |
//!                      +-- RETRY ----+------------------+   unless the leadership has gone
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use super::internal_log::{Acked, InternalLog};
use super::reading::{REPORT, ReadUp, read_all};
use super::slots::{Held, Home, Slots};
use super::wire::Malformed;
use crate::base::blocking;
use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::protocol::batch::BatchHeader;
use crate::protocol::records::Record;

/// How long to wait before reading a partition again that could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// How many partitions are read at a time: all at once would take a thread and a buffer each.
const MAX_LOADERS: usize = 2;

/// Partitions that wait to be read, and how many loaders read.
#[derive(Default)]
struct LoadQueue {
    waiting: VecDeque<(i32, LeaderEpoch)>,
    running: usize,
}

/// The partitions of an internal topic that are coordinated here, served or on their way to it.
pub struct Partitions<P> {
    /// Where their records are.
    pub log: Arc<dyn InternalLog>,
    /// Where loaders run, and acknowledgements are awaited.
    pub runtime: Handle,
    /// What is loading or served.
    pub slots: Slots<P>,
    /// How much is read at a time, in bytes.
    pub buffer_size: usize,
    // Locked for a push or a pop.
    queue: Mutex<LoadQueue>,
}

impl<P> Partitions<P> {
    /// No partition yet.
    pub fn new(log: Arc<dyn InternalLog>, runtime: Handle, buffer_size: usize) -> Self {
        Self { log, runtime, slots: Slots::default(), buffer_size, queue: Mutex::default() }
    }
}

/// A partition that was read.
pub struct Loaded<R> {
    /// Which it is.
    pub home: Arc<Home>,
    /// What became of its records.
    pub replay: R,
    /// How many records there were.
    pub records: u64,
    /// When it began.
    pub started: Instant,
}

/// A coordinator, as its loaders see it.
pub(crate) trait Loads: Sized + Send + Sync + 'static {
    /// The internal topic.
    const TOPIC: &'static str;
    /// What its partitions hold, for the log.
    const WHAT: &'static str;
    /// What the records of a partition add up to.
    type Replay: Default + Send + 'static;
    /// What is served of a partition.
    type Owned: Held + Send + Sync + 'static;

    /// What it coordinates.
    fn partitions(&self) -> &Partitions<Self::Owned>;

    /// Itself, unless the broker has let go of it.
    fn myself(&self) -> Option<Arc<Self>>;

    /// Takes one record in.
    ///
    /// # Errors
    /// If it cannot be read.
    fn take(
        &self,
        replay: &mut Self::Replay,
        header: &BatchHeader,
        offset: Offset,
        record: &Record<'_>,
    ) -> Result<(), Malformed>;

    /// Serves what was read, if the partition is still led here at that epoch.
    fn serve(&self, loaded: Loaded<Self::Replay>);

    /// This broker turned out not to lead `partition` at `epoch` any more.
    fn resign(&self, partition: i32, epoch: LeaderEpoch);
}

/// Lets one of few loaders read the partition.
pub(crate) fn queue<C: Loads>(coordinator: &C, partition: i32, epoch: LeaderEpoch) {
    let Some(me) = coordinator.myself() else { return };
    let partitions = coordinator.partitions();
    let mut queue = partitions.queue.lock();
    queue.waiting.push_back((partition, epoch));
    if queue.running < MAX_LOADERS {
        queue.running += 1;
        blocking::spawn(&partitions.runtime, move || run_loader(&*me));
    }
}

fn run_loader<C: Loads>(coordinator: &C) {
    let next = || {
        let mut queue = coordinator.partitions().queue.lock();
        let next = queue.waiting.pop_front();
        queue.running -= usize::from(next.is_none());
        next
    };
    while let Some((partition, epoch)) = next() {
        load(coordinator, partition, epoch);
    }
}

fn load<C: Loads>(coordinator: &C, partition: i32, epoch: LeaderEpoch) {
    let partitions = coordinator.partitions();
    let goes_on = || partitions.slots.is_loading(partition, epoch);
    if !goes_on() {
        return;
    }
    let home = Arc::new(Home { tp: TopicPartition::new(C::TOPIC, partition), epoch });
    let (started, mut replay) = (Instant::now(), C::Replay::default());
    let take =
        |header: &BatchHeader, offset, record: &Record<'_>| coordinator.take(&mut replay, header, offset, record);
    match read_all(&*partitions.log, &home, C::WHAT, partitions.buffer_size, goes_on, take) {
        Ok(ReadUp { end, records }) => await_replicas(coordinator, Loaded { home, replay, records, started }, end),
        Err(error) => failed(coordinator, &home, error),
    }
}

/// What was read is acted on only once every in-sync replica has it. Kafka acts at once: it sends the markers of a
/// PrepareCommit that nobody else may have, where a leader that comes after lets the same transaction abort; or it confirms
/// the generation of a group that the next leader gives another assignment.
fn await_replicas<C: Loads>(coordinator: &C, loaded: Loaded<C::Replay>, end: Offset) {
    match coordinator.partitions().log.replicated(&loaded.home.tp, end, REPORT) {
        Acked::Now(result) => replicated(coordinator, loaded, end, result),
        Acked::Later(acked) => {
            let Some(me) = coordinator.myself() else { return };
            let runtime = coordinator.partitions().runtime.clone();
            coordinator.partitions().runtime.spawn(async move {
                let result = acked.await;
                // What was read may be much.
                blocking::spawn(&runtime, move || replicated(&*me, loaded, end, result));
            });
        }
    }
}

fn replicated<C: Loads>(coordinator: &C, loaded: Loaded<C::Replay>, end: Offset, result: Result<(), ErrorCode>) {
    let home = &loaded.home;
    match result {
        Ok(()) => coordinator.serve(loaded),
        Err(_) if !coordinator.partitions().slots.is_loading(home.tp.partition, home.epoch) => {}
        Err(ErrorCode::RequestTimedOut) => {
            info!(partition = %home.tp, epoch = %home.epoch, %end, "{} are read; waiting until every in-sync replica has them", C::WHAT);
            await_replicas(coordinator, loaded, end);
        }
        Err(error) => failed(coordinator, home, error),
    }
}

/// If loading fails, it is begun anew later, unless the leadership has gone meanwhile.
fn failed<C: Loads>(coordinator: &C, home: &Home, error: ErrorCode) {
    let (partition, epoch) = (home.tp.partition, home.epoch);
    if error == ErrorCode::NotLeaderOrFollower {
        warn!(partition = %home.tp, %epoch, "loading ends: the partition is not led here");
        return coordinator.resign(partition, epoch);
    }
    error!(partition = %home.tp, %epoch, %error, "loading {} failed; once more", C::WHAT);
    let Some(me) = coordinator.myself() else { return };
    coordinator.partitions().runtime.spawn(async move {
        tokio::time::sleep(RETRY).await;
        queue(&*me, partition, epoch);
    });
}
