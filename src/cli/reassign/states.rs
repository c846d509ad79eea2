//! How far reassignments have come, in the original's words.

use std::collections::BTreeMap;

use super::json::joined;
use super::plan::{Ongoing, Replica};
use crate::base::ids::TopicPartition;

/// How far one partition's reassignment has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionState {
    pub(super) current: Vec<i32>,
    pub(super) target: Vec<i32>,
    pub(super) done: bool,
}

/// What `--verify` says of the partitions.
pub(super) fn partitions(states: &BTreeMap<TopicPartition, PartitionState>) -> String {
    let mut text = "Status of partition reassignment:".to_owned();
    for (tp, state) in states {
        text.push('\n');
        text.push_str(&match state {
            PartitionState { done: false, .. } => format!("Reassignment of partition {tp} is still in progress."),
            state if state.current == state.target => format!("Reassignment of partition {tp} is completed."),
            state => format!(
                "There is no active reassignment of partition {tp}, but replica set is {} rather than {}.",
                joined(&state.current),
                joined(&state.target)
            ),
        });
    }
    text
}

/// What `--list` says.
pub(super) fn list(under_way: &BTreeMap<TopicPartition, Ongoing>) -> String {
    if under_way.is_empty() {
        return "No partition reassignments found.".to_owned();
    }
    let mut text = "Current partition reassignments:".to_owned();
    for (tp, ongoing) in under_way {
        text.push_str(&format!("\n{tp}: replicas: {}.", joined(&ongoing.replicas)));
        for (what, ids) in [("adding", &ongoing.adding), ("removing", &ongoing.removing)] {
            if !ids.is_empty() {
                text.push_str(&format!(" {what}: {}.", joined(ids)));
            }
        }
    }
    text
}

/// How far a move between log dirs of one broker has come (`LogDirMoveState`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogDirMove {
    /// The replica is in no log dir that works.
    MissingLogDir,
    /// It is on its way to `future`.
    Active { current: String, future: String },
    /// It is elsewhere and stays there.
    Cancelled { current: String },
    /// It is where it shall be.
    Completed,
}

/// What `--verify` says of moves between log dirs to `targets`.
pub(super) fn log_dir_moves(moves: &BTreeMap<Replica, (String, LogDirMove)>) -> String {
    let lines = moves.iter().map(|(replica, (target, state))| {
        let (tp, broker) = (&replica.partition, replica.broker);
        match state {
            LogDirMove::MissingLogDir => format!(
                "Partition {tp} is not found in any live log dir on broker {broker}. There is likely an offline log \
                 directory on the broker."
            ),
            LogDirMove::Active { future, .. } if future == target => {
                format!("Reassignment of replica {replica} is still in progress.")
            }
            LogDirMove::Active { future, .. } => {
                format!("Partition {tp} on broker {broker} is being moved to log dir {future} instead of {target}.")
            }
            LogDirMove::Cancelled { current } => {
                format!("Partition {tp} on broker {broker} is not being moved from log dir {current} to {target}.")
            }
            LogDirMove::Completed => format!("Reassignment of replica {replica} completed successfully."),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_said_as_the_original_says_them() {
        let state = |current: &[i32], done| PartitionState { current: current.to_vec(), target: vec![1, 2], done };
        let tp = |number| TopicPartition::new("t", number);
        let states =
            BTreeMap::from([(tp(0), state(&[1, 2], true)), (tp(1), state(&[3], true)), (tp(2), state(&[1], false))]);
        let expected = "Status of partition reassignment:\n\
                        Reassignment of partition t-0 is completed.\n\
                        There is no active reassignment of partition t-1, but replica set is 3 rather than 1,2.\n\
                        Reassignment of partition t-2 is still in progress.";
        assert_eq!(partitions(&states), expected);
        let ongoing = Ongoing { replicas: vec![1, 2, 3], adding: vec![3], removing: Vec::new() };
        let text = list(&BTreeMap::from([(tp(0), ongoing)]));
        assert_eq!(text, "Current partition reassignments:\nt-0: replicas: 1,2,3. adding: 3.");
        assert_eq!(list(&BTreeMap::new()), "No partition reassignments found.");
    }

    #[test]
    fn moves_between_log_dirs_are_said_as_the_original_says_them() {
        let replica = |broker| Replica { broker, partition: TopicPartition::new("t", 0) };
        let active = |future: &str| LogDirMove::Active { current: "/a".to_owned(), future: future.to_owned() };
        let moves = [
            LogDirMove::Completed,
            active("/b"),
            active("/c"),
            LogDirMove::Cancelled { current: "/a".to_owned() },
            LogDirMove::MissingLogDir,
        ];
        let moves = (0..).zip(moves).map(|(id, state)| (replica(id), ("/b".to_owned(), state))).collect();
        let expected = "Reassignment of replica t-0-0 completed successfully.\n\
                        Reassignment of replica t-0-1 is still in progress.\n\
                        Partition t-0 on broker 2 is being moved to log dir /c instead of /b.\n\
                        Partition t-0 on broker 3 is not being moved from log dir /a to /b.\n\
                        Partition t-0 is not found in any live log dir on broker 4. There is likely an offline log \
                        directory on the broker.";
        assert_eq!(log_dir_moves(&moves), expected);
    }
}
