//! The network: what is lost, refused and late.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use vx11_rig::{FaultProxy, RedisServer, until};

use crate::client::{Raw, SHORT, ask, connect, connect_for};

#[tokio::test]
async fn a_proxy_passes_what_is_said_and_counts_who_says_it() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut client = connect(&proxy.address()).await;
    let large = "x".repeat(1_000_000);
    ask(&mut client, &format!("SET key {large}")).await.expect("it passes");
    let value: String =
        redis::from_redis_value(ask(&mut client, "GET key").await.expect("it passes")).expect("a text");
    assert!(value == large);
    assert_eq!(proxy.connections(), 1);
    let other = connect(&proxy.address()).await;
    assert_eq!(proxy.connections(), 2);
    drop(other);
    until("the proxy to notice that a client left", async || proxy.connections() == 1).await;
}

#[tokio::test]
async fn a_black_hole_answers_nothing_and_old_connections_stay_dead_after_it() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut old = connect_for(&proxy.address(), SHORT).await.expect("it passes");
    let mut idle = Raw::connect(&proxy.address()).await;
    idle.say("PING\r\n").await;
    idle.hear("+PONG\r\n").await;
    proxy.black_hole();
    assert!(ask(&mut old, "SET key value").await.expect_err("no answer").is_timeout());
    // Whoever comes now is let in, and hears nothing either.
    let mut meanwhile = Raw::connect(&proxy.address()).await;
    meanwhile.say("SET key value\r\n").await;
    meanwhile.hear_nothing().await;

    proxy.pass();
    assert!(ask(&mut old, "SET key value").await.expect_err("no answer").is_timeout());
    for dead in [&mut idle, &mut meanwhile] {
        dead.say("PING\r\n").await;
        dead.hear_nothing().await;
    }
    let mut new = connect(&proxy.address()).await;
    assert!(ask(&mut new, "PING").await.is_ok());
    assert_eq!(server.keys().await, Vec::<String>::new(), "what was swallowed is lost");
}

#[tokio::test]
async fn a_black_hole_of_no_length_kills_all_the_same() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut dead = Vec::new();
    // Often: now and then it is over before a connection has noticed.
    for _ in 0..200 {
        let mut old = Raw::connect(&proxy.address()).await;
        old.say("PING\r\n").await;
        old.hear("+PONG\r\n").await;
        proxy.black_hole();
        proxy.pass();
        old.say("PING\r\n").await;
        dead.push(old);
    }
    dead[0].hear_nothing().await;
    for old in &dead {
        let heard = old.0.try_read(&mut [0]).expect_err("no answer on any of them");
        assert_eq!(heard.kind(), ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn a_refusal_resets_connections_and_lets_nobody_in_until_it_ends() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut old = Raw::connect(&proxy.address()).await;
    old.say("PING\r\n").await;
    old.hear("+PONG\r\n").await;
    proxy.refuse();
    assert_eq!(proxy.connections(), 0);
    let reset = old.0.read(&mut [0]).await.expect_err("it was reset");
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(proxy.address()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.pass();
    assert!(ask(&mut connect(&proxy.address()).await, "PING").await.is_ok());
}

#[tokio::test]
async fn those_lost_in_a_black_hole_are_reset_by_a_refusal() {
    let proxy = FaultProxy::start("127.0.0.1:1".to_owned());
    proxy.black_hole();
    let mut lost = Raw::connect(&proxy.address()).await;
    until("the client to be let in", async || proxy.connections() == 1).await;
    proxy.refuse();
    let reset = lost.0.read(&mut [0]).await.expect_err("it was reset");
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_delay_makes_each_round_trip_longer_and_no_more_than_that() {
    let delay = Duration::from_millis(200);
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let client = connect(&proxy.address()).await;
    proxy.delay(delay);
    let started = Instant::now();
    // Side by side on one connection: the way is long, not narrow.
    let mut commands = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let mut client = client.clone();
        commands.spawn(async move { ask(&mut client, "PING").await.is_ok() });
    }
    assert!(commands.join_all().await.into_iter().all(|answered| answered));
    let took = started.elapsed();
    assert!(took >= delay && took < delay * 5, "{took:?}");
    proxy.pass();
    let started = Instant::now();
    assert!(ask(&mut client.clone(), "PING").await.is_ok());
    assert!(started.elapsed() < delay);
}

#[tokio::test]
async fn a_stall_strikes_with_its_probability() {
    let stall = Duration::from_millis(50);
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut client = connect(&proxy.address()).await;
    for (probability, expected) in [(0.0, 0..=0), (0.5, 4..=36), (1.0, 40..=40)] {
        proxy.stall(probability, stall);
        let mut late = 0;
        for _ in 0..40 {
            let started = Instant::now();
            ask(&mut client, "PING").await.expect("it passes");
            late += usize::from(started.elapsed() >= stall);
        }
        // A busy machine may make some late that were not stalled.
        assert!(late >= *expected.start(), "{late} of 40 at {probability}");
        assert!(late <= expected.end() + 4, "{late} of 40 at {probability}");
    }
}

#[tokio::test]
async fn behind_a_proxy_a_dead_server_closes_connections_and_a_living_one_is_found_again() {
    let mut server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut client = connect(&proxy.address()).await;
    server.kill();
    assert!(ask(&mut client, "PING").await.is_err());
    assert!(connect_for(&proxy.address(), SHORT).await.is_err());
    server.restart().await;
    assert!(ask(&mut connect(&proxy.address()).await, "PING").await.is_ok());
}
