//! Incremental fetch sessions (KIP-227): a client names its partitions once and then sends only changes, and gets only
//! changes back. Owns the sessions, their ids and epochs, and who is evicted when all slots are taken; `session` owns what
//! one session remembers. Decides over plain data: time is passed in, nothing here reads a log.
//!
//! Invariants: no more sessions than slots; no session above [`MAX_SESSION_PARTITIONS`]; a session's epoch names the one
//! request that may use it next.

mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use session::SessionState;
pub use session::{FetchTarget, Outline};

use crate::base::error::ErrorCode;
use crate::base::ids::TopicId;

/// A session that has not been used for so long, in ms, gives way to any other (`FetchSession.scala`, eviction time).
const EVICTION_MS: i64 = 120_000;

/// A fetch of more partitions than this gets no session: it bounds what one client makes the broker remember.
pub const MAX_SESSION_PARTITIONS: usize = 100_000;

/// All sessions together remember no more partitions than this, a few hundred bytes each.
pub const MAX_REMEMBERED_PARTITIONS: usize = 1_000_000;

/// "No session" on the wire.
pub const NO_SESSION: i32 = 0;

/// The epoch of a full fetch that asks for a session.
const INITIAL_EPOCH: i32 = 0;

/// The epoch of a full fetch that wants none, or ends one.
const FINAL_EPOCH: i32 = -1;

/// The first request version that names topics by id.
pub const FIRST_TOPIC_ID_VERSION: i16 = 13;

/// The epoch that follows: wraps to 1, never to 0.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// The part of a Fetch request that sessions look at, already free of the frame.
#[derive(Debug, Default)]
pub struct FetchSpec {
    /// The request's version.
    pub version: i16,
    /// The session's id, or [`NO_SESSION`].
    pub session_id: i32,
    /// The session's epoch; -1 for versions before 7.
    pub session_epoch: i32,
    /// Whether a broker asks: its sessions are evicted last.
    pub from_follower: bool,
    /// The partitions in the request.
    pub targets: Vec<FetchTarget>,
    /// Partitions to drop from the session: name or id, and number.
    pub forgotten: Vec<(Arc<str>, TopicId, i32)>,
}

/// How one request is to be served: what to read, and how to answer.
#[derive(Debug)]
pub struct FetchContext {
    kind: Kind,
    /// What to read, in the order in which partitions take their share of the answer.
    pub targets: Vec<FetchTarget>,
}

#[derive(Debug)]
enum Kind {
    Sessionless,
    Full { uses_topic_ids: bool, from_follower: bool },
    Incremental { session: Arc<Session>, epoch: i32 },
}

/// What goes into the head of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The session the client may go on with.
    pub session_id: i32,
    /// An error for the whole request.
    pub error: ErrorCode,
}

#[derive(Debug)]
struct Session {
    id: i32,
    from_follower: bool,
    uses_topic_ids: bool,
    created_ms: i64,
    last_used_ms: AtomicI64,
    size: AtomicUsize,
    /// Held while one request is taken in or answered, never while it waits.
    state: Mutex<SessionState>,
}

/// All sessions of this broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    sessions: Mutex<HashMap<i32, Arc<Session>>>,
}

impl FetchSessions {
    /// A cache of at most `slots` sessions, `max.incremental.fetch.session.cache.slots`.
    pub fn new(slots: usize) -> Self {
        Self { slots, sessions: Mutex::new(HashMap::new()) }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in a request (`FetchManager.newContext`). An error answers the whole request.
    pub fn begin(&self, spec: FetchSpec, now_ms: i64) -> Result<FetchContext, ErrorCode> {
        if spec.session_epoch == INITIAL_EPOCH || spec.session_epoch == FINAL_EPOCH {
            return Ok(self.begin_full(spec));
        }
        let session = self.sessions.lock().get(&spec.session_id).cloned();
        let session = session.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        self.begin_incremental(session, spec, now_ms)
    }

    fn begin_full(&self, spec: FetchSpec) -> FetchContext {
        if spec.session_id != NO_SESSION {
            self.sessions.lock().remove(&spec.session_id);
        }
        let kind = if spec.session_epoch == FINAL_EPOCH {
            Kind::Sessionless
        } else {
            let uses_topic_ids = spec.version >= FIRST_TOPIC_ID_VERSION;
            Kind::Full { uses_topic_ids, from_follower: spec.from_follower }
        };
        FetchContext { kind, targets: spec.targets }
    }

    fn begin_incremental(
        &self,
        session: Arc<Session>,
        spec: FetchSpec,
        now_ms: i64,
    ) -> Result<FetchContext, ErrorCode> {
        let mut state = session.state.lock();
        if state.epoch != spec.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != (spec.version >= FIRST_TOPIC_ID_VERSION) {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        state.update(&spec.targets, &spec.forgotten);
        let size = state.len();
        if size == 0 {
            drop(state);
            self.sessions.lock().remove(&session.id);
            return Ok(FetchContext { kind: Kind::Sessionless, targets: spec.targets });
        }
        if size > session.size.load(Ordering::Relaxed) && !self.may_grow_to(&session, size) {
            drop(state);
            self.sessions.lock().remove(&session.id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        state.epoch = next_epoch(state.epoch);
        let (epoch, targets) = (state.epoch, state.targets());
        drop(state);
        session.size.store(size, Ordering::Relaxed);
        session.last_used_ms.store(now_ms, Ordering::Relaxed);
        Ok(FetchContext { kind: Kind::Incremental { session, epoch }, targets })
    }

    /// Decides what of `outlines` (one for each target, in their order) goes into the answer; `keep[i]` becomes false
    /// where an incremental answer leaves a partition out. Remembers what the client will know after it.
    pub fn finish(&self, context: FetchContext, outlines: &[Outline], keep: &mut [bool], now_ms: i64) -> Answer {
        let ok = |session_id| Answer { session_id, error: ErrorCode::None };
        match context.kind {
            Kind::Sessionless => ok(NO_SESSION),
            Kind::Full { uses_topic_ids, from_follower } => {
                let state = || SessionState::new(uses_topic_ids, &context.targets, outlines);
                ok(self.maybe_create(context.targets.len(), uses_topic_ids, from_follower, now_ms, state))
            }
            Kind::Incremental { session, epoch } => {
                let mut state = session.state.lock();
                if state.epoch != epoch {
                    return Answer { session_id: session.id, error: ErrorCode::InvalidFetchSessionEpoch };
                }
                state.answer(&context.targets, outlines, keep);
                ok(session.id)
            }
        }
    }

    fn may_grow_to(&self, session: &Session, size: usize) -> bool {
        let others = remembered(&self.sessions.lock()).saturating_sub(session.size.load(Ordering::Relaxed));
        size <= MAX_SESSION_PARTITIONS && others + size <= MAX_REMEMBERED_PARTITIONS
    }

    /// Makes a session if there is a slot or somebody may be evicted (`FetchSessionCache.maybeCreateSession`); an empty
    /// request, or one that is too large, gets none.
    fn maybe_create(
        &self,
        size: usize,
        uses_topic_ids: bool,
        from_follower: bool,
        now_ms: i64,
        state: impl FnOnce() -> SessionState,
    ) -> i32 {
        if size == 0 || size > MAX_SESSION_PARTITIONS || self.slots == 0 {
            return NO_SESSION;
        }
        let mut sessions = self.sessions.lock();
        if remembered(&sessions) + size > MAX_REMEMBERED_PARTITIONS {
            return NO_SESSION;
        }
        if sessions.len() >= self.slots {
            let Some(victim) = evictable(&sessions, from_follower, size, now_ms) else { return NO_SESSION };
            sessions.remove(&victim);
        }
        let mut id = rand::random_range(1..=i32::MAX);
        while sessions.contains_key(&id) {
            id = rand::random_range(1..=i32::MAX);
        }
        let session = Session {
            id,
            from_follower,
            uses_topic_ids,
            created_ms: now_ms,
            last_used_ms: AtomicI64::new(now_ms),
            size: AtomicUsize::new(size),
            state: Mutex::new(state()),
        };
        sessions.insert(id, Arc::new(session));
        id
    }
}

fn remembered(sessions: &HashMap<i32, Arc<Session>>) -> usize {
    sessions.values().map(|session| session.size.load(Ordering::Relaxed)).sum()
}

/// Who gives way to a new session of `size` partitions: first one that has long been idle; else the smallest of those
/// that may be evicted by it, if that one is smaller. A follower's session is evicted by consumers never within its
/// first [`EVICTION_MS`], a consumer's within that time only by followers.
fn evictable(sessions: &HashMap<i32, Arc<Session>>, from_follower: bool, size: usize, now_ms: i64) -> Option<i32> {
    let idle = |s: &Session| now_ms - s.last_used_ms.load(Ordering::Relaxed);
    let oldest = sessions.values().max_by_key(|s| idle(s))?;
    if idle(oldest) > EVICTION_MS {
        return Some(oldest.id);
    }
    let may_go = |s: &Session| now_ms - s.created_ms > EVICTION_MS || (from_follower && !s.from_follower);
    let rank = |s: &Session| (s.from_follower, s.size.load(Ordering::Relaxed));
    let victim = sessions.values().filter(|s| may_go(s)).min_by_key(|s| rank(s))?;
    ((from_follower, size) > rank(victim)).then_some(victim.id)
}

#[cfg(test)]
mod tests;
