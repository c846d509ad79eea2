//! The part of the consumers' own embedded protocol that the broker looks into: which topics a member subscribes to
//! (`ConsumerProtocolSubscription`). The bytes are the client's, so nothing in them is trusted.

use crate::coordinator::wire::{Malformed, Reader};

/// The protocol type of Kafka's consumers.
pub const PROTOCOL_TYPE: &str = "consumer";

/// Calls `each` with every subscribed topic. All versions begin with those of version 0, which is all that is read.
///
/// # Errors
/// If the bytes are not a subscription.
pub fn for_each_topic<'a>(subscription: &'a [u8], mut each: impl FnMut(&'a str)) -> Result<(), Malformed> {
    let mut reader = Reader::new(subscription);
    let version = reader.i16()?;
    if version < 0 {
        return Err(Malformed::Version(version));
    }
    for _ in 0..reader.array_len(false)? {
        each(reader.string(false)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(bytes: &[u8]) -> Result<Vec<&str>, Malformed> {
        let mut out = Vec::new();
        for_each_topic(bytes, |topic| out.push(topic))?;
        Ok(out)
    }

    #[test]
    fn topics_of_any_version_are_read() {
        let v1 = [0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(topics(&v1), Ok(vec!["a", "bc"]));
        assert_eq!(topics(&[0, 0, 0, 0, 0, 0]), Ok(vec![]));
    }

    #[test]
    fn hostile_counts_are_refused() {
        assert!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff]).is_err());
        assert!(topics(&[0, 0, 0xff, 0xff, 0xff, 0xfe]).is_err());
        assert!(topics(&[0, 0, 0, 0, 0, 1, 0x7f, 0xff]).is_err());
        assert!(topics(&[0xff, 0xff, 0, 0, 0, 0]).is_err());
        assert!(topics(&[0]).is_err());
    }
}
