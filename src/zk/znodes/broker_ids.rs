//! `/brokers/ids/N`, the ephemeral registration of a live broker, and `/brokers/seqid`, the source of generated ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{from_json, to_json};
use crate::base::address::host_port;
use crate::base::ids::{BrokerEpoch, BrokerId};
use crate::zk::error::ZkError;

/// The parent of the registrations.
pub const PATH: &str = "/brokers/ids";
/// Its data version, raised by writes without data, is the next generated id less `reserved.broker.max.id`.
pub const SEQID_PATH: &str = "/brokers/seqid";

/// The path of a broker's registration.
pub fn path(id: BrokerId) -> String {
    format!("{PATH}/{id}")
}

/// Where clients or brokers reach a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, in capitals.
    pub listener: String,
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub security_protocol: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: i32,
}

impl Endpoint {
    /// A plaintext endpoint of the listener `PLAINTEXT`.
    pub fn plaintext(host: impl Into<String>, port: i32) -> Self {
        Self { listener: "PLAINTEXT".into(), security_protocol: "PLAINTEXT".into(), host: host.into(), port }
    }

    /// The protocol's number on the wire (`SecurityProtocol.id`).
    pub fn security_protocol_id(&self) -> i16 {
        match self.security_protocol.as_str() {
            "SSL" => 1,
            "SASL_PLAINTEXT" => 2,
            "SASL_SSL" => 3,
            _ => 0,
        }
    }

    fn encode(&self) -> String {
        format!("{}://{}", self.listener, host_port(&self.host, self.port))
    }

    fn decode(text: &str, protocols: &BTreeMap<String, String>) -> Option<Self> {
        let (listener, address) = text.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let security_protocol = protocols.get(listener).map_or(listener, String::as_str).to_owned();
        Some(Self { listener: listener.to_owned(), security_protocol, host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// A broker as its registration shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its id.
    pub id: BrokerId,
    /// Its advertised listeners.
    pub endpoints: Vec<Endpoint>,
    /// Its rack, `broker.rack`.
    pub rack: Option<String>,
    /// The port of its JMX server, -1 if it has none.
    pub jmx_port: i32,
    /// When it registered, in milliseconds since 1970.
    pub timestamp: i64,
    /// The names and version ranges of features it supports (KIP-584); kept as they are.
    pub features: serde_json::Map<String, serde_json::Value>,
    /// The epoch of the first registration of this process, if its session ended since and it registered anew: it has lost
    /// nothing then. Ours alone; JVM brokers neither write nor mind it.
    pub first_epoch: Option<BrokerEpoch>,
}

impl BrokerInfo {
    /// A broker without features, rack or JMX port.
    pub fn new(id: BrokerId, endpoints: Vec<Endpoint>, timestamp: i64) -> Self {
        let features = serde_json::Map::new();
        Self { id, endpoints, rack: None, jmx_port: -1, timestamp, features, first_epoch: None }
    }

    /// The endpoint of a listener.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }

    /// The node's data, version 5 (IBP 2.7 and later).
    pub fn encode(&self) -> Vec<u8> {
        let plaintext = self.endpoints.iter().find(|endpoint| endpoint.security_protocol == "PLAINTEXT");
        let protocols = self.endpoints.iter().map(|e| (e.listener.as_str(), e.security_protocol.as_str().into()));
        to_json(&Written {
            features: &self.features,
            listener_security_protocol_map: protocols.map(|(k, v)| (k.to_owned(), v)).collect(),
            endpoints: self.endpoints.iter().map(Endpoint::encode).collect(),
            rack: self.rack.as_deref(),
            jmx_port: self.jmx_port,
            port: plaintext.map_or(-1, |endpoint| endpoint.port),
            host: plaintext.map(|endpoint| endpoint.host.as_str()),
            version: 5,
            timestamp: self.timestamp.to_string(),
            first_epoch: self.first_epoch.map(BrokerEpoch::get),
        })
    }

    /// Reads versions 1 to 5.
    pub fn decode(id: BrokerId, data: &[u8]) -> Result<Self, ZkError> {
        let read: Read = from_json(&path(id), data)?;
        let mut endpoints: Vec<Endpoint> =
            read.endpoints.iter().filter_map(|e| Endpoint::decode(e, &read.listener_security_protocol_map)).collect();
        if let (true, Some(host)) = (read.endpoints.is_empty(), read.host) {
            endpoints.push(Endpoint::plaintext(host, read.port));
        }
        let timestamp = match read.timestamp {
            Some(serde_json::Value::String(text)) => text.parse().unwrap_or(-1),
            Some(value) => value.as_i64().unwrap_or(-1),
            None => -1,
        };
        let features = read.features.unwrap_or_default();
        let (jmx_port, first_epoch) = (read.jmx_port.unwrap_or(-1), read.first_epoch.map(BrokerEpoch));
        Ok(Self { id, endpoints, rack: read.rack, jmx_port, timestamp, features, first_epoch })
    }
}

/// A live broker: what it registered, and the epoch of this life of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveBroker {
    /// What it registered.
    pub info: BrokerInfo,
    /// The czxid of the registration.
    pub epoch: BrokerEpoch,
}

impl LiveBroker {
    /// When the process registered first: what it had then it has still.
    pub fn alive_since(&self) -> BrokerEpoch {
        self.info.first_epoch.unwrap_or(self.epoch)
    }
}

#[derive(Serialize)]
struct Written<'a> {
    features: &'a serde_json::Map<String, serde_json::Value>,
    listener_security_protocol_map: serde_json::Map<String, serde_json::Value>,
    endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rack: Option<&'a str>,
    jmx_port: i32,
    port: i32,
    host: Option<&'a str>,
    version: i32,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_epoch: Option<i64>,
}

#[derive(Deserialize)]
struct Read {
    features: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    listener_security_protocol_map: BTreeMap<String, String>,
    #[serde(default)]
    endpoints: Vec<String>,
    rack: Option<String>,
    jmx_port: Option<i32>,
    #[serde(default)]
    port: i32,
    host: Option<String>,
    timestamp: Option<serde_json::Value>,
    first_epoch: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = r#"{"features":{},"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},"endpoints":["PLAINTEXT://127.0.0.1:19092"],"jmx_port":-1,"port":19092,"host":"127.0.0.1","version":5,"timestamp":"1795353696456"}"#;

    #[test]
    fn a_registration_is_written_as_kafka_writes_it() {
        let info = BrokerInfo::new(BrokerId(0), vec![Endpoint::plaintext("127.0.0.1", 19092)], 1_795_353_696_456);
        assert_eq!(String::from_utf8(info.encode()).unwrap(), SEEN);
        assert_eq!(BrokerInfo::decode(BrokerId(0), SEEN.as_bytes()).unwrap(), info);
    }

    #[test]
    fn named_listeners_and_racks_round_trip_without_a_plaintext_host() {
        let endpoint = |listener: &str, protocol: &str, host: &str| Endpoint {
            listener: listener.into(),
            security_protocol: protocol.into(),
            host: host.into(),
            port: 9093,
        };
        let mut info = BrokerInfo::new(
            BrokerId(7),
            vec![endpoint("INTERNAL", "SSL", "::1"), endpoint("OUTSIDE", "SASL_SSL", "kafka.example")],
            5,
        );
        info.rack = Some("a".into());
        info.first_epoch = Some(BrokerEpoch(9));
        let data = info.encode();
        let text = String::from_utf8(data.clone()).unwrap();
        assert!(text.contains(r#""endpoints":["INTERNAL://[::1]:9093","OUTSIDE://kafka.example:9093"],"rack":"a""#));
        assert!(text.contains(r#""port":-1,"host":null"#));
        assert_eq!(BrokerInfo::decode(BrokerId(7), &data).unwrap(), info);
    }

    #[test]
    fn old_versions_are_read() {
        let v1 = br#"{"version":1,"host":"h","port":9092,"jmx_port":-1,"timestamp":"12"}"#;
        let info = BrokerInfo::decode(BrokerId(1), v1).unwrap();
        assert_eq!(info.endpoints, vec![Endpoint::plaintext("h", 9092)]);
        assert!(BrokerInfo::decode(BrokerId(1), b"").is_err());
    }
}
