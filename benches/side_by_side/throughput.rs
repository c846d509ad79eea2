//! Load at full speed: large batches in and out, and one-record requests; each over a few connections, some deep.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};

use super::process::Process;
use super::wire::{self, Wire};

/// Records in a large batch.
pub const RECORDS: usize = 1000;
/// Bytes of a record's value there.
pub const VALUE: usize = 1024;
/// Connections for large batches, each with a partition of its own.
pub const CONNECTIONS: usize = 2;
/// Requests under way on each of them.
const DEPTH: usize = 3;
/// How many times what was produced is fetched: once takes so little processor time that the clock's ticks would count.
const FETCH_TIMES: usize = 4;
/// Connections for one-record requests.
pub const SMALL_CONNECTIONS: usize = 8;
/// Requests under way on each of them.
const SMALL_DEPTH: usize = 5;
/// Bytes of a record's value there.
pub const SMALL_VALUE: usize = 100;

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub bytes: usize,
    pub requests: usize,
}

impl Run {
    pub fn cpu_per_gib(&self) -> f64 {
        self.cpu_seconds / (self.bytes as f64 / f64::from(1 << 30))
    }

    pub fn mib_per_second(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20) / self.seconds
    }

    pub fn cpu_micros_per_request(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.requests as f64
    }

    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

fn measured(process: &Process, work: impl FnOnce() -> Result<(usize, usize)>) -> Result<Run> {
    let (cpu, begun) = (process.cpu()?, Instant::now());
    let (bytes, requests) = work()?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_seconds = (process.cpu()? - cpu).as_secs_f64();
    Ok(Run { seconds, cpu_seconds, bytes, requests })
}

/// Runs `work` on one thread for each large-batch connection and adds the bytes up.
fn on_connections(work: impl Fn(usize) -> Result<usize> + Sync) -> Result<usize> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a thread panicked")?).sum()
    })
}

/// Produces `total` bytes in large batches with acks=1; without a topic, to the process that only writes.
pub fn produce(process: &Process, port: u16, topic: Option<&str>, total: usize) -> Result<Run> {
    let batch = wire::batch(RECORDS, VALUE, 0)?;
    let each = total / CONNECTIONS / batch.len();
    let name = topic.unwrap_or("limit");
    measured(process, || {
        let bytes = on_connections(|partition| {
            let frame = wire::produce_frame(name, partition as i32, 1, batch.clone())?;
            let mut wire = Wire::connect(port)?;
            for sent in 0..each + DEPTH {
                if sent >= DEPTH {
                    let answer = wire.receive()?;
                    if topic.is_some() {
                        wire::check_produced(answer)?;
                    }
                }
                if sent < each {
                    wire.stream.write_all(&frame)?;
                }
            }
            Ok(each * batch.len())
        })?;
        Ok((bytes, bytes / batch.len()))
    })
}

/// Fetches the `total` bytes that [`produce`] wrote, batch by batch, several times.
pub fn fetch(process: &Process, port: u16, topic: &str, total: usize) -> Result<Run> {
    let batch_len = wire::batch(RECORDS, VALUE, 0)?.len();
    let each = total / CONNECTIONS / batch_len;
    measured(process, || {
        let bytes = on_connections(|partition| {
            let mut wire = Wire::connect(port)?;
            for asked in 0..FETCH_TIMES * each + DEPTH {
                if asked >= DEPTH {
                    let len = wire.receive_fetched(topic)?;
                    ensure!(len == batch_len, "{len} bytes instead of a batch of {batch_len}");
                }
                if asked < FETCH_TIMES * each {
                    let offset = (asked % each * RECORDS) as i64;
                    let request = wire::fetch_request(topic, &[(partition as i32, offset)], batch_len as i32, 500);
                    wire.stream.write_all(&wire::frame(&request, wire::FETCH)?)?;
                }
            }
            Ok(FETCH_TIMES * each * batch_len)
        })?;
        Ok((bytes, bytes / batch_len))
    })
}

/// Asks the process that only sends for as many bytes, in stretches as long as [`fetch`]'s answers.
pub fn fetch_limit(process: &Process, port: u16, total: usize) -> Result<Run> {
    let len = wire::batch(RECORDS, VALUE, 0)?.len();
    let each = total / CONNECTIONS / len;
    measured(process, || {
        let bytes = on_connections(|_| {
            let mut wire = Wire::connect(port)?;
            for asked in 0..FETCH_TIMES * each + DEPTH {
                if asked >= DEPTH {
                    wire.discard(4 + len)?;
                }
                if asked < FETCH_TIMES * each {
                    let mut request = BytesMut::new();
                    request.put_u64((asked % each * len) as u64);
                    request.put_u32(len as u32);
                    wire.stream.write_all(&request)?;
                }
            }
            Ok(FETCH_TIMES * each * len)
        })?;
        Ok((bytes, bytes / len))
    })
}

struct Small {
    wire: Wire,
    /// As many frames one after the other as may be under way.
    frames: Bytes,
    frame_len: usize,
    received: usize,
}

/// One-record produce requests with acks=1 for `time`, all connections on one thread.
pub fn one_record(process: &Process, port: u16, topic: &str, time: Duration) -> Result<Run> {
    let response_len = produced_len(topic);
    let mut connections = (0..SMALL_CONNECTIONS)
        .map(|partition| {
            let frame = wire::produce_frame(topic, partition as i32, 1, wire::batch(1, SMALL_VALUE, 0)?)?;
            let wire = Wire::connect(port)?;
            wire.stream.set_nonblocking(true)?;
            Ok(Small { wire, frames: frame.repeat(SMALL_DEPTH).into(), frame_len: frame.len(), received: 0 })
        })
        .collect::<Result<Vec<_>>>()?;
    measured(process, || {
        let begun = Instant::now();
        for connection in &mut connections {
            connection.wire.stream.write_all(&connection.frames)?;
        }
        let (mut answered, mut under_way) = (0, SMALL_CONNECTIONS * SMALL_DEPTH);
        while under_way > 0 {
            wait_readable(&connections)?;
            let more = begun.elapsed() < time;
            for connection in &mut connections {
                let done = connection.receive(topic, response_len)?;
                answered += done;
                if more {
                    connection.wire.stream.write_all(&connection.frames[..done * connection.frame_len])?;
                } else {
                    under_way -= done;
                }
            }
        }
        Ok((answered * SMALL_VALUE, answered))
    })
}

/// The bytes of a Produce response of version 7 for one partition, with its length.
fn produced_len(topic: &str) -> usize {
    4 + 4 + 4 + (2 + topic.len()) + 4 + (4 + 2 + 8 + 8 + 8) + 4
}

impl Small {
    /// Reads what is there; returns how many answers that completed.
    fn receive(&mut self, topic: &str, response_len: usize) -> Result<usize> {
        let mut buffer = [0; 4096];
        let begun = self.received % response_len;
        match self.wire.stream.read(&mut buffer[begun..]) {
            Ok(0) => anyhow::bail!("the broker closed the connection"),
            Ok(n) => {
                if begun == 0 && n >= response_len {
                    let error = &buffer[4 + 4 + 4 + 2 + topic.len() + 4 + 4..][..2];
                    ensure!(error == [0, 0], "producing failed with error {error:?}");
                }
                let before = self.received / response_len;
                self.received += n;
                Ok(self.received / response_len - before)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

fn wait_readable(connections: &[Small]) -> Result<()> {
    let mut fds: Vec<libc::pollfd> = connections
        .iter()
        .map(|connection| libc::pollfd { fd: connection.wire.stream.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // SAFETY: the array outlives the call and its length is passed with it.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 10_000) };
    ensure!(ready > 0, "no answer within ten seconds");
    Ok(())
}
