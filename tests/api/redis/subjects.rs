//! Orders about subjects and streams reach every instance, also one that was away, and survive a
//! loss of data.

use std::collections::BTreeMap;

use redis::from_redis_value;
use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::EventStream;

use super::{Cluster, backend_becomes};
use crate::support::{Instance, ask_for_token, issue_with, problem};

/// Streams of orders, as docs/redis.md names them.
const ORDERS: &str = "{vx11}:control";
const BLOCKS: &str = "{vx11}:blocks";
const AVAILABLE: &str = "vx11_operator_control_available";
const INVALID: &str = "vx11_operator_orders_invalid_total";
const REVOKE: &str = "subjects/revoke";
const BLOCK: &str = "subjects/block";
const UNBLOCK: &str = "subjects/unblock";
const END: &str = "streams/end";

/// Gives an order.
async fn order(instance: &Instance, path: &str, fields: &Value) -> Value {
    let request = instance.post_as_principal(&format!("/operator/api/{path}")).json(fields);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path} {fields}");
    response.json().await.unwrap()
}

/// Gives an order until Redis has it: a busy machine may miss the deadline for it.
async fn order_everywhere(instance: &Instance, path: &str, fields: &Value) {
    vx11_kit::until("an order on all instances", async || {
        order(instance, path, fields).await["effective"] == "cluster"
    })
    .await;
}

async fn block_everywhere(instance: &Instance, subject: &str) {
    order_everywhere(instance, BLOCK, &json!({ "subject": subject, "seconds": 600 })).await;
}

/// A token for a subject.
async fn token_of(instance: &Instance, subject: &str) -> String {
    issue_with(instance, &json!({ "subject": subject })).await["sse_token"].as_str().unwrap().to_owned()
}

/// Asserts that the next frame that ends a stream has this reason.
async fn ends(stream: &mut EventStream, reason: &str) {
    let rest = stream.rest().await;
    let last = rest.last().expect("a last frame");
    assert_eq!((last.event.as_str(), &last.json()["reason"]), ("reconnect", &json!(reason)));
}

/// Asserts that a subject gets no token.
async fn issues_nothing(instance: &Instance, subject: &str) {
    let response = ask_for_token(instance, &instance.principal, &json!({ "subject": subject })).await;
    problem(response, StatusCode::FORBIDDEN, "subject_blocked").await;
}

async fn is_active(instance: &Instance, token: &str) -> bool {
    instance.introspect(token).await["active"] == json!(true)
}

async fn becomes_active(instance: &Instance, token: &str) {
    vx11_kit::until("the token to be accepted", async || is_active(instance, token).await).await;
}

impl Cluster {
    /// The time of Redis in milliseconds.
    pub(super) async fn redis_millis(&self) -> u64 {
        let (seconds, _micros): (u64, u64) = from_redis_value(self.redis.command(&["TIME"]).await).unwrap();
        seconds * 1000
    }

    /// Number of entries of a stream for each set of fields.
    async fn entries(&self, stream: &str) -> BTreeMap<String, usize> {
        let answer = self.redis.command(&["XRANGE", stream, "-", "+"]).await;
        let entries: Vec<(String, Vec<String>)> = from_redis_value(answer).unwrap();
        let mut counts = BTreeMap::new();
        for (_, fields) in entries {
            *counts.entry(fields.join(" ")).or_default() += 1;
        }
        counts
    }
}

#[tokio::test]
async fn a_subject_blocked_on_one_instance_is_refused_on_the_other_until_it_is_unblocked() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let (mine, other) = (token_of(&one, "user-7").await, token_of(&one, "user-8").await);
    let mut stream = two.open_stream(&mine).await;
    let _untouched = two.open_stream(&other).await;
    block_everywhere(&one, "user-7").await;
    ends(&mut stream, "blocked").await;
    // The streams end after the block is known.
    issues_nothing(&two, "user-7").await;
    assert!(!is_active(&two, &mine).await);
    let refused = two.ask_for_stream(&mine).await;
    problem(refused, StatusCode::FORBIDDEN, "token_refused").await;
    two.stream_ends_are("blocked", 1).await;
    assert_eq!(two.metric("vx11_operator_sse_streams_open").await, 1);
    two.metric_becomes("vx11_operator_subjects_blocked", 1).await;
    order_everywhere(&two, UNBLOCK, &json!({ "subject": "user-7" })).await;
    for instance in [&one, &two] {
        becomes_active(instance, &mine).await;
    }
    token_of(&one, "user-7").await;
}

#[tokio::test]
async fn everything_issued_to_a_subject_is_revoked_on_all_instances_and_what_follows_is_not() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let (mine, other) = (token_of(&two, "user-7").await, token_of(&two, "user-8").await);
    let mut streams = [one.open_stream(&mine).await, two.open_stream(&mine).await];
    let _untouched = two.open_stream(&other).await;
    order_everywhere(&one, REVOKE, &json!({ "subject": "user-7" })).await;
    for stream in &mut streams {
        ends(stream, "revoked").await;
    }
    for instance in [&one, &two] {
        assert!(!is_active(instance, &mine).await);
        assert!(is_active(instance, &other).await);
        let next = token_of(instance, "user-7").await;
        becomes_active(&two, &next).await;
    }
    assert_eq!(two.metric("vx11_operator_sse_streams_open").await, 1);
}

#[tokio::test]
async fn streams_end_on_all_instances_and_their_tokens_open_new_ones() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let mine = token_of(&one, "user-7").await;
    let mut streams = [one.open_stream(&mine).await, two.open_stream(&mine).await];
    order_everywhere(&one, END, &json!({ "subject": "user-7" })).await;
    for stream in &mut streams {
        ends(stream, "ended").await;
    }
    for instance in [&one, &two] {
        assert!(is_active(instance, &mine).await);
    }
}

#[tokio::test]
async fn an_order_given_while_redis_is_away_holds_here_at_once_and_everywhere_after_it() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let (blocked, revoked) = (token_of(&one, "user-7").await, token_of(&one, "user-8").await);
    let mut streams = [two.open_stream(&blocked).await, two.open_stream(&revoked).await];
    cluster.redis.kill();
    for instance in [&one, &two] {
        backend_becomes(instance, "fallback-memory").await;
    }
    let effective = |answer: Value| answer["effective"].clone();
    let block = json!({ "subject": "user-7", "seconds": 600 });
    assert_eq!(effective(order(&one, BLOCK, &block).await), "instance");
    assert_eq!(effective(order(&one, REVOKE, &json!({ "subject": "user-8" })).await), "instance");
    for token in [&blocked, &revoked] {
        assert!(!is_active(&one, token).await);
        assert!(is_active(&two, token).await, "it cannot know");
    }
    issues_nothing(&one, "user-7").await;
    cluster.redis.restart().await;
    ends(&mut streams[0], "blocked").await;
    ends(&mut streams[1], "revoked").await;
    for token in [&blocked, &revoked] {
        assert!(!is_active(&two, token).await);
    }
    issues_nothing(&two, "user-7").await;
}

#[tokio::test]
async fn an_instance_that_was_cut_off_learns_the_orders_that_it_missed() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let (two, way) = cluster.instance_with_way("2", &[]).await;
    let (mine, other) = (token_of(&one, "user-7").await, token_of(&one, "user-8").await);
    let mut stream = two.open_stream(&mine).await;
    way.refuse();
    backend_becomes(&two, "fallback-memory").await;
    block_everywhere(&one, "user-7").await;
    block_everywhere(&one, "user-8").await;
    order_everywhere(&one, UNBLOCK, &json!({ "subject": "user-8" })).await;
    assert!(is_active(&two, &mine).await, "it cannot know");
    way.pass();
    ends(&mut stream, "blocked").await;
    assert!(!is_active(&two, &mine).await && is_active(&two, &other).await);
}

#[tokio::test]
async fn an_instance_that_starts_learns_the_orders_given_before_it() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let (blocked, revoked) = (token_of(&one, "user-7").await, token_of(&one, "user-8").await);
    block_everywhere(&one, "user-7").await;
    order_everywhere(&one, REVOKE, &json!({ "subject": "user-8" })).await;
    let two = cluster.instance("2").await;
    cluster.redis.kill();
    backend_becomes(&two, "fallback-memory").await;
    for token in [&blocked, &revoked] {
        assert!(!is_active(&two, token).await);
    }
    issues_nothing(&two, "user-7").await;
}

#[tokio::test]
async fn after_a_loss_of_data_each_order_is_brought_back_once() {
    const SUBJECTS: usize = 250;
    let mut cluster = Cluster::start().await;
    let instances = [cluster.instance("1").await, cluster.instance("2").await, cluster.instance("3").await];
    let now = cluster.redis_millis().await;
    for number in 0..SUBJECTS {
        let (subject, at) = (format!("user-{number}"), now.to_string());
        let (until, kept) = ((now + 600_000).to_string(), (now + 700_000).to_string());
        let block = ["kind", "block", "at", &at, "subject", &subject, "until", &until, "kept", &kept];
        cluster.redis.command(&[&["XADD", BLOCKS, "*"], block.as_slice()].concat()).await;
        let revoke = ["kind", "revoke", "at", &at, "subject", &subject];
        cluster.redis.command(&[&["XADD", ORDERS, "*"], revoke.as_slice()].concat()).await;
    }
    let given = [cluster.entries(ORDERS).await, cluster.entries(BLOCKS).await];
    for (losses, restarts) in [(1, false), (2, true)] {
        for instance in &instances {
            instance.metric_becomes("vx11_operator_subjects_blocked", SUBJECTS as u64).await;
        }
        if restarts {
            cluster.redis.restart().await;
        } else {
            cluster.redis.flush().await;
        }
        for instance in &instances {
            vx11_kit::until("the orders to be announced again", async || {
                instance.log_text().matches("are announced again").count() == losses
            })
            .await;
        }
        let there = [cluster.entries(ORDERS).await, cluster.entries(BLOCKS).await];
        assert_eq!(there, given, "the same, and each once");
    }
    let late = cluster.instance("4").await;
    late.metric_becomes("vx11_operator_subjects_blocked", SUBJECTS as u64).await;
    assert_eq!(late.metric(INVALID).await, 0);
}

#[tokio::test]
async fn an_order_that_has_left_its_stream_is_announced_again_once() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    block_everywhere(&one, "user-7").await;
    order_everywhere(&one, REVOKE, &json!({ "subject": "user-8" })).await;
    two.metric_becomes("vx11_operator_subjects_blocked", 1).await;
    let given = [cluster.entries(ORDERS).await, cluster.entries(BLOCKS).await];
    for stream in [ORDERS, BLOCKS] {
        cluster.redis.command(&["XTRIM", stream, "MAXLEN", "0"]).await;
    }
    for (stream, given) in [ORDERS, BLOCKS].into_iter().zip(&given) {
        vx11_kit::until("the orders", async || cluster.entries(stream).await == *given).await;
    }
    cluster.instance("3").await.metric_becomes("vx11_operator_subjects_blocked", 1).await;
    assert_eq!([cluster.entries(ORDERS).await, cluster.entries(BLOCKS).await], given, "each once");
}

#[tokio::test]
async fn an_instance_that_starts_before_it_can_read_orders_says_so_and_carries_them_out_later() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let mine = token_of(&one, "user-7").await;
    block_everywhere(&one, "user-7").await;
    // The key is no stream any longer.
    cluster.redis.command(&["SET", ORDERS, "nothing"]).await;
    let two = cluster.instance("2").await;
    two.logs("this instance serves before it has read all orders").await;
    assert_eq!(two.metric(AVAILABLE).await, 0);
    assert!(is_active(&two, &mine).await, "it cannot know");
    cluster.redis.command(&["DEL", ORDERS]).await;
    two.metric_becomes(AVAILABLE, 1).await;
    assert!(!is_active(&two, &mine).await);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_counted_and_left_out_and_one_out_of_range_is_moved() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let token = token_of(&one, "user-7").await;
    let mut stream = two.open_stream(&token).await;
    let latest = u64::MAX;
    let out_of_range = format!("kind block at {latest} subject user-9 until {latest} kept {latest}");
    for (name, entry) in [
        (ORDERS, "neither nor"),
        (ORDERS, "kind banish at 1 subject user-7"),
        (BLOCKS, "kind block at 1 subject user-7 until 1 kept 1"),
        (BLOCKS, out_of_range.as_str()),
    ] {
        let fields: Vec<_> = entry.split(' ').collect();
        cluster.redis.command(&[&["XADD", name, "*"], fields.as_slice()].concat()).await;
    }
    for instance in [&one, &two] {
        instance.metric_becomes(INVALID, 4).await;
        issues_nothing(instance, "user-9").await;
        assert_eq!(instance.log_text().matches("an order about a subject or streams is invalid").count(), 2);
    }
    // It can be ended like any other.
    order_everywhere(&one, UNBLOCK, &json!({ "subject": "user-9" })).await;
    token_of(&one, "user-9").await;
    assert!(is_active(&two, &token).await);
    order_everywhere(&one, REVOKE, &json!({ "subject": "user-7" })).await;
    ends(&mut stream, "revoked").await;
    assert_eq!(two.metric(INVALID).await, 4);
}
