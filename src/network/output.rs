//! Responses waiting to be written, as one run of pieces. Small pieces of memory are gathered into one buffer, so that
//! the answers to pipelined requests leave in one call. Knows the order of bytes, not the socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::protocol::payload::{FileSlice, Part, Payload};

/// A piece of memory up to this size is copied into the gathering buffer rather than referred to, in bytes.
const COPIED: usize = 1024;
/// How many pieces of memory go in one call.
const MAX_SLICES: usize = 64;

#[derive(Debug)]
enum Piece {
    Gathered(BytesMut),
    Memory(Bytes),
    File(FileSlice),
}

/// What is to be written next.
#[derive(Debug)]
pub enum Next {
    /// Pieces of memory; `true` if a file follows them.
    Memory(bool),
    /// A slice of a file.
    File,
    /// All has been written.
    Nothing,
}

/// The responses of one connection that have not been written yet.
#[derive(Debug, Default)]
pub struct Output {
    pieces: VecDeque<Piece>,
    len: usize,
    has_file: bool,
}

impl Output {
    /// Adds a response with its length before it. Fails if it is longer than a frame can be.
    pub fn push(&mut self, payload: Payload) -> Result<(), PayloadTooLong> {
        let len = payload.len();
        let prefix = i32::try_from(len).map_err(|_| PayloadTooLong(len))?;
        self.len += len + 4;
        self.gather(&prefix.to_be_bytes());
        for part in payload.parts {
            match part {
                part if part.is_empty() => {}
                Part::Bytes(bytes) if bytes.len() <= COPIED => self.gather(&bytes),
                Part::Bytes(bytes) => self.pieces.push_back(Piece::Memory(bytes)),
                Part::File(slice) => {
                    self.has_file = true;
                    self.pieces.push_back(Piece::File(slice));
                }
            }
        }
        Ok(())
    }

    fn gather(&mut self, bytes: &[u8]) {
        match self.pieces.back_mut() {
            Some(Piece::Gathered(gathered)) => gathered.extend_from_slice(bytes),
            _ => {
                let mut gathered = BytesMut::with_capacity(bytes.len().max(256));
                gathered.extend_from_slice(bytes);
                self.pieces.push_back(Piece::Gathered(gathered));
            }
        }
    }

    /// How many bytes are waiting, those of files too.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether a slice of a file is among what waits.
    pub fn has_file(&self) -> bool {
        self.has_file
    }

    /// What comes next.
    pub fn next(&self) -> Next {
        match self.pieces.front() {
            None => Next::Nothing,
            Some(Piece::File(_)) => Next::File,
            Some(_) => {
                let memory = self.pieces.iter().take_while(|piece| !matches!(piece, Piece::File(_))).count();
                Next::Memory(memory < self.pieces.len())
            }
        }
    }

    /// The pieces of memory at the front.
    pub fn slices(&self) -> SmallVec<[IoSlice<'_>; 8]> {
        let memory = self.pieces.iter().map_while(|piece| match piece {
            Piece::Gathered(bytes) => Some(IoSlice::new(bytes)),
            Piece::Memory(bytes) => Some(IoSlice::new(bytes)),
            Piece::File(_) => None,
        });
        memory.take(MAX_SLICES).collect()
    }

    /// Forgets the first `len` bytes, which are memory and have been written.
    pub fn written(&mut self, mut len: usize) {
        self.len -= len;
        while len > 0 {
            let (piece_len, done) = match self.pieces.front_mut() {
                Some(Piece::Gathered(bytes)) => advance(bytes, len),
                Some(Piece::Memory(bytes)) => advance(bytes, len),
                Some(Piece::File(_)) | None => return,
            };
            len -= piece_len;
            if done {
                self.pieces.pop_front();
            }
        }
    }

    /// Takes the slice of a file at the front, to be written next.
    pub fn take_file(&mut self) -> Option<FileSlice> {
        match self.pieces.pop_front() {
            Some(Piece::File(slice)) => {
                self.len -= slice.len;
                self.has_file = self.pieces.iter().any(|piece| matches!(piece, Piece::File(_)));
                Some(slice)
            }
            Some(other) => {
                self.pieces.push_front(other);
                None
            }
            None => None,
        }
    }
}

/// Advances over at most `len` bytes; returns over how many, and whether that was all.
fn advance(bytes: &mut impl Buf, len: usize) -> (usize, bool) {
    let step = len.min(bytes.remaining());
    bytes.advance(step);
    (step, !bytes.has_remaining())
}

/// A response of more bytes than the four bytes of its length can say.
#[derive(Debug, thiserror::Error)]
#[error("a response of {0} bytes does not fit a frame")]
pub struct PayloadTooLong(usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let slices: Vec<u8> = output.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            let n = step.min(slices.len());
            all.extend_from_slice(&slices[..n]);
            output.written(n);
        }
        assert_eq!(output.len(), 0);
        all
    }

    #[test]
    fn small_responses_are_gathered_and_large_ones_referred_to() {
        let mut output = Output::default();
        let large = Bytes::from(vec![3; 5000]);
        let mut expected = Vec::new();
        for _ in 0..3 {
            output.push(Bytes::from_static(b"small").into()).expect("it fits");
            expected.extend_from_slice(b"\0\0\0\x05small");
        }
        assert_eq!(output.slices().len(), 1);
        output.push(large.clone().into()).expect("it fits");
        expected.extend_from_slice(&5000_i32.to_be_bytes());
        expected.extend_from_slice(&large);
        assert_eq!(output.slices().len(), 2);
        assert_eq!(output.slices()[1].as_ptr(), large.as_ptr());
        assert_eq!(output.len(), expected.len());
        assert_eq!(drain(&mut output, 7), expected);
    }

    #[test]
    fn a_file_parts_the_memory_before_from_that_behind() {
        let file = std::sync::Arc::new(tempfile::tempfile().expect("a file"));
        let slice = FileSlice { file, position: 10, len: 20 };
        let mut output = Output::default();
        let parts =
            vec![Part::Bytes(Bytes::from_static(b"ab")), Part::File(slice), Part::Bytes(Bytes::from_static(b"c"))];
        output.push(Payload { parts }).expect("it fits");
        assert!(matches!(output.next(), Next::Memory(true)) && output.has_file());
        output.written(6);
        assert!(matches!(output.next(), Next::File));
        assert_eq!(output.take_file().map(|slice| slice.len), Some(20));
        assert!(matches!(output.next(), Next::Memory(false)) && !output.has_file());
        output.written(1);
        assert!(matches!(output.next(), Next::Nothing) && output.is_empty());
    }
}
