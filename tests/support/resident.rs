//! Java clients that stay between commands: to start one takes longer than most of what it is asked for.

use super::dirs::{self, TestDir};
use super::process::Talking;
use super::{jvm, poll};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Those that nobody asks for anything at the moment, by version. They end with this process.
static IDLE: Mutex<BTreeMap<&str, Vec<Talking>>> = Mutex::new(BTreeMap::new());

/// What InteropClient of that version prints for a command line and an input; panics unless it succeeds in time.
pub fn ask(version: &'static str, words: &[&str], input: &str, limit: Duration) -> String {
    let idle = IDLE.lock().expect("no panic while locked").entry(version).or_default().pop();
    let mut client = idle.unwrap_or_else(|| start(version));
    let dir = TestDir::new("run");
    let (from, to) = (dir.join("stdin"), dir.join("stdout"));
    fs::write(&from, input).expect("input file");
    let before = client.lines().len();
    client.say(&serde_json::json!({"args": words, "in": from, "out": to}).to_string());
    let verdict = poll(limit, || {
        assert!(client.process.ended().is_none(), "Java {version} ended at {words:?}");
        client.lines().get(before).cloned()
    });
    assert_eq!(verdict.as_deref(), Some("ok"), "Java {version} {words:?}, within {} s", limit.as_secs());
    IDLE.lock().expect("no panic while locked").entry(version).or_default().push(client);
    fs::read_to_string(to).expect("output file")
}

fn start(version: &str) -> Talking {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("java-{version}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut command = jvm::java(version, "256m", "InteropClient");
    command.arg("serve");
    Talking::start(&name, command, &dirs::root().join(format!("{name}.log")))
}
