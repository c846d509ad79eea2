//! `/cluster/id`, `/feature` and `/latest_producer_id_block`: what belongs to the cluster as a whole.

use serde::{Deserialize, Serialize};

use super::{from_json, to_json};
use crate::zk::error::ZkError;

/// The node with the cluster's id.
pub const ID_PATH: &str = "/cluster/id";
/// The node with the finalized features (KIP-584).
pub const FEATURE_PATH: &str = "/feature";
/// The node with the block of producer ids given out last (KIP-730).
pub const PRODUCER_ID_BLOCK_PATH: &str = "/latest_producer_id_block";

/// The data of `/cluster/id`. The version is a string in it.
pub fn encode_id(id: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Written<'a> {
        version: &'a str,
        id: &'a str,
    }
    to_json(&Written { version: "1", id })
}

/// Reads `/cluster/id`.
pub fn decode_id(data: &[u8]) -> Result<String, ZkError> {
    #[derive(Deserialize)]
    struct Read {
        id: String,
    }
    from_json::<Read>(ID_PATH, data).map(|read| read.id)
}

/// The data of `/feature` with no feature finalized: version 2 from IBP 3.3, version 1 before.
pub fn encode_no_features(version: i32) -> Vec<u8> {
    format!(r#"{{"features":{{}},"version":{version},"status":1}}"#).into_bytes()
}

/// A block of producer ids, the data of `/latest_producer_id_block`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The broker it was given to.
    pub broker: i32,
    /// Its first id.
    pub start: i64,
    /// Its last id.
    pub end: i64,
}

impl ProducerIdBlock {
    /// The node's data; the ids are strings in it.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Written {
            version: i32,
            broker: i32,
            block_start: String,
            block_end: String,
        }
        let (block_start, block_end) = (self.start.to_string(), self.end.to_string());
        to_json(&Written { version: 1, broker: self.broker, block_start, block_end })
    }

    /// Reads the node's data.
    pub fn decode(data: &[u8]) -> Result<Self, ZkError> {
        #[derive(Deserialize)]
        struct Read {
            broker: i32,
            block_start: String,
            block_end: String,
        }
        let read: Read = from_json(PRODUCER_ID_BLOCK_PATH, data)?;
        let number = |text: &str| text.parse().map_err(|error| super::corrupt(PRODUCER_ID_BLOCK_PATH, error));
        Ok(Self { broker: read.broker, start: number(&read.block_start)?, end: number(&read.block_end)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_nodes_are_written_as_kafka_writes_them() {
        let id = br#"{"version":"1","id":"f91kttdvTEO354AhTE_IQw"}"#;
        assert_eq!(encode_id("f91kttdvTEO354AhTE_IQw"), id);
        assert_eq!(decode_id(id).unwrap(), "f91kttdvTEO354AhTE_IQw");
        assert_eq!(encode_no_features(2), br#"{"features":{},"version":2,"status":1}"#);
        let block = ProducerIdBlock { broker: 3, start: 0, end: 999 };
        assert_eq!(block.encode(), br#"{"version":1,"broker":3,"block_start":"0","block_end":"999"}"#);
        assert_eq!(ProducerIdBlock::decode(&block.encode()).unwrap(), block);
    }
}
