//! Every magic and codec that the builders write, read by the JVM's own log dumper: headers, checksums, inner offsets.

use std::fs;
use std::time::Duration;

use barnabas::base::ids::{LeaderEpoch, Offset};
use barnabas::protocol::builder::{BatchBuilder, BatchSpec};
use barnabas::protocol::compress::Codec;
use barnabas::protocol::legacy::LegacyBuilder;

use crate::support::process::run_ok;
use crate::support::{dirs, jvm};

const RECORDS: i64 = 3;

fn written(magic: i8, codec: Codec, log_append_time: Option<i64>, from: i64, value: &[u8]) -> bytes::Bytes {
    let time = |at| 1_700_000_000_000 + at;
    if magic < 2 {
        let mut builder = LegacyBuilder::new(magic, codec.into(), log_append_time);
        for at in from..from + RECORDS {
            builder.append(Offset(at), time(at), Some(b"key"), Some(value));
        }
        return builder.build().expect("builds");
    }
    let spec = BatchSpec {
        base_offset: Offset(from),
        leader_epoch: LeaderEpoch(3),
        log_append_time,
        compression: codec.into(),
        ..BatchSpec::default()
    };
    let mut builder = BatchBuilder::new(spec);
    for at in from..from + RECORDS {
        let twice: [(&[u8], Option<&[u8]>); 2] = [(b"h", Some(b"x")), (b"h", None)];
        builder.append_with_headers(time(at), Some(b"key"), Some(value), twice);
    }
    builder.build().expect("builds").1
}

#[test]
fn the_jvm_reads_what_the_builders_write() {
    let small: &[u8] = b"value";
    let large = b"0123456789abcdef".repeat(20_000);
    let (mut log, mut next) = (Vec::new(), 0);
    for magic in 0..3 {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            for log_append_time in [None, Some(1_650_000_000_000)] {
                for value in [small, &large].into_iter().filter(|_| magic == 2 || codec != Codec::Zstd) {
                    log.extend_from_slice(&written(magic, codec, log_append_time, next, value));
                    next += RECORDS;
                }
            }
        }
    }
    let file = dirs::root().join("written-formats").join("t-0").join("00000000000000000000.log");
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    fs::write(&file, log).expect("writes");
    for version in [jvm::OLD, jvm::NEW] {
        let mut command = jvm::tool(version, "kafka-dump-log");
        command.args(["--deep-iteration", "--print-data-log", "--files"]).arg(&file);
        let text = run_ok("kafka-dump-log", command, "", Duration::from_secs(120));
        let bad = text.lines().find(|line| line.to_lowercase().contains("isvalid: false"));
        assert_eq!(bad, None, "{version}");
        let offsets: Vec<i64> =
            text.lines().filter_map(|line| line.strip_prefix("| offset: ")).map(first_number).collect();
        assert_eq!(offsets, (0..next).collect::<Vec<_>>(), "{version}");
    }
}

fn first_number(text: &str) -> i64 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}
