//! Watches over another process by a connection that carries nothing: tells when the process has died while its host
//! lives.
//!
//! A process that dies has its connections ended by its host, and new ones refused. Only that counts: a connection that
//! stood and was ended by the other side, then refusals from every address of the host. A host that does not answer, a
//! network that does not deliver, a process that is stopped or slow are never taken for a death.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

/// How long one attempt to connect may take; longer, and it says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait before the next attempt at a connection, while there is none.
const RETRY: Duration = Duration::from_secs(1);
/// How many refusals in a row it takes, and how far apart: a listener that is opened anew is not a death.
const REFUSALS: usize = 2;
const BETWEEN_REFUSALS: Duration = Duration::from_millis(20);
/// How often it is looked whether a dead process is back.
const RETURN_CHECK: Duration = Duration::from_millis(200);

/// Resolves once the process that listens at `address` (`host:port`) is seen to have died.
pub async fn until_dead(address: &str) {
    loop {
        match connect(address).await {
            Ok(stream) => {
                until_ended(stream).await;
                if is_refused(address).await {
                    return;
                }
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// Resolves once `address` accepts connections.
pub async fn until_back(address: &str) {
    while connect(address).await.is_err() {
        sleep(RETURN_CHECK).await;
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await?
}

/// Nothing is sent, so nothing is expected; what comes all the same is dropped.
async fn until_ended(mut stream: TcpStream) {
    let mut dropped = [0; 64];
    while matches!(stream.read(&mut dropped).await, Ok(read) if read > 0) {}
}

/// Whether every address of the host refuses, time after time.
async fn is_refused(address: &str) -> bool {
    for attempt in 0..REFUSALS {
        if attempt > 0 {
            sleep(BETWEEN_REFUSALS).await;
        }
        let Ok(Ok(found)) = timeout(CONNECT_TIMEOUT, lookup_host(address)).await else { return false };
        let addresses: Vec<SocketAddr> = found.collect();
        if addresses.is_empty() {
            return false;
        }
        for one in addresses {
            let refused = |answer: &io::Result<TcpStream>| {
                answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            };
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(one)).await {
                Ok(answer) if refused(&answer) => {}
                _ => return false,
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        (listener, address)
    }

    #[tokio::test]
    async fn a_process_that_ends_is_dead_and_may_come_back() {
        let (listener, address) = listen().await;
        let watched = address.clone();
        let watching = tokio::spawn(async move { until_dead(&watched).await });
        let (stream, _) = listener.accept().await.expect("watched");
        drop(listener);
        drop(stream);
        timeout(Duration::from_secs(10), watching).await.expect("seen").expect("no panic");
        let watched = address.clone();
        let returning = tokio::spawn(async move { until_back(&watched).await });
        let again = TcpListener::bind(&address).await.expect("the same port");
        timeout(Duration::from_secs(10), returning).await.expect("seen").expect("no panic");
        drop(again);
    }

    #[tokio::test]
    async fn a_closed_connection_alone_is_no_death() {
        let (listener, address) = listen().await;
        let watching = tokio::spawn(async move { until_dead(&address).await });
        for _ in 0..3 {
            let (stream, _) = listener.accept().await.expect("watched again");
            drop(stream);
        }
        let kept = listener.accept().await.expect("watched again");
        assert!(!watching.is_finished());
        drop(kept);
        watching.abort();
    }

    #[tokio::test]
    async fn a_refusal_alone_is_no_death() {
        let (listener, address) = listen().await;
        drop(listener);
        let seen = timeout(Duration::from_millis(300), until_dead(&address)).await;
        assert!(seen.is_err(), "nothing ever stood");
    }
}
