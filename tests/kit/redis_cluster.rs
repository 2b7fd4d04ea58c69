//! A Redis Cluster: three masters that share the keys, none with a replica. What is on a node that
//! is dead cannot be reached until the node is back.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::patience::until;
use crate::server::RedisServer;

/// Which node has which keys.
const SLOTS: [RangeInclusive<u16>; 3] = [0..=5460, 5461..=10_922, 10_923..=16_383];
/// Number of nodes.
const ALL_SLOTS: &str = "16384";

/// The three nodes; killed when dropped.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// A cluster in which all nodes agree that all is well. With `full_coverage`, which is the
    /// default of Redis, no node answers for any key while one of them is dead; without, the others
    /// answer for theirs.
    pub async fn start(full_coverage: bool) -> Self {
        let coverage = if full_coverage { "yes" } else { "no" };
        let node_timeout = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let arguments = [&node_timeout[..], &["--cluster-require-full-coverage", coverage]].concat();
        let mut nodes = Vec::new();
        for (epoch, slots) in (1..).zip(SLOTS) {
            // A cluster has one database only.
            let node = RedisServer::with(&arguments).await.with_db(0);
            // Nodes that begin with the same would have to agree on others first.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &u8::to_string(&epoch)]).await;
            let (first, last) = slots.into_inner();
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            nodes.push(node);
        }
        for other in &nodes[1..] {
            nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string()]).await;
        }
        let cluster = Self { nodes };
        cluster.await_ok().await;
        cluster
    }

    /// The addresses of the nodes, as `127.0.0.1:port`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::address).collect()
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The node whose task a key is, as an index.
    pub async fn owner(&self, key: &str) -> usize {
        let mut living = None;
        for node in &self.nodes {
            if let Ok(slot) = node.try_command(&["CLUSTER", "KEYSLOT", key]).await {
                living = Some(redis::from_redis_value::<u16>(slot).expect("a slot is a number"));
            }
        }
        let slot = living.expect("a node lives");
        SLOTS.iter().position(|slots| slots.contains(&slot)).expect("every slot has a node")
    }

    /// Kills a node without warning. The others notice by themselves
    /// ([`await_loss`](Self::await_loss)).
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// Starts a node again: it comes back with its slots and without its data, and finds the others
    /// by itself ([`await_ok`](Self::await_ok)).
    pub async fn restart(&mut self, index: usize) {
        self.nodes[index].restart().await;
    }

    /// Suspends a node (SIGSTOP); the others treat it as dead.
    pub async fn stop(&mut self, index: usize) {
        self.nodes[index].stop().await;
    }

    /// Lets a stopped node go on.
    pub fn cont(&mut self, index: usize) {
        self.nodes[index].cont();
    }

    /// Waits until all nodes live and each sees nothing wrong with any.
    pub async fn await_ok(&self) {
        until("a cluster that is well", async || {
            for node in &self.nodes {
                let seen = state(node).await;
                let is = |name: &str, value: &str| seen.get(name).is_some_and(|said| said == value);
                let complete = is("cluster_known_nodes", "3") && is("cluster_slots_ok", ALL_SLOTS);
                if !(complete && is("cluster_state", "ok")) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Waits until the others agree that this node is dead.
    pub async fn await_loss(&self, index: usize) {
        until("the cluster to notice the loss of a node", async || {
            for (_, node) in self.nodes.iter().enumerate().filter(|(other, _)| *other != index) {
                if state(node).await.get("cluster_slots_fail").is_none_or(|slots| slots == "0") {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// State of the cluster according to a node; `None` if it is dead.
async fn state(node: &RedisServer) -> BTreeMap<String, String> {
    let Ok(said) = node.try_command(&["CLUSTER", "INFO"]).await else { return BTreeMap::new() };
    let said: String = redis::from_redis_value(said).expect("the answer is a text");
    let members = said.lines().filter_map(|line| line.split_once(':'));
    members.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect()
}
