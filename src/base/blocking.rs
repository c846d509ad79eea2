//! Where a runtime that someone was handed does what may wait for a disk for long.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;

/// Does `work` apart from the runtime's other tasks. A program that lives on one thread, as the simulator's brokers do,
/// gets no second one, whose work would be done by chance sooner or later: there it is a task like the others. Never for
/// the runtime of a connection, which has one thread too, on which others wait: see [`tokio::task::spawn_blocking`].
pub fn spawn<R: Send + 'static>(runtime: &Handle, work: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    match runtime.runtime_flavor() {
        RuntimeFlavor::CurrentThread => runtime.spawn(async { work() }),
        _ => runtime.spawn_blocking(work),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn thread_of_work(runtime: &Runtime) -> thread::ThreadId {
        let (sender, done) = mpsc::channel();
        let work = move || sender.send(thread::current().id()).expect("someone waits");
        runtime.block_on(async { spawn(runtime.handle(), work).await }).expect("it is done");
        done.recv().expect("it was done")
    }

    #[test]
    fn a_runtime_of_one_thread_does_the_work_itself() {
        let one = Builder::new_current_thread().build().expect("a runtime");
        assert_eq!(thread_of_work(&one), thread::current().id());
        let several = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        assert_ne!(thread_of_work(&several), thread::current().id());
    }
}
