//! A master that changes.

use vx11_kit::{SentinelSet, until};

use crate::client::{ask, connect, refusal};

/// The port of the master, as a client finds it, whichever Sentinel it asks.
async fn found(set: &SentinelSet) -> u16 {
    let mut ports = Vec::new();
    for sentinel in set.sentinels() {
        let client = redis::Client::open(format!("redis://{sentinel}")).expect("an address");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a sentinel");
        let answer = ask(&mut connection, &format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", set.name())).await;
        let (_host, port) =
            redis::from_redis_value::<(String, u16)>(answer.expect("it knows")).expect("an address");
        ports.push(port);
    }
    ports.dedup();
    assert_eq!(ports.len(), 1, "they agree");
    ports[0]
}

#[tokio::test]
async fn a_killed_master_is_replaced_and_comes_back_as_a_replica() {
    let mut set = SentinelSet::start().await;
    assert_eq!(found(&set).await, set.master_port().await);
    set.master().await.command(&["SET", "key", "value"]).await;
    until("the replica to follow", async || set.replica().await.keys().await == ["key"]).await;
    // Twice: there is a second round only with two servers again.
    for _ in 0..2 {
        let old = set.kill_master().await;
        let new = set.await_master_other_than(old).await;
        assert_eq!(found(&set).await, new);
        set.restart_killed().await;
        assert_eq!(set.master_port().await, new);
        assert_eq!(set.replica().await.keys().await, ["key"]);
    }
}

#[tokio::test]
async fn an_ordered_failover_closes_connections_and_exchanges_the_two() {
    let set = SentinelSet::start().await;
    let old = set.master_port().await;
    let mut client = connect(&set.master().await.address()).await;
    let new = set.failover().await;
    assert_ne!(new, old);
    assert_eq!(found(&set).await, new);
    assert!(ask(&mut client, "PING").await.is_err(), "its connection was closed");
    let mut client = connect(&set.replica().await.address()).await;
    assert_eq!(refusal(&mut client, "SET key value").await, "READONLY");
}

#[tokio::test]
async fn a_demotion_leaves_sockets_to_the_old_master_open_until_and_after_all_agree() {
    let set = SentinelSet::start().await;
    let mut client = connect(&set.master().await.address()).await;
    let id = ask(&mut client, "CLIENT ID").await.expect("it works");
    let old = set.demote_leaving_sockets_open().await;
    assert_eq!(refusal(&mut client, "SET key value").await, "READONLY");
    let new = set.await_master_other_than(old).await;
    set.await_healthy().await;
    assert_eq!(found(&set).await, new);
    assert_eq!(refusal(&mut client, "SET key value").await, "READONLY");
    assert_eq!(ask(&mut client, "CLIENT ID").await.expect("it still answers"), id, "on the same connection");
}

#[tokio::test]
async fn two_sentinels_are_enough_and_the_third_catches_up() {
    let mut set = SentinelSet::start().await;
    set.kill_sentinel(0);
    let old = set.kill_master().await;
    let new = set.await_master_other_than(old).await;
    set.restart_sentinel(0).await;
    set.restart_killed().await;
    assert_eq!(set.master_port().await, new);
}
