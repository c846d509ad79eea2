//! Which versions a follower speaks: those of the cluster's `inter.broker.protocol.version`, never newer
//! (`MetadataVersion`). They are not negotiated: every broker of the cluster speaks that version.

use crate::config::version::KafkaVersion;

/// The first Fetch that names topics by id.
pub const FETCH_BY_IDS: i16 = 13;
/// The first Fetch that tells the follower's broker epoch (KIP-903).
pub const FETCH_WITH_REPLICA_STATE: i16 = 15;

/// The versions of a follower's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchVersions {
    /// Fetch.
    pub fetch: i16,
    /// ListOffsets.
    pub list_offsets: i16,
    /// OffsetForLeaderEpoch.
    pub epochs: i16,
    /// Whether the leader tells in a Fetch answer where the logs diverge (from 2.7-IV1); else it is asked before.
    pub truncates_on_fetch: bool,
}

impl FetchVersions {
    /// Those of a cluster on `version`.
    pub fn of(version: KafkaVersion) -> Self {
        let newest = |table: &[(&str, i16)], oldest: i16| {
            let at_least = |from: &str| KafkaVersion::parse(from).is_some_and(|from| version >= from);
            table.iter().find(|(from, _)| at_least(from)).map_or(oldest, |(_, v)| *v)
        };
        Self {
            fetch: newest(
                &[("3.9-IV0", 17), ("3.7-IV4", 16), ("3.5-IV1", 15), ("3.5-IV0", 14), ("3.1-IV0", 13), ("2.7-IV1", 12)],
                11,
            ),
            list_offsets: newest(&[("3.9-IV0", 9), ("3.5-IV0", 8), ("3.0-IV1", 7), ("2.8-IV0", 6)], 5),
            epochs: newest(&[("2.8-IV0", 4)], 3),
            truncates_on_fetch: version >= KafkaVersion::of("2.7-IV1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_newer_than_the_cluster() {
        let of = |text| {
            let v = FetchVersions::of(KafkaVersion::parse(text).expect("a version"));
            (v.fetch, v.list_offsets, v.epochs, v.truncates_on_fetch)
        };
        assert_eq!(of("2.7-IV0"), (11, 5, 3, false));
        assert_eq!(of("2.7"), (12, 5, 3, true));
        assert_eq!(of("2.8"), (12, 6, 4, true));
        assert_eq!(of("3.2"), (13, 7, 4, true));
        assert_eq!(of("3.5"), (15, 8, 4, true));
        assert_eq!(of("3.9"), (17, 9, 4, true));
    }
}
