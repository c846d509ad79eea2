//! The tools behind `bin/*.sh`: THE table of subcommands and what all of them share. A tool is one file here, one line in
//! [`TOOLS`], one script in `bin/`.

use std::process::ExitCode;

use clap::Parser;

#[cfg(feature = "console")]
pub mod client_config;
pub mod cluster;
pub mod configs;
#[cfg(feature = "console")]
pub mod console_consumer;
#[cfg(feature = "console")]
pub mod console_producer;
pub mod delete_records;
pub mod elections;
pub mod formatter;
pub mod groups;
pub mod line_reader;
pub mod log_dirs;
pub mod processes;
pub mod properties;
pub mod reassign;
pub mod server_start;
pub mod server_stop;
pub mod topics;
pub mod transactions;
pub mod usage;
pub mod without_console;
pub mod zookeeper;
mod zookeeper_client;

#[cfg(feature = "console")]
use self::{console_consumer::run as consume, console_producer::run as produce};
#[cfg(not(feature = "console"))]
use self::{without_console::run as consume, without_console::run as produce};

/// One subcommand.
pub struct Tool {
    /// Its name: the script's name without `.sh`.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Runs it with the arguments behind its name.
    pub run: fn(Vec<String>) -> anyhow::Result<ExitCode>,
}

/// Every subcommand, in the order `barnabas --help` lists them.
pub const TOOLS: &[Tool] = &[
    Tool { name: "kafka-server-start", about: "Start a broker", run: server_start::run },
    Tool { name: "kafka-server-stop", about: "Stop the brokers of this machine cleanly", run: server_stop::run_broker },
    Tool { name: "zookeeper-server-start", about: "Start Apache ZooKeeper", run: zookeeper::start },
    Tool { name: "zookeeper-server-stop", about: "Stop Apache ZooKeeper", run: server_stop::run_zookeeper },
    Tool { name: "zookeeper-shell", about: "Look into ZooKeeper by hand", run: zookeeper::shell },
    Tool { name: "kafka-topics", about: "Create, delete, describe, or change topics", run: topics::run },
    Tool { name: "kafka-consumer-groups", about: "List, describe, reset or delete consumer groups", run: groups::run },
    Tool { name: "kafka-configs", about: "Show or change configs of topics and brokers", run: configs::run },
    Tool { name: "kafka-leader-election", about: "Elect leaders of partitions", run: elections::run },
    Tool {
        name: "kafka-preferred-replica-election",
        about: "Give leadership back to preferred replicas, as 2.8's tool does",
        run: elections::preferred::run,
    },
    Tool {
        name: "kafka-reassign-partitions",
        about: "Move partitions between brokers and log dirs",
        run: reassign::run,
    },
    Tool {
        name: "kafka-delete-records",
        about: "Delete the records of partitions before an offset",
        run: delete_records::run,
    },
    Tool {
        name: "kafka-transactions",
        about: "Look at transactions, find and abort those that hang",
        run: transactions::run,
    },
    Tool { name: "kafka-log-dirs", about: "Show what lies in the brokers' log dirs", run: log_dirs::run },
    Tool { name: "kafka-console-producer", about: "Write lines to a topic", run: produce },
    Tool { name: "kafka-console-consumer", about: "Read a topic's records", run: consume },
];

/// Runs the subcommand that `args` begin with.
pub fn main(mut args: Vec<String>) -> ExitCode {
    let name = if args.is_empty() { String::from("--help") } else { args.remove(0) };
    match name.as_str() {
        "--help" | "-h" | "help" => {
            println!("{}", usage());
            ExitCode::SUCCESS
        }
        "--version" | "version" => {
            println!("{}", version());
            ExitCode::SUCCESS
        }
        name => match TOOLS.iter().find(|tool| tool.name == name) {
            Some(tool) => run(tool, args),
            None => {
                eprintln!("barnabas has no tool '{name}'.\n\n{}", usage());
                ExitCode::FAILURE
            }
        },
    }
}

fn run(tool: &Tool, args: Vec<String>) -> ExitCode {
    if args.iter().any(|arg| arg == "--version") {
        println!("{}", version());
        return ExitCode::SUCCESS;
    }
    match (tool.run)(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}: {error:#}", tool.name);
            ExitCode::FAILURE
        }
    }
}

/// What `--version` prints.
pub fn version() -> String {
    format!("barnabas {} (the protocol and the ZooKeeper mode of Kafka 3.9)", env!("CARGO_PKG_VERSION"))
}

fn usage() -> String {
    let mut text = String::from("Usage: barnabas TOOL [OPTIONS]\n\nTools (each is also a script in bin/):\n");
    for tool in TOOLS {
        text.push_str(&format!("  {:<34} {}\n", tool.name, tool.about));
    }
    text.push_str("\n'barnabas TOOL --help' lists a tool's options.");
    text
}

/// Parses a tool's options; what is wrong with them is printed. `Err` holds the exit code: 0 after `--help`, else 1 as
/// the original's tools do.
pub(crate) fn parse<T: Parser>(name: &'static str, args: Vec<String>) -> Result<T, ExitCode> {
    T::try_parse_from(std::iter::once(name.to_owned()).chain(args)).map_err(|error| {
        // Nothing can be done if the terminal is gone.
        let _ = error.print();
        if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}

#[cfg(test)]
mod tests {
    use super::TOOLS;

    #[test]
    fn every_tool_is_listed_once() {
        let mut names: Vec<_> = TOOLS.iter().map(|tool| tool.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TOOLS.len());
    }
}
