//! Keys that are shared by three nodes.

use std::time::Duration;

use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use vx11_kit::{RedisCluster, until};

use crate::client::command;

/// Long enough for an answer on a busy machine, and short enough to wait for one that does not
/// come.
const ANSWERED: Duration = Duration::from_secs(5);

async fn client(cluster: &RedisCluster) -> ClusterConnection {
    let nodes = cluster.addresses().into_iter().map(|address| format!("redis://{address}"));
    let builder = ClusterClientBuilder::new(nodes).connection_timeout(ANSWERED).response_timeout(ANSWERED);
    let client = builder.retries(1).build().expect("addresses");
    client.get_async_connection().await.expect("the cluster can be connected to")
}

/// A key of each node.
async fn keys(cluster: &RedisCluster) -> [String; 3] {
    let mut keys = [const { None }; 3];
    for number in 0.. {
        let key = format!("key-{number}");
        let owner = cluster.owner(&key).await;
        keys[owner].get_or_insert(key);
        if keys.iter().all(Option::is_some) {
            break;
        }
    }
    keys.map(|key| key.expect("each has one"))
}

async fn set(connection: &mut ClusterConnection, key: &str) -> bool {
    command(&format!("SET {key} value")).query_async::<()>(connection).await.is_ok()
}

#[tokio::test]
async fn a_cluster_shares_the_keys_and_says_where_they_are() {
    let cluster = RedisCluster::start(true).await;
    let mut client = client(&cluster).await;
    let keys = keys(&cluster).await;
    for (node, key) in cluster.nodes().iter().zip(&keys) {
        assert!(set(&mut client, key).await);
        assert_eq!(node.keys().await, [key.as_str()]);
    }
    let mut first = redis::Client::open(format!("redis://{}", cluster.addresses()[0])).expect("an address");
    let moved = redis::cmd("GET").arg(&keys[1]).query::<()>(&mut first).expect_err("it is elsewhere");
    assert_eq!(moved.code(), Some("MOVED"));
}

#[tokio::test]
async fn a_cluster_survives_the_restart_of_a_node_with_its_slots() {
    let mut cluster = RedisCluster::start(true).await;
    let keys = keys(&cluster).await;
    let mut client = client(&cluster).await;
    cluster.kill(1);
    cluster.await_loss(1).await;
    assert!(!set(&mut client, &keys[0]).await, "nobody answers for any key");
    cluster.restart(1).await;
    cluster.await_ok().await;
    for key in &keys {
        until("the cluster to take a key", async || set(&mut client, key).await).await;
    }
    assert_eq!(cluster.nodes()[1].keys().await, [keys[1].as_str()], "it has its slots");
}

#[tokio::test]
async fn without_full_coverage_the_others_answer_for_theirs() {
    let mut cluster = RedisCluster::start(false).await;
    let keys = keys(&cluster).await;
    let mut client = client(&cluster).await;
    cluster.stop(2).await;
    cluster.await_loss(2).await;
    until("the living to take a key", async || set(&mut client, &keys[0]).await).await;
    assert!(!set(&mut client, &keys[2]).await, "nobody answers for the dead");
    cluster.cont(2);
    cluster.await_ok().await;
    until("the cluster to take a key", async || set(&mut client, &keys[2]).await).await;
}
