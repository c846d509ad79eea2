//! Child processes in groups of their own, whose output goes to a file, and which die with the test process.

use super::{PATIENCE, poll};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

type Job = (Command, Sender<std::io::Result<Child>>);

/// Starts a child that the kernel kills when this process ends, however it ends. The kernel ties that to the thread that
/// started the child, so one thread that outlives all tests starts them all.
fn spawn(mut command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches no memory of this process.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (answer, result) = channel();
    spawner.lock().expect("no panic while locked").send((command, answer)).expect("the spawner lives");
    result.recv().expect("the spawner answers")
}

/// A running child. Dropping it kills its whole group; after a failure it also shows the end of its log.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Process {
        let file = File::options().create(true).append(true).open(log).expect("log file");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("log file")).stderr(file);
        Process::adopt(name, command, log)
    }

    fn adopt(name: &str, command: Command, log: &Path) -> Process {
        let text = format!("{command:?}");
        let child = spawn(command).unwrap_or_else(|error| panic!("cannot start {name} ({text}): {error}"));
        Process { name: name.to_owned(), child, log: log.to_owned(), ended: None }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of the log, long ones cut.
    pub fn log_tail(&self) -> String {
        tail(&self.log_text())
    }

    /// How the child ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("our own child");
        }
        self.ended
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: plain system call; the pid is our own child's, which is reaped only through `self`.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// Signals the whole group: the child may be a wrapper that keeps signals to itself.
    pub fn signal_group(&self, signal: i32) {
        // SAFETY: plain system call; the group is the child's own, made when it was started.
        unsafe { libc::killpg(self.pid(), signal) };
    }

    /// Waits until the child ends by itself.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        poll(limit, || self.ended())
    }

    /// Sends SIGTERM and waits for the end; answers how long that took.
    pub fn terminate(&mut self) -> Duration {
        let start = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.wait(PATIENCE).unwrap_or_else(|| panic!("{} did not stop on SIGTERM", self.name));
        let fine = status.success() || matches!(status.code(), Some(143)) || status.signal() == Some(libc::SIGTERM);
        assert!(fine, "{} ended with {status} on SIGTERM", self.name);
        start.elapsed()
    }

    /// `kill -9` of the whole group, and waits until the kernel has reaped it.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal_group(libc::SIGKILL);
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ended with {:?}; its log ends:\n{}", self.name, self.ended, self.log_tail());
        }
    }
}

/// What a finished command printed.
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end with `input` on stdin; panics when it takes longer than `limit`.
pub fn run(name: &str, mut command: Command, input: &str, limit: Duration) -> Output {
    let dir = super::dirs::TestDir::new("run");
    let (stdin, stdout, stderr) = (dir.join("stdin"), dir.join("stdout"), dir.join("stderr"));
    fs::write(&stdin, input).expect("input file");
    command.stdin(File::open(&stdin).expect("input file"));
    command.stdout(File::create(&stdout).expect("output file"));
    command.stderr(File::create(&stderr).expect("output file"));
    let mut process = Process::adopt(name, command, &stderr);
    let status = process.wait(limit).unwrap_or_else(|| panic!("{name} did not end within {} s", limit.as_secs()));
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    Output { status, stdout: read(&stdout), stderr: read(&stderr) }
}

/// As [`run`], and panics unless the command succeeds; answers its stdout.
pub fn run_ok(name: &str, command: Command, input: &str, limit: Duration) -> String {
    let output = run(name, command, input, limit);
    let fine = output.status.success();
    assert!(fine, "{name} ended with {}\n{}\n{}", output.status, tail(&output.stdout), tail(&output.stderr));
    output.stdout
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let cut = |line: &&str| line.chars().take(400).collect::<String>();
    lines[lines.len().saturating_sub(20)..].iter().map(cut).collect::<Vec<_>>().join("\n")
}

/// A child whose stdout is read line by line while it runs, and whose stdin stays open until [`Talking::close_stdin`].
pub struct Talking {
    pub process: Process,
    stdin: Option<ChildStdin>,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Talking {
    pub fn start(name: &str, mut command: Command, log: &Path) -> Talking {
        let file = File::options().create(true).append(true).open(log).expect("log file");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut process = Process::adopt(name, command, log);
        let stdin = process.child.stdin.take();
        let stdout = process.child.stdout.take().expect("a pipe");
        let lines = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                shared.0.lock().expect("no panic while locked").push(line);
                shared.1.notify_all();
            }
        });
        Talking { process, stdin, lines }
    }

    /// What it said so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.0.lock().expect("no panic while locked").clone()
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("not closed");
        writeln!(stdin, "{line}").expect("it listens");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }
}
