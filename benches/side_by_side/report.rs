//! The table in `benches/README.md`: a row for each line of the comparison. A run replaces the rows it measured and
//! leaves the others.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- results: begin -->";
const END: &str = "<!-- results: end -->";
const HEADER: &str = "| | to reach | limit | Kafka 3.9.1 | Barnabas | Kafka ÷ Barnabas | measured at |\n\
    | --- | --- | --- | --- | --- | --- | --- |";

/// One line of the comparison.
#[derive(Debug, Clone)]
pub struct Row {
    pub what: &'static str,
    pub to_reach: &'static str,
    pub limit: String,
    pub kafka: String,
    pub barnabas: String,
    pub ratio: String,
}

/// The lines in their order, with what is to be reached. A run finds its rows in the file by their texts, so no two are alike.
const ORDER: &[(&str, &str)] = &[
    ("produce, 1 KiB records, batches of 1,000: broker CPU-s/GiB", "1.4 × the limit"),
    ("the same: MiB/s", "ahead"),
    ("fetch of it: broker CPU-s/GiB", "the limit"),
    ("the same fetch: MiB/s", "ahead"),
    ("one-record produce requests, 8 connections 5 deep: CPU-µs each", "20"),
    ("the same: requests/s", "35,000"),
    ("end to end at 1,000 records/s, acks=all: p50 / p99 / p99.9 ms", "0.35 / 0.8 / 3"),
    ("its p99 beside a replay of 3 GiB that left the page cache (alone), ms", "1.5 × alone"),
    ("that replay: MiB/s", ""),
    ("first start, s", "0.1"),
    ("idle RSS, MiB", "15"),
    ("1,000 partitions created, s", "1"),
    ("4,000 partitions created, s", "4"),
    ("RSS with 1,000 partitions / and 1 GiB written, MiB", "– / 40"),
    ("RSS with 4,000 partitions / and 1 GiB written, MiB", "– / 70"),
    ("clean stop with 1,000 partitions, s", "0.3"),
    ("clean stop with 4,000 partitions, s", "0.5"),
    ("restart until all data is readable, 1,000 partitions, s", "0.3"),
    ("restart until all data is readable, 4,000 partitions, s", "0.6"),
    ("the same after kill -9, 1,000 partitions, s", "0.4"),
    ("the same after kill -9, 4,000 partitions, s", "0.7"),
    ("an idle connection, KiB", "4"),
    ("300 partitions x3, longest write gap when a leader stops cleanly, s", "0.5"),
    ("the same when a leader is killed (-9), s", "6.5"),
    ("the same when the controller is killed (-9), s", "7"),
    ("the same when a leader falls silent (SIGSTOP), s", "6.5"),
    ("the same when the controller falls silent (SIGSTOP), s", "7"),
    ("10,000 partitions x3 on three brokers created and in sync, s", ""),
    ("RSS of each of them, MiB", ""),
    ("one of them killed (-9): until others lead its third, s", "6.5"),
    ("their controller killed (-9): until others lead its third, s", "7"),
    ("1,000 groups of 3 members that all rebalance at once have settled, s", ""),
    ("that rebalance: broker CPU-s", ""),
    ("100,000 committed offsets: start until all are answered, s", "1"),
    ("1 GiB of small keyed records compacted, s", "several times as fast"),
    ("that compaction: broker CPU-s", ""),
    ("its most memory meanwhile, MiB", "no more"),
    ("p99 end to end beside it (alone), ms", "alone"),
    ("2 GiB of old segments removed: end to end to that partition meanwhile, p99 / longest (alone), ms", "alone"),
];

/// A row from the figures of both brokers; the ratio is that of their first figures.
pub fn row(number: usize, limit: Option<f64>, kafka: &[f64], barnabas: &[f64]) -> Row {
    let (what, to_reach) = ORDER[number];
    let ratio = match (kafka.first(), barnabas.first()) {
        (Some(kafka), Some(barnabas)) if *barnabas > 0.0 => figure(kafka / barnabas),
        _ => String::new(),
    };
    let limit = limit.map(figure).unwrap_or_default();
    Row { what, to_reach, limit, kafka: figures(kafka), barnabas: figures(barnabas), ratio }
}

fn figures(values: &[f64]) -> String {
    values.iter().copied().map(figure).collect::<Vec<_>>().join(" / ")
}

fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn line(row: &Row, commit: &str) -> String {
    let Row { what, to_reach, limit, kafka, barnabas, ratio } = row;
    format!("| {what} | {to_reach} | {limit} | {kafka} | {barnabas} | {ratio} | {commit} |")
}

/// Prints the rows.
pub fn print(rows: &[Row]) {
    println!("{HEADER}");
    rows.iter().for_each(|row| println!("{}", line(row, "")));
}

/// Puts the rows into the file's table.
pub fn write(path: &Path, rows: &[Row], commit: &str, machine: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).context("the table's beginning")?;
    let (table, after) = rest.split_once(END).context("the table's end")?;
    let lines = ORDER.iter().filter_map(|(what, _)| {
        let measured = rows.iter().find(|row| row.what == *what).map(|row| line(row, commit));
        let kept = || table.lines().find(|line| line.starts_with(&format!("| {what} |"))).map(str::to_owned);
        measured.or_else(kept)
    });
    let lines: Vec<String> = lines.collect();
    let table = format!("{BEGIN}\n\nMachine: {machine}\n\n{HEADER}\n{}\n\n{END}", lines.join("\n"));
    fs::write(path, format!("{before}{table}{after}"))?;
    Ok(())
}

/// The processor and how many of it, memory and kernel.
pub fn machine() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory.split_whitespace().nth(1).context("meminfo")?.parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let model = model.trim_start_matches(['\t', ' ', ':']);
    Ok(format!("{cores} × {model}, {} GiB of memory, Linux {}", kib.div_ceil(1 << 20), kernel.trim()))
}
