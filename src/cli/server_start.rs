//! `kafka-server-start.sh`: reads the properties and runs a broker until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Parser;

use super::{processes, zookeeper};

/// Start a broker: `kafka-server-start.sh [-daemon] server.properties [--override key=value]*`
#[derive(Parser)]
struct Options {
    /// The broker's properties
    #[arg(value_name = "server.properties")]
    properties: PathBuf,
    /// A property that wins over the file's; may be given several times
    #[arg(long = "override", value_name = "key=value")]
    overrides: Vec<String>,
}

/// Runs a broker in the foreground, or starts one in the background with `-daemon` as the first argument.
pub fn run(mut args: Vec<String>) -> anyhow::Result<ExitCode> {
    let daemon = zookeeper::take_daemon_flag(&mut args);
    let options: Options = match super::parse("kafka-server-start", args.clone()) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    if !options.properties.is_file() {
        bail!("there is no file {}", options.properties.display());
    }
    let overrides: Vec<_> = super::properties::parse_pairs(&options.overrides)?.into_iter().collect();
    if daemon { start_in_background(&args) } else { serve(&options.properties, &overrides) }
}

fn serve(properties: &Path, overrides: &[(String, String)]) -> anyhow::Result<ExitCode> {
    crate::server::run(properties, overrides)?;
    Ok(ExitCode::SUCCESS)
}

fn start_in_background(args: &[String]) -> anyhow::Result<ExitCode> {
    let binary = std::env::current_exe().context("cannot tell where this program is")?;
    let log = processes::daemon_log("kafkaServer");
    let pid = processes::spawn_daemon(Command::new(binary).arg("kafka-server-start").args(args), &log)?;
    println!("The broker starts as process {pid}; its log goes to {}", log.display());
    Ok(ExitCode::SUCCESS)
}
