//! Records that the tests write and expect back, and how they are compared.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The time of the first record: some time ago, so that a broker which takes its own clock is found out, but not so long
/// that retention deletes the records.
fn base_timestamp() -> i64 {
    static BASE: OnceLock<i64> = OnceLock::new();
    *BASE.get_or_init(|| now_ms() - 3_600_000)
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// A record to write, or one that was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rec {
    pub topic: String,
    pub partition: i32,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, Option<String>)>,
    pub timestamp: Option<i64>,
}

/// What the records of one write have in them besides plain keys and values.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Different headers per record, with a repeated name.
    pub headers: bool,
    /// One of them has a null value.
    pub null_header: bool,
    /// Some keys and some values are null.
    pub nulls: bool,
    /// Timestamps of the tests' own instead of the client's clock.
    pub timestamps: bool,
    /// Values beyond the 64 KiB blocks of lz4 and snappy.
    pub large: bool,
    /// Values that are empty but not null.
    pub empties: bool,
}

pub const EVERYTHING: Shape =
    Shape { headers: true, null_header: true, nulls: true, timestamps: true, large: true, empties: true };
/// What message formats before version 2 can carry.
pub const OLD_FORMAT: Shape = Shape { headers: false, ..EVERYTHING };

/// `count` records with contents that follow from `tag` and their index.
pub fn sample(topic: &str, partition: i32, tag: &str, count: usize, shape: Shape) -> Vec<Rec> {
    (0..count).map(|index| one(topic, partition, tag, index, shape)).collect()
}

fn one(topic: &str, partition: i32, tag: &str, index: usize, shape: Shape) -> Rec {
    let key = (!(shape.nulls && index % 5 == 3)).then(|| format!("{tag}-key-{index}"));
    let value = (!(shape.nulls && index % 7 == 5)).then(|| match index % 10 {
        4 if shape.large => format!("{tag}-{index}-{}", noise(index as u64, 90_000)),
        8 => format!("{tag}-{index}-{}", "the same again, ".repeat(400)),
        9 if shape.empties => String::new(),
        _ => format!("{tag}-value-{index} äöü ✓"),
    });
    // A record needs something to tell it by.
    let key = if value.as_ref().is_none_or(|v| v.is_empty()) { Some(format!("{tag}-key-{index}")) } else { key };
    let headers = if shape.headers && !index.is_multiple_of(3) {
        let mut headers = vec![
            ("a".to_owned(), Some(format!("{tag}-{index}"))),
            ("a".to_owned(), Some("again".to_owned())),
            ("empty".to_owned(), Some(String::new())),
        ];
        headers.extend(shape.null_header.then(|| ("null".to_owned(), None)));
        headers
    } else {
        Vec::new()
    };
    let timestamp = shape.timestamps.then_some(base_timestamp() + index as i64 * 7);
    Rec { topic: topic.to_owned(), partition, key, value, headers, timestamp }
}

/// Text that compresses badly.
pub fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (b'!' + (state % 90) as u8) as char
        })
        .collect()
}

impl Rec {
    /// The line a client program reads.
    pub fn to_line(&self, codec: &str) -> String {
        let headers: Vec<Value> = self.headers.iter().map(|(name, value)| json!([name, value])).collect();
        json!({
            "t": self.topic, "p": self.partition, "c": codec, "k": self.key, "v": self.value, "h": headers,
            "ts": self.timestamp,
        })
        .to_string()
    }

    /// What a client program printed, with the record's offset.
    pub fn from_json(value: &Value) -> (i64, Rec) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let headers = value["h"].as_array().into_iter().flatten();
        let record = Rec {
            topic: text(&value["t"]).expect("a topic"),
            partition: value["p"].as_i64().expect("a partition") as i32,
            key: text(&value["k"]),
            value: text(&value["v"]),
            headers: headers.map(|pair| (text(&pair[0]).expect("a header name"), text(&pair[1]))).collect(),
            timestamp: value["ts"].as_i64(),
        };
        (value["o"].as_i64().expect("an offset"), record)
    }
}

/// Asserts that `read` holds `written` in order, at offsets that grow, partition by partition.
pub fn assert_same(who: &str, written: &[Rec], read: &[(i64, Rec)]) {
    let mut expected: BTreeMap<(&str, i32), Vec<&Rec>> = BTreeMap::new();
    for record in written {
        expected.entry((&record.topic, record.partition)).or_default().push(record);
    }
    let mut found: BTreeMap<(&str, i32), Vec<(i64, &Rec)>> = BTreeMap::new();
    for (offset, record) in read {
        found.entry((&record.topic, record.partition)).or_default().push((*offset, record));
    }
    for (place, records) in &expected {
        let got = found.get(place).map(Vec::as_slice).unwrap_or_default();
        assert!(got.windows(2).all(|pair| pair[0].0 < pair[1].0), "{who}: offsets of {place:?} do not grow");
        for (index, (want, (offset, have))) in records.iter().zip(got).enumerate() {
            let same = Rec { timestamp: want.timestamp.or(have.timestamp), ..(*want).clone() } == **have;
            let (want, have) = (abbreviated(want), abbreviated(have));
            assert!(same, "{who}: record {index} of {place:?} at offset {offset}\nwritten {want}\nread    {have}");
        }
        assert_eq!(records.len(), got.len(), "{who}: number of records of {place:?}");
    }
    assert_eq!(expected.len(), found.len(), "{who}: partitions with records");
}

fn abbreviated(record: &Rec) -> String {
    let text = format!("{record:?}");
    if text.chars().count() > 600 { text.chars().take(600).collect::<String>() + "..." } else { text }
}
