//! The test kit proves itself: every fault that other tests rely on really does what it says, to a
//! client that is not ours.

mod client;
mod cluster;
mod faults;
mod frames;
mod proxy;
mod sentinel;
mod server;
