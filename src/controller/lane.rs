//! What waits to be told to one broker. Bounded: a request is merged with one of its kind that was not sent yet, so that a
//! broker that does not answer has each partition in its queue about once, however often its state changes.
//!
//! A broker must end in the state that the controller decided on last. Requests about different partitions commute, and so
//! do LeaderAndIsr and UpdateMetadata; LeaderAndIsr and StopReplica of the same partition do not, and are kept in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kafka_protocol::messages::leader_and_isr_request::LeaderAndIsrTopicState;
use kafka_protocol::messages::stop_replica_request::StopReplicaTopicState;
use kafka_protocol::messages::update_metadata_request::{UpdateMetadataBroker, UpdateMetadataTopicState};
use kafka_protocol::messages::{LeaderAndIsrRequest, StopReplicaRequest, UpdateMetadataRequest};

use super::channels::ControlRequest;

/// A partition in a request.
type Named<'a> = (&'a str, i32);

/// One broker's queue.
#[derive(Debug, Default)]
pub(super) struct Pending {
    requests: VecDeque<ControlRequest>,
    /// The live brokers that were last put in.
    live_brokers: Vec<UpdateMetadataBroker>,
    /// Whether one was taken out and the next not asked for yet.
    under_way: bool,
    /// That one, if it stops replicas.
    stopping: Option<StopReplicaRequest>,
}

impl Pending {
    /// Adds a request behind all that it must not overtake, merged if it can be.
    pub(super) fn push(&mut self, request: ControlRequest) {
        match request {
            ControlRequest::LeaderAndIsr(new) => self.push_leader_and_isr(new),
            ControlRequest::UpdateMetadata(new) => self.push_update_metadata(new),
            ControlRequest::StopReplica(new) => self.push_stop_replica(new),
        }
    }

    /// The next one to send, once the one before was answered.
    pub(super) fn pop(&mut self) -> Option<ControlRequest> {
        let next = self.requests.pop_front();
        self.under_way = next.is_some();
        self.stopping = match &next {
            Some(ControlRequest::StopReplica(request)) => Some(request.clone()),
            _ => None,
        };
        next
    }

    /// Empties the queue and answers which replicas the broker was to stop, as far as it has not answered.
    pub(super) fn take_stops(&mut self) -> Option<StopReplicaRequest> {
        let waiting = self.requests.drain(..).filter_map(|request| match request {
            ControlRequest::StopReplica(request) => Some(request),
            ControlRequest::LeaderAndIsr(_) | ControlRequest::UpdateMetadata(_) => None,
        });
        self.stopping.take().into_iter().chain(waiting).reduce(merge_stop_replica)
    }

    /// Whether all that was put in was sent and answered.
    pub(super) fn is_idle(&self) -> bool {
        !self.under_way && self.requests.is_empty()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.requests.len()
    }

    fn push_leader_and_isr(&mut self, new: LeaderAndIsrRequest) {
        let named = leader_and_isr_names(&new);
        for waiting in self.requests.iter_mut().rev() {
            match waiting {
                ControlRequest::LeaderAndIsr(old) => return merge_leader_and_isr(old, new),
                ControlRequest::StopReplica(old) if !stop_replica_names(old).is_disjoint(&named) => break,
                ControlRequest::StopReplica(_) | ControlRequest::UpdateMetadata(_) => {}
            }
        }
        self.requests.push_back(ControlRequest::LeaderAndIsr(new));
    }

    /// Partitions go to the end: metadata that comes late is asked for again, a leader that does not know yet that it leads
    /// refuses. News of live brokers go to the front: a JVM broker follows no leader of whom it was not told that it lives
    /// (`ReplicaManager.makeFollowers`).
    fn push_update_metadata(&mut self, new: UpdateMetadataRequest) {
        if new.topic_states.is_empty() || new.live_brokers != self.live_brokers {
            self.push_live_brokers(new.clone().with_topic_states(Vec::new()));
        }
        if new.topic_states.is_empty() {
            return;
        }
        let of_partitions = |request: &ControlRequest| match request {
            ControlRequest::UpdateMetadata(request) => !request.topic_states.is_empty(),
            _ => false,
        };
        let waiting = self.requests.iter().position(of_partitions);
        let merged = match waiting.and_then(|at| self.requests.remove(at)) {
            Some(ControlRequest::UpdateMetadata(old)) => merge_update_metadata(old, new),
            _ => new,
        };
        self.requests.push_back(ControlRequest::UpdateMetadata(merged));
    }

    fn push_live_brokers(&mut self, new: UpdateMetadataRequest) {
        self.live_brokers.clone_from(&new.live_brokers);
        for request in &mut self.requests {
            if let ControlRequest::UpdateMetadata(waiting) = request {
                waiting.live_brokers.clone_from(&new.live_brokers);
            }
        }
        match self.requests.front_mut() {
            Some(ControlRequest::UpdateMetadata(first)) if first.topic_states.is_empty() => *first = new,
            _ => self.requests.push_front(ControlRequest::UpdateMetadata(new)),
        }
    }

    fn push_stop_replica(&mut self, new: StopReplicaRequest) {
        let named = stop_replica_names(&new);
        for waiting in self.requests.iter_mut().rev() {
            match waiting {
                ControlRequest::StopReplica(old) => {
                    *old = merge_stop_replica(std::mem::take(old), new);
                    return;
                }
                ControlRequest::LeaderAndIsr(old) if !leader_and_isr_names(old).is_disjoint(&named) => break,
                ControlRequest::LeaderAndIsr(_) | ControlRequest::UpdateMetadata(_) => {}
            }
        }
        self.requests.push_back(ControlRequest::StopReplica(new));
    }
}

fn leader_and_isr_names(request: &LeaderAndIsrRequest) -> BTreeSet<Named<'_>> {
    let topics = request.topic_states.iter();
    topics.flat_map(|t| t.partition_states.iter().map(|p| (t.topic_name.0.as_str(), p.partition_index))).collect()
}

fn stop_replica_names(request: &StopReplicaRequest) -> BTreeSet<Named<'_>> {
    let topics = request.topic_states.iter();
    topics.flat_map(|t| t.partition_states.iter().map(|p| (t.topic_name.0.as_str(), p.partition_index))).collect()
}

/// Puts the partitions of `new` in the place of the same ones of `old`, and the others beside them.
fn overlay<P>(old: &mut Vec<P>, new: Vec<P>, number: impl Fn(&P) -> i32, join: impl Fn(&P, &mut P)) {
    let mut by_number: BTreeMap<i32, P> = old.drain(..).map(|partition| (number(&partition), partition)).collect();
    for mut partition in new {
        if let Some(before) = by_number.get(&number(&partition)) {
            join(before, &mut partition);
        }
        by_number.insert(number(&partition), partition);
    }
    old.extend(by_number.into_values());
}

/// The newer state counts. A replica that was never told it is new still has to hear it.
fn merge_leader_and_isr(old: &mut LeaderAndIsrRequest, mut new: LeaderAndIsrRequest) {
    let mut topics: BTreeMap<String, LeaderAndIsrTopicState> =
        old.topic_states.drain(..).map(|topic| (topic.topic_name.0.to_string(), topic)).collect();
    for topic in std::mem::take(&mut new.topic_states) {
        match topics.get_mut(topic.topic_name.0.as_str()).filter(|before| before.topic_id == topic.topic_id) {
            Some(before) => {
                overlay(
                    &mut before.partition_states,
                    topic.partition_states,
                    |p| p.partition_index,
                    |before, after| {
                        after.is_new |= before.is_new;
                    },
                );
            }
            // Another topic of the same name.
            None => drop(topics.insert(topic.topic_name.0.to_string(), topic)),
        }
    }
    let mut leaders: BTreeMap<i32, _> = old.live_leaders.drain(..).map(|leader| (leader.broker_id.0, leader)).collect();
    leaders.extend(new.live_leaders.drain(..).map(|leader| (leader.broker_id.0, leader)));
    *old = new.with_topic_states(topics.into_values().collect()).with_live_leaders(leaders.into_values().collect());
}

fn merge_update_metadata(old: UpdateMetadataRequest, new: UpdateMetadataRequest) -> UpdateMetadataRequest {
    let mut topics: BTreeMap<String, UpdateMetadataTopicState> =
        old.topic_states.into_iter().map(|topic| (topic.topic_name.0.to_string(), topic)).collect();
    for topic in &new.topic_states {
        match topics.get_mut(topic.topic_name.0.as_str()).filter(|before| before.topic_id == topic.topic_id) {
            Some(before) => {
                let states = topic.partition_states.clone();
                overlay(&mut before.partition_states, states, |p| p.partition_index, |_, _| {});
            }
            None => drop(topics.insert(topic.topic_name.0.to_string(), topic.clone())),
        }
    }
    new.with_topic_states(topics.into_values().collect())
}

/// A replica that is to be deleted stays so; the newer leader epoch counts.
pub(super) fn merge_stop_replica(mut old: StopReplicaRequest, new: StopReplicaRequest) -> StopReplicaRequest {
    let mut topics: BTreeMap<String, StopReplicaTopicState> =
        old.topic_states.drain(..).map(|topic| (topic.topic_name.0.to_string(), topic)).collect();
    for topic in new.topic_states {
        match topics.get_mut(topic.topic_name.0.as_str()) {
            Some(before) => {
                overlay(
                    &mut before.partition_states,
                    topic.partition_states,
                    |p| p.partition_index,
                    |before, after| {
                        after.delete_partition |= before.delete_partition;
                    },
                );
            }
            None => drop(topics.insert(topic.topic_name.0.to_string(), topic)),
        }
    }
    old.with_topic_states(topics.into_values().collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::leader_and_isr_request::LeaderAndIsrPartitionState;
    use kafka_protocol::messages::stop_replica_request::StopReplicaPartitionState;
    use kafka_protocol::messages::update_metadata_request::UpdateMetadataPartitionState;

    use super::*;
    use crate::controller::batch::wire_topic;

    fn leads(partition: i32, epoch: i32, is_new: bool) -> ControlRequest {
        let state = LeaderAndIsrPartitionState::default()
            .with_partition_index(partition)
            .with_leader_epoch(epoch)
            .with_is_new(is_new);
        let topic =
            LeaderAndIsrTopicState::default().with_topic_name(wire_topic("t")).with_partition_states(vec![state]);
        ControlRequest::LeaderAndIsr(LeaderAndIsrRequest::default().with_topic_states(vec![topic]))
    }

    fn metadata(partition: i32, epoch: i32) -> ControlRequest {
        let state = UpdateMetadataPartitionState::default().with_partition_index(partition).with_leader_epoch(epoch);
        let topic =
            UpdateMetadataTopicState::default().with_topic_name(wire_topic("t")).with_partition_states(vec![state]);
        ControlRequest::UpdateMetadata(UpdateMetadataRequest::default().with_topic_states(vec![topic]))
    }

    fn stops(partition: i32, delete: bool) -> ControlRequest {
        let state = StopReplicaPartitionState::default().with_partition_index(partition).with_delete_partition(delete);
        let topic =
            StopReplicaTopicState::default().with_topic_name(wire_topic("t")).with_partition_states(vec![state]);
        ControlRequest::StopReplica(StopReplicaRequest::default().with_topic_states(vec![topic]))
    }

    /// Each request in short: its kind, and partition:epoch with `new` or `delete`.
    fn drain(mut pending: Pending) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(request) = pending.pop() {
            let parts: Vec<String> = match &request {
                ControlRequest::LeaderAndIsr(request) => {
                    let states = request.topic_states.iter().flat_map(|t| &t.partition_states);
                    states.map(|p| format!("{}:{}:{}", p.partition_index, p.leader_epoch, p.is_new)).collect()
                }
                ControlRequest::UpdateMetadata(request) => {
                    let states = request.topic_states.iter().flat_map(|t| &t.partition_states);
                    states.map(|p| format!("{}:{}", p.partition_index, p.leader_epoch)).collect()
                }
                ControlRequest::StopReplica(request) => {
                    let states = request.topic_states.iter().flat_map(|t| &t.partition_states);
                    states.map(|p| format!("{}:{}", p.partition_index, p.delete_partition)).collect()
                }
            };
            seen.push(format!("{} {}", request.name(), parts.join(" ")));
        }
        seen
    }

    #[test]
    fn what_was_not_sent_is_merged_and_the_newer_counts() {
        let mut pending = Pending::default();
        for request in [leads(0, 1, true), metadata(0, 1), leads(1, 1, false), metadata(1, 1), leads(0, 2, false)] {
            pending.push(request);
        }
        pending.push(metadata(0, 2));
        assert_eq!(drain(pending), ["LeaderAndIsr 0:2:true 1:1:false", "UpdateMetadata 0:2 1:1"]);
    }

    #[test]
    fn a_partition_is_stopped_and_led_in_the_order_decided() {
        let mut pending = Pending::default();
        for request in [leads(0, 1, false), stops(0, true), leads(0, 2, true), leads(1, 5, false), stops(2, false)] {
            pending.push(request);
        }
        let expected = ["LeaderAndIsr 0:1:false", "StopReplica 0:true 2:false", "LeaderAndIsr 0:2:true 1:5:false"];
        assert_eq!(drain(pending), expected);
    }

    #[test]
    fn who_lives_is_told_before_who_leads() {
        let mut pending = Pending::default();
        let with = |request: ControlRequest, ids: &[i32]| match request {
            ControlRequest::UpdateMetadata(request) => {
                let brokers = ids.iter().map(|id| UpdateMetadataBroker::default().with_id((*id).into()));
                ControlRequest::UpdateMetadata(request.with_live_brokers(brokers.collect()))
            }
            other => other,
        };
        let nothing = || ControlRequest::UpdateMetadata(UpdateMetadataRequest::default());
        pending.push(with(nothing(), &[1]));
        pending.push(leads(0, 1, true));
        pending.push(with(metadata(0, 1), &[1]));
        pending.push(leads(1, 1, true));
        pending.push(with(metadata(1, 1), &[1, 2]));
        for request in &pending.requests {
            if let ControlRequest::UpdateMetadata(request) = request {
                assert_eq!(request.live_brokers.len(), 2, "the newest list in each");
            }
        }
        let expected = ["UpdateMetadata ", "LeaderAndIsr 0:1:true 1:1:true", "UpdateMetadata 0:1 1:1"];
        assert_eq!(drain(pending), expected);
    }

    #[test]
    fn what_was_to_be_stopped_outlives_the_queue() {
        let mut pending = Pending::default();
        for request in [stops(0, true), leads(1, 1, false), metadata(1, 1), leads(0, 2, true), stops(0, false)] {
            pending.push(request);
        }
        pending.push(stops(2, false));
        assert!(matches!(pending.pop(), Some(ControlRequest::StopReplica(_))), "under way");
        let mut again = Pending::default();
        again.push(ControlRequest::StopReplica(pending.take_stops().expect("some")));
        assert_eq!((drain(again), drain(pending).len()), (vec!["StopReplica 0:true 2:false".to_owned()], 0));

        let mut answered = Pending::default();
        answered.push(stops(0, true));
        while answered.pop().is_some() {}
        assert_eq!(answered.take_stops(), None);
    }

    #[test]
    fn a_silent_brokers_queue_does_not_grow() {
        let mut pending = Pending::default();
        for epoch in 0..1000 {
            pending.push(leads(epoch % 3, epoch, false));
            pending.push(metadata(epoch % 3, epoch));
            pending.push(stops(9, epoch % 2 == 0));
        }
        assert_eq!(pending.len(), 3);
        let expected = [
            "LeaderAndIsr 0:999:false 1:997:false 2:998:false",
            "StopReplica 9:true",
            "UpdateMetadata 0:999 1:997 2:998",
        ];
        assert_eq!(drain(pending), expected);
    }
}
