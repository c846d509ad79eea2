//! When ISRs change, and what an answer does.

use kafka_protocol::messages::BrokerId as Wire;
use kafka_protocol::messages::leader_and_isr_request::LeaderAndIsrPartitionState;
use proptest::prelude::*;

use super::*;

const ME: BrokerId = BrokerId(1);
const LAG: i64 = 10_000;

fn state(leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> LeaderAndIsrPartitionState {
    LeaderAndIsrPartitionState::default()
        .with_leader(Wire(1))
        .with_leader_epoch(leader_epoch)
        .with_partition_epoch(partition_epoch)
        .with_isr(isr.iter().map(|&id| Wire(id)).collect())
        .with_replicas(vec![Wire(1), Wire(2), Wire(3)])
}

fn leading(isr: &[i32]) -> Leadership {
    let mut leadership = Leadership::unknown();
    leadership.make_leader(ME, &state(4, 7, isr), Offset(10), 100_000);
    leadership
}

fn fetch(leadership: &mut Leadership, broker: i32, epoch: i64, offset: i64, log_end: i64, now: i64) -> bool {
    let (epoch, start) = (BrokerEpoch(epoch), Offset::ZERO);
    leadership.update_follower_fetch_state(BrokerId(broker), epoch, Offset(offset), start, Offset(log_end), now)
}

fn expand(leadership: &mut Leadership, broker: i32, high_watermark: i64) -> Option<Vec<i32>> {
    let isr = leadership.propose_expand(BrokerId(broker), Offset(high_watermark), &Everybody)?;
    Some(isr.iter().map(|id| id.get()).collect())
}

fn shrink(leadership: &mut Leadership, log_end: i64, high_watermark: i64, now: i64) -> Option<Vec<i32>> {
    let isr = leadership.propose_shrink(ME, Offset(log_end), Offset(high_watermark), now, LAG)?;
    Some(isr.iter().map(|id| id.get()).collect())
}

fn sent(leadership: &Leadership) -> IsrProposal {
    leadership.proposal(&TopicPartition::new("t", 0), ME, BrokerEpoch(50)).expect("pending")
}

fn agreed(leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> Result<IsrState, ErrorCode> {
    Ok(IsrState {
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch,
        isr: isr.iter().map(|&id| BrokerId(id)).collect(),
    })
}

/// All attempts were answered.
fn answered(leadership: &mut Leadership, proposal: &IsrProposal, answer: Result<IsrState, ErrorCode>) -> Outcome {
    leadership.isr_answered(proposal, answer, Attempts::Answered, &Everybody)
}

#[test]
fn a_state_told_again_leaves_the_proposal_under_way() {
    let mut leadership = leading(&[1, 3]);
    fetch(&mut leadership, 2, 7, 20, 20, 100_000);
    assert_eq!(expand(&mut leadership, 2, 15), Some(vec![1, 3, 2]));
    let (proposal, told) = (sent(&leadership), state(4, 7, &[1, 3]));
    leadership.make_leader(ME, &told, Offset(20), 100_000);
    assert!(leadership.in_maximal_isr(BrokerId(2)), "a new controller may still take it in");
    assert_eq!(answered(&mut leadership, &proposal, agreed(4, 8, &[1, 3, 2])), Outcome::Committed);
    assert_eq!(leadership.isr.iter().map(|id| id.get()).collect::<Vec<_>>(), [1, 3, 2]);
}

#[test]
fn what_an_older_proposal_came_to_is_taken_in() {
    let mut leadership = leading(&[1, 3]);
    assert_eq!(shrink(&mut leadership, 20, 10, 200_000), Some(vec![1]));
    let older = sent(&leadership);
    leadership.pending = None;
    fetch(&mut leadership, 2, 7, 20, 20, 200_000);
    assert!(expand(&mut leadership, 2, 10).is_some());
    assert_eq!(answered(&mut leadership, &older, agreed(4, 8, &[1])), Outcome::Committed);
    assert_eq!((leadership.partition_epoch, leadership.pending.clone()), (8, None), "what waits is void");
    assert_eq!(answered(&mut leadership, &older, agreed(4, 8, &[1])), Outcome::Obsolete);
}

#[test]
fn a_follower_joins_with_all_that_is_committed_and_all_from_before_the_epoch() {
    let mut leadership = leading(&[1]);
    assert_eq!(expand(&mut leadership, 2, 5), None, "it has not fetched");
    fetch(&mut leadership, 2, 7, 9, 20, 100_000);
    assert_eq!(expand(&mut leadership, 2, 5), None, "the epoch began at 10");
    fetch(&mut leadership, 2, 7, 14, 20, 100_000);
    assert_eq!(expand(&mut leadership, 2, 15), None, "15 is committed");
    fetch(&mut leadership, 2, 7, 15, 20, 100_000);
    assert_eq!(expand(&mut leadership, 2, 15), Some(vec![1, 2]));
    assert_eq!(sent(&leadership).isr, [(ME, BrokerEpoch(50)), (BrokerId(2), BrokerEpoch(7))]);
    fetch(&mut leadership, 3, 7, 20, 20, 100_000);
    assert_eq!(expand(&mut leadership, 3, 15), None, "one change at a time");
    assert_eq!(expand(&mut leadership, 2, 15), None);
}

struct Only(BrokerEpoch);

impl IsrEligibility for Only {
    fn is_over(&self, _broker: BrokerId, life: BrokerEpoch) -> bool {
        life < self.0
    }

    fn is_eligible(&self, _broker: BrokerId, fetched_in: BrokerEpoch) -> bool {
        fetched_in == self.0
    }
}

/// A broker whose life after that one has begun.
struct LaterThan(BrokerId, BrokerEpoch);

impl IsrEligibility for LaterThan {
    fn is_over(&self, broker: BrokerId, life: BrokerEpoch) -> bool {
        (broker, life) == (self.0, self.1)
    }

    fn is_eligible(&self, _broker: BrokerId, _fetched_in: BrokerEpoch) -> bool {
        true
    }
}

/// KIP-903: what a broker had before it died does not let it in.
#[test]
fn an_earlier_life_does_not_join() {
    let mut leadership = leading(&[1]);
    fetch(&mut leadership, 2, 7, 20, 20, 100_000);
    assert!(leadership.propose_expand(BrokerId(2), Offset(15), &Only(BrokerEpoch(8))).is_none());
    fetch(&mut leadership, 2, 8, 0, 20, 100_001);
    assert_eq!(expand(&mut leadership, 2, 15), None, "it came back with an empty disk");
    let follower = leadership.followers[0];
    assert_eq!((follower.last_caught_up_ms, follower.log_end_offset), (0, Offset(0)));
    assert!(!fetch(&mut leadership, 2, 7, 20, 20, 100_002), "a fetch of its earlier life comes late");
    assert_eq!(leadership.followers[0].log_end_offset, Offset(0));
}

#[test]
fn who_lags_leaves_and_who_lost_its_disk_at_once() {
    let mut leadership = leading(&[1, 2, 3]);
    assert_eq!(shrink(&mut leadership, 20, 10, 100_000 + LAG), None, "they have their time to fetch");
    fetch(&mut leadership, 2, -1, 20, 20, 105_000);
    assert_eq!(shrink(&mut leadership, 21, 20, 100_001 + LAG), Some(vec![1, 2]));

    let mut leadership = leading(&[1, 2, 3]);
    fetch(&mut leadership, 2, 7, 20, 20, 100_000);
    fetch(&mut leadership, 3, 7, 20, 20, 100_000);
    assert_eq!(shrink(&mut leadership, 20, 20, 100_001), None);
    fetch(&mut leadership, 3, 9, 0, 20, 100_002);
    assert_eq!(shrink(&mut leadership, 20, 20, 100_002), Some(vec![1, 2]), "3 lost what was committed");
}

#[test]
fn a_follower_at_the_log_end_does_not_lag_however_long_ago_it_fetched() {
    let mut leadership = leading(&[1, 2]);
    fetch(&mut leadership, 2, -1, 20, 20, 100_000);
    assert_eq!(shrink(&mut leadership, 20, 20, 100_000 + 5 * LAG), None);
    assert_eq!(shrink(&mut leadership, 21, 20, 100_000 + 5 * LAG), Some(vec![1]));
}

#[test]
fn while_it_is_open_the_larger_isr_holds_the_high_watermark_and_the_smaller_counts() {
    let mut leadership = leading(&[1]);
    fetch(&mut leadership, 2, 7, 15, 20, 100_000);
    expand(&mut leadership, 2, 15).expect("proposed");
    let high_watermark = |l: &Leadership, now| l.high_watermark(Offset(30), now, LAG, &Everybody).get();
    assert_eq!(high_watermark(&leadership, 100_000 + 2 * LAG), 15, "2 may be in the ISR");
    assert!(!leadership.has_min_isr(2), "2 may be not");
    let proposal = sent(&leadership);
    assert_eq!(answered(&mut leadership, &proposal, agreed(4, 8, &[1, 2])), Outcome::Committed);
    assert!(leadership.has_min_isr(2));
    assert_eq!(leadership.partition_epoch, 8);

    assert_eq!(shrink(&mut leadership, 30, 15, 100_000 + 2 * LAG), Some(vec![1]));
    assert_eq!(high_watermark(&leadership, 100_000 + 2 * LAG), 15, "2 has not left yet");
    let proposal = sent(&leadership);
    answered(&mut leadership, &proposal, agreed(4, 9, &[1]));
    assert_eq!(high_watermark(&leadership, 100_000 + 2 * LAG), 30);
}

#[test]
fn every_answer_has_its_consequence() {
    use ErrorCode::*;
    let open = || {
        let mut leadership = leading(&[1]);
        fetch(&mut leadership, 2, 7, 15, 20, 100_000);
        expand(&mut leadership, 2, 15).expect("proposed");
        let proposal = sent(&leadership);
        (leadership, proposal)
    };
    for (error, outcome, pending) in [
        (OperationNotAttempted, Outcome::Withdrawn, false),
        (IneligibleReplica, Outcome::Withdrawn, false),
        (UnknownTopicOrPartition, Outcome::Unknown, true),
        (UnknownTopicId, Outcome::Unknown, true),
        (FencedLeaderEpoch, Outcome::Unknown, true),
        (InvalidUpdateVersion, Outcome::Unknown, true),
        (InvalidRequest, Outcome::Unknown, true),
        (NewLeaderElected, Outcome::Unknown, true),
        (UnknownServerError, Outcome::Retry, true),
        (NotController, Outcome::Retry, true),
    ] {
        let (mut leadership, proposal) = open();
        assert_eq!(answered(&mut leadership, &proposal, Err(error)), outcome, "{error:?}");
        assert_eq!((leadership.pending.is_some(), leadership.isr.len()), (pending, 1), "{error:?}");
    }
    let (mut leadership, proposal) = open();
    assert_eq!(answered(&mut leadership, &proposal, agreed(5, 8, &[1, 2])), Outcome::Obsolete, "another leader");
    assert_eq!(answered(&mut leadership, &proposal, agreed(4, 6, &[1, 2])), Outcome::Obsolete, "an old answer");
    assert_eq!(answered(&mut leadership, &proposal, agreed(4, 7, &[1, 2])), Outcome::Committed, "it was so already");
    assert_eq!(answered(&mut leadership, &proposal, agreed(4, 7, &[1])), Outcome::Obsolete, "answered twice");
}

/// An attempt of the proposal is still on its way, and may be taken in although another was refused.
#[test]
fn a_refused_proposal_stays_pending_while_an_attempt_may_be_under_way() {
    for error in [ErrorCode::IneligibleReplica, ErrorCode::OperationNotAttempted] {
        let mut leadership = leading(&[1]);
        fetch(&mut leadership, 2, 7, 15, 20, 100_000);
        expand(&mut leadership, 2, 15).expect("proposed");
        let proposal = sent(&leadership);
        let lives_on = Only(BrokerEpoch(7));
        assert_eq!(leadership.isr_answered(&proposal, Err(error), Attempts::Open, &lives_on), Outcome::Retry);
        assert!(leadership.in_maximal_isr(BrokerId(2)), "it holds the high watermark");
        let is_over = Only(BrokerEpoch(8));
        assert_eq!(leadership.isr_answered(&proposal, Err(error), Attempts::Open, &is_over), Outcome::Withdrawn);
        assert!(!leadership.in_maximal_isr(BrokerId(2)), "no attempt can succeed any more");
        expand(&mut leadership, 2, 15).expect("proposed");
        let (proposal, registered_anew) = (sent(&leadership), LaterThan(ME, BrokerEpoch(50)));
        let outcome = leadership.isr_answered(&proposal, Err(error), Attempts::Open, &registered_anew);
        assert_eq!(outcome, Outcome::Withdrawn, "the leader's own life is another");
    }
}

#[test]
fn a_new_state_from_the_controller_ends_what_is_pending() {
    let mut leadership = leading(&[1]);
    fetch(&mut leadership, 2, 7, 15, 20, 100_000);
    expand(&mut leadership, 2, 15).expect("proposed");
    let proposal = sent(&leadership);
    let state = LeaderAndIsrPartitionState::default()
        .with_leader(Wire(1))
        .with_leader_epoch(5)
        .with_partition_epoch(8)
        .with_isr(vec![Wire(1), Wire(3)])
        .with_replicas(vec![Wire(1), Wire(2), Wire(3)]);
    leadership.make_leader(ME, &state, Offset(20), 100_000);
    assert!(leadership.pending.is_none());
    assert_eq!(answered(&mut leadership, &proposal, agreed(4, 8, &[1, 2])), Outcome::Obsolete);
    assert_eq!(leadership.isr.as_slice(), [BrokerId(1), BrokerId(3)]);
    assert_eq!(leadership.followers[0].log_end_offset, Offset(15), "the same leader knows where 2 was");
}

#[derive(Debug, Clone)]
enum Event {
    Fetch(i32, i64),
    Append(i64),
    Shrink,
    Pass(i64),
    Agree(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (2..4i32, 0..40i64).prop_map(|(who, behind)| Event::Fetch(who, behind)),
        2 => (1..10i64).prop_map(Event::Append),
        1 => Just(Event::Shrink),
        1 => (1..8_000i64).prop_map(Event::Pass),
        2 => any::<bool>().prop_map(Event::Agree),
    ]
}

proptest! {
    /// Nobody who may be in the ISR, by what the leader or what the controller knows, is ever behind the high watermark.
    #[test]
    fn whoever_may_be_in_sync_has_what_is_committed(events in proptest::collection::vec(event(), 1..80)) {
        let mut leadership = leading(&[1, 2, 3]);
        // What the controller has; it may have agreed without the answer having come.
        let mut agreed_isr: Vec<i32> = vec![1, 2, 3];
        let (mut end, mut high_watermark, mut now, mut partition_epoch) = (10i64, 0i64, 100_000i64, 7);
        let mut reached = std::collections::BTreeMap::from([(2, 10i64), (3, 10i64)]);
        for event in events {
            match event {
                Event::Append(n) => end += n,
                Event::Pass(ms) => now += ms,
                Event::Fetch(who, behind) => {
                    // A follower's log only grows.
                    let offset = (end - behind).max(reached[&who]);
                    reached.insert(who, offset);
                    fetch(&mut leadership, who, -1, offset, end, now);
                    expand(&mut leadership, who, high_watermark);
                }
                Event::Shrink => { shrink(&mut leadership, end, high_watermark, now); }
                Event::Agree(heard) => {
                    if leadership.pending.is_some() {
                        let proposal = sent(&leadership);
                        agreed_isr = proposal.isr.iter().map(|(id, _)| id.get()).collect();
                        if heard {
                            partition_epoch += 1;
                            answered(&mut leadership, &proposal, agreed(4, partition_epoch, &agreed_isr));
                        }
                    }
                }
            }
            let rises = leadership.high_watermark(Offset(end), now, LAG, &Everybody).get();
            high_watermark = high_watermark.max(rises);
            for id in agreed_isr.iter().filter(|id| **id != 1) {
                prop_assert!(reached[id] >= high_watermark, "{id} is at {} of {high_watermark}", reached[id]);
            }
        }
    }
}
