//! What the handlers of groups share: names off the wire and back onto it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

/// What may be done to a group when nobody is refused, a bit for each of Kafka's operations: read, delete, describe,
/// describe configs, alter configs (`AclEntry.supportedOperations` of 3.9).
pub const GROUP_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 11);

/// A wire string as an answer carries it.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A wire string that may be null, on its own: it must not hold the request's frame in memory.
pub fn owned(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(|text| Arc::from(text.as_str()))
}

/// The first 255 characters of what a client gives as its reason, which is what Java clients send at most (KIP-800).
pub fn reason(text: Option<&StrBytes>) -> Option<&str> {
    text.map(|text| {
        let end = text.char_indices().nth(255).map_or(text.len(), |(end, _)| end);
        &text[..end]
    })
}

/// An address as Java's `InetAddress.toString` writes one that was never resolved: `/127.0.0.1`, and IPv6 without any
/// abbreviation.
pub fn client_host(peer: SocketAddr) -> String {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}"),
        IpAddr::V6(ip) => {
            let groups: Vec<String> = ip.segments().iter().map(|group| format!("{group:x}")).collect();
            format!("/{}", groups.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_writes_them() {
        let host = |address: &str| client_host(address.parse().expect("an address"));
        assert_eq!(host("127.0.0.1:9"), "/127.0.0.1");
        assert_eq!(host("[::1]:9"), "/0:0:0:0:0:0:0:1");
        assert_eq!(host("[::ffff:10.0.0.1]:9"), "/10.0.0.1");
    }
}
