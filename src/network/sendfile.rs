//! Writing responses to a socket: memory with `sendmsg`, files with `sendfile`, so that no record byte enters user
//! space. All unsafe code of the room is here.
//!
//! A file's pages that are not in the page cache would block the thread, and with it all its connections, inside
//! `sendfile`. So each stretch is probed first; what is missing is brought in on a blocking thread, some way ahead of
//! what is sent. Knows bytes, not frames.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::output::{Next, Output};
use crate::protocol::payload::FileSlice;

/// How many bytes of a file go in one call.
const CHUNK: usize = 256 * 1024;
/// After how many bytes the other connections of the thread get their turn.
const TURN: usize = 512 * 1024;
/// How many bytes a blocking thread brings in before they are sent.
const COLD_CHUNK: usize = 1024 * 1024;
/// How far ahead of a reader of cold data the disk is kept busy, in bytes, once it is seen to read on.
const READ_AHEAD: u64 = 8 * 1024 * 1024;
/// How many bytes more than asked for the first cold read of a reader brings in.
const FIRST_AHEAD: u64 = 2 * 1024 * 1024;
/// Less than this many bytes are not announced on their own.
const ANNOUNCED: u64 = 2 * 1024 * 1024;
/// From this length on, a stretch is checked for holes and not only at its ends.
const CHECKED_FOR_HOLES: usize = 32 * 1024;
/// How many blocking threads may wait for the disk at a time, over all connections.
static COLD_READS: Semaphore = Semaphore::const_new(16);

/// Up to where a connection's reads of cold data have been announced to the disk.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// The file's address in memory: tells files apart, and is never followed.
    file: usize,
    until: u64,
}

/// Writes all that waits in `output`. `progress` is called whenever bytes have gone out.
///
/// Fails if the peer is gone, or with `UnexpectedEof` if a file is shorter than its slice says.
pub async fn write_all(
    stream: &TcpStream,
    output: &mut Output,
    ahead: &mut ReadAhead,
    progress: impl Fn(),
) -> io::Result<()> {
    loop {
        match output.next() {
            Next::Nothing => return Ok(()),
            Next::Memory(file_follows) => {
                let written = stream.async_io(Interest::WRITABLE, || send_memory(stream, output, file_follows)).await?;
                output.written(written);
            }
            Next::File => {
                if let Some(slice) = output.take_file() {
                    send_slice(stream, &slice, ahead, &progress).await?;
                }
            }
        }
        progress();
    }
}

fn send_memory(stream: &TcpStream, output: &Output, file_follows: bool) -> io::Result<usize> {
    // Keeps the kernel from sending the header of a fetch response as a packet of its own.
    let flags = if file_follows { libc::MSG_MORE } else { 0 };
    let slices = output.slices();
    let socket = SockRef::from(stream);
    match slices.as_slice() {
        [one] => socket.send_with_flags(one, flags),
        many => socket.send_vectored_with_flags(many, flags),
    }
}

async fn send_slice(
    stream: &TcpStream,
    slice: &FileSlice,
    ahead: &mut ReadAhead,
    progress: &impl Fn(),
) -> io::Result<()> {
    let end = slice.position + slice.len as u64;
    let mut position = slice.position;
    let mut warm_until = position;
    let mut turn = 0;
    while position < end {
        if position >= warm_until {
            warm_until = make_warm(&slice.file, position, end, ahead).await?;
        }
        let count = CHUNK.min((warm_until - position) as usize);
        let sent = stream.async_io(Interest::WRITABLE, || send_chunk(stream, &slice.file, position, count)).await?;
        if sent == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut while it was being sent"));
        }
        position += sent as u64;
        progress();
        turn += sent;
        if turn >= TURN && position < end {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn send_chunk(stream: &TcpStream, file: &File, position: u64, count: usize) -> io::Result<usize> {
    let mut offset = offset(position)?;
    Ok(nix::sys::sendfile::sendfile64(stream, file, Some(&mut offset), count)?)
}

/// Sees to it that the bytes from `position` on are in the page cache, and returns up to where.
async fn make_warm(file: &Arc<File>, position: u64, end: u64, ahead: &mut ReadAhead) -> io::Result<u64> {
    let left = (end - position) as usize;
    let id = Arc::as_ptr(file) as usize;
    let warm = left.min(COLD_CHUNK);
    let reads_on = ahead.file == id && (position..=end + READ_AHEAD).contains(&ahead.until);
    if is_warm(file, position, warm) {
        let more = (end + READ_AHEAD).saturating_sub(ahead.until);
        if reads_on && more >= ANNOUNCED && announce(file.clone(), ahead.until, more) {
            ahead.until += more;
        }
        return Ok(position + warm as u64);
    }
    let window = end - position + if reads_on { READ_AHEAD } else { FIRST_AHEAD };
    *ahead = ReadAhead { file: id, until: position + window };
    bring_in(file.clone(), position, warm, window).await?;
    Ok(position + warm as u64)
}

/// Tells the kernel that a stretch will be needed, without waiting for it. That may block for a moment as it queues
/// the reads, so not on this thread. `false` if all threads for that are taken.
fn announce(file: Arc<File>, position: u64, len: u64) -> bool {
    let Ok(permit) = COLD_READS.try_acquire() else { return false };
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        will_need(&file, position, len);
    });
    true
}

async fn bring_in(file: Arc<File>, position: u64, len: usize, window: u64) -> io::Result<()> {
    let permit = COLD_READS.acquire().await.map_err(io::Error::other)?;
    let read = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        will_need(&file, position, window);
        wait_until_read(&file, position, len)
    });
    read.await.map_err(io::Error::other)?
}

fn will_need(file: &File, position: u64, len: u64) {
    if let (Ok(position), Ok(len)) = (offset(position), offset(len)) {
        // Advice only: without it the reads are smaller, and still right.
        let _ = posix_fadvise(file, position, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}

/// Blocks until the stretch is in the page cache. Sending it to `/dev/null` does that without copying a byte.
fn wait_until_read(file: &File, position: u64, len: usize) -> io::Result<()> {
    static NULL: OnceLock<File> = OnceLock::new();
    let null = match NULL.get() {
        Some(null) => null,
        None => {
            let opened = File::options().write(true).open("/dev/null")?;
            NULL.get_or_init(|| opened)
        }
    };
    let mut at = offset(position)?;
    let end = at + offset(len as u64)?;
    while at < end {
        let count = (end - at) as usize;
        // Advances `at` itself. The file's end means that it was cut; the sender finds out.
        if nix::sys::sendfile::sendfile64(null, file, Some(&mut at), count)? == 0 {
            break;
        }
    }
    Ok(())
}

fn offset(position: u64) -> io::Result<i64> {
    i64::try_from(position).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Whether sending the stretch would not wait for the disk, as far as can be told cheaply. Where the kernel cannot
/// tell, it is taken for warm.
fn is_warm(file: &File, position: u64, len: usize) -> bool {
    if len == 0 {
        return true;
    }
    let last = position + len as u64 - 1;
    // What was just appended, as a waiting consumer gets it, mostly lies in one page.
    if !byte_is_ready(file, position) || (position / page_size() != last / page_size() && !byte_is_ready(file, last)) {
        return false;
    }
    len < CHECKED_FOR_HOLES || !has_holes(file, position, len)
}

/// Whether the byte can be had at once. True at the file's end, and where the file system cannot tell.
fn byte_is_ready(file: &File, position: u64) -> bool {
    let Ok(position) = offset(position) else { return true };
    let mut byte = 0_u8;
    let target = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: `target` describes one writable byte that outlives the call, and the descriptor is open.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const target, 1, position, libc::RWF_NOWAIT) };
    read >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EAGAIN)
}

/// `cachestat`'s number, the same on every architecture that Rust and Kafka's users have in common.
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct CachestatRange {
    off: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    nr_cache: u64,
    nr_dirty: u64,
    nr_writeback: u64,
    nr_evicted: u64,
    nr_recently_evicted: u64,
}

/// Whether pages of the stretch are missing from the page cache. False where the kernel (before 6.5) cannot tell.
fn has_holes(file: &File, position: u64, len: usize) -> bool {
    let range = CachestatRange { off: position, len: len as u64 };
    let mut stat = Cachestat::default();
    // SAFETY: both structures have the layout of the kernel's interface and outlive the call; the descriptor is open.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut stat, 0_u32) };
    let page = page_size();
    let pages = (position + len as u64).div_ceil(page) - position / page;
    result == 0 && stat.nr_cache < pages
}

fn page_size() -> u64 {
    static PAGE: OnceLock<u64> = OnceLock::new();
    *PAGE.get_or_init(|| {
        let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file of `len` bytes that are on the disk; `None` where its pages cannot be dropped (tmpfs).
    fn cold_file(len: usize) -> Option<Arc<File>> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&vec![1; len]).expect("written");
        file.sync_all().expect("synced");
        drop_pages(&file, 0, 0);
        has_holes(&file, 0, len).then(|| Arc::new(file))
    }

    fn drop_pages(file: &File, position: i64, len: i64) {
        posix_fadvise(file, position, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("dropped");
    }

    #[test]
    fn missing_pages_are_seen_at_the_ends_and_in_the_middle() {
        let len = 16 * 1024 * 1024;
        let Some(file) = cold_file(len) else { return };
        assert!(!is_warm(&file, 0, len));
        wait_until_read(&file, 0, len).expect("read");
        assert!(is_warm(&file, 0, len) && is_warm(&file, 100, len - 100) && is_warm(&file, 5, 10));
        // Much, as pages are kept in folios that are dropped whole or not at all.
        drop_pages(&file, 4 * 1024 * 1024, 8 * 1024 * 1024);
        assert!(!is_warm(&file, 0, len));
        assert!(is_warm(&file, 0, 512 * 1024));
    }

    #[tokio::test]
    async fn cold_data_is_brought_in_and_announced_ahead() {
        let len = 4 * READ_AHEAD as usize;
        let Some(file) = cold_file(len) else { return };
        let mut ahead = ReadAhead::default();
        let until = make_warm(&file, 0, 100_000, &mut ahead).await.expect("brought in");
        assert_eq!(until, 100_000);
        assert!(is_warm(&file, 0, 100_000));
        assert_eq!(ahead.until, 100_000 + FIRST_AHEAD);
        wait_until_read(&file, 100_000, 1_300_000).expect("read");
        make_warm(&file, 1_200_000, 1_300_000, &mut ahead).await.expect("warm");
        assert_eq!(ahead.until, 1_300_000 + READ_AHEAD, "reads on");
        make_warm(&file, 1_300_000, 1_400_000, &mut ahead).await.expect("warm");
        assert_eq!(ahead.until, 1_300_000 + READ_AHEAD, "too little to announce");
        let elsewhere = 3 * READ_AHEAD;
        make_warm(&file, elsewhere, elsewhere + 10, &mut ahead).await.expect("brought in");
        assert_eq!(ahead.until, elsewhere + 10 + FIRST_AHEAD, "begins anew");
        make_warm(&file, 0, 10, &mut ahead).await.expect("warm");
        assert_eq!(ahead.until, elsewhere + 10 + FIRST_AHEAD, "not behind what was announced");
    }

    #[test]
    fn the_end_of_the_file_is_not_waited_for() {
        let file = tempfile::tempfile().expect("a file");
        assert!(is_warm(&file, 1000, 10));
        wait_until_read(&file, 1000, 10).expect("nothing to read");
    }
}
