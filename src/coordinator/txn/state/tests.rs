use super::*;

mod random;

const T0: i64 = 1_000_000;
const TIMEOUT: i32 = 60_000;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn set(partitions: &[i32]) -> BTreeSet<TopicPartition> {
    partitions.iter().copied().map(tp).collect()
}

/// An id of producer 9 at epoch 3 in some state, with one partition where it has any.
fn at(state: TxnState) -> Transaction {
    at_epoch(state, 3)
}

fn at_epoch(state: TxnState, epoch: i16) -> Transaction {
    let has_partitions = matches!(state, Ongoing | PrepareCommit | PrepareAbort);
    let value = TxnValue {
        producer: Producer::new(9, epoch),
        timeout_ms: TIMEOUT,
        state,
        partitions: if has_partitions { set(&[0]) } else { BTreeSet::new() },
        last_update_ms: T0,
        start_ms: if state == Empty { -1 } else { T0 },
    };
    Transaction::from_record("x".into(), value)
}

fn stored(txn: &mut Transaction, transition: Transition) -> bool {
    let markers = txn.on_stored(transition);
    assert_eq!(markers, matches!(txn.state(), PrepareCommit | PrepareAbort));
    markers
}

/// InitProducerId all the way, with 77 for a fresh producer id.
fn init(txn: &mut Transaction, expected: Option<Producer>) -> Result<Producer, ErrorCode> {
    let fresh = Some(ProducerId(77));
    let needs = txn.init(expected, TIMEOUT, None, T0)?;
    let init = if needs == Init::NeedsProducerId { txn.init(expected, TIMEOUT, fresh, T0)? } else { needs };
    match init {
        Init::Store(transition) => {
            let producer = transition.value.producer;
            stored(txn, transition);
            Ok(producer)
        }
        other => panic!("{other:?}"),
    }
}

fn begin(txn: &mut Transaction, producer: Producer, partitions: &[i32]) {
    let transition = txn.add_partitions(producer, &set(partitions), T0 + 1);
    let transition = transition.expect("it may").expect("a change");
    stored(txn, transition);
}

fn end(txn: &mut Transaction, producer: Producer, commit: bool) {
    match txn.end(producer, commit, T0 + 2).expect("it may") {
        End::Store(transition) => assert!(stored(txn, transition)),
        End::Done => panic!("it has not ended yet"),
    }
}

fn finish(txn: &mut Transaction) {
    let partitions = txn.value().partitions.clone();
    let transition = txn.acknowledge(&partitions, T0 + 3).expect("all have their markers");
    stored(txn, transition);
}

#[test]
fn a_transaction_from_its_first_producer_to_its_end() {
    let mut txn = Transaction::new("x".into(), T0);
    assert_eq!(txn.init(None, TIMEOUT, None, T0), Ok(Init::NeedsProducerId));
    let producer = init(&mut txn, None).expect("a producer");
    assert_eq!((producer, txn.state()), (Producer::new(77, 0), Empty));
    begin(&mut txn, producer, &[0, 1]);
    assert_eq!((txn.state(), txn.value().start_ms), (Ongoing, T0 + 1));
    begin(&mut txn, producer, &[2]);
    assert_eq!(txn.add_partitions(producer, &set(&[0, 2]), T0 + 9), Ok(None), "they take part already");
    assert_eq!((txn.value().partitions.len(), txn.value().start_ms), (3, T0 + 1));
    end(&mut txn, producer, true);
    assert_eq!((txn.state(), txn.pending()), (PrepareCommit, Some(CompleteCommit)));
    assert_eq!(txn.acknowledge(&[tp(0), tp(2)], T0 + 3), None);
    assert_eq!(txn.acknowledge(&[tp(0)], T0 + 3), None, "a marker may be written twice");
    let complete = txn.acknowledge(&[tp(1)], T0 + 3).expect("the last");
    assert_eq!(txn.acknowledge(&[tp(1)], T0 + 3), None, "the end is stored once");
    assert_eq!(complete.value.state, CompleteCommit);
    stored(&mut txn, complete);
    assert_eq!((txn.state(), txn.pending(), txn.value().partitions.len()), (CompleteCommit, None, 0));
    assert_eq!(txn.end(producer, true, T0 + 4), Ok(End::Done));
    // The next one of the same producer.
    begin(&mut txn, producer, &[5]);
    end(&mut txn, producer, false);
    finish(&mut txn);
    assert_eq!(txn.state(), CompleteAbort);
}

/// What each state answers to whom it knows, and to whom it does not.
#[test]
fn every_state_answers_as_kafka_does() {
    type Answer = Result<bool, ErrorCode>;
    type Row = (TxnState, Answer, Answer, Answer);
    let concurrent = ErrorCode::ConcurrentTransactions;
    let invalid = ErrorCode::InvalidTxnState;
    let known = Producer::new(9, 3);
    // state, may add, commits, aborts: Ok(true) stores something, Ok(false) is done already.
    let table: [Row; 7] = [
        (Empty, Ok(true), Err(invalid), Err(invalid)),
        (Ongoing, Ok(true), Ok(true), Ok(true)),
        (PrepareCommit, Err(concurrent), Err(concurrent), Err(invalid)),
        (PrepareAbort, Err(concurrent), Err(invalid), Err(concurrent)),
        (CompleteCommit, Ok(true), Ok(false), Err(invalid)),
        (CompleteAbort, Ok(true), Err(invalid), Ok(false)),
        (Dead, Err(concurrent), Err(concurrent), Err(concurrent)),
    ];
    for (state, add, commit, abort) in table {
        let added = at(state).add_partitions(known, &set(&[7]), T0).map(|change| change.is_some());
        assert_eq!(added, add, "{state:?} add");
        let ended = |commit| at(state).end(known, commit, T0).map(|end| end != End::Done);
        assert_eq!(ended(true), commit, "{state:?} commit");
        assert_eq!(ended(false), abort, "{state:?} abort");
        for (stranger, error) in [
            (Producer::new(8, 3), ErrorCode::InvalidProducerIdMapping),
            (Producer::new(9, 2), ErrorCode::ProducerFenced),
            (Producer::new(9, 4), ErrorCode::ProducerFenced),
        ] {
            assert_eq!(at(state).add_partitions(stranger, &set(&[0]), T0), Err(error), "{state:?}");
            assert_eq!(at(state).end(stranger, true, T0), Err(error), "{state:?}");
            assert_eq!(at(state).verify(stranger, &set(&[0])), Err(error), "{state:?}");
        }
    }
}

#[test]
fn a_pending_change_holds_up_all_others() {
    let known = Producer::new(9, 3);
    let concurrent = ErrorCode::ConcurrentTransactions;
    let mut txn = at(Ongoing);
    let change = txn.add_partitions(known, &set(&[1]), T0).expect("it may").expect("a change");
    assert_eq!(txn.add_partitions(known, &set(&[0]), T0), Err(concurrent));
    assert_eq!(txn.end(known, true, T0), Err(concurrent));
    assert_eq!(txn.init(None, TIMEOUT, None, T0), Err(concurrent));
    assert!(!txn.is_timed_out(i64::MAX) && !txn.expire(i64::MAX, 0));
    // Verification looks at what is stored.
    assert_eq!(txn.verify(known, &[tp(0), tp(1)]), Ok(vec![true, false]));
    txn.on_store_failed(&change);
    assert_eq!((txn.pending(), txn.value().partitions.len()), (None, 1));
    assert!(txn.end(known, true, T0).is_ok());
}

#[test]
fn partitions_are_verified_while_the_transaction_is_open() {
    let known = Producer::new(9, 3);
    assert_eq!(at(Ongoing).verify(known, &[tp(0), tp(1)]), Ok(vec![true, false]));
    for state in [Empty, CompleteCommit, CompleteAbort] {
        assert_eq!(at(state).verify(known, &[tp(0)]), Ok(vec![false]), "{state:?}");
    }
    for state in [PrepareCommit, PrepareAbort] {
        assert_eq!(at(state).verify(known, &[tp(0)]), Err(ErrorCode::ConcurrentTransactions), "{state:?}");
    }
}

#[test]
fn a_new_producer_raises_the_epoch() {
    for state in [Empty, CompleteCommit, CompleteAbort] {
        assert_eq!(init(&mut at(state), None), Ok(Producer::new(9, 4)), "{state:?}");
    }
    for state in [PrepareCommit, PrepareAbort, Dead] {
        let answer = at(state).init(None, TIMEOUT, None, T0);
        assert_eq!(answer, Err(ErrorCode::ConcurrentTransactions), "{state:?}");
    }
}

#[test]
fn a_new_producer_first_aborts_what_is_under_way() {
    let mut txn = at(Ongoing);
    let Ok(Init::Abort(abort)) = txn.init(None, TIMEOUT, None, T0 + 5) else { panic!("not aborted") };
    assert_eq!((abort.value.state, abort.value.producer), (PrepareAbort, Producer::new(9, 4)));
    // The former is fenced off at once.
    assert_eq!(txn.end(Producer::new(9, 3), true, T0), Err(ErrorCode::ProducerFenced));
    stored(&mut txn, abort);
    assert_eq!(txn.init(None, TIMEOUT, None, T0), Err(ErrorCode::ConcurrentTransactions));
    finish(&mut txn);
    assert_eq!(init(&mut txn, None), Ok(Producer::new(9, 5)), "raised a second time");
}

#[test]
fn a_fence_that_could_not_be_stored_raises_the_epoch_once() {
    let mut txn = at(Ongoing);
    for _ in 0..3 {
        let abort = txn.fence(T0 + 5);
        assert_eq!(abort.value.producer, Producer::new(9, 4));
        txn.on_store_failed(&abort);
        assert_eq!(txn.end(Producer::new(9, 3), true, T0), Err(ErrorCode::ProducerFenced));
    }
    let abort = txn.fence(T0 + 6);
    stored(&mut txn, abort);
    finish(&mut txn);
    begin(&mut txn, Producer::new(9, 4), &[1]);
    assert_eq!(txn.fence(T0 + 7).value.producer, Producer::new(9, 5));
}

#[test]
fn transactions_time_out() {
    let mut txn = at(Ongoing);
    assert!(!txn.is_timed_out(T0 + i64::from(TIMEOUT)));
    assert!(txn.is_timed_out(T0 + i64::from(TIMEOUT) + 1));
    for state in [Empty, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort, Dead] {
        assert!(!at(state).is_timed_out(i64::MAX), "{state:?}");
    }
    let abort = txn.fence(T0);
    assert!(!txn.is_timed_out(i64::MAX));
    stored(&mut txn, abort);
}

/// KIP-360: a producer that says who it was goes on with a new epoch; whoever was replaced does not.
#[test]
fn a_producer_that_says_who_it_was_goes_on_unless_it_was_replaced() {
    for state in [Empty, CompleteCommit, CompleteAbort] {
        let mut txn = at(state);
        assert_eq!(init(&mut txn, Some(Producer::new(9, 3))), Ok(Producer::new(9, 4)));
        // It did not hear the answer, and asks again.
        assert_eq!(init(&mut txn, Some(Producer::new(9, 3))), Ok(Producer::new(9, 4)));
        assert_eq!(init(&mut txn, Some(Producer::new(9, 3))), Ok(Producer::new(9, 4)));
        assert_eq!(init(&mut txn, Some(Producer::new(9, 4))), Ok(Producer::new(9, 5)));
        assert_eq!(init(&mut txn, Some(Producer::new(9, 3))), Err(ErrorCode::ProducerFenced));
        // Another comes: the epoch before it holds no more.
        assert_eq!(init(&mut txn, None), Ok(Producer::new(9, 6)));
        assert_eq!(init(&mut txn, Some(Producer::new(9, 5))), Err(ErrorCode::ProducerFenced));
        assert_eq!(init(&mut txn, Some(Producer::new(8, 6))), Err(ErrorCode::ProducerFenced));
    }
    // An id that is not known any more takes anyone.
    assert_eq!(init(&mut Transaction::new("x".into(), T0), Some(Producer::new(5, 5))), Ok(Producer::new(77, 0)));
}

#[test]
fn used_up_epochs_give_a_new_producer_id() {
    let last = i16::MAX - 1;
    let mut txn = at_epoch(CompleteCommit, last);
    assert_eq!(txn.init(None, TIMEOUT, None, T0), Ok(Init::NeedsProducerId));
    assert_eq!(txn.pending(), None);
    assert_eq!(init(&mut txn, None), Ok(Producer::new(77, 0)));
    assert_eq!(init(&mut txn, Some(Producer::new(9, last))), Err(ErrorCode::ProducerFenced), "another has come");

    let mut txn = at_epoch(CompleteCommit, last);
    assert_eq!(init(&mut txn, Some(Producer::new(9, last))), Ok(Producer::new(77, 0)));
    assert_eq!(init(&mut txn, Some(Producer::new(9, last))), Ok(Producer::new(77, 0)), "it asks again");
    assert_eq!(init(&mut txn, Some(Producer::new(77, 0))), Ok(Producer::new(77, 1)));
    assert_eq!(init(&mut txn, Some(Producer::new(9, last))), Err(ErrorCode::ProducerFenced));

    // The largest epoch is for fencing only, and is never given out.
    let mut txn = at_epoch(Ongoing, last);
    let abort = txn.fence(T0);
    assert_eq!(abort.value.producer.epoch.get(), i16::MAX);
    stored(&mut txn, abort);
    finish(&mut txn);
    assert_eq!(init(&mut txn, Some(Producer::new(9, last))), Err(ErrorCode::ProducerFenced));
    assert_eq!(init(&mut txn, None), Ok(Producer::new(77, 0)));
    // What no coordinator wrote does not overflow.
    assert_eq!(at_epoch(Ongoing, i16::MAX).fence(T0).value.producer.epoch.get(), i16::MAX);
}

#[test]
fn a_retry_with_the_last_epoch_before_exhaustion_gets_its_answer() {
    let mut txn = at_epoch(Empty, i16::MAX - 2);
    let known = Producer::new(9, i16::MAX - 2);
    assert_eq!(init(&mut txn, Some(known)), Ok(Producer::new(9, i16::MAX - 1)));
    // Kafka fails here, as the epoch is used up.
    assert_eq!(init(&mut txn, Some(known)), Ok(Producer::new(9, i16::MAX - 1)));
}

#[test]
fn only_unused_ids_expire() {
    let week = 7 * 24 * 3_600_000;
    for state in [Empty, CompleteCommit, CompleteAbort] {
        let mut txn = at(state);
        assert!(!txn.expire(T0 + week - 1, week), "{state:?}");
        assert!(txn.expire(T0 + week, week), "{state:?}");
        assert_eq!(txn.init(None, TIMEOUT, None, T0), Err(ErrorCode::ConcurrentTransactions));
        assert!(!txn.on_buried(false), "the tombstone could not be stored");
        assert_eq!((txn.state(), txn.pending()), (state, None));
        assert!(txn.expire(T0 + week, week) && txn.on_buried(true));
        assert_eq!(txn.init(None, TIMEOUT, None, T0), Err(ErrorCode::ConcurrentTransactions));
    }
    for state in [Ongoing, PrepareCommit, PrepareAbort, Dead] {
        assert!(!at(state).expire(i64::MAX, week), "{state:?}");
    }
}

#[test]
fn what_was_about_to_end_ends_after_loading() {
    for (state, complete) in [(PrepareCommit, CompleteCommit), (PrepareAbort, CompleteAbort)] {
        let mut txn = at(state);
        assert!(txn.on_loaded());
        assert_eq!(txn.pending(), Some(complete));
        assert!(!txn.on_loaded(), "it is under way");
        finish(&mut txn);
        assert_eq!(txn.state(), complete);
    }
    for state in [Empty, Ongoing, CompleteCommit, CompleteAbort, Dead] {
        assert!(!at(state).on_loaded(), "{state:?}");
    }
    // A change that a request began before the id was looked at is not touched.
    let mut txn = at(Ongoing);
    txn.add_partitions(Producer::new(9, 3), &set(&[4]), T0).expect("it may").expect("a change");
    assert!(!txn.on_loaded());
    assert_eq!(txn.pending(), Some(Ongoing));
}

#[test]
fn a_transaction_without_partitions_ends_at_once() {
    let mut txn = at(Empty);
    begin(&mut txn, Producer::new(9, 3), &[]);
    end(&mut txn, Producer::new(9, 3), true);
    let complete = txn.completion(T0).expect("nothing to wait for");
    stored(&mut txn, complete);
    assert_eq!(txn.state(), CompleteCommit);
}

#[test]
fn states_have_kafka_s_numbers_and_names() {
    for (id, (state, name)) in (0_i8..).zip(STATES) {
        assert_eq!((state.id(), state.name()), (id, name));
        assert_eq!((TxnState::from_id(id), TxnState::from_name(name)), (Some(state), Some(state)));
    }
    assert_eq!((TxnState::from_id(8), TxnState::from_id(-1), TxnState::from_name("empty")), (None, None, None));
}

/// Predecessors, as Kafka lists them.
#[test]
fn states_follow_their_predecessors_only() {
    let table: [(TxnState, &[TxnState]); 8] = [
        (Empty, &[Empty, CompleteCommit, CompleteAbort]),
        (Ongoing, &[Ongoing, Empty, CompleteCommit, CompleteAbort]),
        (PrepareCommit, &[Ongoing]),
        (PrepareAbort, &[Ongoing, PrepareEpochFence]),
        (CompleteCommit, &[PrepareCommit]),
        (CompleteAbort, &[PrepareAbort]),
        (Dead, &[Empty, CompleteCommit, CompleteAbort]),
        (PrepareEpochFence, &[Ongoing]),
    ];
    for (state, predecessors) in table {
        for (before, _) in STATES {
            assert_eq!(state.may_follow(before), predecessors.contains(&before), "{state:?} after {before:?}");
        }
    }
}
