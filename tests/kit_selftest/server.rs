//! One server: its life, and what can be asked about it.

use redis::Value;
use vx11_kit::{RedisServer, until};

use crate::client::{SHORT, ask, connect, connect_for};

#[tokio::test]
async fn a_killed_server_comes_back_empty_on_the_same_port() {
    let mut server = RedisServer::start().await;
    let (port, pid) = (server.port(), server.pid());
    let mut client = connect(&server.address()).await;
    ask(&mut client, "SET key value").await.expect("it works");
    server.kill();
    assert!(!server.is_running());
    assert!(ask(&mut client, "GET key").await.is_err(), "the connection is closed");
    assert!(connect_for(&server.address(), SHORT).await.is_err_and(|error| error.is_connection_refusal()));

    server.restart().await;
    assert!(server.is_running());
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    let mut client = connect(&server.address()).await;
    assert_eq!(ask(&mut client, "GET key").await.expect("it works again"), Value::Nil);
}

#[tokio::test]
async fn a_server_that_may_keep_its_data_comes_back_with_it() {
    let mut server = RedisServer::with(&["--appendonly", "yes"]).await;
    server.command(&["SET", "key", "value"]).await;
    server.restart().await;
    assert_eq!(server.command_text(&["GET", "key"]).await, "value");
}

#[tokio::test]
async fn a_stopped_server_keeps_its_connections_and_answers_when_it_goes_on() {
    let mut server = RedisServer::start().await;
    let mut client = connect_for(&server.address(), SHORT).await.expect("it answers");
    server.stop().await;
    assert!(server.is_running());
    let silence = ask(&mut client, "SET key value").await.expect_err("it does not answer");
    assert!(silence.is_timeout(), "{silence}");
    server.cont();
    until("what was sent meanwhile to be done", async || server.keys().await == ["key"]).await;
    until("the same connection to work", async || ask(&mut client, "GET key").await.is_ok()).await;
}

#[tokio::test]
async fn a_dropped_server_leaves_no_process() {
    let server = RedisServer::start().await;
    let process = std::path::PathBuf::from(format!("/proc/{}", server.pid()));
    assert!(process.exists());
    drop(server);
    assert!(!process.exists());
}

#[tokio::test]
async fn arguments_reach_the_server() {
    let server = RedisServer::with(&["--maxmemory", "3mb", "--requirepass", "open-sesame"]).await;
    assert_eq!(server.info("memory").await["maxmemory"], "3145728");
    assert!(connect_for(&server.address(), SHORT).await.is_err(), "it asks for the password");
    server.refuse_memory().await;
    server.allow_memory().await;
    assert_eq!(server.info("memory").await["maxmemory"], "3145728", "as it was started");
}

#[tokio::test]
async fn what_a_server_is_asked_can_be_counted_and_read() {
    let server = RedisServer::start().await;
    let mut client = connect(&server.address()).await;
    let monitor = server.monitor().await;
    for key in ["b", "a", "c"] {
        ask(&mut client, &format!("SETEX {key} 60 value")).await.expect("it works");
    }
    assert_eq!(server.keys().await, ["a", "b", "c"]);
    assert_eq!(server.commandstats().await["setex"], 3);
    let lines = monitor.stop().await;
    let written = lines.iter().filter(|line| line.contains(r#""SETEX""#));
    let keys: Vec<_> = written.filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(keys, ["b", "a", "c"], "{lines:?}");
}

#[tokio::test]
async fn databases_are_apart() {
    let server = RedisServer::start().await;
    server.command(&["SET", "key", "value"]).await;
    assert_eq!(server.keys().await, ["key"]);
    assert_eq!(server.with_db(0).keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_server_can_be_filled_with_records_that_expire() {
    let server = RedisServer::start().await;
    server.fill(25_000).await;
    assert_eq!(server.command(&["DBSIZE"]).await, Value::Int(25_000));
    let key = server.command_text(&["RANDOMKEY"]).await;
    assert_eq!(key.len(), "token:".len() + 32, "{key}");
    assert_eq!(server.command(&["STRLEN", &key]).await, Value::Int(40));
    assert!(matches!(server.command(&["TTL", &key]).await, Value::Int(1..=900)));
}

#[tokio::test]
async fn a_server_with_tls_is_trusted_by_those_who_know_its_authority() {
    let server = RedisServer::with_tls().await;
    assert!(server.ca_file().exists() && server.url().starts_with("rediss://127.0.0.1:"));
    assert_eq!(server.command_text(&["PING"]).await, "PONG");
    assert!(connect_for(&server.address(), SHORT).await.is_err(), "it speaks TLS only");
    let stranger = redis::Client::open(server.url()).expect("an address");
    let refused = stranger.get_multiplexed_async_connection().await.map(drop).expect_err("it is a stranger");
    assert!(refused.to_string().contains("certificate"), "{refused}");
}
