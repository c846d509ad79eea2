//! The records inside a magic-2 batch (KIP-82, KIP-98): varints, a view of one record, walking over them, writing them.
//!
//! Invariant: a view never reads outside the record it was made from, whatever its bytes say. It allocates nothing.

/// Why records could not be read (Kafka's `InvalidRecordException`, wire code INVALID_RECORD).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside a field, or a varint is too long.
    #[error("found an invalid record structure")]
    Structure,
    /// The record's own length does not match its fields.
    #[error("the record's fields do not fill its length")]
    Size,
    /// A negative number of headers, or more than bytes are left.
    #[error("found an invalid number of record headers: {0}")]
    HeaderCount(i32),
    /// A header key's length is negative.
    #[error("found a negative header key length: {0}")]
    HeaderKey(i32),
    /// Bytes are left after the last record.
    #[error("the batch declares {0} records, but bytes are left after them")]
    Remaining(i32),
    /// The batch's record count is negative.
    #[error("found an invalid record count: {0}")]
    Count(i32),
}

/// Reads an unsigned varint of at most 5 bytes; the excess bits of the fifth are ignored, as the original does.
#[inline]
pub fn read_unsigned_varint(bytes: &[u8], at: &mut usize) -> Result<u32, RecordError> {
    let first = *bytes.get(*at).ok_or(RecordError::Structure)?;
    *at += 1;
    if first < 0x80 {
        return Ok(u32::from(first));
    }
    let mut value = u32::from(first & 0x7f);
    for shift in [7, 14, 21, 28] {
        let byte = *bytes.get(*at).ok_or(RecordError::Structure)?;
        *at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(RecordError::Structure)
}

/// Reads a zigzag varint of 32 bits.
#[inline]
pub fn read_varint(bytes: &[u8], at: &mut usize) -> Result<i32, RecordError> {
    let value = read_unsigned_varint(bytes, at)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// Reads a zigzag varint of 64 bits (at most 10 bytes).
#[inline]
pub fn read_varlong(bytes: &[u8], at: &mut usize) -> Result<i64, RecordError> {
    let mut value = 0_u64;
    let mut shift = 0;
    loop {
        let byte = *bytes.get(*at).ok_or(RecordError::Structure)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
        shift += 7;
        if shift > 63 {
            return Err(RecordError::Structure);
        }
    }
}

/// Appends an unsigned varint.
pub fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a zigzag varint of 32 bits.
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned_varint(out, ((value << 1) ^ (value >> 31)).cast_unsigned());
}

/// Appends a zigzag varint of 64 bits.
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// How many bytes [`put_varint`] writes.
pub const fn varint_len(value: i32) -> usize {
    let zigzag = ((value << 1) ^ (value >> 31)).cast_unsigned();
    (38 - zigzag.leading_zeros() as usize) / 7 + (zigzag == 0) as usize
}

/// How many bytes [`put_varlong`] writes.
pub const fn varlong_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    (70 - zigzag.leading_zeros() as usize) / 7 + (zigzag == 0) as usize
}

/// Takes `len` bytes; a negative length is a null.
#[inline]
fn take<'a>(bytes: &'a [u8], at: &mut usize, len: i32) -> Result<Option<&'a [u8]>, RecordError> {
    let Ok(len) = usize::try_from(len) else { return Ok(None) };
    let end = at.checked_add(len).ok_or(RecordError::Structure)?;
    let slice = bytes.get(*at..end).ok_or(RecordError::Structure)?;
    *at = end;
    Ok(Some(slice))
}

/// One record, as a view of the batch's (uncompressed) bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Unused by the format so far: 0.
    pub attributes: i8,
    /// Its timestamp less the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Its offset less the batch's base offset.
    pub offset_delta: i32,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; a record without one is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers, in order and with duplicates.
    pub headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// Reads the record that begins at `*at` and moves `*at` behind it.
    ///
    /// # Errors
    /// [`RecordError`] if the bytes are no record.
    pub fn read(bytes: &'a [u8], at: &mut usize) -> Result<Self, RecordError> {
        let size = usize::try_from(read_varint(bytes, at)?).map_err(|_| RecordError::Structure)?;
        let end = at.checked_add(size).filter(|end| *end <= bytes.len()).ok_or(RecordError::Structure)?;
        let body = &bytes[..end];
        let attributes = i8::from_be_bytes([*body.get(*at).ok_or(RecordError::Structure)?]);
        *at += 1;
        let timestamp_delta = read_varlong(body, at)?;
        let offset_delta = read_varint(body, at)?;
        let key_len = read_varint(body, at)?;
        let key = take(body, at, key_len)?;
        let value_len = read_varint(body, at)?;
        let value = take(body, at, value_len)?;
        let headers = Headers::read(body, at)?;
        if *at != end {
            return Err(RecordError::Size);
        }
        Ok(Self { attributes, timestamp_delta, offset_delta, key, value, headers })
    }

    /// Appends the record's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, i32::try_from(self.body_len()).unwrap_or(i32::MAX));
        out.push(self.attributes.cast_unsigned());
        put_varlong(out, self.timestamp_delta);
        put_varint(out, self.offset_delta);
        put_nullable(out, self.key);
        put_nullable(out, self.value);
        put_varint(out, self.headers.count);
        out.extend_from_slice(self.headers.bytes);
    }

    /// How many bytes [`Record::write`] appends.
    pub fn encoded_len(&self) -> usize {
        let body = self.body_len();
        body + varint_len(i32::try_from(body).unwrap_or(i32::MAX))
    }

    fn body_len(&self) -> usize {
        1 + varlong_len(self.timestamp_delta)
            + varint_len(self.offset_delta)
            + nullable_len(self.key)
            + nullable_len(self.value)
            + varint_len(self.headers.count)
            + self.headers.bytes.len()
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX)));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_len(i32::try_from(bytes.len()).unwrap_or(i32::MAX)) + bytes.len())
}

/// A record's headers, checked when the record was read; iterating reads them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: i32,
    bytes: &'a [u8],
}

/// One header: its key's bytes (UTF-8 by convention) and its value.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count <= 0
    }

    /// The headers in order, duplicates included.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let (bytes, mut at, count) = (self.bytes, 0, self.count.max(0));
        (0..count).map_while(move |_| read_header(bytes, &mut at).ok())
    }

    /// Encodes `headers` into `storage` (cleared first) and views them there, for [`Record::write`].
    pub fn encode<'h>(headers: impl IntoIterator<Item = Header<'h>>, storage: &'a mut Vec<u8>) -> Self {
        storage.clear();
        let mut count = 0;
        for (key, value) in headers {
            put_nullable(storage, Some(key));
            put_nullable(storage, value);
            count += 1;
        }
        Self { count, bytes: storage }
    }

    fn read(body: &'a [u8], at: &mut usize) -> Result<Self, RecordError> {
        let count = read_varint(body, at)?;
        if count == 0 {
            return Ok(Self::default());
        }
        if usize::try_from(count).map_or(true, |count| count > body.len() - *at) {
            return Err(RecordError::HeaderCount(count));
        }
        let start = *at;
        for _ in 0..count {
            read_header(body, at)?;
        }
        Ok(Self { count, bytes: &body[start..*at] })
    }
}

fn read_header<'a>(body: &'a [u8], at: &mut usize) -> Result<Header<'a>, RecordError> {
    let key_len = read_varint(body, at)?;
    let key = take(body, at, key_len)?.ok_or(RecordError::HeaderKey(key_len))?;
    let value_len = read_varint(body, at)?;
    Ok((key, take(body, at, value_len)?))
}

/// The records of a magic-2 batch: `bytes` is what follows the header, uncompressed. After an error it ends.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    left: i32,
    count: i32,
}

/// Walks over the `count` records in `bytes`, and checks at the end that no byte is left.
pub fn records(bytes: &[u8], count: i32) -> Records<'_> {
    Records { bytes, at: 0, left: count, count }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left < 0 {
            let count = self.count;
            (self.left, self.count) = (0, 0);
            self.at = self.bytes.len();
            return (count < 0).then_some(Err(RecordError::Count(count)));
        }
        if self.left == 0 {
            if self.at < self.bytes.len() {
                self.at = self.bytes.len();
                return Some(Err(RecordError::Remaining(self.count)));
            }
            return None;
        }
        self.left -= 1;
        let record = Record::read(self.bytes, &mut self.at);
        if record.is_err() {
            (self.left, self.at) = (0, self.bytes.len());
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_read_back(value: i32, long: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let split = out.len();
            put_varlong(&mut out, long);
            prop_assert_eq!(out.len() - split, varlong_len(long));
            let mut at = 0;
            prop_assert_eq!(read_varint(&out, &mut at), Ok(value));
            prop_assert_eq!(read_varlong(&out, &mut at), Ok(long));
            prop_assert_eq!(at, out.len());
        }

        #[test]
        fn records_read_back(
            timestamp_delta: i64,
            offset_delta: i32,
            key: Option<Vec<u8>>,
            value: Option<Vec<u8>>,
            headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        ) {
            let mut storage = Vec::new();
            let pairs = headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
            let headers = Headers::encode(pairs.clone(), &mut storage);
            let record =
                Record { attributes: 0, timestamp_delta, offset_delta, key: key.as_deref(), value: value.as_deref(), headers };
            let mut out = Vec::new();
            record.write(&mut out);
            prop_assert_eq!(out.len(), record.encoded_len());
            record.write(&mut out);
            let read: Result<Vec<_>, _> = records(&out, 2).collect();
            prop_assert_eq!(read.clone(), Ok(vec![record, record]));
            prop_assert!(read.is_ok_and(|read| read[1].headers.iter().eq(pairs)));
            prop_assert_eq!(records(&out, 1).last(), Some(Err(RecordError::Remaining(1))));
            prop_assert_eq!(records(&out, 3).last(), Some(Err(RecordError::Structure)));
            prop_assert_eq!(records(&out, -1).last(), Some(Err(RecordError::Count(-1))));
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, count: i32) {
            for record in records(&bytes, count).flatten() {
                prop_assert_eq!(record.headers.iter().count(), record.headers.len());
            }
        }
    }

    #[test]
    fn varint_lengths_at_the_edges() {
        for (value, len) in [(0, 1), (-1, 1), (63, 1), (64, 2), (-64, 1), (-65, 2), (i32::MAX, 5), (i32::MIN, 5)] {
            assert_eq!(varint_len(value), len, "{value}");
        }
        assert_eq!(varlong_len(0), 1);
        assert_eq!(varlong_len(i64::MIN), 10);
    }
}
