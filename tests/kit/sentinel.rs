//! A master and its replica under three Sentinels, which put the replica in the master's place when
//! it fails.
//!
//! Sentinel looks at what its servers say of themselves every ten seconds, and believes a master
//! that calls itself a replica only after another twenty: left to itself it takes half a minute to
//! agree with a demotion. Here it looks more often, with the knob its authors made for their own
//! tests: what it does is the same, in three seconds.

mod changes;
mod watcher;

use crate::patience::until;
use crate::server::RedisServer;
use watcher::Watcher;

/// Name of the pair for the Sentinels.
const NAME: &str = "vx11";

/// The two servers and their Sentinels; killed when dropped.
pub struct SentinelSet {
    nodes: Vec<RedisServer>,
    watchers: Vec<Watcher>,
}

impl SentinelSet {
    /// A healthy set: all Sentinels know both servers and each other.
    pub async fn start() -> Self {
        // Without a delay a replica is fed at once; the default waits for more replicas to come.
        let at_once = ["--repl-diskless-sync-delay", "0"];
        let nodes = vec![RedisServer::with(&at_once).await, RedisServer::with(&at_once).await];
        let master = nodes[0].port().to_string();
        nodes[1].command(&["REPLICAOF", "127.0.0.1", &master]).await;
        let mut watchers = Vec::new();
        for _ in 0..3 {
            watchers.push(Watcher::start(nodes[0].port()).await);
        }
        let set = Self { nodes, watchers };
        set.await_healthy().await;
        set
    }

    /// The name of the pair, by which clients ask for its master.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// The addresses of the Sentinels.
    #[must_use]
    pub fn sentinels(&self) -> Vec<String> {
        self.watchers.iter().map(Watcher::address).collect()
    }

    /// Both servers, in no particular order.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The port of the master, as the first Sentinel that lives says.
    pub async fn master_port(&self) -> u16 {
        for watcher in &self.watchers {
            if let Some(port) = watcher.master_port().await {
                return port;
            }
        }
        panic!("no sentinel answers");
    }

    /// The server that is the master, as the Sentinels say.
    pub async fn master(&self) -> &RedisServer {
        &self.nodes[self.master_index().await]
    }

    /// The other one.
    pub async fn replica(&self) -> &RedisServer {
        &self.nodes[1 - self.master_index().await]
    }

    /// Kills one of the three Sentinels; two are enough to agree.
    pub fn kill_sentinel(&mut self, index: usize) {
        self.watchers[index].kill();
    }

    /// Starts a Sentinel again, with what it knew.
    pub async fn restart_sentinel(&mut self, index: usize) {
        self.watchers[index].restart().await;
    }

    /// Waits until all Sentinels live and agree that all is well: one master that says so itself,
    /// one replica that follows it, and three of them. Only then is the next failure met by a set
    /// that can deal with it.
    pub async fn await_healthy(&self) {
        until("a healthy set", async || {
            let master = self.master_index().await;
            let (master, replica) = (&self.nodes[master], &self.nodes[1 - master]);
            for watcher in &self.watchers {
                if !watcher.is_content(master.port(), replica.port()).await {
                    return false;
                }
            }
            follows(replica, master).await
        })
        .await;
    }

    async fn master_index(&self) -> usize {
        let port = self.master_port().await;
        self.nodes.iter().position(|node| node.port() == port).expect("the master is one of the two")
    }
}

/// Whether a server is another's replica and has its data.
async fn follows(replica: &RedisServer, master: &RedisServer) -> bool {
    let says = replica.info("replication").await;
    let is = |name: &str, value: &str| says.get(name).is_some_and(|said| said == value);
    is("role", "slave") && is("master_port", &master.port().to_string()) && is("master_link_status", "up")
}
