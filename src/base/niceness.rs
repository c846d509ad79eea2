//! Threads that give way to others.

/// How much.
const NICENESS: i32 = 5;

/// Lets the calling thread give way, from now on, to the threads that serve clients. It cannot take that back, so the thread
/// must be its caller's own.
pub fn give_way() {
    // SAFETY: the call touches no memory; 0 names the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_thread_that_asks_gives_way() {
        let niceness = || {
            // SAFETY: as above.
            unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
        };
        let before = niceness();
        let gave_way = std::thread::spawn(move || {
            super::give_way();
            niceness()
        });
        assert_eq!(gave_way.join().ok(), Some(super::NICENESS));
        assert_eq!(niceness(), before);
    }
}
