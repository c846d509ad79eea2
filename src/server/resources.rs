//! What the broker asks of the operating system: open files, and the signals that end it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// Raises the limit of open files as far as this user may: a partition needs one, a connection another.
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard) } else { Ok(soft) }
    });
    match raised {
        Ok(files) => info!("up to {files} files and sockets may be open"),
        Err(error) => warn!("the limit of open files could not be raised: {error}"),
    }
}

/// Waits for SIGTERM or SIGINT; tells which came.
///
/// # Errors
/// The handlers could not be installed.
pub async fn stop_signal() -> std::io::Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" })
}
