//! How transactions end in the logs: walks over what is committed in each partition and compares the partitions.

use std::collections::{BTreeMap, BTreeSet};

use barnabas::base::ids::{Offset, TopicPartition};

use crate::disk::InTransaction;

/// What a walk comes to.
pub struct Step {
    pub base: Offset,
    pub next: Offset,
    pub transaction: InTransaction,
}

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
    /// Up to where it was looked at what is committed.
    pub fn next(&self, tp: &TopicPartition) -> Offset {
        self.walks.get(tp).map_or(Offset(0), |walk| walk.next)
    }

    /// Goes on over what is committed. `told` is what producers were told of their ends.
    pub fn follow(
        &mut self,
        tp: &TopicPartition,
        mut steps: impl Iterator<Item = Step>,
        told: &BTreeMap<u64, bool>,
    ) -> Result<(), String> {
        steps.try_for_each(|step| self.step(tp, &step, told))
    }

    fn step(&mut self, tp: &TopicPartition, batch: &Step, told: &BTreeMap<u64, bool>) -> Result<(), String> {
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
