use super::*;

/// Bytes from hex with blanks and, in quotes, text.
fn golden(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('"') {
            Some(quoted) => out.extend_from_slice(quoted.trim_end_matches('"').as_bytes()),
            None => {
                out.extend(
                    (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).expect("hex")),
                );
            }
        }
    }
    out
}

fn committed(expires: Option<i64>) -> CommittedOffset {
    CommittedOffset {
        offset: 0x0102,
        leader_epoch: 7,
        metadata: "meta".into(),
        commit_timestamp: 0x0a0b,
        expire_timestamp: expires,
    }
}

#[test]
fn offset_keys_are_the_original_s() {
    let mut out = BytesMut::new();
    put_offset_key(&mut out, "grp", "topic", 9);
    assert_eq!(out, golden(r#"0001 0003 "grp" 0005 "topic" 00000009"#));
    assert_eq!(Key::decode(&out), Ok(Key::Offset { group: "grp", topic: "topic", partition: 9 }));
    out[1] = 0;
    assert_eq!(Key::decode(&out), Ok(Key::Offset { group: "grp", topic: "topic", partition: 9 }));
}

#[test]
fn group_keys_are_the_original_s() {
    let mut out = BytesMut::new();
    put_group_key(&mut out, "grp");
    assert_eq!(out, golden(r#"0002 0003 "grp""#));
    assert_eq!(Key::decode(&out), Ok(Key::Group { group: "grp" }));
    assert_eq!(Key::decode(&golden("0003 00")), Ok(Key::Unknown(3)));
    assert_eq!(Key::decode(&[0]), Err(Malformed::Truncated));
}

#[test]
fn offset_values_are_of_version_3() {
    let mut out = BytesMut::new();
    put_offset_value(&mut out, &committed(None));
    assert_eq!(out, golden(r#"0003 0000000000000102 00000007 0004 "meta" 0000000000000a0b"#));
    assert_eq!(decode_offset_value(&out), Ok(committed(None)));
}

#[test]
fn offset_values_with_an_expiry_are_of_version_1() {
    let mut out = BytesMut::new();
    put_offset_value(&mut out, &committed(Some(0x0c)));
    assert_eq!(out, golden(r#"0001 0000000000000102 0004 "meta" 0000000000000a0b 000000000000000c"#));
    // Version 1 has no room for the leader epoch.
    assert_eq!(decode_offset_value(&out), Ok(CommittedOffset { leader_epoch: -1, ..committed(Some(0x0c)) }));
}

#[test]
fn offset_values_of_every_version_are_read() {
    let without = CommittedOffset { leader_epoch: -1, ..committed(None) };
    for (version, bytes) in [
        (0, r#"0000 0000000000000102 0004 "meta" 0000000000000a0b"#),
        (1, r#"0001 0000000000000102 0004 "meta" 0000000000000a0b ffffffffffffffff"#),
        (2, r#"0002 0000000000000102 0004 "meta" 0000000000000a0b"#),
    ] {
        assert_eq!(decode_offset_value(&golden(bytes)), Ok(without.clone()), "version {version}");
    }
    // Version 4 is flexible; later ones add a topic id as a tagged field.
    let flexible = golden(r#"0004 0000000000000102 00000007 05 "meta" 0000000000000a0b 01 00 02 0102"#);
    assert_eq!(decode_offset_value(&flexible), Ok(committed(None)));
    assert_eq!(decode_offset_value(&golden("0005")), Err(Malformed::Version(5)));
    assert_eq!(decode_offset_value(&golden("0003 00")), Err(Malformed::Truncated));
}

fn group_value() -> GroupValue<'static> {
    GroupValue {
        protocol_type: "consumer",
        generation: 5,
        protocol: Some("range"),
        leader: Some("m1"),
        current_state_timestamp: 0x0e,
        members: vec![MemberValue {
            member_id: "m1",
            group_instance_id: None,
            client_id: "cli",
            client_host: "/127.0.0.1",
            rebalance_timeout_ms: 0x0200,
            session_timeout_ms: 0x0100,
            subscription: &[0xaa, 0xbb],
            assignment: &[0xcc],
        }],
    }
}

const GROUP_V3: &str = r#"0003 0008 "consumer" 00000005 0005 "range" 0002 "m1" 000000000000000e 00000001
    0002 "m1" ffff 0003 "cli" 000a "/127.0.0.1" 00000200 00000100 00000002 aabb 00000001 cc"#;

#[test]
fn group_values_are_of_version_3() {
    assert_eq!(encode_group_value(&group_value()), golden(GROUP_V3));
    assert_eq!(decode_group_value(&golden(GROUP_V3)), Ok(group_value()));
}

#[test]
fn an_empty_group_s_value_has_no_protocol_and_no_leader() {
    let value = GroupValue { protocol: None, leader: None, members: Vec::new(), ..group_value() };
    let expected = golden(r#"0003 0008 "consumer" 00000005 ffff ffff 000000000000000e 00000000"#);
    assert_eq!(encode_group_value(&value), expected);
    assert_eq!(decode_group_value(&expected), Ok(value));
}

#[test]
fn group_values_of_every_version_are_read() {
    let v0 = r#"0000 0008 "consumer" 00000005 0005 "range" 0002 "m1" 00000001
        0002 "m1" 0003 "cli" 000a "/127.0.0.1" 00000100 00000002 aabb 00000001 cc"#;
    let mut expected = group_value();
    expected.current_state_timestamp = -1;
    expected.members[0].rebalance_timeout_ms = 0x0100;
    assert_eq!(decode_group_value(&golden(v0)), Ok(expected.clone()));

    let v1 = r#"0001 0008 "consumer" 00000005 0005 "range" 0002 "m1" 00000001
        0002 "m1" 0003 "cli" 000a "/127.0.0.1" 00000200 00000100 00000002 aabb 00000001 cc"#;
    expected.members[0].rebalance_timeout_ms = 0x0200;
    assert_eq!(decode_group_value(&golden(v1)), Ok(expected.clone()));

    let v2 = r#"0002 0008 "consumer" 00000005 0005 "range" 0002 "m1" 000000000000000e 00000001
        0002 "m1" 0003 "cli" 000a "/127.0.0.1" 00000200 00000100 00000002 aabb 00000001 cc"#;
    expected.current_state_timestamp = 0x0e;
    assert_eq!(decode_group_value(&golden(v2)), Ok(expected.clone()));

    let v4 = r#"0004 09 "consumer" 00000005 06 "range" 03 "m1" 000000000000000e 02
        03 "m1" 03 "i1" 04 "cli" 0b "/127.0.0.1" 00000200 00000100 03 aabb 02 cc 00 00"#;
    expected.members[0].group_instance_id = Some("i1");
    assert_eq!(decode_group_value(&golden(v4)), Ok(expected));
}

#[test]
fn hostile_member_counts_reserve_nothing() {
    let bytes = golden(r#"0003 0001 "c" 00000005 ffff ffff 000000000000000e 7fffffff"#);
    assert_eq!(decode_group_value(&bytes), Err(Malformed::Length));
}

#[test]
fn cut_values_are_refused_at_every_length() {
    let whole = golden(GROUP_V3);
    for len in 0..whole.len() {
        assert!(decode_group_value(&whole[..len]).is_err(), "cut at {len}");
    }
}

mod random {
    use proptest::prelude::*;

    use super::super::*;
    use crate::coordinator::group::consumer_protocol::for_each_topic;

    proptest! {
        #[test]
        fn no_bytes_are_taken_for_more_than_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0_u8..6) {
            let mut bytes = bytes;
            if bytes.len() >= 2 {
                (bytes[0], bytes[1]) = (0, version);
            }
            let _ = Key::decode(&bytes);
            let _ = decode_offset_value(&bytes);
            if let Ok(value) = decode_group_value(&bytes) {
                prop_assert!(value.members.len() <= bytes.len());
            }
            let mut topics = 0;
            let _ = for_each_topic(&bytes, |_| topics += 1);
            prop_assert!(topics <= bytes.len());
        }

        #[test]
        fn offsets_read_back(
            offset: i64,
            leader_epoch: i32,
            metadata in ".{0,40}",
            commit_timestamp: i64,
            expires in proptest::option::of(0..i64::MAX),
        ) {
            let committed = CommittedOffset {
                offset,
                leader_epoch,
                metadata: metadata.into(),
                commit_timestamp,
                expire_timestamp: expires,
            };
            let mut out = BytesMut::new();
            put_offset_value(&mut out, &committed);
            let expected = CommittedOffset { leader_epoch: if expires.is_some() { -1 } else { leader_epoch }, ..committed };
            prop_assert_eq!(decode_offset_value(&out), Ok(expected));
        }

        #[test]
        fn keys_read_back(group in ".{0,40}", topic in "[a-z]{1,20}", partition: i32) {
            let mut out = BytesMut::new();
            put_offset_key(&mut out, &group, &topic, partition);
            prop_assert_eq!(Key::decode(&out), Ok(Key::Offset { group: &group, topic: &topic, partition }));
        }
    }
}
