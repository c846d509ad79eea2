//! How transactions end in the logs: walks over what is committed in each partition and compares the partitions.

use std::collections::{BTreeMap, BTreeSet};

use barnabas::base::ids::{Offset, TopicPartition};

use crate::disk::{Batch, InTransaction, LogFiles};

/// A partition's log as far as it was looked at.
#[derive(Default)]
struct Walk {
    next: Offset,
    /// By producer id: what is open, by its number.
    open: BTreeMap<i64, u64>,
    /// What was open and is no more.
    over: BTreeSet<u64>,
}

/// How transactions ended, by their numbers, which their records carry.
#[derive(Default)]
pub struct Outcomes {
    walks: BTreeMap<TopicPartition, Walk>,
    /// Whether it was committed, and where that was seen first.
    ended: BTreeMap<u64, (bool, TopicPartition)>,
}

impl Outcomes {
    /// Goes on over the log of a leader, up to its high watermark. `told` is what producers were told of their ends.
    pub fn follow(
        &mut self,
        tp: &TopicPartition,
        files: &LogFiles,
        high_watermark: Offset,
        told: &BTreeMap<u64, bool>,
    ) -> Result<(), String> {
        let next = self.walks.entry(tp.clone()).or_default().next;
        for batch in files.batches_from(next).filter(|batch| batch.next <= high_watermark) {
            self.step(tp, batch, told)?;
        }
        Ok(())
    }

    fn step(&mut self, tp: &TopicPartition, batch: &Batch, told: &BTreeMap<u64, bool>) -> Result<(), String> {
        let walk = self.walks.entry(tp.clone()).or_default();
        walk.next = batch.next;
        match batch.transaction {
            InTransaction::No => {}
            InTransaction::Records(producer, number) => {
                if walk.over.contains(&number) {
                    let at = batch.base;
                    return Err(format!("{tp}: records of transaction {number} at {at} come after its end"));
                }
                let open = *walk.open.entry(producer).or_insert(number);
                if open != number {
                    return Err(format!("{tp}: records of transaction {number} stand in transaction {open}"));
                }
            }
            // A marker may be written twice, or where nothing was written.
            InTransaction::Marker(producer, commit) => {
                if let Some(number) = walk.open.remove(&producer) {
                    walk.over.insert(number);
                    return self.end(tp, number, commit, told);
                }
            }
        }
        Ok(())
    }

    fn end(
        &mut self,
        tp: &TopicPartition,
        number: u64,
        commit: bool,
        told: &BTreeMap<u64, bool>,
    ) -> Result<(), String> {
        let name = |commit| if commit { "committed" } else { "aborted" };
        let (first, seen_at) = self.ended.entry(number).or_insert_with(|| (commit, tp.clone())).clone();
        if first != commit {
            let (here, there) = (name(commit), name(first));
            return Err(format!("{tp}: transaction {number} is {here} and, in {seen_at}, {there}"));
        }
        match told.get(&number) {
            Some(told) if *told != commit => {
                Err(format!("{tp}: transaction {number} is {}, its producer was told otherwise", name(commit)))
            }
            _ => Ok(()),
        }
    }

    /// A transaction that has no end in some partition.
    pub fn still_open(&self) -> Option<String> {
        self.walks.iter().find_map(|(tp, walk)| {
            let (producer, number) = walk.open.first_key_value()?;
            Some(format!("{tp}: transaction {number} of producer {producer} is open"))
        })
    }

    /// What was committed may be gone.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}
