//! `kafka-consumer-groups.sh`: lists and describes groups, resets and deletes their offsets, deletes groups. Speaks like
//! 3.9's tool.

mod client;
mod reset;
mod times;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{CommandFactory, Parser};

use super::cluster;
use super::properties::{self, Properties};
use super::usage::Given;
use client::Groups;

const ACTIONS: &[&str] = &["list", "describe", "delete", "reset-offsets"];
const SCENARIOS: &[&str] =
    &["to-offset", "shift-by", "to-datetime", "by-duration", "to-earliest", "to-latest", "to-current", "from-file"];
/// States a group of either protocol can be in, as they are written.
const STATES: &[&str] =
    &["PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty", "Assigning", "Reconciling"];
const TYPES: &[&str] = &["Consumer", "Classic", "Share"];

/// List all consumer groups, describe a consumer group, delete consumer group info, or reset consumer group offsets.
#[derive(Parser, Debug, Default)]
#[command(name = "kafka-consumer-groups", infer_long_args = true)]
struct Options {
    /// The brokers to ask first: HOST1:PORT1,HOST2:PORT2
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// A properties file for the admin client
    #[arg(long)]
    command_config: Option<PathBuf>,
    /// List the groups
    #[arg(long)]
    list: bool,
    /// Show offsets and lag, members, or the state of groups
    #[arg(long)]
    describe: bool,
    /// Delete groups with all their offsets
    #[arg(long)]
    delete: bool,
    /// Move the offsets of groups that have no members
    #[arg(long)]
    reset_offsets: bool,
    /// Delete a group's offsets of topics
    #[arg(long)]
    delete_offsets: bool,
    /// The group; may be given several times
    #[arg(long)]
    group: Vec<String>,
    /// All groups
    #[arg(long)]
    all_groups: bool,
    /// A topic, or topic:partition,partition; may be given several times
    #[arg(long)]
    topic: Vec<String>,
    /// All topics the group has offsets of
    #[arg(long)]
    all_topics: bool,
    /// With --describe: the members
    #[arg(long, requires = "describe")]
    members: bool,
    /// With --describe: offsets and lag, which is the default
    #[arg(long, requires = "describe")]
    offsets: bool,
    /// With --describe: the state. With --list: also the state, and only groups in these states
    #[arg(long, num_args = 0..=1, default_missing_value = "", value_name = "STATE,STATE")]
    state: Option<String>,
    /// With --list: also the type, and only groups of these types
    #[arg(long, num_args = 0..=1, default_missing_value = "", value_name = "TYPE,TYPE", requires = "list")]
    r#type: Option<String>,
    /// With --describe --members: also which partitions they have
    #[arg(long, requires = "describe")]
    verbose: bool,
    /// How long an answer may take, in milliseconds
    #[arg(long, default_value_t = 5000)]
    timeout: u64,
    /// With --reset-offsets: only show what would be done, which is the default
    #[arg(long)]
    dry_run: bool,
    /// With --reset-offsets: do it
    #[arg(long)]
    execute: bool,
    /// With --reset-offsets: print the plan as CSV, for --from-file
    #[arg(long)]
    export: bool,
    /// Reset to this offset
    #[arg(long, allow_hyphen_values = true)]
    to_offset: Option<i64>,
    /// Reset by so many records, forth or (negative) back
    #[arg(long, allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Reset to the first record from that time on: YYYY-MM-DDTHH:mm:SS.sss, with an optional zone
    #[arg(long)]
    to_datetime: Option<String>,
    /// Reset to the first record since that long ago: PnDTnHnMnS
    #[arg(long)]
    by_duration: Option<String>,
    /// Reset to the earliest offset
    #[arg(long)]
    to_earliest: bool,
    /// Reset to the end
    #[arg(long)]
    to_latest: bool,
    /// Reset to the committed offset
    #[arg(long)]
    to_current: bool,
    /// Reset to the offsets of a CSV file
    #[arg(long)]
    from_file: Option<PathBuf>,
}

impl Options {
    fn given(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("bootstrap-server", self.bootstrap_server.is_some()),
            ("list", self.list),
            ("describe", self.describe),
            ("delete", self.delete),
            ("reset-offsets", self.reset_offsets),
            ("delete-offsets", self.delete_offsets),
            ("group", !self.group.is_empty()),
            ("all-groups", self.all_groups),
            ("topic", !self.topic.is_empty()),
            ("all-topics", self.all_topics),
            ("dry-run", self.dry_run),
            ("execute", self.execute),
            ("export", self.export),
            ("to-offset", self.to_offset.is_some()),
            ("shift-by", self.shift_by.is_some()),
            ("to-datetime", self.to_datetime.is_some()),
            ("by-duration", self.by_duration.is_some()),
            ("to-earliest", self.to_earliest),
            ("to-latest", self.to_latest),
            ("to-current", self.to_current),
            ("from-file", self.from_file.is_some()),
        ]
    }

    /// Which options go together (`ConsumerGroupCommandOptions.checkArgs`).
    fn check(&self) -> anyhow::Result<()> {
        let options = self.given();
        let given = Given::new(&options);
        given.require(&["bootstrap-server"])?;
        if ACTIONS.iter().chain(&["delete-offsets"]).filter(|action| given.has(action)).count() != 1 {
            bail!(
                "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets"
            );
        }
        let named = given.has("group") || given.has("all-groups");
        for action in ["describe", "delete", "reset-offsets"] {
            if given.has(action) && !named {
                bail!("Option [{action}] takes one of these options: [all-groups], [group]");
            }
        }
        if self.delete_offsets && !(given.has("group") && given.has("topic")) {
            bail!("Option [delete-offsets] takes the following options: [group], [topic]");
        }
        if self.delete && !self.topic.is_empty() {
            bail!("The consumer does not support topic-specific offset deletion from a consumer group.");
        }
        self.check_describe()?;
        given.exclude("group", &["all-groups", "list"])?;
        given.exclude("topic", &["list", "describe"])?;
        for name in SCENARIOS.iter().chain(&["dry-run", "execute", "export", "all-topics"]) {
            given.only_with(name, &["reset-offsets"], ACTIONS)?;
            given.exclude(name, &["delete-offsets"])?;
        }
        if self.reset_offsets { self.check_reset(&given) } else { Ok(()) }
    }

    fn check_describe(&self) -> anyhow::Result<()> {
        if self.describe
            && [self.members, self.offsets, self.state.is_some()].iter().filter(|given| **given).count() > 1
        {
            bail!("Option [describe] takes at most one of these options: [members], [offsets], [state]");
        }
        if self.describe && self.state.as_ref().is_some_and(|state| !state.is_empty()) {
            bail!("Option [describe] does not take a value for [state]");
        }
        if self.state.is_some() && !self.describe && !self.list {
            bail!("Option [state] goes with [describe] or [list] only");
        }
        Ok(())
    }

    fn check_reset(&self, given: &Given<'_>) -> anyhow::Result<()> {
        if self.dry_run && self.execute {
            bail!("Option [reset-offsets] only accepts one of [execute] and [dry-run]");
        }
        for scenario in SCENARIOS {
            given.exclude(scenario, SCENARIOS)?;
        }
        if !SCENARIOS.iter().any(|scenario| given.has(scenario)) {
            bail!("Option '[reset-offsets]' requires one of the following scenarios: [{}]", SCENARIOS.join("], ["));
        }
        if self.topic.is_empty() && !self.all_topics && self.from_file.is_none() {
            bail!("One of the reset scopes should be defined: --all-topics, --topic.");
        }
        given.exclude("topic", &["all-topics"])?;
        if !self.dry_run && !self.execute {
            eprintln!("WARN: nothing is changed without --execute; say --dry-run to make that plain.");
        }
        Ok(())
    }

    fn admin_properties(&self) -> anyhow::Result<Properties> {
        let mut all = self.command_config.as_deref().map(properties::read_file).transpose()?.unwrap_or_default();
        all.insert("request.timeout.ms".to_owned(), self.timeout.to_string());
        all.remove("default.api.timeout.ms");
        Ok(all)
    }

    /// The words of `--state` or `--type`, in the way the broker writes them.
    fn words(text: Option<&String>, known: &[&'static str], what: &str) -> anyhow::Result<Vec<&'static str>> {
        let given: Vec<&str> =
            text.map_or("", String::as_str).split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
        let find = |word: &str| known.iter().find(|name| name.eq_ignore_ascii_case(word)).copied();
        given.iter().map(|word| find(word)).collect::<Option<_>>().ok_or_else(|| {
            anyhow!("Invalid {what}s list '{}'. Valid {what}s are: {}", given.join(","), known.join(", "))
        })
    }
}

/// Runs the tool.
pub fn run(args: Vec<String>) -> anyhow::Result<ExitCode> {
    let options: Options = match super::parse("kafka-consumer-groups", args) {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    if let Err(error) = options.check() {
        eprintln!("{error}\n\n{}", Options::command().render_help());
        return Ok(ExitCode::FAILURE);
    }
    match cluster::block_on(execute(&options)) {
        Ok(code) => Ok(code),
        Err(error) => {
            println!("\nError: Executing consumer group command failed due to {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn execute(options: &Options) -> anyhow::Result<ExitCode> {
    let bootstrap = options.bootstrap_server.as_deref().unwrap_or_default();
    let mut groups = Groups::connect(bootstrap, &options.admin_properties()?).await?;
    if options.list {
        list(options, &mut groups).await
    } else if options.describe {
        describe(options, &mut groups).await
    } else if options.reset_offsets {
        reset::run(options, &mut groups).await
    } else if options.delete_offsets {
        reset::delete_offsets(options, &mut groups).await
    } else {
        delete(options, &mut groups).await
    }
}

/// The groups that `--group` or `--all-groups` mean.
async fn chosen(options: &Options, groups: &mut Groups) -> anyhow::Result<Vec<String>> {
    let mut names = match options.all_groups {
        true => groups.list(&[], &[]).await?.into_iter().map(|listed| listed.name).collect(),
        false => options.group.clone(),
    };
    names.sort();
    names.dedup();
    Ok(names)
}

async fn list(options: &Options, groups: &mut Groups) -> anyhow::Result<ExitCode> {
    let states = Options::words(options.state.as_ref(), STATES, "state")?;
    let types = Options::words(options.r#type.as_ref(), TYPES, "type")?;
    let found = groups.list(&states, &types).await?;
    print!("{}", view::list(&found, options.r#type.is_some(), options.state.is_some()));
    Ok(ExitCode::SUCCESS)
}

async fn describe(options: &Options, groups: &mut Groups) -> anyhow::Result<ExitCode> {
    let mut shown = false;
    for name in chosen(options, groups).await? {
        let group = groups.describe(&name).await?;
        let known = view::say_state(&group);
        if !known {
            continue;
        }
        let text = if options.members {
            view::members(&group, options.verbose)
        } else if options.state.is_some() {
            view::state(&group)
        } else {
            view::offsets(&groups.rows(&group).await?)
        };
        shown |= !text.is_empty();
        print!("{text}");
    }
    if shown {
        // The original's lines each begin with the line's end; the last one gets its own here.
        println!();
    }
    Ok(ExitCode::SUCCESS)
}

async fn delete(options: &Options, groups: &mut Groups) -> anyhow::Result<ExitCode> {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for name in chosen(options, groups).await? {
        match groups.delete(&name).await {
            Ok(()) => done.push(name),
            Err(error) => failed.push(format!("* Group '{name}' could not be deleted due to: {error:#}")),
        }
    }
    if failed.is_empty() {
        println!("Deletion of requested consumer groups ('{}') was successful.", done.join("', '"));
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nError: Deletion of some consumer groups failed:\n{}", failed.join("\n"));
    if !done.is_empty() {
        println!("\nThese consumer groups were deleted successfully: '{}'", done.join("', '"));
    }
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Options {
        Options::try_parse_from(std::iter::once("kafka-consumer-groups").chain(line.split_whitespace()))
            .expect("options")
    }

    #[test]
    fn usual_command_lines_are_taken() {
        for line in [
            "--list --bootstrap-server b:1",
            "--list --state --bootstrap-server b:1",
            "--list --state Stable,empty --type classic --bootstrap-server b:1",
            "--describe --group g --bootstrap-server b:1",
            "--describe --all-groups --members --verbose --bootstrap-server b:1",
            "--describe --group g --state --bootstrap-server b:1",
            "--delete --group g --group h --bootstrap-server b:1",
            "--reset-offsets --group g --topic t:0,1 --shift-by -2 --execute --bootstrap-server b:1",
            "--reset-offsets --all-groups --all-topics --to-earliest --dry-run --bootstrap-server b:1",
            "--delete-offsets --group g --topic t --bootstrap-server b:1",
        ] {
            parsed(line).check().expect(line);
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, message) in [
            ("--list", "Missing required argument \"[bootstrap-server]\""),
            ("--bootstrap-server b", "exactly one action"),
            ("--describe --bootstrap-server b", "takes one of these options"),
            ("--describe --group g --all-groups --bootstrap-server b", "can't be used with option \"[all-groups]\""),
            ("--describe --group g --members --offsets --bootstrap-server b", "takes at most one"),
            ("--describe --group g --state Stable --bootstrap-server b", "does not take a value"),
            ("--delete --group g --topic t --bootstrap-server b", "does not support topic-specific"),
            ("--delete-offsets --group g --bootstrap-server b", "[group], [topic]"),
            ("--reset-offsets --group g --to-earliest --bootstrap-server b", "reset scopes"),
            ("--reset-offsets --group g --topic t --bootstrap-server b", "requires one of the following scenarios"),
            ("--reset-offsets --group g --topic t --to-earliest --to-latest --bootstrap-server b", "\"[to-latest]\""),
            ("--describe --group g --execute --bootstrap-server b", "can't be used with option \"[describe]\""),
        ] {
            let error = parsed(line).check().expect_err(line).to_string();
            assert!(error.contains(message), "{line}: {error}");
        }
        assert!(Options::try_parse_from(["x", "--list", "--members"]).is_err());
    }

    #[test]
    fn states_are_read_in_any_case() {
        let words = |text: &str| Options::words(Some(&text.to_owned()), STATES, "state");
        assert_eq!(words("stable, EMPTY").expect("known"), ["Stable", "Empty"]);
        assert!(words("").expect("none").is_empty());
        assert!(words("asleep").expect_err("unknown").to_string().starts_with("Invalid states list 'asleep'. Valid"));
    }
}
