//! Barnabas beside Apache Kafka and beside the machine's own limit, on this machine, with the same load, in turn.
//!
//! Started by `benches/run.sh`, which gets Kafka and says where everything is. The load comes from this process over
//! plain sockets with requests encoded beforehand, so that the brokers are what is measured.

mod brokers;
mod compaction;
mod failover;
mod groups;
mod latency;
mod limit;
mod partitions;
mod process;
mod report;
mod retention;
mod throughput;
mod wide;
mod wire;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use brokers::{Broker, Kind, ZooKeeper};
use limit::Limit;
use report::{Row, row};
use throughput::Run;

const GIB: usize = 1 << 30;
const SCENARIOS: &[(&str, Scenario)] = &[
    ("throughput", throughput),
    ("requests", requests),
    ("latency", latency),
    ("cold", cold),
    ("start", start),
    ("partitions", many_partitions),
    ("idle", idle),
    ("failover", failovers),
    ("wide", wide),
    ("groups", many_groups),
    ("compaction", compactions),
    ("retention", retentions),
];

type Scenario = fn(&Bench) -> Result<Vec<Row>>;

/// What all scenarios share.
struct Bench {
    dir: PathBuf,
    zookeeper: ZooKeeper,
    kinds: Vec<Kind>,
    rounds: usize,
}

impl Bench {
    /// A broker that serves, in a fresh folder.
    fn broker(&self, kind: Kind) -> Result<Broker> {
        let mut broker = self.stopped(kind)?;
        broker.start()?;
        Ok(broker)
    }

    fn stopped(&self, kind: Kind) -> Result<Broker> {
        Broker::new(kind, &self.dir.join(kind.name()), &self.zookeeper)
    }

    fn brokers(&self) -> Result<Vec<Broker>> {
        self.kinds.iter().map(|&kind| self.broker(kind)).collect()
    }
}

/// Figures by broker.
#[derive(Default)]
struct Both(Vec<(Kind, f64)>);

impl Both {
    fn add(&mut self, kind: Kind, value: f64) {
        self.0.push((kind, value));
    }

    /// The median of what was added for a broker; empty if nothing was.
    fn of(&self, kind: Kind) -> Vec<f64> {
        let values: Vec<f64> = self.0.iter().filter(|entry| entry.0 == kind).map(|entry| entry.1).collect();
        median(values).into_iter().collect()
    }

    fn row(&self, number: usize, limit: Option<f64>) -> Row {
        row(number, limit, &self.of(Kind::Kafka), &self.of(Kind::Barnabas))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn say(what: &str, run: &Run) {
    let Run { seconds, cpu_seconds, .. } = run;
    eprintln!(
        "  {what}: {seconds:.2} s, CPU {cpu_seconds:.2} s, {:.2} CPU-s/GiB, {:.0} MiB/s, {:.1} CPU-µs each, {:.0}/s",
        run.cpu_per_gib(),
        run.mib_per_second(),
        run.cpu_micros_per_request(),
        run.requests_per_second()
    );
}

/// Large batches in and out.
fn throughput(bench: &Bench) -> Result<Vec<Row>> {
    let mut brokers = bench.brokers()?;
    let (mut produce_cpu, mut produce_speed) = (Both::default(), Both::default());
    let (mut fetch_cpu, mut fetch_speed) = (Both::default(), Both::default());
    let mut limits: [Vec<f64>; 4] = Default::default();
    // The first round warms up, files and compilers.
    for round in 0..=bench.rounds {
        let runs = throughput_limits(&bench.dir)?;
        if round > 0 {
            for (into, value) in limits.iter_mut().zip(runs) {
                into.push(value);
            }
        }
        for broker in &mut brokers {
            let (kind, port) = (broker.kind, broker.port);
            let topic = format!("throughput-{round}");
            broker.wire()?.create_topics(&[(topic.clone(), throughput::CONNECTIONS as i32)])?;
            settle()?;
            let produced = throughput::produce(broker.process()?, port, Some(&topic), GIB)?;
            say(&format!("{kind:?} produce"), &produced);
            let fetched = throughput::fetch(broker.process()?, port, &topic, GIB)?;
            say(&format!("{kind:?} fetch"), &fetched);
            broker.wire()?.delete_topic(&topic)?;
            if round > 0 {
                produce_cpu.add(kind, produced.cpu_per_gib());
                produce_speed.add(kind, produced.mib_per_second());
                fetch_cpu.add(kind, fetched.cpu_per_gib());
                fetch_speed.add(kind, fetched.mib_per_second());
            }
        }
    }
    let [a, b, c, d] = limits.map(median);
    Ok(vec![produce_cpu.row(0, a), produce_speed.row(1, b), fetch_cpu.row(2, c), fetch_speed.row(3, d)])
}

/// Produce and fetch without a broker: CPU-s/GiB and MiB/s of each.
fn throughput_limits(dir: &Path) -> Result<[f64; 4]> {
    let file = dir.join("limit");
    settle()?;
    let (process, port) = limit::start(Limit::Receive, &file)?;
    let received = throughput::produce(&process, port, None, GIB)?;
    say("limit receive", &received);
    drop(process);
    let written = file.with_extension("0");
    let (process, port) = limit::start(Limit::Send, &written)?;
    let sent = throughput::fetch_limit(&process, port, GIB)?;
    say("limit send", &sent);
    drop(process);
    for number in 0..throughput::CONNECTIONS {
        std::fs::remove_file(file.with_extension(number.to_string()))?;
    }
    Ok([received.cpu_per_gib(), received.mib_per_second(), sent.cpu_per_gib(), sent.mib_per_second()])
}

/// One-record produce requests.
fn requests(bench: &Bench) -> Result<Vec<Row>> {
    let mut brokers = bench.brokers()?;
    let (mut cpu, mut rate) = (Both::default(), Both::default());
    for broker in &brokers {
        broker.wire()?.create_topics(&[("requests".into(), throughput::SMALL_CONNECTIONS as i32)])?;
    }
    for round in 0..=bench.rounds {
        for broker in &mut brokers {
            let (kind, port) = (broker.kind, broker.port);
            // The compiler of the JVM wants more than the files.
            let time = Duration::from_secs(if round == 0 { 10 } else { 5 });
            let run = throughput::one_record(broker.process()?, port, "requests", time)?;
            say(&format!("{kind:?} one-record"), &run);
            if round > 0 {
                cpu.add(kind, run.cpu_micros_per_request());
                rate.add(kind, run.requests_per_second());
            }
        }
    }
    Ok(vec![cpu.row(4, None), rate.row(5, None)])
}

fn millis(latencies: &latency::Latencies) -> Vec<f64> {
    [0.5, 0.99, 0.999].iter().map(|&quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0).collect()
}

/// End to end at 1,000 records a second, nothing else going on.
fn latency(bench: &Bench) -> Result<Vec<Row>> {
    let mut figures = [Vec::new(), Vec::new()];
    let brokers = bench.brokers()?;
    let mut all = brokers.iter().map(|_| latency::new_latencies()).collect::<Result<Vec<_>>>()?;
    for broker in &brokers {
        broker.wire()?.create_topics(&[("latency".into(), 1)])?;
    }
    for round in 0..bench.rounds {
        for (broker, all) in brokers.iter().zip(&mut all) {
            let warm_up = Duration::from_secs(if round == 0 { 10 } else { 1 });
            let latencies = latency::alone(broker, "latency", warm_up, Duration::from_secs(10))?;
            eprintln!("  {:?}: {:?} ms", broker.kind, millis(&latencies));
            all.add(latencies)?;
        }
    }
    for (broker, all) in brokers.iter().zip(&all) {
        figures[usize::from(broker.kind == Kind::Barnabas)] = millis(all);
    }
    Ok(vec![row(6, None, &figures[0], &figures[1])])
}

/// End to end beside a replay from the disk. One broker at a time, as each has 3 GiB on the disk.
fn cold(bench: &Bench) -> Result<Vec<Row>> {
    let mut figures = [Vec::new(), Vec::new()];
    let mut speeds = Both::default();
    let (mut bare, mut bare_speeds) = (latency::new_latencies()?, Vec::new());
    for &kind in &bench.kinds {
        let mut broker = bench.broker(kind)?;
        broker.wire()?.create_topics(&[("tail".into(), 1), ("cold".into(), 1)])?;
        let batches = latency::fill(&broker, "cold", 3 * GIB)?;
        let mut alone = latency::alone(&broker, "tail", Duration::from_secs(5), Duration::from_secs(5))?;
        let mut beside = latency::new_latencies()?;
        for _ in 0..bench.rounds {
            let (latencies, speed) = latency::beside_replay(&broker, "tail", "cold", batches)?;
            eprintln!("  {kind:?} beside a replay at {speed:.0} MiB/s: {:?} ms", millis(&latencies));
            beside.add(latencies)?;
            speeds.add(kind, speed);
            if kind == Kind::Barnabas {
                let (latencies, speed) = latency::beside_bare_replay(&broker, "tail", "cold")?;
                eprintln!("  {kind:?} beside a replay by nobody at {speed:.0} MiB/s: {:?} ms", millis(&latencies));
                bare.add(latencies)?;
                bare_speeds.push(speed);
            }
            alone.add(latency::alone(&broker, "tail", Duration::from_secs(1), Duration::from_secs(5))?)?;
        }
        eprintln!("  {kind:?} alone: {:?} ms", millis(&alone));
        figures[usize::from(kind == Kind::Barnabas)] = vec![millis(&beside)[1], millis(&alone)[1]];
        broker.stop()?;
        std::fs::remove_dir_all(bench.dir.join(kind.name()))?;
    }
    let limit = (!bare.is_empty()).then(|| millis(&bare)[1]);
    Ok(vec![row(7, limit, &figures[0], &figures[1]), speeds.row(8, median(bare_speeds))])
}

/// The first start on an empty folder, and memory some seconds after.
fn start(bench: &Bench) -> Result<Vec<Row>> {
    let (mut seconds, mut rss) = (Both::default(), Both::default());
    for _ in 0..bench.rounds {
        for &kind in &bench.kinds {
            let mut broker = bench.stopped(kind)?;
            let took = broker.start()?;
            thread::sleep(Duration::from_secs(3));
            let idle = broker.process()?.rss_kib()? / 1024.0;
            eprintln!("  {kind:?}: {:.3} s, {idle:.1} MiB", took.as_secs_f64());
            seconds.add(kind, took.as_secs_f64());
            rss.add(kind, idle);
            broker.stop()?;
        }
    }
    Ok(vec![seconds.row(9, None), rss.row(10, None)])
}

/// 1,000 and 4,000 partitions.
fn many_partitions(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    // ZooKeeper's compiler warms up at nobody's expense.
    for &kind in &bench.kinds {
        let dir = bench.dir.join(format!("{}-warm-up", kind.name()));
        partitions::run(kind, &dir, &bench.zookeeper, 1000, 0)?;
    }
    for (index, count) in [1000, 4000].into_iter().enumerate() {
        let mut figures = [None, None];
        let [bare_create, bare_stop] = partitions::bare_files(&bench.dir.join(format!("bare-{count}")), count)?;
        eprintln!("  without a broker, {count}: created in {bare_create:.2} s, synced in {bare_stop:.2} s");
        for &kind in &bench.kinds {
            let dir = bench.dir.join(format!("{}-{count}", kind.name()));
            let measured = partitions::run(kind, &dir, &bench.zookeeper, count, GIB)?;
            eprintln!("  {kind:?} {count}: {measured:.2?}");
            figures[usize::from(kind == Kind::Barnabas)] = Some(measured);
        }
        let pick =
            |pick: fn(&partitions::Figures) -> Vec<f64>| figures.map(|one| one.as_ref().map(pick).unwrap_or_default());
        let picked: [[Vec<f64>; 2]; 5] = [
            pick(|one| vec![one.create]),
            pick(|one| vec![one.rss_created, one.rss_written]),
            pick(|one| vec![one.stop]),
            pick(|one| vec![one.restart]),
            pick(|one| vec![one.restart_after_kill]),
        ];
        let limits = [Some(bare_create), None, Some(bare_stop), None, None];
        for (line, ([kafka, barnabas], limit)) in picked.iter().zip(limits).enumerate() {
            rows.push(row(11 + 2 * line + index, limit, kafka, barnabas));
        }
    }
    Ok(rows)
}

/// What 2,000 connections that have said a word and wait cost.
fn idle(bench: &Bench) -> Result<Vec<Row>> {
    const COUNT: usize = 2000;
    let mut kib = Both::default();
    for &kind in &bench.kinds {
        let mut broker = bench.broker(kind)?;
        let open = |count: usize| -> Result<Vec<wire::Wire>> {
            (0..count)
                .map(|_| {
                    let mut wire = broker.wire()?;
                    wire.metadata(&[])?;
                    Ok(wire)
                })
                .collect()
        };
        let _warm_up = open(300)?;
        let _ = open(COUNT)?;
        thread::sleep(Duration::from_secs(3));
        let wires = open(50)?;
        let port = broker.port;
        let before = broker.process()?.rss_kib()?;
        let mut more = Vec::new();
        for _ in 0..COUNT {
            let mut wire = wire::Wire::connect(port)?;
            wire.metadata(&[])?;
            more.push(wire);
        }
        thread::sleep(Duration::from_secs(3));
        let each = (broker.process()?.rss_kib()? - before) / COUNT as f64;
        eprintln!("  {kind:?}: {each:.2} KiB");
        kib.add(kind, each);
        drop((wires, more));
        broker.stop()?;
    }
    Ok(vec![kib.row(21, None)])
}

/// Write gaps of a cluster of three when one of its brokers goes; the worst of the rounds.
fn failovers(bench: &Bench) -> Result<Vec<Row>> {
    // Neither broker can be sooner than ZooKeeper, which ends sessions at its ticks.
    let zookeeper = ZooKeeper::with_tick(&bench.dir.join("zookeeper-failover"), 500)?;
    let mut worst: [[Vec<f64>; 2]; failover::CASES.len()] = Default::default();
    for round in 0..bench.rounds {
        for &kind in &bench.kinds {
            let dir = bench.dir.join(format!("{}-failover-{round}", kind.name()));
            let gaps = failover::run(kind, &dir, &zookeeper)?;
            for (worst, gap) in worst.iter_mut().zip(gaps) {
                let worst = &mut worst[usize::from(kind == Kind::Barnabas)];
                *worst = vec![worst.first().map_or(gap, |before: &f64| before.max(gap))];
            }
        }
    }
    let rows = worst.iter().enumerate().map(|(case, [kafka, barnabas])| row(22 + case, None, kafka, barnabas));
    Ok(rows.collect())
}

/// A cluster of three with 10,000 partitions; one round.
fn wide(bench: &Bench) -> Result<Vec<Row>> {
    let zookeeper = ZooKeeper::with_tick(&bench.dir.join("zookeeper-wide"), 500)?;
    let mut figures: [[Vec<f64>; 2]; 4] = Default::default();
    for &kind in &bench.kinds {
        let measured = wide::run(kind, &bench.dir.join(format!("{}-wide", kind.name())), &zookeeper)?;
        eprintln!("  {kind:?}: {measured:.2?}");
        let wide::Figures { create, rss, leader_killed, controller_killed } = measured;
        for (into, value) in figures.iter_mut().zip([create, rss, leader_killed, controller_killed]) {
            into[usize::from(kind == Kind::Barnabas)] = vec![value];
        }
    }
    let rows = figures.iter().enumerate().map(|(line, [kafka, barnabas])| row(27 + line, None, kafka, barnabas));
    Ok(rows.collect())
}

/// 1 GiB of small keyed records is compacted while the end-to-end load runs. One broker at a time.
fn compactions(bench: &Bench) -> Result<Vec<Row>> {
    let mut figures: [[Vec<f64>; 2]; 4] = Default::default();
    let mut busy_p99 = None;
    for &kind in &bench.kinds {
        let broker = bench.stopped(kind)?;
        let measured = compaction::run(broker, bench.rounds)?;
        let column = usize::from(kind == Kind::Barnabas);
        let compaction::Figures { seconds, cpu_seconds, rss_mib, beside, alone, busy } = measured;
        if kind == Kind::Barnabas {
            busy_p99 = Some(busy);
        }
        let lines = [vec![seconds], vec![cpu_seconds], vec![rss_mib], vec![beside, alone]];
        for (into, values) in figures.iter_mut().zip(lines) {
            into[column] = values;
        }
        std::fs::remove_dir_all(bench.dir.join(kind.name()))?;
    }
    let limits = [None, None, None, busy_p99];
    let rows = figures.iter().zip(limits).enumerate();
    Ok(rows.map(|(line, ([kafka, barnabas], limit))| row(34 + line, limit, kafka, barnabas)).collect())
}

/// 1,000 groups of three members, 100,000 offsets.
fn many_groups(bench: &Bench) -> Result<Vec<Row>> {
    let mut figures: [Both; 3] = Default::default();
    for round in 0..bench.rounds {
        for &kind in &bench.kinds {
            let dir = bench.dir.join(format!("{}-groups-{round}", kind.name()));
            let measured = groups::run(kind, &dir, &bench.zookeeper)?;
            eprintln!("  {kind:?}: {measured:.2?}");
            let groups::Figures { rebalance, rebalance_cpu, load } = measured;
            for (into, value) in figures.iter_mut().zip([rebalance, rebalance_cpu, load]) {
                into.add(kind, value);
            }
        }
    }
    Ok(figures.iter().enumerate().map(|(line, both)| both.row(31 + line, None)).collect())
}

/// Old segments are removed while the end-to-end load runs. One broker at a time.
fn retentions(bench: &Bench) -> Result<Vec<Row>> {
    let mut figures = [Vec::new(), Vec::new()];
    let mut limit = None;
    for &kind in &bench.kinds {
        let measured = retention::run(bench.stopped(kind)?, &bench.dir, bench.rounds)?;
        let retention::Figures { beside, alone, bare } = measured;
        if kind == Kind::Barnabas {
            limit = Some(bare[0]);
        }
        figures[usize::from(kind == Kind::Barnabas)] = [beside, alone].concat();
        std::fs::remove_dir_all(bench.dir.join(kind.name()))?;
    }
    Ok(vec![row(38, limit, &figures[0], &figures[1])])
}

struct Arguments {
    kinds: Vec<Kind>,
    rounds: usize,
    write: bool,
    scenarios: Vec<String>,
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments { kinds: Kind::ALL.to_vec(), rounds: 3, write: true, scenarios: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--only" => {
                let name = arguments.next().context("--only kafka|barnabas")?;
                parsed.kinds.retain(|kind| kind.name() == name);
                // Half a comparison does not go into the table.
                parsed.write = false;
            }
            "--rounds" => parsed.rounds = arguments.next().context("--rounds N")?.parse::<usize>()?.clamp(1, 20),
            "--no-write" => parsed.write = false,
            name if SCENARIOS.iter().any(|scenario| scenario.0 == name) => parsed.scenarios.push(argument),
            other => {
                let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.0).collect();
                bail!("'{other}' is none of --only, --rounds, --no-write, {}", names.join(", "))
            }
        }
    }
    if parsed.scenarios.is_empty() {
        parsed.scenarios = SCENARIOS.iter().map(|scenario| scenario.0.to_owned()).collect();
    }
    Ok(parsed)
}

/// Leaves memory free that has been touched before. Otherwise a run would pay for what others left: in a virtual
/// machine the first touch of a page costs several times the page cache's own work, and where the page cache has filled
/// the memory, each new page has to be won back first.
fn free_memory(bytes: usize) -> Result<()> {
    let mut map = memmap2::MmapMut::map_anon(bytes)?;
    map.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    Ok(())
}

/// Waits until what was deleted has gone, and leaves memory for the next run's page cache.
fn settle() -> Result<()> {
    thread::sleep(Duration::from_secs(2));
    free_memory(2 * GIB)
}

fn compare(arguments: &Arguments) -> Result<()> {
    let dir = PathBuf::from(std::env::var("BENCH_DIR").context("BENCH_DIR")?);
    let zookeeper = ZooKeeper::start(&dir.join("zookeeper"))?;
    let bench = Bench { dir, zookeeper, kinds: arguments.kinds.clone(), rounds: arguments.rounds };
    let mut rows = Vec::new();
    for (name, scenario) in SCENARIOS {
        if arguments.scenarios.iter().any(|wanted| wanted == name) {
            eprintln!("{name}");
            match scenario(&bench) {
                Ok(measured) => rows.extend(measured),
                Err(error) => eprintln!("  {name} failed: {error:#}"),
            }
        }
    }
    report::print(&rows);
    if arguments.write {
        let readme = PathBuf::from(std::env::var("BENCH_README").context("BENCH_README")?);
        let commit = std::env::var("BENCH_COMMIT").unwrap_or_default();
        report::write(&readme, &rows, &commit, &report::machine()?)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["limit-receive", path] => limit::serve(Limit::Receive, Path::new(path)),
        ["limit-send", path] => limit::serve(Limit::Send, Path::new(path)),
        _ => compare(&arguments()?),
    }
}
