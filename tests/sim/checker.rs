//! What must hold, looked at after every tick.
//!
//! - A batch written in an epoch at an offset is the same on every replica: no two leaders write in one epoch.
//! - What lies below any replica's high watermark is committed: the same everywhere, for ever.
//! - A high watermark never falls while its broker lives.
//! - The newest leader, as ZooKeeper names it, has everything that was committed or acknowledged.
//! - Every member of the ISR in ZooKeeper has everything below the leader's high watermark.
//! - No two sessions write as the controller of one epoch.
//! - A topic that was deleted and made anew has nothing of what it had before.
//! - Transactions and groups: see `transactions` and `groups`. Topics that are compacted: see `compaction`.
//! - Clients: offsets are acknowledged once, what was read stays as it was read, the end of what can be read never falls.
//!
//! One thing is not promised, by Kafka neither: a machine that loses its power while in the ISR has lost what it had not
//! flushed, and counts until it has registered anew and the controller has taken it out of the ISR. The checker knows
//! (`tainted`), and the faults spare the other replicas until then. Where each batch is flushed nothing of that holds: any
//! machine may lose its power at any time. Without that, if all lose it at once, only what every member of the ISR had
//! flushed must be there (`forgive`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use barnabas::base::ids::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use barnabas::base::topic_names::GROUP_METADATA_TOPIC;
use barnabas::replica::partition::Partition;
use barnabas::zk::znodes::admin;
use barnabas::zk::znodes::broker_ids;
use barnabas::zk::znodes::topics::{self, LeaderAndIsr, PartitionState, TopicNode};
use parking_lot::Mutex;

use crate::broker::View;
use crate::compaction::{Histories, Records, is_compacted};
use crate::disk::LogFiles;
use crate::groups::ledger::Told;
use crate::groups::log::GroupLog;
use crate::kernel::{Node, Sim};
use crate::transactions::outcomes::{Outcomes, Step};

/// What identifies a batch beside its offset.
type Content = (LeaderEpoch, u32);

/// What clients were told.
#[derive(Default)]
pub struct Ledger {
    /// Acknowledged batches: partition, base offset, CRC.
    pub acknowledged: Vec<(TopicPartition, Offset, u32)>,
    /// Producers all of whose batches are acknowledged.
    pub done: BTreeSet<i64>,
    /// What clients saw that must not be.
    pub violations: Vec<String>,
    read: BTreeMap<(TopicPartition, Offset), u32>,
    ends: BTreeMap<(TopicPartition, i8), Offset>,
    /// What was copied in transactions.
    pub copies: Copies,
    /// What members of groups were told.
    pub groups: Told,
}

/// What clients were told of transactions.
#[derive(Default)]
pub struct Copies {
    /// How many transactions there were.
    pub begun: u64,
    /// Whether a transaction was committed, as its producer was told.
    pub told: BTreeMap<u64, bool>,
    /// How many numbers the readers have read.
    pub read: BTreeMap<TopicPartition, i64>,
    /// The offset that was committed, as it was found at the end.
    pub audited: Option<i64>,
}

impl Ledger {
    /// A consumer read a batch.
    pub fn read(&mut self, tp: &TopicPartition, base: Offset, crc: u32) {
        let before = *self.read.entry((tp.clone(), base)).or_insert(crc);
        if before != crc {
            self.violations.push(format!("{tp}: consumers read two different batches at offset {base}"));
        }
    }

    /// A consumer of that isolation level was told how far it can read.
    pub fn end(&mut self, tp: &TopicPartition, isolation: i8, end: Offset) {
        let known = self.ends.entry((tp.clone(), isolation)).or_insert(end);
        if end < *known {
            self.violations.push(format!("{tp}: the end for consumers fell from {known} to {end}"));
        }
        *known = end.max(*known);
    }

    /// How many batches consumers have read.
    pub fn batches_read(&self) -> usize {
        self.read.len()
    }
}

/// A partition in ZooKeeper.
struct Truth {
    state: LeaderAndIsr,
    replicas: Vec<Node>,
    /// Whether the replicas are those that were last wanted.
    is_final: bool,
}

/// A replica as it was seen last.
#[derive(Default)]
struct Replica {
    dir: PathBuf,
    files: LogFiles,
    /// The same, of a partition that is compacted.
    records: Option<Records>,
    seen: Option<Seen>,
    /// Whether what is committed was compared with the log as it is.
    checked: bool,
    /// Which of the replicas that the broker had one after the other.
    instance: Weak<Partition>,
}

impl Replica {
    /// Reads the log; what was compared must be compared again if it is not only longer.
    fn reread(&mut self) {
        self.checked &= !self.files.refresh(&self.dir);
        self.records.iter_mut().for_each(|records| records.refresh(&self.dir));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    leads: bool,
    epoch: LeaderEpoch,
    end: Offset,
    high_watermark: Offset,
}

/// The checker.
pub struct Checker {
    sim: Sim,
    /// What clients were told.
    pub ledger: Arc<Mutex<Ledger>>,
    truths: BTreeMap<TopicPartition, Truth>,
    zxid: i64,
    replicas: BTreeMap<(Node, TopicPartition), Replica>,
    written: BTreeMap<(TopicPartition, Offset, LeaderEpoch), u32>,
    committed: BTreeMap<TopicPartition, BTreeMap<Offset, Content>>,
    /// The same, of what is compacted.
    compacted: Histories,
    leaders: BTreeMap<(TopicPartition, LeaderEpoch), Node>,
    /// Who lost its power, and the write in ZooKeeper before that.
    tainted: BTreeMap<(Node, TopicPartition), i64>,
    /// How transactions ended.
    pub outcomes: Outcomes,
    /// What the log says of the group.
    pub group_log: GroupLog,
    acknowledged: usize,
    /// Topics that are to be deleted: of them nothing is promised any more.
    dying: BTreeSet<String>,
    /// Batches of topics that were deleted.
    buried: BTreeSet<(Arc<str>, u32)>,
}

impl Checker {
    pub fn new(sim: Sim) -> Self {
        Self {
            sim,
            ledger: Arc::default(),
            truths: BTreeMap::new(),
            zxid: 0,
            replicas: BTreeMap::new(),
            written: BTreeMap::new(),
            committed: BTreeMap::new(),
            compacted: Histories::default(),
            leaders: BTreeMap::new(),
            tainted: BTreeMap::new(),
            outcomes: Outcomes::default(),
            group_log: GroupLog::default(),
            acknowledged: 0,
            dying: BTreeSet::new(),
            buried: BTreeSet::new(),
        }
    }

    /// The leader, its epoch and the ISR of a partition as ZooKeeper has them.
    pub fn state(&self, tp: &TopicPartition) -> Option<&LeaderAndIsr> {
        self.truths.get(tp).map(|truth| &truth.state)
    }

    /// All partitions, with their states in ZooKeeper and their replicas.
    pub fn partitions(&self) -> impl Iterator<Item = (&TopicPartition, &LeaderAndIsr, &[Node])> {
        self.truths.iter().map(|(tp, truth)| (tp, &truth.state, truth.replicas.as_slice()))
    }

    /// Whether all replicas that are wanted are in sync, and no others are there.
    pub fn is_complete(&self) -> bool {
        self.dying.is_empty() && self.truths.values().all(|t| t.is_final && t.state.isr.len() == t.replicas.len())
    }

    /// Whether all replicas are in sync, in the lives that their brokers are in.
    pub fn is_settled(&self) -> bool {
        let core = self.sim.core();
        let tree = core.zookeeper.committed();
        self.is_complete()
            && self.truths.iter().all(|(tp, truth)| {
                let written = tree.stat(&topics::state_path(&tp.topic, tp.partition)).map(|stat| stat.mzxid);
                let is_older = |id: &BrokerId| tree.stat(&broker_ids::path(*id)).map(|stat| stat.czxid) < written;
                truth.state.isr.iter().all(is_older)
            })
    }

    /// Whether a machine still counts as in sync although it lost its power.
    pub fn is_tainted(&self, node: Node) -> bool {
        self.tainted.keys().any(|(tainted, _)| *tainted == node)
    }

    /// A process ended. Its successor may know of less that is committed.
    pub fn ended(&mut self, node: Node) {
        self.replicas.iter_mut().filter(|((owner, _), _)| *owner == node).for_each(|(_, replica)| replica.seen = None);
    }

    /// Whatever was known of a machine's logs may be otherwise.
    pub fn must_look_again(&mut self, node: Node) {
        self.replicas.retain(|(owner, _), _| *owner != node);
    }

    /// All machines lost their power: what lies at and above these offsets was not flushed everywhere, and may be gone.
    pub fn forgive(&mut self, safe: &[(TopicPartition, Offset)]) {
        let mut ledger = self.ledger.lock();
        for (tp, safe) in safe {
            drop(self.committed.entry(tp.clone()).or_default().split_off(safe));
            self.compacted.get_mut(tp).into_iter().for_each(|history| history.forgive(*safe));
            ledger.acknowledged.retain(|(of, base, _)| of != tp || base < safe);
            ledger.read.retain(|(of, base), _| of != tp || base < safe);
            ledger.ends.retain(|(of, _), _| of != tp);
        }
        self.outcomes.forget();
        self.group_log.forget();
        self.acknowledged = ledger.acknowledged.len();
        self.tainted.clear();
    }

    /// Forgets what is no more; what its batches were is kept.
    fn bury(&mut self, topic: &str) {
        let of = |tp: &TopicPartition| *tp.topic == *topic;
        self.buried.extend(
            self.written.iter().filter(|((tp, ..), _)| of(tp)).map(|((tp, ..), crc)| (Arc::clone(&tp.topic), *crc)),
        );
        self.truths.retain(|tp, _| !of(tp));
        self.replicas.retain(|(_, tp), _| !of(tp));
        self.written.retain(|(tp, ..), _| !of(tp));
        self.committed.retain(|tp, _| !of(tp));
        self.compacted.bury(topic);
        self.leaders.retain(|(tp, _), _| !of(tp));
        self.tainted.retain(|(_, tp), _| !of(tp));
        let mut ledger = self.ledger.lock();
        ledger.acknowledged.retain(|(tp, ..)| !of(tp));
        self.acknowledged = ledger.acknowledged.len();
        ledger.read.retain(|(tp, _), _| !of(tp));
        ledger.ends.retain(|(tp, _), _| !of(tp));
    }

    /// A machine lost its power: what it had is looked at anew, and it may have lost what it had as a member of ISRs.
    pub fn lost_power(&mut self, node: Node) {
        self.must_look_again(node);
        // A leader may have proposed it for an ISR a moment ago.
        let zxid = self.sim.core().zookeeper.committed().zxid();
        self.tainted.extend(self.truths.keys().map(|tp| ((node, tp.clone()), zxid)));
    }

    /// Looks at everything; the first thing that is wrong, if something is.
    pub fn look(&mut self, views: &[(Node, &View)]) -> Result<(), String> {
        if let Some(violation) = self.ledger.lock().violations.first() {
            return Err(violation.clone());
        }
        if let Some(violation) = &self.sim.core().zookeeper.violation {
            return Err(violation.clone());
        }
        let mut changed = self.read_zookeeper();
        for (node, view) in views {
            let mut partitions = view.manager.partitions();
            partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
            partitions.retain(|partition| !self.dying.contains(&*partition.topic_partition.topic));
            self.look_for_gone(*node, &partitions);
            for partition in partitions {
                if self.look_at(*node, &partition)? {
                    changed.insert(partition.topic_partition.clone());
                }
            }
        }
        self.take_acknowledged(&mut changed);
        changed.iter().try_for_each(|tp| self.check_partition(tp))
    }

    /// Reads the partitions' states; answers which are new.
    fn read_zookeeper(&mut self) -> BTreeSet<TopicPartition> {
        let mut changed = BTreeSet::new();
        let core = self.sim.core();
        let tree = core.zookeeper.committed();
        if tree.zxid() == self.zxid {
            return changed;
        }
        self.zxid = tree.zxid();
        let names = tree.children(topics::PATH).unwrap_or_default();
        let mut gone: BTreeSet<Arc<str>> = self.truths.keys().map(|tp| Arc::clone(&tp.topic)).collect();
        gone.retain(|topic| !names.iter().any(|name| **name == **topic));
        self.dying = tree.children(admin::DELETE_TOPICS_PATH).unwrap_or_default().into_iter().collect();
        drop(core);
        gone.iter().for_each(|topic| self.bury(topic));
        let core = self.sim.core();
        let tree = core.zookeeper.committed();
        for topic in tree.children(topics::PATH).unwrap_or_default() {
            let Ok(node) = tree.get(&topics::path(&topic)) else { continue };
            let Ok(node) = TopicNode::decode(&topic, &node.data) else { continue };
            for (number, assignment) in node.partitions {
                let Ok(state) = tree.get(&topics::state_path(&topic, number)) else { continue };
                let state = PartitionState::decode(&topic, number, &state.data, state.stat.version);
                let state = state.expect("a readable state").leader_and_isr;
                let replicas = assignment.replicas.iter().map(|id| id.get()).collect();
                let is_final = !assignment.is_being_reassigned();
                let tp = TopicPartition::new(topic.as_str(), number);
                if self.truths.get(&tp).is_none_or(|known| known.state != state) {
                    changed.insert(tp.clone());
                }
                self.truths.insert(tp, Truth { state, replicas, is_final });
            }
        }
        let truths = &self.truths;
        self.tainted.retain(|(node, tp), zxid| {
            let registration = tree.stat(&broker_ids::path(BrokerId(*node)));
            let came_anew = registration.is_some_and(|stat| stat.czxid > *zxid);
            let truth = truths.get(tp);
            truth.is_some_and(|truth| !came_anew || truth.state.isr.iter().any(|id| id.get() == *node))
        });
        changed
    }

    /// Replicas that were removed from a broker: one that comes there later begins anew.
    fn look_for_gone(&mut self, node: Node, hosted: &[Arc<Partition>]) {
        for ((owner, tp), replica) in &mut self.replicas {
            let is_hosted = || hosted.iter().any(|partition| partition.topic_partition == *tp);
            if *owner == node && replica.seen.is_some() && !is_hosted() {
                replica.seen = None;
                replica.reread();
            }
        }
    }

    /// Looks at one replica; whether anything about it is new.
    fn look_at(&mut self, node: Node, partition: &Arc<Partition>) -> Result<bool, String> {
        let tp = &partition.topic_partition;
        let Some(log) = partition.log() else {
            // It was stopped; what it wrote before is there.
            let known = self.replicas.get_mut(&(node, tp.clone()));
            known.into_iter().for_each(|replica| replica.reread());
            return Ok(false);
        };
        let seen = Seen {
            leads: partition.is_leader(),
            epoch: partition.leader_epoch(),
            end: log.log_end_offset(),
            high_watermark: log.high_watermark(),
        };
        let replica = self.replicas.entry((node, tp.clone())).or_default();
        if !std::ptr::eq(replica.instance.as_ptr(), Arc::as_ptr(partition)) {
            (replica.seen, replica.instance) = (None, Arc::downgrade(partition));
        }
        let before = replica.seen.replace(seen);
        if before == Some(seen) {
            return Ok(false);
        }
        if let Some(before) = before
            && before.high_watermark > seen.high_watermark
        {
            let (from, to) = (before.high_watermark, seen.high_watermark);
            return Err(format!("{tp}: the high watermark on {node} falls from {from} to {to}"));
        }
        log.dir().clone_into(&mut replica.dir);
        if is_compacted(&tp.topic) {
            replica.records.get_or_insert_default();
        }
        replica.reread();
        if before.is_none_or(|b| b.epoch != seen.epoch || b.leads != seen.leads) {
            replica.checked = false;
        }
        if seen.leads {
            let first = *self.leaders.entry((tp.clone(), seen.epoch)).or_insert(node);
            if first != node {
                return Err(format!("{tp}: both {first} and {node} lead in epoch {}", seen.epoch));
            }
        }
        self.check_contents(node, tp, seen)?;
        Ok(true)
    }

    fn check_contents(&mut self, node: Node, tp: &TopicPartition, seen: Seen) -> Result<(), String> {
        let replica = &self.replicas[&(node, tp.clone())];
        if let Some((history, records)) = self.compacted.get_mut(tp).zip(replica.records.as_ref()) {
            return history.take(records, seen.high_watermark).map_err(|what| format!("{tp}: {node} {what}"));
        }
        let committed = self.committed.entry(tp.clone()).or_default();
        for batch in replica.files.batches().rev() {
            if self.buried.contains(&(Arc::clone(&tp.topic), batch.crc)) {
                return Err(format!("{tp}: {node} has a batch at {} from before the topic was deleted", batch.base));
            }
            let first = *self.written.entry((tp.clone(), batch.base, batch.epoch)).or_insert(batch.crc);
            if first != batch.crc {
                let (base, epoch) = (batch.base, batch.epoch);
                return Err(format!(
                    "{tp}: {node} has another batch at {base} of epoch {epoch} than was written first"
                ));
            }
            if batch.next > seen.high_watermark {
                continue;
            }
            let content = (batch.epoch, batch.crc);
            match committed.insert(batch.base, content) {
                None => {}
                Some(known) if known != content => {
                    return Err(format!(
                        "{tp}: {node} has another batch at {} below its high watermark {} than was committed: {content:?}, not {known:?}",
                        batch.base, seen.high_watermark
                    ));
                }
                // Those before were looked at, unless the log was rewritten.
                Some(_) if replica.checked => break,
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn take_acknowledged(&mut self, changed: &mut BTreeSet<TopicPartition>) {
        let ledger = self.ledger.lock();
        for (tp, ..) in &ledger.acknowledged[self.acknowledged..] {
            changed.insert(tp.clone());
        }
        self.acknowledged = ledger.acknowledged.len();
    }

    fn check_partition(&mut self, tp: &TopicPartition) -> Result<(), String> {
        let Some(truth) = self.truths.get(tp).filter(|_| !self.dying.contains(&*tp.topic)) else { return Ok(()) };
        let leader = truth.state.leader.get();
        let lead = self.replicas.get(&(leader, tp.clone())).and_then(|replica| replica.seen);
        let Some(lead) = lead.filter(|seen| seen.leads && seen.epoch == truth.state.leader_epoch) else {
            return Ok(());
        };
        self.check_acknowledged(tp, leader)?;
        self.check_has_committed(tp, leader, Offset(i64::MAX), "leads without")?;
        self.follow_transactions(tp, leader, lead.high_watermark)?;
        if let Some(history) = self.compacted.get(tp).filter(|_| *tp.topic == *GROUP_METADATA_TOPIC) {
            let items = history.committed(self.group_log.next(), lead.high_watermark);
            self.group_log.follow(tp, items, &self.ledger.lock().groups)?;
        }
        let members: Vec<Node> = self.truths[tp].state.isr.iter().map(|id| id.get()).collect();
        for member in members.into_iter().filter(|member| *member != leader) {
            if !self.tainted.contains_key(&(member, tp.clone())) {
                self.check_has_committed(tp, member, lead.high_watermark, "is in sync without")?;
            }
        }
        for ((_, of), replica) in &mut self.replicas {
            if of == tp {
                replica.checked = true;
            }
        }
        Ok(())
    }

    fn follow_transactions(&mut self, tp: &TopicPartition, leader: Node, end: Offset) -> Result<(), String> {
        let (next, told) = (self.outcomes.next(tp), &self.ledger.lock().copies.told);
        if let Some(history) = self.compacted.get(tp) {
            return self.outcomes.follow(tp, history.steps(next, end), told);
        }
        let files = &self.replicas[&(leader, tp.clone())].files;
        let batches = files.batches_from(next).filter(|batch| batch.next <= end);
        let steps = batches.map(|batch| Step { base: batch.base, next: batch.next, transaction: batch.transaction });
        self.outcomes.follow(tp, steps, told)
    }

    fn check_acknowledged(&self, tp: &TopicPartition, leader: Node) -> Result<(), String> {
        let files = &self.replicas[&(leader, tp.clone())].files;
        let ledger = self.ledger.lock();
        for (_, base, crc) in ledger.acknowledged.iter().filter(|(of, ..)| of == tp) {
            match files.batch_at(*base) {
                Some(batch) if batch.crc == *crc => {}
                Some(_) => {
                    return Err(format!("{tp}: {leader} leads with another batch at {base} than was acknowledged"));
                }
                None => return Err(format!("{tp}: {leader} leads without the acknowledged batch at {base}")),
            }
        }
        Ok(())
    }

    fn check_has_committed(&self, tp: &TopicPartition, node: Node, below: Offset, what: &str) -> Result<(), String> {
        // A replica that was never looked at has just been told of the partition.
        let Some(replica) = self.replicas.get(&(node, tp.clone())) else { return Ok(()) };
        if let Some((history, records)) = self.compacted.get(tp).zip(replica.records.as_ref()) {
            return history.check(records, below).map_err(|missing| format!("{tp}: {node} {what} {missing}"));
        }
        let Some(committed) = self.committed.get(tp) else { return Ok(()) };
        for (base, (epoch, crc)) in committed.range(..below).rev() {
            match replica.files.batch_at(*base) {
                Some(batch) if (batch.epoch, batch.crc) == (*epoch, *crc) => {}
                _ => return Err(format!("{tp}: {node} {what} the committed batch at {base} of epoch {epoch}")),
            }
            if replica.checked {
                break;
            }
        }
        Ok(())
    }

    /// At the end, when all is well again: the logs of all replicas are the same.
    pub fn check_equal(&self) -> Result<(), String> {
        for (tp, truth) in &self.truths {
            let replicas: Vec<&Replica> =
                truth.replicas.iter().filter_map(|node| self.replicas.get(&(*node, tp.clone()))).collect();
            if let Some(history) = self.compacted.get(tp) {
                let ends = replicas.iter().map(|r| r.files.batches().next_back().map(|batch| batch.next));
                let values = replicas.iter().map(|r| r.records.as_ref().map(|records| history.values(records)));
                let states: Vec<_> = values.zip(ends).collect();
                if states.windows(2).any(|pair| pair[0] != pair[1]) {
                    return Err(format!("{tp}: replicas have different values, or end elsewhere"));
                }
                continue;
            }
            let log = |node: &Node| -> Vec<Content> {
                let replica = self.replicas.get(&(*node, tp.clone()));
                replica.into_iter().flat_map(|r| r.files.batches().map(|b| (b.epoch, b.crc))).collect()
            };
            let first = log(&truth.replicas[0]);
            if let Some(other) = truth.replicas.iter().find(|node| log(node) != first) {
                return Err(format!("{tp}: the log on {other} is another than that on {}", truth.replicas[0]));
            }
        }
        Ok(())
    }
}
