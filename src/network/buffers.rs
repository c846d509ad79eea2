//! Read buffers, and the pool from which a thread's connections take them while they are busy.
//!
//! An idle connection holds no buffer. A busy one takes the buffer that was given back last, which is still in the
//! processor's cache and whose pages are there, and grows it only as bytes arrive. Knows nothing of sockets or frames.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// The size of a fresh buffer, in bytes.
pub const INITIAL: usize = 32 * 1024;
/// What one thread's pool may hold, in bytes; more is given back to the system.
const POOL_BYTES: usize = 8 * 1024 * 1024;
/// How many buffers one thread's pool may hold.
const POOL_BUFFERS: usize = 64;

/// Bytes that have been received and not yet handled.
///
/// Frames are split off the front without a copy; the storage is used again as soon as nobody holds a slice of it.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    bytes: BytesMut,
    /// The size of the whole storage; `bytes.capacity()` counts only what lies behind the frames split off.
    size: usize,
}

impl ReadBuffer {
    /// What is there, not yet split off.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes are there.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Makes room for `wanted` more bytes, but at most double what is there, and returns the storage to read into. So
    /// the memory taken follows the bytes received, never an announced length.
    pub fn grow(&mut self, wanted: usize) -> &mut BytesMut {
        let len = self.bytes.len();
        let wanted = wanted.clamp(1, len.max(INITIAL));
        if self.room() < wanted {
            self.reclaim();
        }
        if self.room() < wanted {
            self.bytes.reserve(wanted.max(INITIAL));
            self.size = self.bytes.capacity();
        }
        &mut self.bytes
    }

    /// Room for the next read without growing.
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Splits off and returns the first `len` bytes.
    pub fn take(&mut self, len: usize) -> Bytes {
        self.bytes.split_to(len).freeze()
    }

    /// Drops the first `len` bytes.
    pub fn skip(&mut self, len: usize) {
        bytes::Buf::advance(&mut self.bytes, len);
    }

    /// Gets the whole storage back if nobody else holds a slice of it; what was received stays.
    pub fn reclaim(&mut self) -> bool {
        self.bytes.capacity() >= self.size || self.bytes.try_reclaim(self.size - self.bytes.len())
    }
}

#[derive(Default)]
struct Pool {
    buffers: Vec<ReadBuffer>,
    bytes: usize,
    /// The fewest buffers that lay here since the last trim: those were of no use.
    unused: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Takes the buffer that was given back last, or an empty one.
pub fn take() -> ReadBuffer {
    POOL.with_borrow_mut(|pool| {
        let buffer = pool.buffers.pop().unwrap_or_default();
        pool.bytes -= buffer.size;
        pool.unused = pool.unused.min(pool.buffers.len());
        buffer
    })
}

/// Gives an emptied buffer back. It is dropped instead if a slice of it is still held or the pool is full.
pub fn give_back(mut buffer: ReadBuffer) {
    if buffer.size == 0 || !buffer.is_empty() || !buffer.reclaim() {
        return;
    }
    POOL.with_borrow_mut(|pool| {
        if pool.buffers.len() < POOL_BUFFERS && pool.bytes + buffer.size <= POOL_BYTES {
            pool.bytes += buffer.size;
            pool.buffers.push(buffer);
        }
    });
}

/// Drops the buffers that nobody took since the last call. To be called every few seconds on the thread itself.
pub fn trim() {
    POOL.with_borrow_mut(|pool| {
        let unused = pool.unused.min(pool.buffers.len());
        // The oldest lie at the bottom and were not reached.
        pool.buffers.drain(..unused);
        pool.bytes = pool.buffers.iter().map(|buffer| buffer.size).sum();
        pool.unused = pool.buffers.len();
    });
}

/// How many bytes the calling thread's pool holds.
pub fn pooled_bytes() -> usize {
    POOL.with_borrow(|pool| pool.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(len: usize) -> ReadBuffer {
        let mut buffer = ReadBuffer::default();
        while buffer.len() < len {
            let bytes = buffer.grow(usize::MAX);
            let room = (bytes.capacity() - bytes.len()).min(len - bytes.len());
            bytes.extend_from_slice(&vec![7; room]);
        }
        buffer
    }

    #[test]
    fn memory_follows_the_bytes_received() {
        let mut buffer = filled(INITIAL);
        buffer.grow(usize::MAX);
        assert!(buffer.size <= 2 * INITIAL, "{}", buffer.size);
        let buffer = filled(1_000_000);
        assert!(buffer.size < 2_100_000, "{}", buffer.size);
    }

    #[test]
    fn storage_is_used_again_once_the_frames_are_gone() {
        let mut buffer = filled(100_000);
        let size = buffer.size;
        let start = buffer.as_slice().as_ptr();
        for _ in 0..10 {
            let frame = buffer.take(100_000);
            assert_eq!(frame.as_ptr(), start);
            drop(frame);
            assert!(buffer.reclaim());
            assert_eq!(buffer.room(), size);
            buffer.grow(usize::MAX).extend_from_slice(&[1; 100_000]);
        }
        assert_eq!(buffer.size, size);
    }

    #[test]
    fn a_held_frame_is_never_overwritten() {
        let mut buffer = filled(INITIAL);
        let frame = buffer.take(INITIAL);
        buffer.grow(usize::MAX).extend_from_slice(&[9; INITIAL]);
        assert!(frame.iter().all(|&b| b == 7));
        assert!(buffer.as_slice().iter().all(|&b| b == 9));
    }

    #[test]
    fn the_pool_is_bounded_and_trimmed() {
        for _ in 0..3 {
            trim();
        }
        assert_eq!(pooled_bytes(), 0);
        let many: Vec<_> = (0..20).map(|_| filled(1_000_000)).collect();
        for mut buffer in many {
            buffer.skip(1_000_000);
            give_back(buffer);
        }
        assert!(pooled_bytes() > 1_000_000 && pooled_bytes() <= POOL_BYTES);
        trim();
        trim();
        assert_eq!(pooled_bytes(), 0);
    }

    #[test]
    fn a_buffer_whose_frame_is_held_does_not_come_back() {
        while POOL.with_borrow(|pool| !pool.buffers.is_empty()) {
            take();
        }
        let mut buffer = filled(1000);
        let frame = buffer.take(1000);
        give_back(buffer);
        assert_eq!(pooled_bytes(), 0);
        drop(frame);
    }
}
