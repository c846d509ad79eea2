//! `--verify`, `--generate`, `--execute`, `--cancel`, `--list`: what each does, in the order and the words of the original.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::bail;

use super::json::{self, Reassignment, joined};
use super::plan::{
    self, Assignment, FOLLOWER_RATE, FOLLOWER_REPLICAS, LEADER_RATE, LEADER_REPLICAS, LOG_DIR_RATE, Moves,
};
use super::states::{self, LogDirMove, PartitionState};
use super::target::{ConfigChanges, Target};
use super::{Options, Terse, log_dirs, text_of};
use crate::admin::assignment::Start;
use crate::base::ids::TopicPartition;

/// How long moves between log dirs may take to begin when `--timeout` does not say.
const DEFAULT_TIMEOUT_MS: i64 = 10_000;

const EXISTING: &str = "Cannot execute because there is an existing partition assignment.  Use --additional to override \
                        this and create a new partition assignment in addition to the existing one. The --additional flag \
                        can also be used to change the throttle by resubmitting the current reassignment.";

/// Does what the options say.
pub(super) async fn run(options: &Options, target: &mut Target) -> anyhow::Result<()> {
    match options.action() {
        "verify" => verify(options, target).await,
        "generate" => generate(options, target).await,
        "execute" => execute(options, target).await,
        "cancel" => cancel(options, target).await,
        _ => {
            println!("{}", states::list(&target.under_way().await?));
            Ok(())
        }
    }
}

fn read_reassignment(options: &Options) -> anyhow::Result<Reassignment> {
    Reassignment::parse(&text_of(options.reassignment_json_file.as_deref())?)
}

fn timeout(options: &Options) -> Duration {
    Duration::from_millis(u64::try_from(options.timeout.unwrap_or(DEFAULT_TIMEOUT_MS)).unwrap_or(0))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn topics_of<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> BTreeSet<String> {
    partitions.into_iter().map(|tp| tp.topic.to_string()).collect()
}

async fn verify(options: &Options, target: &mut Target) -> anyhow::Result<()> {
    let wanted = read_reassignment(options)?;
    if matches!(target, Target::ZooKeeper(_)) {
        println!(
            "Warning: because you are using the deprecated --zookeeper option, the results may be incomplete.  Use \
             --bootstrap-server instead for more accurate results."
        );
    }
    let under_way = target.under_way().await?;
    let others = wanted.partitions.iter().map(|(tp, _)| tp).filter(|tp| !under_way.contains_key(*tp));
    let current = target.assignment(&topics_of(others)).await?;
    let state = |(tp, replicas): &(TopicPartition, Vec<i32>)| {
        let ongoing = under_way.get(tp).map(|ongoing| ongoing.replicas.clone());
        let done = ongoing.is_none();
        let current = ongoing.unwrap_or_else(|| current.get(tp).cloned().unwrap_or_default());
        (tp.clone(), PartitionState { current, target: replicas.clone(), done })
    };
    let found: BTreeMap<_, _> = wanted.partitions.iter().map(state).collect();
    println!("{}", states::partitions(&found));
    let mut moving = false;
    if !wanted.log_dirs.is_empty() || matches!(target, Target::Brokers(_)) {
        let moves = log_dirs::states(target.cluster()?, &wanted.log_dirs).await?;
        println!("{}", states::log_dir_moves(&moves));
        moving = moves.values().any(|(_, state)| matches!(state, LogDirMove::Active { .. }));
    }
    if under_way.is_empty() && !moving && !options.preserve_throttles {
        clear_throttles(target, &wanted).await?;
    }
    Ok(())
}

/// Takes all throttles away: which brokers took part is not known any more.
async fn clear_throttles(target: &mut Target, wanted: &Reassignment) -> anyhow::Result<()> {
    let live: BTreeSet<i32> = target.brokers().await?.iter().map(|broker| broker.id.get()).collect();
    let named: BTreeSet<i32> = wanted.partitions.iter().flat_map(|(_, replicas)| replicas).copied().collect();
    let brokers: BTreeSet<i32> = live.union(&named).copied().collect();
    println!("Clearing broker-level throttles on broker{} {}", plural(brokers.len()), joined(&brokers));
    let gone = |names: &[&'static str]| -> ConfigChanges { names.iter().map(|name| (*name, None)).collect() };
    let rates = brokers.iter().map(|id| (*id, gone(&[LEADER_RATE, FOLLOWER_RATE, LOG_DIR_RATE]))).collect();
    target.change_configs(&BTreeMap::new(), &rates).await?;
    let topics = topics_of(wanted.partitions.iter().map(|(tp, _)| tp));
    println!("Clearing topic-level throttles on topic{} {}", plural(topics.len()), joined(&topics));
    let replicas = topics.into_iter().map(|topic| (topic, gone(&[LEADER_REPLICAS, FOLLOWER_REPLICAS]))).collect();
    target.change_configs(&replicas, &BTreeMap::new()).await
}

async fn generate(options: &Options, target: &mut Target) -> anyhow::Result<()> {
    let wanted: BTreeSet<i32> =
        json::parse_brokers(options.broker_list.as_deref().unwrap_or_default())?.into_iter().collect();
    let topics = json::parse_topics(&text_of(options.topics_to_move_json_file.as_deref())?)?;
    let topics: BTreeSet<String> = topics.into_iter().collect();
    let current = target.assignment(&topics).await?;
    let found = topics_of(current.keys());
    if let Some(missing) = topics.difference(&found).next() {
        bail!("Topic {missing} not found.");
    }
    let mut brokers = target.brokers().await?;
    brokers.retain(|broker| wanted.contains(&broker.id.get()));
    if options.disable_rack_aware {
        brokers.iter_mut().for_each(|broker| broker.rack = None);
    }
    let with = brokers.iter().filter(|broker| broker.rack.is_some()).count();
    if with != 0 && with != brokers.len() {
        bail!(
            "Not all brokers have rack information. Add --disable-rack-aware in command line to make replica assignment \
             without rack information."
        );
    }
    let proposed = plan::generate(&current, &brokers, Start::random())?;
    println!("Current partition replica assignment\n{}\n", json::format(&current));
    println!("Proposed partition reassignment configuration\n{}", json::format(&proposed));
    Ok(())
}

async fn execute(options: &Options, target: &mut Target) -> anyhow::Result<()> {
    let wanted = read_reassignment(options)?;
    let proposed = wanted.to_execute()?;
    let under_way = target.under_way().await?;
    if !options.additional && !under_way.is_empty() {
        bail!(Terse(EXISTING.to_owned()));
    }
    let live: BTreeSet<i32> = target.brokers().await?.iter().map(|broker| broker.id.get()).collect();
    if let Some(unknown) = proposed.values().flatten().find(|id| !live.contains(id)) {
        bail!("Unknown broker id {unknown}");
    }
    let current = current_of(target, &proposed).await?;
    println!(
        "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during rollback",
        json::format(&current)
    );
    let (between, within) = (options.throttle.unwrap_or(-1), options.replica_alter_log_dirs_throttle.unwrap_or(-1));
    if between >= 0 || within >= 0 {
        println!(
            "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed."
        );
    }
    if between >= 0 {
        throttle_moves(target, &Moves::of(&under_way, &proposed, &current)?, between).await?;
    }
    if within >= 0 {
        let brokers: BTreeSet<i32> = wanted.log_dirs.keys().map(|replica| replica.broker).collect();
        let changes = brokers.iter().map(|id| (*id, vec![(LOG_DIR_RATE, Some(within.to_string()))])).collect();
        target.change_configs(&BTreeMap::new(), &changes).await?;
        println!("The replica-alter-dir throttle limit was set to {within} B/s");
    }
    let start = proposed.iter().map(|(tp, replicas)| (tp.clone(), Some(replicas.clone()))).collect();
    let errors = target.reassign(&start).await?;
    if !errors.is_empty() {
        bail!(Terse(format!("Error reassigning partition(s):\n{}", by_partition(&errors))));
    }
    println!("Successfully started partition reassignment{} for {}", plural(proposed.len()), joined(proposed.keys()));
    if !wanted.log_dirs.is_empty() {
        log_dirs::execute(target.cluster()?, &wanted.log_dirs, timeout(options)).await?;
    }
    Ok(())
}

fn by_partition(errors: &BTreeMap<TopicPartition, String>) -> String {
    errors.iter().map(|(tp, error)| format!("{tp}: {error}")).collect::<Vec<_>>().join("\n")
}

/// The replicas that the proposed partitions have now.
async fn current_of(target: &Target, proposed: &Assignment) -> anyhow::Result<Assignment> {
    let topics = topics_of(proposed.keys());
    let mut current = target.assignment(&topics).await?;
    let found = topics_of(current.keys());
    if let Some(missing) = topics.difference(&found).next() {
        bail!("Topic {missing} not found.");
    }
    current.retain(|tp, _| proposed.contains_key(tp));
    let missing: Vec<String> =
        proposed.keys().filter(|tp| !current.contains_key(*tp)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        bail!("Unable to find partition: {}", missing.join(", "));
    }
    Ok(current)
}

async fn throttle_moves(target: &mut Target, moves: &Moves, rate: i64) -> anyhow::Result<()> {
    let replicas = moves.throttles().into_iter().map(|(topic, (leaders, followers))| {
        (topic.to_owned(), vec![(LEADER_REPLICAS, Some(leaders)), (FOLLOWER_REPLICAS, Some(followers))])
    });
    target.change_configs(&replicas.collect(), &BTreeMap::new()).await?;
    let rates = || vec![(LEADER_RATE, Some(rate.to_string())), (FOLLOWER_RATE, Some(rate.to_string()))];
    let brokers = moves.brokers().into_iter().map(|id| (id, rates())).collect();
    target.change_configs(&BTreeMap::new(), &brokers).await?;
    println!("The inter-broker throttle limit was set to {rate} B/s");
    Ok(())
}

async fn cancel(options: &Options, target: &mut Target) -> anyhow::Result<()> {
    let wanted = read_reassignment(options)?;
    let named: BTreeSet<&TopicPartition> = wanted.partitions.iter().map(|(tp, _)| tp).collect();
    let mut under_way = target.under_way().await?;
    under_way.retain(|tp, _| named.contains(tp));
    if under_way.is_empty() {
        println!("None of the specified partition reassignments are active.");
    } else {
        let errors = target.reassign(&under_way.keys().map(|tp| (tp.clone(), None)).collect()).await?;
        if !errors.is_empty() {
            let s = plural(errors.len());
            bail!(Terse(format!("Error cancelling partition reassignment{s} for:\n{}", by_partition(&errors))));
        }
        let s = plural(under_way.len());
        println!("Successfully cancelled partition reassignment{s} for: {}", joined(under_way.keys()));
    }
    let mut back = BTreeMap::new();
    for (replica, (_, state)) in log_dirs::states(target.cluster()?, &wanted.log_dirs).await? {
        if let LogDirMove::Active { current, .. } = state {
            back.insert(replica, current);
        }
    }
    if back.is_empty() {
        // The original ends no line here.
        print!("None of the specified partition moves are active.");
    } else {
        log_dirs::execute(target.cluster()?, &back, timeout(options)).await?;
    }
    if !options.preserve_throttles {
        clear_throttles(target, &wanted).await?;
    }
    Ok(())
}
