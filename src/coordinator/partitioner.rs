//! Which partition of an internal topic a group or a transactional id belongs to.

/// Java's `String.hashCode`: over UTF-16 code units, wrapping.
pub fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of `key` among `partitions`: the absolute value of its hash, modulo. The smallest `i32`, which has no
/// absolute value, counts as 0 (`Utils.abs`; not `Utils.toPositive`, which drops the sign bit). 0 if there is no partition
/// at all.
pub fn partition_for(key: &str, partitions: i32) -> i32 {
    if partitions <= 0 { 0 } else { java_string_hash(key).checked_abs().unwrap_or(0) % partitions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_java_s() {
        assert_eq!(java_string_hash(""), 0);
        assert_eq!(java_string_hash("hello"), 99_162_322);
        assert_eq!(java_string_hash("polygenelubricants"), i32::MIN);
        // One character outside the basic plane counts as its two surrogates: 0xd83d * 31 + 0xde00.
        assert_eq!(java_string_hash("\u{1f600}"), 0xd83d * 31 + 0xde00);
    }

    #[test]
    fn partitions_are_never_negative() {
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("hello", 50), 22);
        assert_eq!(partition_for("-", 50), 45);
        assert_eq!(partition_for("x", 0), 0);
    }

    #[test]
    fn negative_hashes_count_by_their_absolute_value() {
        // What JVM brokers log for this group: __consumer_offsets-0 of three.
        assert_eq!(java_string_hash("rolled-group"), -1_869_572_274);
        assert_eq!(partition_for("rolled-group", 3), 0);
        assert_eq!(partition_for("rolled-group", 50), 24);
    }
}
