//! End to end: one record every millisecond with acks=all, read by a waiting consumer; alone, and while another client
//! replays data that has left the page cache.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use kafka_protocol::messages::FetchResponse;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::brokers::Broker;
use super::limit::{self, Limit};
use super::throughput::{RECORDS, VALUE};
use super::wire::{self, Wire};

const EVERY: Duration = Duration::from_millis(1);
const VALUE_LEN: usize = 100;

/// Microseconds from a record's sending to its arrival.
pub type Latencies = Histogram<u64>;

pub fn new_latencies() -> Result<Latencies> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// Sends and receives until `stop`; records only what was sent while `recording`.
pub fn end_to_end(
    broker: &Broker,
    topic: &str,
    stop: &AtomicBool,
    recording: &AtomicBool,
    into: &mut Latencies,
) -> Result<()> {
    let base = Instant::now();
    let sent = AtomicUsize::new(0);
    let finished = AtomicBool::new(false);
    let producer = broker.wire()?;
    let acks = Wire { stream: producer.stream.try_clone()? };
    let mut consumer = broker.wire()?;
    let mut offset = end_offset(&mut consumer, topic)?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let result = send(producer, topic, base, stop, recording, &sent);
            finished.store(true, Ordering::SeqCst);
            result
        });
        let acking = scope.spawn(|| drain(acks, &sent, &finished));
        let mut received = 0;
        let deadline = Duration::from_secs(20);
        let mut finished_at = None;
        loop {
            if finished.load(Ordering::SeqCst) {
                let since = *finished_at.get_or_insert_with(Instant::now);
                if received >= sent.load(Ordering::SeqCst) || since.elapsed() > deadline {
                    break;
                }
            }
            let stamps = receive(&mut consumer, topic, offset)?;
            let now = base.elapsed().as_nanos() as u64;
            for stamp in &stamps {
                // The lowest bit says whether it counts.
                if stamp & 1 == 1 {
                    into.record((now.saturating_sub(*stamp) / 1000).max(1))?;
                }
            }
            received += stamps.len();
            offset += stamps.len() as i64;
        }
        sending.join().ok().context("the producer panicked")??;
        acking.join().ok().context("the acks' reader panicked")??;
        ensure!(received == sent.load(Ordering::SeqCst), "{received} records arrived of {sent:?}");
        Ok(())
    })
}

fn send(
    mut wire: Wire,
    topic: &str,
    base: Instant,
    stop: &AtomicBool,
    recording: &AtomicBool,
    sent: &AtomicUsize,
) -> Result<()> {
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut next = base.elapsed();
    while !stop.load(Ordering::Relaxed) {
        next += EVERY;
        if let Some(pause) = next.checked_sub(base.elapsed()) {
            thread::sleep(pause);
        }
        let now = base.elapsed();
        // Late by more than its turn: the wait counts.
        let stamp = if now - next > EVERY { next } else { now };
        let stamp = (stamp.as_nanos() as u64 & !1) | u64::from(recording.load(Ordering::Relaxed));
        let frame = wire::produce_frame(topic, 0, -1, wire::batch(1, VALUE_LEN, stamp)?)?;
        sent.fetch_add(1, Ordering::SeqCst);
        wire.stream.write_all(&frame)?;
    }
    Ok(())
}

fn drain(mut wire: Wire, sent: &AtomicUsize, finished: &AtomicBool) -> Result<()> {
    let mut acked = 0;
    loop {
        if acked >= sent.load(Ordering::SeqCst) {
            if finished.load(Ordering::SeqCst) {
                return Ok(());
            }
            thread::sleep(EVERY / 2);
            continue;
        }
        wire.receive_produced()?;
        acked += 1;
    }
}

fn receive(wire: &mut Wire, topic: &str, offset: i64) -> Result<Vec<u64>> {
    let request = wire::fetch_request(topic, &[(0, offset)], 1 << 20, 500);
    wire.stream.write_all(&wire::frame(&request, wire::FETCH)?)?;
    let mut prefix = [0; 4];
    wire.stream.read_exact(&mut prefix)?;
    let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
    wire.stream.read_exact(&mut body)?;
    let len = wire::fetched_len(&body)?;
    wire::stamps(&body[body.len() - len..], wire::batch(1, VALUE_LEN, 0)?.len(), VALUE_LEN)
}

/// The high watermark of partition 0.
fn end_offset(wire: &mut Wire, topic: &str) -> Result<i64> {
    let mut offset = 0;
    // An offset out of range is answered with the high watermark too, but a fetch at 0 always can be.
    let response: FetchResponse = wire.call(&wire::fetch_request(topic, &[(0, offset)], 1, 0), wire::FETCH)?;
    for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
        offset = partition.high_watermark;
    }
    Ok(offset)
}

/// Runs [`end_to_end`] for `warm_up` and then for `time`, which counts.
pub fn alone(broker: &Broker, topic: &str, warm_up: Duration, time: Duration) -> Result<Latencies> {
    let mut latencies = new_latencies()?;
    let (stop, recording) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(warm_up);
            recording.store(true, Ordering::Relaxed);
            thread::sleep(time);
            stop.store(true, Ordering::Relaxed);
        });
        end_to_end(broker, topic, &stop, &recording, &mut latencies)
    })?;
    Ok(latencies)
}

/// Runs [`end_to_end`] while another client reads all of `cold`, partition 0, from the disk. Returns the latencies and
/// the reader's MiB/s.
pub fn beside_replay(broker: &Broker, topic: &str, cold: &str, batches: usize) -> Result<(Latencies, f64)> {
    drop_from_page_cache(broker, cold)?;
    beside(broker, topic, || replay(broker, cold, batches))
}

/// As [`beside_replay`], but what is replayed comes from a process without a broker: the machine's limit.
pub fn beside_bare_replay(broker: &Broker, topic: &str, cold: &str) -> Result<(Latencies, f64)> {
    drop_from_page_cache(broker, cold)?;
    beside(broker, topic, || bare_replay(&broker.log_files(cold)?))
}

/// Runs [`end_to_end`] while `work` is done, which only counts; returns its result too.
pub fn beside<T: Send>(
    broker: &Broker,
    topic: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<(Latencies, T)> {
    let mut latencies = new_latencies()?;
    let (stop, recording) = (AtomicBool::new(false), AtomicBool::new(false));
    let done = thread::scope(|scope| {
        let working = scope.spawn(|| {
            // The tail's clients are at their pace by then.
            thread::sleep(Duration::from_millis(500));
            recording.store(true, Ordering::Relaxed);
            let done = work();
            stop.store(true, Ordering::Relaxed);
            done
        });
        end_to_end(broker, topic, &stop, &recording, &mut latencies)?;
        working.join().ok().context("what was done beside it panicked")?
    })?;
    Ok((latencies, done))
}

/// Has the files sent by a process each, one after the other, in stretches as long as the batches of [`replay`].
fn bare_replay(files: &[PathBuf]) -> Result<f64> {
    let batch_len = wire::batch(RECORDS, VALUE, 0)?.len();
    let (mut sent, mut took) = (0, Duration::ZERO);
    for path in files {
        let (_process, port) = limit::start(Limit::Send, path)?;
        let mut wire = Wire::connect(port)?;
        let begun = Instant::now();
        for number in 0..path.metadata()?.len() as usize / batch_len {
            let mut request = ((number * batch_len) as i64).to_be_bytes().to_vec();
            request.extend((batch_len as u32).to_be_bytes());
            wire.stream.write_all(&request)?;
            wire.discard(4 + batch_len)?;
            sent += batch_len;
        }
        took += begun.elapsed();
    }
    Ok(sent as f64 / f64::from(1 << 20) / took.as_secs_f64())
}

fn replay(broker: &Broker, topic: &str, batches: usize) -> Result<f64> {
    let mut wire = broker.wire()?;
    let batch_len = wire::batch(RECORDS, VALUE, 0)?.len();
    let begun = Instant::now();
    for number in 0..batches {
        let request = wire::fetch_request(topic, &[(0, (number * RECORDS) as i64)], batch_len as i32, 500);
        wire.stream.write_all(&wire::frame(&request, wire::FETCH)?)?;
        let len = wire.receive_fetched(topic)?;
        ensure!(len == batch_len, "{len} bytes instead of a batch of {batch_len}");
    }
    Ok((batches * batch_len) as f64 / f64::from(1 << 20) / begun.elapsed().as_secs_f64())
}

/// Writes `total` bytes into partition 0 of `topic`; returns how many batches that were.
pub fn fill(broker: &Broker, topic: &str, total: usize) -> Result<usize> {
    let batch = wire::batch(RECORDS, VALUE, 0)?;
    let batches = total / batch.len();
    let frame = wire::produce_frame(topic, 0, 1, batch)?;
    let mut wire = broker.wire()?;
    for _ in 0..batches {
        wire.stream.write_all(&frame)?;
        wire.receive_produced()?;
    }
    Ok(batches)
}

fn drop_from_page_cache(broker: &Broker, topic: &str) -> Result<()> {
    for path in broker.log_files(topic)? {
        let file = File::open(path)?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}
