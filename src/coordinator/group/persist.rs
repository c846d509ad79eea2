//! A group as its record in `__consumer_offsets`, there and back.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::effect::Cx;
use super::member::{Member, MemberId, Protocol};
use super::records::{GroupValue, MemberValue, put_group_value_head, put_member_value};
use super::state::{Group, GroupState};

impl Group {
    /// The value of its record, with `assignment` or, where there is none, the one that the members have.
    pub(super) fn encode(&self, assignment: Option<&HashMap<MemberId, Bytes>>) -> Bytes {
        let head = GroupValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol_name.as_deref(),
            leader: self.leader.as_deref(),
            current_state_timestamp: self.state_timestamp.unwrap_or(-1),
            members: Vec::new(),
        };
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let empty = Bytes::new();
        let mut out = BytesMut::with_capacity(64 + self.members.len() * 256);
        put_group_value_head(&mut out, &head, self.members.len());
        for member in self.members.values() {
            let assigned = match assignment {
                Some(assignment) => assignment.get(&member.id).unwrap_or(&empty),
                None => &member.assignment,
            };
            put_member_value(
                &mut out,
                &MemberValue {
                    member_id: &member.id,
                    group_instance_id: member.group_instance_id.as_deref(),
                    client_id: &member.client_id,
                    client_host: &member.client_host,
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    subscription: member.metadata(protocol).unwrap_or(&empty),
                    assignment: assigned,
                },
            );
        }
        out.freeze()
    }

    /// The group that a record describes: Stable if it has members, else Empty.
    pub fn from_record(id: Arc<str>, value: &GroupValue<'_>) -> Self {
        let mut group = Self::new(id);
        group.protocol_type = (!value.protocol_type.is_empty()).then(|| value.protocol_type.into());
        group.protocol_name = value.protocol.map(Into::into);
        group.generation = value.generation;
        group.state_timestamp = (value.current_state_timestamp != -1).then_some(value.current_state_timestamp);
        for member in &value.members {
            if !group.members.contains_key(member.member_id) {
                group.add_member(loaded_member(member, value.protocol.unwrap_or_default()));
            }
        }
        if let Some(leader) = value.leader.filter(|leader| group.members.contains_key(*leader)) {
            group.leader = Some(leader.into());
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
        }
        group
    }

    /// The group was loaded: its members' silence counts from now. One that has outgrown `group.max.size` rebalances.
    pub fn on_loaded(&mut self, cx: &mut Cx<'_>) {
        for member in self.members.values_mut() {
            member.session_deadline = cx.after(member.session_timeout_ms);
        }
        if i32::try_from(self.members.len()).is_ok_and(|size| size > cx.config.max_size) {
            self.maybe_prepare_rebalance("the group is larger than group.max.size", cx);
        }
    }
}

fn loaded_member(value: &MemberValue<'_>, protocol: &str) -> Member {
    Member {
        id: value.member_id.into(),
        group_instance_id: value.group_instance_id.map(Into::into),
        client_id: value.client_id.into(),
        client_host: value.client_host.into(),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        session_timeout_ms: value.session_timeout_ms,
        protocols: vec![Protocol { name: protocol.into(), metadata: Bytes::copy_from_slice(value.subscription) }],
        assignment: Bytes::copy_from_slice(value.assignment),
        awaiting_join: None,
        awaiting_sync: None,
        is_new: false,
        session_deadline: i64::MAX,
    }
}
