//! Topics that are compacted, on each replica in its own time: what brokers are told of them, and what must hold of their logs.
//!
//! No two replicas need have the same batches. What stands at an offset is the same wherever it stands, and of what is
//! committed a replica that must have everything lacks only
//!
//! - a record that another of the same key came behind, or whose transaction is aborted;
//! - a tombstone, if it has nothing older of that key;
//! - a marker, if it has no record of that transaction.
//!
//! If all machines lose their power at once, replicas may have compacted by what is gone elsewhere: of the keys that had
//! something at or above the safe offset nothing is promised then, as little as by Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use barnabas::base::ids::{LeaderEpoch, Offset, TopicPartition};
use barnabas::base::topic_names::{GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC};
use barnabas::protocol::batch::{BatchHeader, HEADER_LEN, entries, entry_is_valid};
use barnabas::protocol::deep;
use barnabas::replica::topic_configs::{Overrides, OverridesFuture, TopicConfigSource};

use crate::disk::{InTransaction, segment_paths};
use crate::transactions::outcomes::Step;

/// What is set for compacted topics: many segments, all of which are cleaned soon.
const OVERRIDES: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.bytes", "600"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "300"),
];

/// Cleanings at a time at most, each with room for so much of keys: sometimes too little for all of them.
pub const CLEANINGS: usize = 16;
pub const DEDUPE_BYTES: u64 = 1024;

/// Whether a topic is compacted.
pub fn is_compacted(topic: &str) -> bool {
    topic == GROUP_METADATA_TOPIC || topic == TRANSACTION_STATE_TOPIC
}

/// Tells brokers which topics are compacted.
pub struct Configs;

impl TopicConfigSource for Configs {
    fn overrides(&self, topic: &str) -> OverridesFuture<'_> {
        let pairs = if is_compacted(topic) { OVERRIDES } else { &[] };
        let overrides: Overrides = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Box::pin(std::future::ready(Ok(overrides)))
    }
}

/// What stands at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub offset: Offset,
    epoch: LeaderEpoch,
    timestamp: i64,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub transaction: InTransaction,
}

/// The records and markers of a log, read anew where a file changed.
#[derive(Debug, Default, Clone)]
pub struct Records {
    files: BTreeMap<PathBuf, Vec<u8>>,
    items: BTreeMap<Offset, Item>,
}

impl Records {
    /// Reads the folder, if something in it has changed.
    pub fn refresh(&mut self, dir: &Path) {
        let paths = segment_paths(dir);
        let read = |path: &PathBuf| (path.clone(), fs::read(path).unwrap_or_default());
        let files: BTreeMap<PathBuf, Vec<u8>> = paths.iter().map(read).collect();
        if files == self.files {
            return;
        }
        let items = files.values().flat_map(|bytes| items(bytes)).map(|item| (item.offset, item)).collect();
        (self.files, self.items) = (files, items);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// Whether it has a record of that producer's transaction between these offsets.
    fn has_of_transaction(&self, producer: i64, from: Offset, to: Offset) -> bool {
        let mut between = self.items.range(from..to);
        between.any(|(_, item)| matches!(item.transaction, InTransaction::Records(of, _) if of == producer))
    }
}

/// The whole batches of a file, as far as they are sound.
fn items(bytes: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    let sound = entries(bytes).map_while(Result::ok).take_while(|(_, entry)| entry_is_valid(entry));
    for (header, entry) in sound {
        items_of(&header, entry, &mut items);
    }
    items
}

fn items_of(header: &BatchHeader, entry: &[u8], items: &mut Vec<Item>) {
    let transaction = InTransaction::of(header, entry);
    let walked = deep::for_each_record(entry, 1 << 20, |record| {
        items.push(Item {
            offset: record.offset,
            epoch: header.leader_epoch,
            timestamp: record.timestamp,
            key: record.key.unwrap_or_default().to_vec(),
            value: record.value.map(<[u8]>::to_vec),
            transaction,
        });
        ControlFlow::<()>::Continue(())
    });
    assert!(walked.is_ok() && entry.len() >= HEADER_LEN, "the records at {} can be read", header.base_offset);
}

/// All that was ever committed in a compacted partition, and what was written in which epoch.
#[derive(Default)]
pub struct History {
    written: BTreeMap<(Offset, LeaderEpoch), Item>,
    committed: BTreeMap<Offset, Item>,
    keys: BTreeMap<Vec<u8>, BTreeSet<Offset>>,
    /// Where which producer's transactions end, and whether they are committed.
    markers: BTreeMap<(i64, Offset), bool>,
}

impl History {
    /// Compares a replica's log with what is known, and takes in what it has below its high watermark.
    pub fn take(&mut self, records: &Records, high_watermark: Offset) -> Result<(), String> {
        for item in records.iter() {
            let at = item.offset;
            let first = self.written.entry((at, item.epoch)).or_insert_with(|| item.clone());
            if first != item {
                return Err(format!("has {item:?}, but {first:?} was written first"));
            }
            if at >= high_watermark {
                continue;
            }
            match self.committed.get(&at) {
                Some(known) if known != item => return Err(format!("has {item:?} committed, but {known:?} was")),
                Some(_) => {}
                None => self.commit(item),
            }
        }
        Ok(())
    }

    fn commit(&mut self, item: &Item) {
        match item.transaction {
            InTransaction::Marker(producer, commit) => drop(self.markers.insert((producer, item.offset), commit)),
            _ => drop(self.keys.entry(item.key.clone()).or_default().insert(item.offset)),
        }
        self.committed.insert(item.offset, item.clone());
    }

    /// Whether a replica has everything below an offset that it must have.
    pub fn check(&self, records: &Records, below: Offset) -> Result<(), String> {
        let mut missing = self.committed.range(..below).filter(|(at, _)| !records.items.contains_key(*at));
        match missing.find(|(_, item)| !self.may_be_gone(item, records)) {
            Some((_, item)) => Err(format!("the committed {item:?}")),
            None => Ok(()),
        }
    }

    fn may_be_gone(&self, item: &Item, records: &Records) -> bool {
        if let InTransaction::Marker(producer, _) = item.transaction {
            let before = self.markers.range((producer, Offset(0))..(producer, item.offset)).next_back();
            let began = before.map_or(Offset(0), |((_, at), _)| *at);
            return !records.has_of_transaction(producer, began, item.offset);
        }
        let others = || self.keys[&item.key].iter();
        let is_superseded = others().any(|at| *at > item.offset && self.counts(&self.committed[at]) == Some(true));
        let has_older = || others().any(|at| *at < item.offset && records.items.contains_key(at));
        self.counts(item) == Some(false) || is_superseded || item.value.is_none() && !has_older()
    }

    /// Whether a record counts; `None` while its transaction is open.
    fn counts(&self, item: &Item) -> Option<bool> {
        match item.transaction {
            InTransaction::Records(producer, _) => self.end_of(producer, item.offset).map(|(_, commit)| commit),
            _ => Some(true),
        }
    }

    fn end_of(&self, producer: i64, offset: Offset) -> Option<(Offset, bool)> {
        let mut ends = self.markers.range((producer, offset)..=(producer, Offset(i64::MAX)));
        ends.next().map(|((_, at), commit)| (*at, *commit))
    }

    /// What counts at the end in a log: the last value of each key.
    pub fn values<'a>(&self, records: &'a Records) -> BTreeMap<&'a [u8], &'a [u8]> {
        let mut values = BTreeMap::new();
        for item in records.iter().filter(|item| !matches!(item.transaction, InTransaction::Marker(..))) {
            match &item.value {
                _ if self.counts(item) != Some(true) => {}
                Some(value) => drop(values.insert(&*item.key, &**value)),
                None => drop(values.remove(&*item.key)),
            }
        }
        values
    }

    /// What was committed from an offset on, below another.
    pub fn committed(&self, from: Offset, below: Offset) -> impl Iterator<Item = &Item> {
        let items = if from < below { Some(self.committed.range(from..below)) } else { None };
        items.into_iter().flatten().map(|(_, item)| item)
    }

    /// The same as steps of transactions.
    pub fn steps(&self, from: Offset, below: Offset) -> impl Iterator<Item = Step> {
        let step = |item: &Item| Step { base: item.offset, next: item.offset.next(), transaction: item.transaction };
        self.committed(from, below).map(step)
    }

    /// What lies at and above an offset may be gone, and with it what counted because of it.
    pub fn forgive(&mut self, safe: Offset) {
        let is_gone = |item: &Item| match item.transaction {
            InTransaction::Records(producer, _) => self.end_of(producer, item.offset).is_none_or(|(at, _)| at >= safe),
            _ => item.offset >= safe,
        };
        let gone: Vec<&Item> = self.committed.values().filter(|item| item.offset >= safe || is_gone(item)).collect();
        let keys: BTreeSet<Vec<u8>> = gone.iter().map(|item| item.key.clone()).collect();
        let offsets: BTreeSet<Offset> = gone.iter().map(|item| item.offset).collect();
        let is_marker = |item: &Item| matches!(item.transaction, InTransaction::Marker(..));
        self.committed.retain(|at, item| !offsets.contains(at) && (is_marker(item) || !keys.contains(&item.key)));
        self.keys.retain(|key, _| !keys.contains(key));
        self.markers.retain(|(_, at), _| *at < safe);
    }
}

/// The compacted partitions.
#[derive(Default)]
pub struct Histories(BTreeMap<TopicPartition, History>);

impl Histories {
    /// That of a partition, if it is compacted and anything was seen of it.
    pub fn get(&self, tp: &TopicPartition) -> Option<&History> {
        self.0.get(tp)
    }

    /// That of a partition, if it is compacted.
    pub fn get_mut(&mut self, tp: &TopicPartition) -> Option<&mut History> {
        is_compacted(&tp.topic).then(|| self.0.entry(tp.clone()).or_default())
    }

    /// The topic is no more.
    pub fn bury(&mut self, topic: &str) {
        self.0.retain(|tp, _| *tp.topic != *topic);
    }
}
