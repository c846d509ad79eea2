//! `--reset-offsets` and `--delete-offsets`: where a group shall read on.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};

use super::client::{EARLIEST, Groups, LATEST};
use super::{Options, times, view};
use crate::base::clock::{Clock, SystemClock};
use crate::base::error::ErrorCode;
use crate::base::ids::TopicPartition;

type Offsets = BTreeMap<TopicPartition, i64>;

/// Plans new offsets for every chosen group without members, commits them with `--execute`, and prints them.
pub async fn run(options: &Options, groups: &mut Groups) -> anyhow::Result<ExitCode> {
    let mut plan = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for name in super::chosen(options, groups).await? {
        let state = groups.describe(&name).await?.state;
        if !matches!(state.as_str(), "Empty" | "Dead") {
            println!(
                "\nError: Assignments can only be reset if the group '{name}' is inactive, but the current state is {state}."
            );
            code = ExitCode::FAILURE;
            continue;
        }
        let offsets = planned(options, groups, &name).await?;
        if options.execute && !offsets.is_empty() {
            groups.commit(&name, &offsets).await?;
        }
        plan.extend(offsets.into_iter().map(|(partition, offset)| (name.clone(), partition, offset)));
    }
    if options.export {
        println!("{}", to_csv(&plan, options.group.len() == 1));
    } else {
        print!("{}", view::reset(&plan));
    }
    Ok(code)
}

async fn planned(options: &Options, groups: &mut Groups, name: &str) -> anyhow::Result<Offsets> {
    if let Some(file) = &options.from_file {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let single = options.group.first().filter(|_| options.group.len() == 1);
        let mut plans = from_csv(&text, single.map(String::as_str))?;
        let Some(plan) = plans.remove(name) else {
            println!("\nError: No reset plan for group {name} found");
            return Ok(Offsets::new());
        };
        return in_range(groups, plan).await;
    }
    let partitions = scope(options, groups, name).await?;
    let all_to = |offset: i64| partitions.iter().map(|partition| (partition.clone(), offset)).collect();
    if let Some(offset) = options.to_offset {
        return in_range(groups, all_to(offset)).await;
    }
    if let Some(shift) = options.shift_by {
        let committed = groups.committed(name).await?;
        let shifted = partitions.iter().map(|partition| match committed.get(partition) {
            Some(offset) => Ok((partition.clone(), offset.saturating_add(shift))),
            None => {
                Err(anyhow!("Cannot shift offset for partition {partition} since there is no current committed offset"))
            }
        });
        let shifted = shifted.collect::<anyhow::Result<Offsets>>()?;
        return in_range(groups, shifted).await;
    }
    if let Some(text) = &options.to_datetime {
        return at_time(groups, &partitions, times::date_time(text)?).await;
    }
    if let Some(text) = &options.by_duration {
        return at_time(groups, &partitions, SystemClock.now_ms() - times::duration_ms(text)?).await;
    }
    if options.to_current {
        return current(groups, name, &partitions).await;
    }
    groups.offsets(&partitions, if options.to_earliest { EARLIEST } else { LATEST }).await
}

/// The partitions that `--topic` or `--all-topics` mean.
async fn scope(options: &Options, groups: &mut Groups, name: &str) -> anyhow::Result<Vec<TopicPartition>> {
    if options.all_topics {
        return Ok(groups.committed(name).await?.into_keys().collect());
    }
    named_partitions(groups, &options.topic).await
}

async fn named_partitions(groups: &mut Groups, named: &[String]) -> anyhow::Result<Vec<TopicPartition>> {
    let (with, without): (Vec<&String>, Vec<&String>) = named.iter().partition(|text| text.contains(':'));
    let mut all = Vec::new();
    for text in with {
        all.extend(topic_partitions(text)?);
    }
    let whole: Vec<String> = without.into_iter().cloned().collect();
    if !whole.is_empty() {
        all.extend(groups.partitions(&whole).await?);
    }
    Ok(all)
}

/// Reads `topic:0,1`.
fn topic_partitions(text: &str) -> anyhow::Result<Vec<TopicPartition>> {
    let Some((topic, partitions)) = text.split_once(':').filter(|(_, rest)| !rest.contains(':') && !rest.is_empty())
    else {
        bail!("Invalid topic arg '{text}', expected topic name and partitions");
    };
    let partition = |number: &str| match number.parse() {
        Ok(number) => Ok(TopicPartition::new(topic, number)),
        Err(_) => Err(anyhow!("Invalid partition '{number}' specified in topic arg '{text}'")),
    };
    partitions.split(',').map(partition).collect()
}

/// The same offsets, those outside their partition moved to its nearer end.
async fn in_range(groups: &mut Groups, wanted: Offsets) -> anyhow::Result<Offsets> {
    let partitions: Vec<TopicPartition> = wanted.keys().cloned().collect();
    let starts = groups.offsets(&partitions, EARLIEST).await?;
    let ends = groups.offsets(&partitions, LATEST).await?;
    let clamp = |(partition, offset): (TopicPartition, i64)| {
        let (Some(&start), Some(&end)) = (starts.get(&partition), ends.get(&partition)) else {
            bail!("Error getting the offsets of topic partition: {partition}");
        };
        if offset > end {
            eprintln!(
                "New offset ({offset}) is higher than latest offset for topic partition {partition}. Value will be set to {end}"
            );
        } else if offset < start {
            eprintln!(
                "New offset ({offset}) is lower than earliest offset for topic partition {partition}. Value will be set to {start}"
            );
        }
        Ok((partition, offset.min(end).max(start)))
    };
    wanted.into_iter().map(clamp).collect()
}

/// The first record from `timestamp` on; the end where there is none.
async fn at_time(groups: &mut Groups, partitions: &[TopicPartition], timestamp: i64) -> anyhow::Result<Offsets> {
    let mut offsets = groups.offsets(partitions, timestamp).await?;
    let ends = groups.offsets(partitions, LATEST).await?;
    for (partition, offset) in offsets.iter_mut().filter(|(_, offset)| **offset < 0) {
        println!(
            "\nWarn: Partition {} from topic {} is empty. Falling back to latest known offset.",
            partition.partition, partition.topic
        );
        *offset = ends.get(partition).copied().unwrap_or_default();
    }
    Ok(offsets)
}

/// What is committed; the end where nothing is.
async fn current(groups: &mut Groups, name: &str, partitions: &[TopicPartition]) -> anyhow::Result<Offsets> {
    let committed = groups.committed(name).await?;
    let mut offsets = groups.offsets(partitions, LATEST).await?;
    offsets.extend(committed.into_iter().filter(|(partition, _)| partitions.contains(partition)));
    Ok(offsets)
}

/// `topic,partition,offset` lines, with the group before them unless there is only one.
fn to_csv(plan: &[(String, TopicPartition, i64)], single: bool) -> String {
    let line = |(group, tp, offset): &(String, TopicPartition, i64)| match single {
        true => format!("{},{},{offset}\n", quoted(&tp.topic), tp.partition),
        false => format!("{},{},{},{offset}\n", quoted(group), quoted(&tp.topic), tp.partition),
    };
    plan.iter().map(line).collect()
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', ' ']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Reads what [`to_csv`] writes; lines without a group are for `single`.
fn from_csv(text: &str, single: Option<&str>) -> anyhow::Result<BTreeMap<String, Offsets>> {
    let mut plans: BTreeMap<String, Offsets> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let cells = cells(line);
        let bad = || anyhow!("'{line}' is not of the form group,topic,partition,offset or topic,partition,offset");
        let (group, rest) = match (cells.len(), single) {
            (4, _) => (cells[0].as_str(), &cells[1..]),
            (3, Some(group)) => (group, &cells[..]),
            _ => return Err(bad()),
        };
        let (partition, offset) = (rest[1].parse().map_err(|_| bad())?, rest[2].parse().map_err(|_| bad())?);
        plans.entry(group.to_owned()).or_default().insert(TopicPartition::new(rest[0].as_str(), partition), offset);
    }
    Ok(plans)
}

/// Splits a line of CSV; quotes around a cell may hold commas.
fn cells(line: &str) -> Vec<String> {
    let (mut all, mut cell, mut inside) = (Vec::new(), String::new(), false);
    let mut chars = line.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => inside = !inside,
            ',' if !inside => all.push(std::mem::take(&mut cell).trim().to_owned()),
            c => cell.push(c),
        }
    }
    all.push(cell.trim().to_owned());
    all
}

/// Deletes the group's offsets of `--topic`.
pub async fn delete_offsets(options: &Options, groups: &mut Groups) -> anyhow::Result<ExitCode> {
    let [group] = options.group.as_slice() else { bail!("--delete-offsets works on one group at a time") };
    let partitions = named_partitions(groups, &options.topic).await?;
    let (whole, parts) = groups.delete_offsets(group, partitions).await?;
    let failed_part = parts.values().find(|code| !code.is_none());
    let error = |text: String| println!("\nError: {text}");
    match (whole, failed_part) {
        (ErrorCode::None, None) => {
            println!("Request succeed for deleting offsets with topic {} group {group}", options.topic.join(", "));
        }
        (ErrorCode::None, Some(_)) => {
            error("Encounter some partition level error, see the follow-up details:".to_owned());
        }
        (ErrorCode::InvalidGroupId, _) => error(format!("'{group}' is not valid.")),
        (ErrorCode::GroupIdNotFound, _) => error(format!("'{group}' does not exist.")),
        (ErrorCode::GroupAuthorizationFailed, _) => error(format!("Access to '{group}' is not authorized.")),
        (ErrorCode::NonEmptyGroup, _) => {
            error(format!("Deleting offsets of a consumer group '{group}' is forbidden if the group is not empty."));
        }
        (other, _) => error(format!("Encounter some unknown error: {other}")),
    }
    println!("\n{:<30} {:<15} {:<15}", "TOPIC", "PARTITION", "STATUS");
    for (tp, code) in &parts {
        let status = if code.is_none() { "Successful".to_owned() } else { format!("Error: {code}") };
        println!("{:<30} {:<15} {status:<15}", tp.topic, tp.partition);
    }
    Ok(if whole.is_none() && failed_part.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_with_partitions_are_read() {
        assert_eq!(
            topic_partitions("t:0,2").expect("valid"),
            [TopicPartition::new("t", 0), TopicPartition::new("t", 2)]
        );
        for text in ["t:", "t:x", "t:1:2"] {
            assert!(topic_partitions(text).is_err(), "{text}");
        }
    }

    #[test]
    fn old_and_new_csv_are_read() {
        let one = from_csv("t,0,5\n\"a,b\",1,7\n", Some("g")).expect("valid");
        assert_eq!(one["g"], Offsets::from([(TopicPartition::new("t", 0), 5), (TopicPartition::new("a,b", 1), 7)]));
        assert!(from_csv("t,0,5\n", None).is_err() && from_csv("t,x,5", Some("g")).is_err());
        let two = from_csv("g,t,0,5\nh,t,0,6\n", None).expect("valid");
        assert_eq!(two.keys().collect::<Vec<_>>(), ["g", "h"]);
    }

    proptest! {
        #[test]
        fn csv_reads_back(topic in "[a-z ,\"]{1,8}", group in "[a-z,\"]{1,5}", partition in 0..100i32, offset in 0..1000i64) {
            let topic = topic.trim().to_owned();
            prop_assume!(!topic.is_empty());
            let plan = vec![(group.clone(), TopicPartition::new(topic, partition), offset)];
            let read = from_csv(&to_csv(&plan, false), None).expect("valid");
            prop_assert_eq!(&read[&group], &Offsets::from([(plan[0].1.clone(), offset)]));
        }
    }
}
