//! The accept task: listens and carries out the commands of the test, in turn.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::mpsc::Sender;

use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::condition::{Change, Condition, Mode};
use super::flow::Flow;
use crate::port::Port;

/// A command, and the channel that reports its completion.
pub(super) enum Command {
    Change(Change, Sender<()>),
    Count(Sender<usize>),
}

/// Accepts clients. Dropping it ends its connections.
pub(super) struct Acceptor {
    address: SocketAddr,
    /// Until it is used on the proxy's own thread.
    listener: Option<StdListener>,
    upstream: String,
    condition: watch::Sender<Condition>,
    connections: JoinSet<()>,
}

/// A listener on a port that stays the proxy's while nobody listens.
pub(super) fn open_anywhere() -> (Port, StdListener) {
    loop {
        let port = Port::reserve();
        // Somebody who does not reserve ports may have been faster.
        if let Ok(listener) = StdListener::bind(("127.0.0.1", port.number())) {
            return (port, listener);
        }
    }
}

impl Acceptor {
    pub(super) fn new(listener: StdListener, upstream: String) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let condition = watch::Sender::new(Condition::good());
        Self { address, listener: Some(listener), upstream, condition, connections: JoinSet::new() }
    }

    /// Accepts clients and carries out commands until their sender is dropped.
    pub(super) async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        let mut listener = self.listener.take().map(listening);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Change(change, done)) => {
                        self.change(change, &mut listener).await;
                        // The caller may have left; also below.
                        let _ = done.send(());
                    }
                    Some(Command::Count(count)) => {
                        while self.connections.try_join_next().is_some() {}
                        let _ = count.send(self.connections.len());
                    }
                    None => return,
                },
                accepted = accept(listener.as_ref()) => {
                    // A client that left before it was let in is none.
                    let Ok((client, _address)) = accepted else { continue };
                    let flow = Flow::new(client, self.upstream.clone(), self.condition.subscribe());
                    self.connections.spawn(flow.run());
                }
                Some(_ended) = self.connections.join_next() => {}
            }
        }
    }

    async fn change(&mut self, change: Change, listener: &mut Option<TcpListener>) {
        self.condition.send_modify(|condition| condition.change(change));
        if self.condition.borrow().mode == Mode::Refuse {
            *listener = None;
            // Each resets its client's connection, then ends.
            while self.connections.join_next().await.is_some() {}
        } else if listener.is_none() {
            let opened = StdListener::bind(self.address).expect("the port is still the proxy's");
            *listener = Some(listening(opened));
        }
    }
}

fn listening(listener: StdListener) -> TcpListener {
    listener.set_nonblocking(true).expect("a listener need not block");
    TcpListener::from_std(listener).expect("the proxy's thread has a runtime")
}

/// The next client; never one while nobody listens.
async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
