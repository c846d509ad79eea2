use bytes::Bytes;

use super::*;
use crate::coordinator::group::config::GroupConfig;
use crate::coordinator::group::effect::{Effect, Now, Store, Ticket};
use crate::coordinator::group::member::{JoinRequest, Protocol};
use crate::coordinator::group::records::decode_group_value;
use crate::coordinator::group::sync::SyncRequest;

mod random;

/// A group with the time, its tickets and its log in the test's hands.
struct Rig {
    group: Group,
    config: GroupConfig,
    now: i64,
    last_ticket: u64,
    joins: HashMap<Ticket, JoinReply>,
    syncs: HashMap<Ticket, SyncReply>,
    stores: Vec<Store>,
    /// Whether records are stored as soon as they are appended.
    stores_at_once: bool,
}

impl Rig {
    fn new() -> Self {
        let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
        Self::with(config)
    }

    fn with(config: GroupConfig) -> Self {
        Self {
            group: Group::new("g".into()),
            config,
            now: 1_000,
            last_ticket: 0,
            joins: HashMap::new(),
            syncs: HashMap::new(),
            stores: Vec::new(),
            stores_at_once: true,
        }
    }

    fn run<R>(&mut self, event: impl FnOnce(&mut Group, &mut Cx<'_>) -> R) -> R {
        let mut effects = Vec::new();
        let now = Now { wall_ms: self.now, mono_ms: self.now };
        let result =
            event(&mut self.group, &mut Cx { now, config: &self.config, client_reason: None, effects: &mut effects });
        for effect in effects {
            match effect {
                Effect::Join(ticket, reply) => {
                    assert!(self.joins.insert(ticket, reply).is_none(), "a join is answered once");
                }
                Effect::Sync(ticket, reply) => {
                    assert!(self.syncs.insert(ticket, reply).is_none(), "a sync is answered once");
                }
                Effect::Store(store) => self.stores.push(store),
            }
        }
        self.group.check();
        if self.stores_at_once {
            self.finish_stores(Ok(()));
        }
        result
    }

    fn finish_stores(&mut self, result: Result<(), ErrorCode>) {
        while !self.stores.is_empty() {
            let store = self.stores.remove(0);
            decode_group_value(&store.value).expect("a readable record");
            self.run(|group, cx| group.on_stored(store.then, result, cx));
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn join(&mut self, request: JoinRequest) -> Ticket {
        let ticket = self.ticket();
        self.run(|group, cx| group.join(request, ticket, cx));
        ticket
    }

    fn sync(&mut self, member: &str, assignment: &[(&str, &str)]) -> Ticket {
        let request = SyncRequest {
            generation: self.group.generation,
            member_id: member.into(),
            group_instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignment: assignment.iter().map(|&(id, text)| (id.into(), Bytes::from(text.to_owned()))).collect(),
        };
        let ticket = self.ticket();
        self.run(|group, cx| group.sync(request, ticket, cx));
        ticket
    }

    fn heartbeat(&mut self, member: &str) -> Result<(), ErrorCode> {
        let generation = self.group.generation;
        self.run(|group, cx| group.heartbeat(generation, member, None, cx))
    }

    /// Moves the time on, stopping at every deadline on the way.
    fn pass(&mut self, ms: i64) {
        let end = self.now + ms;
        while let Some(at) = self.group.next_deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.run(|group, cx| group.on_time(cx));
        }
        self.now = end;
    }

    fn joined(&self, ticket: Ticket) -> &JoinReply {
        let reply = self.joins.get(&ticket).expect("the join is answered");
        assert_eq!(reply.error, ErrorCode::None);
        reply
    }

    fn join_error(&self, ticket: Ticket) -> ErrorCode {
        self.joins.get(&ticket).expect("the join is answered").error
    }

    fn assignment(&self, ticket: Ticket) -> Result<&[u8], ErrorCode> {
        let reply = self.syncs.get(&ticket).expect("the sync is answered");
        if reply.error.is_none() { Ok(&reply.assignment) } else { Err(reply.error) }
    }

    /// A stable group of these members, the first of which leads.
    fn stable(members: &[JoinRequest]) -> Self {
        let mut rig = Self::with(GroupConfig { initial_rebalance_delay_ms: 10, ..GroupConfig::default() });
        for member in members {
            rig.join(member.clone());
        }
        // Everyone after the first puts the delay off once.
        rig.pass(20);
        let leader = rig.group.leader.clone().expect("a leader");
        assert_eq!(*leader, *members[0].new_member_id);
        for member in members.iter().rev() {
            rig.sync(&member.new_member_id, &[]);
        }
        assert_eq!(rig.group.state, GroupState::Stable);
        rig
    }
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    names.iter().map(|&name| Protocol { name: name.into(), metadata: Bytes::from(format!("for {name}")) }).collect()
}

/// A new member that is let in at once under `new_id`.
fn new_member(new_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: "".into(),
        new_member_id: new_id.into(),
        group_instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range", "sticky"]),
        require_known_member_id: false,
        supports_skip_assignment: false,
        reason: None,
    }
}

fn known(id: &str) -> JoinRequest {
    JoinRequest { member_id: id.into(), ..new_member("unused") }
}

fn static_member(instance: &str, new_id: &str) -> JoinRequest {
    JoinRequest { group_instance_id: Some(instance.into()), ..new_member(new_id) }
}

#[test]
fn two_members_settle_after_the_initial_delay() {
    let mut rig = Rig::with(GroupConfig { initial_rebalance_delay_ms: 100, ..GroupConfig::default() });
    let (a, b) = (rig.join(new_member("a")), rig.join(new_member("b")));
    assert!(rig.joins.is_empty());
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
    // The second came during the delay, so it is put off once.
    rig.pass(100);
    assert!(rig.joins.is_empty());
    rig.pass(100);
    let leader = rig.joined(a);
    assert_eq!((leader.generation, &*leader.leader, leader.members.len()), (1, "a", 2));
    assert_eq!(leader.members[1].metadata, "for range");
    assert_eq!(leader.protocol_name.as_deref(), Some("range"));
    assert!(rig.joined(b).members.is_empty());

    let follower = rig.sync("b", &[]);
    assert!(rig.syncs.is_empty());
    let leader = rig.sync("a", &[("a", "for a"), ("b", "for b"), ("stranger", "x")]);
    assert_eq!(rig.assignment(leader), Ok(&b"for a"[..]));
    assert_eq!(rig.assignment(follower), Ok(&b"for b"[..]));
    assert_eq!(rig.group.state, GroupState::Stable);
    let late = rig.sync("b", &[]);
    assert_eq!(rig.assignment(late), Ok(&b"for b"[..]));
    assert_eq!(rig.heartbeat("b"), Ok(()));
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_time_out() {
    let mut rig = Rig::with(GroupConfig { initial_rebalance_delay_ms: 100, ..GroupConfig::default() });
    let member = |id: &str| JoinRequest { rebalance_timeout_ms: 250, ..new_member(id) };
    rig.join(member("m0"));
    for wave in 1..=4 {
        rig.pass(60);
        rig.join(member(&format!("m{wave}")));
    }
    assert!(rig.joins.is_empty());
    rig.pass(60);
    assert_eq!(rig.joins.len(), 5);
}

#[test]
fn new_members_are_sent_back_to_join_with_their_id() {
    let mut rig = Rig::new();
    let first = rig.join(JoinRequest { require_known_member_id: true, ..new_member("a") });
    assert_eq!(rig.join_error(first), ErrorCode::MemberIdRequired);
    assert_eq!(&*rig.joins[&first].member_id, "a");
    assert_eq!(rig.group.state, GroupState::Empty);
    let second = rig.join(known("a"));
    assert_eq!(rig.joined(second).generation, 1);
    let stranger = rig.join(known("b"));
    assert_eq!(rig.join_error(stranger), ErrorCode::UnknownMemberId);
}

#[test]
fn a_pending_member_holds_the_rebalance_up_until_its_session_ends() {
    let mut rig = Rig::stable(&[new_member("a")]);
    rig.join(JoinRequest { require_known_member_id: true, ..new_member("b") });
    let a = rig.join(known("a"));
    assert!(!rig.joins.contains_key(&a), "b was given an id and is waited for");
    rig.pass(9_999);
    assert!(!rig.joins.contains_key(&a));
    rig.pass(1);
    assert_eq!(rig.joined(a).generation, 2);
    assert!(!rig.group.has_pending_joins());
}

#[test]
fn a_pending_member_may_leave() {
    let mut rig = Rig::stable(&[new_member("a")]);
    rig.join(JoinRequest { require_known_member_id: true, ..new_member("b") });
    let a = rig.join(known("a"));
    assert_eq!(rig.run(|group, cx| group.leave("b", None, cx)), Ok(()));
    assert_eq!(rig.joined(a).generation, 2);
}

#[test]
fn members_that_do_not_rejoin_in_time_are_removed() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    let c = rig.join(JoinRequest { rebalance_timeout_ms: 60_000, ..new_member("c") });
    let a = rig.join(known("a"));
    assert_eq!(rig.heartbeat("b"), Err(ErrorCode::RebalanceInProgress));
    for _ in 0..11 {
        rig.pass(5_000);
        assert_eq!(rig.heartbeat("b"), Err(ErrorCode::RebalanceInProgress));
    }
    assert!(!rig.joins.contains_key(&c));
    rig.pass(5_000);
    assert_eq!((rig.joined(a).generation, rig.joined(c).generation), (2, 2));
    assert_eq!(rig.group.size(), 2);
    assert_eq!(rig.heartbeat("b"), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn silence_ends_a_membership_and_the_lead() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    rig.pass(6_000);
    assert_eq!(rig.heartbeat("b"), Ok(()));
    rig.pass(4_000);
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
    assert_eq!(rig.group.leader.as_deref(), Some("b"));
    let b = rig.join(known("b"));
    assert_eq!((rig.joined(b).members.len(), &*rig.joined(b).leader), (1, "b"));
}

#[test]
fn the_last_member_leaves_an_empty_generation() {
    let mut rig = Rig::stable(&[new_member("a")]);
    rig.stores_at_once = false;
    assert_eq!(rig.run(|group, cx| group.leave("a", None, cx)), Ok(()));
    assert_eq!((rig.group.state, rig.group.generation), (GroupState::Empty, 2));
    let record = decode_group_value(&rig.stores[0].value).expect("a record");
    assert_eq!((record.generation, record.protocol, record.leader), (2, None, None));
    assert_eq!((record.protocol_type, record.members.len()), ("consumer", 0));
    rig.finish_stores(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(rig.group.state, GroupState::Empty);
    assert_eq!(rig.run(|group, cx| group.leave("a", None, cx)), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn waiting_members_do_not_expire_but_new_ones_do() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    let a = rig.join(known("a"));
    rig.pass(9_000);
    assert_eq!(rig.heartbeat("b"), Err(ErrorCode::RebalanceInProgress));
    rig.pass(9_000);
    assert_eq!(rig.group.size(), 2, "a waits for us, whatever its session time-out");
    rig.pass(2_000);
    assert_eq!(rig.joined(a).generation, 2, "b fell silent");

    // Static members are waited for beyond the rebalance time-out, so only then can a new one wait five minutes.
    let member = |id: &str| JoinRequest { session_timeout_ms: 1_800_000, ..static_member(id, id) };
    let mut rig = Rig::stable(&[member("s")]);
    let late =
        rig.join(JoinRequest { session_timeout_ms: 1_800_000, rebalance_timeout_ms: 600_000, ..new_member("n") });
    rig.pass(299_999);
    assert!(!rig.joins.contains_key(&late));
    rig.pass(1);
    assert_eq!(rig.join_error(late), ErrorCode::UnknownMemberId);
    assert_eq!(&*rig.joins[&late].member_id, "");
}

#[test]
fn members_that_send_no_sync_are_removed() {
    let mut rig = Rig::new();
    let member = |id: &str| JoinRequest { session_timeout_ms: 100_000, ..new_member(id) };
    rig.join(member("a"));
    let b = rig.join(member("b"));
    let a = rig.join(known_with(member("a"), "a"));
    assert_eq!((rig.joined(a).generation, rig.joined(b).generation), (2, 2));
    let sync = rig.sync("a", &[]);
    assert_eq!(rig.assignment(sync), Ok(&b""[..]));
    rig.pass(59_999);
    assert_eq!(rig.heartbeat("a"), Ok(()));
    rig.pass(1);
    assert_eq!((rig.group.state, rig.group.size()), (GroupState::PreparingRebalance, 1));
    assert_eq!(rig.heartbeat("b"), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_rebalance_while_syncs_wait_sends_them_back() {
    let mut rig = Rig::new();
    rig.join(new_member("a"));
    rig.join(new_member("b"));
    rig.join(known("a"));
    let sync = rig.sync("b", &[]);
    rig.join(new_member("c"));
    assert_eq!(rig.assignment(sync), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
}

#[test]
fn an_assignment_that_cannot_be_stored_is_given_to_nobody() {
    let mut rig = Rig::new();
    rig.join(new_member("a"));
    rig.stores_at_once = false;
    let sync = rig.sync("a", &[("a", "x")]);
    rig.finish_stores(Err(ErrorCode::NotCoordinator));
    assert_eq!(rig.assignment(sync), Err(ErrorCode::NotCoordinator));
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
}

/// Members that were told the one and members that ask the next coordinator would have the same partitions.
#[test]
fn a_generation_has_one_assignment() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    rig.stores_at_once = false;
    rig.join(known("a"));
    rig.join(known("b"));
    let first = rig.sync("a", &[("a", "a1"), ("b", "b1")]);
    let second = rig.sync("a", &[("a", "a2"), ("b", "b2")]);
    assert_eq!(rig.stores.len(), 1, "the second is not stored");
    rig.finish_stores(Ok(()));
    assert_eq!(rig.assignment(first), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(rig.assignment(second), Ok(&b"a1"[..]));
    rig.join(known("a"));
    rig.join(known("b"));
    rig.sync("a", &[("a", "a3"), ("b", "b3")]);
    assert_eq!(rig.stores.len(), 1, "the next generation has one of its own");
    rig.finish_stores(Ok(()));
    let follower = rig.sync("b", &[]);
    assert_eq!(rig.assignment(follower), Ok(&b"b3"[..]));
}

#[test]
fn an_assignment_stored_too_late_is_dropped() {
    let mut rig = Rig::new();
    rig.join(new_member("a"));
    rig.stores_at_once = false;
    rig.sync("a", &[("a", "old")]);
    rig.join(new_member("b"));
    let a = rig.join(known("a"));
    assert_eq!(rig.joined(a).generation, 2);
    let store = rig.stores.remove(0);
    rig.run(|group, cx| group.on_stored(store.then, Ok(()), cx));
    assert_eq!(rig.group.state, GroupState::CompletingRebalance);
    assert!(rig.group.members().all(|member| member.assignment.is_empty()));
}

#[test]
fn a_superseded_request_is_answered_too() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    let (first, second) = (rig.join(known("a")), rig.join(known("a")));
    assert_eq!(rig.join_error(first), ErrorCode::RebalanceInProgress);
    rig.join(known("b"));
    assert_eq!(rig.joined(second).generation, 2);
    let (first, second) = (rig.sync("b", &[]), rig.sync("b", &[]));
    assert_eq!(rig.assignment(first), Err(ErrorCode::RebalanceInProgress));
    rig.sync("a", &[("b", "x")]);
    assert_eq!(rig.assignment(second), Ok(&b"x"[..]));
}

#[test]
fn rejoining_without_news_changes_nothing_for_a_follower() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    let b = rig.join(known("b"));
    assert_eq!((rig.joined(b).generation, rig.group.state), (1, GroupState::Stable));
    rig.join(JoinRequest { protocols: protocols(&["sticky"]), ..known("b") });
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
    let a = rig.join(known("a"));
    assert_eq!(rig.joined(a).protocol_name.as_deref(), Some("sticky"), "the only one both support");
    // During CompletingRebalance a retry gets the same answer again.
    let again = rig.join(known("a"));
    assert_eq!((rig.joined(again).generation, rig.joined(again).members.len()), (2, 2));
}

#[test]
fn a_leader_that_rejoins_forces_a_rebalance() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    rig.join(known("a"));
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
    let b = rig.join(known("b"));
    assert_eq!(&*rig.joined(b).leader, "a");
}

#[test]
fn a_leader_that_does_not_rejoin_loses_the_lead() {
    let members = [static_member("i", "a"), new_member("b")];
    let mut rig = Rig::stable(&members.map(|m| JoinRequest { session_timeout_ms: 300_000, ..m }));
    let b = rig.join(JoinRequest { protocols: protocols(&["range"]), ..known("b") });
    rig.pass(60_000);
    assert_eq!(
        (&*rig.joined(b).leader, rig.joined(b).members.len()),
        ("b", 2),
        "a static member stays, but leads no more"
    );
}

#[test]
fn protocols_are_chosen_by_votes_among_those_all_support() {
    let mut rig = Rig::with(GroupConfig { initial_rebalance_delay_ms: 10, ..GroupConfig::default() });
    let a = rig.join(JoinRequest { protocols: protocols(&["x", "y", "z"]), ..new_member("a") });
    rig.join(JoinRequest { protocols: protocols(&["y", "z"]), ..new_member("b") });
    rig.join(JoinRequest { protocols: protocols(&["z", "y"]), ..new_member("c") });
    let odd = rig.join(JoinRequest { protocols: protocols(&["x"]), ..new_member("d") });
    assert_eq!(rig.join_error(odd), ErrorCode::InconsistentGroupProtocol);
    let odd = rig.join(JoinRequest { protocol_type: "connect".into(), ..new_member("e") });
    assert_eq!(rig.join_error(odd), ErrorCode::InconsistentGroupProtocol);
    rig.pass(20);
    assert_eq!(rig.joined(a).protocol_name.as_deref(), Some("y"));
}

#[test]
fn an_empty_group_takes_any_protocol_but_none() {
    let mut rig = Rig::new();
    let none = rig.join(JoinRequest { protocols: Vec::new(), ..new_member("a") });
    assert_eq!(rig.join_error(none), ErrorCode::InconsistentGroupProtocol);
    let none = rig.join(JoinRequest { protocol_type: "".into(), ..new_member("a") });
    assert_eq!(rig.join_error(none), ErrorCode::InconsistentGroupProtocol);
    rig.join(new_member("a"));
    assert_eq!(rig.run(|group, cx| group.leave("a", None, cx)), Ok(()));
    let other = rig.join(JoinRequest { protocol_type: "connect".into(), ..new_member("b") });
    assert_eq!(rig.joined(other).protocol_type.as_deref(), Some("connect"));
}

#[test]
fn a_group_has_at_most_its_maximum() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    rig.config.max_size = 2;
    let c = rig.join(new_member("c"));
    assert_eq!(rig.join_error(c), ErrorCode::GroupMaxSizeReached);
    assert_eq!(rig.group.state, GroupState::Stable);
    // The limit was lowered: the last to rejoin is turned away.
    rig.config.max_size = 1;
    let a = rig.join(known("a"));
    let b = rig.join(known("b"));
    assert_eq!(rig.join_error(b), ErrorCode::GroupMaxSizeReached);
    assert_eq!((rig.joined(a).generation, rig.group.size()), (2, 1));
}

#[test]
fn a_loaded_group_beyond_the_maximum_rebalances() {
    let rig = Rig::stable(&[new_member("a"), new_member("b")]);
    let value = rig.group.encode(None);
    let mut rig = Rig::with(GroupConfig { max_size: 1, ..GroupConfig::default() });
    rig.group = Group::from_record("g".into(), &decode_group_value(&value).expect("a record"));
    assert_eq!(rig.group.state, GroupState::Stable);
    rig.run(Group::on_loaded);
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
}

#[test]
fn a_group_comes_back_from_its_record_as_it_was() {
    let mut rig = Rig::stable(&[static_member("i", "a"), new_member("b")]);
    rig.join(known("a"));
    rig.join(known("b"));
    rig.sync("b", &[]);
    rig.sync("a", &[("a", "for a"), ("b", "for b")]);
    let value = rig.group.encode(None);
    let mut loaded = Rig::new();
    loaded.group = Group::from_record("g".into(), &decode_group_value(&value).expect("a record"));
    loaded.run(Group::on_loaded);
    assert_eq!(loaded.group.encode(None), value);
    assert_eq!((loaded.group.generation, loaded.group.leader.as_deref()), (2, Some("a")));
    assert_eq!(loaded.heartbeat("b"), Ok(()));
    let sync = loaded.sync("b", &[]);
    assert_eq!(loaded.assignment(sync), Ok(&b"for b"[..]));
    loaded.pass(10_000);
    assert_eq!(loaded.group.state, GroupState::Empty, "nobody came back: {:?}", loaded.group);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut rig = Rig::stable(&[static_member("i", "a"), new_member("b")]);
    let back = rig.join(static_member("i", "a2"));
    let reply = rig.joined(back);
    assert_eq!((reply.generation, &*reply.member_id), (1, "a2"));
    // Before v9 it is not told that it leads, so that it makes no assignment.
    assert_eq!((&*reply.leader, reply.members.len(), reply.skip_assignment), ("a", 0, false));
    assert_eq!((rig.group.state, rig.group.leader.as_deref()), (GroupState::Stable, Some("a2")));

    let back = rig.join(JoinRequest { supports_skip_assignment: true, ..static_member("i", "a3") });
    let reply = rig.joined(back);
    assert_eq!((&*reply.leader, reply.members.len(), reply.skip_assignment), ("a3", 2, true));
    let fenced = rig.run(|group, cx| group.heartbeat(1, "a", Some("i"), cx));
    assert_eq!(fenced, Err(ErrorCode::FencedInstanceId));
    assert_eq!(rig.run(|group, cx| group.heartbeat(1, "a3", Some("i"), cx)), Ok(()));
    assert_eq!(rig.run(|group, cx| group.heartbeat(1, "a3", Some("j"), cx)), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_static_member_that_could_not_be_stored_is_undone() {
    let mut rig = Rig::stable(&[static_member("i", "a"), new_member("b")]);
    rig.stores_at_once = false;
    let back = rig.join(JoinRequest { protocols: protocols(&["range"]), ..static_member("i", "a2") });
    rig.finish_stores(Err(ErrorCode::NotCoordinator));
    assert_eq!(rig.join_error(back), ErrorCode::NotCoordinator);
    assert_eq!((rig.group.state, rig.group.leader.as_deref()), (GroupState::Stable, Some("a")));
    assert_eq!(rig.group.members["a"].protocols, protocols(&["range", "sticky"]));
    assert_eq!(rig.run(|group, cx| group.heartbeat(1, "a", Some("i"), cx)), Ok(()));
}

#[test]
fn a_rebalance_overtakes_a_static_member_s_return() {
    let mut rig = Rig::stable(&[static_member("i", "a"), new_member("b")]);
    rig.stores_at_once = false;
    let back = rig.join(static_member("i", "a2"));
    rig.join(JoinRequest { protocols: protocols(&["sticky"]), ..known("b") });
    assert_eq!(rig.joined(back).generation, 2, "it counts as joined");
    rig.finish_stores(Ok(()));
    assert_eq!(rig.group.state, GroupState::CompletingRebalance);
}

#[test]
fn a_static_member_with_other_protocols_rebalances() {
    let mut rig = Rig::stable(&[static_member("i", "a")]);
    let back = rig.join(JoinRequest { protocols: protocols(&["sticky"]), ..static_member("i", "a2") });
    assert_eq!((rig.joined(back).generation, rig.group.state), (2, GroupState::CompletingRebalance));
    // So does one that comes back while the assignment is being made.
    let again = rig.join(static_member("i", "a3"));
    assert_eq!((rig.joined(again).generation, &*rig.joined(again).leader), (3, "a3"));
}

#[test]
fn the_former_static_member_is_fenced_at_once() {
    let mut rig = Rig::stable(&[static_member("i", "a"), new_member("b")]);
    let waiting = rig.join(JoinRequest { member_id: "a".into(), ..static_member("i", "x") });
    rig.join(static_member("i", "a2"));
    assert_eq!(rig.join_error(waiting), ErrorCode::FencedInstanceId);
    assert_eq!(&*rig.joins[&waiting].member_id, "a");
    let fenced = rig.join(JoinRequest { member_id: "a".into(), ..static_member("i", "x") });
    assert_eq!(rig.join_error(fenced), ErrorCode::FencedInstanceId);
}

#[test]
fn the_former_static_member_s_sync_is_fenced_and_so_is_all_it_sends() {
    let mut rig = Rig::new();
    rig.join(new_member("b"));
    let a = rig.join(static_member("i", "a"));
    rig.join(known("b"));
    assert_eq!(rig.joined(a).generation, 2);
    let waiting = rig.sync("a", &[]);
    assert!(!rig.syncs.contains_key(&waiting));
    let back = rig.join(static_member("i", "a2"));
    assert_eq!(rig.assignment(waiting), Err(ErrorCode::FencedInstanceId));
    // The leader may have been told the former id, so all join again.
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
    let b = rig.join(known("b"));
    assert_eq!((rig.joined(back).generation, rig.joined(b).members.len()), (3, 2));

    let ticket = rig.ticket();
    let late = SyncRequest {
        generation: 3,
        member_id: "a".into(),
        group_instance_id: Some("i".into()),
        protocol_type: None,
        protocol_name: None,
        assignment: HashMap::new(),
    };
    rig.run(|group, cx| group.sync(late, ticket, cx));
    assert_eq!(rig.assignment(ticket), Err(ErrorCode::FencedInstanceId));
    assert_eq!(rig.run(|group, cx| group.heartbeat(3, "a", Some("i"), cx)), Err(ErrorCode::FencedInstanceId));
    assert_eq!(rig.run(|group, cx| group.offset_commit(3, "a", Some("i"), cx)), Err(ErrorCode::FencedInstanceId));
    assert_eq!(rig.group.txn_offset_commit(3, "a", Some("i")), Err(ErrorCode::FencedInstanceId));
    assert_eq!(rig.run(|group, cx| group.leave("a", Some("i"), cx)), Err(ErrorCode::FencedInstanceId));
    // One that forgets to say its instance id is nobody.
    assert_eq!(rig.run(|group, cx| group.heartbeat(3, "a", None, cx)), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn static_members_that_do_not_rejoin_stay_until_their_sessions_end() {
    let static_for =
        |instance: &str, id: &str| JoinRequest { rebalance_timeout_ms: 20_000, ..static_member(instance, id) };
    let mut rig = Rig::stable(&[
        static_for("i", "a"),
        static_for("j", "b"),
        JoinRequest { rebalance_timeout_ms: 20_000, ..new_member("c") },
    ]);
    assert_eq!(rig.run(|group, cx| group.leave("c", None, cx)), Ok(()));
    for _ in 0..9 {
        assert_eq!(rig.heartbeat("a"), Err(ErrorCode::RebalanceInProgress));
        assert_eq!(rig.heartbeat("b"), Err(ErrorCode::RebalanceInProgress));
        rig.pass(5_000);
    }
    // Two rebalance time-outs have passed, and nobody rejoined: there is no generation without anyone in it.
    assert_eq!((rig.group.state, rig.group.size(), rig.group.generation), (GroupState::PreparingRebalance, 2, 1));
    let a = rig.join(JoinRequest { rebalance_timeout_ms: 20_000, ..known("a") });
    assert!(!rig.joins.contains_key(&a), "b lives, and is waited for");
    rig.pass(5_000);
    assert_eq!((rig.joined(a).generation, rig.group.size()), (2, 1), "b's session has ended");
}

#[test]
fn heartbeats_keep_members_that_wait_for_the_leader() {
    let mut rig = Rig::new();
    rig.join(new_member("a"));
    rig.join(new_member("b"));
    rig.join(known("a"));
    assert_eq!(rig.group.state, GroupState::CompletingRebalance);
    for _ in 0..3 {
        rig.pass(9_000);
        assert_eq!((rig.heartbeat("a"), rig.heartbeat("b")), (Ok(()), Ok(())));
    }
    rig.pass(9_000);
    assert_eq!(rig.heartbeat("a"), Ok(()));
    rig.pass(1_000);
    assert_eq!((rig.group.state, rig.group.size()), (GroupState::PreparingRebalance, 1), "b fell silent");
    assert_eq!(rig.run(|group, cx| group.heartbeat(1, "a", None, cx)), Err(ErrorCode::IllegalGeneration));
}

#[test]
fn a_pending_member_is_turned_away_from_a_group_that_filled_up_meanwhile() {
    let mut rig = Rig::with(GroupConfig { max_size: 1, initial_rebalance_delay_ms: 10, ..GroupConfig::default() });
    let pending = |id: &str| JoinRequest { require_known_member_id: true, ..new_member(id) };
    for id in ["a", "b"] {
        let told = rig.join(pending(id));
        assert_eq!(rig.join_error(told), ErrorCode::MemberIdRequired);
    }
    let a = rig.join(known("a"));
    let b = rig.join(known("b"));
    assert_eq!((rig.join_error(b), &*rig.joins[&b].member_id), (ErrorCode::GroupMaxSizeReached, ""));
    assert!(!rig.group.has_pending_joins());
    rig.pass(10);
    assert_eq!((rig.joined(a).generation, rig.joined(a).members.len()), (1, 1));
    let c = rig.join(pending("c"));
    assert_eq!(rig.join_error(c), ErrorCode::GroupMaxSizeReached, "no id is given out in vain");
}

#[test]
fn static_members_leave_by_their_instance_id() {
    let mut rig = Rig::stable(&[static_member("i", "a"), new_member("b")]);
    assert_eq!(rig.run(|group, cx| group.leave("x", Some("i"), cx)), Err(ErrorCode::FencedInstanceId));
    assert_eq!(rig.run(|group, cx| group.leave("", Some("j"), cx)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(rig.run(|group, cx| group.leave("", None, cx)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(rig.run(|group, cx| group.leave("", Some("i"), cx)), Ok(()));
    assert_eq!((rig.group.size(), rig.group.state), (1, GroupState::PreparingRebalance));
}

#[test]
fn syncs_are_checked() {
    let mut rig = Rig::stable(&[static_member("i", "a")]);
    let mut ask = |change: &dyn Fn(&mut SyncRequest)| {
        let mut request = SyncRequest {
            generation: 1,
            member_id: "a".into(),
            group_instance_id: None,
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignment: HashMap::new(),
        };
        change(&mut request);
        let ticket = rig.ticket();
        rig.run(|group, cx| group.sync(request, ticket, cx));
        rig.assignment(ticket).map(|_| ())
    };
    assert_eq!(ask(&|_| {}), Ok(()));
    assert_eq!(ask(&|r| r.generation = 2), Err(ErrorCode::IllegalGeneration));
    assert_eq!(ask(&|r| r.member_id = "b".into()), Err(ErrorCode::UnknownMemberId));
    assert_eq!(ask(&|r| r.protocol_type = Some("x".into())), Err(ErrorCode::InconsistentGroupProtocol));
    assert_eq!(ask(&|r| r.protocol_name = Some("x".into())), Err(ErrorCode::InconsistentGroupProtocol));
    assert_eq!(ask(&|r| r.group_instance_id = Some("j".into())), Err(ErrorCode::UnknownMemberId));
    rig.run(|group, cx| group.die(ErrorCode::NotCoordinator, cx));
    let dead = rig.sync("a", &[]);
    assert_eq!(rig.assignment(dead), Err(ErrorCode::CoordinatorNotAvailable));
}

#[test]
fn commits_are_checked() {
    fn commit(rig: &mut Rig, generation: i32, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        rig.run(|group, cx| group.offset_commit(generation, member, instance, cx))
    }
    let mut rig = Rig::new();
    assert_eq!(commit(&mut rig, -1, "", None), Ok(()), "a simple consumer");
    assert_eq!(commit(&mut rig, 0, "", None), Err(ErrorCode::UnknownMemberId));
    rig.join(static_member("i", "a"));
    assert_eq!(commit(&mut rig, 1, "a", None), Err(ErrorCode::RebalanceInProgress), "no assignment yet");
    rig.sync("a", &[]);
    assert_eq!(commit(&mut rig, 1, "a", Some("i")), Ok(()));
    assert_eq!(commit(&mut rig, 1, "b", Some("i")), Err(ErrorCode::FencedInstanceId));
    assert_eq!(commit(&mut rig, 0, "a", None), Err(ErrorCode::IllegalGeneration));
    assert_eq!(commit(&mut rig, -1, "", None), Err(ErrorCode::UnknownMemberId), "only members may now");
    rig.join(new_member("b"));
    assert_eq!(rig.group.state, GroupState::PreparingRebalance);
    assert_eq!(commit(&mut rig, 1, "a", None), Ok(()), "before it rejoins it may");
    // A commit counts as a sign of life.
    rig.pass(9_000);
    assert_eq!(commit(&mut rig, 1, "a", None), Ok(()));
    rig.pass(9_000);
    assert_eq!(rig.group.size(), 2);
    rig.run(|group, cx| group.die(ErrorCode::NotCoordinator, cx));
    assert_eq!(commit(&mut rig, -1, "", None), Err(ErrorCode::CoordinatorNotAvailable));
}

#[test]
fn transactional_commits_are_checked_only_if_they_say_who_sends_them() {
    let mut rig = Rig::stable(&[new_member("a")]);
    let commit = |rig: &Rig, generation, member: &str| rig.group.txn_offset_commit(generation, member, None);
    assert_eq!(commit(&rig, -1, ""), Ok(()));
    assert_eq!(commit(&rig, 1, "a"), Ok(()));
    assert_eq!(commit(&rig, 2, "a"), Err(ErrorCode::IllegalGeneration));
    assert_eq!(commit(&rig, 1, "b"), Err(ErrorCode::UnknownMemberId));
    assert_eq!(commit(&rig, -1, "a"), Err(ErrorCode::IllegalGeneration));
    assert_eq!(rig.group.txn_offset_commit(1, "a", Some("i")), Err(ErrorCode::UnknownMemberId));
    // They count as no sign of life.
    rig.pass(9_999);
    assert_eq!(commit(&rig, 1, "a"), Ok(()));
    rig.pass(1);
    assert_eq!(rig.group.state, GroupState::Empty);
    assert_eq!(commit(&rig, -1, "a"), Ok(()), "nobody's group takes what comes without a generation");
    assert_eq!(commit(&rig, 1, "a"), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_dying_group_sends_everyone_away() {
    let mut rig = Rig::stable(&[new_member("a"), new_member("b")]);
    let join = rig.join(known("a"));
    rig.run(|group, cx| group.die(ErrorCode::NotCoordinator, cx));
    assert_eq!(rig.join_error(join), ErrorCode::NotCoordinator);
    assert_eq!(rig.group.next_deadline(), None);
    let late = rig.join(known("a"));
    assert_eq!(rig.join_error(late), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(rig.heartbeat("a"), Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(rig.run(|group, cx| group.leave("a", None, cx)), Err(ErrorCode::CoordinatorNotAvailable));
}

#[test]
fn subscriptions_are_looked_into() {
    let subscription = |topic: u8| Bytes::from(vec![0, 0, 0, 0, 0, 1, 0, 1, topic, 0xff, 0xff, 0xff, 0xff]);
    let member = |id: &str, topic: u8| JoinRequest {
        protocols: vec![Protocol { name: "range".into(), metadata: subscription(topic) }],
        ..new_member(id)
    };
    let mut rig = Rig::stable(&[member("a", b't'), member("b", b'u')]);
    assert!(rig.group.is_subscribed_to("t") && rig.group.is_subscribed_to("u") && !rig.group.is_subscribed_to("v"));
    let garbage = Protocol { name: "range".into(), metadata: Bytes::from_static(b"\0") };
    rig.join(JoinRequest { protocols: vec![garbage], ..known("a") });
    rig.join(known_with(member("b", b'u'), "b"));
    assert!(rig.group.is_subscribed_to("v"), "what cannot be read may be anything");
    assert_eq!(rig.run(|group, cx| group.leave("a", None, cx)), Ok(()));
    assert_eq!(rig.run(|group, cx| group.leave("b", None, cx)), Ok(()));
    assert!(!rig.group.is_subscribed_to("t"));
}

fn known_with(request: JoinRequest, id: &str) -> JoinRequest {
    JoinRequest { member_id: id.into(), ..request }
}

#[test]
#[should_panic(expected = "may not go from")]
fn illegal_transitions_are_caught() {
    Rig::new().run(|group, cx| group.transition_to(GroupState::Stable, cx));
}
