//! DescribeConfigs (32), v0–4: the values that hold for topics and brokers, where they come from, what they are for
//! (KIP-133, KIP-226, KIP-569). What was set while brokers run is read from ZooKeeper, as in `ConfigHelper`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Context, broker_loggers};
use crate::base::error::ErrorCode;
use crate::base::topic_names;
use crate::config::describe::{Dynamic, Entry, broker_entries, cluster_entries, topic_entries};
use crate::zk::znodes::configs::{self, DEFAULT_ENTITY, EntityType};

/// `ConfigResource.Type` of a topic.
pub(super) const TOPIC: i8 = 2;
/// `ConfigResource.Type` of a broker, or of all without a name.
pub(super) const BROKER: i8 = 4;
/// `ConfigResource.Type` of a broker's loggers.
pub(super) const BROKER_LOGGER: i8 = 8;

/// How long ZooKeeper may take; a client would give up later.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// An error for one resource; a message only where Kafka gives one.
type Refusal = (ErrorCode, Option<String>);

/// Answers each resource by itself.
pub async fn handle(ctx: &Context, call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let asked = Asked { ctx, version: call.version(), request: &request };
    let mut results = Vec::with_capacity(request.resources.len());
    let mut dynamic = None;
    for resource in &request.resources {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        results.push(match asked.describe(resource, &mut dynamic).await {
            Ok(configs) => result.with_configs(only_wanted(resource, configs)),
            Err((code, message)) => {
                result.with_error_code(code.code()).with_error_message(message.map(StrBytes::from_string))
            }
        });
    }
    DescribeConfigsResponse::default().with_results(results)
}

struct Asked<'a> {
    ctx: &'a Context,
    version: i16,
    request: &'a DescribeConfigsRequest,
}

impl Asked<'_> {
    async fn describe(
        &self,
        resource: &DescribeConfigsResource,
        dynamic: &mut Option<Dynamic>,
    ) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
        let name = resource.resource_name.as_str();
        let config = &self.ctx.config;
        match resource.resource_type {
            TOPIC => {
                topic_names::validate(name).map_err(|why| (ErrorCode::InvalidTopicException, Some(why)))?;
                if self.ctx.replica_manager.metadata().snapshot().topic(name).is_none() {
                    let unknown = ErrorCode::UnknownTopicOrPartition;
                    return Err((unknown, Some(unknown.message().to_owned())));
                }
                let overrides = self.read(EntityType::Topics, name).await?;
                Ok(self.results(&topic_entries(config, self.dynamic(dynamic).await?, &overrides)))
            }
            BROKER if name.is_empty() => Ok(self.results(&cluster_entries(config, self.dynamic(dynamic).await?))),
            BROKER => {
                self.expect_own_id(name, " or empty string,")?;
                Ok(self.results(&broker_entries(config, self.dynamic(dynamic).await?)))
            }
            BROKER_LOGGER if name.is_empty() => {
                Err((ErrorCode::InvalidRequest, Some("Broker id must not be empty".to_owned())))
            }
            BROKER_LOGGER => {
                self.expect_own_id(name, "")?;
                Ok(broker_loggers::describe(&self.ctx.loggers, self.version))
            }
            other => Err((ErrorCode::InvalidRequest, Some(format!("Unsupported resource type: {other}")))),
        }
    }

    fn expect_own_id(&self, name: &str, or: &str) -> Result<(), Refusal> {
        let own = self.ctx.broker_id;
        let message = match name.parse::<i32>() {
            Ok(id) if id == own.get() => return Ok(()),
            Ok(_) => format!("Unexpected broker id, expected {own}{or} but received {name}"),
            Err(_) => format!("Broker id must be an integer, but it is: {name}"),
        };
        Err((ErrorCode::InvalidRequest, Some(message)))
    }

    /// What is set for this broker and for all brokers; read once a request.
    async fn dynamic<'d>(&self, known: &'d mut Option<Dynamic>) -> Result<&'d Dynamic, Refusal> {
        let read = match known.take() {
            Some(read) => read,
            None => Dynamic {
                broker: self.read(EntityType::Brokers, &self.ctx.broker_id.to_string()).await?,
                cluster: self.read(EntityType::Brokers, DEFAULT_ENTITY).await?,
            },
        };
        Ok(known.insert(read))
    }

    async fn read(&self, entity: EntityType, name: &str) -> Result<BTreeMap<String, String>, Refusal> {
        let path = configs::path(entity, name);
        let failed = |why: String| (ErrorCode::RequestTimedOut, Some(format!("ZooKeeper: {why}")));
        let found = tokio::time::timeout(READ_TIMEOUT, self.ctx.zk.find(&path)).await;
        let node = found.map_err(|_| failed("no answer".to_owned()))?.map_err(|error| failed(error.to_string()))?;
        match node {
            Some(node) => configs::decode(&path, &node.data)
                .map_err(|error| (ErrorCode::UnknownServerError, Some(error.to_string()))),
            None => Ok(BTreeMap::new()),
        }
    }

    fn results(&self, entries: &[Entry]) -> Vec<DescribeConfigsResourceResult> {
        entries.iter().map(|entry| self.result(entry)).collect()
    }

    fn result(&self, entry: &Entry) -> DescribeConfigsResourceResult {
        let text = |value: &Option<String>| value.clone().map(StrBytes::from_string);
        let mut result = DescribeConfigsResourceResult::default()
            .with_name(name_of(entry.name.clone()))
            .with_value(text(&entry.value))
            .with_read_only(entry.read_only)
            .with_is_sensitive(entry.sensitive)
            .with_documentation(None);
        if self.version == 0 {
            return result.with_is_default(entry.is_default());
        }
        result.config_source = entry.source.wire_code();
        if self.request.include_synonyms {
            let synonyms = entry.synonyms.iter().map(|synonym| {
                DescribeConfigsSynonym::default()
                    .with_name(name_of(synonym.name.clone()))
                    .with_value(text(&synonym.value))
                    .with_source(synonym.source.wire_code())
            });
            result.synonyms = synonyms.collect();
        }
        if self.version >= 3 {
            result.config_type = entry.kind.wire_code();
            result.documentation = self.request.include_documentation.then(|| StrBytes::from_static_str(entry.doc));
        }
        result
    }
}

/// The keys that were asked for; all if none were named.
fn only_wanted(
    resource: &DescribeConfigsResource,
    mut configs: Vec<DescribeConfigsResourceResult>,
) -> Vec<DescribeConfigsResourceResult> {
    let wanted = resource.configuration_keys.as_deref().unwrap_or_default();
    configs.retain(|config| wanted.is_empty() || wanted.contains(&config.name));
    configs
}

fn name_of(name: Cow<'static, str>) -> StrBytes {
    match name {
        Cow::Borrowed(name) => StrBytes::from_static_str(name),
        Cow::Owned(name) => StrBytes::from_string(name),
    }
}
