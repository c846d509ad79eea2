//! `kafka-reassign-partitions.sh`: moves replicas between brokers and log dirs. Speaks like 3.9's tool, with `--zookeeper`
//! like 2.8's. What is computed stands in `plan` and `states`, on plain data; `target` alone asks brokers or ZooKeeper.

mod actions;
mod json;
mod log_dirs;
mod plan;
mod states;
mod target;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser};

use super::cluster;
use super::usage::Given;
use target::Target;

const ACTIONS: &[&str] = &["generate", "execute", "verify", "cancel", "list"];

/// Move partitions between brokers and log dirs.
#[derive(Parser, Debug, Default)]
#[command(name = "kafka-reassign-partitions", infer_long_args = true)]
struct Options {
    /// Check whether what --reassignment-json-file asks for is done; if so, take the throttles away
    #[arg(long)]
    verify: bool,
    /// Print an assignment of the topics of --topics-to-move-json-file to the brokers of --broker-list
    #[arg(long)]
    generate: bool,
    /// Begin to move what --reassignment-json-file lists
    #[arg(long)]
    execute: bool,
    /// End the moves of --reassignment-json-file and go back to where they began
    #[arg(long)]
    cancel: bool,
    /// Show the moves that are under way
    #[arg(long)]
    list: bool,
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// ZooKeeper's servers, to work there without the brokers: HOST1:PORT1,HOST2:PORT2/CHROOT
    #[arg(long)]
    zookeeper: Option<String>,
    /// A properties file for the admin client
    #[arg(long)]
    command_config: Option<PathBuf>,
    /// A file such as {"partitions": [{"topic": "a", "partition": 0, "replicas": [1,2], "log_dirs": ["any","/d"]}], "version": 1}
    #[arg(long)]
    reassignment_json_file: Option<PathBuf>,
    /// A file such as {"topics": [{"topic": "a"}, {"topic": "b"}], "version": 1}
    #[arg(long)]
    topics_to_move_json_file: Option<PathBuf>,
    /// The brokers to move to, such as 0,1,2
    #[arg(long)]
    broker_list: Option<String>,
    /// Leave racks out of account
    #[arg(long)]
    disable_rack_aware: bool,
    /// Bytes a second that moves between brokers may take
    #[arg(long, allow_negative_numbers = true)]
    throttle: Option<i64>,
    /// Bytes a second that moves between log dirs of one broker may take
    #[arg(long, allow_negative_numbers = true)]
    replica_alter_log_dirs_throttle: Option<i64>,
    /// How many milliseconds moves between log dirs may take to begin
    #[arg(long, allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// Execute although other moves are under way, or to change their throttle
    #[arg(long)]
    additional: bool,
    /// Leave the throttles as they are
    #[arg(long)]
    preserve_throttles: bool,
}

/// An error that the original prints as it is, without `Error: ` before it (`TerseException`).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Terse(String);

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    if args.is_empty() {
        eprintln!("This tool helps to move topic partitions between replicas.\n\n{}", Options::command().render_help());
        return Ok(ExitCode::FAILURE);
    }
    let options: Options = match super::parse("kafka-reassign-partitions", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    options.check()?;
    match cluster::block_on(act(&options)) {
        Ok(()) => return Ok(ExitCode::SUCCESS),
        Err(error) if error.is::<Terse>() => println!("{error}"),
        Err(error) => println!("Error: {error:#}"),
    }
    Ok(ExitCode::FAILURE)
}

async fn act(options: &Options) -> anyhow::Result<()> {
    let mut target = Target::connect(options).await?;
    let done = actions::run(options, &mut target).await;
    target.close().await;
    done
}

/// The text of a file that was named.
fn text_of(path: Option<&Path>) -> anyhow::Result<String> {
    let path = path.unwrap_or(Path::new(""));
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

impl Options {
    fn action(&self) -> &'static str {
        let given = [self.generate, self.execute, self.verify, self.cancel, self.list];
        ACTIONS.iter().zip(given).find(|(_, given)| *given).map_or("", |(action, _)| action)
    }

    fn check(&self) -> anyhow::Result<()> {
        let given = [self.generate, self.execute, self.verify, self.cancel, self.list];
        if given.iter().filter(|given| **given).count() != 1 {
            bail!("Command must include exactly one action: --generate, --execute, --verify, --cancel, --list");
        }
        let given = [
            ("bootstrap-server", self.bootstrap_server.is_some()),
            ("zookeeper", self.zookeeper.is_some()),
            ("command-config", self.command_config.is_some()),
            ("reassignment-json-file", self.reassignment_json_file.is_some()),
            ("topics-to-move-json-file", self.topics_to_move_json_file.is_some()),
            ("broker-list", self.broker_list.is_some()),
            ("disable-rack-aware", self.disable_rack_aware),
            ("throttle", self.throttle.is_some()),
            ("replica-alter-log-dirs-throttle", self.replica_alter_log_dirs_throttle.is_some()),
            ("timeout", self.timeout.is_some()),
            ("additional", self.additional),
            ("preserve-throttles", self.preserve_throttles),
        ];
        let action = self.action();
        let (required, permitted) = belonging(action);
        let options = Given::new(&given);
        if !options.has("bootstrap-server") && !options.has("zookeeper") {
            bail!("Please specify --bootstrap-server");
        }
        options.require(required)?;
        let common = ["bootstrap-server", "zookeeper", "command-config"];
        let belongs = |name: &str| [required, permitted, &common[..]].iter().any(|names| names.contains(&name));
        if let Some((name, _)) = given.iter().find(|(name, given)| *given && !belongs(name)) {
            bail!("Option \"[{name}]\" can't be used with action \"[{action}]\"");
        }
        self.check_zookeeper(action)
    }

    /// What cannot be done without the brokers.
    fn check_zookeeper(&self, action: &str) -> anyhow::Result<()> {
        if self.zookeeper.is_none() {
            return Ok(());
        }
        if self.bootstrap_server.is_some() {
            println!(
                "Warning: ignoring deprecated --zookeeper option because --bootstrap-server was specified.  \
                 The --zookeeper option will be removed in a future version of Kafka."
            );
            return Ok(());
        }
        if matches!(action, "cancel" | "list") {
            bail!("You must specify --bootstrap-server when using \"[{action}]\"");
        }
        if self.command_config.is_some() || self.replica_alter_log_dirs_throttle.is_some() || self.additional {
            bail!("--command-config, --additional and --replica-alter-log-dirs-throttle need --bootstrap-server");
        }
        println!("Warning: --zookeeper is deprecated, and will be removed in a future version of Kafka.");
        Ok(())
    }
}

/// The options that an action needs, and those that it may have.
fn belonging(action: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match action {
        "verify" => (&["reassignment-json-file"], &["preserve-throttles"]),
        "generate" => (&["topics-to-move-json-file", "broker-list"], &["disable-rack-aware"]),
        "execute" => {
            (&["reassignment-json-file"], &["additional", "throttle", "replica-alter-log-dirs-throttle", "timeout"])
        }
        "cancel" => (&["reassignment-json-file"], &["preserve-throttles", "timeout"]),
        _ => (&[], &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<(), String> {
        let args = ["kafka-reassign-partitions"].into_iter().chain(line.split_whitespace());
        Options::try_parse_from(args).map_err(|error| error.to_string())?.check().map_err(|error| error.to_string())
    }

    #[test]
    fn options_go_with_their_action() {
        for (line, said) in [
            ("--bootstrap-server b:1", "exactly one action"),
            ("--bootstrap-server b:1 --list --verify", "exactly one action"),
            ("--list", "Please specify --bootstrap-server"),
            ("--bootstrap-server b:1 --execute", "Missing required argument \"[reassignment-json-file]\""),
            (
                "--bootstrap-server b:1 --list --throttle 5",
                "Option \"[throttle]\" can't be used with action \"[list]\"",
            ),
            ("--zookeeper z:1 --list", "You must specify --bootstrap-server when using \"[list]\""),
            ("--zookeeper z:1 --execute --reassignment-json-file f --additional", "need --bootstrap-server"),
        ] {
            let error = check(line).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
        check("--bootstrap-server b:1 --execute --reassignment-json-file f --throttle -1 --additional").expect("valid");
        check("--zookeeper z:1 --verify --reassignment-json-file f --preserve-throttles").expect("valid");
    }
}
