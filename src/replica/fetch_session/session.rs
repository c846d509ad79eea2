//! What one fetch session remembers: the partitions in their order, where the client reads each, and what the client was
//! last told of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, TopicId};

/// One partition to read, as the client asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTarget {
    /// The topic's name; empty while the id in the request is unknown here.
    pub topic: Arc<str>,
    /// The topic's id; all zero for versions before 13.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: i32,
    /// From where to read.
    pub fetch_offset: Offset,
    /// How many bytes of it the client wants at most.
    pub max_bytes: i32,
    /// The leader epoch the client knows, or -1.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record the client has, or -1 (KIP-595 truncation on fetch).
    pub last_fetched_epoch: LeaderEpoch,
    /// A follower's log start, or -1.
    pub log_start_offset: Offset,
}

/// What an answer says of one partition, as far as a session cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// The partition's error.
    pub error: ErrorCode,
    /// Bytes of records in the answer.
    pub bytes: usize,
    /// The high watermark in the answer.
    pub high_watermark: Offset,
    /// The log start in the answer.
    pub log_start_offset: Offset,
    /// Whether the client must hear of it whatever else: a diverging epoch, a preferred replica.
    pub must_tell: bool,
}

#[derive(Debug, Clone)]
struct Remembered {
    target: FetchTarget,
    high_watermark: Offset,
    told_log_start: Offset,
}

impl Remembered {
    fn new(target: FetchTarget) -> Self {
        Self { target, high_watermark: Offset::UNKNOWN, told_log_start: Offset::UNKNOWN }
    }

    /// Whether the client must hear of `outline`; then remembers that it did
    /// (`CachedPartition.maybeUpdateResponseData`).
    fn tell(&mut self, outline: &Outline) -> bool {
        let changed = self.high_watermark != outline.high_watermark || self.told_log_start != outline.log_start_offset;
        let special = !outline.error.is_none() || outline.must_tell;
        self.told_log_start = outline.log_start_offset;
        // After an error the next good answer is told even if nothing moved.
        self.high_watermark = if special { Offset::UNKNOWN } else { outline.high_watermark };
        outline.bytes > 0 || changed || special
    }
}

#[derive(Debug)]
enum Topics {
    Names(HashMap<Arc<str>, BTreeMap<i32, u32>>),
    Ids(HashMap<TopicId, BTreeMap<i32, u32>>),
}

impl Topics {
    fn get(&self, name: &str, id: TopicId, partition: i32) -> Option<u32> {
        match self {
            Self::Names(map) => map.get(name)?.get(&partition).copied(),
            Self::Ids(map) => map.get(&id)?.get(&partition).copied(),
        }
    }

    fn insert(&mut self, name: &Arc<str>, id: TopicId, partition: i32, slot: u32) {
        let partitions = match self {
            Self::Names(map) => map.entry(Arc::clone(name)).or_default(),
            Self::Ids(map) => map.entry(id).or_default(),
        };
        partitions.insert(partition, slot);
    }

    fn remove(&mut self, name: &str, id: TopicId, partition: i32) -> Option<u32> {
        let partitions = match self {
            Self::Names(map) => map.get_mut(name)?,
            Self::Ids(map) => map.get_mut(&id)?,
        };
        let slot = partitions.remove(&partition)?;
        if partitions.is_empty() {
            match self {
                Self::Names(map) => drop(map.remove(name)),
                Self::Ids(map) => drop(map.remove(&id)),
            }
        }
        Some(slot)
    }
}

/// The session's memory. `order` names slots; a partition that gave records goes to its end, so that with small answers
/// every partition gets its turn (KIP-227, KIP-74).
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) epoch: i32,
    topics: Topics,
    slots: Vec<Remembered>,
    order: Vec<u32>,
}

impl SessionState {
    /// A session that begins with a full answer.
    pub(super) fn new(uses_topic_ids: bool, targets: &[FetchTarget], outlines: &[Outline]) -> Self {
        let topics = if uses_topic_ids { Topics::Ids(HashMap::new()) } else { Topics::Names(HashMap::new()) };
        let mut state = Self { epoch: 1, topics, slots: Vec::new(), order: Vec::new() };
        state.update(targets, &[]);
        let mut keep = vec![true; targets.len()];
        state.answer(targets, outlines, &mut keep);
        state
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds and changes `targets`, drops `forgotten`.
    pub(super) fn update(&mut self, targets: &[FetchTarget], forgotten: &[(Arc<str>, TopicId, i32)]) {
        for target in targets {
            match self.topics.get(&target.topic, target.topic_id, target.partition) {
                Some(slot) => self.slots[slot as usize].target = target.clone(),
                None => self.add(target.clone()),
            }
        }
        let gone = forgotten.iter().filter_map(|(name, id, partition)| self.topics.remove(name, *id, *partition));
        let gone: HashSet<u32> = gone.collect();
        if !gone.is_empty() {
            self.compact(&gone);
        }
    }

    fn add(&mut self, target: FetchTarget) {
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.topics.insert(&target.topic, target.topic_id, target.partition, slot);
        self.slots.push(Remembered::new(target));
        self.order.push(slot);
    }

    /// Drops the slots in `gone` and numbers the others anew, in their order.
    fn compact(&mut self, gone: &HashSet<u32>) {
        self.order.retain(|slot| !gone.contains(slot));
        let mut kept = Vec::with_capacity(self.order.len());
        for (place, slot) in (0u32..).zip(&mut self.order) {
            let remembered = self.slots[*slot as usize].clone();
            let target = &remembered.target;
            self.topics.insert(&target.topic, target.topic_id, target.partition, place);
            kept.push(remembered);
            *slot = place;
        }
        self.slots = kept;
    }

    /// Everything to read, in order.
    pub(super) fn targets(&self) -> Vec<FetchTarget> {
        self.order.iter().map(|&slot| self.slots[slot as usize].target.clone()).collect()
    }

    /// Marks in `keep` which of `outlines` the client must hear, and remembers what it then knows.
    pub(super) fn answer(&mut self, targets: &[FetchTarget], outlines: &[Outline], keep: &mut [bool]) {
        let mut gave_records = vec![false; self.slots.len()];
        for ((target, outline), keep) in targets.iter().zip(outlines).zip(keep) {
            let Some(slot) = self.topics.get(&target.topic, target.topic_id, target.partition) else { continue };
            let remembered = &mut self.slots[slot as usize];
            // The name of an id that was unknown when it came is known from the first good answer on.
            if remembered.target.topic.is_empty() {
                remembered.target.topic = Arc::clone(&target.topic);
            }
            *keep = remembered.tell(outline);
            gave_records[slot as usize] = outline.bytes > 0;
        }
        self.order.sort_by_key(|&slot| gave_records[slot as usize]);
    }
}
