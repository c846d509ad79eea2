//! Elections that are asked for: of preferred leaders and of leaders out of sync, by ElectLeaders (KIP-460), by the znode
//! of 2.8's tool, by a topic's configuration, and by the clock when leaderships have drifted.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};

use super::batch::Batch;
use super::election::Reason;
use super::requests::{Outcome, Outcomes};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicPartition};

/// What kind of leader is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionType {
    /// The first of the replicas.
    Preferred,
    /// Any live replica, for partitions that nobody leads.
    Unclean,
}

impl ElectionType {
    fn reason(self) -> Reason {
        match self {
            Self::Preferred => Reason::Preferred,
            Self::Unclean => Reason::Offline { unclean: true },
        }
    }

    fn nobody(self) -> ErrorCode {
        match self {
            Self::Preferred => ErrorCode::PreferredLeaderNotAvailable,
            Self::Unclean => ErrorCode::EligibleLeadersNotAvailable,
        }
    }
}

impl Controller {
    /// Elects, and tells of each partition what became of it (`KafkaController.processReplicaLeaderElection`).
    pub(super) async fn elect_on_request(
        &mut self,
        kind: ElectionType,
        partitions: Vec<TopicPartition>,
    ) -> Result<Outcomes, ControllerError> {
        let mut outcomes = Outcomes::new();
        let mut electable = BTreeSet::new();
        for tp in partitions {
            match self.refuse_election(kind, &tp) {
                Some(outcome) => drop(outcomes.insert(tp, outcome)),
                None => drop(electable.insert(tp)),
            }
        }
        let mut batch = Batch::default();
        let wanted: Vec<TopicPartition> = electable.iter().cloned().collect();
        let elected = self.elect_leaders(wanted, Some(kind.reason()), &mut batch).await?;
        self.send(batch);
        for tp in electable {
            let outcome = match elected.contains_key(&tp) {
                true => Outcome::DONE,
                false => Outcome::failed(kind.nobody(), "No replica that may lead is alive and in sync."),
            };
            outcomes.insert(tp, outcome);
        }
        Ok(outcomes)
    }

    fn refuse_election(&self, kind: ElectionType, tp: &TopicPartition) -> Option<Outcome> {
        let Some(partition) = self.ctx.partition(tp) else {
            return Some(Outcome::failed(ErrorCode::UnknownTopicOrPartition, "The partition does not exist."));
        };
        if self.ctx.is_to_be_deleted(&tp.topic) {
            return Some(Outcome::failed(ErrorCode::InvalidTopicException, "The topic is being deleted."));
        }
        let leader = partition.leadership.as_ref().map_or(BrokerId::NONE, |l| l.leader_and_isr.leader);
        let has_it = match kind {
            ElectionType::Preferred => partition.assignment.replicas.first() == Some(&leader),
            ElectionType::Unclean => self.ctx.is_live(leader),
        };
        has_it.then_some(Outcome { code: ErrorCode::ElectionNotNeeded, message: None })
    }

    /// 2.8's kafka-preferred-replica-election writes partitions into a node; the node goes once they were dealt with.
    pub(super) async fn on_preferred_election(&mut self) -> Result<(), ControllerError> {
        let Some(partitions) = self.store.preferred_election().await? else { return Ok(()) };
        info!("{} partitions shall be led by their preferred replicas", partitions.len());
        for (tp, outcome) in self.elect_on_request(ElectionType::Preferred, partitions).await? {
            if !matches!(outcome.code, ErrorCode::None | ErrorCode::ElectionNotNeeded) {
                warn!("{tp} is not led by its preferred replica: {}", outcome.code);
            }
        }
        self.store.delete_preferred_election(&self.ctx).await
    }

    /// Brokers that lead too few of the partitions that prefer them get them back
    /// (`checkAndTriggerAutoLeaderRebalance`).
    pub(super) async fn on_auto_rebalance(&mut self) -> Result<(), ControllerError> {
        let Some(rebalance) = self.config.rebalance else { return Ok(()) };
        let wanted = self.ctx.imbalanced(rebalance.percentage);
        if wanted.is_empty() {
            return Ok(());
        }
        info!("{} partitions go back to their preferred replicas", wanted.len());
        self.elect_on_request(ElectionType::Preferred, wanted).await.map(drop)
    }

    /// A topic whose configuration changed may be led by replicas out of sync from now on
    /// (`TopicUncleanLeaderElectionEnable`). What its configuration says is read where it matters.
    pub(super) async fn on_config_change(&mut self) -> Result<(), ControllerError> {
        let (next, topics) = self.store.changed_topics(self.ctx.next_config_change).await?;
        self.ctx.next_config_change = next;
        let mut batch = Batch::default();
        for topic in topics {
            self.bring_topic_online(&topic, &mut batch).await?;
        }
        self.send(batch);
        Ok(())
    }

    /// The brokers' default allows replicas out of sync to lead from now on (`UncleanLeaderElectionEnable`).
    pub(super) async fn on_unclean_leaders(&mut self) -> Result<(), ControllerError> {
        info!("unclean.leader.election.enable: looking for partitions without a leader");
        let mut batch = Batch::default();
        self.bring_leaderless_online(&mut batch).await?;
        self.send(batch);
        Ok(())
    }
}

impl super::context::Context {
    /// The partitions that are not led by their preferred replicas though these are in sync, of brokers for which more
    /// than `percentage` of their partitions are led elsewhere. None while any partition is being reassigned.
    fn imbalanced(&self, percentage: i32) -> Vec<TopicPartition> {
        let mut by_preferred: BTreeMap<BrokerId, (usize, Vec<TopicPartition>)> = BTreeMap::new();
        for (tp, partition) in self.all_partitions() {
            if partition.assignment.is_being_reassigned() {
                return Vec::new();
            }
            let preferred = partition.assignment.replicas.first();
            let (Some(preferred), Some(leadership)) = (preferred, &partition.leadership) else { continue };
            if self.is_to_be_deleted(&tp.topic) {
                continue;
            }
            let (all, elsewhere) = by_preferred.entry(*preferred).or_default();
            *all += 1;
            if leadership.leader_and_isr.leader != *preferred {
                elsewhere.push(tp);
            }
        }
        let share = f64::from(percentage) / 100.0;
        // Counts of partitions are far below what a double holds exactly.
        #[allow(clippy::cast_precision_loss)]
        by_preferred.retain(|_, (all, elsewhere)| elsewhere.len() as f64 / *all as f64 > share);
        let mut wanted = Vec::new();
        for (preferred, (_, elsewhere)) in by_preferred {
            wanted.extend(elsewhere.into_iter().filter(|tp| self.may_lead(preferred, tp)));
        }
        wanted
    }

    fn may_lead(&self, broker: BrokerId, tp: &TopicPartition) -> bool {
        let leadership = self.partition(tp).and_then(|partition| partition.leadership.as_ref());
        leadership.is_some_and(|l| l.leader_and_isr.isr.contains(&broker))
            && self.is_trusted(broker)
            && self.is_replica_online(broker, tp)
    }
}
