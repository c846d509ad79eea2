//! The network threads: `num.network.threads` OS threads, each with a single-threaded runtime of its own.
//!
//! Owns the threads and their runtimes' lives. Knows nothing of sockets; whoever holds a [`Handle`] may spawn on it.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// How many threads one network thread may use for work that blocks (cold reads, log creation).
const MAX_BLOCKING_THREADS: usize = 16;
/// How long such a thread waits for more work before it ends.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(5);

struct NetworkThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    join: Option<JoinHandle<()>>,
}

/// Runs until [`NetworkThreads::stop`] or until it is dropped.
pub struct NetworkThreads {
    name: String,
    threads: Vec<NetworkThread>,
}

impl NetworkThreads {
    /// Starts `count` threads (at least one), named `<name>-0` and so on.
    pub fn start(name: &str, count: usize) -> io::Result<Self> {
        let mut all = Self { name: name.to_owned(), threads: Vec::new() };
        all.grow(count.max(1))?;
        Ok(all)
    }

    /// Starts so many more that there are `count`; handles to the new ones.
    ///
    /// # Errors
    /// If the system gives no thread; then there are as many as before.
    pub fn grow(&mut self, count: usize) -> io::Result<Vec<Handle>> {
        let start = |number| start_thread(format!("{}-{number}", self.name));
        let started = (self.threads.len()..count).map(start).collect::<io::Result<Vec<_>>>()?;
        let handles = started.iter().map(|thread| thread.handle.clone()).collect();
        self.threads.extend(started);
        Ok(handles)
    }

    /// Ends the last `count` threads, as [`Self::stop`] ends all.
    pub fn shrink(&mut self, count: usize) {
        let left = self.threads.len().saturating_sub(count);
        let threads = self.threads.split_off(left);
        drop(Self { name: String::new(), threads });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// A handle to each thread's runtime, for spawning on it.
    pub fn handles(&self) -> Vec<Handle> {
        self.threads.iter().map(|thread| thread.handle.clone()).collect()
    }

    /// Ends all threads; tasks that still run are dropped at their next await. Blocks until the threads have ended,
    /// so it must not be called from one of them.
    pub fn stop(&mut self) {
        for thread in &mut self.threads {
            if let Some(stop) = thread.stop.take() {
                let _ = stop.send(());
            }
        }
        for thread in &mut self.threads {
            if let Some(join) = thread.join.take() {
                let _ = join.join();
            }
        }
    }
}

impl Drop for NetworkThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start_thread(name: String) -> io::Result<NetworkThread> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .thread_name(format!("{name}-blocking"))
        .build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    let join = std::thread::Builder::new().name(name).spawn(move || {
        let _ = runtime.block_on(stopped);
        // A blocking read of a broken disk must not hold up the stop.
        runtime.shutdown_timeout(Duration::from_millis(100));
    })?;
    Ok(NetworkThread { handle, stop: Some(stop), join: Some(join) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_on_the_thread_they_are_spawned_on() {
        let mut threads = NetworkThreads::start("test-network", 2).expect("two threads");
        let names: Vec<_> = threads
            .handles()
            .iter()
            .map(|handle| {
                let (tx, rx) = std::sync::mpsc::channel();
                handle.spawn(async move { tx.send(std::thread::current().name().map(String::from)) });
                rx.recv_timeout(Duration::from_secs(10)).expect("the task ran")
            })
            .collect();
        assert_eq!(names, [Some("test-network-0".to_string()), Some("test-network-1".to_string())]);
        assert_eq!((threads.grow(2).expect("none").len(), threads.grow(4).expect("two more").len()), (0, 2));
        threads.shrink(3);
        assert_eq!((threads.len(), threads.handles().len()), (1, 1));
        threads.stop();
    }
}
