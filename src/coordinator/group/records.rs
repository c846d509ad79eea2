//! The records of `__consumer_offsets`, in the original's schemas (`OffsetCommitKey/Value`, `GroupMetadataKey/Value`), so
//! that a JVM broker takes a partition over from us and back.
//!
//! A key begins with its version: 0 and 1 name a committed offset, 2 a group. A value without bytes is a tombstone.
//! Written are, as 3.9 does at its own `inter.broker.protocol.version`: offset values of version 3, or 1 where an expiry
//! is set, and group values of version 3. Read are all up to the flexible version 4.

use bytes::{BufMut, Bytes, BytesMut};

use super::offsets::CommittedOffset;
use crate::coordinator::wire::{Malformed, Reader, put_bytes, put_nullable_string, put_string};

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const OFFSET_VALUE_VERSION: i16 = 3;
const OFFSET_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;
const FLEXIBLE_VERSION: i16 = 4;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// An offset that `group` committed.
    Offset {
        /// The group's id.
        group: &'a str,
        /// The topic of the partition committed for.
        topic: &'a str,
        /// Its number.
        partition: i32,
    },
    /// A group's generation and members.
    Group {
        /// The group's id.
        group: &'a str,
    },
    /// Of a later version (KIP-848 and so on): to be passed over.
    Unknown(i16),
}

impl<'a> Key<'a> {
    /// Reads a record's key.
    ///
    /// # Errors
    /// If the bytes do not follow the schema of the version they name.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.i16()? {
            0 | OFFSET_KEY_VERSION => Ok(Self::Offset {
                group: reader.string(false)?,
                topic: reader.string(false)?,
                partition: reader.i32()?,
            }),
            GROUP_KEY_VERSION => Ok(Self::Group { group: reader.string(false)? }),
            version => Ok(Self::Unknown(version)),
        }
    }
}

/// Writes the key of a committed offset behind what is in `out`.
pub fn put_offset_key(out: &mut BytesMut, group: &str, topic: &str, partition: i32) {
    out.put_i16(OFFSET_KEY_VERSION);
    put_string(out, group);
    put_string(out, topic);
    out.put_i32(partition);
}

/// Writes the key of a group behind what is in `out`.
pub fn put_group_key(out: &mut BytesMut, group: &str) {
    out.put_i16(GROUP_KEY_VERSION);
    put_string(out, group);
}

/// Writes a committed offset behind what is in `out`.
pub fn put_offset_value(out: &mut BytesMut, committed: &CommittedOffset) {
    let with_expiry = committed.expire_timestamp.is_some();
    out.put_i16(if with_expiry { OFFSET_VALUE_VERSION_WITH_EXPIRY } else { OFFSET_VALUE_VERSION });
    out.put_i64(committed.offset);
    if !with_expiry {
        out.put_i32(committed.leader_epoch);
    }
    put_string(out, &committed.metadata);
    out.put_i64(committed.commit_timestamp);
    if let Some(expires) = committed.expire_timestamp {
        out.put_i64(expires);
    }
}

/// Reads a committed offset.
///
/// # Errors
/// If the bytes do not follow the schema of the version they name, or it is not known.
pub fn decode_offset_value(bytes: &[u8]) -> Result<CommittedOffset, Malformed> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    if !(0..=FLEXIBLE_VERSION).contains(&version) {
        return Err(Malformed::Version(version));
    }
    let offset = reader.i64()?;
    let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = reader.string(version >= FLEXIBLE_VERSION)?.into();
    let commit_timestamp = reader.i64()?;
    let expires = if version == 1 { reader.i64()? } else { -1 };
    Ok(CommittedOffset {
        offset,
        leader_epoch,
        metadata,
        commit_timestamp,
        expire_timestamp: (expires != -1).then_some(expires),
    })
}

/// A group as its record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue<'a> {
    /// The type of protocol its members speak; empty for none.
    pub protocol_type: &'a str,
    /// Counts the rebalances.
    pub generation: i32,
    /// The protocol chosen for this generation.
    pub protocol: Option<&'a str>,
    /// The leader's member id.
    pub leader: Option<&'a str>,
    /// When the group came into its state, in milliseconds since 1970; -1 if not known.
    pub current_state_timestamp: i64,
    /// Its members.
    pub members: Vec<MemberValue<'a>>,
}

/// A member as its group's record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue<'a> {
    /// The id the coordinator gave it.
    pub member_id: &'a str,
    /// Its `group.instance.id` (KIP-345).
    pub group_instance_id: Option<&'a str>,
    /// Its `client.id`.
    pub client_id: &'a str,
    /// Its address, as Java writes it.
    pub client_host: &'a str,
    /// How long it may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// How long it may stay silent.
    pub session_timeout_ms: i32,
    /// What it sent for the chosen protocol.
    pub subscription: &'a [u8],
    /// What the leader assigned to it.
    pub assignment: &'a [u8],
}

/// Writes the head of a group's value; [`put_member_value`] follows once for each of `member_count` members.
pub fn put_group_value_head(out: &mut BytesMut, value: &GroupValue<'_>, member_count: usize) {
    out.put_i16(GROUP_VALUE_VERSION);
    put_string(out, value.protocol_type);
    out.put_i32(value.generation);
    put_nullable_string(out, value.protocol);
    put_nullable_string(out, value.leader);
    out.put_i64(value.current_state_timestamp);
    out.put_i32(i32::try_from(member_count).unwrap_or(i32::MAX));
}

/// Writes one member of a group's value.
pub fn put_member_value(out: &mut BytesMut, member: &MemberValue<'_>) {
    put_string(out, member.member_id);
    put_nullable_string(out, member.group_instance_id);
    put_string(out, member.client_id);
    put_string(out, member.client_host);
    out.put_i32(member.rebalance_timeout_ms);
    out.put_i32(member.session_timeout_ms);
    put_bytes(out, member.subscription);
    put_bytes(out, member.assignment);
}

/// Writes a whole group's value.
pub fn encode_group_value(value: &GroupValue<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    put_group_value_head(&mut out, value, value.members.len());
    for member in &value.members {
        put_member_value(&mut out, member);
    }
    out.freeze()
}

/// Reads a group's value.
///
/// # Errors
/// If the bytes do not follow the schema of the version they name, or it is not known.
pub fn decode_group_value(bytes: &[u8]) -> Result<GroupValue<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    if !(0..=FLEXIBLE_VERSION).contains(&version) {
        return Err(Malformed::Version(version));
    }
    let flexible = version >= FLEXIBLE_VERSION;
    let mut value = GroupValue {
        protocol_type: reader.string(flexible)?,
        generation: reader.i32()?,
        protocol: reader.nullable_string(flexible)?,
        leader: reader.nullable_string(flexible)?,
        current_state_timestamp: if version >= 2 { reader.i64()? } else { -1 },
        members: Vec::new(),
    };
    for _ in 0..reader.array_len(flexible)? {
        value.members.push(decode_member_value(&mut reader, version)?);
    }
    reader.skip_tags(flexible)?;
    Ok(value)
}

fn decode_member_value<'a>(reader: &mut Reader<'a>, version: i16) -> Result<MemberValue<'a>, Malformed> {
    let flexible = version >= FLEXIBLE_VERSION;
    let member_id = reader.string(flexible)?;
    let group_instance_id = if version >= 3 { reader.nullable_string(flexible)? } else { None };
    let client_id = reader.string(flexible)?;
    let client_host = reader.string(flexible)?;
    let rebalance_timeout_ms = if version >= 1 { Some(reader.i32()?) } else { None };
    let session_timeout_ms = reader.i32()?;
    let member = MemberValue {
        member_id,
        group_instance_id,
        client_id,
        client_host,
        // Before there was a time-out for rebalances the session's served for both.
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: reader.bytes(flexible)?,
        assignment: reader.bytes(flexible)?,
    };
    reader.skip_tags(flexible)?;
    Ok(member)
}

#[cfg(test)]
mod tests;
