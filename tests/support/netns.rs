//! A network of the test's own that can be cut: every server and the load in a network namespace of its own, joined by a
//! router in another. Needs root and the programs `ip` and `nsenter`.
//!
//! The namespaces have no names and no mounts: they live as long as the descriptors in [`Net`] and the processes in them,
//! so that nothing is left behind however the test process ends, and the host's own network never sees any of it.
//!
//! ```text
//!   node 0 (10.77.0.1) ── n0 ┐
//!   node 1 (10.77.1.1) ── n1 ┼ router: forwards, but for what `cut` drops without a word
//!   node 2 (10.77.2.1) ── n2 ┘
//! ```

use super::process::run_ok;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where a server runs: the address it listens at, and the words before its command that bring it there.
#[derive(Clone, Debug)]
pub struct Place {
    pub host: String,
    pub wrapper: Vec<String>,
}

impl Place {
    /// The host's own loopback.
    pub fn loopback() -> Place {
        Place { host: "127.0.0.1".to_owned(), wrapper: Vec::new() }
    }
}

/// A network namespace, which lives while this does.
#[derive(Clone, Debug)]
struct Space(Arc<File>);

impl Space {
    fn new() -> io::Result<Space> {
        let made = std::thread::spawn(|| {
            // SAFETY: a plain system call; it concerns this thread alone, which ends at once.
            match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
                0 => File::open("/proc/thread-self/ns/net").map(|file| Space(Arc::new(file))),
                _ => Err(io::Error::last_os_error()),
            }
        });
        made.join().expect("no panic in there")
    }

    /// Moves the calling thread, and what it will start, into this namespace.
    fn enter(&self) {
        // SAFETY: a plain system call with a descriptor that is open.
        let answer = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(answer, 0, "setns: {}", io::Error::last_os_error());
    }

    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A path that leads other processes of this user to it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn wrapper(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path()), "--".to_owned()]
    }

    fn ip(&self, lines: &[String]) {
        let wrapper = self.wrapper();
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).args(["ip", "-batch", "-"]);
        run_ok("ip", command, &(lines.join("\n") + "\n"), Duration::from_secs(20));
    }
}

/// Whether all that a network is built of can be had: links, forwarding, rules. In a namespace that ends with it.
fn probe() -> io::Result<()> {
    let space = Space::new()?;
    let wrapper = space.wrapper();
    for words in ["link add p0 type veth peer name p1", "rule add iif p0 to 10.77.0.1 blackhole"] {
        let mut command = Command::new(&wrapper[0]);
        let done = command.args(&wrapper[1..]).arg("ip").args(words.split(' ')).output()?;
        if !done.status.success() {
            return Err(io::Error::other(format!("ip {words}: {}", String::from_utf8_lossy(&done.stderr).trim())));
        }
    }
    space.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
}

/// Nodes by number, each of which reaches all others until something is cut.
pub struct Net {
    router: Space,
    nodes: Vec<Space>,
    /// What is dropped: packets from the first node to the second.
    cuts: Mutex<BTreeSet<(usize, usize)>>,
}

impl Net {
    /// Builds the network; `None`, after saying so on stderr, where this machine does not let this process build one.
    pub fn new(nodes: usize) -> Option<Net> {
        let made: io::Result<Vec<Space>> = (0..=nodes).map(|_| Space::new()).collect();
        match made.and_then(|spaces| probe().map(|()| spaces)) {
            Ok(spaces) => Some(Net::join(spaces)),
            Err(error) => {
                // Past the capture of what tests print: nobody shall take this for a test that passed.
                let name = std::thread::current().name().unwrap_or("a test").to_owned();
                let _ = writeln!(io::stderr(), "SKIPPED {name}: no network namespaces here, which need root: {error}");
                None
            }
        }
    }

    fn join(mut nodes: Vec<Space>) -> Net {
        let router = nodes.pop().expect("one more than nodes");
        let mut lines = vec!["link set lo up".to_owned()];
        for (index, node) in nodes.iter().enumerate() {
            lines.push(format!("link add n{index} type veth peer name eth0 netns {}", node.path()));
            lines.push(format!("addr add 10.77.{index}.254/24 dev n{index}"));
            lines.push(format!("link set n{index} up"));
        }
        router.ip(&lines);
        router.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("the router may forward"));
        for (index, node) in nodes.iter().enumerate() {
            node.ip(&[
                "link set lo up".to_owned(),
                format!("addr add {}/24 dev eth0", address(index)),
                "link set eth0 up".to_owned(),
                format!("route add default via 10.77.{index}.254"),
            ]);
        }
        Net { router, nodes, cuts: Mutex::default() }
    }

    /// Where a server on this node listens and how it gets there.
    pub fn place(&self, node: usize) -> Place {
        Place { host: address(node), wrapper: self.nodes[node].wrapper() }
    }

    /// Moves a thread to a node; for a load's threads.
    pub fn entrance(&self, node: usize) -> impl Fn() + Clone + Send + 'static {
        let space = self.nodes[node].clone();
        move || space.enter()
    }

    /// Runs `work` on a thread of that node.
    pub fn within<T: Send>(&self, node: usize, work: impl FnOnce() -> T + Send) -> T {
        self.nodes[node].within(work)
    }

    /// Drops what any of `some` and any of `others` send one another.
    pub fn cut(&self, some: &[usize], others: &[usize]) {
        for (&a, &b) in some.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
            self.cut_one_way(a, b);
            self.cut_one_way(b, a);
        }
    }

    /// Drops what `from` sends to `to`, but not the other way.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        if from != to && self.cuts.lock().expect("no panic while locked").insert((from, to)) {
            self.router.ip(&[format!("rule add {}", drops(from, to))]);
        }
    }

    /// Delivers everything again that [`Net::cut`] dropped.
    pub fn heal(&self) {
        let cuts = std::mem::take(&mut *self.cuts.lock().expect("no panic while locked"));
        let lines: Vec<String> = cuts.into_iter().map(|(from, to)| format!("rule del {}", drops(from, to))).collect();
        self.router.ip(&lines);
    }

    /// Pulls a node's cable: it reaches nobody, and its own kernel knows.
    pub fn unplug(&self, node: usize) {
        self.router.ip(&[format!("link set n{node} down")]);
    }

    /// Puts the cable back.
    pub fn plug(&self, node: usize) {
        // The address stayed, the route to it comes back with the link.
        self.router.ip(&[format!("link set n{node} up")]);
    }
}

fn address(node: usize) -> String {
    format!("10.77.{node}.1")
}

fn drops(from: usize, to: usize) -> String {
    format!("iif n{from} to {} blackhole", address(to))
}
