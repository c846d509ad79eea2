//! `zookeeper.connect`: where ZooKeeper is, and under which node of it the cluster lives. Knows no client.

use std::fmt;

use super::def::ConfigError;
use crate::base::address::host_port;

/// The servers of an ensemble and a chroot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZkConnect {
    /// The servers as host (without brackets) and port, in the order written.
    pub hosts: Vec<(String, u16)>,
    /// The node all paths stand under, such as `/kafka`; empty for none.
    pub chroot: String,
}

impl ZkConnect {
    /// Reads `host[:port],host[:port]/chroot`; a port not given is 2181.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is anything else.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::try_parse(text.trim()).ok_or_else(|| {
            let allowed = "host:port pairs, comma separated, with an optional /chroot behind the last";
            ConfigError::not_allowed("zookeeper.connect", text, allowed)
        })
    }

    fn try_parse(text: &str) -> Option<Self> {
        let (servers, chroot) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let chroot = if chroot == "/" { "" } else { chroot };
        if chroot.ends_with('/') || chroot.contains("//") || chroot.contains(char::is_whitespace) {
            return None;
        }
        let hosts = servers.split(',').map(|server| split_host(server.trim())).collect::<Option<Vec<_>>>()?;
        Some(Self { hosts, chroot: chroot.to_owned() })
    }

    /// The servers alone, as a client takes them.
    pub fn servers(&self) -> String {
        self.hosts.iter().map(|(host, port)| host_port(host, *port)).collect::<Vec<_>>().join(",")
    }
}

fn split_host(server: &str) -> Option<(String, u16)> {
    const DEFAULT_PORT: u16 = 2181;
    let (host, port) = if let Some(rest) = server.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port)))
    };
    let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok())?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    (!host.is_empty() && port > 0 && host.chars().all(is_host)).then(|| (host.to_owned(), port))
}

impl fmt::Display for ZkConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.servers(), self.chroot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_and_chroot_are_told_apart() {
        let connect = ZkConnect::parse("a:1, b ,[::1]:3/kafka/east").expect("a connect string");
        assert_eq!(connect.hosts, [("a".into(), 1), ("b".into(), 2181), ("::1".into(), 3)]);
        assert_eq!(connect.chroot, "/kafka/east");
        assert_eq!(connect.to_string(), "a:1,b:2181,[::1]:3/kafka/east");
        assert_eq!(ZkConnect::parse("a:1/").expect("a connect string").chroot, "");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a:x", "a:0", "a:1,", "/kafka", "a:1/kafka/", "a:1//x", "a b:1", "[::1"] {
            assert!(ZkConnect::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(hosts in prop::collection::vec(("[a-z][a-z0-9.-]{0,8}", 1u16..), 1..4), chroot in "(/[a-z]{1,5}){0,2}") {
            let connect = ZkConnect { hosts, chroot };
            prop_assert_eq!(ZkConnect::parse(&connect.to_string()), Ok(connect));
        }
    }
}
