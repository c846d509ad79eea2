//! How groups are shown, as the original's `ConsumerGroupCommand` shows them. Pure: text out of plain data.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::client::{Group, Listed, Row};
use crate::base::ids::TopicPartition;

/// What stands where there is nothing to show.
const MISSING: &str = "-";

fn width<'a>(least: usize, texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0).max(least)
}

/// The list of groups, with their types and states if asked for.
pub fn list(groups: &[Listed], kinds: bool, states: bool) -> String {
    if !kinds && !states {
        return groups.iter().map(|group| format!("{}\n", group.name)).collect();
    }
    let first = width(15, groups.iter().map(|group| group.name.as_str())) + 10;
    let line = |name: &str, kind: &str, state: &str| {
        let mut text = format!("{name:<first$}");
        if kinds {
            let _ = write!(text, " {kind:<20}");
        }
        if states {
            let _ = write!(text, " {state:<20}");
        }
        text + "\n"
    };
    let head = line("GROUP", "TYPE", "STATE");
    groups.iter().fold(head, |text, group| text + &line(&group.name, &group.kind, &group.state))
}

/// Says what a group's state means for what is shown; false if there is nothing to show.
pub fn say_state(group: &Group) -> bool {
    match group.state.as_str() {
        "Dead" => {
            println!("\nError: Consumer group '{}' does not exist.", group.name);
            return false;
        }
        "Empty" => eprintln!("\nConsumer group '{}' has no active members.", group.name),
        "Stable" => {}
        _ => eprintln!("\nWarning: Consumer group '{}' is rebalancing.", group.name),
    }
    true
}

/// Offsets and lag. Each line begins with a line's end, as the original prints it.
pub fn offsets(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let number = |number: Option<i64>| number.map_or_else(|| MISSING.to_owned(), |number| number.to_string());
    let cells = |row: &Row| {
        let (id, host, client) = row.member.clone().unwrap_or_else(|| (MISSING.into(), MISSING.into(), MISSING.into()));
        let (topic, partition) = match &row.partition {
            Some(tp) => (tp.topic.to_string(), tp.partition.to_string()),
            None => (MISSING.to_owned(), MISSING.to_owned()),
        };
        let lag = row.offset.zip(row.end).map(|(offset, end)| end - offset);
        [row.group.clone(), topic, partition, number(row.offset), number(row.end), number(lag), id, host, client]
    };
    let head =
        ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID"];
    let all: Vec<[String; 9]> = std::iter::once(head.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let wide = |at: usize| width(15, all[1..].iter().map(|cells| cells[at].as_str()));
    let widths = [wide(0), wide(1), 10, 15, 15, 15, wide(6), wide(7)];
    all.iter().map(|cells| padded(cells, &widths)).collect()
}

/// One line with its line's end before it; the last cell is not padded.
fn padded(cells: &[String], widths: &[usize]) -> String {
    let mut text = String::from("\n");
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(text, "{cell:<width$} ");
    }
    text + cells.last().map_or("", String::as_str)
}

/// The members, with their partitions if asked for. The columns are named even if there is none, as in 3.9's tool.
pub fn members(group: &Group, verbose: bool) -> String {
    let static_ones = group.members.iter().any(|member| member.instance.is_some());
    let instance = |member: &super::client::Member| member.instance.clone().unwrap_or_default();
    let instances: Vec<String> = group.members.iter().map(instance).collect();
    let widths = [
        width(15, std::iter::once(group.name.as_str())),
        width(15, group.members.iter().map(|member| member.id.as_str())),
        width(17, instances.iter().map(String::as_str)),
        width(15, group.members.iter().map(|member| member.host.as_str())),
        width(15, group.members.iter().map(|member| member.client.as_str())),
        15,
    ];
    let line = |cells: [&str; 6]| {
        let kept = cells.iter().zip(widths).enumerate().filter(|(at, _)| *at != 2 || static_ones);
        kept.fold(String::new(), |text, (_, (cell, width))| text + &format!("{cell:<width$} "))
    };
    let mut text = String::from("\n");
    text += &line(["GROUP", "CONSUMER-ID", "GROUP-INSTANCE-ID", "HOST", "CLIENT-ID", "#PARTITIONS"]);
    text += if verbose { "ASSIGNMENT" } else { "" };
    for (member, instance) in group.members.iter().zip(&instances) {
        let count = member.partitions.len().to_string();
        text.push('\n');
        text += &line([&group.name, &member.id, instance, &member.host, &member.client, &count]);
        if verbose {
            text += &assignment(&member.partitions);
        }
    }
    text
}

/// `topic(0,1), other(2)`.
fn assignment(partitions: &[TopicPartition]) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition.to_string());
    }
    let texts: Vec<String> = topics.iter().map(|(topic, parts)| format!("{topic}({})", parts.join(","))).collect();
    if texts.is_empty() { MISSING.to_owned() } else { texts.join(", ") }
}

/// Coordinator, assignor, state and number of members.
pub fn state(group: &Group) -> String {
    let coordinator = format!("{}  ({})", group.coordinator.0, group.coordinator.1);
    let widths = [width(25, std::iter::once(coordinator.as_str())), 25, 20, 15];
    let head = ["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE", "#MEMBERS"].map(str::to_owned);
    let count = group.members.len().to_string();
    let cells = [group.name.clone(), coordinator, group.assignor.clone(), group.state.clone(), count];
    padded(&head, &widths) + &padded(&cells, &widths)
}

/// What a reset did, or would do.
pub fn reset(plan: &[(String, TopicPartition, i64)]) -> String {
    let line = |group: &str, topic: &str, partition: &str, offset: &str| {
        format!("{group:<30} {topic:<30} {partition:<10} {offset:<15}\n")
    };
    let mut text = String::from("\n") + &line("GROUP", "TOPIC", "PARTITION", "NEW-OFFSET");
    for (group, tp, offset) in plan {
        text += &line(group, &tp.topic, &tp.partition.to_string(), &offset.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::client::Member;
    use super::*;

    fn row(partition: i32, offset: Option<i64>, end: Option<i64>, member: Option<&str>) -> Row {
        let member = member.map(|id| (id.to_owned(), "/127.0.0.1".to_owned(), "c".to_owned()));
        Row { group: "g".into(), partition: Some(TopicPartition::new("t", partition)), offset, end, member }
    }

    #[test]
    fn offsets_stand_in_the_originals_columns() {
        let text = offsets(&[row(0, Some(5), Some(8), Some("c-1")), row(1, None, Some(2), None)]);
        assert_eq!(
            text,
            "\nGROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID\
             \ng               t               0          5               8               3               c-1             /127.0.0.1      c\
             \ng               t               1          -               2               -               -               -               -"
        );
        assert_eq!(offsets(&[]), "");
    }

    #[test]
    fn members_are_shown_with_what_they_read() {
        let partitions = vec![TopicPartition::new("a", 1), TopicPartition::new("t", 0), TopicPartition::new("t", 2)];
        let member = Member { id: "c-1".into(), host: "/h".into(), client: "c".into(), partitions, instance: None };
        let mut group = Group { name: "g".into(), members: vec![member], ..Group::default() };
        let text = members(&group, true);
        assert_eq!(
            text,
            "\nGROUP           CONSUMER-ID     HOST            CLIENT-ID       #PARTITIONS     ASSIGNMENT\
             \ng               c-1             /h              c               3               a(1), t(0,2)"
        );
        group.members[0].instance = Some("i".into());
        assert!(members(&group, false).contains(" GROUP-INSTANCE-ID "));
    }

    #[test]
    fn a_state_names_the_coordinator() {
        let group = Group {
            name: "g".into(),
            state: "Stable".into(),
            assignor: "range".into(),
            coordinator: ("h:9092".into(), 3),
            members: vec![Member::default()],
        };
        assert_eq!(
            state(&group),
            "\nGROUP                     COORDINATOR (ID)          ASSIGNMENT-STRATEGY  STATE           #MEMBERS\
             \ng                         h:9092  (3)               range                Stable          1"
        );
    }

    #[test]
    fn lists_show_states_when_asked() {
        let groups = [Listed { name: "g".into(), state: "Empty".into(), kind: "Classic".into() }];
        assert_eq!(list(&groups, false, false), "g\n");
        assert_eq!(
            list(&groups, false, true),
            "GROUP                     STATE               \ng                         Empty               \n"
        );
    }
}
