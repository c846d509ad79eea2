//! What the log of `__consumer_offsets` says of the group: walks over what is committed, in the order of the log.

use barnabas::base::ids::{Offset, TopicPartition};
use barnabas::coordinator::group::records::{GroupValue, Key, decode_group_value, decode_offset_value};

use super::GROUP;
use super::ledger::{Acked, Shares, Synced, Told};
use crate::compaction::Item;
use crate::disk::InTransaction;

/// A generation, as a record of the group has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub generation: i32,
    pub leader: Option<String>,
    pub protocol: Option<String>,
    pub shares: Shares,
}

/// A commit in the log.
struct Commit {
    number: u64,
    partition: i32,
    offset: i64,
}

/// The group's partition as far as it was looked at.
#[derive(Default)]
pub struct GroupLog {
    next: Offset,
    generations: Vec<Generation>,
    commits: Vec<Commit>,
}

impl GroupLog {
    /// Where it goes on.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Goes on over what is committed.
    pub fn follow<'a>(
        &mut self,
        tp: &TopicPartition,
        items: impl Iterator<Item = &'a Item>,
        told: &Told,
    ) -> Result<(), String> {
        if told.is_nothing() {
            return Ok(());
        }
        for item in items.filter(|item| item.transaction == InTransaction::No) {
            if self.take(tp, item, told)? {
                self.next = item.offset.next();
            }
        }
        self.check_commits(tp, told)
    }

    /// Takes in a record; whether it is one of the group.
    fn take(&mut self, tp: &TopicPartition, item: &Item, told: &Told) -> Result<bool, String> {
        let at = item.offset;
        let value = item.value.as_deref();
        let unreadable = |why: &dyn std::fmt::Display| format!("{tp}: the record at {at} cannot be read: {why}");
        match Key::decode(&item.key).map_err(|e| unreadable(&e))? {
            Key::Offset { group, partition, .. } if group == GROUP => {
                let value = value.ok_or_else(|| format!("{tp}: the offset of {partition} is deleted at {at}"))?;
                let committed = decode_offset_value(value).map_err(|e| unreadable(&e))?;
                let number = committed.metadata.parse().map_err(|e| unreadable(&e))?;
                self.commits.push(Commit { number, partition, offset: committed.offset });
                Ok(true)
            }
            Key::Group { group } if group == GROUP => {
                let value = value.ok_or_else(|| format!("{tp}: the group is deleted at {at}"))?;
                self.take_generation(tp, at, &decode_group_value(value).map_err(|e| unreadable(&e))?, told)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn take_generation(
        &mut self,
        tp: &TopicPartition,
        at: Offset,
        value: &GroupValue<'_>,
        told: &Told,
    ) -> Result<(), String> {
        let name = |m: &barnabas::coordinator::group::records::MemberValue<'_>| {
            m.group_instance_id.unwrap_or(m.member_id).to_owned()
        };
        let share = |bytes: &[u8]| bytes.iter().map(|p| i32::from(*p)).collect::<Vec<_>>();
        let next = Generation {
            generation: value.generation,
            leader: value.leader.map(ToOwned::to_owned),
            protocol: value.protocol.map(ToOwned::to_owned),
            shares: value.members.iter().map(|m| (name(m), share(m.assignment))).collect(),
        };
        let generation = next.generation;
        if let Some(last) = self.generations.last() {
            if generation < last.generation {
                return Err(format!("{tp}: generation {generation} comes at {at} after {}", last.generation));
            }
            if generation == last.generation && (&next.shares, &next.protocol) != (&last.shares, &last.protocol) {
                return Err(format!("{tp}: generation {generation} is at {at} {next:?}, it was {last:?}"));
            }
        }
        let was_sent = told.sent.get(&generation).is_some_and(|sent| sent.contains(&next.shares));
        if !next.shares.is_empty() && !was_sent {
            return Err(format!("{tp}: no leader of generation {generation} sent what is at {at}: {:?}", next.shares));
        }
        self.generations.push(next);
        Ok(())
    }

    /// No offset stands behind a larger one that was acknowledged.
    fn check_commits(&self, tp: &TopicPartition, told: &Told) -> Result<(), String> {
        let mut floors = [i64::MIN; super::PARTITIONS as usize];
        for Commit { number, partition, offset } in &self.commits {
            let Some(floor) = usize::try_from(*partition).ok().and_then(|at| floors.get_mut(at)) else { continue };
            if offset < floor {
                return Err(format!(
                    "{tp}: the offset of {partition} falls from {floor}, which was acknowledged, to {offset}"
                ));
            }
            if told.acked.contains_key(number) {
                *floor = *offset;
            }
        }
        Ok(())
    }

    /// The last generation in the log.
    pub fn last(&self) -> Option<&Generation> {
        self.generations.last()
    }

    /// Something that members were told and that is not in the log, when all of it is read.
    pub fn lost(&self, told: &Told) -> Option<String> {
        let is_there = |number: u64, acked: &Acked| {
            let same = |c: &Commit| (c.number, c.partition, c.offset) == (number, acked.partition, acked.offset);
            self.commits.iter().any(same)
        };
        let commit = told.acked.iter().find(|(number, acked)| !is_there(**number, acked));
        let synced = told.synced.iter().find(|synced| !self.has(synced));
        let commit = commit.map(|(number, acked)| format!("commit {number} is not in the log: {acked:?}"));
        commit.or_else(|| synced.map(|synced| format!("the log knows nothing of {synced:?}")))
    }

    fn has(&self, synced: &Synced) -> bool {
        let same = |g: &Generation| {
            g.generation == synced.generation
                && g.shares.get(&synced.name) == Some(&synced.share)
                && g.protocol.as_ref() == Some(&synced.protocol)
                && (synced.leader.is_none() || synced.leader == g.leader)
        };
        self.generations.iter().any(same)
    }

    /// What was committed may be gone.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}
