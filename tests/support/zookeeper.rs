//! Real Apache ZooKeeper servers: from the `zookeeper` package, or from `ZOOKEEPER_HOME`.

use super::dirs::TestDir;
use super::netns::Place;
use super::process::Process;
use super::{PATIENCE, free_port, poll, wait_for};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// One server or an ensemble, each member on ports and in a folder of its own that survive a restart.
pub struct ZooKeeper {
    dir: TestDir,
    members: Vec<Member>,
}

struct Member {
    id: usize,
    place: Place,
    client_port: u16,
    peer_port: u16,
    election_port: u16,
    process: Option<Process>,
}

impl Member {
    fn address(&self) -> String {
        format!("{}:{}", self.place.host, self.client_port)
    }
}

fn classpath() -> String {
    match std::env::var("ZOOKEEPER_HOME") {
        Ok(home) if !home.is_empty() => format!("{home}/*:{home}/lib/*"),
        _ => "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar".to_owned(),
    }
}

impl ZooKeeper {
    pub fn single() -> ZooKeeper {
        ZooKeeper::start(1)
    }

    /// Starts `size` servers and waits until all of them serve.
    pub fn start(size: usize) -> ZooKeeper {
        ZooKeeper::start_at(&vec![Place::loopback(); size])
    }

    /// As [`ZooKeeper::start`], one server in each of these places.
    pub fn start_at(places: &[Place]) -> ZooKeeper {
        let size = places.len();
        let member = |id: usize| Member {
            id,
            place: places[id - 1].clone(),
            client_port: free_port(),
            peer_port: free_port(),
            election_port: free_port(),
            process: None,
        };
        let mut zookeeper = ZooKeeper { dir: TestDir::new("zookeeper"), members: (1..=size).map(member).collect() };
        for index in 0..size {
            zookeeper.write_config(index);
            zookeeper.launch(index);
        }
        for index in 0..size {
            zookeeper.wait_serving(index);
        }
        zookeeper
    }

    /// `host:port,...` of all members, as `zookeeper.connect` takes it.
    pub fn connect(&self) -> String {
        self.members.iter().map(|m| m.address()).collect::<Vec<_>>().join(",")
    }

    fn write_config(&self, index: usize) {
        let member = &self.members[index];
        let dir = self.dir.join(&format!("server-{}", member.id));
        fs::create_dir_all(dir.join("data")).expect("a folder");
        fs::write(dir.join("data/myid"), member.id.to_string()).expect("myid");
        // Short ticks, so that sessions of one second can be asked for.
        let mut text = format!(
            "tickTime=500\ninitLimit=40\nsyncLimit=20\nmaxSessionTimeout=60000\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\n\
             clientPortAddress={}\nclientPort={}\ndataDir={}\n",
            member.place.host,
            member.client_port,
            dir.join("data").display()
        );
        if self.members.len() > 1 {
            for m in &self.members {
                text += &format!("server.{}={}:{}:{}\n", m.id, m.place.host, m.peer_port, m.election_port);
            }
        }
        fs::write(dir.join("zoo.cfg"), text).expect("zoo.cfg");
    }

    fn launch(&mut self, index: usize) {
        let dir = self.dir.join(&format!("server-{}", self.members[index].id));
        let words = self.members[index].place.wrapper.iter().cloned().chain(["java".to_owned()]).collect::<Vec<_>>();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
        command.args(["-Dzookeeper.forceSync=no", "-Dzookeeper.preAllocSize=1024"]);
        command.args(["-cp", &classpath(), "org.apache.zookeeper.server.quorum.QuorumPeerMain"]);
        command.arg(dir.join("zoo.cfg"));
        self.members[index].process = Some(Process::start("zookeeper", command, &dir.join("log")));
    }

    fn wait_serving(&mut self, index: usize) {
        let address = self.members[index].address();
        let process = self.members[index].process.as_mut().expect("started");
        wait_for("ZooKeeper to serve", PATIENCE, || {
            assert!(process.ended().is_none(), "ZooKeeper ended:\n{}", process.log_tail());
            four_letters(&address, "srvr").filter(|text| text.contains("Mode: "))
        });
    }

    /// `kill -9` of one member.
    pub fn kill(&mut self, index: usize) {
        self.members[index].process = None;
    }

    /// Starts a killed member again on its old folder and ports.
    pub fn restart(&mut self, index: usize) {
        self.launch(index);
        self.wait_serving(index);
    }

    /// The index of the ensemble's leader.
    pub fn leader(&self) -> usize {
        wait_for("an ensemble leader", PATIENCE, || {
            self.members
                .iter()
                .position(|m| four_letters(&m.address(), "srvr").is_some_and(|text| text.contains("Mode: leader")))
        })
    }

    /// Data of a znode, `None` when it does not exist or nobody serves.
    pub fn read(&self, path: &str) -> Option<String> {
        self.node(path).map(|(data, _)| data)
    }

    /// Data and creation transaction of a znode.
    pub fn node(&self, path: &str) -> Option<(String, i64)> {
        self.ask(async |client| {
            let (data, stat) = client.get_data(path).await.ok()?;
            Some((String::from_utf8_lossy(&data).into_owned(), stat.czxid))
        })
    }

    /// Creates a persistent znode that anybody may change.
    pub fn create(&self, path: &str, data: &str) {
        let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
        let done = self.ask(async |client| client.create(path, data.as_bytes(), &options).await.ok());
        assert!(done.is_some(), "creating {path}");
    }

    /// Names of a znode's children.
    pub fn children(&self, path: &str) -> Vec<String> {
        self.ask(async |client| client.list_children(path).await.ok()).unwrap_or_default()
    }

    fn ask<T>(&self, question: impl AsyncFnOnce(&zookeeper_client::Client) -> Option<T>) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let work = async {
                let client = zookeeper_client::Client::connect(&self.connect()).await.ok()?;
                question(&client).await
            };
            tokio::time::timeout(Duration::from_secs(10), work).await.ok().flatten()
        })
    }

    /// Waits until a znode exists and satisfies `wanted`.
    pub fn wait_node(&self, path: &str, wanted: impl Fn(&str) -> bool) -> (String, i64) {
        wait_for(&format!("znode {path}"), PATIENCE, || self.node(path).filter(|(data, _)| wanted(data)))
    }

    /// Whether a znode goes away within `limit`.
    pub fn gone_within(&self, path: &str, limit: Duration) -> bool {
        poll(limit, || {
            std::thread::sleep(Duration::from_millis(100));
            self.node(path).is_none().then_some(())
        })
        .is_some()
    }
}

fn four_letters(address: &str, word: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
