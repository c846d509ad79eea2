//! What changes while brokers run, and takes effect without a restart: levels of their logs, and configs.

use std::fs;
use std::process::Command;

use crate::support::broker::{Broker, Kind, barnabas};
use crate::support::brokers::Brokers;
use crate::support::cluster::Cluster;
use crate::support::process::{Output, run};
use crate::support::{PATIENCE, wait_for};

fn configs(broker: &Broker, line: &str) -> Output {
    let mut command = Command::new(barnabas());
    command.args(["kafka-configs", "--bootstrap-server", &broker.address()]).args(line.split_whitespace());
    run(&format!("kafka-configs {line}"), command, "", PATIENCE)
}

/// Runs the tool and wants it to succeed.
fn done(broker: &Broker, line: &str) -> String {
    let output = configs(broker, line);
    assert!(output.status.success(), "{line}:\n{}{}", output.stdout, output.stderr);
    output.stdout
}

/// Runs the tool and wants it to fail; what it says.
fn refused(broker: &Broker, line: &str) -> String {
    let output = configs(broker, line);
    assert!(!output.status.success(), "{line}:\n{}", output.stdout);
    output.stderr
}

/// Makes a topic with these replicas; `a:b,c:d` has two partitions.
fn create(cluster: &Brokers, topic: &str, replicas: &str) {
    let mut command = Command::new(barnabas());
    command.args(["kafka-topics", "--bootstrap-server", &cluster.brokers[0].address()]);
    command.args(["--create", "--topic", topic, "--replica-assignment", replicas]);
    let output = run(&format!("create {topic}"), command, "", PATIENCE);
    assert!(output.status.success(), "{}{}", output.stdout, output.stderr);
    for (partition, ids) in (0..).zip(replicas.split(',')) {
        let mut ids: Vec<i64> = ids.split(':').map(|id| id.parse().expect("an id")).collect();
        ids.sort_unstable();
        cluster.wait_isr(topic, partition, &ids);
    }
}

#[test]
fn levels_of_the_log_change_while_the_broker_runs() {
    let cluster = Cluster::start(Kind::Barnabas);
    let broker = &cluster.broker;
    let made = |topic: &str| {
        let line = |line: &str| line.contains("DEBUG") && line.contains("created a log") && line.contains(topic);
        broker.log_text().lines().any(line)
    };
    let shown = |logger: &str, level: &str| {
        let text = done(broker, "--describe --entity-type broker-loggers --entity-name 0");
        assert!(text.starts_with("Dynamic configs for broker-logger 0 are:\n"), "{text}");
        assert!(text.contains(&format!("\n  {logger}={level} sensitive=false synonyms={{}}\n")), "{logger}: {text}");
    };
    shown("root", "INFO");
    broker.wire().create_topic("before", 1, &[]);
    shown("barnabas.log.manager", "INFO");

    let line = "--alter --entity-type broker-loggers --entity-name 0 --add-config";
    assert_eq!(done(broker, &format!("{line} barnabas.log=DEBUG")), "Completed updating config for broker-logger 0.\n");
    shown("barnabas.log.manager", "DEBUG");
    shown("barnabas.replica", "INFO");
    broker.wire().create_topic("during", 1, &[]);
    wait_for("a line of the new level", PATIENCE, || made("during-0").then_some(()));

    assert!(refused(broker, &format!("{line} no.such=DEBUG")).contains("Invalid broker logger(s): no.such"));
    assert!(refused(broker, &format!("{line} root=LOUD")).contains("Cannot set the log level of root to LOUD"));
    done(broker, "--alter --broker-logger 0 --delete-config barnabas.log");
    shown("barnabas.log.manager", "INFO");
    broker.wire().create_topic("after", 1, &[]);
    done(broker, "--alter --broker-logger 0 --add-config root=DEBUG");
    broker.wire().create_topic("later", 1, &[]);
    wait_for("a line of the new level", PATIENCE, || made("later-0").then_some(()));
    assert!(!made("before-0") && !made("after-0"), "lines of another level came");
}

#[test]
fn unclean_leaders_are_elected_once_they_are_allowed() {
    let mut cluster = Brokers::start(&[Kind::Barnabas; 3], |_, broker| {
        broker.set("replica.lag.time.max.ms", 2_000);
    });
    create(&cluster, "unclean", "1:2");
    cluster.brokers[2].kill();
    cluster.wait_isr("unclean", 0, &[1]);
    cluster.leader("unclean", 0).append("unclean", 0, "only broker 1 has it");
    cluster.brokers[1].kill();
    cluster.zookeeper.gone_within("/brokers/ids/1", PATIENCE);
    cluster.brokers[2].start();
    wait_for("nobody to lead", PATIENCE, || (cluster.state("unclean", 0).leader == -1).then_some(()));

    let broker = &cluster.brokers[0];
    done(broker, "--alter --broker-defaults --add-config unclean.leader.election.enable=true");
    wait_for("a leader out of sync", PATIENCE, || (cluster.state("unclean", 0).leader == 2).then_some(()));
    assert_eq!(
        done(broker, "--describe --broker 0 --all").lines().find(|line| line.contains("unclean.leader")),
        Some(
            "  unclean.leader.election.enable=true sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:\
             unclean.leader.election.enable=true, DEFAULT_CONFIG:unclean.leader.election.enable=false}"
        )
    );
}

/// How many threads of a broker have names that begin so.
fn threads(broker: &mut Broker, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", broker.process().pid())).expect("the broker runs");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end().strip_prefix(name).is_some_and(|rest| rest.parse::<u32>().is_ok())).count()
}

#[test]
fn threads_fetchers_and_addresses_follow_their_configs() {
    let mut cluster = Brokers::start(&[Kind::Barnabas; 2], |_, _| {});
    // Each broker follows two partitions of the other, which belong to different ones of two fetchers.
    create(&cluster, "spread", "0:1,0:1,1:0,1:0");
    let mut written = 0;
    let mut write = |cluster: &Brokers| {
        for partition in 0..4 {
            assert_eq!(cluster.leader("spread", partition).append("spread", partition, "value"), written);
        }
        written += 1;
    };
    write(&cluster);
    let set = |cluster: &Brokers, line: &str| done(&cluster.brokers[0], &format!("--alter {line}"));
    set(&cluster, "--broker-defaults --add-config num.replica.fetchers=2,num.network.threads=5");
    for broker in &mut cluster.brokers {
        wait_for("a second fetcher", PATIENCE, || {
            broker.log_text().contains("starts fetcher 1 from broker").then_some(())
        });
        wait_for("five network threads", PATIENCE, || (threads(broker, "network-") == 5).then_some(()));
    }
    write(&cluster);
    set(&cluster, "--broker-defaults --delete-config num.replica.fetchers,num.network.threads");
    for broker in &mut cluster.brokers {
        wait_for("the second fetcher to end", PATIENCE, || {
            broker.log_text().contains("ends fetcher 1 from broker").then_some(())
        });
        wait_for("three network threads", PATIENCE, || (threads(broker, "network-") == 3).then_some(()));
    }
    write(&cluster);

    let port = cluster.brokers[0].port;
    set(&cluster, &format!("--broker 0 --add-config advertised.listeners=PLAINTEXT://localhost:{port}"));
    let advertised = |broker: &Broker| {
        let known = broker.wire().try_metadata(&[]).ok()?;
        known.brokers.iter().find(|broker| broker.node_id.0 == 0).map(|broker| broker.host.to_string())
    };
    for broker in &cluster.brokers {
        wait_for("the new address", PATIENCE, || (advertised(broker)? == "localhost").then_some(()));
    }
    write(&cluster);
    cluster.brokers[0].stop();
    cluster.brokers[0].start();
    wait_for("it after a restart", PATIENCE, || (advertised(&cluster.brokers[0])? == "localhost").then_some(()));

    let broker = &cluster.brokers[0];
    for (line, why) in [
        ("--broker-defaults --add-config num.io.threads=9", "it has no effect in Barnabas"),
        (
            "--broker-defaults --add-config num.network.threads=7",
            "should not be greater than double the current value 3",
        ),
        ("--broker 0 --add-config listeners=PLAINTEXT://:1", "sockets are opened at a start"),
        ("--broker-defaults --add-config advertised.listeners=PLAINTEXT://a:1", "for one broker at a time"),
        ("--broker 0 --add-config advertised.listeners=OTHER://a:1", "OTHER"),
    ] {
        let said = refused(broker, &format!("--alter {line}"));
        assert!(said.contains(why), "{line}: {said}");
    }
}
