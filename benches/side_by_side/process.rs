//! Child processes and what the kernel counts for them.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A child that is killed when it is dropped.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { child, name: name.into() })
    }

    /// Like [`Self::start`], with the child's standard output to read from.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Processor time used so far, in user space and in the kernel.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        // utime and stime are the 14th and 15th field; the two before the name's closing bracket are cut off.
        let ticks: u64 =
            fields.get(11).context("stat")?.parse::<u64>()? + fields.get(12).context("stat")?.parse::<u64>()?;
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
        Ok(Duration::from_secs_f64(ticks as f64 / hertz as f64))
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("VmRSS")?.parse()?)
    }

    /// Fails if the process has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }

    /// SIGTERM; returns how long the end took.
    pub fn terminate(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("{} did not end within a minute of SIGTERM", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(begun.elapsed())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id() as i32), Signal::try_from(signal)?)?)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` yields something.
pub fn wait_for<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if begun.elapsed() > patience {
            bail!("waited {patience:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}
