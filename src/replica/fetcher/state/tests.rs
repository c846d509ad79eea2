//! The state machine between logs that are lists: one record is the epoch it was written in.

use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::log::epochs::LeaderEpochs;

/// A log; follower and leader use the same.
#[derive(Debug, Default)]
struct Inner {
    start: i64,
    /// The epochs of the records from `start` on.
    records: Vec<i32>,
    epochs: LeaderEpochs,
    high_watermark: i64,
    /// The epoch in which this replica leads or follows.
    current: i32,
    broken: bool,
    throttled: bool,
}

impl Inner {
    fn end(&self) -> i64 {
        self.start + i64::try_from(self.records.len()).expect("small")
    }

    fn lead(&mut self, epoch: i32) {
        self.current = epoch;
        let end = Offset(self.end());
        self.epochs.assign(LeaderEpoch(epoch), end);
    }

    fn push(&mut self, epoch: i32) {
        let end = Offset(self.end());
        self.epochs.assign(LeaderEpoch(epoch), end);
        self.records.push(epoch);
    }

    fn cut(&mut self, offset: i64) {
        let keep = usize::try_from((offset - self.start).max(0)).expect("not negative");
        self.records.truncate(keep);
        let end = self.end();
        self.epochs.truncate_from_end(Offset(end));
        self.high_watermark = self.high_watermark.min(end);
    }

    /// The leader's answer (`Partition.fetchRecords`), at most two records.
    fn answer(&self, asked: &Wanted) -> Fetched {
        let mut fetched = Fetched {
            error: ErrorCode::None,
            high_watermark: Offset(self.high_watermark),
            log_start_offset: Offset(self.start),
            diverging: None,
            records: bytes::Bytes::new(),
        };
        let (offset, end) = (asked.fetch_offset.get(), self.end());
        fetched.error = match asked.leader_epoch.get() {
            epoch if epoch < self.current => ErrorCode::FencedLeaderEpoch,
            epoch if epoch > self.current => ErrorCode::UnknownLeaderEpoch,
            _ if offset < self.start || offset > end => ErrorCode::OffsetOutOfRange,
            _ => ErrorCode::None,
        };
        // The epoch is looked at before the end.
        if let (ErrorCode::None | ErrorCode::OffsetOutOfRange, Some(last)) = (fetched.error, asked.last_fetched_epoch)
            && offset >= self.start
        {
            match self.epochs.end_offset(last, Offset(end)) {
                None => fetched.error = ErrorCode::OffsetOutOfRange,
                Some((epoch, at)) if epoch < last || at < asked.fetch_offset => {
                    fetched.error = ErrorCode::None;
                    fetched.diverging = Some((epoch, at));
                }
                Some(_) => {}
            }
        }
        if fetched.error.is_none() && fetched.diverging.is_none() {
            let from = usize::try_from(offset - self.start).expect("in range");
            let mut bytes = BytesMut::new();
            self.records[from..].iter().take(2).for_each(|epoch| bytes.put_i32(*epoch));
            fetched.records = bytes.freeze();
        }
        fetched
    }
}

#[derive(Debug, Default)]
struct Model(Mutex<Inner>);

impl FollowerLog for Model {
    fn position(&self) -> Result<Position, Refusal> {
        let log = self.0.lock();
        Ok(Position {
            log_start: Offset(log.start),
            log_end: Offset(log.end()),
            high_watermark: Offset(log.high_watermark),
            latest_epoch: log.epochs.latest(),
        })
    }

    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let log = self.0.lock();
        log.epochs.end_offset(epoch, Offset(log.end()))
    }

    fn append(&self, epoch: LeaderEpoch, data: FromLeader) -> Result<Position, Refusal> {
        let mut log = self.0.lock();
        if log.current != epoch.get() {
            return Err(Refusal::Fenced);
        }
        if std::mem::take(&mut log.broken) {
            return Err(Refusal::Corrupt("a bit fell over".to_owned()));
        }
        assert_eq!(data.fetch_offset.get(), log.end(), "only what follows is appended");
        for record in data.records.chunks(4) {
            log.push(i32::from_be_bytes(record.try_into().expect("four bytes")));
        }
        let high_watermark = data.high_watermark.get().min(log.end()).max(log.high_watermark);
        log.high_watermark = high_watermark;
        drop(log);
        self.position()
    }

    fn holds_back(&self) -> bool {
        self.0.lock().throttled
    }

    fn truncate_to(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), Refusal> {
        let mut log = self.0.lock();
        if log.current != epoch.get() {
            return Err(Refusal::Fenced);
        }
        log.cut(offset.get());
        Ok(())
    }

    fn truncate_fully_and_start_at(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), Refusal> {
        let mut log = self.0.lock();
        if log.current != epoch.get() {
            return Err(Refusal::Fenced);
        }
        log.records.clear();
        log.epochs.clear();
        log.start = offset.get();
        log.high_watermark = offset.get();
        Ok(())
    }
}

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn fetcher(truncates_on_fetch: bool) -> FetcherState {
    FetcherState::new(StateConfig { partition_max_bytes: 100, max_delay_ms: 1000, truncates_on_fetch })
}

fn follow(state: &mut FetcherState, log: &Arc<Model>, epoch: i32) {
    log.0.lock().current = epoch;
    let log = Arc::clone(log) as Arc<dyn FollowerLog>;
    state.add(&tp(), NewPartition { topic_id: TopicId::nil(), leader_epoch: LeaderEpoch(epoch), log });
}

/// Does one step against the leader. False if there was nothing to do but wait for records.
fn turn(state: &mut FetcherState, leader: &Model, now: &mut i64) -> bool {
    match state.step(*now) {
        Step::Idle => false,
        Step::Wait(until) => {
            *now = until;
            true
        }
        Step::AskEpochs(questions) => {
            let leader = leader.0.lock();
            for q in questions {
                let end = leader.epochs.end_offset(q.last_epoch, Offset(leader.end()));
                state.epoch_ends(&q, Ok(end.unwrap_or((LeaderEpoch::NONE, Offset::UNKNOWN))), *now);
            }
            true
        }
        Step::AskOffsets(questions) => {
            let leader = leader.0.lock();
            let ends = (Offset(leader.start), Offset(leader.end()));
            questions.iter().for_each(|q| state.located(q, Ok(ends), *now));
            true
        }
        Step::Fetch(wanted) => {
            let answer = leader.0.lock().answer(&wanted[&tp()]);
            let news = !answer.error.is_none() || answer.diverging.is_some() || !answer.records.is_empty();
            state.fetched(&tp(), &wanted[&tp()], answer, *now);
            news
        }
    }
}

/// Runs until the follower has all; panics if that takes for ever.
fn settle(state: &mut FetcherState, leader: &Model) {
    let mut now = 0;
    for _ in 0..500 {
        if !turn(state, leader, &mut now) {
            return;
        }
    }
    panic!("the follower does not settle: {:?}", state.phase(&tp()));
}

fn assert_same(leader: &Model, follower: &Model) {
    let (leader, follower) = (leader.0.lock(), follower.0.lock());
    assert_eq!(leader.end(), follower.end());
    let from = leader.start.max(follower.start);
    let skip = |log: &Inner| usize::try_from(from - log.start).expect("in range");
    assert_eq!(leader.records[skip(&leader)..], follower.records[skip(&follower)..]);
}

fn log_of(records: &[i32], high_watermark: i64) -> Arc<Model> {
    let mut inner = Inner::default();
    records.iter().for_each(|epoch| inner.push(*epoch));
    inner.high_watermark = high_watermark;
    Arc::new(Model(Mutex::new(inner)))
}

#[test]
fn a_new_follower_copies_its_leader() {
    let (leader, follower) = (log_of(&[0, 0, 0, 1, 1], 5), log_of(&[], 0));
    leader.0.lock().lead(1);
    let mut state = fetcher(true);
    follow(&mut state, &follower, 1);
    settle(&mut state, &leader);
    assert_same(&leader, &follower);
    assert_eq!(follower.0.lock().high_watermark, 5);
}

/// KIP-101, first scenario: a follower that restarts with records above its high watermark keeps them, as they are in
/// the leader's epoch; cut there, they would be lost when it leads next.
#[test]
fn records_above_the_high_watermark_are_kept_if_the_leader_has_them() {
    let (leader, follower) = (log_of(&[0, 0], 1), log_of(&[0, 0], 1));
    leader.0.lock().lead(1);
    let mut state = fetcher(true);
    follow(&mut state, &follower, 1);
    assert_eq!(state.phase(&tp()), Some((Phase::Fetching, Offset(2))));
    assert_eq!(follower.0.lock().end(), 2, "nothing was cut before the leader was asked");
}

/// KIP-279: two leaders in a row wrote at the same offsets; one answer is not enough to find where the logs part.
#[test]
fn logs_that_parted_twice_become_one() {
    for truncates_on_fetch in [true, false] {
        let leader = log_of(&[0, 0, 2, 2, 4, 4], 2);
        let follower = log_of(&[0, 0, 1, 3, 3, 3, 3], 2);
        leader.0.lock().lead(5);
        let mut state = fetcher(truncates_on_fetch);
        follow(&mut state, &follower, 5);
        settle(&mut state, &leader);
        assert_same(&leader, &follower);
    }
}

/// A deposed leader that wrote nothing knows an epoch that its follower-turned-leader never heard of.
#[test]
fn an_epoch_without_records_does_not_keep_it_asking() {
    let (leader, follower) = (log_of(&[0, 0], 2), log_of(&[0, 0], 2));
    follower.0.lock().lead(1);
    leader.0.lock().lead(2);
    leader.0.lock().push(2);
    let mut state = fetcher(true);
    follow(&mut state, &follower, 2);
    settle(&mut state, &leader);
    assert_same(&leader, &follower);
}

#[test]
fn a_follower_below_the_leaders_start_begins_anew() {
    let (leader, follower) = (log_of(&[], 0), log_of(&[0, 0], 2));
    {
        let mut log = leader.0.lock();
        log.start = 10;
        log.high_watermark = 11;
        log.push(0);
        log.lead(1);
    }
    let mut state = fetcher(true);
    follow(&mut state, &follower, 1);
    settle(&mut state, &leader);
    assert_same(&leader, &follower);
    assert_eq!(follower.0.lock().start, 10);
}

#[test]
fn errors_delay_longer_each_time_and_a_newer_epoch_ends_it() {
    let (leader, follower) = (log_of(&[0], 1), log_of(&[0], 1));
    leader.0.lock().current = 1;
    let mut state = fetcher(true);
    follow(&mut state, &follower, 2);
    let (mut now, mut delays) = (0, Vec::new());
    for _ in 0..8 {
        let before = now;
        while !matches!(state.step(now), Step::Fetch(_)) {
            assert!(turn(&mut state, &leader, &mut now));
        }
        delays.push(now - before);
        turn(&mut state, &leader, &mut now);
    }
    assert_eq!(delays, [0, 20, 40, 80, 160, 320, 640, 1000], "up to replica.fetch.backoff.ms");
    leader.0.lock().current = 3;
    for _ in 0..3 {
        turn(&mut state, &leader, &mut now);
    }
    assert!(state.is_empty(), "fenced: the controller will tell of the new leader");
}

#[test]
fn damaged_bytes_are_fetched_again() {
    let (leader, follower) = (log_of(&[0, 0, 0], 3), log_of(&[], 0));
    leader.0.lock().lead(1);
    follower.0.lock().broken = true;
    let mut state = fetcher(true);
    follow(&mut state, &follower, 1);
    settle(&mut state, &leader);
    assert_same(&leader, &follower);
}

#[test]
fn an_answer_that_is_overtaken_changes_nothing() {
    let (leader, follower) = (log_of(&[0, 0, 0], 3), log_of(&[0], 1));
    leader.0.lock().current = 0;
    let mut state = fetcher(true);
    follow(&mut state, &follower, 0);
    let Step::Fetch(wanted) = state.step(0) else { panic!("it fetches") };
    let answer = leader.0.lock().answer(&wanted[&tp()]);
    follow(&mut state, &follower, 1);
    state.fetched(&tp(), &wanted[&tp()], answer.clone(), 0);
    assert_eq!(follower.0.lock().end(), 1, "it is of the old epoch");
    state.remove(&tp());
    state.fetched(&tp(), &wanted[&tp()], answer, 0);
    assert_eq!((follower.0.lock().end(), state.len()), (1, 0));
}

#[derive(Debug, Clone)]
enum Event {
    /// Replica so-and-so leads the next epoch, if it has all that is committed.
    Elect(usize),
    /// The leader writes.
    Write(u8),
    /// Replica so-and-so takes so many steps.
    Turn(usize, u8),
    /// The leader commits what all have.
    Commit,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..3usize).prop_map(Event::Elect),
        3 => (1..4u8).prop_map(Event::Write),
        4 => (0..3usize, 1..6u8).prop_map(|(who, n)| Event::Turn(who, n)),
        2 => Just(Event::Commit),
    ]
}

proptest! {
    /// Whatever happened, all replicas end with the last leader's log; and what was committed is never lost, as only
    /// those who have it may lead.
    #[test]
    fn replicas_become_equal(events in proptest::collection::vec(event(), 1..60), on_fetch: bool) {
        let logs = [log_of(&[], 0), log_of(&[], 0), log_of(&[], 0)];
        let mut states: Vec<FetcherState> = (0..3).map(|_| fetcher(on_fetch)).collect();
        let (mut leader, mut epoch, mut committed) = (0, 0, Vec::<i32>::new());
        let elect = |who: usize, epoch: i32, states: &mut Vec<FetcherState>| {
            for (at, state) in states.iter_mut().enumerate() {
                state.remove(&tp());
                if at == who { logs[at].0.lock().lead(epoch) } else { follow(state, &logs[at], epoch) }
            }
        };
        elect(leader, epoch, &mut states);
        for event in events {
            match event {
                Event::Elect(who) if logs[who].0.lock().records.starts_with(&committed) => {
                    epoch += 1;
                    leader = who;
                    elect(who, epoch, &mut states);
                }
                Event::Elect(_) => {}
                Event::Write(n) => (0..n).for_each(|_| logs[leader].0.lock().push(epoch)),
                Event::Turn(who, n) if who != leader => {
                    let mut now = 0;
                    (0..n).for_each(|_| { turn(&mut states[who], &logs[leader], &mut now); });
                }
                Event::Turn(..) => {}
                Event::Commit => {
                    // What every follower fetches from is what it has of the leader's log.
                    let settled = (0..3).filter(|at| *at != leader).all(|at| {
                        matches!(states[at].phase(&tp()), Some((Phase::Fetching, _)))
                            && logs[leader].0.lock().records.starts_with(&logs[at].0.lock().records)
                    });
                    if settled {
                        let least = logs.iter().map(|log| log.0.lock().end()).min().expect("three");
                        let mut log = logs[leader].0.lock();
                        if least > log.high_watermark {
                            log.high_watermark = least;
                        }
                        let high_watermark = usize::try_from(log.high_watermark).expect("small");
                        if high_watermark > committed.len() {
                            committed = log.records[..high_watermark].to_vec();
                        }
                    }
                }
            }
            prop_assert!(logs[leader].0.lock().records.starts_with(&committed));
        }
        for at in (0..3).filter(|at| *at != leader) {
            settle(&mut states[at], &logs[leader]);
            assert_same(&logs[leader], &logs[at]);
        }
    }
}

#[test]
fn a_throttled_partition_rests_until_it_is_caught_up() {
    let (leader, log) = (Model::default(), Arc::new(Model::default()));
    leader.0.lock().lead(1);
    (0..3).for_each(|_| leader.0.lock().push(1));
    leader.0.lock().high_watermark = 3;
    let (mut state, mut now) = (fetcher(true), 0);
    follow(&mut state, &log, 1);
    log.0.lock().throttled = true;
    assert_eq!(state.step(now), Step::Wait(THROTTLE_REST_MS), "nothing is asked for");
    log.0.lock().throttled = false;
    now = THROTTLE_REST_MS;
    while log.0.lock().end() < 3 {
        assert!(turn(&mut state, &leader, &mut now));
    }
    log.0.lock().throttled = true;
    assert!(matches!(state.step(now), Step::Fetch(_)), "one in sync is never held back");
}
