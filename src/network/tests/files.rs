//! Answers with slices of files: byte for byte, from memory and from the disk, and cut files.

use std::fs::File;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::*;

fn file_of(contents: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(contents).expect("written");
    Arc::new(file)
}

fn slice(file: &Arc<File>, position: usize, len: usize) -> FileSlice {
    FileSlice { file: file.clone(), position: position as u64, len }
}

fn expected(contents: &[&[u8]]) -> Vec<u8> {
    let mut all = request(op::FILE, b"")[4..].to_vec();
    contents.iter().for_each(|part| all.extend_from_slice(part));
    all.extend_from_slice(b"end");
    all
}

#[test]
fn slices_arrive_byte_for_byte() {
    let server = Server::start(SocketSettings::default());
    let contents = pattern(3_000_000);
    let file = file_of(&contents);
    let ranges = [(0, 10), (17, 300_000), (1_000_000, 2_000_000), (4095, 2), (2_999_999, 1), (5, 0)];
    *server.fake.files.lock() = ranges.iter().map(|&(at, len)| slice(&file, at, len)).collect();
    let parts: Vec<_> = ranges.iter().map(|&(at, len)| &contents[at..at + len]).collect();
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(op::FILE, b"");
        client.send(op::ECHO, b"behind it");
        assert!(client.receive() == expected(&parts));
        assert_eq!(client.receive(), request(op::ECHO, b"behind it")[4..]);
    }
}

#[test]
fn cold_slices_arrive_byte_for_byte_and_others_are_served_meanwhile() {
    let server = Server::start(SocketSettings::default());
    let contents = pattern(20_000_000);
    let file = file_of(&contents);
    file.sync_all().expect("synced");
    *server.fake.files.lock() = vec![slice(&file, 123, 7_000_000), slice(&file, 8_000_000, 12_000_000)];
    let mut reader = server.connect();
    let mut other = server.connect();
    for _ in 0..3 {
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("dropped");
        reader.send(op::FILE, b"");
        for _ in 0..20 {
            other.echo(b"meanwhile");
        }
        assert!(reader.receive() == expected(&[&contents[123..7_000_123], &contents[8_000_000..]]));
    }
}

#[test]
fn a_file_that_was_cut_closes_the_connection() {
    let server = Server::start(SocketSettings::default());
    let file = file_of(&pattern(100_000));
    *server.fake.files.lock() = vec![slice(&file, 0, 100_000)];
    file.set_len(50_000).expect("cut");
    let mut client = server.connect();
    client.send(op::FILE, b"");
    let mut all = Vec::new();
    client.0.read_to_end(&mut all).expect("closed in order");
    assert!(all.len() <= 4 + 8 + 50_000);
    server.connect().echo(b"still there");
}

#[test]
fn a_reader_that_stops_reading_ends_with_its_idle_time() {
    let settings = SocketSettings { max_idle: Some(Duration::from_millis(200)), ..SocketSettings::default() };
    let server = Server::start(settings);
    let file = file_of(&pattern(20_000_000));
    *server.fake.files.lock() = vec![slice(&file, 0, 20_000_000)];
    let mut client = server.connect();
    client.send(op::FILE, b"");
    server.wait_for_begun(1);
    server.wait_for_connections(0);
}

#[test]
fn a_reader_that_stops_reading_ends_even_with_a_request_in_work() {
    let settings = SocketSettings { max_idle: Some(Duration::from_millis(200)), ..SocketSettings::default() };
    let server = Server::start(settings);
    let mut client = server.connect();
    // Answers of more than the socket takes, gathered before the request that waits.
    let mut all = request(op::ECHO, &pattern(200_000)).repeat(40);
    all.extend(request(op::WAIT, b""));
    client.0.set_write_timeout(Some(Duration::from_millis(500))).expect("set");
    // The server stops reading once its answers are not taken.
    let _ = client.0.write_all(&all);
    server.wait_for_connections(0);
}
