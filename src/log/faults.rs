//! Where a test may end the process in its mind: [`step`] stands before each change of files by the cleaner and by the swap
//! of its segments. Outside of tests it is nothing.

/// About to change a file. A test may have had enough: then nothing is changed any more.
#[cfg(not(test))]
#[inline]
#[allow(clippy::unnecessary_wraps)]
pub fn step() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub use in_tests::{end_after, step};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Lets this thread make so many more changes; `None` for any number.
    pub fn end_after(steps: Option<usize>) {
        LEFT.set(steps);
    }

    /// About to change a file.
    pub fn step() -> io::Result<()> {
        match LEFT.get() {
            Some(0) => return Err(io::Error::other("the process has ended here")),
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
        Ok(())
    }
}
