//! `/consumers/G/offsets/T/P`: where version 0 of OffsetCommit puts offsets, as ASCII numbers, beside those of the
//! consumers that talked to ZooKeeper themselves.

use super::corrupt;
use crate::zk::error::ZkError;

/// The node of a partition's offset. `None` if a name cannot be part of a path; the original would write elsewhere.
pub fn offset_path(group: &str, topic: &str, partition: i32) -> Option<String> {
    let fits = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    (fits(group) && fits(topic)).then(|| format!("/consumers/{group}/offsets/{topic}/{partition}"))
}

/// The node's data.
pub fn encode_offset(offset: i64) -> Vec<u8> {
    offset.to_string().into_bytes()
}

/// Reads the node's data.
///
/// # Errors
/// If it is no number.
pub fn decode_offset(path: &str, data: &[u8]) -> Result<i64, ZkError> {
    let text = std::str::from_utf8(data).map_err(|error| corrupt(path, error))?;
    text.trim().parse().map_err(|error| corrupt(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_read_back() {
        assert_eq!(offset_path("g", "t", 3).as_deref(), Some("/consumers/g/offsets/t/3"));
        assert_eq!(decode_offset("/x", &encode_offset(-7)), Ok(-7));
        assert!(decode_offset("/x", b"seven").is_err() && decode_offset("/x", &[0xff]).is_err());
    }

    #[test]
    fn names_do_not_leave_their_place() {
        for group in ["", ".", "..", "a/b", "/config", "a\0"] {
            assert_eq!(offset_path(group, "t", 0), None);
        }
    }
}
