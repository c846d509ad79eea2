//! The broker's own log: one line an event on standard output, written by a thread of its own so that a slow terminal
//! or disk never holds up a request.

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::ChronoLocal;

/// Names the variable with the levels: `info`, or `info,barnabas::log=debug` and the like.
pub const LEVELS_VARIABLE: &str = "BARNABAS_LOG";
/// How many lines may wait for the writer; beyond that lines are dropped rather than requests held up.
const QUEUED_LINES: usize = 8_192;

/// Sets the log up. Lines are written as long as the guard lives; dropping it flushes them.
///
/// # Errors
/// The variable's value cannot be read.
pub fn start() -> anyhow::Result<WorkerGuard> {
    let (writer, guard): (NonBlocking, WorkerGuard) =
        NonBlockingBuilder::default().buffered_lines_limit(QUEUED_LINES).finish(std::io::stdout());
    let levels = match std::env::var(LEVELS_VARIABLE) {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| {
            anyhow::anyhow!("{LEVELS_VARIABLE} is '{text}': {error}; a level such as info, or room=level pairs")
        })?,
        // The ZooKeeper client tells of each step of a reconnection; what matters of it is told by the zk room.
        Err(_) => EnvFilter::new("info,zookeeper_client=warn"),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(levels)
        .with_timer(ChronoLocal::new("[%Y-%m-%d %H:%M:%S,%3f]".to_owned()))
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    // A second broker in one process (tests) keeps the first one's log.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(guard)
}
