//! From the configuration to what each room wants to know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::base::ids::BrokerId;
use crate::config::broker::BrokerConfig;
use crate::coordinator::group::config::GroupConfig;
use crate::coordinator::txn::config::TxnConfig;
use crate::network::limits::{ConnectionLimits, parse_overrides};
use crate::network::listener::{Endpoint, SocketSettings};
use crate::zk::znodes::broker_ids::{BrokerInfo, Endpoint as Advertised};

/// Where to listen.
pub fn endpoints(config: &BrokerConfig) -> Vec<Endpoint> {
    let endpoints = config.endpoints().iter();
    endpoints
        .map(|endpoint| Endpoint {
            listener: Arc::from(endpoint.listener.as_str()),
            host: endpoint.host.clone(),
            port: endpoint.port,
        })
        .collect()
}

/// How to treat the sockets.
///
/// # Errors
/// A host of `max.connections.per.ip.overrides` that cannot be found.
pub fn sockets(config: &BrokerConfig) -> anyhow::Result<SocketSettings> {
    let idle = u64::try_from(config.connections_max_idle_ms).ok();
    Ok(SocketSettings {
        send_buffer_bytes: config.socket_send_buffer_bytes,
        receive_buffer_bytes: config.socket_receive_buffer_bytes,
        backlog: config.socket_listen_backlog_size,
        max_request_bytes: count(config.socket_request_max_bytes),
        max_idle: idle.map(Duration::from_millis),
        queued_max_request_bytes: config.queued_max_request_bytes,
        limits: connection_limits(config)?,
    })
}

/// How many connections there may be.
///
/// # Errors
/// A host of `max.connections.per.ip.overrides` that cannot be found.
pub fn connection_limits(config: &BrokerConfig) -> anyhow::Result<ConnectionLimits> {
    let limit_of = |listener: &str| Some(config.listener_max_connections(listener)).filter(|limit| *limit < i32::MAX);
    let listeners = config.endpoints().iter().map(|endpoint| &endpoint.listener);
    Ok(ConnectionLimits {
        max_connections: count(config.max_connections),
        per_listener: listeners.filter_map(|name| Some((name.clone(), count(limit_of(name)?)))).collect(),
        protected: (config.endpoints().len() > 1).then(|| config.inter_broker_listener().to_owned()),
        max_per_ip: count(config.max_connections_per_ip),
        per_ip_overrides: parse_overrides(&config.max_connections_per_ip_overrides)
            .map_err(|why| anyhow::anyhow!("max.connections.per.ip.overrides: {why}"))?,
        max_creation_rate: count(config.max_connection_creation_rate),
    })
}

/// What goes into `/brokers/ids/N`: an empty host stands for this machine's name, port 0 for the port that was bound.
///
/// # Errors
/// This machine's name is not known.
pub fn broker_info(
    config: &BrokerConfig,
    id: BrokerId,
    bound: &[(Arc<str>, SocketAddr)],
) -> anyhow::Result<BrokerInfo> {
    let mut advertised = Vec::new();
    for endpoint in config.advertised_endpoints() {
        let bound = bound.iter().find(|(listener, _)| **listener == *endpoint.listener);
        let port = match (endpoint.port, bound) {
            (0, Some((_, address))) => address.port(),
            (port, _) => port,
        };
        let host = if endpoint.host.is_empty() { own_host_name()? } else { endpoint.host.clone() };
        advertised.push(Advertised {
            listener: endpoint.listener.clone(),
            security_protocol: endpoint.protocol.name().to_owned(),
            host,
            port: i32::from(port),
        });
    }
    let mut info = BrokerInfo::new(id, advertised, 0);
    info.rack = config.broker_rack.clone();
    Ok(info)
}

fn own_host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("this machine's name is not known; set advertised.listeners")?;
    Ok(name.to_string_lossy().into_owned())
}

/// What the group coordinator wants to know.
pub fn groups(config: &BrokerConfig) -> GroupConfig {
    GroupConfig::from(config)
}

/// What the transaction coordinator wants to know.
pub fn transactions(config: &BrokerConfig) -> TxnConfig {
    TxnConfig::from(config)
}

/// A duration out of a key in milliseconds; a negative one counts as none.
pub fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}
