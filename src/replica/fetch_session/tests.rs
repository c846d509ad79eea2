//! Sessions from the first full fetch to eviction.

use super::*;
use crate::base::ids::{LeaderEpoch, Offset};

fn target(topic: &str, partition: i32) -> FetchTarget {
    FetchTarget {
        topic: Arc::from(topic),
        topic_id: TopicId::nil(),
        partition,
        fetch_offset: Offset(0),
        max_bytes: 1024,
        current_leader_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
        log_start_offset: Offset::UNKNOWN,
    }
}

fn spec(session_id: i32, session_epoch: i32, targets: Vec<FetchTarget>) -> FetchSpec {
    FetchSpec { version: 12, session_id, session_epoch, targets, ..FetchSpec::default() }
}

fn quiet(high_watermark: i64) -> Outline {
    Outline {
        error: ErrorCode::None,
        bytes: 0,
        high_watermark: Offset(high_watermark),
        log_start_offset: Offset(0),
        must_tell: false,
    }
}

/// Runs one request through `sessions`, every partition answered with `outline`; says which were kept.
fn round(sessions: &FetchSessions, spec: FetchSpec, outline: Outline, now: i64) -> (Answer, Vec<bool>) {
    let context = sessions.begin(spec, now).expect("the request is taken in");
    let outlines = vec![outline; context.targets.len()];
    let mut keep = vec![true; outlines.len()];
    (sessions.finish(context, &outlines, &mut keep, now), keep)
}

#[test]
fn a_session_answers_only_what_changed() {
    let sessions = FetchSessions::new(10);
    let (first, keep) = round(&sessions, spec(0, 0, vec![target("a", 0), target("a", 1)]), quiet(5), 0);
    assert!(first.session_id > 0 && keep == [true, true]);
    let id = first.session_id;

    let (_, keep) = round(&sessions, spec(id, 1, vec![]), quiet(5), 1);
    assert_eq!(keep, [false, false]);
    let (_, keep) = round(&sessions, spec(id, 2, vec![]), quiet(6), 2);
    assert_eq!(keep, [true, true]);
    let (_, keep) = round(&sessions, spec(id, 3, vec![target("b", 0)]), quiet(6), 3);
    assert_eq!(keep, [false, false, true]);
}

#[test]
fn an_error_is_told_and_so_is_its_end() {
    let sessions = FetchSessions::new(10);
    let id = round(&sessions, spec(0, 0, vec![target("a", 0)]), quiet(5), 0).0.session_id;
    let failed = Outline { error: ErrorCode::NotLeaderOrFollower, ..quiet(5) };
    assert_eq!(round(&sessions, spec(id, 1, vec![]), failed, 1).1, [true]);
    assert_eq!(round(&sessions, spec(id, 2, vec![]), quiet(5), 2).1, [true]);
    assert_eq!(round(&sessions, spec(id, 3, vec![]), quiet(5), 3).1, [false]);
}

#[test]
fn a_partition_that_gave_records_goes_to_the_end() {
    let sessions = FetchSessions::new(10);
    let id = round(&sessions, spec(0, 0, vec![target("a", 0), target("a", 1)]), quiet(5), 0).0.session_id;
    let context = sessions.begin(spec(id, 1, vec![]), 1).expect("taken in");
    let outlines = [Outline { bytes: 10, ..quiet(6) }, quiet(6)];
    sessions.finish(context, &outlines, &mut [true, true], 1);
    let context = sessions.begin(spec(id, 2, vec![]), 2).expect("taken in");
    assert_eq!(context.targets.iter().map(|t| t.partition).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn forgotten_partitions_are_read_no_more_and_the_last_ends_the_session() {
    let sessions = FetchSessions::new(10);
    let targets = vec![target("a", 0), target("a", 1), target("b", 0)];
    let id = round(&sessions, spec(0, 0, targets), quiet(5), 0).0.session_id;
    let forget = |topic: &str, partition| (Arc::from(topic), TopicId::nil(), partition);
    let mut next = spec(id, 1, vec![]);
    next.forgotten = vec![forget("a", 0), forget("c", 9)];
    let context = sessions.begin(next, 1).expect("taken in");
    let left: Vec<_> = context.targets.iter().map(|t| (&*t.topic, t.partition)).collect();
    assert_eq!(left, [("a", 1), ("b", 0)]);
    let mut last = spec(id, 2, vec![]);
    last.forgotten = vec![forget("a", 1), forget("b", 0)];
    let context = sessions.begin(last, 2).expect("taken in");
    assert_eq!(sessions.finish(context, &[], &mut [], 2).session_id, NO_SESSION);
    assert!(sessions.is_empty());
}

#[test]
fn wrong_ids_epochs_and_mixed_topic_ids_are_told_apart() {
    let sessions = FetchSessions::new(10);
    let error = |spec| sessions.begin(spec, 0).expect_err("an error");
    assert_eq!(error(spec(9, 1, vec![])), ErrorCode::FetchSessionIdNotFound);
    let id = round(&sessions, spec(0, 0, vec![target("a", 0)]), quiet(5), 0).0.session_id;
    assert_eq!(error(spec(id, 7, vec![])), ErrorCode::InvalidFetchSessionEpoch);
    let mut with_ids = spec(id, 1, vec![]);
    with_ids.version = 13;
    assert_eq!(error(with_ids), ErrorCode::FetchSessionTopicIdError);
    assert_eq!(sessions.len(), 1);
    sessions.begin(spec(id, FINAL_EPOCH, vec![]), 0).expect("the last request of a session");
    assert!(sessions.is_empty());
}

#[test]
fn a_request_overtaken_by_its_successor_is_refused() {
    let sessions = FetchSessions::new(10);
    let id = round(&sessions, spec(0, 0, vec![target("a", 0)]), quiet(5), 0).0.session_id;
    let slow = sessions.begin(spec(id, 1, vec![]), 1).expect("taken in");
    sessions.begin(spec(id, 2, vec![]), 2).expect("taken in");
    let answer = sessions.finish(slow, &[quiet(5)], &mut [true], 3);
    assert_eq!(answer.error, ErrorCode::InvalidFetchSessionEpoch);
}

#[test]
fn slots_are_given_by_age_size_and_rank() {
    let sessions = FetchSessions::new(1);
    let consumer = |n: i32| spec(0, 0, (0..n).map(|p| target("a", p)).collect());
    let small = round(&sessions, consumer(1), quiet(5), 0).0.session_id;
    assert_eq!(round(&sessions, consumer(5), quiet(5), 1).0.session_id, NO_SESSION, "the first is too young");
    round(&sessions, spec(small, 1, vec![]), quiet(5), 100_000);
    assert_eq!(round(&sessions, consumer(1), quiet(5), 130_000).0.session_id, NO_SESSION, "not larger");
    let larger = round(&sessions, consumer(2), quiet(5), 130_000).0.session_id;
    assert!(larger > 0 && larger != small);
    let mut follower = consumer(1);
    follower.from_follower = true;
    let follower = round(&sessions, follower, quiet(5), 130_001).0.session_id;
    assert!(follower > 0, "a follower goes before a young consumer");
    assert_eq!(round(&sessions, consumer(9), quiet(5), 130_002).0.session_id, NO_SESSION);
    assert!(round(&sessions, consumer(1), quiet(5), 260_000).0.session_id > 0, "an idle one goes first");
    assert_eq!(sessions.len(), 1);
}

#[test]
fn no_slots_means_no_sessions() {
    let sessions = FetchSessions::new(0);
    assert_eq!(round(&sessions, spec(0, 0, vec![target("a", 0)]), quiet(5), 0).0.session_id, NO_SESSION);
}

#[test]
fn what_sessions_remember_is_bounded() {
    let sessions = FetchSessions::new(1000);
    let full = |n: usize| spec(0, 0, (0..n).map(|p| target("a", i32::try_from(p).unwrap())).collect());
    assert_eq!(round(&sessions, full(MAX_SESSION_PARTITIONS + 1), quiet(5), 0).0.session_id, NO_SESSION);
    let id = round(&sessions, full(MAX_SESSION_PARTITIONS), quiet(5), 0).0.session_id;
    assert!(id > 0);
    let grown = sessions.begin(spec(id, 1, vec![target("b", 0)]), 1).expect_err("too large");
    assert_eq!(grown, ErrorCode::FetchSessionIdNotFound);
    assert!(sessions.is_empty(), "the client begins anew, without one");
}

#[test]
fn epochs_wrap_to_one() {
    assert_eq!(next_epoch(i32::MAX), 1);
    assert_eq!(next_epoch(0), 1);
}
