//! Which partition of an internal topic a group or a transactional id belongs to.

/// Java's `String.hashCode`: over UTF-16 code units, wrapping.
pub fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of `key` among `partitions`: the hash without its sign bit, modulo (`Utils.abs` in the original, which
/// is not the mathematical absolute value). 0 if there is no partition at all.
pub fn partition_for(key: &str, partitions: i32) -> i32 {
    if partitions <= 0 { 0 } else { (java_string_hash(key) & 0x7fff_ffff) % partitions }
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
}
