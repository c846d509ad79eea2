//! The follower's end of a fetch session (KIP-227): what of the partitions to fetch the leader knows already, and therefore
//! need not be told again. Plain data; the leader's end is `replica::fetch_session`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::error::ErrorCode;
use crate::base::ids::{LeaderEpoch, Offset, TopicId, TopicPartition};

/// No session: the request is full and stands for itself, or asks for one.
const NO_SESSION: i32 = 0;
/// The epoch of a request that is full and asks for a session.
const INITIAL_EPOCH: i32 = 0;

/// One partition to fetch, as the leader is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The topic's id; nil if it has none.
    pub topic_id: TopicId,
    /// From where.
    pub fetch_offset: Offset,
    /// Where the log here starts.
    pub log_start_offset: Offset,
    /// How many bytes at most.
    pub max_bytes: i32,
    /// The leader's epoch as it is known here.
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the last record here.
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

/// What goes into the next request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionRequest {
    /// The session, or 0.
    pub session_id: i32,
    /// The request's number in it, or 0 for a full request.
    pub session_epoch: i32,
    /// Partitions that are new or changed.
    pub send: Vec<(TopicPartition, Wanted)>,
    /// Partitions that go.
    pub forget: Vec<(TopicPartition, TopicId)>,
    /// Whether every topic of the session has an id, so that v13 may be spoken.
    pub all_have_ids: bool,
}

/// The session with one leader.
#[derive(Debug, Default)]
pub struct FetchSession {
    id: i32,
    epoch: i32,
    /// What the leader will know once it has read the last request that was built.
    known: BTreeMap<TopicPartition, Wanted>,
    by_ids: bool,
}

impl FetchSession {
    /// No session yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many partitions the session has.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The next request, so that the leader reads exactly `wanted` (`FetchSessionHandler.build`).
    pub fn build(&mut self, wanted: BTreeMap<TopicPartition, Wanted>) -> SessionRequest {
        let all_have_ids = wanted.values().all(|w| !w.topic_id.is_nil());
        // A session speaks of topics by name or by id, never both.
        if self.epoch != INITIAL_EPOCH && self.by_ids != all_have_ids && !wanted.is_empty() {
            self.epoch = INITIAL_EPOCH;
        }
        let incremental = self.epoch != INITIAL_EPOCH;
        let (mut send, mut forget) = (Vec::new(), Vec::new());
        if incremental {
            for (tp, old) in &self.known {
                if wanted.get(tp).is_none_or(|now| now.topic_id != old.topic_id) {
                    forget.push((tp.clone(), old.topic_id));
                }
            }
        }
        for (tp, now) in &wanted {
            if !incremental || self.known.get(tp) != Some(now) {
                send.push((tp.clone(), now.clone()));
            }
        }
        if !wanted.is_empty() {
            self.by_ids = all_have_ids;
        }
        self.known = wanted;
        SessionRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            send,
            forget,
            all_have_ids: if self.known.is_empty() { self.by_ids } else { all_have_ids },
        }
    }

    /// Takes in an answer; false if nothing in it counts and a full request must follow
    /// (`FetchSessionHandler.handleResponse`).
    pub fn answered(&mut self, error: ErrorCode, session_id: i32, partitions: &BTreeSet<TopicPartition>) -> bool {
        match error {
            ErrorCode::None => {}
            ErrorCode::FetchSessionIdNotFound => {
                self.start_over();
                return false;
            }
            _ => {
                self.failed();
                return false;
            }
        }
        let full = self.epoch == INITIAL_EPOCH;
        let fits = if full {
            partitions.len() == self.known.len() && self.known.keys().all(|tp| partitions.contains(tp))
        } else {
            partitions.iter().all(|tp| self.known.contains_key(tp))
        };
        if !fits {
            self.failed();
            return false;
        }
        if session_id == NO_SESSION {
            self.start_over();
        } else {
            self.id = session_id;
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
        true
    }

    /// The request failed, or its answer is not known: the next one closes the session and asks for a new one.
    pub fn failed(&mut self) {
        self.epoch = INITIAL_EPOCH;
    }

    fn start_over(&mut self) {
        self.id = NO_SESSION;
        self.epoch = INITIAL_EPOCH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(n: i32) -> TopicPartition {
        TopicPartition::new("t", n)
    }

    fn wanted(offset: i64) -> Wanted {
        Wanted {
            topic_id: TopicId::from_u128(1),
            fetch_offset: Offset(offset),
            log_start_offset: Offset(0),
            max_bytes: 100,
            leader_epoch: LeaderEpoch(0),
            last_fetched_epoch: None,
        }
    }

    fn set(list: &[(i32, i64)]) -> BTreeMap<TopicPartition, Wanted> {
        list.iter().map(|&(n, offset)| (tp(n), wanted(offset))).collect()
    }

    fn sent(request: &SessionRequest) -> (i32, i32, Vec<i32>, Vec<i32>) {
        let send = request.send.iter().map(|(tp, _)| tp.partition).collect();
        let forget = request.forget.iter().map(|(tp, _)| tp.partition).collect();
        (request.session_id, request.session_epoch, send, forget)
    }

    fn names(list: &[i32]) -> BTreeSet<TopicPartition> {
        list.iter().map(|&n| tp(n)).collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut session = FetchSession::new();
        assert_eq!(sent(&session.build(set(&[(0, 0), (1, 0)]))), (0, 0, vec![0, 1], vec![]));
        assert!(session.answered(ErrorCode::None, 7, &names(&[0, 1])));
        assert_eq!(sent(&session.build(set(&[(0, 5), (1, 0)]))), (7, 1, vec![0], vec![]));
        assert!(session.answered(ErrorCode::None, 7, &names(&[])));
        assert_eq!(sent(&session.build(set(&[(1, 0), (2, 0)]))), (7, 2, vec![2], vec![0]));
        assert!(session.answered(ErrorCode::None, 7, &names(&[2])));
        assert_eq!(sent(&session.build(set(&[]))), (7, 3, vec![], vec![1, 2]));
    }

    #[test]
    fn a_lost_session_is_told_everything_again() {
        let mut session = FetchSession::new();
        session.build(set(&[(0, 0)]));
        assert!(session.answered(ErrorCode::None, 7, &names(&[0])));
        session.build(set(&[(0, 1)]));
        assert!(!session.answered(ErrorCode::FetchSessionIdNotFound, 0, &names(&[])));
        assert_eq!(sent(&session.build(set(&[(0, 1)]))), (0, 0, vec![0], vec![]));
        assert!(session.answered(ErrorCode::None, 8, &names(&[0])));
        session.build(set(&[(0, 2)]));
        session.failed();
        assert_eq!(sent(&session.build(set(&[(0, 2)]))), (8, 0, vec![0], vec![]), "the old one is closed by its id");
    }

    #[test]
    fn without_a_session_every_request_is_full() {
        let mut session = FetchSession::new();
        for _ in 0..2 {
            assert_eq!(sent(&session.build(set(&[(0, 0)]))), (0, 0, vec![0], vec![]));
            assert!(session.answered(ErrorCode::None, 0, &names(&[0])));
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_does_not_count() {
        let mut session = FetchSession::new();
        session.build(set(&[(0, 0), (1, 0)]));
        assert!(!session.answered(ErrorCode::None, 7, &names(&[0])), "a full answer names all");
        session.build(set(&[(0, 0)]));
        assert!(session.answered(ErrorCode::None, 7, &names(&[0])));
        session.build(set(&[(0, 0)]));
        assert!(!session.answered(ErrorCode::None, 7, &names(&[5])), "nobody asked for 5");
    }

    #[test]
    fn a_topic_made_anew_is_forgotten_and_told_again() {
        let mut session = FetchSession::new();
        session.build(set(&[(0, 0)]));
        assert!(session.answered(ErrorCode::None, 7, &names(&[0])));
        let anew = Wanted { topic_id: TopicId::from_u128(2), ..wanted(0) };
        let request = session.build([(tp(0), anew)].into());
        assert_eq!(sent(&request), (7, 1, vec![0], vec![0]));
        assert_eq!(request.forget[0].1, TopicId::from_u128(1));
    }

    #[test]
    fn a_topic_without_an_id_ends_the_session_by_ids() {
        let mut session = FetchSession::new();
        assert!(session.build(set(&[(0, 0)])).all_have_ids);
        assert!(session.answered(ErrorCode::None, 7, &names(&[0])));
        let nameless = Wanted { topic_id: TopicId::nil(), ..wanted(0) };
        let request = session.build([(tp(0), nameless)].into());
        assert_eq!((request.session_epoch, request.all_have_ids), (0, false));
    }
}
