//! The network: what is lost, refused and late.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use vx11_kit::{FaultProxy, PATIENCE, RedisServer, until};

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
    idle.expect("+PONG\r\n").await;
    proxy.black_hole();
    assert!(ask(&mut old, "SET key value").await.expect_err("no answer").is_timeout());
    // A new client is accepted, and receives nothing either.
    let mut meanwhile = Raw::connect(&proxy.address()).await;
    meanwhile.say("SET key value\r\n").await;
    meanwhile.expect_nothing().await;

    proxy.pass();
    assert!(ask(&mut old, "SET key value").await.expect_err("no answer").is_timeout());
    for dead in [&mut idle, &mut meanwhile] {
        dead.say("PING\r\n").await;
        dead.expect_nothing().await;
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
        old.expect("+PONG\r\n").await;
        proxy.black_hole();
        proxy.pass();
        old.say("PING\r\n").await;
        dead.push(old);
    }
    dead[0].expect_nothing().await;
    for old in &dead {
        let received = old.0.try_read(&mut [0]).expect_err("no answer on any of them");
        assert_eq!(received.kind(), ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn a_refusal_resets_connections_and_lets_nobody_in_until_it_ends() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut old = Raw::connect(&proxy.address()).await;
    old.say("PING\r\n").await;
    old.expect("+PONG\r\n").await;
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

/// Several answers, one after the other.
async fn ask_in_turn(mut client: MultiplexedConnection, times: usize) {
    for _ in 0..times {
        ask(&mut client, "PING").await.expect("it passes");
    }
}

/// As many, side by side on one connection.
async fn ask_side_by_side(client: MultiplexedConnection, times: usize) {
    join_all((0..times).map(|_| ask_in_turn(client.clone(), 1))).await;
}

/// Whether `one` completes before `other`, which is then dropped. `other` takes longer than any
/// wait of a test, however busy the machine is.
async fn is_over_first(one: impl Future, other: impl Future) -> bool {
    tokio::select! {
        _ = one => true,
        _ = other => false,
    }
}

#[tokio::test]
async fn a_delay_makes_each_round_trip_longer_and_the_way_no_narrower() {
    let server = RedisServer::start().await;
    let way = || FaultProxy::start(server.address());
    let (near, far, long) = (way(), way(), way());
    // Connected before the delay: a client asks Redis for something when it connects.
    let (to_near, to_far) = (connect(&near.address()).await, connect(&far.address()).await);
    let (one_of_long, other_of_long) = (connect(&long.address()).await, connect(&long.address()).await);
    far.delay(Duration::from_mins(30));
    let (ten, one) = (ask_in_turn(to_near.clone(), 10), ask_in_turn(to_far, 1));
    assert!(is_over_first(ten, one).await, "a delay on another way does not matter");

    long.delay(Duration::from_secs(1));
    // Takes a second side by side, and three times as long as any wait in turn.
    let many = usize::try_from(PATIENCE.as_secs() * 3).expect("a small number");
    let (side_by_side, in_turn) = (ask_side_by_side(one_of_long, many), ask_in_turn(other_of_long, many));
    assert!(is_over_first(side_by_side, in_turn).await, "the way is long, not narrow");

    far.pass();
    near.delay(Duration::from_mins(30));
    // On another connection than the one on which an answer is still under way.
    let (ten, one) = (ask_in_turn(connect(&far.address()).await, 10), ask_in_turn(to_near, 1));
    assert!(is_over_first(ten, one).await, "and no longer than it was");
}

#[tokio::test]
async fn a_narrow_link_carries_no_more_than_its_rate() {
    let server = RedisServer::start().await;
    let way = || FaultProxy::start(server.address());
    let (narrow, narrower) = (way(), way());
    // Connected before: a client asks Redis for something when it connects.
    let (mut to_narrow, mut to_narrower) =
        (connect(&narrow.address()).await, connect(&narrower.address()).await);
    ask(&mut to_narrow, &format!("SET key {}", "x".repeat(1_000_000))).await.expect("it passes");
    // It takes a tenth of a second to come back over one of them, and hours over the other.
    narrow.narrow(10_000_000);
    narrower.narrow(100);
    let soon = async { ask(&mut to_narrow, "GET key").await.expect("it passes") };
    assert!(is_over_first(soon, ask(&mut to_narrower, "GET key")).await, "the rate counts");

    let short = async { ask(&mut connect(&narrower.address()).await, "PING").await.expect("it passes") };
    let next = ask(&mut to_narrower, "PING");
    assert!(is_over_first(short, next).await, "each connection has the rate, in the order of its answers");

    narrower.pass();
    let again = async { ask(&mut connect(&narrower.address()).await, "GET key").await.expect("it passes") };
    assert!(is_over_first(again, ask(&mut to_narrower, "PING")).await, "and the way is as wide as it was");

    let mut to_narrow_again = connect(&narrower.address()).await;
    narrower.narrow(100);
    let large = format!("SET key {}", "x".repeat(1_000_000));
    let there = async { ask(&mut to_narrow, &large).await.expect("it passes") };
    assert!(
        is_over_first(there, ask(&mut to_narrow_again, &large)).await,
        "the rate counts on the way there"
    );
}

#[tokio::test]
async fn a_stall_strikes_with_its_probability() {
    const CLIENTS: usize = 40;
    let server = RedisServer::start().await;
    for (probability, expected) in [(0.0, 0..=0), (0.5, 4..=36), (1.0, CLIENTS..=CLIENTS)] {
        let proxy = FaultProxy::start(server.address());
        // Nobody waits for the end of it: what is stalled does not come.
        proxy.stall(probability, Duration::from_hours(1));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = Raw::connect(&proxy.address()).await;
            client.say("PING\r\n").await;
            clients.push(client);
        }
        let mut answered = [false; CLIENTS];
        let mut look = async || {
            for (client, answered) in clients.iter_mut().zip(&mut answered) {
                *answered |= client.0.try_read(&mut [0; 16]).is_ok();
            }
            answered.iter().filter(|answered| **answered).count()
        };
        until("the answers that are not stalled", async || look().await >= CLIENTS - expected.end()).await;
        // Time for answers that must not come.
        tokio::time::sleep(SHORT).await;
        let stalled = CLIENTS - look().await;
        assert!(expected.contains(&stalled), "{stalled} of {CLIENTS} at {probability}");
    }
}

#[tokio::test]
async fn a_proxy_closes_connections_of_a_dead_server_and_finds_a_living_one_again() {
    let mut server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.address());
    let mut client = connect(&proxy.address()).await;
    server.kill();
    assert!(ask(&mut client, "PING").await.is_err());
    assert!(connect_for(&proxy.address(), SHORT).await.is_err());
    server.restart().await;
    assert!(ask(&mut connect(&proxy.address()).await, "PING").await.is_ok());
}
