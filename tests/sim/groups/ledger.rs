//! What the members of the group were told.

use std::collections::BTreeMap;

/// Who has which partitions, by what names a member for good: its `group.instance.id`, or its id.
pub type Shares = BTreeMap<String, Vec<i32>>;

/// A commit that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acked {
    pub partition: i32,
    pub offset: i64,
    pub generation: i32,
    /// The id of the member that committed it.
    pub by: String,
}

/// An answer to a SyncGroup, and the JoinGroup before it.
#[derive(Debug, Clone)]
pub struct Synced {
    pub generation: i32,
    /// As in [`Shares`].
    pub name: String,
    /// Not of a static member: that may have been told of a generation that was never stored, and be left in the next.
    pub leader: Option<String>,
    pub protocol: String,
    pub share: Vec<i32>,
}

/// What the members of the group were told.
#[derive(Default)]
pub struct Told {
    /// How many commits there were.
    begun: u64,
    /// By the number of the commit, which is its note.
    pub acked: BTreeMap<u64, Acked>,
    /// What leaders sent, by generation. One that was never stored may be had by another leader once more.
    pub sent: BTreeMap<i32, Vec<Shares>>,
    pub synced: Vec<Synced>,
    /// By slot: the member, and the generation in which its last heartbeat was taken.
    pub alive: BTreeMap<usize, (u64, i32)>,
    /// The offsets as they were found at the end, by partition.
    pub audited: BTreeMap<i32, i64>,
}

impl Told {
    /// Whether there are no members.
    pub fn is_nothing(&self) -> bool {
        self.begun == 0 && self.sent.is_empty()
    }

    /// A number that no commit had before.
    pub fn number(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// The largest offset of a partition that was acknowledged to others than `me` up to a generation, and to `me` before it.
    pub fn floor(&self, partition: i32, generation: i32, me: &str) -> Option<i64> {
        let counts = |a: &&Acked| {
            a.partition == partition && (a.generation < generation || (a.generation == generation && a.by != me))
        };
        self.acked.values().filter(counts).map(|acked| acked.offset).max()
    }

    /// For which partitions offsets were committed in a generation.
    pub fn committed_in(&self, generation: i32) -> impl Iterator<Item = i32> {
        self.acked.values().filter(move |acked| acked.generation == generation).map(|acked| acked.partition)
    }

    /// What leaders sent for the generation of an answer must agree with it, and all answers of one generation with one
    /// another.
    pub fn sync(&mut self, synced: Synced) -> Result<(), String> {
        let Synced { generation, name, share, .. } = &synced;
        let sent = self.sent.entry(*generation).or_default();
        sent.retain(|shares| shares.get(name) == Some(share));
        if sent.is_empty() {
            return Err(format!("{name} has {share:?} in generation {generation}, as no leader sent it"));
        }
        self.synced.push(synced);
        Ok(())
    }

    /// What is wrong with the offsets as they were found at the end.
    pub fn audit(&self) -> Option<String> {
        let wrong = |partition: &i32| {
            let of_it = self.acked.values().filter(|acked| acked.partition == *partition);
            let acked = of_it.map(|acked| acked.offset).max();
            let found = self.audited.get(partition).copied();
            (found < acked || found.is_none())
                .then(|| format!("{partition} is at {found:?}, acknowledged is {acked:?}"))
        };
        (0..super::PARTITIONS).find_map(|partition| wrong(&partition))
    }
}
