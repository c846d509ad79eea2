//! `key=value` arguments and properties files, as the console tools take them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};

/// Properties by name.
pub type Properties = BTreeMap<String, String>;

/// Splits `key=value` arguments. A value may hold `=`; a missing `=` is an error.
pub fn parse_pairs<'a>(pairs: impl IntoIterator<Item = &'a String>) -> anyhow::Result<Properties> {
    let mut properties = Properties::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            bail!("'{pair}' is not of the form key=value");
        };
        properties.insert(key.trim().to_owned(), value.to_owned());
    }
    Ok(properties)
}

/// Reads a .properties file.
pub fn read_file(path: &Path) -> anyhow::Result<Properties> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let map = java_properties::read(file).with_context(|| format!("{} is not a properties file", path.display()))?;
    Ok(map.into_iter().collect())
}

/// The file's properties, if one is named, overlaid with the arguments.
pub fn layered<'a>(file: Option<&Path>, pairs: impl IntoIterator<Item = &'a String>) -> anyhow::Result<Properties> {
    let mut properties = file.map(read_file).transpose()?.unwrap_or_default();
    properties.extend(parse_pairs(pairs)?);
    Ok(properties)
}

/// Takes `name` out of `properties` as a truth value; anything but `true` (in any case) is false, as in the original.
pub fn take_flag(properties: &mut Properties, name: &str, default: bool) -> bool {
    properties.remove(name).map_or(default, |value| value.trim().eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_win_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "acks=1\nlinger.ms=5\n").unwrap();
        let both = layered(Some(file.path()), &["acks=all".to_owned(), "a.b=c=d".to_owned()]).unwrap();
        assert_eq!(both["acks"], "all");
        assert_eq!(both["linger.ms"], "5");
        assert_eq!(both["a.b"], "c=d");
    }

    #[test]
    fn a_pair_without_equals_is_refused() {
        assert!(parse_pairs(&["acks".to_owned()]).unwrap_err().to_string().contains("key=value"));
    }
}
