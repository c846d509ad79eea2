//! Listeners and endpoints: `NAME://host:port`. Knows nothing of sockets.

use std::fmt;
use std::str::FromStr;

use super::def::ConfigError;
use crate::base::address::host_port;

/// How a listener is secured (`SecurityProtocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// The number it has on the wire and in UpdateMetadata.
    pub const fn id(self) -> i16 {
        match self {
            Self::Plaintext => 0,
            Self::Ssl => 1,
            Self::SaslPlaintext => 2,
            Self::SaslSsl => 3,
        }
    }

    /// The name users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

impl FromStr for SecurityProtocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl]
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(text))
            .ok_or(())
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a broker listens, or where it says it does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The listener's name, in capitals.
    pub listener: String,
    /// What that name stands for.
    pub protocol: SecurityProtocol,
    /// Host name or address, without brackets; empty for every interface.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    /// As in `listeners` and in `/brokers/ids/N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.listener, host_port(&self.host, self.port))
    }
}

/// What each listener name stands for, in the order written.
pub type ProtocolMap = Vec<(String, SecurityProtocol)>;

/// Reads `listener.security.protocol.map`.
///
/// # Errors
/// [`ConfigError::Invalid`] for an unknown protocol or a name without one.
pub fn parse_protocol_map(text: &str) -> Result<ProtocolMap, ConfigError> {
    let allowed = "NAME:PROTOCOL pairs, comma separated; the protocols are PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL";
    let bad = || ConfigError::not_allowed("listener.security.protocol.map", text, allowed);
    items(text)
        .map(|pair| {
            let (name, protocol) = pair.rsplit_once(':').ok_or_else(bad)?;
            Ok((name.trim().to_uppercase(), protocol.trim().parse().map_err(|()| bad())?))
        })
        .collect()
}

/// Reads `listeners` or `advertised.listeners` (named by `key`).
///
/// # Errors
/// [`ConfigError::Invalid`] for anything but `NAME://host:port`, a name that `map` lacks or one named twice.
pub fn parse_endpoints(key: &str, text: &str, map: &ProtocolMap) -> Result<Vec<Endpoint>, ConfigError> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in items(text) {
        let allowed = "NAME://host:port, comma separated, with ports from 0 to 65535";
        let (name, host, port) = split_endpoint(item).ok_or_else(|| ConfigError::not_allowed(key, text, allowed))?;
        let listener = name.to_uppercase();
        let Some((_, protocol)) = map.iter().find(|(known, _)| *known == listener) else {
            let rule = format!("listener.security.protocol.map does not say what {listener} stands for");
            return Err(ConfigError::conflict(key, text, rule));
        };
        if endpoints.iter().any(|other| other.listener == listener) {
            return Err(ConfigError::conflict(
                key,
                text,
                format!("each listener needs a name of its own, {listener} is there twice"),
            ));
        }
        endpoints.push(Endpoint { listener, protocol: *protocol, host: host.to_owned(), port });
    }
    Ok(endpoints)
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Splits `NAME://host:port`; brackets around the host are dropped.
fn split_endpoint(text: &str) -> Option<(&str, &str, u16)> {
    let (name, address) = text.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None => host,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    (!name.is_empty() && host.chars().all(is_host)).then_some((name, host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map() -> ProtocolMap {
        parse_protocol_map("PLAINTEXT:PLAINTEXT,ssl:SSL,INTERNAL:sasl_ssl").expect("a map")
    }

    #[test]
    fn endpoints_are_read_and_written() {
        let text = "plaintext://:9092, SSL://[::1]:9093,INTERNAL://a-b.c:0";
        let endpoints = parse_endpoints("listeners", text, &map()).expect("endpoints");
        let written: Vec<String> = endpoints.iter().map(Endpoint::to_string).collect();
        assert_eq!(written, ["PLAINTEXT://:9092", "SSL://[::1]:9093", "INTERNAL://a-b.c:0"]);
        assert_eq!(endpoints[2].protocol, SecurityProtocol::SaslSsl);
        assert_eq!(endpoints[1].host, "::1");
    }

    #[test]
    fn bad_endpoints_are_refused_by_name() {
        for text in
            ["localhost:9092", "PLAINTEXT://h", "PLAINTEXT://h:65536", "OTHER://h:1", "PLAINTEXT://a:1,PLAINTEXT://b:2"]
        {
            let error = parse_endpoints("listeners", text, &map()).expect_err(text).to_string();
            assert!(error.starts_with(&format!("listeners={text} ")), "{error}");
        }
        assert!(parse_protocol_map("A:B").is_err() && parse_protocol_map("A").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(host in "[a-z0-9.-]{0,20}", port: u16) {
            let endpoint = Endpoint { listener: "SSL".into(), protocol: SecurityProtocol::Ssl, host, port };
            prop_assert_eq!(parse_endpoints("listeners", &endpoint.to_string(), &map()), Ok(vec![endpoint]));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_endpoints("listeners", &text, &map());
            let _ = parse_protocol_map(&text);
        }
    }
}
