//! The loop of one fetcher: asks its state what to do, does it over the network, hands the answer back. The lock of the
//! state is never held across an await; an append happens under it, so that a partition that was taken away is not
//! written to any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::leader::LeaderEndpoint;
use super::session::{FetchSession, Wanted};
use super::state::{FetcherState, NewPartition, Question, Step};
use super::versions::FetchVersions;
use super::wire::{self, FetchLimits};
use crate::base::error::ErrorCode;
use crate::base::ids::{BrokerEpoch, BrokerId, Offset, TopicPartition};

/// Asks for the log end.
const LATEST: i64 = -1;
/// Asks for the log start.
const EARLIEST: i64 = -2;

/// What one fetcher works with.
pub struct FetcherSettings {
    /// Sizes and waits.
    pub limits: FetchLimits,
    /// Versions of the requests.
    pub versions: FetchVersions,
    /// The epoch of this broker's registration, which changes with its session.
    pub broker_epoch: Arc<AtomicI64>,
}

/// One fetcher, shared by its task and by those who give and take partitions.
pub struct Fetcher {
    state: Mutex<FetcherState>,
    changed: Notify,
    stopped: AtomicBool,
}

impl Fetcher {
    /// A fetcher without partitions.
    pub fn new(state: FetcherState) -> Self {
        Self { state: Mutex::new(state), changed: Notify::new(), stopped: AtomicBool::new(false) }
    }

    /// Follows these too.
    pub fn add(&self, partitions: Vec<(TopicPartition, NewPartition)>) {
        let mut state = self.state.lock();
        partitions.into_iter().for_each(|(tp, new)| state.add(&tp, new));
        drop(state);
        self.changed.notify_one();
    }

    /// Leaves a partition alone: once this returns its log is not written to any more.
    pub fn remove(&self, tp: &TopicPartition) {
        self.state.lock().remove(tp);
    }

    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.state.lock().is_empty()
    }

    /// Ends the task; once this returns no log is written to any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.state.lock().clear();
        self.changed.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// The running of one fetcher.
pub(super) struct Task {
    pub fetcher: Arc<Fetcher>,
    pub leader: BrokerId,
    pub endpoint: Box<dyn LeaderEndpoint>,
    pub settings: Arc<FetcherSettings>,
    pub session: FetchSession,
    /// Delays are counted from here.
    pub start: Instant,
    /// Whether the last request failed, so that a dead leader is told of once.
    pub failing: bool,
}

impl Task {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Runs until the fetcher is stopped.
    pub async fn run(mut self) {
        while !self.fetcher.is_stopped() {
            // What came before this look is seen by it.
            let _ = self.fetcher.changed.notified().now_or_never();
            let step = self.fetcher.state.lock().step(self.now_ms());
            match step {
                Step::Idle => self.fetcher.changed.notified().await,
                Step::Wait(until) => self.wait(until).await,
                Step::AskEpochs(questions) => self.ask_epochs(questions).await,
                Step::AskOffsets(questions) => self.ask_offsets(questions).await,
                Step::Fetch(wanted) => self.fetch(wanted).await,
            }
        }
        debug!("the fetcher from broker {} has ended", self.leader);
    }

    async fn wait(&self, until_ms: i64) {
        let until = self.start + Duration::from_millis(u64::try_from(until_ms).unwrap_or(0));
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => {}
            () = self.fetcher.changed.notified() => {}
        }
    }

    async fn fetch(&mut self, wanted: BTreeMap<TopicPartition, Wanted>) {
        let request = self.session.build(wanted.clone());
        let epoch = BrokerEpoch(self.settings.broker_epoch.load(Ordering::SeqCst));
        let settings = &self.settings;
        let (request, version) = wire::fetch_request(&settings.limits, epoch, request, settings.versions.fetch);
        let answer = tokio::select! {
            biased;
            answer = self.endpoint.fetch(request, version) => Some(answer),
            // Partitions came that need not wait until this fetch has waited long enough.
            () = self.fetcher.changed.notified() => None,
        };
        let Some(answer) = answer else {
            self.endpoint.reset();
            self.session.failed();
            return;
        };
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                self.session.failed();
                return self.request_failed(wanted.keys(), &error);
            }
        };
        let (error, session_id) = (ErrorCode::from_code(response.error_code), response.session_id);
        let found = wire::fetch_response(response, version, &wanted);
        let names: BTreeSet<TopicPartition> = found.keys().cloned().collect();
        if !self.session.answered(error, session_id, &names) {
            // Lost sessions are begun anew at once; what is wrong with the request itself takes time to become right.
            let lost = matches!(
                error,
                ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch | ErrorCode::None
            );
            if !lost {
                self.request_failed(wanted.keys(), error.message());
            }
            return;
        }
        self.answered();
        let now_ms = self.now_ms();
        let mut state = self.fetcher.state.lock();
        for (tp, fetched) in found {
            if let Some(asked) = wanted.get(&tp) {
                state.fetched(&tp, asked, fetched, now_ms);
            }
        }
    }

    async fn ask_epochs(&mut self, questions: Vec<Question>) {
        let request = wire::epochs_request(self.settings.limits.me, &questions);
        let answer = self.endpoint.offsets_for_leader_epoch(request, self.settings.versions.epochs).await;
        let mut found = match answer {
            Ok(response) => wire::epochs_response(response),
            Err(error) => return self.request_failed(questions.iter().map(|q| &q.topic_partition), &error),
        };
        self.answered();
        let now_ms = self.now_ms();
        let mut state = self.fetcher.state.lock();
        for question in &questions {
            let answer = found.remove(&question.topic_partition).unwrap_or(Err(ErrorCode::UnknownServerError));
            state.epoch_ends(question, answer, now_ms);
        }
    }

    /// The end is asked for before the start: a leader that moves on in between then only looks longer than it was.
    async fn ask_offsets(&mut self, questions: Vec<Question>) {
        let mut answers = Vec::new();
        for timestamp in [LATEST, EARLIEST] {
            let request = wire::list_offsets_request(self.settings.limits.me, &questions, timestamp);
            match self.endpoint.list_offsets(request, self.settings.versions.list_offsets).await {
                Ok(response) => answers.push(wire::list_offsets_response(response)),
                Err(error) => return self.request_failed(questions.iter().map(|q| &q.topic_partition), &error),
            }
        }
        self.answered();
        let now_ms = self.now_ms();
        let mut state = self.fetcher.state.lock();
        for question in &questions {
            let mut of = |at: usize| -> Result<Offset, ErrorCode> {
                answers[at].remove(&question.topic_partition).unwrap_or(Err(ErrorCode::UnknownServerError))
            };
            let (end, start) = (of(0), of(1));
            state.located(question, start.and_then(|start| Ok((start, end?))), now_ms);
        }
    }

    fn answered(&mut self) {
        if std::mem::take(&mut self.failing) {
            info!("broker {} answers fetches again", self.leader);
        }
    }

    fn request_failed<'a>(&mut self, asked: impl IntoIterator<Item = &'a TopicPartition>, why: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!("fetching from broker {} fails: {why}", self.leader);
        }
        let now_ms = self.now_ms();
        self.fetcher.state.lock().request_failed(asked, now_ms);
    }
}
