//! Every client writes every codec, and every client reads all of it.

use crate::support::clients::{ALL, Client};
use crate::support::cluster::Cluster;
use crate::support::jvm;
use crate::support::records::{Rec, assert_same, now_ms, sample};

const RECORDS: usize = 40;

fn written_by_one_read_by_all(writer: Client) {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let topic = format!("matrix-{}", writer.name());
    cluster.broker.wire().create_topic(&topic, 2, &[]);
    let runs: Vec<(&str, Vec<Rec>)> = writer
        .codecs()
        .iter()
        .map(|codec| {
            let of = |partition| sample(&topic, partition, &format!("{codec}-{partition}"), RECORDS, writer.shape());
            (*codec, [of(0), of(1)].concat())
        })
        .collect();
    for run in &runs {
        // One codec after the other, so that the order in a partition is known.
        writer.write(&bootstrap, std::slice::from_ref(run));
    }
    let written: Vec<Rec> = runs.into_iter().flat_map(|(_, records)| records).collect();
    for reader in ALL {
        let read = reader.read(&bootstrap, &[&topic]);
        assert_same(&format!("written by {}, read by {}", writer.name(), reader.name()), &written, &read);
    }
}

#[test]
fn java_new_writes_all_read() {
    written_by_one_read_by_all(Client::Java(jvm::NEW));
}

#[test]
fn java_old_writes_all_read() {
    written_by_one_read_by_all(Client::Java(jvm::OLD));
}

#[test]
fn kcat_writes_all_read() {
    written_by_one_read_by_all(Client::Kcat);
}

#[test]
fn confluent_writes_all_read() {
    written_by_one_read_by_all(Client::Confluent);
}

#[test]
fn kafkajs_writes_all_read() {
    written_by_one_read_by_all(Client::Kafkajs);
}

#[test]
fn sarama_writes_all_read() {
    written_by_one_read_by_all(Client::Sarama);
}

#[test]
fn franz_writes_all_read() {
    written_by_one_read_by_all(Client::Franz);
}

/// Topics may demand a codec of their own: the broker then recompresses, and everybody still reads the same.
#[test]
fn broker_recompresses() {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let writer = Client::Confluent;
    for target in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("recompress-{target}");
        cluster.broker.wire().create_topic(&topic, 1, &[("compression.type", target)]);
        let mut written = Vec::new();
        for codec in ["none", "gzip", "lz4"] {
            let records = sample(&topic, 0, codec, 20, writer.shape());
            writer.write(&bootstrap, &[(codec, records.clone())]);
            written.extend(records);
        }
        for reader in [Client::Java(jvm::NEW), Client::Sarama, Client::Kafkajs] {
            let read = reader.read(&bootstrap, &[&topic]);
            assert_same(&format!("recompressed to {target}, read by {}", reader.name()), &written, &read);
        }
    }
}

/// With LogAppendTime the broker's clock replaces the clients' times, in every format and codec.
#[test]
fn log_append_time() {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let topic = "log-append-time";
    cluster.broker.wire().create_topic(topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let begin = now_ms();
    let mut written = Vec::new();
    for codec in ["none", "zstd"] {
        let records = sample(topic, 0, codec, 20, Client::Franz.shape());
        Client::Franz.write(&bootstrap, &[(codec, records.clone())]);
        written.extend(records.into_iter().map(|record| Rec { timestamp: None, ..record }));
    }
    let end = now_ms();
    for reader in [Client::Java(jvm::NEW), Client::Java(jvm::OLD), Client::Kcat, Client::Franz] {
        let read = reader.read(&bootstrap, &[topic]);
        assert_same(&reader.name(), &written, &read);
        let inside = |at: Option<i64>| at.is_some_and(|at| (begin - 5..=end + 5).contains(&at));
        assert!(
            read.iter().all(|(_, r)| inside(r.timestamp)),
            "{}: append times between {begin} and {end}",
            reader.name()
        );
    }
}
