//! Limits on connections and their time, what an idle one costs, and the end of the server.

use super::*;
use crate::network::limits::ConnectionLimits;

fn with_limits(limits: ConnectionLimits) -> SocketSettings {
    SocketSettings { limits, ..SocketSettings::default() }
}

#[test]
fn an_address_gets_no_more_connections_than_it_may_have() {
    let server = Server::start(with_limits(ConnectionLimits { max_per_ip: 2, ..ConnectionLimits::default() }));
    let mut first = server.connect();
    let mut second = server.connect();
    first.echo(b"1");
    second.echo(b"2");
    server.connect().expect_closed();
    drop(first);
    server.wait_for_connections(1);
    server.connect().echo(b"3");
}

#[test]
fn an_override_holds_instead_of_the_limit_per_address() {
    let per_ip_overrides = super::super::limits::parse_overrides("127.0.0.1:1").expect("a pair");
    let server = Server::start(with_limits(ConnectionLimits { per_ip_overrides, ..ConnectionLimits::default() }));
    let mut first = server.connect();
    first.echo(b"1");
    server.connect().expect_closed();
}

#[test]
fn with_all_places_taken_the_next_waits_for_one() {
    let server = Server::start(with_limits(ConnectionLimits { max_connections: 1, ..ConnectionLimits::default() }));
    let mut first = server.connect();
    first.echo(b"1");
    let mut second = server.connect();
    second.send(op::ECHO, b"2");
    first.echo(b"still the only one");
    assert_eq!(server.server.quotas().connections(), 1);
    drop(first);
    assert_eq!(second.receive(), request(op::ECHO, b"2")[4..]);
}

#[test]
fn new_connections_are_slowed_to_their_rate() {
    let limits = ConnectionLimits { max_creation_rate: 20, ..ConnectionLimits::default() };
    let server = Server::start(with_limits(limits));
    let start = Instant::now();
    for _ in 0..30 {
        server.connect().echo(b"");
    }
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let settings = SocketSettings { max_idle: Some(Duration::from_millis(200)), ..SocketSettings::default() };
    let server = Server::start(settings);
    let mut waiting = server.connect();
    waiting.send(op::WAIT, b"");
    server.wait_for_begun(1);
    let mut silent = server.connect();
    let mut stuck = server.connect();
    stuck.0.write_all(&request(op::ECHO, b"half")[..7]).expect("sent");
    let start = Instant::now();
    silent.expect_closed();
    stuck.expect_closed();
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
    server.fake.gate.add_permits(1);
    waiting.receive();
}

#[test]
fn request_bytes_are_bounded_over_all_connections() {
    let settings = SocketSettings { queued_max_request_bytes: 100_000, ..SocketSettings::default() };
    let server = Server::start(settings);
    let body = pattern(150_000);
    let large = request(op::ECHO, &body);
    let mut first = server.connect();
    first.0.write_all(&large[..100_000]).expect("sent");
    // Small requests that come in one piece need no place; the large one has to wait for the first.
    let mut second = server.connect();
    eventually(|| {
        second.echo(b"small");
        true
    });
    let mut writer = second.0.try_clone().expect("cloned");
    let sending = std::thread::spawn(move || writer.write_all(&request(op::ECHO, &pattern(2_000_000))).expect("sent"));
    first.0.write_all(&large[100_000..]).expect("sent");
    assert!(first.receive() == large[4..]);
    assert_eq!(second.receive().len(), 2_000_008);
    sending.join().expect("all sent");
}

#[test]
fn an_idle_connection_costs_little() {
    let server = Server::start(SocketSettings { backlog: 4096, ..SocketSettings::default() });
    let mut warm_up: Vec<_> = (0..200).map(|_| server.connect()).collect();
    warm_up.iter_mut().for_each(|client| client.echo(&[0; 2000]));
    let before = resident_kib();
    let mut clients: Vec<_> = (0..2000).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.echo(&[0; 2000]));
    server.wait_for_connections(2200);
    let each = (resident_kib() - before) as f64 / 2000.0;
    // Other tests share the process; what they take and give back in the meantime is the tolerance.
    println!("{each:.2} KiB for each idle connection");
    assert!(each < 16.0, "{each:.2} KiB for each idle connection");
}

#[test]
fn a_drain_answers_what_is_in_work_and_closes_the_rest() {
    let mut server = Server::start(SocketSettings::default());
    let mut idle = server.connect();
    idle.echo(b"idle from now on");
    let mut working = server.connect();
    working.send(op::WAIT, b"last");
    server.wait_for_begun(2);
    let gate = server.fake.clone();
    let helper = std::thread::spawn(move || {
        idle.expect_closed();
        gate.gate.add_permits(1);
        assert_eq!(working.receive(), request(op::WAIT, b"last")[4..]);
        working.expect_closed();
    });
    assert_eq!(server.shutdown(PATIENCE), 0);
    helper.join().expect("all as it should be");
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn a_drain_has_an_end() {
    let mut server = Server::start(SocketSettings::default());
    let mut working = server.connect();
    working.send(op::WAIT, b"never");
    server.wait_for_begun(1);
    assert_eq!(server.shutdown(Duration::from_millis(50)), 1);
    working.expect_closed();
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start(SocketSettings::default());
    let endpoint = Endpoint { listener: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: server.address.port() };
    let Err(error) = SocketServer::bind(&[endpoint], SocketSettings::default()) else { panic!("bound twice") };
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("PLAINTEXT://127.0.0.1:{}", server.address.port())), "{error}");
}

#[test]
fn threads_come_and_go_under_connections() {
    let mut server = Server::start(SocketSettings::default());
    let lanes = server.server.lanes().clone();
    let mut first = server.connect();
    first.echo(b"1");
    lanes.add(&server.threads.grow(3).expect("two more"));
    assert_eq!(lanes.len(), 3);
    let mut others: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    others.iter_mut().for_each(|other| other.echo(b"2"));
    // One of them is at work: its answer comes, then both end, and only the first thread's connection stays.
    others[0].send(op::WAIT, b"3");
    server.wait_for_begun(4);
    let leaving = std::thread::scope(|scope| {
        let leaving = scope.spawn(|| server.control.block_on(lanes.remove(2, PATIENCE)));
        server.wait_for_connections(2);
        server.fake.gate.add_permits(1);
        assert_eq!(others[0].receive(), request(op::WAIT, b"3")[4..]);
        leaving.join().expect("removed")
    });
    assert_eq!((leaving, lanes.len(), server.server.quotas().connections()), (2, 1, 1));
    server.threads.shrink(leaving);
    others.iter_mut().for_each(Client::expect_closed);
    first.echo(b"4");
    server.connect().echo(b"5");
    assert_eq!(server.control.block_on(lanes.remove(9, Duration::ZERO)), 0, "one stays");
    first.echo(b"6");
}
