//! A disk that takes no more: the append fails whole, the log dir goes offline with a clear reason, nothing is lost.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use barnabas::base::error::ErrorCode;
use barnabas::base::ids::{LeaderEpoch, Offset};
use barnabas::log::producer_state::Origin;

const CHILD: &str = "FULL_DISK_CHILD";
/// No file of the child may grow beyond it: the write that would is cut short, and the next one fails.
const LIMIT: u64 = 10_000;

#[test]
fn a_write_that_is_cut_short_is_taken_back() {
    if let Ok(dir) = std::env::var(CHILD) {
        return fill(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "full_disk::a_write_that_is_cut_short_is_taken_back", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir.path())
        .status()
        .expect("the child runs");
    assert!(status.success());
    let manager = super::open(dir.path());
    let log = super::partition(&manager, 0);
    let size = std::fs::metadata(dir.path().join("t-0/00000000000000000000.log")).expect("a segment").len();
    assert_eq!(size, log.size(), "nothing is left of the append that failed");
    let said = super::Said { appended: log.log_end_offset().get(), flushed: 0 };
    assert!(said.appended > 0);
    super::check::whole(0, &log, 0, said, false);
}

fn fill(dir: &Path) {
    let manager = super::open(dir);
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&reasons);
    manager.on_dir_failure(move |_, reason| heard.lock().expect("a list").push(reason.to_owned()));
    let log = super::partition(&manager, 0);
    limit_file_size();
    let mut next = 0;
    let error = loop {
        match log.append_as_leader(super::records(0, next, 1), LeaderEpoch(7), Origin::Client, 1) {
            Ok(info) => next = info.last_offset.get() + 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::KafkaStorageError);
    let reasons = reasons.lock().expect("a list");
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].contains("append to") && reasons[0].contains("00000000000000000000.log"), "{reasons:?}");
    assert!(manager.log_dirs()[0].is_offline());
    assert_eq!(log.log_end_offset(), Offset(next));
    let again = log.append_as_leader(super::records(0, next, 1), LeaderEpoch(7), Origin::Client, 1);
    assert_eq!(again.expect_err("the log dir is offline").code(), ErrorCode::KafkaStorageError);
}

fn limit_file_size() {
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.expect("a signal is ignored");
    setrlimit(Resource::RLIMIT_FSIZE, LIMIT, LIMIT).expect("a limit");
}
