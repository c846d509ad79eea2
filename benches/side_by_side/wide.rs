//! A cluster of three with 10,000 partitions of three replicas each: what it takes to make them, to carry them, and to
//! have others lead in a dead broker's place. Who leads is what a living broker's Metadata says.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::brokers::{Kind, ZooKeeper};
use super::failover::{BROKERS, Cluster, ask, partitions};
use super::process::wait_for;

const PARTITIONS: i32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks at the Metadata, which is large.
const LOOK: Duration = Duration::from_millis(20);

/// Times in seconds, memory in MiB of a broker on average.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub create: f64,
    pub rss: f64,
    pub leader_killed: f64,
    pub controller_killed: f64,
}

pub fn run(kind: Kind, dir: &Path, zookeeper: &ZooKeeper) -> Result<Figures> {
    let mut cluster = Cluster::start(kind, dir, zookeeper)?;
    let begun = Instant::now();
    cluster.create(PARTITIONS)?;
    let create = begun.elapsed().as_secs_f64();
    thread::sleep(Duration::from_secs(3));
    let mut rss = 0.0;
    for broker in &mut cluster.brokers {
        rss += broker.process()?.rss_kib()? / 1024.0 / f64::from(BROKERS);
    }
    let leader_killed = led_anew(&mut cluster, false)?;
    let controller_killed = led_anew(&mut cluster, true)?;
    cluster.brokers.iter_mut().try_for_each(|broker| broker.kill())?;
    Ok(Figures { create, rss, leader_killed, controller_killed })
}

/// Kills a broker, the controller or another; seconds until others lead everything. It is brought back.
fn led_anew(cluster: &mut Cluster<'_>, controller: bool) -> Result<f64> {
    cluster.settle()?;
    nix::unistd::sync();
    let it = usize::try_from(cluster.metadata()?.controller_id.0)?;
    let victim = if controller { it } else { (it + 1) % BROKERS as usize };
    let witness = cluster.brokers[(victim + 1) % BROKERS as usize].port;
    let begun = Instant::now();
    cluster.brokers[victim].kill()?;
    wait_for("others to lead", PATIENCE, || {
        thread::sleep(LOOK);
        let Ok(metadata) = ask(witness) else { return Ok(None) };
        let led = partitions(&metadata).filter(|p| p.leader_id.0 >= 0 && p.leader_id.0 != victim as i32).count();
        Ok((led == PARTITIONS as usize).then_some(()))
    })?;
    let took = begun.elapsed().as_secs_f64();
    cluster.bring_back(victim)?;
    Ok(took)
}
