//! Every script in bin/ tells its options when asked with --help, and names an option that it does not have.

use crate::support::broker::barnabas;
use crate::support::process::{Output, run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The options of each script, beside --help and --version. A script that is not listed fails the test.
const SCRIPTS: &[(&str, &str)] = &[
    ("barnabas", ""),
    (
        "kafka-configs",
        "--add-config --add-config-file --all --alter --bootstrap-server --broker --broker-defaults --broker-logger \
         --command-config --delete-config --describe --entity-default --entity-name --entity-type --force --topic --zookeeper",
    ),
    (
        "kafka-console-consumer",
        "--bootstrap-server --consumer-property --consumer.config --enable-systest-events --formatter \
         --formatter-config --from-beginning --group --include --isolation-level --key-deserializer --max-messages \
         --offset --partition --property --skip-message-on-error --timeout-ms --topic --value-deserializer --whitelist",
    ),
    (
        "kafka-console-producer",
        "--batch-size --bootstrap-server --broker-list --compression-codec --line-reader --max-block-ms \
         --max-memory-bytes --max-partition-memory-bytes --message-send-max-retries --metadata-expiry-ms \
         --producer-property --producer.config --property --reader-config --request-required-acks \
         --request-timeout-ms --retry-backoff-ms --socket-buffer-size --sync --timeout --topic",
    ),
    (
        "kafka-consumer-groups",
        "--all-groups --all-topics --bootstrap-server --by-duration --command-config --delete --delete-offsets \
         --describe --dry-run --execute --export --from-file --group --list --members --offsets --reset-offsets \
         --shift-by --state --timeout --to-current --to-datetime --to-earliest --to-latest --to-offset --topic --type \
         --verbose",
    ),
    ("kafka-delete-records", "--bootstrap-server --command-config --offset-json-file"),
    (
        "kafka-leader-election",
        "--admin.config --all-topic-partitions --bootstrap-server --election-type --partition --path-to-json-file \
         --topic",
    ),
    ("kafka-log-dirs", "--bootstrap-server --broker-list --command-config --describe --topic-list"),
    ("kafka-preferred-replica-election", "--admin.config --bootstrap-server --path-to-json-file --zookeeper"),
    (
        "kafka-reassign-partitions",
        "--additional --bootstrap-server --broker-list --cancel --command-config --disable-rack-aware --execute \
         --generate --list --preserve-throttles --reassignment-json-file --replica-alter-log-dirs-throttle --throttle \
         --timeout --topics-to-move-json-file --verify --zookeeper",
    ),
    ("kafka-server-start", "-daemon --override"),
    ("kafka-server-stop", ""),
    (
        "kafka-topics",
        "--alter --at-min-isr-partitions --bootstrap-server --command-config --config --create --delete \
         --delete-config --describe --disable-rack-aware --exclude-internal --force --if-exists --if-not-exists --list \
         --partition-size-limit-per-response --partitions --replica-assignment --replication-factor --topic --topic-id \
         --topics-with-overrides --unavailable-partitions --under-min-isr-partitions --under-replicated-partitions \
         --zookeeper",
    ),
    ("kafka-transactions", "--bootstrap-server --command-config"),
    ("quickstart", "--stop"),
    ("zookeeper-server-start", "-daemon"),
    ("zookeeper-server-stop", ""),
    ("zookeeper-shell", ""),
];

fn bin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bin")
}

fn script(name: &str, option: &str) -> Output {
    let mut command = Command::new(bin().join(format!("{name}.sh")));
    command.arg(option).env("BARNABAS_BIN", barnabas());
    run(&format!("{name}.sh {option}"), command, "", Duration::from_secs(60))
}

/// The options that stand in a text, each at the beginning of a word.
fn options_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "[]()|,'`".contains(c));
    let trimmed = words.map(|word| word.trim_end_matches(['.', ':']));
    trimmed.filter(|word| word.starts_with('-') && word.len() > 2).collect()
}

#[test]
fn help_names_every_option() {
    for (name, options) in SCRIPTS {
        let output = script(name, "--help");
        assert!(output.status.success(), "{name}.sh --help ended with {}:\n{}", output.status, output.stderr);
        let mut named = options_in(&output.stdout);
        named.retain(|option| !["--help", "--version"].contains(option));
        assert_eq!(named, options.split_whitespace().collect(), "{name}.sh --help:\n{}", output.stdout);
    }
}

#[test]
fn an_unknown_option_is_named() {
    for (name, _) in SCRIPTS {
        let output = script(name, "--no-such-option");
        assert!(!output.status.success(), "{name}.sh took --no-such-option:\n{}", output.stdout);
        assert!(output.stderr.contains("--no-such-option"), "{name}.sh names it not:\n{}", output.stderr);
        assert!(output.stderr.len() < 4_000, "{name}.sh says too much:\n{}", output.stderr);
    }
}

#[test]
fn every_script_is_listed() {
    let files = std::fs::read_dir(bin()).expect("bin/").flatten().map(|file| file.file_name());
    let names: BTreeSet<String> = files.map(|name| name.to_string_lossy().trim_end_matches(".sh").to_owned()).collect();
    assert_eq!(names, SCRIPTS.iter().map(|(name, _)| (*name).to_owned()).collect());
}
