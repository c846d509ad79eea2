//! Reading from files, waiting for the disk or not; writing what lies in several pieces; bringing it to the disk.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::log::faults;

/// The most pieces that one `pwritev` takes (`IOV_MAX`).
const MAX_PIECES: usize = 1024;

/// Whether a read may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Wait as long as it takes.
    Wait,
    /// Fail with [`io::ErrorKind::WouldBlock`] where the bytes are not in the page cache.
    NoWait,
}

impl Disk {
    /// Fills `bytes` from `position` on.
    pub fn read_exact_at(self, file: &File, bytes: &mut [u8], position: u64) -> io::Result<()> {
        match self {
            Self::Wait => file.read_exact_at(bytes, position),
            Self::NoWait => read_cached(file, bytes, position),
        }
    }
}

/// Waits until what was written to the file at `path` is on the disk; tests are told so ([`faults::synced`]).
pub fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    file.sync_data()?;
    faults::synced(path);
    Ok(())
}

/// `preadv2(RWF_NOWAIT)`: what is in the page cache, or [`io::ErrorKind::WouldBlock`]. Where the file system does not
/// know the flag, the read is left to a thread that may wait, unless it cannot wait.
fn read_cached(file: &File, bytes: &mut [u8], position: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let wanted = bytes.len() - done;
        let mut piece = [IoSliceMut::new(&mut bytes[done..])];
        let at = i64::try_from(position + done as u64).unwrap_or(i64::MAX);
        // SAFETY: `IoSliceMut` has the layout of `iovec` and points at `wanted` writable bytes that outlive the call.
        let read = unsafe { libc::preadv2(file.as_raw_fd(), piece.as_mut_ptr().cast(), 1, at, libc::RWF_NOWAIT) };
        match usize::try_from(read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read.min(wanted),
            Err(_) => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    return read_unflagged(file, bytes, position);
                }
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

/// The flag is not known here: a file system in memory (tmpfs) needs none, any other may have to wait.
fn read_unflagged(file: &File, bytes: &mut [u8], position: u64) -> io::Result<()> {
    match nix::sys::statfs::fstatfs(file)?.filesystem_type() {
        nix::sys::statfs::TMPFS_MAGIC => file.read_exact_at(bytes, position),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Writes all of `pieces`, one behind the other, from `position` on. They are used up.
pub fn write_pieces_at(file: &File, mut position: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    let mut left = pieces;
    while !left.is_empty() {
        let some = left.len().min(MAX_PIECES);
        match nix::sys::uio::pwritev(file, &left[..some], i64::try_from(position).unwrap_or(i64::MAX)) {
            Ok(0) if left.iter().all(|piece| piece.is_empty()) => break,
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_one_behind_the_other() {
        let file = tempfile::tempfile().unwrap();
        let mut many: Vec<IoSlice<'_>> = (0..2_500).map(|_| IoSlice::new(b"ab")).collect();
        write_pieces_at(&file, 1, &mut many).unwrap();
        write_pieces_at(&file, 0, &mut [IoSlice::new(b""), IoSlice::new(b"x"), IoSlice::new(b"")]).unwrap();
        let mut bytes = vec![0; 5_001];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[0] == b'x' && bytes[1..].chunks(2).all(|pair| pair == b"ab"));
    }

    #[test]
    fn cached_bytes_are_read_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = File::open(&path).unwrap();
        let mut bytes = [0; 4];
        match Disk::NoWait.read_exact_at(&file, &mut bytes, 3) {
            Ok(()) => assert_eq!(&bytes, b"3456"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        Disk::Wait.read_exact_at(&file, &mut bytes, 6).unwrap();
        assert_eq!(&bytes, b"6789");
        assert_eq!(Disk::Wait.read_exact_at(&file, &mut bytes, 8).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
