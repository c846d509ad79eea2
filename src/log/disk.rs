//! Reading from files, waiting for the disk or not.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

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

#[cfg(test)]
mod tests {
    use super::*;

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
