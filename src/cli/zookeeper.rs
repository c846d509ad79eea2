//! `zookeeper-server-start.sh` and `zookeeper-shell.sh`: Apache's own ZooKeeper, from `ZOOKEEPER_HOME` or from the
//! `zookeeper` Debian package. Barnabas never replaces it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use super::processes;

/// The class that runs a ZooKeeper server, alone or in an ensemble.
pub const SERVER_CLASS: &str = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
const SHELL_CLASS: &str = "org.apache.zookeeper.ZooKeeperMain";
const DEBIAN_JAR: &str = "/usr/share/java/zookeeper.jar";
/// Debian's ZooKeeper comes without a logger of its own, and would say nothing.
const DEBIAN_LOGGER: &str = "/usr/share/java/slf4j-simple.jar";
/// How that logger writes: as Kafka's scripts have ZooKeeper write.
const SIMPLE_LOGGER: &[&str] = &[
    "logFile=System.out",
    "showDateTime=true",
    "dateTimeFormat=[yyyy-MM-dd HH:mm:ss,SSS]",
    "levelInBrackets=false",
    "showThreadName=false",
    "showShortLogName=true",
    // Says that the shell ends, as if that were an error.
    "log.org.apache.zookeeper.util.ServiceUtils=off",
];

const START_USAGE: &str = "Usage: zookeeper-server-start.sh [-daemon] zookeeper.properties";
const SHELL_USAGE: &str = "Usage: zookeeper-shell.sh zookeeper_host:port[/path] [command [args...]]";

/// Starts a ZooKeeper server with the given properties; with `-daemon` in the background.
pub fn start(mut args: Vec<String>) -> anyhow::Result<ExitCode> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{START_USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    let daemon = take_daemon_flag(&mut args);
    refuse_option(args.first(), START_USAGE)?;
    let [config] = args.as_slice() else { bail!("{START_USAGE}") };
    if !Path::new(config).is_file() {
        bail!("there is no file {config}");
    }
    // Its own words would be that a relative path might be meant otherwise.
    let config = std::fs::canonicalize(config).with_context(|| format!("cannot read {config}"))?;
    let mut command = java(SERVER_CLASS, "info")?;
    command.arg(config);
    if daemon {
        let log = processes::daemon_log("zookeeper");
        let pid = processes::spawn_daemon(&mut command, &log)?;
        println!("ZooKeeper starts as process {pid}; its output goes to {}", log.display());
        return Ok(ExitCode::SUCCESS);
    }
    // Replaces this process, so that signals reach ZooKeeper itself.
    Err(command.exec()).context("cannot run java")
}

/// Opens ZooKeeper's own shell, or runs one command of it.
pub fn shell(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let Some((server, rest)) = args.split_first() else { bail!("{SHELL_USAGE}") };
    if server == "--help" || server == "-h" {
        println!("{SHELL_USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    refuse_option(Some(server), SHELL_USAGE)?;
    if rest.first().is_some_and(|arg| arg == "-zk-tls-config-file") {
        bail!("-zk-tls-config-file: TLS to ZooKeeper is not supported");
    }
    let mut command = java(SHELL_CLASS, "warn")?;
    command.arg("-server").arg(server).args(rest);
    Err(command.exec()).context("cannot run java")
}

/// What begins like an option is none of a file's nor of a host's names.
fn refuse_option(arg: Option<&String>, usage: &str) -> anyhow::Result<()> {
    match arg.filter(|arg| arg.starts_with('-')) {
        Some(option) => bail!("there is no option {option}\n{usage}"),
        None => Ok(()),
    }
}

/// Takes `-daemon` out of the arguments, wherever it stands before the properties.
pub(crate) fn take_daemon_flag(args: &mut Vec<String>) -> bool {
    match args.first().map(String::as_str) {
        Some("-daemon" | "--daemon") => {
            args.remove(0);
            true
        }
        _ => false,
    }
}

fn java(class: &str, level: &str) -> anyhow::Result<Command> {
    let java = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java")).filter(|path| path.exists());
    let mut command = Command::new(java.unwrap_or_else(|| PathBuf::from("java")));
    let heap = std::env::var("KAFKA_HEAP_OPTS").unwrap_or_else(|_| "-Xmx512M -Xms64M".to_owned());
    command.args(heap.split_whitespace());
    if let Ok(options) = std::env::var("KAFKA_OPTS") {
        command.args(options.split_whitespace());
    }
    command.args(SIMPLE_LOGGER.iter().map(|option| format!("-Dorg.slf4j.simpleLogger.{option}")));
    command.arg(format!("-Dorg.slf4j.simpleLogger.defaultLogLevel={level}"));
    command.arg("-cp").arg(class_path()?).arg("-Dzookeeper.admin.enableServer=false").arg(class);
    Ok(command)
}

/// The jars of `ZOOKEEPER_HOME`, else Debian's.
fn class_path() -> anyhow::Result<String> {
    match std::env::var_os("ZOOKEEPER_HOME") {
        Some(home) => {
            let home = PathBuf::from(home);
            if !home.join("lib").is_dir() {
                bail!("ZOOKEEPER_HOME is {}, but there is no lib folder with ZooKeeper's jars in it", home.display());
            }
            let home = home.display();
            Ok(format!("{home}/conf:{home}/lib/*:{home}/*"))
        }
        None if Path::new(DEBIAN_JAR).exists() => Ok(format!("{DEBIAN_JAR}:{DEBIAN_LOGGER}")),
        None => bail!(
            "Apache ZooKeeper was not found. Install Debian's package (apt-get install zookeeper), or set ZOOKEEPER_HOME \
             to the folder of an unpacked Apache release"
        ),
    }
}
