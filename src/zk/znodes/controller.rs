//! `/controller`, the ephemeral node of the active controller, and `/controller_epoch`, which fences its writes.

use serde::{Deserialize, Serialize};

use super::{corrupt, from_json, to_json};
use crate::base::ids::{BrokerId, ControllerEpoch};
use crate::zk::error::ZkError;

/// The active controller's node.
pub const PATH: &str = "/controller";
/// The node that counts controllers; its version is checked with every write of a controller.
pub const EPOCH_PATH: &str = "/controller_epoch";
/// What `/controller_epoch` is created with before the first election (`KafkaController.InitialControllerEpoch`).
pub const INITIAL_EPOCH: ControllerEpoch = ControllerEpoch(0);

#[derive(Serialize, Deserialize)]
struct Data {
    version: i32,
    brokerid: i32,
    #[serde(default)]
    timestamp: serde_json::Value,
    #[serde(rename = "kraftControllerEpoch", default = "no_kraft_epoch")]
    kraft_controller_epoch: i32,
}

fn no_kraft_epoch() -> i32 {
    -1
}

/// The data of `/controller` as 3.9 writes it, version 2.
pub fn encode(broker: BrokerId, timestamp_ms: i64) -> Vec<u8> {
    let timestamp = timestamp_ms.to_string().into();
    to_json(&Data { version: 2, brokerid: broker.get(), timestamp, kraft_controller_epoch: no_kraft_epoch() })
}

/// Reads who the controller is, of versions 1 and 2.
pub fn decode(data: &[u8]) -> Result<BrokerId, ZkError> {
    from_json::<Data>(PATH, data).map(|read| BrokerId(read.brokerid))
}

/// The data of `/controller_epoch`.
pub fn encode_epoch(epoch: ControllerEpoch) -> Vec<u8> {
    epoch.to_string().into_bytes()
}

/// Reads `/controller_epoch`.
pub fn decode_epoch(data: &[u8]) -> Result<ControllerEpoch, ZkError> {
    let text = std::str::from_utf8(data).map_err(|error| corrupt(EPOCH_PATH, error))?;
    text.trim().parse().map(ControllerEpoch).map_err(|error| corrupt(EPOCH_PATH, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_and_the_newer_is_written() {
        let v2 = br#"{"version":2,"brokerid":0,"timestamp":"1795353696456","kraftControllerEpoch":-1}"#;
        assert_eq!(encode(BrokerId(0), 1_795_353_696_456), v2);
        assert_eq!(decode(v2).unwrap(), BrokerId(0));
        assert_eq!(decode(br#"{"version":1,"brokerid":5,"timestamp":"1"}"#).unwrap(), BrokerId(5));
        assert_eq!(encode_epoch(ControllerEpoch(12)), b"12");
        assert_eq!(decode_epoch(b"12").unwrap(), ControllerEpoch(12));
        assert!(decode_epoch(b"").is_err());
    }
}
