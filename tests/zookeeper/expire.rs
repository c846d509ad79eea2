//! Ends somebody else's session, as its time-out would: a connection that resumes it and closes it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// ZooKeeper derives a session's password from its id with Java's `Random` (`ZooKeeperServer.generatePasswd`).
fn password(session: i64) -> [u8; 16] {
    const SUPER_SECRET: i64 = 0xB341_5C00;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = ((session ^ SUPER_SECRET) as u64 ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for chunk in password.chunks_mut(4) {
        seed = seed.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        let next = (seed >> 16) as u32;
        chunk.copy_from_slice(&next.to_le_bytes());
    }
    password
}

/// Closes the session through the server at `address`. Its owner may connect again in between and win; so until the
/// server knows the session no more.
pub fn expire(address: &str, session: i64) {
    for _ in 0..100 {
        if !close_once(address, session) {
            return;
        }
    }
    panic!("the session {session:#x} would not end");
}

/// Whether the server still knew the session.
fn close_once(address: &str, session: i64) -> bool {
    let mut stream = TcpStream::connect(address).expect("ZooKeeper");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    let mut connect = Vec::new();
    connect.extend(0i32.to_be_bytes()); // protocol version
    connect.extend(0i64.to_be_bytes()); // last zxid seen
    connect.extend(4000i32.to_be_bytes());
    connect.extend(session.to_be_bytes());
    connect.extend(16i32.to_be_bytes());
    connect.extend(password(session));
    connect.push(0); // not read-only
    send(&mut stream, &connect);
    let Some(answer) = receive(&mut stream) else { return true };
    if answer[8..16] != session.to_be_bytes() {
        return false;
    }
    let mut close = Vec::new();
    close.extend(1i32.to_be_bytes()); // xid
    close.extend((-11i32).to_be_bytes()); // closeSession
    send(&mut stream, &close);
    let _ = receive(&mut stream);
    true
}

fn send(stream: &mut TcpStream, body: &[u8]) {
    let length = i32::try_from(body.len()).expect("short");
    let _ = stream.write_all(&[&length.to_be_bytes(), body].concat());
}

/// A frame, or `None` if the connection ended.
fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}
