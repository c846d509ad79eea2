//! A member of a group, and the JoinGroup that makes one.

use std::sync::Arc;

use bytes::Bytes;

use super::effect::Ticket;

/// A member's id, and other short names of groups: shared, as answers carry them.
pub type MemberId = Arc<str>;

/// One way to assign partitions that a member supports, with what it says to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// Its name, for consumers the assignor's.
    pub name: Arc<str>,
    /// For consumers, the subscription. Owned: it must not hold a request's frame in memory.
    pub metadata: Bytes,
}

/// A JoinGroup request, free of wire versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The id the coordinator gave out before; empty for none.
    pub member_id: MemberId,
    /// The id the coordinator would give out now. Drawn by the caller, as a group knows no randomness.
    pub new_member_id: MemberId,
    /// `group.instance.id` of a static member (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// The client's address as Java writes it.
    pub client_host: Arc<str>,
    /// How long members may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// How long the member may stay silent.
    pub session_timeout_ms: i32,
    /// The type of protocol.
    pub protocol_type: Arc<str>,
    /// What it supports, the most wished for first, each name once.
    pub protocols: Vec<Protocol>,
    /// Whether a new member is sent back to join again with its id (KIP-394).
    pub require_known_member_id: bool,
    /// Whether the client understands `SkipAssignment` (KIP-814).
    pub supports_skip_assignment: bool,
    /// Why it joins, in the client's words (KIP-800).
    pub reason: Option<Arc<str>>,
}

/// One member. Waits for at most one answer of each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id the coordinator gave it.
    pub id: MemberId,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// The client's address as Java writes it.
    pub client_host: Arc<str>,
    /// How long it may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// How long it may stay silent.
    pub session_timeout_ms: i32,
    /// What it supports, the most wished for first.
    pub protocols: Vec<Protocol>,
    /// What the leader assigned to it.
    pub assignment: Bytes,
    /// The JoinGroup that waits for the rebalance.
    pub awaiting_join: Option<Ticket>,
    /// The SyncGroup that waits for the leader.
    pub awaiting_sync: Option<Ticket>,
    /// Whether it has never been told its id, so that it cannot send heartbeats yet.
    pub is_new: bool,
    /// When it is taken for dead, unless it waits for us.
    pub session_deadline: i64,
}

impl Member {
    /// The member that `request` makes, under `id`.
    pub fn new(id: MemberId, request: &JoinRequest) -> Self {
        Self {
            id,
            group_instance_id: request.group_instance_id.clone(),
            client_id: Arc::clone(&request.client_id),
            client_host: Arc::clone(&request.client_host),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            session_deadline: i64::MAX,
        }
    }

    /// Whether it carries a `group.instance.id`.
    pub fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    /// What it said for `protocol`; `None` if it does not support it.
    pub fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|p| &*p.name == protocol).map(|p| &p.metadata)
    }

    /// The protocol it likes best among those for which `is_candidate` holds.
    pub fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
        self.protocols.iter().map(|p| &p.name).find(|name| is_candidate(name))
    }

    /// When silence ends its membership. Those who wait for an answer of ours cannot send heartbeats, so they stay; but
    /// new ones do not wait for ever, as nobody notices when their connection is gone.
    pub fn expires_at(&self) -> Option<i64> {
        let waits = self.awaiting_join.is_some() || self.awaiting_sync.is_some();
        (self.is_new || !waits).then_some(self.session_deadline)
    }
}
