//! The LZ4 frame format as Kafka reads and writes it (`Lz4BlockInputStream`, `Lz4BlockOutputStream`): one frame, blocks
//! independent of each other, and for magic 0 a header checksum that wrongly takes in the frame's magic number.

use std::io;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use twox_hash::XxHash32;

use super::{BlockSource, Blocks, invalid, split};

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// Version 1, independent blocks, no checksums beside the header's.
const FLAGS: u8 = 0x60;
/// Blocks of up to 64 KiB.
const BLOCK_DESCRIPTOR: u8 = 0x40;
const BLOCK_LEN: usize = 64 * 1024;
/// Marks a block that is stored as it is.
const UNCOMPRESSED: u32 = 0x8000_0000;

/// Reads one frame; what follows it is ignored. `broken` takes any header checksum.
pub(super) fn reader(input: &[u8], broken: bool) -> Blocks<Source<'_>> {
    Blocks::new(Source { input, broken, state: State::Header })
}

/// What is left to read.
pub(super) struct Source<'a> {
    input: &'a [u8],
    broken: bool,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    Blocks { largest: usize, checksums: bool },
    End,
}

impl BlockSource for Source<'_> {
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        if matches!(self.state, State::Header) {
            self.state = self.read_header()?;
        }
        let State::Blocks { largest, checksums } = self.state else { return Ok(false) };
        let word = self.read_u32()?;
        let len = (word & !UNCOMPRESSED) as usize;
        if len == 0 {
            self.state = State::End;
            return Ok(false);
        }
        if len > largest {
            return Err(invalid("an LZ4 block is longer than its frame says"));
        }
        let packed = split(&mut self.input, len)?;
        if checksums && self.read_u32()? != XxHash32::oneshot(0, packed) {
            return Err(invalid("an LZ4 block has a wrong checksum"));
        }
        if word & UNCOMPRESSED != 0 {
            block.extend_from_slice(packed);
            return Ok(true);
        }
        block.resize(largest, 0);
        let len = decompress_into(packed, block).map_err(io::Error::other)?;
        block.truncate(len);
        Ok(true)
    }
}

impl Source<'_> {
    fn read_header(&mut self) -> io::Result<State> {
        let whole = self.input;
        if split(&mut self.input, 4)? != MAGIC {
            return Err(invalid("no LZ4 frame"));
        }
        let descriptor = split(&mut self.input, 2)?;
        let (flags, block) = (descriptor[0], descriptor[1]);
        if flags & 0xc0 != 0x40 || flags & 0x03 != 0 {
            return Err(invalid("an unknown version of the LZ4 frame"));
        }
        if flags & 0x20 == 0 {
            return Err(invalid("LZ4 blocks that depend on each other are not supported"));
        }
        let size_class = block >> 4;
        if block & 0x8f != 0 || size_class < 4 {
            return Err(invalid("an unknown size of LZ4 blocks"));
        }
        if flags & 0x08 != 0 {
            split(&mut self.input, 8)?;
        }
        let header_len = whole.len() - self.input.len();
        let checksum = split(&mut self.input, 1)?[0];
        if !self.broken && checksum != header_checksum(&whole[4..header_len]) {
            return Err(invalid("the LZ4 frame's header has a wrong checksum"));
        }
        Ok(State::Blocks { largest: 1 << (8 + 2 * size_class), checksums: flags & 0x10 != 0 })
    }

    fn read_u32(&mut self) -> io::Result<u32> {
        let mut word = [0; 4];
        word.copy_from_slice(split(&mut self.input, 4)?);
        Ok(u32::from_le_bytes(word))
    }
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    XxHash32::oneshot(0, descriptor).to_be_bytes()[2]
}

/// Appends `input` as one frame. `broken` writes the header checksum of magic 0.
pub(super) fn compress(input: &[u8], broken: bool, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FLAGS, BLOCK_DESCRIPTOR]);
    out.push(header_checksum(&out[if broken { start } else { start + 4 }..]));
    let mut table = CompressTable::large();
    for block in input.chunks(BLOCK_LEN) {
        let at = out.len();
        out.resize(at + 4 + get_maximum_output_size(block.len()), 0);
        let len = compress_into_with_table(block, &mut out[at + 4..], &mut table).map_err(io::Error::other)?;
        let stored = len >= block.len();
        let len = if stored { block.len() } else { len };
        if stored {
            out[at + 4..at + 4 + len].copy_from_slice(block);
        }
        let word = u32::try_from(len).unwrap_or(0) | if stored { UNCOMPRESSED } else { 0 };
        out[at..at + 4].copy_from_slice(&word.to_le_bytes());
        out.truncate(at + 4 + len);
    }
    out.extend_from_slice(&[0; 4]);
    Ok(())
}
