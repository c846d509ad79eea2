//! Where values come from: properties files, `KAFKA_...` environment variables, `--override`; the later goes before the
//! earlier. Names stay flat: `log.retention` and `log.retention.ms` live side by side.
//!
//! The layering is the `config` crate's, entered below the level at which it would split keys at their dots.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use config::{FileStoredFormat, Format, Map, Source, Value, ValueKind};
use java_properties::PropertiesIter;

use super::def::ConfigError;

/// The format of Java's `.properties` files, in UTF-8.
#[derive(Debug, Clone, Copy)]
struct Properties;

impl Format for Properties {
    fn parse(&self, uri: Option<&String>, text: &str) -> Result<Map<String, Value>, Box<dyn Error + Send + Sync>> {
        let mut map = Map::new();
        PropertiesIter::new(in_latin_1(text).as_bytes()).read_into(|key, value| {
            map.insert(key, Value::new(uri, ValueKind::String(value)));
        })?;
        Ok(map)
    }
}

impl FileStoredFormat for Properties {
    fn file_extensions(&self) -> &'static [&'static str] {
        &["properties"]
    }
}

/// The same text with everything outside ASCII as `\uXXXX`: the parser decodes bytes as Java does, as Latin-1.
fn in_latin_1(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            ascii.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    ascii
}

/// A source whose keys are names, not paths.
#[derive(Debug, Clone)]
struct Flat<S>(S);

impl<S: Source + Clone + Send + Sync + 'static> Source for Flat<S> {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        self.0.collect()
    }

    fn collect_to(&self, cache: &mut Value) -> Result<(), config::ConfigError> {
        if let ValueKind::Table(table) = &mut cache.kind {
            table.extend(self.collect()?);
        }
        Ok(())
    }
}

/// Pairs that are at hand already.
#[derive(Debug, Clone)]
struct Pairs(Vec<(String, String)>);

impl Source for Pairs {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect())
    }
}

/// What is set, from the files in their order, then from `pairs`.
///
/// # Errors
/// [`ConfigError::File`] if a file cannot be read or is not a properties file.
pub fn layers(files: &[&Path], pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut all = BTreeMap::new();
    for file in files {
        let source = Flat(config::File::new(&file.to_string_lossy(), Properties));
        all.extend(collect(vec![Box::new(source)]).map_err(|cause| file_error(file, &cause))?);
    }
    let pairs = collect(vec![Box::new(Flat(Pairs(pairs)))]);
    all.extend(pairs.map_err(|cause| file_error(Path::new("overrides"), &cause))?);
    Ok(all)
}

fn file_error(file: &Path, cause: &config::ConfigError) -> ConfigError {
    ConfigError::File { path: file.display().to_string(), why: cause.to_string() }
}

fn collect(sources: Vec<Box<dyn Source + Send + Sync>>) -> Result<BTreeMap<String, String>, config::ConfigError> {
    let table = sources.collect()?;
    Ok(table.into_iter().filter_map(|(key, value)| Some((key, value.into_string().ok()?))).collect())
}

/// Reads one properties file.
///
/// # Errors
/// [`ConfigError::File`] if it cannot be read or is not a properties file.
pub fn read_file(file: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    layers(&[file], Vec::new())
}

/// The key an environment variable names: `KAFKA_LOG_RETENTION_MS` is `log.retention.ms`, with `__` for `_` and `___` for
/// `-`, as container images of Kafka have it. `None` without the prefix.
pub fn key_of_variable(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("KAFKA_").filter(|name| !name.is_empty())?.to_lowercase();
    Some(name.replace("___", "-").replace("__", "\u{0}").replace('_', ".").replace('\u{0}', "_"))
}

/// Whether a variable is one that Kafka's own scripts and images read, not a config key.
pub fn is_launcher_variable(variable: &str) -> bool {
    const KNOWN: &[&str] = &[
        "KAFKA_HEAP_OPTS",
        "KAFKA_OPTS",
        "KAFKA_LOG4J_OPTS",
        "KAFKA_JMX_OPTS",
        "KAFKA_JVM_PERFORMANCE_OPTS",
        "KAFKA_GC_LOG_OPTS",
        "KAFKA_JMX_HOSTNAME",
        "KAFKA_JMX_PORT",
        "KAFKA_DEBUG",
        "KAFKA_LOG4J_ROOT_LOGLEVEL",
        "KAFKA_LOG4J_LOGGERS",
        "KAFKA_TOOLS_LOG4J_LOGLEVEL",
        "KAFKA_VERSION",
        "KAFKA_HOME",
        "KAFKA_USER",
        "KAFKA_CLASSPATH",
        "KAFKA_MODE",
        "KAFKA_DATA_DIRS",
    ];
    KNOWN.contains(&variable)
}

/// Splits `--override key=value`.
///
/// # Errors
/// [`ConfigError::Invalid`] without a key or a `=`.
pub fn parse_override(text: &str) -> Result<(String, String), ConfigError> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(ConfigError::not_allowed("--override", text, "key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".properties").tempfile().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn dotted_names_stay_flat() {
        let file =
            file("log.retention=1\nlog.retention.ms = 2\n# note\nlog\\:x=a\\\n  b\nname=Grüße \\u00e9\nlist[0]=x\n");
        let all = read_file(file.path()).expect("read");
        let expected =
            [("list[0]", "x"), ("log.retention", "1"), ("log.retention.ms", "2"), ("log:x", "ab"), ("name", "Grüße é")];
        assert!(all.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected), "{all:?}");
    }

    #[test]
    fn later_layers_win() {
        let (first, second) = (file("a=1\nb=1\nc=1"), file("b=2\nc=2"));
        let all = layers(&[first.path(), second.path()], vec![("c".into(), "3".into())]).expect("read");
        assert_eq!(all.values().collect::<Vec<_>>(), ["1", "2", "3"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_file(Path::new("no/such/file.properties")).unwrap_err();
        assert!(error.to_string().contains("no/such/file.properties"));
    }

    #[test]
    fn variables_name_keys() {
        assert_eq!(key_of_variable("KAFKA_LOG_RETENTION_MS").as_deref(), Some("log.retention.ms"));
        assert_eq!(key_of_variable("KAFKA_A__B___C").as_deref(), Some("a_b-c"));
        assert_eq!(key_of_variable("PATH"), None);
        assert!(parse_override("a").is_err() && parse_override("=b").is_err());
        assert_eq!(parse_override("a=b=c"), Ok(("a".into(), "b=c".into())));
    }
}
