//! A network to Redis that can be broken: a TCP proxy between an instance and a real server.
//!
//! This is the only fake of the kit. Redis produces its faults itself (see
//! [`RedisServer`](crate::RedisServer)). A network between two processes of one machine neither
//! loses nor delays data, and the kernel does so only with rights that a test lacks.

mod acceptor;
mod condition;
mod flow;
mod queue;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::port::Port;
use acceptor::{Acceptor, Command};
use condition::Change;

/// A proxy that passes everything on by default. Dropping it ends its connections.
///
/// A change applies to open and new connections, and is complete when the call returns. The proxy
/// runs on a separate thread, which a busy test does not slow down.
pub struct FaultProxy {
    address: SocketAddr,
    /// Taken when dropped: the thread ends with its commands.
    commands: Option<UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
    _port: Port,
}

impl FaultProxy {
    /// A proxy to `upstream`, such as `127.0.0.1:6379`. Nothing needs to listen there yet.
    #[must_use]
    pub fn start(upstream: String) -> Self {
        let (port, listener) = acceptor::open_anywhere();
        let address = listener.local_addr().expect("a listener has an address");
        let (commands, received) = unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
        let run = move || runtime.block_on(Acceptor::new(listener, upstream).run(received));
        let thread = std::thread::Builder::new().name("fault-proxy".to_owned()).spawn(run);
        let thread = thread.expect("a thread can be started");
        Self { address, commands: Some(commands), thread: Some(thread), _port: port }
    }

    /// Address for clients, `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The same as a number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Number of connected clients.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.give(Command::Count)
    }

    /// Passes everything on, without delay.
    pub fn pass(&self) {
        self.give(|done| Command::Change(Change::Pass, done));
    }

    /// Swallows whatever is sent in either direction, for good: a connection that was open
    /// meanwhile stays dead after this is over, as one whose packets were dropped for long. New
    /// ones are accepted, and dead as well.
    pub fn black_hole(&self) {
        self.give(|done| Command::Change(Change::BlackHole, done));
    }

    /// Resets all connections and refuses new ones: nobody listens.
    pub fn refuse(&self) {
        self.give(|done| Command::Change(Change::Refuse, done));
    }

    /// Passes everything on, and makes every round trip take so much longer: half of it each way.
    pub fn delay(&self, by: Duration) {
        self.give(|done| Command::Change(Change::Delay(by), done));
    }

    /// Lets some answers come later still, and with them all that is behind them, as after the loss
    /// of a packet. Lasts until [`pass`](Self::pass); a [`delay`](Self::delay) stays as it is.
    pub fn stall(&self, probability: f64, by: Duration) {
        self.give(|done| Command::Change(Change::Stall(probability, by), done));
    }

    /// Lets no more than so many bytes a second pass in either direction on each connection. Lasts
    /// until [`pass`](Self::pass).
    pub fn narrow(&self, bytes_per_second: u32) {
        self.give(|done| Command::Change(Change::Narrow(bytes_per_second), done));
    }

    /// Gives a command and waits until it is carried out, which takes no longer than a change of
    /// threads.
    fn give<T>(&self, command: impl FnOnce(mpsc::Sender<T>) -> Command) -> T {
        let (done, carried_out) = mpsc::channel();
        let commands = self.commands.as_ref().expect("commands are taken until it is dropped");
        commands.send(command(done)).expect("the proxy runs");
        carried_out.recv().expect("the proxy carries out its commands")
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // It may have failed, and said so.
            let _ = thread.join();
        }
    }
}
