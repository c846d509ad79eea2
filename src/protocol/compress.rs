//! The codecs of record batches and legacy messages: their numbers, names and levels, compressing, and decompressing.
//!
//! Invariant: decompressing holds no more memory than the codec's window or block beside what the caller takes, and a
//! caller that takes everything names a limit. Contexts that are dear to make are kept for each thread, unless they grew.

use std::cell::Cell;
use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

mod lz4;
mod snappy;

/// A codec, by its number in a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(i16)]
pub enum Codec {
    /// Not compressed.
    #[default]
    None = 0,
    /// RFC 1952, possibly of several members.
    Gzip = 1,
    /// Snappy blocks in xerial's framing; a bare block is read too.
    Snappy = 2,
    /// The LZ4 frame format, with independent blocks.
    Lz4 = 3,
    /// Zstandard (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// The codec of that number; `None` if there is no such codec.
    pub const fn from_id(id: i16) -> Option<Self> {
        Some(match id {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    /// Its number in the attributes.
    pub const fn id(self) -> i16 {
        self as i16
    }

    /// Its name in configs and tools.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of that name; `uncompressed` is `none`, as `compression.type` has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "none" | "uncompressed" => Self::None,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// The level Kafka uses where none is configured (KIP-390); 0 where the codec has none.
    pub const fn default_level(self) -> i32 {
        match self {
            Self::None | Self::Snappy => 0,
            Self::Gzip => -1,
            Self::Lz4 => 9,
            Self::Zstd => 3,
        }
    }
}

/// A codec with its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compression {
    /// The codec.
    pub codec: Codec,
    /// Its level (KIP-390: `compression.gzip.level` and the like), ignored by codecs without levels.
    pub level: i32,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        Self { codec, level: codec.default_level() }
    }
}

/// Why bytes could not be compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressError {
    /// The bytes are not what the codec writes.
    #[error("malformed {} data: {reason}", codec.name())]
    Malformed {
        /// The codec.
        codec: Codec,
        /// What the codec says.
        reason: String,
    },
    /// They would decompress to more than the caller allows.
    #[error("the data decompresses to more than {0} bytes")]
    TooLarge(usize),
    /// The codec refuses to compress, for example for an impossible level.
    #[error("cannot compress with {}: {reason}", codec.name())]
    Refused {
        /// The codec.
        codec: Codec,
        /// What the codec says.
        reason: String,
    },
}

/// A context kept by a thread is dropped after use when it holds more than this many bytes.
const KEPT_CONTEXT: usize = 4 << 20;

thread_local! {
    static ZSTD_READER: Cell<Option<zstd::zstd_safe::DCtx<'static>>> = const { Cell::new(None) };
    static ZSTD_WRITER: Cell<Option<zstd::zstd_safe::CCtx<'static>>> = const { Cell::new(None) };
}

/// Calls `f` with a reader of what `input` decompresses to. `magic` is that of the batch or message: the LZ4 frames of
/// magic 0 have a wrong header checksum (KIP-31, KAFKA-3160).
pub fn with_reader<R>(codec: Codec, magic: i8, input: &[u8], f: impl FnOnce(&mut dyn Read) -> R) -> R {
    match codec {
        Codec::None => f(&mut { input }),
        Codec::Gzip => f(&mut MultiGzDecoder::new(input)),
        Codec::Snappy => f(&mut snappy::reader(input)),
        Codec::Lz4 => f(&mut lz4::reader(input, magic == 0)),
        Codec::Zstd => {
            let mut context = ZSTD_READER.take().unwrap_or_default();
            let result = f(&mut zstd::stream::read::Decoder::with_context(input, &mut context));
            if context.sizeof() <= KEPT_CONTEXT {
                ZSTD_READER.set(Some(context));
            }
            result
        }
    }
}

/// Appends to `out` what `input` decompresses to, at most `limit` bytes.
///
/// # Errors
/// [`CompressError::Malformed`] or [`CompressError::TooLarge`]; `out` then holds a part.
pub fn decompress(codec: Codec, magic: i8, input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    let before = out.len();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    with_reader(codec, magic, input, |reader| reader.take(most).read_to_end(out))
        .map_err(|error| malformed(codec, &error))?;
    if out.len() - before > limit {
        return Err(CompressError::TooLarge(limit));
    }
    Ok(())
}

/// The error for what a codec says while reading.
pub(crate) fn malformed(codec: Codec, error: &io::Error) -> CompressError {
    CompressError::Malformed { codec, reason: error.to_string() }
}

/// Appends `input`, compressed, to `out`. `magic` as in [`with_reader`]. The levels of lz4 make no difference: the fast
/// compressor is all there is.
///
/// # Errors
/// [`CompressError::Refused`].
pub fn compress(compression: Compression, magic: i8, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
    let codec = compression.codec;
    match codec {
        Codec::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Codec::Gzip => gzip(compression.level, input, out),
        Codec::Snappy => snappy::compress(input, out),
        Codec::Lz4 => lz4::compress(input, magic == 0, out),
        Codec::Zstd => zstd_compress(compression.level, input, out),
    }
    .map_err(|error| CompressError::Refused { codec, reason: error.to_string() })
}

fn gzip(level: i32, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let level = u32::try_from(level)
        .map_or_else(|_| flate2::Compression::default(), |level| flate2::Compression::new(level.min(9)));
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(input)?;
    encoder.finish().map(|_| ())
}

fn zstd_compress(level: i32, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut context = ZSTD_WRITER.take().unwrap_or_default();
    let before = out.len();
    let bound = zstd::zstd_safe::compress_bound(input.len());
    out.resize(before + bound, 0);
    let result = context.compress(&mut out[before..], input, level);
    out.truncate(before + *result.as_ref().unwrap_or(&0));
    if context.sizeof() <= KEPT_CONTEXT {
        ZSTD_WRITER.set(Some(context));
    }
    result.map(|_| ()).map_err(|code| io::Error::other(zstd::zstd_safe::get_error_name(code)))
}

/// Where a codec of separate blocks gets the next one.
trait BlockSource {
    /// Replaces `block` with the next block; `false` at the end.
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool>;
}

/// Reads block after block.
struct Blocks<S> {
    source: S,
    block: Vec<u8>,
    at: usize,
}

impl<S: BlockSource> Blocks<S> {
    fn new(source: S) -> Self {
        Self { source, block: Vec::new(), at: 0 }
    }
}

impl<S: BlockSource> Read for Blocks<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            self.at = 0;
            self.block.clear();
            if !self.source.next_block(&mut self.block)? {
                return Ok(0);
            }
        }
        let len = into.len().min(self.block.len() - self.at);
        into[..len].copy_from_slice(&self.block[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Takes the first `len` bytes off `input`.
fn split<'a>(input: &mut &'a [u8], len: usize) -> io::Result<&'a [u8]> {
    let (first, rest) = input.split_at_checked(len).ok_or_else(|| invalid("the data ends too early"))?;
    *input = rest;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn round_trip(codec: Codec, magic: i8, input: &[u8]) {
        let mut packed = vec![7];
        compress(codec.into(), magic, input, &mut packed).expect("compresses");
        let mut out = vec![9];
        decompress(codec, magic, &packed[1..], input.len(), &mut out).expect("decompresses");
        assert_eq!(&out[1..], input, "{codec:?}");
        if !input.is_empty() {
            let short = decompress(codec, magic, &packed[1..], input.len() - 1, &mut Vec::new());
            assert_eq!(short, Err(CompressError::TooLarge(input.len() - 1)), "{codec:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_codec_reads_what_it_wrote(input: Vec<u8>, repeats in 0_usize..2_000, magic in 0_i8..3) {
            for codec in CODECS {
                round_trip(codec, magic, &input.repeat(repeats % (1 + 500_000 / input.len().max(1))));
            }
        }

        #[test]
        fn random_bytes_never_panic(input: Vec<u8>) {
            for codec in CODECS {
                let mut snappy = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
                snappy.extend_from_slice(&input);
                let _ = decompress(codec, 2, &input, 1 << 20, &mut Vec::new());
                let _ = decompress(codec, 2, &snappy, 1 << 20, &mut Vec::new());
            }
        }

        #[test]
        fn torn_and_changed_data_never_panics(input: Vec<u8>, at: usize, bit in 0..8, cut: usize) {
            for codec in CODECS {
                let mut packed = Vec::new();
                compress(codec.into(), 2, &input.repeat(9), &mut packed).expect("compresses");
                let last = packed.len().max(1);
                if let Some(byte) = packed.get_mut(at % last) {
                    *byte ^= 1_u8 << bit;
                }
                let _ = decompress(codec, 2, &packed, 1 << 20, &mut Vec::new());
                packed.truncate(cut % last);
                let _ = decompress(codec, 2, &packed, 1 << 20, &mut Vec::new());
            }
        }
    }

    #[test]
    fn gzip_may_have_several_members() {
        let mut packed = Vec::new();
        gzip(9, b"one", &mut packed).expect("compresses");
        gzip(-1, b"two", &mut packed).expect("compresses");
        let mut out = Vec::new();
        decompress(Codec::Gzip, 2, &packed, 6, &mut out).expect("decompresses");
        assert_eq!(out, b"onetwo");
    }

    #[test]
    fn a_bare_snappy_block_is_read() {
        let packed = snap::raw::Encoder::new().compress_vec(b"a bare block").expect("compresses");
        let mut out = Vec::new();
        decompress(Codec::Snappy, 2, &packed, 100, &mut out).expect("decompresses");
        assert_eq!(out, b"a bare block");
        // A block of a few bytes that claims to have four gigabytes.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(decompress(Codec::Snappy, 2, &claim, 100, &mut Vec::new()).is_err());
    }

    #[test]
    fn lz4_frames_are_those_of_lz4_flex_but_for_magic_0() {
        let input = b"0123456789".repeat(20_000);
        let mut ours = Vec::new();
        compress(Codec::Lz4.into(), 2, &input, &mut ours).expect("compresses");
        let mut out = Vec::new();
        lz4_flex::frame::FrameDecoder::new(&ours[..]).read_to_end(&mut out).expect("a right frame");
        assert_eq!(out, input);
        let mut broken = Vec::new();
        compress(Codec::Lz4.into(), 0, &input, &mut broken).expect("compresses");
        assert_ne!(ours[6], broken[6]);
        assert_eq!((ours[..6].to_vec(), ours[7..].to_vec()), (broken[..6].to_vec(), broken[7..].to_vec()));
        assert!(decompress(Codec::Lz4, 2, &broken, input.len(), &mut Vec::new()).is_err());
        assert!(decompress(Codec::Lz4, 0, &ours, input.len(), &mut Vec::new()).is_ok());
    }

    #[test]
    fn lz4_frames_of_other_writers_are_read() {
        use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
        let input = b"0123456789".repeat(30_000);
        let info = FrameInfo::new().block_size(BlockSize::Max256KB).block_checksums(true).content_checksum(true);
        let mut encoder = FrameEncoder::with_frame_info(info.clone().content_size(Some(300_000)), Vec::new());
        encoder.write_all(&input).expect("writes");
        let mut packed = encoder.finish().expect("a frame");
        let mut out = Vec::new();
        decompress(Codec::Lz4, 2, &packed, input.len(), &mut out).expect("decompresses");
        assert_eq!(out, input);
        packed[30] ^= 1;
        assert!(decompress(Codec::Lz4, 2, &packed, input.len(), &mut Vec::new()).is_err());

        let mut linked = FrameEncoder::with_frame_info(info.block_mode(BlockMode::Linked), Vec::new());
        linked.write_all(&input).expect("writes");
        let linked = linked.finish().expect("a frame");
        assert!(decompress(Codec::Lz4, 2, &linked, input.len(), &mut Vec::new()).is_err());
    }

    #[test]
    fn names_and_numbers_read_back() {
        for codec in CODECS {
            assert_eq!(Codec::from_id(codec.id()), Some(codec));
            assert_eq!(Codec::from_name(codec.name()), Some(codec));
        }
        assert_eq!(Codec::from_id(5), None);
        assert_eq!(Codec::from_name("uncompressed"), Some(Codec::None));
    }
}
