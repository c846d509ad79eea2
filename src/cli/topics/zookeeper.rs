//! `kafka-topics.sh --zookeeper`: right on the znodes, as 2.8's tool does it.

use super::Options;

/// Does what the options say.
pub async fn execute(_options: &Options, _connect: &str) -> anyhow::Result<()> {
    anyhow::bail!("--zookeeper is still being built")
}
