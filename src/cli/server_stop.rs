//! `kafka-server-stop.sh` and `zookeeper-server-stop.sh`: SIGTERM to what the start scripts started.

use std::process::ExitCode;

use clap::Parser;

use super::processes::{self, Process};

/// Stop what runs on this machine.
#[derive(Parser)]
struct Options {}

/// Stops every broker that this user may stop.
pub fn run_broker(args: Vec<String>) -> anyhow::Result<ExitCode> {
    if let Err(code) = super::parse::<Options>("kafka-server-stop", args) {
        return Ok(code);
    }
    stop("kafka server", is_broker)
}

/// Stops every ZooKeeper server that this user may stop.
pub fn run_zookeeper(args: Vec<String>) -> anyhow::Result<ExitCode> {
    if let Err(code) = super::parse::<Options>("zookeeper-server-stop", args) {
        return Ok(code);
    }
    stop("zookeeper server", is_zookeeper)
}

fn stop(what: &str, wanted: fn(&Process) -> bool) -> anyhow::Result<ExitCode> {
    let found: Vec<_> = processes::list().into_iter().filter(wanted).collect();
    if found.is_empty() {
        println!("No {what} to stop");
        return Ok(ExitCode::FAILURE);
    }
    for process in found {
        processes::terminate(process.pid)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broker(process: &Process) -> bool {
    let program = process.args.first().map_or("", String::as_str);
    let ours = program.rsplit('/').next() == Some("barnabas");
    ours && process.args.get(1).is_some_and(|arg| arg == "kafka-server-start")
}

fn is_zookeeper(process: &Process) -> bool {
    let java = process.args.first().is_some_and(|program| program.ends_with("java"));
    java && process.args.iter().any(|arg| arg == super::zookeeper::SERVER_CLASS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(args: &[&str]) -> Process {
        Process { pid: 1, args: args.iter().map(|arg| (*arg).to_owned()).collect() }
    }

    #[test]
    fn only_servers_are_stopped() {
        assert!(is_broker(&process(&["/opt/b/barnabas", "kafka-server-start", "server.properties"])));
        assert!(!is_broker(&process(&["/opt/b/barnabas", "kafka-console-consumer"])));
        assert!(!is_broker(&process(&["vi", "kafka-server-start"])));
        assert!(is_zookeeper(&process(&["java", "-cp", "x", super::super::zookeeper::SERVER_CLASS, "zoo.cfg"])));
        assert!(!is_zookeeper(&process(&["java", "-cp", "x", "kafka.Kafka"])));
    }
}
