//! Requests as clients send them, through the dispatcher of a broker in this process: every key and version, every error
//! code. No socket, no ZooKeeper: the controller's requests come from the test.

mod harness;

mod fetch;
mod hostile;
mod list_offsets;
mod metadata;
mod produce;
mod versions;
