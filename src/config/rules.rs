//! The rules between broker keys (`KafkaConfig.validateValues`), applied once all keys are read: listeners, ids, time-outs.

use super::broker::BrokerConfig;
use super::def::{ConfigError, Warning};
use super::known_keys::REMOVED_KEYS;
use super::listener::{Endpoint, ProtocolMap, SecurityProtocol, parse_endpoints, parse_protocol_map};
use super::version::KafkaVersion;
use super::zk_connect::ZkConnect;

/// Checks what keys say together and fills in what follows from them.
///
/// # Errors
/// The first rule that is broken.
pub(super) fn apply(config: &mut BrokerConfig, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    ids(config)?;
    listeners(config)?;
    unsafe_listeners(config)?;
    inter_broker(config)?;
    control_plane(config)?;
    zookeeper(config)?;
    config.network.per_ip_overrides = per_ip_overrides(&config.max_connections_per_ip_overrides)?;
    logs(config)?;
    replication(config)?;
    superseded(config, warnings);
    Ok(())
}

/// `node.id` and `broker.id` mean the same; a generated id stands above the reserved ones.
fn ids(config: &mut BrokerConfig) -> Result<(), ConfigError> {
    if config.set.contains_key("node.id") {
        if config.set.contains_key("broker.id") && config.node_id != config.broker_id {
            return Err(ConfigError::conflict("node.id", config.node_id, "it must be the same as broker.id"));
        }
        config.broker_id = config.node_id;
    }
    config.node_id = config.broker_id;
    let (id, most) = (config.broker_id, config.reserved_broker_max_id);
    if config.broker_id_generation_enable && !(-1..=most).contains(&id) {
        let allowed = format!("a whole number from -1 (generated) to reserved.broker.max.id, which is {most}");
        return Err(ConfigError::not_allowed("broker.id", id, allowed));
    }
    if !config.broker_id_generation_enable && id < 0 {
        let allowed = "a whole number, at least 0, as broker.id.generation.enable is false";
        return Err(ConfigError::not_allowed("broker.id", id, allowed));
    }
    Ok(())
}

/// The text of a key that Kafka 3.0 removed.
fn removed<'a>(config: &'a BrokerConfig, name: &str) -> Option<&'a str> {
    debug_assert!(REMOVED_KEYS.iter().any(|def| def.name == name));
    config.set.get(name).map(|text| text.trim())
}

/// `listeners` goes before `host.name` and `port`, `advertised.listeners` before their advertised kin.
fn listeners(config: &mut BrokerConfig) -> Result<(), ConfigError> {
    let map = parse_protocol_map(&config.listener_security_protocol_map)?;
    let text = if config.set.contains_key("listeners") {
        config.listeners.clone()
    } else {
        let (host, port) = (removed(config, "host.name").unwrap_or(""), removed(config, "port").unwrap_or("9092"));
        format!("PLAINTEXT://{host}:{port}")
    };
    let endpoints = parse_endpoints("listeners", &text, &map)?;
    if endpoints.is_empty() {
        return Err(ConfigError::not_allowed("listeners", &text, "at least one NAME://host:port"));
    }
    one_port_each(&endpoints, &text)?;
    config.network.advertised = advertised(config, &endpoints, &map)?;
    config.network.endpoints = endpoints;
    Ok(())
}

fn one_port_each(endpoints: &[Endpoint], text: &str) -> Result<(), ConfigError> {
    for (at, one) in endpoints.iter().enumerate() {
        let clash = |other: &Endpoint| {
            // One name for each family of addresses may share a port (KIP-797).
            let families =
                one.host.contains(':') != other.host.contains(':') && !one.host.is_empty() && !other.host.is_empty();
            one.port != 0 && one.port == other.port && !families
        };
        if endpoints[at + 1..].iter().any(clash) {
            return Err(ConfigError::conflict("listeners", text, format!("two listeners share port {}", one.port)));
        }
    }
    Ok(())
}

fn advertised(config: &BrokerConfig, own: &[Endpoint], map: &ProtocolMap) -> Result<Vec<Endpoint>, ConfigError> {
    let key = "advertised.listeners";
    let (text, advertised) = if let Some(text) = &config.advertised_listeners {
        (text.clone(), parse_endpoints(key, text, map)?)
    } else if removed(config, "advertised.host.name").or(removed(config, "advertised.port")).is_some() {
        let host = removed(config, "advertised.host.name").unwrap_or(&own[0].host);
        let port = removed(config, "advertised.port").map_or(own[0].port.to_string(), str::to_owned);
        let text = format!("PLAINTEXT://{host}:{port}");
        let parsed = parse_endpoints(key, &text, map)?;
        (text, parsed)
    } else {
        (config.listeners.clone(), own.to_vec())
    };
    for endpoint in &advertised {
        if !own.iter().any(|other| other.listener == endpoint.listener) {
            let rule = format!("{} is not one of listeners", endpoint.listener);
            return Err(ConfigError::conflict(key, text, rule));
        }
        if matches!(endpoint.host.as_str(), "0.0.0.0" | "::") {
            let rule = format!("clients cannot connect to {}; set {key} to an address they can reach", endpoint.host);
            return Err(ConfigError::conflict(key, text, rule));
        }
    }
    Ok(advertised)
}

/// `inter.broker.listener.name`, or else the listener named like `security.inter.broker.protocol`.
fn inter_broker(config: &mut BrokerConfig) -> Result<(), ConfigError> {
    let (key, name) = match &config.inter_broker_listener_name {
        Some(name) => {
            if config.set.contains_key("security.inter.broker.protocol") {
                let rule = "it cannot be set together with security.inter.broker.protocol";
                return Err(ConfigError::conflict("inter.broker.listener.name", name, rule));
            }
            ("inter.broker.listener.name", name.to_uppercase())
        }
        None => ("security.inter.broker.protocol", config.security_inter_broker_protocol.clone()),
    };
    if !config.network.advertised.iter().any(|endpoint| endpoint.listener == name) {
        let rule = "advertised.listeners (or else listeners) has no listener of that name, which brokers need among themselves";
        return Err(ConfigError::conflict(key, name, rule));
    }
    config.network.inter_broker_listener = name;
    Ok(())
}

/// `control.plane.listener.name` is advertised, and is not the listener that brokers use among themselves.
fn control_plane(config: &mut BrokerConfig) -> Result<(), ConfigError> {
    let key = "control.plane.listener.name";
    let Some(name) = config.control_plane_listener_name.as_ref().map(|name| name.to_uppercase()) else { return Ok(()) };
    if !config.network.advertised.iter().any(|endpoint| endpoint.listener == name) {
        let rule = "advertised.listeners (or else listeners) has no listener of that name";
        return Err(ConfigError::conflict(key, name, rule));
    }
    if name == config.network.inter_broker_listener {
        let rule = "it must be another listener than the one that brokers use among themselves";
        return Err(ConfigError::conflict(key, name, rule));
    }
    config.network.control_plane_listener = Some(name);
    Ok(())
}

/// A listener that asks for TLS or SASL must not be served in the clear.
fn unsafe_listeners(config: &BrokerConfig) -> Result<(), ConfigError> {
    match config.network.endpoints.iter().find(|endpoint| endpoint.protocol != SecurityProtocol::Plaintext) {
        Some(endpoint) => Err(ConfigError::Unsupported {
            key: "listeners".to_owned(),
            value: endpoint.to_string(),
            why: format!("it asks for {}, and only PLAINTEXT is served so far", endpoint.protocol),
        }),
        None => Ok(()),
    }
}

fn zookeeper(config: &mut BrokerConfig) -> Result<(), ConfigError> {
    config.network.zookeeper = config.zookeeper_connect.as_deref().map(ZkConnect::parse).transpose()?;
    at_least("zookeeper.session.timeout.ms", config.zookeeper_session_timeout_ms.into(), 1)
}

fn per_ip_overrides(text: &str) -> Result<Vec<(String, i32)>, ConfigError> {
    let bad = || {
        let allowed = "host:count pairs, comma separated, with counts of at least 0";
        ConfigError::not_allowed("max.connections.per.ip.overrides", text, allowed)
    };
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (host, count) = item.rsplit_once(':').ok_or_else(bad)?;
            let count: i32 = count.trim().parse().map_err(|_| bad())?;
            let host = host.trim().trim_start_matches('[').trim_end_matches(']');
            if host.is_empty() || count < 0 { Err(bad()) } else { Ok((host.to_owned(), count)) }
        })
        .collect()
}

fn at_least(key: &str, value: i64, low: i64) -> Result<(), ConfigError> {
    if value >= low {
        Ok(())
    } else {
        Err(ConfigError::not_allowed(key, value, format!("a whole number, at least {low}")))
    }
}

fn logs(config: &BrokerConfig) -> Result<(), ConfigError> {
    at_least("log.roll.ms", config.roll_ms(), 1)?;
    at_least("log.roll.jitter.ms", config.roll_jitter_ms(), 0)?;
    at_least("log.flush.interval.ms", config.flush_interval_ms(), 0)?;
    if config.retention_ms() == 0 {
        let key = ["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
            .into_iter()
            .find(|key| config.set.contains_key(*key))
            .unwrap_or("log.retention.ms");
        return Err(ConfigError::not_allowed(key, 0, "-1 for ever, or a whole number, at least 1"));
    }
    if config.log_directories().is_empty() {
        let value = config.log_dirs.as_deref().unwrap_or(&config.log_dir);
        return Err(ConfigError::not_allowed("log.dirs", value, "at least one folder"));
    }
    if config.log_cleanup_policy.is_empty() {
        return Err(ConfigError::not_allowed("log.cleanup.policy", "", "delete, compact, or both"));
    }
    cleaner(config)
}

/// Each thread of the cleaner needs some memory for keys (`LogCleaner`).
fn cleaner(config: &BrokerConfig) -> Result<(), ConfigError> {
    const LEAST: i64 = 1 << 20;
    let (size, threads) = (config.log_cleaner_dedupe_buffer_size, i64::from(config.log_cleaner_threads.max(1)));
    if config.log_cleaner_enable && size / threads < LEAST {
        let rule = "it must be at least 1048576 for each of log.cleaner.threads";
        return Err(ConfigError::conflict("log.cleaner.dedupe.buffer.size", size, rule));
    }
    let factor = config.log_cleaner_io_buffer_load_factor;
    if !(factor > 0.0 && factor <= 1.0) {
        let allowed = "a number above 0, at most 1";
        return Err(ConfigError::not_allowed("log.cleaner.io.buffer.load.factor", factor, allowed));
    }
    Ok(())
}

fn replication(config: &BrokerConfig) -> Result<(), ConfigError> {
    let wait = config.replica_fetch_wait_max_ms;
    if wait > config.replica_socket_timeout_ms {
        let rule = "it must not be longer than replica.socket.timeout.ms";
        return Err(ConfigError::conflict("replica.fetch.wait.max.ms", wait, rule));
    }
    if i64::from(wait) > config.replica_lag_time_max_ms {
        let rule = "it must not be longer than replica.lag.time.max.ms, or the ISR would shrink and grow without end";
        return Err(ConfigError::conflict("replica.fetch.wait.max.ms", wait, rule));
    }
    let (acks, replicas) = (config.offsets_commit_required_acks, config.offsets_topic_replication_factor);
    if !(-1..=replicas).contains(&acks) {
        let allowed = format!("a whole number from -1 to offsets.topic.replication.factor, which is {replicas}");
        return Err(ConfigError::not_allowed("offsets.commit.required.acks", acks, allowed));
    }
    if !(0..=4).contains(&config.offsets_topic_compression_codec) {
        let allowed = "0 (none), 1 (gzip), 2 (snappy), 3 (lz4) or 4 (zstd)";
        let codec = config.offsets_topic_compression_codec;
        return Err(ConfigError::not_allowed("offsets.topic.compression.codec", codec, allowed));
    }
    if config.group_min_session_timeout_ms > config.group_max_session_timeout_ms {
        let rule = "it must not be longer than group.max.session.timeout.ms";
        return Err(ConfigError::conflict("group.min.session.timeout.ms", config.group_min_session_timeout_ms, rule));
    }
    if config.queued_max_request_bytes > 0
        && config.queued_max_request_bytes < i64::from(config.socket_request_max_bytes)
    {
        let rule = "it must be -1 or not below socket.request.max.bytes";
        return Err(ConfigError::conflict("queued.max.request.bytes", config.queued_max_request_bytes, rule));
    }
    Ok(())
}

/// Keys that still count but have a successor, or that another key leaves without effect.
fn superseded(config: &BrokerConfig, warnings: &mut Vec<Warning>) {
    let set = |key: &str| config.set.contains_key(key);
    if set("log.message.format.version") && config.inter_broker_version() >= KafkaVersion::ALWAYS_MAGIC_2 {
        let text = "log.message.format.version has no effect while inter.broker.protocol.version is 3.0 or later";
        warnings.push(Warning(text.to_owned()));
    }
    if set("log.message.timestamp.difference.max.ms") {
        let text = "log.message.timestamp.difference.max.ms is deprecated; \
                    use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms";
        warnings.push(Warning(text.to_owned()));
    }
}
