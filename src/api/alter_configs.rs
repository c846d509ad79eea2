//! AlterConfigs (33), v0–2, and IncrementalAlterConfigs (44), v0–1: configs of topics and brokers, checked against THE
//! tables and written to ZooKeeper, whence all brokers take them (KIP-133, KIP-226, KIP-339; `ZkAdminManager`).

use std::collections::{HashMap, HashSet};

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::{BROKER, BROKER_LOGGER, TOPIC};
use super::topic_changes::text;
use super::{Call, Context, broker_loggers};
use crate::admin::AdminError;
use crate::admin::configs::{self, Change, Configs};
use crate::base::error::ErrorCode;
use crate::base::topic_names;
use crate::config::def::{ConfigError, KeyDef};
use crate::config::dynamic::{self, Dynamic};
use crate::config::topic::{self, TopicConfig};
use crate::zk::znodes::configs::{DEFAULT_ENTITY, EntityType};

/// `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Replaces the configs of each resource by those given.
pub async fn replace(ctx: &Context, _call: &Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let twice = Repeated::of(request.resources.iter().map(|r| (r.resource_type, &r.resource_name)));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let wanted = resource.configs.iter().map(|config| (config.name.as_str(), SET, config.value.as_ref()));
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let done = match twice.check(kind, name).and_then(|()| changes(wanted)) {
            Ok(changes) => {
                let work = Alteration { ctx, kind, name, from_nothing: true, validate_only: request.validate_only };
                work.run(&changes).await
            }
            Err(error) => Err(error),
        };
        let (code, message) = outcome(done);
        responses.push(
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(kind)
                .with_resource_name(name.clone()),
        );
    }
    AlterConfigsResponse::default().with_responses(responses)
}

/// Changes the configs that are named and leaves the others.
pub async fn incremental(
    ctx: &Context,
    _call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let twice = Repeated::of(request.resources.iter().map(|r| (r.resource_type, &r.resource_name)));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let wanted = resource.configs.iter();
        let wanted = wanted.map(|config| (config.name.as_str(), config.config_operation, config.value.as_ref()));
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let done = match twice.check(kind, name).and_then(|()| changes(wanted)) {
            Ok(changes) => {
                let work = Alteration { ctx, kind, name, from_nothing: false, validate_only: request.validate_only };
                work.run(&changes).await
            }
            Err(error) => Err(error),
        };
        let (code, message) = outcome(done);
        responses.push(
            IncrementalResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(kind)
                .with_resource_name(name.clone()),
        );
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn outcome(done: Result<(), AdminError>) -> (i16, Option<StrBytes>) {
    match done {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(error) => (error.code.code(), Some(text(error.message))),
    }
}

fn invalid(message: impl Into<String>) -> AdminError {
    AdminError::new(ErrorCode::InvalidRequest, message)
}

/// Resources that a request names more than once.
struct Repeated<'a>(HashMap<(i8, &'a StrBytes), usize>);

impl<'a> Repeated<'a> {
    fn of(resources: impl Iterator<Item = (i8, &'a StrBytes)>) -> Self {
        let mut times: HashMap<_, usize> = HashMap::new();
        resources.for_each(|resource| *times.entry(resource).or_default() += 1);
        Self(times)
    }

    fn check(&self, kind: i8, name: &StrBytes) -> Result<(), AdminError> {
        match self.0.get(&(kind, name)) {
            Some(times) if *times > 1 => Err(invalid("Each resource must appear at most once.")),
            _ => Ok(()),
        }
    }
}

/// The changes as the wire names them.
fn changes<'a>(
    wanted: impl Iterator<Item = (&'a str, i8, Option<&'a StrBytes>)>,
) -> Result<Vec<(String, Change)>, AdminError> {
    let (mut changes, mut without_value, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (name, operation, value) in wanted {
        if !seen.insert(name) {
            return Err(invalid("Error due to duplicate config keys"));
        }
        let change = match (operation, value) {
            (DELETE, _) => Change::Delete,
            (SET | APPEND | SUBTRACT, None) => {
                without_value.push(name);
                continue;
            }
            (SET, Some(value)) => Change::Set(value.to_string()),
            (APPEND, Some(value)) => Change::Append(value.to_string()),
            (SUBTRACT, Some(value)) => Change::Subtract(value.to_string()),
            (other, _) => return Err(invalid(format!("Unknown operation {other} on config {name}"))),
        };
        changes.push((name.to_owned(), change));
    }
    if without_value.is_empty() {
        Ok(changes)
    } else {
        Err(invalid(format!("Null value not supported for : {}", without_value.join(", "))))
    }
}

/// One resource and what shall be done to it.
struct Alteration<'a> {
    ctx: &'a Context,
    kind: i8,
    name: &'a StrBytes,
    /// Whether what is not named is dropped.
    from_nothing: bool,
    validate_only: bool,
}

impl Alteration<'_> {
    async fn run(&self, changes: &[(String, Change)]) -> Result<(), AdminError> {
        match self.kind {
            TOPIC => self.alter_topic(changes).await,
            BROKER => self.alter_broker(changes).await,
            // As in Kafka levels are only ever changed one by one, never replaced.
            BROKER_LOGGER if !self.from_nothing => {
                let ctx = self.ctx;
                broker_loggers::alter(&ctx.loggers, ctx.broker_id, self.name, changes, self.validate_only)
            }
            other => Err(invalid(format!("Unknown resource type {other}"))),
        }
    }

    async fn alter_topic(&self, changes: &[(String, Change)]) -> Result<(), AdminError> {
        let name = self.name.as_str();
        if name.is_empty() {
            return Err(invalid("Default topic resources are not allowed."));
        }
        topic_names::validate(name).map_err(|why| AdminError::new(ErrorCode::InvalidTopicException, why))?;
        if self.ctx.replica_manager.metadata().snapshot().topic(name).is_none() {
            let message = format!("The topic '{name}' does not exist.");
            return Err(AdminError::new(ErrorCode::UnknownTopicOrPartition, message));
        }
        let change = |before: &Configs| {
            let after = self.after(before, changes, |name| topic::key(name).map(|key| &key.def))?;
            let broker = self.ctx.replica_manager.configs().broker();
            TopicConfig::validate(&broker, &after).map_err(|error| self.refused(&error))?;
            Ok(after)
        };
        configs::alter(&self.ctx.zk, EntityType::Topics, name, self.validate_only, change).await
    }

    async fn alter_broker(&self, changes: &[(String, Change)]) -> Result<(), AdminError> {
        let own = self.ctx.broker_id.to_string();
        let entity = if self.name.is_empty() { DEFAULT_ENTITY } else { self.own_id(&own)? };
        let change = |before: &Configs| {
            let after = self.after(before, changes, dynamic::key)?;
            // What is there already may be another broker version's, and stays.
            let new = after.iter().filter(|(name, text)| before.get(*name) != Some(text));
            let check = if entity == DEFAULT_ENTITY { dynamic::check_for_all } else { dynamic::check };
            for (name, text) in new {
                check(name, text).map_err(|error| self.refused(&error))?;
            }
            let mut all = Dynamic::clone(&self.ctx.replica_manager.configs().dynamic());
            let layer = if entity == DEFAULT_ENTITY { &mut all.cluster } else { &mut all.broker };
            layer.clone_from(&after);
            let then = self.ctx.config.with_dynamic(&all).map_err(|error| self.refused(&error))?;
            let now = self.ctx.replica_manager.configs().broker();
            dynamic::check_steps(&now, &then).map_err(|error| self.refused(&error))?;
            Ok(after)
        };
        configs::alter(&self.ctx.zk, EntityType::Brokers, entity, self.validate_only, change).await
    }

    fn own_id<'a>(&self, own: &'a str) -> Result<&'a str, AdminError> {
        match self.name.parse::<i32>() {
            Ok(id) if id == self.ctx.broker_id.get() => Ok(own),
            Ok(_) => Err(invalid(format!("Unexpected broker id, expected {own}, but received {}", self.name.as_str()))),
            Err(_) => Err(invalid(format!("Node id must be an integer, but it is: {}", self.name.as_str()))),
        }
    }

    fn after(
        &self,
        before: &Configs,
        changes: &[(String, Change)],
        key: impl Fn(&str) -> Option<&'static KeyDef>,
    ) -> Result<Configs, AdminError> {
        if self.from_nothing {
            configs::changed(&Configs::new(), changes, key)
        } else {
            configs::changed(before, changes, key)
        }
    }

    fn refused(&self, error: &ConfigError) -> AdminError {
        // Kafka calls a broker's invalid config an invalid request, and leaves it at that (KAFKA-13609).
        let (kind, code) = match self.kind {
            TOPIC => ("TOPIC", ErrorCode::InvalidConfig),
            _ => ("BROKER", ErrorCode::InvalidRequest),
        };
        let name = self.name.as_str();
        let message = format!("Invalid config value for resource ConfigResource(type={kind}, name='{name}'): {error}");
        AdminError::new(code, message)
    }
}
