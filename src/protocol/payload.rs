//! What a response is made of: bytes in memory and slices of files, in the order they go on the wire.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

/// A run of bytes in a file, sent without passing through user space.
#[derive(Debug, Clone)]
pub struct FileSlice {
    /// The open file; kept alive until the slice has been sent, even if the segment is deleted meanwhile.
    pub file: Arc<File>,
    /// Where the slice begins, in bytes from the start of the file.
    pub position: u64,
    /// How many bytes it has.
    pub len: usize,
}

/// One piece of a response.
#[derive(Debug, Clone)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(FileSlice),
}

impl Part {
    /// The piece's size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(slice) => slice.len,
        }
    }

    /// Whether the piece has no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A whole response, without the four bytes of its length.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    /// The pieces in order.
    pub parts: Vec<Part>,
}

impl Payload {
    /// The size in bytes, which goes before it on the wire.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Part::is_empty)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { parts: vec![Part::Bytes(bytes)] }
    }
}
