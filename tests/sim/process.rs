//! A machine's process: one single-threaded runtime with its own stopped clock, driven from tick to tick.
//!
//! Dropping the runtime is kill -9: every task is gone where it stood. Not driving it is SIGSTOP: when it is driven again
//! its clock jumps, and all that was due is due at once.

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::kernel::{Job, Node, Running, Sim, TICK};

/// A running process.
pub struct Process {
    runtime: Runtime,
    origin: Instant,
    started: u64,
    main: JoinHandle<anyhow::Result<()>>,
}

impl Process {
    /// Starts the process of a machine: jobs are done in the order in which they are posted, beside `main`.
    pub fn start(
        sim: &Sim,
        node: Node,
        life: u64,
        main: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let (jobs, mut inbox) = mpsc::unbounded_channel::<Job>();
        let started = {
            let mut core = sim.core();
            core.running.insert(node, Running { life, frozen: false, jobs });
            core.now
        };
        runtime.spawn(async move {
            while let Some(job) = inbox.recv().await {
                job();
            }
        });
        let origin = runtime.block_on(async { Instant::now() });
        let main = runtime.spawn(main);
        Self { runtime, origin, started, main }
    }

    /// Lets the process run until that time.
    pub fn drive(&self, until: u64) {
        let target = self.origin + std::time::Duration::from_millis(until - self.started);
        self.runtime.block_on(async {
            let tick = std::time::Duration::from_millis(TICK);
            let behind = target.saturating_duration_since(Instant::now());
            if behind > tick {
                tokio::time::advance(behind - tick).await;
            }
            tokio::time::sleep_until(target).await;
        });
    }

    /// Starts a task in the process.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Why the process ended by itself, if it did.
    pub fn ended(&mut self) -> Option<String> {
        if !self.main.is_finished() {
            return None;
        }
        let ended = self.runtime.block_on(&mut self.main);
        Some(match ended {
            Ok(Ok(())) => "it is done".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => format!("{panic}"),
        })
    }
}
