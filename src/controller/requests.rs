//! What brokers and clients ask of the controller: each request is an event that carries the way back for its answer.
//!
//! A controller that is not active, that resigns or stops drops the request, and the asker is told NOT_CONTROLLER: it
//! looks for the controller and asks again. After a write whose outcome is unknown the same happens; every request may
//! therefore come twice.

use kafka_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use tokio::sync::oneshot;

use super::event::{ControllerHandle, Event};
use super::run::Controller;
use super::store::ControllerError;
use crate::base::error::ErrorCode;

/// The way back to who asked.
pub(super) type Answer<T> = oneshot::Sender<T>;

/// A request, with the version it came in where that matters.
#[derive(Debug)]
pub(super) enum Request {
    /// A leader proposes ISRs.
    AlterPartition(AlterPartitionRequest, i16, Answer<AlterPartitionResponse>),
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
        answered.unwrap_or_else(|| AlterPartitionResponse::default().with_error_code(ErrorCode::NotController.code()))
    }
}

impl Controller {
    pub(super) async fn on_request(&mut self, request: Request) -> Result<(), ControllerError> {
        match request {
            Request::AlterPartition(request, version, answer) => {
                self.on_alter_partition(request, version, answer).await
            }
        }
    }
}

/// Answers; who asked may have gone.
pub(super) fn answer<T>(to: Answer<T>, response: T) {
    drop(to.send(response));
}
