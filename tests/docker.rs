//! Holds docker/ to the rest: what the image is built from exists, what it and compose.yml set are configs that a broker
//! starts with, and ids, ports, addresses and volumes fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use barnabas::config::broker;
use barnabas::config::{BrokerConfig, properties};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Dockerfile's instructions in order, each with what follows it; continued lines are joined.
fn dockerfile() -> Vec<(String, String)> {
    let text = read("docker/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// What follows each instruction of that name.
fn all<'a>(file: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    file.iter().filter(|(found, _)| found == word).map(|(_, rest)| rest.as_str()).collect()
}

/// What follows the only instruction of that name.
fn one<'a>(file: &'a [(String, String)], word: &str) -> &'a str {
    let found = all(file, word);
    assert_eq!(found.len(), 1, "one {word}: {found:?}");
    found[0]
}

/// The variables that the image sets.
fn image_variables(file: &[(String, String)]) -> BTreeMap<String, String> {
    let pairs = all(file, "ENV").into_iter().flat_map(str::split_whitespace);
    pairs.map(|pair| pair.split_once('=').expect("NAME=value")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// The words of a list such as `["a", "b:c"]`.
fn list(text: &str) -> Vec<String> {
    let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let inner = inner.unwrap_or_else(|| panic!("{text} is no list"));
    inner.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect()
}

/// The lines below `key:`, which is a key of the outermost level, as they stand; a value on the key's own line is the only
/// one then.
fn below<'a>(lines: &[&'a str], key: &str) -> Vec<&'a str> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let outermost = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| depth(line)).min();
    let is_it = |line: &&str| line.trim_start().starts_with(&format!("{key}:")) && Some(depth(line)) == outermost;
    let Some(at) = lines.iter().position(is_it) else { return Vec::new() };
    let value = lines[at].trim_start()[key.len() + 1..].trim();
    if !value.is_empty() && !value.starts_with('&') {
        return vec![value];
    }
    let deeper = lines[at + 1..].iter().take_while(|line| line.is_empty() || depth(line) > depth(lines[at]));
    deeper.copied().filter(|line| !line.trim().is_empty()).collect()
}

struct Compose {
    lines: Vec<&'static str>,
}

impl Compose {
    fn read() -> Self {
        let text: &'static str = read("docker/compose.yml").leak();
        Self { lines: text.lines().filter(|line| !line.trim_start().starts_with('#')).collect() }
    }

    /// The services' names.
    fn services(&self, prefix: &str) -> Vec<String> {
        let services = below(&self.lines, "services");
        let names = services.iter().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names = names.filter_map(|line| line.trim().strip_suffix(':'));
        names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
    }

    /// A service's lines.
    fn service(&self, name: &str) -> Vec<&'static str> {
        let services = below(&self.lines, "services");
        let found = below(&services, name);
        assert!(!found.is_empty(), "there is no service {name}");
        found
    }

    /// The broker's variables: those of all brokers, and its own.
    fn variables(&self, name: &str) -> BTreeMap<String, String> {
        let mut all = below(&self.lines, "x-broker-environment");
        let own = below(&self.service(name), "environment");
        assert!(own.iter().any(|line| line.trim() == "<<: *broker-environment"), "{name} has what all brokers have");
        all.extend(own);
        let pairs = all.iter().filter_map(|line| line.trim().split_once(": "));
        pairs.filter(|(name, _)| *name != "<<").map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
    }
}

fn config(variables: &BTreeMap<String, String>) -> (BrokerConfig, Vec<String>) {
    let (image, file) = (image_variables(&dockerfile()), root().join("config/server.properties"));
    let environment = image.into_iter().chain(variables.clone());
    let (config, warnings) = BrokerConfig::load(&[&file], environment, &[]).expect("the broker starts with it");
    (config, warnings.into_iter().map(|warning| warning.0).collect())
}

#[test]
fn the_image_is_built_from_what_there_is() {
    let file = dockerfile();
    let kept: Vec<String> =
        read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    let own = all(&file, "COPY").into_iter().filter(|copy| !copy.starts_with("--from=build"));
    let sources: BTreeSet<&str> = own
        .flat_map(|copy| {
            let words: Vec<&str> = copy.split_whitespace().collect();
            words[..words.len() - 1].to_vec()
        })
        .collect();
    for source in &sources {
        assert!(root().join(source).exists(), "COPY {source}: there is none");
        assert!(kept.iter().any(|kept| kept == source), ".dockerignore leaves {source} out");
    }
    assert_eq!(sources.len(), kept.len(), "no more is sent than is copied: {kept:?}");
    // Cargo wants every target of the manifest that has a path.
    for path in read("Cargo.toml").lines().filter_map(|line| line.strip_prefix("path = \"")) {
        let folder = path.split('/').next().unwrap_or_default();
        assert!(sources.contains(folder), "the build needs {path}");
    }
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel");
    let channel = channel.trim_matches('"');
    assert_eq!(image_variables(&file)["RUSTUP_TOOLCHAIN"], channel);
    let bases = all(&file, "FROM");
    assert!(bases[0].starts_with("rust:") && bases[0].ends_with(" AS build"), "{bases:?}");
    let version = bases[0].trim_start_matches("rust:").split('-').next().unwrap_or_default();
    assert!(channel.starts_with(&format!("{version}.")), "{channel} is not what {} has", bases[0]);
    // The binary runs on the libraries that it was linked with.
    assert!(bases[0].contains("bookworm") && bases[1].contains("bookworm"), "{bases:?}");
}

#[test]
fn the_image_runs_a_broker_and_not_as_root() {
    let file = dockerfile();
    let user = one(&file, "USER");
    assert!(!["root", "0"].contains(&user), "{user}");
    let made = all(&file, "RUN").into_iter().find(|run| run.contains("useradd")).expect("the user is made");
    assert!(made.contains(" --uid 1000 ") && made.contains(&format!(" {user} ")), "{made}");
    let volume = one(&file, "VOLUME");
    assert!(made.contains(&format!("install -d -o {user} -g {user} {volume}")), "the user owns {volume}: {made}");
    assert_eq!(image_variables(&file)["KAFKA_LOG_DIRS"], volume);

    let entry = list(one(&file, "ENTRYPOINT"));
    assert_eq!(entry[0], "barnabas");
    assert!(barnabas::cli::TOOLS.iter().any(|tool| tool.name == entry[1]), "there is no subcommand {}", entry[1]);
    let copied = all(&file, "COPY");
    let (target, source) = ("/opt/barnabas/config", "config");
    assert!(copied.contains(&format!("{source} {target}").as_str()), "{copied:?}");
    let properties = entry[2].strip_prefix(target).unwrap_or_else(|| panic!("{} is not copied", entry[2]));
    assert!(root().join(format!("{source}{properties}")).is_file());
    let binary = copied.iter().find_map(|copy| copy.strip_prefix("--from=build /src/target/release/barnabas "));
    assert_eq!(binary, Some("/usr/local/bin/barnabas"));
    // The scripts find the programme by their PATH, and the image's has the scripts.
    assert!(image_variables(&file)["PATH"].starts_with("/opt/barnabas/bin:"));
    let (config, _) = config(&BTreeMap::from([("KAFKA_ZOOKEEPER_CONNECT".to_owned(), "z:1".to_owned())]));
    assert_eq!(config.log_directories(), [Path::new(volume)]);
    assert_eq!(config.endpoints()[0].port.to_string(), one(&file, "EXPOSE"));
}

#[test]
fn every_variable_is_a_config() {
    let compose = Compose::read();
    let mut seen = BTreeMap::new();
    seen.extend(image_variables(&dockerfile()));
    for name in compose.services("broker") {
        seen.extend(compose.variables(&name));
    }
    let kafkas: Vec<_> = seen.iter().filter(|(variable, _)| variable.starts_with("KAFKA_")).collect();
    assert!(kafkas.len() > 8, "{kafkas:?}");
    for (variable, value) in kafkas {
        let key = properties::key_of_variable(variable).expect("a key");
        let def = broker::key(&key).unwrap_or_else(|| panic!("{variable}: {key} is no config"));
        assert!(def.parse(value).is_ok(), "{variable}={value} is not valid");
    }
}

#[test]
fn the_brokers_of_compose_fit_together() {
    let compose = Compose::read();
    let file = dockerfile();
    let brokers = compose.services("broker");
    assert_eq!(brokers.len(), 3);
    let volumes: BTreeSet<&str> =
        below(&compose.lines, "volumes").iter().filter_map(|line| line.trim().strip_suffix(':')).collect();
    let (mut ids, mut ports, mut mounted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (number, name) in (1..).zip(&brokers) {
        let (config, warnings) = config(&compose.variables(name));
        let expected = |warning: &String| warning.starts_with("transaction.state.log.");
        assert!(warnings.iter().all(expected), "{name}: {warnings:?}");
        assert!(ids.insert(config.broker_id) && config.broker_id == number, "{name}: broker.id {}", config.broker_id);
        let internal = config.inter_broker_listener();
        let (inner, outer): (Vec<_>, Vec<_>) =
            config.advertised_endpoints().iter().partition(|endpoint| endpoint.listener == internal);
        assert_eq!((inner.len(), outer.len(), inner[0].host.as_str()), (1, 1, name.as_str()));
        let bound = |listener: &str| config.endpoints().iter().find(|e| e.listener == listener).map(|e| e.port);
        assert_eq!(bound(internal), Some(inner[0].port), "{name}");
        assert_eq!((outer[0].host.as_str(), bound(&outer[0].listener)), ("localhost", Some(outer[0].port)));
        let service = compose.service(name);
        let published = list(below(&service, "ports")[0]);
        assert_eq!(published, [format!("{0}:{0}", outer[0].port)], "{name}");
        assert!(ports.insert(outer[0].port), "{name}: the port is another's");
        let healthcheck = below(&compose.lines, "x-broker");
        let test = list(below(&below(&healthcheck, "healthcheck"), "test")[0]);
        assert!(root().join("bin").join(&test[1]).is_file() && test[3] == format!("localhost:{}", inner[0].port));

        let mount = list(below(&service, "volumes")[0]);
        let (volume, path) = mount[0].split_once(':').expect("a volume and its place");
        assert!(
            volumes.contains(volume) && mounted.insert(volume.to_owned()) && path == one(&file, "VOLUME"),
            "{name}"
        );
        let replicas = [config.default_replication_factor, i32::from(config.offsets_topic_replication_factor)];
        assert_eq!(replicas, [3, 3], "{name}");
        assert!(config.min_insync_replicas == 2 && config.broker_rack.is_none());
        let zookeeper = config.zookeeper().expect("ZooKeeper").servers().to_string();
        let servers: Vec<_> = compose.services("zookeeper").iter().map(|name| format!("{name}:2181")).collect();
        assert_eq!(zookeeper, servers.join(","));
    }
    let broker = below(&compose.lines, "x-broker");
    let build = below(&broker, "build");
    let context = root().join("docker").join(below(&build, "context")[0]);
    assert!(context.join(below(&build, "dockerfile")[0]).is_file(), "the Dockerfile stands there");
    let awaited = below(&broker, "depends_on");
    let awaited: Vec<_> = awaited.iter().filter_map(|line| line.trim().split(':').next()).collect();
    assert_eq!(awaited, compose.services("zookeeper"));
}

#[test]
fn the_zookeepers_of_compose_fit_together() {
    let compose = Compose::read();
    let environment = below(&compose.lines, "x-zookeeper-environment");
    let servers = below(&environment, "ZOO_SERVERS")[0];
    let volumes = below(&compose.lines, "volumes");
    for (number, (name, server)) in (1..).zip(compose.services("zookeeper").iter().zip(servers.split(' '))) {
        assert_eq!(server, format!("server.{number}={name}:2888:3888;2181"));
        let service = compose.service(name);
        assert!(below(&service, "environment")[0].contains(&format!("ZOO_MY_ID: {number} ")), "{name}");
        for mount in list(below(&service, "volumes")[0]) {
            let (volume, _) = mount.split_once(':').expect("a volume and its place");
            assert!(volumes.iter().any(|line| line.trim() == format!("{volume}:")), "{volume}");
            assert!(volume.starts_with(name.as_str()), "{name} keeps its own data: {volume}");
        }
    }
    assert_eq!(servers.split(' ').count(), compose.services("zookeeper").len());
}
