//! What a config key is: its type, what it may hold, how it may change. Plain data; knows no particular key.

use std::fmt;

/// The type of a key's value (`ConfigDef.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits, signed.
    Int,
    /// 16 bits, signed.
    Short,
    /// 64 bits, signed.
    Long,
    /// A floating-point number.
    Double,
    /// Texts, comma separated.
    List,
    /// The name of a Java class.
    Class,
    /// Text that is never shown.
    Password,
}

impl Kind {
    /// The number DescribeConfigs gives it (KIP-569).
    pub const fn wire_code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Int => "a whole number of 32 bits",
            Self::Short => "a whole number of 16 bits",
            Self::Long => "a whole number of 64 bits",
            Self::Double => "a number",
            Self::String | Self::List | Self::Class | Self::Password => "any text",
        }
    }
}

/// How much a key matters, as Kafka's reference grades it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Look at it first.
    High,
    /// Look at it when something is amiss.
    Medium,
    /// Hardly ever.
    Low,
}

/// How a broker key may change without a restart (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only by a restart.
    ReadOnly,
    /// For one broker at a time.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
}

/// What Barnabas does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It acts on it.
    Acts,
    /// It knows the key and does not act on it yet: setting it is a warning.
    NotYet,
    /// Its way of working leaves the key without a meaning, for this reason: setting it is a warning.
    Moot(&'static str),
    /// Acting as if a value other than the default were not there would be unsafe: setting one stops the start.
    Refused,
}

/// What a value must meet beyond its type.
#[derive(Debug, Clone, Copy)]
pub enum Valid {
    /// Nothing more.
    Any,
    /// Not below this.
    AtLeast(i64),
    /// Between these two, both included.
    Between(i64, i64),
    /// Between these two, both included.
    Fraction(f64, f64),
    /// -1, or between these two.
    MinusOneOr(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of some of these words.
    SomeOf(&'static [&'static str]),
    /// Not empty.
    NonEmpty,
    /// A version of Kafka, such as `2.8` or `2.8-IV1`.
    Version,
    /// `partition:broker` pairs, or `*`.
    ThrottledReplicas,
}

/// One key: a line of a table.
#[derive(Debug, Clone, Copy)]
pub struct KeyDef {
    /// The key as it is written.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What holds when nothing is set; `None` for no value.
    pub default: Option<&'static str>,
    /// What a value must meet.
    pub valid: Valid,
    /// How much it matters.
    pub importance: Importance,
    /// How it may change.
    pub mode: Mode,
    /// What Barnabas does with it.
    pub support: Support,
    /// What it is for.
    pub doc: &'static str,
}

/// A value of some [`Kind`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// Of [`Kind::Boolean`].
    Bool(bool),
    /// Of [`Kind::Int`], [`Kind::Short`], [`Kind::Long`].
    Whole(i64),
    /// Of [`Kind::Double`].
    Double(f64),
    /// Of [`Kind::String`], [`Kind::Class`], [`Kind::Password`].
    Text(String),
    /// Of [`Kind::List`].
    List(Vec<String>),
}

impl KeyDef {
    /// Whether its value is kept from view.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Whether a change needs a restart.
    pub fn is_read_only(&self) -> bool {
        self.mode == Mode::ReadOnly
    }

    /// Reads `text` as this key's value.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is not of the key's type or not allowed.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        parse_kind(self.kind, text.trim())
            .filter(|value| self.valid.accepts(value))
            .ok_or_else(|| ConfigError::invalid(self, text))
    }

    /// The default as a value.
    pub fn default_value(&self) -> Value {
        self.default.and_then(|text| parse_kind(self.kind, text)).unwrap_or(Value::Null)
    }

    /// What may be set, in words.
    pub fn allowed(&self) -> String {
        let kind = self.kind.allowed();
        match self.valid {
            Valid::Any => kind.to_owned(),
            Valid::AtLeast(low) => format!("{kind}, at least {low}"),
            Valid::Between(low, high) => format!("{kind} from {low} to {high}"),
            Valid::Fraction(low, high) => format!("{kind} from {low} to {high}"),
            Valid::MinusOneOr(low, high) => format!("-1, or {kind} from {low} to {high}"),
            Valid::OneOf(words) => format!("one of {}", words.join(", ")),
            Valid::SomeOf(words) => format!("some of {}, comma separated", words.join(", ")),
            Valid::NonEmpty => "any text that is not empty".to_owned(),
            Valid::Version => "a version of Kafka from 0.8.0 to 3.9, such as 2.8 or 2.8-IV1".to_owned(),
            Valid::ThrottledReplicas => {
                "* for all replicas, or partition:broker pairs, comma separated, or nothing".to_owned()
            }
        }
    }
}

fn parse_kind(kind: Kind, text: &str) -> Option<Value> {
    Some(match kind {
        Kind::Boolean if text.eq_ignore_ascii_case("true") => Value::Bool(true),
        Kind::Boolean if text.eq_ignore_ascii_case("false") => Value::Bool(false),
        Kind::Boolean => return None,
        Kind::Int => Value::Whole(text.parse::<i32>().ok()?.into()),
        Kind::Short => Value::Whole(text.parse::<i16>().ok()?.into()),
        Kind::Long => Value::Whole(text.parse().ok()?),
        Kind::Double => Value::Double(text.parse::<f64>().ok().filter(|d| !d.is_nan())?),
        Kind::String | Kind::Class | Kind::Password => Value::Text(text.to_owned()),
        Kind::List if text.is_empty() => Value::List(Vec::new()),
        Kind::List => Value::List(text.split(',').map(|item| item.trim().to_owned()).collect()),
    })
}

impl Valid {
    fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, _) => true,
            (Self::AtLeast(low), Value::Whole(n)) => n >= low,
            (Self::Between(low, high), Value::Whole(n)) => (low..=high).contains(&n),
            (Self::MinusOneOr(low, high), Value::Whole(n)) => *n == -1 || (low..=high).contains(&n),
            (Self::Fraction(low, high), Value::Double(d)) => (low..=high).contains(&d),
            (Self::OneOf(words), Value::Text(text)) => words.contains(&text.as_str()),
            (Self::SomeOf(words), Value::List(items)) => items.iter().all(|item| words.contains(&item.as_str())),
            (Self::NonEmpty, Value::Text(text)) => !text.is_empty(),
            (Self::Version, Value::Text(text)) => super::version::KafkaVersion::parse(text).is_some(),
            (Self::ThrottledReplicas, Value::List(items)) => throttled_replicas(items),
            _ => false,
        }
    }
}

/// `ThrottledReplicaListValidator`: all of them, or pairs of numbers.
fn throttled_replicas(items: &[String]) -> bool {
    let pair = |item: &String| {
        item.split_once(':').is_some_and(|(p, b)| [p, b].iter().all(|n| n.trim().parse::<u32>().is_ok()))
    };
    items == ["*"] || items.iter().all(pair)
}

impl fmt::Display for Value {
    /// As DescribeConfigs shows it, the way Java writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Bool(b) => b.fmt(f),
            Self::Whole(n) => n.fmt(f),
            Self::Double(d) => f.write_str(&java_double(*d)),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// A number as Java's `Double.toString` writes it.
fn java_double(d: f64) -> String {
    let magnitude = d.abs();
    if d == 0.0 || (1e-3..1e7).contains(&magnitude) || !d.is_finite() {
        return format!("{d:?}");
    }
    let text = format!("{d:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// Reads a typed field out of a [`Value`]; `None` where the table's type and the field's type disagree.
pub trait FromValue: Sized {
    /// The field's value.
    fn from_value(value: Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($ty:ty: $pattern:pat => $result:expr;)*) => {
        $(impl FromValue for $ty {
            fn from_value(value: Value) -> Option<Self> {
                match value { $pattern => $result, _ => None }
            }
        })*
    };
}

from_value! {
    bool: Value::Bool(b) => Some(b);
    i16: Value::Whole(n) => n.try_into().ok();
    i32: Value::Whole(n) => n.try_into().ok();
    i64: Value::Whole(n) => Some(n);
    f64: Value::Double(d) => Some(d);
    String: Value::Text(text) => Some(text);
    Vec<String>: Value::List(items) => Some(items);
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// What stops a start or refuses a change. Its text names the key, the value, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not of the key's type, or out of its bounds.
    #[error("{key}={value} is not valid: allowed is {allowed}")]
    Invalid {
        /// The key.
        key: String,
        /// Its value, hidden if it is a password.
        value: String,
        /// What may be set.
        allowed: String,
    },
    /// A key without default that must be set.
    #[error("{key} must be set: {allowed}")]
    Missing {
        /// The key.
        key: String,
        /// What may be set.
        allowed: String,
    },
    /// Fine by itself, at odds with another key.
    #[error("{key}={value} does not fit: {rule}")]
    Conflict {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// The rule that is broken.
        rule: String,
    },
    /// Kafka could do it, Barnabas cannot yet, and going on without it would be unsafe.
    #[error("{key}={value} cannot be ignored safely, and Barnabas does not support it yet: {why}")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What would be unsafe.
        why: String,
    },
    /// Kafka or Barnabas takes it only at a start.
    #[error("{key} cannot be changed while the broker runs: {why}")]
    NotDynamic {
        /// The key.
        key: String,
        /// What it waits for.
        why: String,
    },
    /// There is no such key.
    #[error("{key} is not a {scope} config{}", nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// The key.
        key: String,
        /// `topic` or `broker`.
        scope: &'static str,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A file that cannot be read or is not a properties file.
    #[error("cannot read {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// The cause.
        why: String,
    },
}

impl ConfigError {
    /// `text` is not what `def` allows.
    pub fn invalid(def: &KeyDef, text: &str) -> Self {
        let value = if def.is_sensitive() { "[hidden]".to_owned() } else { text.to_owned() };
        Self::Invalid { key: def.name.to_owned(), value, allowed: def.allowed() }
    }

    /// `value` of `key` is not `allowed`.
    pub(crate) fn not_allowed(key: &str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self::Invalid { key: key.to_owned(), value: value.to_string(), allowed: allowed.into() }
    }

    /// `value` of `key` breaks `rule`.
    pub(crate) fn conflict(key: &str, value: impl fmt::Display, rule: impl Into<String>) -> Self {
        Self::Conflict { key: key.to_owned(), value: value.to_string(), rule: rule.into() }
    }

    /// The key at fault; `None` for a file.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Invalid { key, .. }
            | Self::Missing { key, .. }
            | Self::Conflict { key, .. }
            | Self::Unsupported { key, .. }
            | Self::NotDynamic { key, .. }
            | Self::Unknown { key, .. } => Some(key),
            Self::File { .. } => None,
        }
    }
}

/// Something to tell the user that does not stop the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn def(kind: Kind, valid: Valid) -> KeyDef {
        let (importance, mode, support) = (Importance::High, Mode::ReadOnly, Support::Acts);
        KeyDef { name: "some.key", kind, default: None, valid, importance, mode, support, doc: "" }
    }

    #[test]
    fn an_error_names_key_value_and_what_is_allowed() {
        let error = def(Kind::Int, Valid::AtLeast(1)).parse("0").unwrap_err();
        assert_eq!(error.to_string(), "some.key=0 is not valid: allowed is a whole number of 32 bits, at least 1");
        let secret = def(Kind::Password, Valid::NonEmpty).parse("").unwrap_err();
        assert!(secret.to_string().contains("[hidden]"));
    }

    #[test]
    fn values_are_read_as_java_reads_them() {
        assert_eq!(def(Kind::Boolean, Valid::Any).parse(" TRUE "), Ok(Value::Bool(true)));
        assert_eq!(def(Kind::Int, Valid::Any).parse("+7"), Ok(Value::Whole(7)));
        assert!(def(Kind::Int, Valid::Any).parse("2147483648").is_err());
        assert!(def(Kind::Short, Valid::Any).parse("40000").is_err());
        let list = def(Kind::List, Valid::Any);
        assert_eq!(list.parse("a , b"), Ok(Value::List(vec!["a".into(), "b".into()])));
        assert_eq!(list.parse(""), Ok(Value::List(vec![])));
        let throttled = def(Kind::List, Valid::ThrottledReplicas);
        assert!(throttled.parse("0:1,1:2").is_ok() && throttled.parse("*").is_ok() && throttled.parse("").is_ok());
        assert!(throttled.parse("0:1,x").is_err());
    }

    #[test]
    fn doubles_are_written_as_java_writes_them() {
        for (d, text) in [(0.5, "0.5"), (f64::MAX, "1.7976931348623157E308"), (1e8, "1.0E8"), (100.0, "100.0")] {
            assert_eq!(java_double(d), text);
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_read_back(n: i64) {
            let value = def(Kind::Long, Valid::Any).parse(&n.to_string()).expect("a long");
            prop_assert_eq!(value.to_string(), n.to_string());
        }

        #[test]
        fn no_text_panics(text in ".*", pick in 0usize..9) {
            let kinds = [Kind::Boolean, Kind::String, Kind::Int, Kind::Short, Kind::Long, Kind::Double, Kind::List,
                Kind::Class, Kind::Password];
            let _ = def(kinds[pick], Valid::Any).parse(&text);
            let _ = def(Kind::List, Valid::ThrottledReplicas).parse(&text);
            let _ = def(Kind::String, Valid::Version).parse(&text);
        }
    }
}
