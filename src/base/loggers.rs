//! The loggers of this process and their levels, which change while it runs (KIP-412, `Log4jController`).
//!
//! A logger is a target of `tracing`, which is a module's path, written with dots as Kafka's tools want it: `barnabas.log`
//! is above `barnabas.log.manager`, and [`ROOT`] is above all. As in log4j a logger without a level of its own has that of the nearest one above it, and exists
//! once something has said anything through it; the rooms of this program always do. Decides only: what writes lines asks
//! [`Loggers::admits`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use parking_lot::RwLock;

/// The logger above all.
pub const ROOT: &str = "root";

/// This program's rooms, each a logger from the start (the modules of `lib.rs`).
const ROOMS: &[&str] = &[
    "base",
    "config",
    "protocol",
    "log",
    "network",
    "replica",
    "zk",
    "admin",
    "controller",
    "coordinator",
    "api",
    "server",
    "cli",
];

/// What holds when nothing is asked for. The ZooKeeper client tells of each step of a reconnection; what matters of it is
/// told by the zk room.
const DEFAULT_LEVELS: &str = "info,zookeeper_client=warn";

/// How much a logger lets through, log4j's levels. Nothing here speaks at [`Level::Fatal`], so it silences as
/// [`Level::Off`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Off,
    /// What ends the process.
    Fatal,
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And what normally happens.
    Info,
    /// And what helps to find a fault.
    Debug,
    /// And every step.
    Trace,
}

/// All levels and their names.
const LEVELS: [(Level, &str); 7] = [
    (Level::Off, "OFF"),
    (Level::Fatal, "FATAL"),
    (Level::Error, "ERROR"),
    (Level::Warn, "WARN"),
    (Level::Info, "INFO"),
    (Level::Debug, "DEBUG"),
    (Level::Trace, "TRACE"),
];

impl Level {
    /// The level of that name, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        LEVELS.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(level, _)| *level)
    }

    /// Whether an event of `tracing`'s level passes.
    fn admits(self, event: tracing::Level) -> bool {
        self >= match event {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LEVELS.iter().find(|(level, _)| level == self).map_or("", |(_, name)| name))
    }
}

#[derive(Debug)]
struct State {
    root: Level,
    /// Levels of loggers that have their own.
    own: BTreeMap<String, Level>,
    /// All loggers but the root.
    known: BTreeSet<String>,
}

/// The loggers. Bounded by the modules of the program.
#[derive(Debug)]
pub struct Loggers(RwLock<State>); // read when a place in the code speaks for the first time or levels change

/// The loggers above `name`, the nearest first, without the root.
fn above(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.rsplit_once('.'), |(parent, _)| parent.rsplit_once('.')).map(|(parent, _)| parent)
}

/// The logger of a target.
fn name_of(target: &str) -> String {
    target.replace("::", ".")
}

impl State {
    fn effective(&self, name: &str) -> Level {
        let own = std::iter::once(name).chain(above(name)).find_map(|name| self.own.get(name));
        own.copied().unwrap_or(self.root)
    }

    fn note(&mut self, name: &str) {
        self.known.extend(std::iter::once(name).chain(above(name)).map(str::to_owned));
    }
}

impl Loggers {
    /// Loggers with the levels of `text`: a level for all, and `logger=level` pairs, comma separated; a logger may be written
    /// as a module's path too.
    ///
    /// # Errors
    /// The part that is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut state = State { root: Level::Info, own: BTreeMap::new(), known: BTreeSet::new() };
        ROOMS.iter().for_each(|room| state.note(&format!("{}.{room}", env!("CARGO_CRATE_NAME"))));
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (logger, level) = part.split_once('=').unwrap_or((ROOT, part));
            let level = Level::parse(level.trim()).ok_or_else(|| format!("'{part}' is no level and no room=level"))?;
            let logger = name_of(logger.trim());
            if logger == ROOT {
                state.root = level;
            } else {
                state.note(&logger);
                state.own.insert(logger, level);
            }
        }
        Ok(Self(RwLock::new(state)))
    }

    /// A place in the code that speaks to `target` was reached: from now on its logger exists.
    pub fn note(&self, target: &str) {
        let logger = name_of(target);
        if !self.contains(&logger) {
            self.0.write().note(&logger);
        }
    }

    /// Whether an event at `level` for `target` is to be written.
    pub fn admits(&self, target: &str, level: tracing::Level) -> bool {
        self.0.read().effective(&name_of(target)).admits(level)
    }

    /// Whether there is a logger of that name.
    pub fn contains(&self, logger: &str) -> bool {
        logger == ROOT || self.0.read().known.contains(logger)
    }

    /// All loggers by name, with the levels that hold for them.
    pub fn all(&self) -> BTreeMap<String, Level> {
        let state = self.0.read();
        let known = state.known.iter().map(|name| (name.clone(), state.effective(name)));
        known.chain([(ROOT.to_owned(), state.root)]).collect()
    }

    /// Gives a logger a level of its own, or takes that away: then it has that of the one above. The root keeps one.
    pub fn set(&self, logger: &str, level: Option<Level>) {
        let mut state = self.0.write();
        match (logger, level) {
            (ROOT, Some(level)) => state.root = level,
            (ROOT, None) => {}
            (logger, Some(level)) => drop(state.own.insert(logger.to_owned(), level)),
            (logger, None) => drop(state.own.remove(logger)),
        }
        // It asks `admits` of every place in the code again, so the lock must be free.
        drop(state);
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Default for Loggers {
    fn default() -> Self {
        match Self::parse(DEFAULT_LEVELS) {
            Ok(loggers) => loggers,
            Err(error) => unreachable!("the default levels are valid: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rooms_are_those_of_the_program() {
        let declared = include_str!("../lib.rs").lines();
        let mut declared: Vec<_> =
            declared.filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
        let mut rooms = ROOMS.to_vec();
        declared.sort_unstable();
        rooms.sort_unstable();
        assert_eq!(declared, rooms);
        // Targets begin with the crate's name.
        let own = name_of(module_path!());
        assert!(Loggers::default().contains(own.strip_suffix(".loggers.tests").expect("this module")));
    }

    #[test]
    fn a_logger_has_the_level_of_the_nearest_one_above() {
        let loggers = Loggers::parse(" warn, a::b = debug ,zookeeper_client=OFF").expect("valid");
        loggers.note("a::b::c");
        let level = |name: &str| loggers.all().get(name).copied();
        assert_eq!([ROOT, "barnabas", "barnabas.log"].map(level), [Some(Level::Warn); 3]);
        assert_eq!(["a", "a.b", "a.b.c"].map(level), [Level::Warn, Level::Debug, Level::Debug].map(Some));
        assert_eq!((level("zookeeper_client"), level("a.bc")), (Some(Level::Off), None));
        assert!(loggers.admits("a::b::other", tracing::Level::DEBUG) && !loggers.admits("a::bc", tracing::Level::INFO));

        loggers.set("a.b", None);
        loggers.set("a", Some(Level::Fatal));
        loggers.set(ROOT, Some(Level::Trace));
        loggers.set(ROOT, None);
        assert_eq!(["a.b.c", "barnabas", ROOT].map(level), [Level::Fatal, Level::Trace, Level::Trace].map(Some));
        assert!(!loggers.admits("a::b", tracing::Level::ERROR));
    }

    #[test]
    fn levels_are_log4js() {
        for (level, name) in LEVELS {
            assert_eq!((Level::parse(&name.to_lowercase()), level.to_string()), (Some(level), name.to_owned()));
        }
        assert!(Level::parse("WARNING").is_none() && Loggers::parse("info,a=loud").is_err());
        assert!(Loggers::parse("barnabas::log").is_err());
        assert!(Level::Warn.admits(tracing::Level::WARN) && !Level::Warn.admits(tracing::Level::INFO));
    }
}
