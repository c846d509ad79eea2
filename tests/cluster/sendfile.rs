//! Records go from file to socket by sendfile: system calls of the broker are counted while a consumer reads.

use crate::support::broker::Kind;
use crate::support::cluster::Cluster;
use crate::support::records::noise;
use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// The bytes in front of a batch's records: all that the broker may look at.
const BATCH_HEADER: i64 = 61;

/// One system call: its name, its arguments, its result.
type Call = (String, String, i64);

/// Reads what strace wrote; a call during which another thread ran stands in two lines.
fn calls(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(beginning) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, beginning);
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            let whole = format!("{}{end}", begun.remove(thread).unwrap_or_default());
            calls.extend(parse(&whole));
        } else {
            calls.extend(parse(rest));
        }
    }
    calls
}

fn parse(call: &str) -> Option<Call> {
    let (name, arguments) = call.split_once('(')?;
    let result = call.rsplit_once(" = ")?.1.split_whitespace().next()?.parse().ok()?;
    Some((name.to_owned(), arguments.to_owned(), result))
}

#[test]
fn no_record_byte_enters_user_space() {
    if Kind::under_test() != Kind::Barnabas {
        return;
    }
    let mut cluster = Cluster::with(Kind::Barnabas, |broker| {
        let trace = broker.path("trace").display().to_string();
        let calls = "trace=read,pread64,readv,preadv,preadv2,mmap,write,writev,sendto,sendmsg,sendfile,splice";
        broker.wrapper = ["strace", "-f", "-y", "-s", "0", "-e", calls, "-o", &trace].map(str::to_owned).to_vec();
        broker.set("log.segment.bytes", 1_000_000);
    });
    let trace = cluster.broker.path("trace");
    let mut wire = cluster.broker.wire();
    wire.create_topic("t", 1, &[]);
    for index in 0..120 {
        wire.append("t", 0, &noise(index, 50_000));
    }
    let mark = fs::metadata(&trace).expect("a trace").len() as usize;
    let mut offset = 0;
    let mut fetched = 0_i64;
    while offset < 120 {
        let answer = wire.fetch("t", 0, offset, 1 << 20);
        assert_eq!(answer.error, 0);
        fetched += answer.records.len() as i64;
        let last = crate::support::wire::decode(answer.records).last().expect("progress").0;
        offset = last + 1;
    }
    // On a busy machine the trace lags behind until its writer has ended; strace ends with the broker.
    cluster.broker.process().signal_group(libc::SIGTERM);
    cluster.broker.process().wait(Duration::from_secs(60)).expect("strace ends");
    let text = String::from_utf8_lossy(&fs::read(&trace).expect("a trace")).into_owned();
    let (mut sent, mut read_calls, mut send_calls, mut written) = (0, 0, 0, 0);
    for (name, arguments, result) in calls(&text[mark..]) {
        let of_log = arguments.split(',').next().is_some_and(|first| first.contains(".log>"));
        match name.as_str() {
            "sendfile" if arguments.contains("/t-0/") => {
                sent += result.max(0);
                send_calls += 1;
            }
            "read" | "pread64" | "readv" | "preadv" | "preadv2" | "splice" if of_log => {
                read_calls += 1;
                assert!(result <= BATCH_HEADER, "{name} took {result} bytes of the log into user space");
            }
            "mmap" => assert!(!arguments.contains(".log>"), "the log is mapped: {arguments}"),
            "write" | "writev" | "sendto" | "sendmsg" if arguments.contains("TCP") || arguments.contains("socket:") => {
                written += result.max(0);
            }
            _ => {}
        }
    }
    assert!(sent >= fetched - 4_096, "{fetched} bytes of records were fetched, {sent} went by sendfile");
    assert!(written < 100_000, "{written} bytes were written to sockets from user space");
    println!(
        "{fetched} bytes fetched: {send_calls} sendfile calls, {read_calls} reads of the log, {written} bytes written"
    );
}
