//! Finding and starting processes: what `-daemon` and the stop scripts need.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running process of this user (of everyone's, for root).
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// Its command line, argument by argument.
    pub args: Vec<String>,
}

/// The processes whose command line can be read.
pub fn list() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            let line = std::fs::read(path.join("cmdline")).ok()?;
            let args = line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
            Some(Process { pid, args })
        })
        .collect()
}

/// Asks a process to stop cleanly (SIGTERM).
pub fn terminate(pid: i32) -> anyhow::Result<()> {
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("cannot stop process {pid}"))
}

/// Starts `command` in the background, in a process group of its own, with its output appended to `log`. Returns its
/// process id.
pub fn spawn_daemon(command: &mut Command, log: &Path) -> anyhow::Result<u32> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let open = || File::options().create(true).append(true).open(log);
    let (out, err) = (open().with_context(|| format!("cannot open {}", log.display()))?, open()?);
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    Ok(child.id())
}

/// Where a daemon's output goes: `$LOG_DIR/NAME.out`, or `logs/NAME.out` here.
pub fn daemon_log(name: &str) -> PathBuf {
    let folder = std::env::var_os("LOG_DIR").map_or_else(|| PathBuf::from("logs"), PathBuf::from);
    folder.join(format!("{name}.out"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_is_among_the_listed() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(super::list().iter().any(|process| process.pid == own));
    }
}
