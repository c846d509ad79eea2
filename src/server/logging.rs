//! The broker's own log: one line an event on standard output, written by a thread of its own so that a slow terminal
//! or disk never holds up a request. What is written is asked of [`Loggers`], whose levels change while the broker runs.

use std::sync::{Arc, OnceLock};

use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::ChronoLocal;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::base::loggers::Loggers;

/// Names the variable with the levels: `info`, or `info,barnabas.log=debug` and the like.
pub const LEVELS_VARIABLE: &str = "BARNABAS_LOG";
/// How many lines may wait for the writer; beyond that lines are dropped rather than requests held up.
const QUEUED_LINES: usize = 8_192;

/// The loggers of this process, which has one log.
static LOGGERS: OnceLock<Arc<Loggers>> = OnceLock::new();

/// The loggers of this process.
pub fn loggers() -> Arc<Loggers> {
    Arc::clone(LOGGERS.get_or_init(Arc::default))
}

/// Sets the log up. Lines are written as long as the guard lives; dropping it flushes them.
///
/// # Errors
/// The variable's value cannot be read.
pub fn start() -> anyhow::Result<WorkerGuard> {
    let (writer, guard): (NonBlocking, WorkerGuard) =
        NonBlockingBuilder::default().buffered_lines_limit(QUEUED_LINES).finish(std::io::stdout());
    if let Ok(text) = std::env::var(LEVELS_VARIABLE) {
        let asked = Loggers::parse(&text).map_err(|error| {
            anyhow::anyhow!("{LEVELS_VARIABLE} is '{text}': {error}; a level such as info, or room=level pairs")
        })?;
        // A second broker in one process (tests) keeps the first one's log.
        let _ = LOGGERS.set(Arc::new(asked));
    }
    let _ = tracing::subscriber::set_global_default(subscriber(loggers(), writer));
    Ok(guard)
}

/// What writes to `writer` the lines that `loggers` let through.
fn subscriber<W>(loggers: Arc<Loggers>, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_timer(ChronoLocal::new("[%Y-%m-%d %H:%M:%S,%3f]".to_owned()))
        .with_ansi(false)
        .with_writer(writer)
        .finish()
        .with(ByLogger(loggers))
}

/// Asks the loggers. `tracing` remembers the answer for each place in the code until levels change, so an event that is
/// not wanted costs a look at one number.
struct ByLogger(Arc<Loggers>);

impl<S: Subscriber> Layer<S> for ByLogger {
    fn register_callsite(&self, place: &'static Metadata<'static>) -> Interest {
        self.0.note(place.target());
        if self.0.admits(place.target(), *place.level()) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, place: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.0.admits(place.target(), *place.level())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parking_lot::Mutex;

    use super::*;
    use crate::base::loggers::{Level, ROOT};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// One place in the code, so that what `tracing` remembers of it is put to the test.
    fn speak() {
        tracing::debug!(target: "a::b", "said");
    }

    #[test]
    fn a_level_that_changes_holds_for_places_that_were_reached_before() {
        let (loggers, lines) = (Arc::new(Loggers::default()), Lines::default());
        let written = lines.clone();
        let count = || String::from_utf8_lossy(&written.0.lock()).matches("said").count();
        let subscriber = subscriber(Arc::clone(&loggers), move || lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            speak();
            assert_eq!((count(), loggers.contains("a.b")), (0, true), "a place that was reached is a logger");
            loggers.set("a", Some(Level::Debug));
            speak();
            assert_eq!(count(), 1);
            loggers.set("a.b", Some(Level::Fatal));
            speak();
            assert_eq!(count(), 1);
            loggers.set("a.b", None);
            speak();
            assert_eq!(count(), 2);
            loggers.set("a", None);
            speak();
            assert_eq!(count(), 2);
            loggers.set(ROOT, Some(Level::Trace));
            speak();
            assert_eq!(count(), 3);
        });
    }
}
