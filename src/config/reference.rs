//! The reference page, `docs/configs.md`: written from the tables, and held to them by a test.

use std::fmt::Write;

use super::broker;
use super::def::{KeyDef, Mode, Support};
use super::dynamic::{DYNAMIC_ONLY_KEYS, is_dynamic};
use super::topic::TOPIC_KEYS;

const INTRODUCTION: &str = "\
# Configs

Written from the tables in `src/config`; change those, then run `BARNABAS_REWRITE=1 cargo test --lib config::reference`.

A broker config is set in `server.properties`, as an environment variable (`KAFKA_LOG_RETENTION_MS`) or with `--override`; one
that has its effect while the broker runs may be changed with `bin/kafka-configs.sh` too, for one broker or for all. A
topic config is set when the topic is created or altered; without, the broker config beside it holds.
";

fn shown(def: &KeyDef) -> String {
    match def.default {
        None => String::new(),
        Some("") => "(empty)".to_owned(),
        Some(text) => format!("`{text}`"),
    }
}

fn effect(def: &KeyDef) -> String {
    match def.support {
        Support::Acts => match def.mode {
            Mode::ReadOnly => "yes".to_owned(),
            Mode::PerBroker | Mode::ClusterWide if is_dynamic(def.name) => "yes, while the broker runs".to_owned(),
            Mode::PerBroker | Mode::ClusterWide => "yes, from the next start on".to_owned(),
        },
        Support::NotYet => "not yet: a warning".to_owned(),
        Support::Moot(why) => format!("none: {why}"),
        Support::Refused => "not yet: stops the start".to_owned(),
    }
}

fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## Broker configs\n\n| config | default | allowed | has an effect | what it is for |\n| --- | --- | --- | --- | --- |\n");
    let mut keys: Vec<&KeyDef> = broker::keys().collect();
    keys.sort_by_key(|def| def.name);
    for def in keys {
        let _ =
            writeln!(text, "| `{}` | {} | {} | {} | {} |", def.name, shown(def), def.allowed(), effect(def), def.doc);
    }
    text.push_str("\n## Broker configs that can only be set while brokers run\n\n| config | allowed | what it is for |\n| --- | --- | --- |\n");
    for def in DYNAMIC_ONLY_KEYS {
        let _ = writeln!(text, "| `{}` | {} | {} |", def.name, def.allowed(), def.doc);
    }
    text.push_str("\n## Topic configs\n\n| config | default | broker config | allowed | what it is for |\n| --- | --- | --- | --- | --- |\n");
    let mut keys: Vec<_> = TOPIC_KEYS.iter().collect();
    keys.sort_by_key(|key| key.def.name);
    for key in keys {
        let synonym = key.synonym.map_or_else(String::new, |name| format!("`{name}`"));
        let def = &key.def;
        let _ = writeln!(text, "| `{}` | {} | {synonym} | {} | {} |", def.name, shown(def), def.allowed(), def.doc);
    }
    text
}

#[test]
fn the_page_is_what_the_tables_say() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configs.md");
    if std::env::var_os("BARNABAS_REWRITE").is_some() {
        std::fs::write(&path, page()).expect("docs/configs.md");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/configs.md is not what the tables say; run this test with BARNABAS_REWRITE=1");
}
