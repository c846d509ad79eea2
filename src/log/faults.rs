//! Where a test may end the process in its mind: [`step`] stands before each change of files by the cleaner and by the swap
//! of its segments, and [`synced`] behind what brings a file or a folder to the disk, so that a test may take the rest away as
//! a loss of power does. Outside of tests they are nothing.

/// About to change a file. A test may have had enough: then nothing is changed any more.
#[cfg(not(test))]
#[inline]
#[allow(clippy::unnecessary_wraps)]
pub fn step() -> std::io::Result<()> {
    Ok(())
}

/// A file's contents, or a folder's entries, are on the disk.
#[cfg(not(test))]
#[inline]
pub fn synced(_path: &std::path::Path) {}

#[cfg(test)]
pub use in_tests::{end_after, step, synced, watch};

#[cfg(test)]
mod in_tests {
    use std::cell::{Cell, RefCell};
    use std::io;
    use std::path::Path;

    /// Told before each change, and of what is on the disk.
    type Watcher = Box<dyn FnMut(Option<&Path>)>;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
    }

    /// Tells what this thread does: `None` before each change, the path of what was brought to the disk.
    pub fn watch(watcher: Option<Watcher>) {
        WATCHER.set(watcher);
    }

    fn tell(synced: Option<&Path>) {
        WATCHER.with_borrow_mut(|watcher| watcher.iter_mut().for_each(|tell| tell(synced)));
    }

    /// A file's contents, or a folder's entries, are on the disk.
    pub fn synced(path: &Path) {
        tell(Some(path));
    }

    /// Lets this thread make so many more changes; `None` for any number.
    pub fn end_after(steps: Option<usize>) {
        LEFT.set(steps);
    }

    /// About to change a file.
    pub fn step() -> io::Result<()> {
        tell(None);
        match LEFT.get() {
            Some(0) => return Err(io::Error::other("the process has ended here")),
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
        Ok(())
    }
}
