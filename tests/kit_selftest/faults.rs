//! One server in a bad mood: what Redis refuses, and to whom.

use redis::Value;
use vx11_kit::{RedisServer, until};

use crate::client::{Raw, ask, connect, refusal};

#[tokio::test]
async fn without_memory_writes_are_refused_and_reads_are_not() {
    let server = RedisServer::start().await;
    let mut client = connect(&server.address()).await;
    ask(&mut client, "SET key value").await.expect("it works");
    server.refuse_memory().await;
    assert_eq!(refusal(&mut client, "SET other value").await, "OOM");
    assert!(ask(&mut client, "GET key").await.is_ok());
    server.allow_memory().await;
    assert!(ask(&mut client, "SET other value").await.is_ok());
}

#[tokio::test]
async fn a_demotion_leaves_sockets_open_and_refuses_writes() {
    let server = RedisServer::start().await;
    let mut client = connect(&server.address()).await;
    let id = ask(&mut client, "CLIENT ID").await.expect("it works");
    ask(&mut client, "SET key value").await.expect("it works");
    server.become_replica().await;
    assert_eq!(refusal(&mut client, "SET other value").await, "READONLY");
    assert!(ask(&mut client, "GET key").await.is_ok());
    server.become_master().await;
    assert!(ask(&mut client, "SET other value").await.is_ok());
    assert_eq!(ask(&mut client, "CLIENT ID").await.expect("it works"), id, "on the same connection");
    assert_eq!(server.keys().await, ["key", "other"]);
}

#[tokio::test]
async fn a_demotion_ends_the_connections_of_those_who_wait() {
    let server = RedisServer::start().await;
    let mut client = connect(&server.address()).await;
    let waiting = tokio::spawn(async move { refusal(&mut client, "XREAD BLOCK 0 STREAMS stream $").await });
    until("the client to wait", async || server.info("clients").await["blocked_clients"] == "1").await;
    server.become_replica().await;
    assert_eq!(waiting.await.expect("it does not wait for ever"), "UNBLOCKED");
}

#[tokio::test]
async fn a_password_shuts_out_those_who_do_not_know_it() {
    let mut server = RedisServer::start().await;
    let mut client = connect(&server.address()).await;
    server.require_password("open-sesame").await;
    assert!(ask(&mut client, "GET key").await.is_err(), "its connection is closed");
    let mut stranger = Raw::connect(&server.address()).await;
    stranger.say("GET key\r\n").await;
    stranger.expect("-NOAUTH Authentication required.\r\n").await;
    assert_eq!(server.command_text(&["PING"]).await, "PONG", "the kit knows it");
    server.require_no_password().await;
    assert!(ask(&mut connect(&server.address()).await, "GET key").await.is_ok());
}

#[tokio::test]
async fn a_password_is_forgotten_by_a_restart() {
    let mut server = RedisServer::start().await;
    server.require_password("open-sesame").await;
    server.restart().await;
    assert!(ask(&mut connect(&server.address()).await, "GET key").await.is_ok());
}

#[tokio::test]
async fn forbidden_data_is_refused_on_open_connections() {
    let server = RedisServer::start().await;
    let mut client = connect(&server.address()).await;
    server.forbid_data().await;
    assert_eq!(refusal(&mut client, "GET key").await, "NOPERM");
    server.permit_data().await;
    assert!(ask(&mut client, "GET key").await.is_ok());
}

#[tokio::test]
async fn a_flush_forgets_everything_and_closes_nothing() {
    let server = RedisServer::start().await;
    let mut client = connect(&server.address()).await;
    ask(&mut client, "SET key value").await.expect("it works");
    server.flush().await;
    assert_eq!(ask(&mut client, "GET key").await.expect("it works"), Value::Nil);
}

#[tokio::test]
async fn closed_connections_can_be_opened_again_at_once() {
    let server = RedisServer::start().await;
    let mut client = connect(&server.address()).await;
    server.close_connections().await;
    assert!(ask(&mut client, "PING").await.is_err());
    assert!(ask(&mut connect(&server.address()).await, "PING").await.is_ok());
}

#[tokio::test]
async fn a_loading_server_says_so_and_then_has_its_data() {
    let mut server = RedisServer::start().await;
    server.command(&["SET", "key", "value"]).await;
    server.restart_loading().await;
    let mut client = connect(&server.address()).await;
    assert_eq!(refusal(&mut client, "GET key").await, "LOADING");
    server.finish_loading().await;
    assert!(ask(&mut client, "GET key").await.is_ok(), "on the same connection");
    assert_eq!(server.keys().await, ["key"]);
    server.restart().await;
    assert_eq!(server.keys().await, Vec::<String>::new(), "nothing is left on disk");
}
