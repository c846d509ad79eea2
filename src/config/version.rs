//! Versions of Kafka as `inter.broker.protocol.version` and `message.format.version` name them (`MetadataVersion`).

use std::fmt;

/// Every version of the protocol among brokers up to 3.9, oldest first.
static VERSIONS: &[&str] = &[
    "0.8.0",
    "0.8.1",
    "0.8.2",
    "0.9.0",
    "0.10.0-IV0",
    "0.10.0-IV1",
    "0.10.1-IV0",
    "0.10.1-IV1",
    "0.10.1-IV2",
    "0.10.2-IV0",
    "0.11.0-IV0",
    "0.11.0-IV1",
    "0.11.0-IV2",
    "1.0-IV0",
    "1.1-IV0",
    "2.0-IV0",
    "2.0-IV1",
    "2.1-IV0",
    "2.1-IV1",
    "2.1-IV2",
    "2.2-IV0",
    "2.2-IV1",
    "2.3-IV0",
    "2.3-IV1",
    "2.4-IV0",
    "2.4-IV1",
    "2.5-IV0",
    "2.6-IV0",
    "2.7-IV0",
    "2.7-IV1",
    "2.7-IV2",
    "2.8-IV0",
    "2.8-IV1",
    "3.0-IV0",
    "3.0-IV1",
    "3.1-IV0",
    "3.2-IV0",
    "3.3-IV0",
    "3.3-IV1",
    "3.3-IV2",
    "3.3-IV3",
    "3.4-IV0",
    "3.5-IV0",
    "3.5-IV1",
    "3.5-IV2",
    "3.6-IV0",
    "3.6-IV1",
    "3.6-IV2",
    "3.7-IV0",
    "3.7-IV1",
    "3.7-IV2",
    "3.7-IV3",
    "3.7-IV4",
    "3.8-IV0",
    "3.9-IV0",
];

/// One of them. A later version is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KafkaVersion(u8);

impl KafkaVersion {
    /// The latest, and the default among brokers.
    pub const LATEST: Self = Self::of("3.9-IV0");
    /// From here on the message format is 2 whatever is configured (KIP-724).
    pub const ALWAYS_MAGIC_2: Self = Self::of("3.0-IV1");

    /// The version written exactly so. For constants: an unknown text does not compile.
    pub const fn of(text: &str) -> Self {
        let mut at = 0;
        while at < VERSIONS.len() {
            if same(VERSIONS[at].as_bytes(), text.as_bytes()) {
                return Self(at as u8);
            }
            at += 1;
        }
        panic!("no such version of Kafka")
    }

    /// Reads `2.8`, `2.8.1`, `0.10.2` or `2.8-IV1`; a text without `-IV` means the last one of that release.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(at) = VERSIONS.iter().position(|version| *version == text) {
            return u8::try_from(at).ok().map(Self);
        }
        if !text.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return None;
        }
        let parts: Vec<&str> = text.split('.').collect();
        let significant = if parts[0] == "0" { 3 } else { 2 };
        let release = parts.get(..significant)?.join(".");
        let at = VERSIONS.iter().rposition(|version| version.split("-IV").next() == Some(release.as_str()))?;
        u8::try_from(at).ok().map(Self)
    }

    /// The record format of that version: 0, 1 from 0.10.0, 2 from 0.11.0.
    pub fn magic(self) -> i8 {
        const MAGIC_1: KafkaVersion = KafkaVersion::of("0.10.0-IV0");
        const MAGIC_2: KafkaVersion = KafkaVersion::of("0.11.0-IV0");
        i8::from(self >= MAGIC_1) + i8::from(self >= MAGIC_2)
    }

    /// As Kafka writes it in full, such as `2.8-IV1`.
    pub fn name(self) -> &'static str {
        VERSIONS[usize::from(self.0)]
    }
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

impl fmt::Display for KafkaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for KafkaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_names_are_read() {
        for (text, name) in [
            ("2.8", "2.8-IV1"),
            ("2.8.2", "2.8-IV1"),
            ("2.8-IV0", "2.8-IV0"),
            ("0.10.1", "0.10.1-IV2"),
            ("0.9.0.1", "0.9.0"),
        ] {
            assert_eq!(KafkaVersion::parse(text).map(KafkaVersion::name), Some(name), "{text}");
        }
        for text in ["", "2", "4.0", "2.8-IV7", "x", "2.8-", "0.10"] {
            assert_eq!(KafkaVersion::parse(text), None, "{text}");
        }
        assert_eq!(KafkaVersion::parse("3.9"), Some(KafkaVersion::LATEST));
    }

    #[test]
    fn formats_follow_versions() {
        for (text, magic) in [("0.9.0", 0), ("0.10.0", 1), ("0.10.2", 1), ("0.11.0", 2), ("3.0", 2)] {
            assert_eq!(KafkaVersion::parse(text).map(KafkaVersion::magic), Some(magic), "{text}");
        }
    }
}
