//! Snappy as Java's `SnappyOutputStream` frames it (xerial): a header, then blocks with their lengths. Bare blocks, which
//! some clients send, are read too.

use std::io;

use super::{BlockSource, Blocks, invalid, split};

/// The header: a magic of 8 bytes, the version, the oldest version that can read it.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// How much Java puts into one block.
const BLOCK_LEN: usize = 32 * 1024;

/// Reads framed blocks or one bare block.
pub(super) fn reader(input: &[u8]) -> Blocks<Source<'_>> {
    let framed = input.len() >= HEADER.len() && input.starts_with(&HEADER[..8]);
    Blocks::new(Source { input, framed })
}

/// What is left to read.
pub(super) struct Source<'a> {
    input: &'a [u8],
    framed: bool,
}

impl BlockSource for Source<'_> {
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        // A header may stand before any block, where streams were joined.
        while self.framed && self.input.len() >= HEADER.len() && self.input.starts_with(&HEADER[..8]) {
            split(&mut self.input, HEADER.len())?;
        }
        if self.input.is_empty() {
            return Ok(false);
        }
        let len = if self.framed { read_len(&mut self.input)? } else { self.input.len() };
        decompress(split(&mut self.input, len)?, block)?;
        Ok(true)
    }
}

fn read_len(input: &mut &[u8]) -> io::Result<usize> {
    let mut len = [0; 4];
    len.copy_from_slice(split(input, 4)?);
    Ok(u32::from_be_bytes(len) as usize)
}

fn decompress(packed: &[u8], block: &mut Vec<u8>) -> io::Result<()> {
    if packed.is_empty() {
        return Ok(());
    }
    let len = snap::raw::decompress_len(packed)?;
    // Three bytes make 64 at most: a longer claim is false, and must not become an allocation.
    if len > packed.len().saturating_mul(22) {
        return Err(invalid("a snappy block claims an impossible length"));
    }
    block.resize(len, 0);
    snap::raw::Decoder::new().decompress(packed, block)?;
    Ok(())
}

/// Appends the framed form of `input`.
pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(BLOCK_LEN) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let len = encoder.compress(block, &mut out[at + 4..])?;
        let prefix = u32::try_from(len).map_err(|_| invalid("a snappy block is too long"))?;
        out[at..at + 4].copy_from_slice(&prefix.to_be_bytes());
        out.truncate(at + 4 + len);
    }
    Ok(())
}
