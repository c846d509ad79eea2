//! What the integration tests share: real ZooKeeper servers, brokers (barnabas or a JVM one), client programs, and a
//! bare wire client. Everything listens on 127.0.0.1 or in namespaces of the
//! tests' own, lives in a temporary folder and ends with the test process.
//! Waiting is always for a condition with a deadline.
#![allow(dead_code)]

pub mod broker;
pub mod brokers;
pub mod clients;
pub mod cluster;
pub mod copies;
pub mod dirs;
pub mod jvm;
pub mod load;
pub mod netns;
pub mod process;
pub mod records;
pub mod resident;
pub mod several;
pub mod wire;
pub mod zookeeper;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a JVM to start on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Where `tests/run.sh` keeps the jars, the virtual environment and the client programs.
pub fn cache() -> PathBuf {
    let path = match std::env::var_os("BARNABAS_CACHE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/barnabas"),
    };
    assert!(path.join("stamps").exists(), "the clients are not installed: run tests/run.sh --setup first");
    path
}

/// Whether `tests/run.sh --long` asked for the soaks.
pub fn long() -> bool {
    std::env::var("BARNABAS_TEST_LONG").is_ok_and(|value| !value.is_empty())
}

/// Asks `probe` again and again until it has an answer; panics with `what` when `limit` passes first.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    match poll(limit, &mut probe) {
        Some(value) => value,
        None => panic!("waited {} s in vain for: {what}", limit.as_secs()),
    }
}

/// As [`wait_for`], but answers `None` when the limit passes.
pub fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(Duration::from_millis(20));
    }
}

/// A port that nobody listens on, below the range from which the kernel takes ports for outgoing connections, so that it
/// is still free when a server that was stopped is started again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let base = std::process::id().wrapping_mul(97);
    for _ in 0..20_000 {
        let candidate = 10_000 + (base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", candidate)).is_ok() {
            return candidate;
        }
    }
    panic!("no free port")
}
