//! Turns a line of text into a record, as the console producer's LineMessageReader of Kafka 3.9 does: optional headers,
//! then an optional key, then the value.

use anyhow::bail;

use super::properties::{Properties, take_flag};

/// A record read off a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Header names and values in order.
    pub headers: Vec<(&'a str, Option<&'a str>)>,
    /// The key, if one was parsed and it is not the null marker.
    pub key: Option<&'a str>,
    /// The value, unless it is the null marker.
    pub value: Option<&'a str>,
}

/// How lines are taken apart.
#[derive(Debug)]
pub struct LineReader {
    parse_key: bool,
    key_separator: String,
    parse_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignore_error: bool,
    null_marker: Option<String>,
}

impl LineReader {
    /// Reads the `--property` arguments and the `--reader-config` file; an unknown name is an error.
    pub fn new(mut properties: Properties) -> anyhow::Result<Self> {
        let mut text = |name: &str, default: &str| properties.remove(name).unwrap_or_else(|| default.to_owned());
        let key_separator = text("key.separator", "\t");
        let headers_delimiter = text("headers.delimiter", "\t");
        let headers_separator = text("headers.separator", ",");
        let headers_key_separator = text("headers.key.separator", ":");
        let reader = Self {
            null_marker: properties.remove("null.marker"),
            parse_key: take_flag(&mut properties, "parse.key", false),
            parse_headers: take_flag(&mut properties, "parse.headers", false),
            ignore_error: take_flag(&mut properties, "ignore.error", false),
            key_separator,
            headers_delimiter,
            headers_separator,
            headers_key_separator,
        };
        if let Some(name) = properties.keys().next() {
            bail!(
                "the line reader has no property {name}: parse.key, key.separator, parse.headers, headers.delimiter, \
                 headers.separator, headers.key.separator, ignore.error, null.marker"
            );
        }
        reader.check_separators()?;
        Ok(reader)
    }

    fn check_separators(&self) -> anyhow::Result<()> {
        let headers = [
            ("headers.delimiter", &self.headers_delimiter),
            ("headers.separator", &self.headers_separator),
            ("headers.key.separator", &self.headers_key_separator),
        ];
        for (at, (name, value)) in headers.iter().enumerate() {
            if let Some((other, _)) = headers[at + 1..].iter().find(|(_, text)| text == value) {
                bail!("{name} and {other} may not be equal");
            }
        }
        let key = ("key.separator", &self.key_separator);
        for (name, value) in headers.into_iter().chain([key]) {
            if self.null_marker.as_ref() == Some(value) {
                bail!("null.marker and {name} may not be equal");
            }
            if value.is_empty() {
                bail!("{name} may not be empty");
            }
        }
        Ok(())
    }

    /// Takes one line apart; `number` is its place in the input, for the error.
    pub fn read<'a>(&self, line: &'a str, number: u64) -> anyhow::Result<Line<'a>> {
        let (headers, rest) =
            self.cut(self.parse_headers, line, &self.headers_delimiter, "headers delimiter", line, number)?;
        let (key, value) = self.cut(self.parse_key, rest, &self.key_separator, "key separator", line, number)?;
        let headers = match headers.and_then(|text| self.unless_null(text)) {
            Some(text) if !text.is_empty() => self.split_headers(text, number)?,
            _ => Vec::new(),
        };
        Ok(Line { headers, key: key.and_then(|key| self.unless_null(key)), value: self.unless_null(value) })
    }

    fn cut<'a>(
        &self,
        enabled: bool,
        text: &'a str,
        separator: &str,
        what: &str,
        line: &str,
        number: u64,
    ) -> anyhow::Result<(Option<&'a str>, &'a str)> {
        if !enabled {
            return Ok((None, text));
        }
        match text.split_once(separator) {
            Some((head, tail)) => Ok((Some(head), tail)),
            None if self.ignore_error => Ok((None, text)),
            None => bail!("No {what} found on line number {number}: '{line}'"),
        }
    }

    fn split_headers<'a>(&self, text: &'a str, number: u64) -> anyhow::Result<Vec<(&'a str, Option<&'a str>)>> {
        text.split(self.headers_separator.as_str())
            .map(|pair| match pair.split_once(self.headers_key_separator.as_str()) {
                Some((name, _)) if self.null_marker.as_deref() == Some(name) => {
                    bail!("a header's key may not be the null marker '{name}' (line number {number})")
                }
                Some((name, value)) => Ok((name, self.unless_null(value))),
                None if self.ignore_error => Ok((pair, None)),
                None => bail!("No header key separator found in pair '{pair}' on line number {number}"),
            })
            .collect()
    }

    fn unless_null<'a>(&self, text: &'a str) -> Option<&'a str> {
        (self.null_marker.as_deref() != Some(text)).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(pairs: &[(&str, &str)]) -> anyhow::Result<LineReader> {
        LineReader::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_plain_line_is_a_value() {
        let line = reader(&[]).unwrap().read("a\tb", 1).unwrap();
        assert_eq!(line, Line { headers: vec![], key: None, value: Some("a\tb") });
    }

    #[test]
    fn headers_key_and_value_come_in_order() {
        let reader = reader(&[("parse.key", "true"), ("parse.headers", "True"), ("null.marker", "NULL")]).unwrap();
        let line = reader.read("h1:v1,h2:NULL\tk\tNULL", 1).unwrap();
        assert_eq!(line, Line { headers: vec![("h1", Some("v1")), ("h2", None)], key: Some("k"), value: None });
        assert_eq!(reader.read("NULL\tk\tv", 2).unwrap().headers, vec![]);
    }

    #[test]
    fn a_line_without_its_key_is_an_error_unless_errors_are_ignored() {
        let strict = reader(&[("parse.key", "true")]).unwrap();
        assert_eq!(
            strict.read("nokey", 3).unwrap_err().to_string(),
            "No key separator found on line number 3: 'nokey'"
        );
        let lax = reader(&[("parse.key", "true"), ("ignore.error", "true")]).unwrap();
        assert_eq!(lax.read("nokey", 3).unwrap(), Line { headers: vec![], key: None, value: Some("nokey") });
    }

    #[test]
    fn properties_are_checked() {
        assert!(reader(&[("parse.kee", "true")]).unwrap_err().to_string().contains("parse.kee"));
        assert!(reader(&[("headers.separator", ":")]).unwrap_err().to_string().contains("may not be equal"));
        assert!(reader(&[("null.marker", "\t")]).is_err());
    }
}
