//! What the admin tools know of a cluster: whom to ask, and in which version. One connection to each broker, made when
//! it is first needed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponse;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};

use super::properties::Properties;
use crate::base::address::host_port;
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;
use crate::network::client::{ApiVersions, Connection, Options};

/// How long an answer is waited for when nothing is configured, as `default.api.timeout.ms` of the Java admin client.
const DEFAULT_TIMEOUT_MS: u64 = 60_000;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is made again after the controller or a coordinator has moved.
const ATTEMPTS: u32 = 20;
/// The wait between two tries.
const BACKOFF: Duration = Duration::from_millis(250);

/// One broker and the versions it knows.
pub struct Node {
    connection: Connection,
    versions: ApiVersions,
    /// Where it is, as `host:port`.
    pub address: String,
}

impl Node {
    async fn connect(address: &str, options: &Options) -> anyhow::Result<Rc<Self>> {
        let connection = Connection::connect_with(address, options.clone()).await?;
        let versions =
            connection.api_versions().await.with_context(|| format!("{address} does not answer as Kafka does"))?;
        Ok(Rc::new(Self { connection, versions, address: address.to_owned() }))
    }

    /// The newest version of `R` that both know.
    pub fn version_of<R: Request>(&self) -> Option<i16> {
        self.versions.latest::<R>()
    }

    /// Sends the request that `build` makes for the newest version both know.
    ///
    /// # Errors
    /// If they share none, or no answer comes.
    pub async fn ask<R: Request>(&self, build: impl FnOnce(i16) -> R) -> anyhow::Result<R::Response> {
        let version = self.version_of::<R>().ok_or_else(|| {
            anyhow!("the broker at {} does not support this operation (API key {})", self.address, R::KEY)
        })?;
        Ok(self.connection.send(&build(version), version).await?)
    }
}

/// A cluster as a tool sees it.
pub struct Cluster {
    options: Options,
    timeout: Duration,
    seed: Rc<Node>,
    nodes: BTreeMap<i32, Rc<Node>>,
}

impl Cluster {
    /// Connects to the first of `bootstrap` (`host:port,host:port`) that answers.
    ///
    /// # Errors
    /// If none answers, or `properties` (of `--command-config`) ask for what is not supported.
    pub async fn connect(bootstrap: &str, properties: &Properties) -> anyhow::Result<Self> {
        let (options, timeout) = client_options(properties)?;
        let mut last = anyhow!("--bootstrap-server names no broker");
        for address in bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                bail!("Please provide valid host:port like host1:9091,host2:9092 ('{address}' is not)");
            }
            match Node::connect(address, &options).await {
                Ok(seed) => return Ok(Self { options, timeout, seed, nodes: BTreeMap::new() }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// How long one operation may take, in milliseconds, as requests carry it.
    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// The broker that answered first.
    pub fn any(&self) -> Rc<Node> {
        self.seed.clone()
    }

    /// Asks for brokers, controller and `topics` (`None` for all), creating none.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn metadata(&self, topics: Option<&[String]>) -> anyhow::Result<MetadataResponse> {
        self.seed
            .ask(|version| {
                let named = topics.map(|topics| topics.iter().map(|topic| wanted(topic)).collect());
                // Version 0 knows no null: there, none means all.
                let named = if version == 0 { Some(named.unwrap_or_default()) } else { named };
                MetadataRequest::default().with_topics(named).with_allow_auto_topic_creation(version < 4)
            })
            .await
    }

    /// The broker of that id.
    ///
    /// # Errors
    /// If the cluster has none, or it does not answer.
    pub async fn broker(&mut self, id: i32) -> anyhow::Result<Rc<Node>> {
        if let Some(node) = self.nodes.get(&id) {
            return Ok(node.clone());
        }
        let metadata = self.metadata(Some(&[])).await?;
        let broker = metadata.brokers.iter().find(|broker| broker.node_id.0 == id);
        let broker = broker.ok_or_else(|| anyhow!("broker {id} is not available"))?;
        let node = Node::connect(&host_port(&broker.host, broker.port), &self.options).await?;
        self.nodes.insert(id, node.clone());
        Ok(node)
    }

    /// The live brokers' ids.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn broker_ids(&self) -> anyhow::Result<Vec<i32>> {
        Ok(self.metadata(Some(&[])).await?.brokers.iter().map(|broker| broker.node_id.0).collect())
    }

    /// The leader of each partition of `topics`, -1 where there is none; what does not exist is left out.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn leaders(&self, topics: &[String]) -> anyhow::Result<BTreeMap<TopicPartition, i32>> {
        let mut leaders = BTreeMap::new();
        if topics.is_empty() {
            return Ok(leaders);
        }
        for topic in self.metadata(Some(topics)).await?.topics {
            let Some(name) = &topic.name else { continue };
            let rows = topic.partitions.iter();
            leaders.extend(rows.map(|row| (TopicPartition::new(name.as_str(), row.partition_index), row.leader_id.0)));
        }
        Ok(leaders)
    }

    /// The controller, waited for if there is none at the moment.
    ///
    /// # Errors
    /// If there is none for long.
    pub async fn controller(&mut self) -> anyhow::Result<Rc<Node>> {
        for _ in 0..ATTEMPTS {
            let id = self.metadata(Some(&[])).await?.controller_id.0;
            if id >= 0 {
                return self.broker(id).await;
            }
            tokio::time::sleep(BACKOFF).await;
        }
        bail!("the cluster has no controller")
    }

    /// Asks the controller, wherever it is; again if it moves meanwhile. `error` finds the leading error of an answer.
    ///
    /// # Errors
    /// If there is no controller for long, or no answer comes.
    pub async fn ask_controller<R: Request>(
        &mut self,
        build: impl Fn(i16) -> R,
        error: impl Fn(&R::Response) -> i16,
    ) -> anyhow::Result<R::Response> {
        for _ in 0..ATTEMPTS {
            let answer = self.controller().await?.ask(&build).await?;
            if error(&answer) != ErrorCode::NotController.code() {
                return Ok(answer);
            }
            tokio::time::sleep(BACKOFF).await;
        }
        bail!("{}", ErrorCode::NotController)
    }

    /// The coordinator of `group`, waited for while it is being found.
    ///
    /// # Errors
    /// If there is none for long.
    pub async fn coordinator(&mut self, group: &str) -> anyhow::Result<(i32, Rc<Node>)> {
        let key = StrBytes::from_string(group.to_owned());
        for _ in 0..ATTEMPTS {
            let answer = self
                .seed
                .ask(|version| match version {
                    0..=3 => FindCoordinatorRequest::default().with_key(key.clone()),
                    _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![key.clone()]),
                })
                .await?;
            let (code, id) = match answer.coordinators.first() {
                Some(found) => (found.error_code, found.node_id.0),
                None => (answer.error_code, answer.node_id.0),
            };
            match ErrorCode::from_code(code) {
                ErrorCode::None => return Ok((id, self.broker(id).await?)),
                code if code.is_retriable() => tokio::time::sleep(BACKOFF).await,
                code => bail!("{code}"),
            }
        }
        bail!("{}", ErrorCode::CoordinatorNotAvailable)
    }
}

fn wanted(topic: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(topic)))
}

/// A topic's name as requests carry it.
pub fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// The error of an answer as a sentence: what the broker says, else what the code means.
pub fn refusal(code: i16, message: Option<&StrBytes>) -> Option<anyhow::Error> {
    let code = ErrorCode::from_code(code);
    let text = message.map(StrBytes::as_str).filter(|text| !text.is_empty());
    (!code.is_none()).then(|| anyhow!("{}", text.map_or_else(|| code.to_string(), str::to_owned)))
}

/// The Java class of the exception that stands for an error code, as some tools print it; `None` if all went well.
pub fn exception_class(code: i16) -> Option<String> {
    let code = ErrorCode::from_code(code);
    let name = match code {
        ErrorCode::None => return None,
        ErrorCode::RequestTimedOut => "TimeoutException".to_owned(),
        ErrorCode::ClusterAuthorizationFailed => "ClusterAuthorizationException".to_owned(),
        ErrorCode::TopicAuthorizationFailed => "TopicAuthorizationException".to_owned(),
        code => {
            let name = format!("{code:?}");
            let stem = name.strip_suffix("Exception").or(name.strip_suffix("Error")).unwrap_or(&name);
            format!("{stem}Exception")
        }
    };
    Some(format!("org.apache.kafka.common.errors.{name}"))
}

/// What `--command-config` says that matters here. Names that mean nothing to these tools are said aloud.
fn client_options(properties: &Properties) -> anyhow::Result<(Options, Duration)> {
    let mut timeout_ms = DEFAULT_TIMEOUT_MS;
    let mut options = Options { client_id: StrBytes::from_static_str("adminclient-1"), ..Options::default() };
    for (name, value) in properties {
        match name.as_str() {
            "bootstrap.servers" => {}
            "client.id" => options.client_id = StrBytes::from_string(value.clone()),
            "request.timeout.ms" | "default.api.timeout.ms" => {
                timeout_ms =
                    value.trim().parse().with_context(|| format!("{name}={value} is not a number of milliseconds"))?;
            }
            "security.protocol" if !value.trim().eq_ignore_ascii_case("PLAINTEXT") => {
                bail!("security.protocol={value} is not supported yet: only PLAINTEXT is");
            }
            "security.protocol" => {}
            name => eprintln!("Warning: {name} in --command-config has no meaning for this tool and is left out."),
        }
    }
    let timeout = Duration::from_millis(timeout_ms);
    options.connect_timeout = CONNECT_TIMEOUT.min(timeout);
    options.request_timeout = timeout;
    Ok((options, timeout))
}

/// Runs a tool's asynchronous part on a runtime of its own.
///
/// # Errors
/// What the part returns, or if no runtime can be built.
pub fn block_on<T>(part: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let with = |name: &str, value: &str| client_options(&Properties::from([(name.to_owned(), value.to_owned())]));
        assert!(with("security.protocol", "SASL_SSL").is_err());
        assert!(with("request.timeout.ms", "soon").is_err());
        let (options, timeout) = with("request.timeout.ms", "1500").expect("valid");
        assert_eq!((options.request_timeout, timeout.as_millis()), (Duration::from_millis(1500), 1500));
    }

    #[test]
    fn the_brokers_own_words_go_first() {
        assert!(refusal(0, None).is_none());
        assert_eq!(refusal(36, None).expect("an error").to_string(), ErrorCode::TopicAlreadyExists.message());
        let text = StrBytes::from_static_str("Topic 'a' already exists.");
        assert_eq!(refusal(36, Some(&text)).expect("an error").to_string(), "Topic 'a' already exists.");
    }
}
