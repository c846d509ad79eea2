//! Holds what no compiler does: which room may use which, sizes of files, scripts and subcommands in pairs, and nothing
//! that belongs to one machine only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 900;

/// Who may use whom (ARCHITECTURE.md). A room may always use itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("config", &["base"]),
    ("protocol", &["base", "config"]),
    ("network", &["base", "config", "protocol"]),
    ("log", &["base", "config", "protocol"]),
    ("zk", &["base", "config", "protocol"]),
    ("replica", &["base", "config", "protocol", "network", "log"]),
    ("coordinator", &["base", "config", "protocol", "network", "log", "replica"]),
    ("controller", &["base", "config", "protocol", "network", "zk"]),
    ("admin", &["base", "config", "protocol", "zk"]),
    ("security", &["base", "config", "protocol", "zk"]),
    (
        "api",
        &[
            "base",
            "config",
            "protocol",
            "network",
            "log",
            "zk",
            "replica",
            "coordinator",
            "controller",
            "admin",
            "security",
        ],
    ),
    (
        "server",
        &[
            "base",
            "config",
            "protocol",
            "network",
            "log",
            "zk",
            "replica",
            "coordinator",
            "controller",
            "admin",
            "security",
            "api",
        ],
    ),
    ("cli", &["base", "config", "protocol", "network", "zk", "admin"]),
];

/// Single files that reach further than their room, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Blocks of producer ids come out of ZooKeeper.
    ("src/coordinator/txn/producer_ids.rs", "zk"),
    // The command that starts the broker.
    ("src/cli/server_start.rs", "server"),
    // 2.8's tool creates topics on the znodes itself, by the same rules as a broker.
    ("src/cli/topics/zookeeper.rs", "admin"),
    // Tools that open log files, as Kafka's DumpLogSegments does.
    ("src/cli/dump_log.rs", "log"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the project, as paths from its root.
fn files() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let skipped = ["target", ".git", "node_modules", "__pycache__", "Cargo.lock"].contains(&name.as_str());
            let generated = ["corpus", "artifacts"].contains(&name.as_str());
            if skipped || generated {
                continue;
            }
            if entry.is_dir() {
                walk(&entry, found);
            } else {
                found.push(entry.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    found
}

fn text(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(root().join(path)).expect("a readable file")).ok()
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Unit tests in a file of their own.
fn is_test_file(path: &Path) -> bool {
    path.to_string_lossy().ends_with("tests.rs") || path.iter().skip(1).any(|part| part == "tests")
}

fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The rooms that a source text names, without its unit tests and comments.
fn rooms_used(source: &str) -> BTreeSet<String> {
    let code: String = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut rooms = BTreeSet::new();
    for (position, _) in code.match_indices("crate::") {
        if code[..position].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[position + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => rooms.extend(top_level_names(list)),
            None => rooms.extend(leading_name(rest)),
        }
    }
    rooms
}

/// Names at the first level of `a::b, c::{d, e}, f}...`.
fn top_level_names(list: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut depth, mut fresh) = (0, true);
    for (position, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && !c.is_whitespace() => {
                fresh = false;
                names.extend(leading_name(&list[position..]));
            }
            _ => {}
        }
    }
    names
}

fn leading_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn rooms_keep_to_their_layers() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut complaints = Vec::new();
    for path in files().iter().filter(|path| is_rust(path) && path.starts_with("src")) {
        let name = path.to_string_lossy();
        let room = path.iter().nth(1).map(|part| part.to_string_lossy().replace(".rs", "")).unwrap_or_default();
        let in_tests = is_test_file(path);
        if room == "main" || room == "lib" || in_tests {
            continue;
        }
        let Some(may_use) = allowed.get(room.as_str()) else {
            complaints.push(format!("{name}: the room {room} is not in the table of layers"));
            continue;
        };
        for used in rooms_used(&text(path).unwrap_or_default()) {
            let excepted = EXCEPTIONS.contains(&(name.as_ref(), used.as_str()));
            let is_room = allowed.contains_key(used.as_str());
            if is_room && used != room && !may_use.contains(&used.as_str()) && !excepted {
                complaints.push(format!("{name}: {room} must not use {used}"));
            }
        }
    }
    report(&complaints);
}

#[test]
fn the_reader_of_uses_reads() {
    let source = "use crate::base::ids;\nuse crate::{log::{self, x}, zk};\n// crate::api\nfn f() { crate::server::run() }\n\
                  #[cfg(test)]\nmod tests { use crate::cli; }";
    let rooms: Vec<String> = rooms_used(source).into_iter().collect();
    assert_eq!(rooms, ["base", "log", "server", "zk"]);
}

#[test]
fn files_are_short() {
    let mut complaints = Vec::new();
    for path in files().iter().filter(|path| is_rust(path)) {
        let lines = text(path).unwrap_or_default().lines().count();
        if lines > MAX_LINES {
            complaints.push(format!("{}: {lines} lines, at most {MAX_LINES}", path.display()));
        }
    }
    report(&complaints);
}

#[test]
fn modules_say_what_they_own() {
    let mut complaints = Vec::new();
    for path in files().iter().filter(|path| is_rust(path) && path.starts_with("src")) {
        let is_test = is_test_file(path);
        if !is_test && !text(path).unwrap_or_default().starts_with("//!") {
            complaints.push(format!("{}: does not open with what it owns", path.display()));
        }
    }
    report(&complaints);
}

/// Each script execs one subcommand of the same name, and each subcommand named as a script has one.
#[test]
fn scripts_and_subcommands_pair() {
    let table = ["src/main.rs", "src/cli/mod.rs", "src/cli/table.rs"]
        .iter()
        .filter_map(|path| fs::read_to_string(root().join(path)).ok())
        .collect::<String>();
    let commands: BTreeSet<&str> = table
        .split('"')
        .filter(|word| word.starts_with("kafka-") || word.starts_with("zookeeper-"))
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .collect();
    let mut complaints = Vec::new();
    for path in files().iter().filter(|path| path.starts_with("bin")) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let own = stem.starts_with("kafka-") || stem.starts_with("zookeeper-");
        // What runs Apache ZooKeeper itself, or only sends a signal, needs no subcommand.
        let script = text(path).unwrap_or_default();
        let delegates = script.contains("exec") && script.contains("barnabas");
        if own && delegates && !commands.contains(stem.as_str()) {
            complaints.push(format!("{}: there is no subcommand {stem}", path.display()));
        }
    }
    for command in &commands {
        if !root().join(format!("bin/{command}.sh")).exists() {
            complaints.push(format!("subcommand {command}: there is no bin/{command}.sh"));
        }
    }
    report(&complaints);
}

#[test]
fn nothing_is_left_to_do_and_nothing_is_of_one_machine() {
    // In pieces, so that this file does not complain of itself.
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    let local = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let registries = [
        concat!("crates", ".io"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("maven", ".org"),
        concat!("repo.maven", ".apache.org"),
        concat!("proxy.golang", ".org"),
        concat!("sum.golang", ".org"),
    ];
    let mut complaints = Vec::new();
    for path in files() {
        let Some(text) = text(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for word in unfinished.iter().chain(&local).chain(&registries) {
                if line.contains(word) {
                    complaints.push(format!("{}:{}: has {word}", path.display(), number + 1));
                }
            }
        }
    }
    report(&complaints);
}
