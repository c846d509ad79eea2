//! How topics are shown, as the original's `TopicCommand` shows them. Pure: text out of plain data.

use std::fmt::Write;

/// Which of the original's tools is spoken like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// 2.8's, working on ZooKeeper.
    ZooKeeper,
    /// 3.9's, working through a broker.
    Broker,
}

/// A partition to show.
#[derive(Debug, Clone, Default)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Its leader.
    pub leader: Option<i32>,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isr: Vec<i32>,
    /// Replicas that a reassignment adds and removes.
    pub reassignment: Option<(Vec<i32>, Vec<i32>)>,
}

/// A topic to show.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id as text, if it has one.
    pub id: Option<String>,
    /// Its partitions in order.
    pub partitions: Vec<Partition>,
    /// What is set, by name.
    pub configs: Vec<(String, String)>,
    /// `min.insync.replicas`, where known.
    pub min_isr: Option<usize>,
    /// Whether it is about to be deleted.
    pub marked_for_deletion: bool,
}

/// What of the topics to show.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only partitions with replicas that are not in sync.
    pub under_replicated: bool,
    /// Only partitions without a live leader.
    pub unavailable: bool,
    /// Only partitions below min.insync.replicas.
    pub under_min_isr: bool,
    /// Only partitions just at min.insync.replicas.
    pub at_min_isr: bool,
    /// Only topics with configs of their own, and no partitions.
    pub overridden: bool,
}

impl Filter {
    fn is_report(self) -> bool {
        self.under_replicated || self.unavailable || self.under_min_isr || self.at_min_isr
    }

    fn wants(self, topic: &Topic, partition: &Partition, live: &[i32]) -> bool {
        let isr = partition.isr.len();
        let led = partition.leader.is_some();
        !self.is_report()
            || self.under_replicated && partition.replication_factor() > isr
            || self.unavailable && partition.leader.is_none_or(|leader| !live.contains(&leader))
            || self.under_min_isr && (!led || topic.min_isr.is_some_and(|min| isr < min))
            || self.at_min_isr && topic.min_isr == Some(isr)
    }
}

impl Partition {
    /// Replicas that the topic is meant to have: those a reassignment adds do not count yet.
    fn replication_factor(&self) -> usize {
        match &self.reassignment {
            Some((adding, _)) => self.replicas.iter().filter(|replica| !adding.contains(replica)).count(),
            None => self.replicas.len(),
        }
    }
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

/// The lines for one topic; empty if the filter wants none.
pub fn describe(topic: &Topic, filter: Filter, via: Via, live: &[i32]) -> String {
    let mut text = String::new();
    if !filter.is_report() && (!filter.overridden || !topic.configs.is_empty()) {
        text.push_str(&head(topic));
    }
    if !filter.overridden {
        for partition in topic.partitions.iter().filter(|partition| filter.wants(topic, partition, live)) {
            text.push_str(&line(topic, partition, via));
        }
    }
    text
}

fn head(topic: &Topic) -> String {
    let mut text = format!("Topic: {}", topic.name);
    if let Some(id) = &topic.id {
        let _ = write!(text, "\tTopicId: {id}");
    }
    let factor = topic.partitions.first().map_or(0, Partition::replication_factor);
    let configs: Vec<String> = topic.configs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let count = topic.partitions.len();
    let _ = write!(text, "\tPartitionCount: {count}\tReplicationFactor: {factor}\tConfigs: {}", configs.join(","));
    text.push_str(marked(topic));
    text.push('\n');
    text
}

fn line(topic: &Topic, partition: &Partition, via: Via) -> String {
    let leader = partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
    let (replicas, isr) = (ids(&partition.replicas), ids(&partition.isr));
    let mut text = format!(
        "\tTopic: {}\tPartition: {}\tLeader: {leader}\tReplicas: {replicas}\tIsr: {isr}",
        topic.name, partition.index
    );
    if let Some((adding, removing)) = &partition.reassignment {
        let _ = write!(text, "\tAdding Replicas: {}\tRemoving Replicas: {}", ids(adding), ids(removing));
    }
    if via == Via::Broker {
        // Kafka's brokers in ZooKeeper mode know no eligible leader replicas (KIP-966).
        text.push_str("\tElr: N/A\tLastKnownElr: N/A");
    }
    text.push_str(marked(topic));
    text.push('\n');
    text
}

fn marked(topic: &Topic) -> &'static str {
    if topic.marked_for_deletion { "\tMarkedForDeletion: true" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Topic {
        let partition = |index, leader, isr: &[i32]| Partition {
            index,
            leader,
            replicas: vec![0, 1],
            isr: isr.to_vec(),
            reassignment: None,
        };
        Topic {
            name: "t".into(),
            id: Some("5sE70Q4ERBm5cytzUjvVRQ".into()),
            partitions: vec![partition(0, Some(0), &[0, 1]), partition(1, None, &[1])],
            configs: vec![("segment.bytes".into(), "1000".into()), ("retention.ms".into(), "5".into())],
            min_isr: Some(1),
            marked_for_deletion: false,
        }
    }

    #[test]
    fn a_topic_is_shown_as_the_original_shows_it() {
        let text = describe(&topic(), Filter::default(), Via::Broker, &[0, 1]);
        assert_eq!(
            text,
            "Topic: t\tTopicId: 5sE70Q4ERBm5cytzUjvVRQ\tPartitionCount: 2\tReplicationFactor: 2\tConfigs: segment.bytes=1000,retention.ms=5\n\
             \tTopic: t\tPartition: 0\tLeader: 0\tReplicas: 0,1\tIsr: 0,1\tElr: N/A\tLastKnownElr: N/A\n\
             \tTopic: t\tPartition: 1\tLeader: none\tReplicas: 0,1\tIsr: 1\tElr: N/A\tLastKnownElr: N/A\n"
        );
    }

    #[test]
    fn zookeepers_view_tells_of_deletion() {
        let mut topic = topic();
        topic.partitions.truncate(1);
        topic.configs.clear();
        topic.id = None;
        topic.marked_for_deletion = true;
        let text = describe(&topic, Filter::default(), Via::ZooKeeper, &[]);
        assert_eq!(
            text,
            "Topic: t\tPartitionCount: 1\tReplicationFactor: 2\tConfigs: \tMarkedForDeletion: true\n\
             \tTopic: t\tPartition: 0\tLeader: 0\tReplicas: 0,1\tIsr: 0,1\tMarkedForDeletion: true\n"
        );
    }

    #[test]
    fn reports_show_only_what_they_are_for() {
        let count = |filter: Filter, live: &[i32]| describe(&topic(), filter, Via::Broker, live).lines().count();
        let filter = Filter::default();
        assert_eq!(count(Filter { under_replicated: true, ..filter }, &[0, 1]), 1);
        assert_eq!(count(Filter { unavailable: true, ..filter }, &[1]), 2);
        assert_eq!(count(Filter { under_min_isr: true, ..filter }, &[]), 1);
        assert_eq!(count(Filter { at_min_isr: true, ..filter }, &[]), 1);
        assert_eq!(count(Filter { overridden: true, ..filter }, &[]), 1);
    }

    #[test]
    fn a_reassignment_does_not_count_as_under_replicated() {
        let mut topic = topic();
        topic.partitions.truncate(1);
        topic.partitions[0].replicas = vec![0, 1, 2];
        topic.partitions[0].reassignment = Some((vec![2], vec![1]));
        let filter = Filter { under_replicated: true, ..Filter::default() };
        assert_eq!(describe(&topic, filter, Via::Broker, &[]), "");
        let text = describe(&topic, Filter::default(), Via::Broker, &[]);
        assert!(text.contains("\tAdding Replicas: 2\tRemoving Replicas: 1\t"));
    }
}
