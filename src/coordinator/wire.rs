//! Kafka's primitive types as the coordinators' records use them: big-endian numbers, strings and byte arrays with their
//! lengths in front, in the plain and in the flexible (KIP-482) form. Reads never reserve memory by a count they read.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Bytes that do not follow their schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// A field reaches beyond the end.
    #[error("a field reaches beyond the end")]
    Truncated,
    /// A length or count is negative where it must not be, or too large.
    #[error("a length is not valid")]
    Length,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Text,
    /// A variable-length number has more bytes than it may.
    #[error("a variable-length number is too long")]
    Varint,
    /// The value's schema version is one that this broker does not know.
    #[error("schema version {0} is not known")]
    Version(i16),
    /// A number names nothing that is known.
    #[error("{0} names nothing that is known")]
    Enum(i8),
}

/// Reads fields off the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Takes `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// An `int8`.
    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.array().map(i8::from_be_bytes)
    }

    /// An `int16`.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    /// An `int32`.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// An `int64`.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// An unsigned varint of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift).ok_or(Malformed::Varint)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }

    /// A length: `None` stands for null. `wide` tells 4-byte lengths from 2-byte ones in the plain form.
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>, Malformed> {
        if flexible {
            return Ok(self.unsigned_varint()?.checked_sub(1).map(|len| len as usize));
        }
        let len = if wide { self.i32()? } else { i32::from(self.i16()?) };
        match len {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| Malformed::Length),
        }
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, Malformed> {
        match self.length(flexible, false)? {
            None => Ok(None),
            Some(len) => std::str::from_utf8(self.take(len)?).map(Some).map_err(|_| Malformed::Text),
        }
    }

    /// A string.
    pub fn string(&mut self, flexible: bool) -> Result<&'a str, Malformed> {
        self.nullable_string(flexible)?.ok_or(Malformed::Length)
    }

    /// A byte array; null reads as empty.
    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8], Malformed> {
        match self.length(flexible, true)? {
            None => Ok(&[]),
            Some(len) => self.take(len),
        }
    }

    /// How many elements an array has; null reads as none. Never more than the bytes left, as each takes one at the least.
    pub fn array_len(&mut self, flexible: bool) -> Result<usize, Malformed> {
        let len = self.length(flexible, true)?.unwrap_or(0);
        if len > self.rest.len() { Err(Malformed::Length) } else { Ok(len) }
    }

    /// Skips the tagged fields at the end of a flexible structure.
    pub fn skip_tags(&mut self, flexible: bool) -> Result<(), Malformed> {
        if flexible {
            for _ in 0..self.unsigned_varint()? {
                self.unsigned_varint()?;
                let len = self.unsigned_varint()?;
                self.take(len as usize)?;
            }
        }
        Ok(())
    }
}

/// Writes a plain string. Longer ones than 32,767 bytes are cut at a character's boundary: callers check before.
pub fn put_string(out: &mut BytesMut, text: &str) {
    let text = cut(text, i16::MAX as usize);
    // At most i16::MAX, see above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// Writes a plain string that may be null.
pub fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

/// Writes plain bytes. They came in a request, so they are shorter than 2 GiB.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.put_slice(bytes);
}

fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_beyond_the_bytes_are_refused() {
        assert_eq!(Reader::new(&[0x7f, 0xff, 0xff, 0xff]).array_len(false), Err(Malformed::Length));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).array_len(true), Err(Malformed::Length));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff]).array_len(false), Ok(0));
        assert_eq!(Reader::new(&[0xff; 6]).unsigned_varint(), Err(Malformed::Varint));
    }

    #[test]
    fn strings_read_back_in_both_forms() {
        let mut out = BytesMut::new();
        put_string(&mut out, "né");
        put_nullable_string(&mut out, None);
        put_bytes(&mut out, &[1, 2]);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.string(false), Ok("né"));
        assert_eq!(reader.nullable_string(false), Ok(None));
        assert_eq!(reader.bytes(false), Ok(&[1, 2][..]));
        assert_eq!(reader.i16(), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[3, b'a', b'b']).string(true), Ok("ab"));
        assert_eq!(Reader::new(&[0]).nullable_string(true), Ok(None));
        assert_eq!(Reader::new(&[0, 1, 0xff]).string(false), Err(Malformed::Text));
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        let mut out = BytesMut::new();
        put_string(&mut out, &"é".repeat(20_000));
        assert_eq!(Reader::new(&out).string(false).map(str::len), Ok(32_766));
    }
}
