//! What brokers and clients ask of the controller: each request is an event that carries the way back for its answer.
//!
//! A controller that is not active, that resigns or stops drops the request, and the asker is told NOT_CONTROLLER: it
//! looks for the controller and asks again. After a write whose outcome is unknown the same happens; every request may
//! therefore come twice.

use std::collections::BTreeMap;

use kafka_protocol::messages::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionRequest, AlterPartitionResponse,
    ControlledShutdownRequest, ControlledShutdownResponse,
};
use tokio::sync::oneshot;

use super::elections::ElectionType;
use super::event::{ControllerHandle, Event};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerId, TopicPartition};
use crate::zk::znodes::topics::ReplicaAssignment;

/// The way back to who asked.
pub(super) type Answer<T> = oneshot::Sender<T>;

/// What became of one partition of a request: an error and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// [`ErrorCode::None`] if it was done.
    pub code: ErrorCode,
    /// For people.
    pub message: Option<String>,
}

impl Outcome {
    /// It was done.
    pub const DONE: Self = Self { code: ErrorCode::None, message: None };

    /// It was not.
    pub fn failed(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }
}

/// What became of each partition.
pub type Outcomes = BTreeMap<TopicPartition, Outcome>;

/// The target of each partition's reassignment; `None` ends the one under way.
pub(super) type Targets = BTreeMap<TopicPartition, Option<Vec<BrokerId>>>;

/// A request, with the version it came in where that matters.
#[derive(Debug)]
pub(super) enum Request {
    /// A leader proposes ISRs.
    AlterPartition(AlterPartitionRequest, i16, Answer<AlterPartitionResponse>),
    /// A broker wants to stop.
    ControlledShutdown(ControlledShutdownRequest, Answer<ControlledShutdownResponse>),
    /// A broker wants producer ids to give out.
    AllocateProducerIds(AllocateProducerIdsRequest, Answer<AllocateProducerIdsResponse>),
    /// A user wants leaders elected.
    ElectLeaders(ElectionType, Vec<TopicPartition>, Answer<Outcomes>),
    /// A user wants replicas elsewhere.
    AlterReassignments(Targets, Answer<Outcomes>),
    /// A user wants to know of reassignments under way, of all or of these partitions.
    ListReassignments(Option<Vec<TopicPartition>>, Answer<BTreeMap<TopicPartition, ReplicaAssignment>>),
}

impl ControllerHandle {
    /// Puts a request in the queue and waits for its answer; `None` if this broker is not the controller, or is no more.
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Option<T> {
        if !self.is_active() {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.queue.push(Event::Request(request(answer)));
        answered.await.ok()
    }

    /// A leader's proposal of ISRs (KIP-497), in its version.
    pub async fn alter_partition(&self, request: AlterPartitionRequest, version: i16) -> AlterPartitionResponse {
        let answered = self.ask(|answer| Request::AlterPartition(request, version, answer)).await;
        answered.unwrap_or_else(|| AlterPartitionResponse::default().with_error_code(NOT_CONTROLLER))
    }

    /// A broker's wish to stop: its leaderships go to others.
    pub async fn controlled_shutdown(&self, request: ControlledShutdownRequest) -> ControlledShutdownResponse {
        let answered = self.ask(|answer| Request::ControlledShutdown(request, answer)).await;
        answered.unwrap_or_else(|| ControlledShutdownResponse::default().with_error_code(NOT_CONTROLLER))
    }

    /// A block of producer ids for a broker (KIP-730).
    pub async fn allocate_producer_ids(&self, request: AllocateProducerIdsRequest) -> AllocateProducerIdsResponse {
        let answered = self.ask(|answer| Request::AllocateProducerIds(request, answer)).await;
        answered.unwrap_or_else(|| AllocateProducerIdsResponse::default().with_error_code(NOT_CONTROLLER))
    }

    /// Elects leaders of these partitions (KIP-460). `None` if this broker is not the controller.
    pub async fn elect_leaders(&self, kind: ElectionType, partitions: Vec<TopicPartition>) -> Option<Outcomes> {
        self.ask(|answer| Request::ElectLeaders(kind, partitions, answer)).await
    }

    /// Begins reassignments, or ends those without a target (KIP-455). `None` if this broker is not the controller.
    pub async fn alter_reassignments(
        &self,
        targets: BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Option<Outcomes> {
        self.ask(|answer| Request::AlterReassignments(targets, answer)).await
    }

    /// The reassignments under way, of these partitions if any are named. `None` if this broker is not the controller.
    pub async fn list_reassignments(
        &self,
        partitions: Option<Vec<TopicPartition>>,
    ) -> Option<BTreeMap<TopicPartition, ReplicaAssignment>> {
        self.ask(|answer| Request::ListReassignments(partitions, answer)).await
    }
}

const NOT_CONTROLLER: i16 = ErrorCode::NotController.code();

impl Controller {
    pub(super) async fn on_request(&mut self, request: Request) -> Result<(), ControllerError> {
        match request {
            Request::AlterPartition(request, version, to) => self.on_alter_partition(request, version, to).await,
            Request::ControlledShutdown(request, to) => self.on_controlled_shutdown(&request, to).await,
            Request::AllocateProducerIds(request, to) => self.on_allocate_producer_ids(&request, to).await,
            Request::ElectLeaders(kind, partitions, to) => {
                answer(to, self.elect_on_request(kind, partitions).await?);
                Ok(())
            }
            Request::AlterReassignments(targets, to) => {
                answer(to, self.alter_reassignments(targets).await?);
                Ok(())
            }
            Request::ListReassignments(partitions, to) => {
                answer(to, self.ctx.reassignments(partitions.as_deref()));
                Ok(())
            }
        }
    }
}

/// Answers; who asked may have gone.
pub(super) fn answer<T>(to: Answer<T>, response: T) {
    drop(to.send(response));
}
