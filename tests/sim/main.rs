//! Whole clusters on one thread from one seed: real controllers, replica managers, logs and request handlers over a
//! simulated network, ZooKeeper, disks and time. See ARCHITECTURE.md, "The simulator".

mod broker;
mod channels;
mod checker;
mod clients;
mod compaction;
mod disk;
mod faults;
mod groups;
mod kernel;
mod network;
mod old;
mod process;
mod session;
mod transactions;
mod world;
mod zookeeper;

mod histories;
mod random;
mod smoke;
