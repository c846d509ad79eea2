//! A guard that every request passes before `kafka-protocol` decodes it. That crate reserves memory by the counts it
//! reads, whatever they are; here the wire shape of the request is walked first, without allocating, so that a count that
//! the bytes behind it do not bear out never reaches the decoder.
//!
//! Invariant: a request that passes decodes into at most [`decoded_limit`] bytes. Knows shapes, not meanings: a null where
//! none may be, or a string that is no UTF-8, is left for the decoder to refuse.

use kafka_protocol::messages::ApiKey;

use super::records::read_unsigned_varint;

pub mod random;
mod table;

/// Why a request may not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The key is none of the table's.
    #[error("unknown request key {0}")]
    UnknownKey(i16),
    /// The bytes end inside a field, or a length in them goes beyond their end.
    #[error("the request ends inside a field, at byte {0}")]
    Truncated(usize),
    /// A tag above the largest i32, or a known tagged field that does not fill the length it claims.
    #[error("a tagged field is not what it claims to be, at byte {0}")]
    Tag(usize),
    /// It would take far more memory than its bytes.
    #[error("the request would decode into more than {0} bytes")]
    Expansion(usize),
}

/// The most memory, in bytes, that a request of `frame_len` bytes may decode into. Real requests take up to 12 times
/// their bytes (topics with short names), and 17 times with a tagged field of a later release in every partition; the
/// constant leaves room for small ones.
pub const fn decoded_limit(frame_len: usize) -> usize {
    frame_len.saturating_mul(20).saturating_add(64 * 1024)
}

/// What a field is made of. The same shape serves the plain and the flexible encoding (KIP-482).
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string: its length has 2 bytes, or is a varint.
    Text,
    /// Bytes: their length has 4 bytes, or is a varint.
    Blob,
    /// An array of structs.
    Structs(&'static [Field]),
    /// An array of single values.
    List(&'static Kind),
    /// A struct of its own.
    Nested(&'static [Field]),
}

/// A field with the versions that have it.
#[derive(Debug, Clone, Copy)]
struct Field {
    kind: Kind,
    first: i16,
    last: i16,
    tag: Option<u32>,
}

/// A request's fields, and the first version that is flexible.
#[derive(Debug, Clone, Copy)]
struct Request {
    key: i16,
    flexible: i16,
    fields: &'static [Field],
}

const fn field(kind: Kind) -> Field {
    Field { kind, first: 0, last: i16::MAX, tag: None }
}

const I8: Field = field(Kind::Fixed(1));
const I16: Field = field(Kind::Fixed(2));
const I32: Field = field(Kind::Fixed(4));
const I64: Field = field(Kind::Fixed(8));
const UUID: Field = field(Kind::Fixed(16));
const STRING: Field = field(Kind::Text);
const BYTES: Field = field(Kind::Blob);

const fn structs(fields: &'static [Field]) -> Field {
    field(Kind::Structs(fields))
}

const fn nested(fields: &'static [Field]) -> Field {
    field(Kind::Nested(fields))
}

const fn list(element: Field) -> Field {
    field(Kind::List(match element.kind {
        Kind::Text => &Kind::Text,
        Kind::Fixed(8) => &Kind::Fixed(8),
        Kind::Fixed(16) => &Kind::Fixed(16),
        _ => &Kind::Fixed(4),
    }))
}

const fn request(key: i16, flexible: i16, fields: &'static [Field]) -> Request {
    Request { key, flexible, fields }
}

impl Field {
    const fn since(mut self, first: i16) -> Self {
        self.first = first;
        self
    }

    const fn until(mut self, last: i16) -> Self {
        self.last = last;
        self
    }

    const fn between(self, first: i16, last: i16) -> Self {
        self.since(first).until(last)
    }

    const fn tagged(mut self, tag: u32, first: i16) -> Self {
        self.tag = Some(tag);
        self.since(first)
    }

    const fn is_in(&self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }
}

fn shape_of(key: i16) -> Option<&'static Request> {
    let at = table::REQUESTS.binary_search_by_key(&key, |request| request.key).ok()?;
    table::REQUESTS.get(at)
}

/// Whether the table has that key, which is to say whether ZooKeeper-mode brokers know it.
pub fn is_known(key: i16) -> bool {
    shape_of(key).is_some()
}

/// Whether requests of `key` and `version` are in the flexible encoding (compact lengths, tagged fields). `None` for an
/// unknown key; a version newer than all known counts as flexible if the newest is.
pub fn is_flexible(key: i16, version: i16) -> Option<bool> {
    shape_of(key).map(|request| version >= request.flexible)
}

/// Walks a request's body (what follows its header) and returns how many bytes of it the request has; bytes may follow.
///
/// # Errors
/// [`ShapeError`] if it may not be decoded.
pub fn check(key: i16, version: i16, body: &[u8]) -> Result<usize, ShapeError> {
    let shape = shape_of(key).ok_or(ShapeError::UnknownKey(key))?;
    walk(shape.fields, version, version >= shape.flexible, body)
}

/// [`check`] for a key of `kafka-protocol`.
///
/// # Errors
/// As [`check`].
pub fn check_request(key: ApiKey, version: i16, body: &[u8]) -> Result<usize, ShapeError> {
    check(key as i16, version, body)
}

/// Walks a consumer's `ConsumerProtocolSubscription` of `version`, behind its two bytes of version.
///
/// # Errors
/// [`ShapeError`] if it may not be decoded.
pub fn check_subscription(version: i16, body: &[u8]) -> Result<usize, ShapeError> {
    walk(table::SUBSCRIPTION, version, false, body)
}

/// Walks a consumer's `ConsumerProtocolAssignment` of `version`, behind its two bytes of version.
///
/// # Errors
/// [`ShapeError`] if it may not be decoded.
pub fn check_assignment(version: i16, body: &[u8]) -> Result<usize, ShapeError> {
    walk(table::ASSIGNMENT, version, false, body)
}

fn walk(fields: &[Field], version: i16, flexible: bool, body: &[u8]) -> Result<usize, ShapeError> {
    let limit = decoded_limit(body.len());
    let mut walker = Walker { bytes: body, at: 0, version, flexible, left: limit, limit };
    walker.fields(fields)?;
    Ok(walker.at)
}

/// What decoded things take at most, in bytes.
mod cost {
    /// A number, with its padding.
    pub const NUMBER: usize = 8;
    /// A string or bytes: a view of the frame.
    pub const VIEW: usize = 32;
    /// A vector, or a map of tagged fields.
    pub const COLLECTION: usize = 24;
    /// A map's first node, which the first unknown tagged field of a struct allocates.
    pub const FIRST_TAG: usize = 512;
    /// A further entry of the map.
    pub const TAG: usize = 96;
}

struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
    /// How much memory may still be asked for.
    left: usize,
    limit: usize,
}

impl Walker<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        self.charge(cost::COLLECTION)?;
        for field in fields {
            if field.is_in(self.version) && field.tag.is_none() {
                self.value(&field.kind)?;
            } else {
                self.charge(field.kind.cost())?;
            }
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn value(&mut self, kind: &Kind) -> Result<(), ShapeError> {
        self.charge(kind.cost())?;
        match kind {
            Kind::Fixed(len) => self.skip(*len),
            Kind::Text => {
                let len = if self.flexible { self.compact_len()? } else { i16::from_be_bytes(self.take()?).into() };
                self.skip_nullable(len)
            }
            Kind::Blob => {
                let len = self.count()?;
                self.skip_nullable(len)
            }
            Kind::Structs(fields) => {
                for _ in 0..self.elements()? {
                    self.fields(fields)?;
                }
                Ok(())
            }
            Kind::List(element) => self.list(element),
            Kind::Nested(fields) => self.fields(fields),
        }
    }

    fn list(&mut self, element: &Kind) -> Result<(), ShapeError> {
        let count = self.elements()?;
        if let Kind::Fixed(len) = element {
            let all = count.checked_mul(*len).ok_or(ShapeError::Truncated(self.at))?;
            return self.skip(all);
        }
        for _ in 0..count {
            self.value(element)?;
        }
        Ok(())
    }

    fn tags(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        let count = self.varint()?;
        let mut unknown = cost::FIRST_TAG;
        for _ in 0..count {
            let tag = self.varint()?;
            if i32::try_from(tag).is_err() {
                return Err(ShapeError::Tag(self.at));
            }
            let size = self.varint()? as usize;
            let known = fields.iter().find(|field| field.tag == Some(tag) && field.is_in(self.version));
            let Some(field) = known else {
                self.charge(unknown)?;
                unknown = cost::TAG;
                self.skip(size)?;
                continue;
            };
            let end = self.at.saturating_add(size);
            self.value(&field.kind)?;
            if self.at != end {
                return Err(ShapeError::Tag(self.at));
            }
        }
        Ok(())
    }

    /// The count of an array, which cannot be more than the bytes left; 0 for a null one.
    fn elements(&mut self) -> Result<usize, ShapeError> {
        let count = usize::try_from(self.count()?).unwrap_or(0);
        if count > self.bytes.len() - self.at {
            return Err(ShapeError::Truncated(self.at));
        }
        Ok(count)
    }

    fn count(&mut self) -> Result<i64, ShapeError> {
        if self.flexible { self.compact_len() } else { Ok(i32::from_be_bytes(self.take()?).into()) }
    }

    fn compact_len(&mut self) -> Result<i64, ShapeError> {
        Ok(i64::from(self.varint()?) - 1)
    }

    #[inline]
    fn varint(&mut self) -> Result<u32, ShapeError> {
        read_unsigned_varint(self.bytes, &mut self.at).map_err(|_| ShapeError::Truncated(self.at))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ShapeError> {
        let at = self.at;
        self.skip(N)?;
        Ok(super::batch::field(self.bytes, at))
    }

    fn skip_nullable(&mut self, len: i64) -> Result<(), ShapeError> {
        self.skip(usize::try_from(len).unwrap_or(0))
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<(), ShapeError> {
        if len > self.bytes.len() - self.at {
            return Err(ShapeError::Truncated(self.at));
        }
        self.at += len;
        Ok(())
    }

    #[inline]
    fn charge(&mut self, bytes: usize) -> Result<(), ShapeError> {
        self.left = self.left.checked_sub(bytes).ok_or(ShapeError::Expansion(self.limit))?;
        Ok(())
    }
}

impl Kind {
    const fn cost(&self) -> usize {
        match self {
            Self::Fixed(16) => 16,
            Self::Fixed(_) => cost::NUMBER,
            Self::Text | Self::Blob => cost::VIEW,
            Self::Structs(_) | Self::List(_) => cost::COLLECTION,
            Self::Nested(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
