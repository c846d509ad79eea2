//! Clients that know only message formats 0 and 1, in both directions.

use crate::support::clients::{ALL, Client};
use crate::support::cluster::Cluster;
use crate::support::jvm;
use crate::support::records::{EVERYTHING, OLD_FORMAT, Rec, Shape, assert_same, sample};

/// Clients that behave as if the broker were that old: 0.9.0 speaks format 0, 0.10.0 format 1. librdkafka takes only
/// versions before 0.10 at their word, sarama all.
fn client(version: &str) -> (Client, Vec<String>) {
    match version {
        "0.9.0" => {
            (Client::Confluent, vec!["api.version.request=false".into(), "broker.version.fallback=0.9.0".into()])
        }
        _ => (Client::Sarama, vec![format!("version={version}.0")]),
    }
}

fn written_old_read_by_all(version: &str) {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let topic = format!("old-{version}-writes");
    cluster.broker.wire().create_topic(&topic, 1, &[]);
    let (client, options) = client(version);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let shape = Shape { timestamps: version != "0.9.0", ..OLD_FORMAT };
    let mut written = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let records = sample(&topic, 0, codec, 30, shape);
        client.write_with(&bootstrap, &options, &[(codec, records.clone())]);
        written.extend(records);
    }
    for reader in ALL {
        let read = reader.read(&bootstrap, &[&topic]);
        assert_same(&format!("written as {version}, read by {}", reader.name()), &written, &read);
    }
    let read = client.read_with(&bootstrap, &options, &[&topic]);
    assert_same(&format!("written and read as {version}"), &written, &read);
}

fn written_new_read_old(version: &str) {
    let cluster = Cluster::shared();
    let bootstrap = cluster.broker.address();
    let topic = format!("old-{version}-reads");
    cluster.broker.wire().create_topic(&topic, 1, &[]);
    let mut written = Vec::new();
    // The broker refuses zstd to readers that old.
    for (writer, codecs) in [
        (Client::Java(jvm::NEW), &["none", "gzip", "snappy", "lz4"][..]),
        (Client::Franz, &["none", "gzip", "snappy", "lz4"]),
        (Client::Confluent, &["none", "lz4"]),
    ] {
        for codec in codecs {
            let records = sample(&topic, 0, &format!("{}-{codec}", writer.name()), 30, EVERYTHING);
            writer.write(&bootstrap, &[(codec, records.clone())]);
            // Old formats know no headers; format 0 knows no times.
            let timeless = version == "0.9.0";
            written.extend(records.into_iter().map(|record| Rec {
                headers: Vec::new(),
                timestamp: record.timestamp.filter(|_| !timeless),
                ..record
            }));
        }
    }
    let (client, options) = client(version);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let read = client.read_with(&bootstrap, &options, &[&topic]);
    assert_same(&format!("read as {version} by {}", client.name()), &written, &read);
    if client == Client::Confluent {
        let read = Client::Kcat.read_with(&bootstrap, &options, &[&topic]);
        assert_same(&format!("read as {version} by kcat"), &written, &read);
    }
}

#[test]
fn format_0_written() {
    written_old_read_by_all("0.9.0");
}

#[test]
fn format_1_written() {
    written_old_read_by_all("0.10.0");
}

#[test]
fn format_0_read() {
    written_new_read_old("0.9.0");
}

#[test]
fn format_1_read() {
    written_new_read_old("0.10.0");
}
