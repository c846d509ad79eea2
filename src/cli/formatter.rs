//! How the console consumer prints a record: Kafka's DefaultMessageFormatter and the deserializers it is used with.

use std::io::Write;

use anyhow::bail;

use super::properties::{Properties, take_flag};

/// Turns a key, a value or a header's value into text.
type Deserialize = fn(&[u8]) -> Result<Vec<u8>, String>;

/// The deserializers by the last part of their Java class name.
const DESERIALIZERS: &[(&str, Deserialize)] = &[
    ("StringDeserializer", |bytes| Ok(bytes.to_vec())),
    ("ByteArrayDeserializer", |bytes| Ok(bytes.to_vec())),
    ("BytesDeserializer", |bytes| Ok(bytes.to_vec())),
    ("LongDeserializer", |bytes| fixed(bytes, |raw| i64::from_be_bytes(raw).to_string())),
    ("IntegerDeserializer", |bytes| fixed(bytes, |raw| i32::from_be_bytes(raw).to_string())),
    ("ShortDeserializer", |bytes| fixed(bytes, |raw| i16::from_be_bytes(raw).to_string())),
    ("DoubleDeserializer", |bytes| fixed(bytes, |raw| format!("{:?}", f64::from_be_bytes(raw)))),
    ("FloatDeserializer", |bytes| fixed(bytes, |raw| format!("{:?}", f32::from_be_bytes(raw)))),
];

fn fixed<const N: usize>(bytes: &[u8], show: fn([u8; N]) -> String) -> Result<Vec<u8>, String> {
    match bytes.try_into() {
        Ok(raw) => Ok(show(raw).into_bytes()),
        Err(_) => Err(format!("{} bytes where {N} are needed", bytes.len())),
    }
}

fn deserializer(class: &str) -> anyhow::Result<Deserialize> {
    let short = class.rsplit('.').next().unwrap_or(class);
    match DESERIALIZERS.iter().find(|(name, _)| *name == short) {
        Some((_, deserialize)) => Ok(*deserialize),
        None => {
            let known: Vec<_> = DESERIALIZERS.iter().map(|(name, _)| *name).collect();
            bail!("no deserializer {class}: {}", known.join(", "))
        }
    }
}

/// A record's timestamp with its type.
#[derive(Debug, Clone, Copy)]
pub enum Stamp {
    /// No timestamp: records of magic 0.
    None,
    /// Set by the producer, in milliseconds since 1970.
    Create(i64),
    /// Set by the broker, in milliseconds since 1970.
    LogAppend(i64),
}

/// A record to print.
pub struct Printable<'a> {
    /// Its timestamp.
    pub timestamp: Stamp,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its headers in order.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// What is printed of each record, and how.
pub struct Formatter {
    timestamp: bool,
    partition: bool,
    offset: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: String,
    line_separator: String,
    headers_separator: String,
    null_literal: String,
    read_key: Deserialize,
    read_value: Deserialize,
    read_header: Deserialize,
}

impl Formatter {
    /// Reads the `--property` arguments and the `--formatter-config` file; an unknown name is an error.
    pub fn new(mut properties: Properties) -> anyhow::Result<Self> {
        let mut read = |name: &str| {
            let class = properties.remove(name);
            class.map_or(Ok(DESERIALIZERS[0].1), |class| deserializer(&class))
        };
        let (read_key, read_value) = (read("key.deserializer")?, read("value.deserializer")?);
        let read_header = read("headers.deserializer")?;
        let mut text = |name: &str, default: &str| properties.remove(name).unwrap_or_else(|| default.to_owned());
        let formatter = Self {
            read_key,
            read_value,
            read_header,
            key_separator: text("key.separator", "\t"),
            line_separator: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null_literal: text("null.literal", "null"),
            timestamp: take_flag(&mut properties, "print.timestamp", false),
            partition: take_flag(&mut properties, "print.partition", false),
            offset: take_flag(&mut properties, "print.offset", false),
            headers: take_flag(&mut properties, "print.headers", false),
            key: take_flag(&mut properties, "print.key", false),
            value: take_flag(&mut properties, "print.value", true),
        };
        if let Some(name) = properties.keys().next() {
            bail!(
                "the formatter has no property {name}: print.timestamp, print.partition, print.offset, print.headers, \
                 print.key, print.value, key.separator, line.separator, headers.separator, null.literal, \
                 key.deserializer, value.deserializer, headers.deserializer"
            );
        }
        Ok(formatter)
    }

    /// Writes one record. An error of the deserializer is told apart from one of the output by its kind,
    /// `InvalidData`.
    pub fn write(&self, record: &Printable<'_>, out: &mut impl Write) -> std::io::Result<()> {
        let mut fields: Vec<Vec<u8>> = Vec::with_capacity(6);
        if self.timestamp {
            fields.push(match record.timestamp {
                Stamp::None => b"NO_TIMESTAMP".to_vec(),
                Stamp::Create(ms) => format!("CreateTime:{ms}").into_bytes(),
                Stamp::LogAppend(ms) => format!("LogAppendTime:{ms}").into_bytes(),
            });
        }
        if self.partition {
            fields.push(format!("Partition:{}", record.partition).into_bytes());
        }
        if self.offset {
            fields.push(format!("Offset:{}", record.offset).into_bytes());
        }
        if self.headers {
            fields.push(self.headers_text(&record.headers)?);
        }
        if self.key {
            fields.push(self.text(record.key, self.read_key)?);
        }
        if self.value {
            fields.push(self.text(record.value, self.read_value)?);
        }
        out.write_all(&fields.join(self.key_separator.as_bytes()))?;
        out.write_all(self.line_separator.as_bytes())
    }

    fn headers_text(&self, headers: &[(&str, Option<&[u8]>)]) -> std::io::Result<Vec<u8>> {
        if headers.is_empty() {
            return Ok(b"NO_HEADERS".to_vec());
        }
        let mut all = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let mut pair = format!("{name}:").into_bytes();
            pair.extend(self.text(*value, self.read_header)?);
            all.push(pair);
        }
        Ok(all.join(self.headers_separator.as_bytes()))
    }

    fn text(&self, bytes: Option<&[u8]>, read: Deserialize) -> std::io::Result<Vec<u8>> {
        match bytes {
            None => Ok(self.null_literal.clone().into_bytes()),
            Some(bytes) => read(bytes).map_err(|why| std::io::Error::new(std::io::ErrorKind::InvalidData, why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(pairs: &[(&str, &str)]) -> String {
        let properties = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let record = Printable {
            timestamp: Stamp::Create(5),
            partition: 1,
            offset: 7,
            headers: vec![("a", Some(b"1")), ("b", None)],
            key: None,
            value: Some(b"v"),
        };
        let mut out = Vec::new();
        Formatter::new(properties).unwrap().write(&record, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_value_unless_more_is_asked_for() {
        assert_eq!(print(&[]), "v\n");
    }

    #[test]
    fn fields_come_in_kafkas_order() {
        let all = ["print.timestamp", "print.partition", "print.offset", "print.headers", "print.key"];
        let pairs: Vec<_> = all.iter().map(|name| (*name, "true")).collect();
        assert_eq!(print(&pairs), "CreateTime:5\tPartition:1\tOffset:7\ta:1,b:null\tnull\tv\n");
    }

    #[test]
    fn a_value_of_the_wrong_size_is_an_error() {
        let properties =
            Properties::from([("value.deserializer".to_owned(), "org.apache.kafka.LongDeserializer".to_owned())]);
        let record = Printable {
            timestamp: Stamp::None,
            partition: 0,
            offset: 0,
            headers: vec![],
            key: None,
            value: Some(b"short"),
        };
        let error = Formatter::new(properties).unwrap().write(&record, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
}
