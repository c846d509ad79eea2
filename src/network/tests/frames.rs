//! Frames: whole, split, pipelined, hostile; and what becomes of the connection.

use std::net::Shutdown;

use super::*;

#[test]
fn requests_of_all_sizes_are_answered() {
    let server = Server::start(SocketSettings::default());
    let mut client = server.connect();
    for len in [0, 1, 1000, 1016, 1017, 32_000, 65_536, 1_000_000, 5_000_000, 10] {
        client.echo(&pattern(len));
    }
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let server = Server::start(SocketSettings::default());
    let mut client = server.connect();
    for byte in request(op::ECHO, b"slow") {
        client.0.write_all(&[byte]).expect("sent");
    }
    assert_eq!(client.receive(), request(op::ECHO, b"slow")[4..]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(SocketSettings::default());
    let mut client = server.connect();
    let mut writer = client.0.try_clone().expect("cloned");
    let sizes: Vec<usize> = (0..500).map(|i| (i * i * 37) % 20_000).collect();
    let sending = std::thread::spawn({
        let sizes = sizes.clone();
        move || {
            for (i, size) in sizes.iter().enumerate() {
                let op = if i % 50 == 49 { op::NO_REPLY } else { op::ECHO };
                writer.write_all(&request(op, &pattern(*size))).expect("sent");
            }
        }
    });
    for (i, size) in sizes.iter().enumerate() {
        if i % 50 != 49 {
            assert!(client.receive() == request(op::ECHO, &pattern(*size))[4..], "answer {i}");
        }
    }
    sending.join().expect("all sent");
}

#[test]
fn answers_go_out_before_a_request_waits() {
    let server = Server::start(SocketSettings::default());
    let mut client = server.connect();
    let mut both = request(op::ECHO, b"first");
    both.extend(request(op::WAIT, b"second"));
    both.extend(request(op::ECHO, b"third"));
    client.0.write_all(&both).expect("sent");
    assert_eq!(client.receive(), request(op::ECHO, b"first")[4..]);
    server.wait_for_begun(2);
    server.fake.gate.add_permits(1);
    assert_eq!(client.receive(), request(op::WAIT, b"second")[4..]);
    assert_eq!(client.receive(), request(op::ECHO, b"third")[4..]);
}

#[test]
fn a_waiting_request_holds_up_no_other_connection() {
    let server = Server::start(SocketSettings::default());
    let mut waiting = server.connect();
    waiting.send(op::WAIT, b"");
    server.wait_for_begun(1);
    server.connect().echo(b"meanwhile");
    server.fake.gate.add_permits(1);
    waiting.receive();
}

#[test]
fn lengths_that_are_not_allowed_close_the_connection() {
    let server = Server::start(SocketSettings { max_request_bytes: 1000, ..SocketSettings::default() });
    for len in [-1, i32::MIN, 0, 7, 1001, i32::MAX] {
        let mut client = server.connect();
        client.0.write_all(&len.to_be_bytes()).expect("sent");
        client.expect_closed();
    }
    let mut client = server.connect();
    client.echo(&[1; 992]);
    client.send(op::ECHO, &[1; 993]);
    client.expect_closed();
    server.connect().echo(b"still there");
}

#[test]
fn memory_follows_the_bytes_sent_and_not_the_length_announced() {
    let server = Server::start(SocketSettings::default());
    let before = resident_kib();
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let mut client = server.connect();
            client.0.write_all(&100_000_000_u32.to_be_bytes()).expect("sent");
            client.0.write_all(&[0; 5000]).expect("sent");
            client
        })
        .collect();
    server.wait_for_connections(50);
    server.connect().echo(b"still there");
    let grown = resident_kib() - before;
    assert!(grown < 200_000, "50 announcements of 100 MB cost {grown} KiB");
    drop(clients);
    server.wait_for_connections(0);
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_frame_is_let_go() {
    let server = Server::start(SocketSettings::default());
    let mut client = server.connect();
    client.0.write_all(&request(op::ECHO, &[0; 5000])[..3000]).expect("sent");
    drop(client);
    eventually(|| server.server.quotas().connections() == 0);
}

#[test]
fn a_client_that_only_half_closes_gets_its_answers() {
    let server = Server::start(SocketSettings::default());
    let mut client = server.connect();
    client.send(op::WAIT, b"a");
    client.send(op::ECHO, b"b");
    client.0.shutdown(Shutdown::Write).expect("half closed");
    server.wait_for_begun(1);
    server.fake.gate.add_permits(1);
    assert_eq!(client.receive(), request(op::WAIT, b"a")[4..]);
    assert_eq!(client.receive(), request(op::ECHO, b"b")[4..]);
    client.expect_closed();
}

#[test]
fn a_panic_ends_its_connection_only() {
    let server = Server::start(SocketSettings::default());
    for op in [op::PANIC, op::PANIC_LATER] {
        let mut other = server.connect();
        other.echo(b"before");
        let mut client = server.connect();
        client.send(op, b"");
        client.expect_closed();
        other.echo(b"after");
    }
}

#[test]
fn a_handler_can_close_after_earlier_answers() {
    let server = Server::start(SocketSettings::default());
    let mut client = server.connect();
    let mut both = request(op::ECHO, b"last words");
    both.extend(request(op::CLOSE, b""));
    client.0.write_all(&both).expect("sent");
    assert_eq!(client.receive(), request(op::ECHO, b"last words")[4..]);
    client.expect_closed();
}

#[test]
fn a_client_that_does_not_read_holds_up_no_other() {
    let server = Server::start(SocketSettings::default());
    let mut lazy = server.connect();
    let body = pattern(4_000_000);
    lazy.send(op::ECHO, &body);
    server.wait_for_begun(1);
    for _ in 0..20 {
        server.connect().echo(b"others");
    }
    assert!(lazy.receive() == request(op::ECHO, &body)[4..]);
    lazy.echo(b"awake again");
}
