//! The records of a compressed batch, read as they come out of the codec: nothing is kept but a small window, so that a
//! batch that decompresses to a thousand times its size costs time but no memory.

use std::io::Read;

use crate::protocol::compress::{Codec, CompressError, malformed, with_reader};
use crate::protocol::records::{Record, RecordError, read_varint, read_varlong};

use super::ValidateError;
use crate::base::error::ErrorCode;
use crate::protocol::batch::BatchHeader;

/// Records of up to this size are read in one go; larger ones field by field.
const WINDOW: usize = 16 * 1024;
/// The longest varint.
const VARINT: usize = 10;

impl From<CompressError> for ValidateError {
    fn from(error: CompressError) -> Self {
        let code = match error {
            CompressError::TooLarge(_) => ErrorCode::MessageTooLarge,
            CompressError::Malformed { .. } => ErrorCode::InvalidRecord,
            CompressError::Refused { .. } => ErrorCode::UnknownServerError,
        };
        Self::new(code, error.to_string())
    }
}

/// Calls `each` with timestamp delta, offset delta and whether there is a key, for every record of the batch whose
/// compressed records are `body`. `limit` bounds how many bytes they may be.
pub(super) fn for_each(
    codec: Codec,
    header: &BatchHeader,
    body: &[u8],
    limit: usize,
    mut each: impl FnMut(i64, i32, bool),
) -> Result<(), ValidateError> {
    with_reader(codec, 2, body, |reader| {
        let mut window =
            Window { codec, reader, buffer: [0; WINDOW], start: 0, end: 0, at_end: false, left: limit, limit };
        for _ in 0..header.record_count {
            let (timestamp_delta, offset_delta, has_key) = window.next_record()?;
            each(timestamp_delta, offset_delta, has_key);
        }
        if window.start == window.end {
            window.fill()?;
        }
        if window.start < window.end {
            return Err(RecordError::Remaining(header.record_count).into());
        }
        Ok(())
    })
}

struct Window<'r> {
    codec: Codec,
    reader: &'r mut dyn Read,
    buffer: [u8; WINDOW],
    start: usize,
    end: usize,
    at_end: bool,
    /// How many bytes may still be read.
    left: usize,
    limit: usize,
}

impl Window<'_> {
    fn next_record(&mut self) -> Result<(i64, i32, bool), ValidateError> {
        loop {
            let bytes = &self.buffer[self.start..self.end];
            let mut at = 0;
            if let Ok(size) = read_varint(bytes, &mut at) {
                let size = usize::try_from(size).map_err(|_| RecordError::Structure)?;
                if size <= bytes.len() - at {
                    let mut at = 0;
                    let record = Record::read(bytes, &mut at)?;
                    let found = (record.timestamp_delta, record.offset_delta, record.key.is_some());
                    self.start += at;
                    return Ok(found);
                }
                if size > WINDOW - VARINT {
                    return self.long_record();
                }
            }
            if bytes.len() >= WINDOW || !self.fill()? {
                return Err(RecordError::Structure.into());
            }
        }
    }

    /// Reads once more, behind what is there; `false` at the end.
    fn fill(&mut self) -> Result<bool, ValidateError> {
        if self.at_end {
            return Ok(false);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let read = loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| malformed(self.codec, &error))?,
            }
        };
        self.at_end = read == 0;
        self.end += read;
        self.left = self.left.checked_sub(read).ok_or(CompressError::TooLarge(self.limit))?;
        Ok(read > 0)
    }

    fn long_record(&mut self) -> Result<(i64, i32, bool), ValidateError> {
        let mut left = usize::MAX;
        let size = self.varint(&mut left)?;
        left = usize::try_from(size).map_err(|_| RecordError::Structure)?;
        self.skip(1, &mut left)?;
        let timestamp_delta = self.read(&mut left, read_varlong)?;
        let offset_delta = self.varint(&mut left)?;
        let key_len = self.varint(&mut left)?;
        self.skip(key_len, &mut left)?;
        let value_len = self.varint(&mut left)?;
        self.skip(value_len, &mut left)?;
        let headers = self.varint(&mut left)?;
        if usize::try_from(headers).map_or(true, |headers| headers > left) {
            return Err(RecordError::HeaderCount(headers).into());
        }
        for _ in 0..headers {
            let key_len = self.varint(&mut left)?;
            if key_len < 0 {
                return Err(RecordError::HeaderKey(key_len).into());
            }
            self.skip(key_len, &mut left)?;
            let value_len = self.varint(&mut left)?;
            self.skip(value_len, &mut left)?;
        }
        if left != 0 {
            return Err(RecordError::Size.into());
        }
        Ok((timestamp_delta, offset_delta, key_len >= 0))
    }

    fn varint(&mut self, left: &mut usize) -> Result<i32, ValidateError> {
        self.read(left, read_varint)
    }

    fn read<T>(
        &mut self,
        left: &mut usize,
        parse: fn(&[u8], &mut usize) -> Result<T, RecordError>,
    ) -> Result<T, ValidateError> {
        while self.end - self.start < VARINT && self.fill()? {}
        let mut at = 0;
        let value = parse(&self.buffer[self.start..self.end], &mut at)?;
        self.start += at;
        *left = left.checked_sub(at).ok_or(RecordError::Size)?;
        Ok(value)
    }

    /// Skips bytes; a negative length is a null.
    fn skip(&mut self, len: i32, left: &mut usize) -> Result<(), ValidateError> {
        let mut len = usize::try_from(len).unwrap_or(0);
        *left = left.checked_sub(len).ok_or(RecordError::Size)?;
        while len > 0 {
            if self.start == self.end && !self.fill()? {
                return Err(RecordError::Structure.into());
            }
            let step = len.min(self.end - self.start);
            self.start += step;
            len -= step;
        }
        Ok(())
    }
}
