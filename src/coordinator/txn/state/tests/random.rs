//! Random histories of one transactional id: producers that share it, come again, lose answers and go on as if nothing had
//! happened; appends that fail, are acknowledged late or never; coordinators that crash and are followed by one that has all
//! that was acknowledged and some of the rest. A transaction is told from others by when it began.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    /// A client asks for its producer, saying who it was or not.
    Init {
        client: usize,
        says_who: bool,
    },
    Add {
        client: usize,
        partition: i32,
    },
    End {
        client: usize,
        commit: bool,
    },
    /// The change under way is acknowledged.
    Ack,
    /// It fails; whether it stands in the log all the same.
    Fail {
        stays: bool,
    },
    /// The leader of a partition writes the marker, and says so.
    Marker,
    /// The coordinator is replaced by one that has this much of what was not acknowledged.
    Crash {
        keeps: usize,
    },
    TimeOut,
    Expire,
}

fn event() -> impl Strategy<Value = Event> {
    let client = 0..3_usize;
    prop_oneof![
        3 => (client.clone(), any::<bool>()).prop_map(|(client, says_who)| Event::Init { client, says_who }),
        6 => (client.clone(), 0..4_i32).prop_map(|(client, partition)| Event::Add { client, partition }),
        4 => (client, any::<bool>()).prop_map(|(client, commit)| Event::End { client, commit }),
        12 => Just(Event::Ack),
        2 => any::<bool>().prop_map(|stays| Event::Fail { stays }),
        8 => Just(Event::Marker),
        1 => (0..4_usize).prop_map(|keeps| Event::Crash { keeps }),
        1 => Just(Event::TimeOut),
        1 => Just(Event::Expire),
    ]
}

/// A change in the log, and what its client is told when it is acknowledged.
struct Pending {
    transition: Transition,
    for_client: Option<(usize, bool)>,
}

struct World {
    txn: Transaction,
    /// Every record that may be in some replica; `None` is a tombstone.
    log: Vec<Option<TxnValue>>,
    /// How many of them every replica has.
    committed: usize,
    pending: Option<Pending>,
    /// Whom each client believes to be.
    clients: [Option<Producer>; 3],
    /// The partitions that wait for their marker, if markers may be sent.
    markers: BTreeSet<TopicPartition>,
    /// How each transaction ended, by when it began, as markers and answers told.
    outcomes: BTreeMap<i64, bool>,
    /// Whether markers of both kinds were sent for one transaction.
    has_two_outcomes: bool,
    /// Whether a coordinator waits until its replicas have what it read; Kafka's does not.
    waits: bool,
    last_given: Producer,
    next_id: i64,
    now: i64,
}

impl World {
    /// `epoch` is where the first producer id begins, so that used-up epochs come up.
    fn new(epoch: i16) -> Self {
        let mut world = Self {
            txn: Transaction::new("x".into(), T0),
            log: Vec::new(),
            committed: 0,
            pending: None,
            clients: [None; 3],
            markers: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            has_two_outcomes: false,
            waits: true,
            last_given: NOBODY,
            next_id: 0,
            now: T0,
        };
        if epoch > 0 {
            let value = TxnValue { producer: Producer::new(0, epoch), ..at(Empty).value().clone() };
            world.txn = Transaction::from_record("x".into(), value.clone());
            world.log.push(Some(value));
            world.committed = 1;
        }
        world
    }

    fn store(&mut self, transition: Transition, for_client: Option<(usize, bool)>) {
        assert!(self.pending.is_none(), "two changes under way");
        self.log.push(Some(transition.value.clone()));
        self.pending = Some(Pending { transition, for_client });
    }

    fn init(&mut self, client: usize, says_who: bool) {
        let expected = self.clients[client].filter(|_| says_who);
        let init = match self.txn.init(expected, TIMEOUT, None, self.now) {
            Ok(Init::NeedsProducerId) => {
                self.next_id += 1;
                self.txn.init(expected, TIMEOUT, Some(ProducerId(self.next_id)), self.now)
            }
            init => init,
        };
        match init {
            Ok(Init::Store(transition)) => self.store(transition, Some((client, true))),
            Ok(Init::Abort(transition)) => self.store(transition, None),
            Ok(Init::NeedsProducerId) => panic!("it has one"),
            Err(_) => {}
        }
    }

    fn acknowledged(&mut self) {
        let Some(Pending { transition, for_client }) = self.pending.take() else { return };
        self.committed = self.log.len();
        let before = self.txn.value().producer;
        let value = transition.value.clone();
        assert!(value.producer >= before || value.producer.id != before.id, "an epoch fell");
        if let Some((client, true)) = for_client
            && value.state == Empty
        {
            assert!(value.producer >= self.last_given, "{:?} after {:?}", value.producer, self.last_given);
            self.last_given = value.producer;
            self.clients[client] = Some(value.producer);
        }
        if self.txn.on_stored(transition) {
            self.begin_markers();
        }
    }

    fn begin_markers(&mut self) {
        let value = self.txn.value().clone();
        let commit = value.state == PrepareCommit;
        let known = *self.outcomes.entry(value.start_ms).or_insert(commit);
        self.has_two_outcomes |= known != commit;
        self.markers = value.partitions;
        if self.markers.is_empty()
            && let Some(transition) = self.txn.completion(self.now)
        {
            self.store(transition, None);
        }
    }

    fn failed(&mut self, stays: bool) {
        let Some(Pending { transition, .. }) = self.pending.take() else { return };
        if transition.value.state.is_complete() {
            // Stored again until it is.
            return self.store(transition, None);
        }
        if !stays {
            self.log.pop();
        }
        self.txn.on_store_failed(&transition);
    }

    fn marker(&mut self) {
        let Some(partition) = self.markers.pop_first() else { return };
        if let Some(transition) = self.txn.acknowledge(&[partition], self.now) {
            self.store(transition, None);
        }
    }

    /// The next coordinator has a log that begins alike; it waits until its replicas have all of it (`TxnCoordinator`).
    fn crash(&mut self, keeps: usize) {
        self.log.truncate((self.committed + keeps).min(self.log.len()).max(self.committed));
        if self.waits {
            self.committed = self.log.len();
        }
        self.pending = None;
        self.markers.clear();
        self.txn = match self.log.last().cloned().flatten() {
            Some(value) => Transaction::from_record("x".into(), value),
            None => Transaction::new("x".into(), self.now),
        };
        if self.txn.on_loaded() {
            self.begin_markers();
        }
    }

    fn expire(&mut self) {
        if self.txn.expire(self.now, 0) {
            self.log.push(None);
            self.committed = self.log.len();
            assert!(self.txn.on_buried(true));
            self.txn = Transaction::new("x".into(), self.now);
        }
    }

    fn happen(&mut self, event: &Event) {
        self.now += 1;
        match *event {
            Event::Init { client, says_who } => self.init(client, says_who),
            Event::Add { client, partition } => {
                let Some(producer) = self.clients[client] else { return };
                if let Ok(Some(transition)) = self.txn.add_partitions(producer, &set(&[partition]), self.now) {
                    self.store(transition, Some((client, false)));
                }
            }
            Event::End { client, commit } => {
                let Some(producer) = self.clients[client] else { return };
                match self.txn.end(producer, commit, self.now) {
                    Ok(End::Store(transition)) => self.store(transition, Some((client, false))),
                    Ok(End::Done) => {
                        let start = self.txn.value().start_ms;
                        assert_eq!(self.outcomes.get(&start), Some(&commit), "the client is told another outcome");
                    }
                    Err(_) => {}
                }
            }
            Event::Ack => self.acknowledged(),
            Event::Fail { stays } => self.failed(stays),
            Event::Marker => self.marker(),
            Event::Crash { keeps } => self.crash(keeps),
            Event::TimeOut => {
                if self.txn.is_timed_out(i64::MAX) {
                    let transition = self.txn.fence(self.now);
                    self.store(transition, None);
                }
            }
            Event::Expire => self.expire(),
        }
        assert_eq!(self.txn.pending().is_some(), self.pending.is_some() || !self.markers.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a_transaction_has_one_outcome_and_epochs_never_fall(
        epoch in prop_oneof![Just(0), Just(i16::MAX - 4)],
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new(epoch);
        for event in &events {
            world.happen(event);
            prop_assert!(!world.has_two_outcomes);
        }
        // Whatever happened, what is about to end can be ended.
        for _ in 0..20 {
            world.happen(&Event::Ack);
            world.happen(&Event::Marker);
        }
        prop_assert!(!matches!(world.txn.state(), PrepareCommit | PrepareAbort));
    }
}

/// Two coordinators die, of which the first could not have its decision acknowledged and the second took it for stored.
#[test]
fn without_waiting_for_replicas_a_transaction_may_be_aborted_and_committed() {
    for waits in [true, false] {
        let mut world = World { waits, ..World::new(0) };
        let history = [
            Event::Init { client: 0, says_who: false },
            Event::Ack,
            Event::Add { client: 0, partition: 0 },
            Event::Ack,
            Event::End { client: 0, commit: false },
            Event::Crash { keeps: 1 },
            Event::Marker,
            Event::Crash { keeps: 0 },
            Event::End { client: 0, commit: true },
            Event::Ack,
        ];
        history.iter().for_each(|event| world.happen(event));
        assert_eq!(world.has_two_outcomes, !waits);
    }
}
