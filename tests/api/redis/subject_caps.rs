//! The limit of a subject's streams, over all instances.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use vx11_kit::{EventStream, until};

use super::{Cluster, backend_becomes};
use crate::support::{Instance, issue_with, problem};

const LIMIT: usize = 3;
const SETTINGS: [(&str, &str); 1] = [("VX11_OPERATOR__STREAMS__PER_SUBJECT", "3")];
const REPLACES: [(&str, &str); 2] =
    [SETTINGS[0], ("VX11_OPERATOR__STREAMS__PER_SUBJECT_POLICY", "replace_oldest")];

/// A token of a subject.
async fn token_of(instance: &Instance, subject: &str) -> String {
    let issued = issue_with(instance, &json!({ "subject": subject })).await;
    issued["sse_token"].as_str().unwrap().to_owned()
}

/// Opens a stream of a subject; `None` if the limit is reached.
async fn try_open(instance: &Instance, subject: &str) -> Option<EventStream> {
    let response = instance.ask_for_stream(&token_of(instance, subject).await).await;
    if response.status() == StatusCode::OK {
        return Some(EventStream::connected(response).await);
    }
    problem(response, StatusCode::TOO_MANY_REQUESTS, "subject_streams_full").await;
    None
}

async fn open(instance: &Instance, count: usize) -> Vec<EventStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(try_open(instance, "user-7").await.expect("there is room"));
    }
    streams
}

async fn is_full(instance: &Instance) -> bool {
    try_open(instance, "user-7").await.is_none()
}

/// Waits until so many streams of the subject can be opened.
async fn opens_again(instance: &Instance, count: usize) -> Vec<EventStream> {
    let mut streams = Vec::new();
    until("the places", async || {
        streams.extend(try_open(instance, "user-7").await);
        streams.len() == count
    })
    .await;
    streams
}

/// Number of openings that were decided without Redis, as on a busy machine.
async fn decided_alone(instances: &[&Instance]) -> u64 {
    let mut sum = 0;
    for instance in instances {
        sum += instance.metric("vx11_operator_subject_caps_local_total").await;
    }
    sum
}

#[tokio::test]
async fn racing_streams_of_a_subject_get_as_many_places_as_there_are_on_all_instances_together() {
    let cluster = Cluster::start().await;
    let instances = [
        cluster.instance_with("1", &SETTINGS).await,
        cluster.instance_with("2", &SETTINGS).await,
        cluster.instance_with("3", &SETTINGS).await,
    ];
    let subjects = ["a", "b", "c", "d"];
    let openings = (0..9).flat_map(|_| subjects).zip(instances.iter().cycle());
    let outcomes = join_all(openings.map(async |(subject, it)| (subject, try_open(it, subject).await))).await;
    let alone = decided_alone(&instances.each_ref()).await;
    for subject in subjects {
        let open = outcomes.iter().filter(|(of, stream)| *of == subject && stream.is_some()).count();
        assert!(open == LIMIT || alone > 0, "{open} of {subject}");
    }
    let of_others = token_of(&instances[0], "e").await;
    assert_eq!(instances[0].ask_for_stream(&of_others).await.status(), StatusCode::OK);
    let plain = instances[0].issue().await.token;
    assert_eq!(instances[0].ask_for_stream(&plain).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_stream_that_ends_makes_room_on_another_instance() {
    let cluster = Cluster::start().await;
    let (one, two) =
        (cluster.instance_with("1", &SETTINGS).await, cluster.instance_with("2", &SETTINGS).await);
    let mut streams = open(&one, LIMIT).await;
    assert!(is_full(&two).await && is_full(&one).await);
    assert_eq!(two.metric("vx11_operator_subject_caps_reached_total").await, 1);
    assert_eq!(two.metric("vx11_operator_sse_streams_refused_total{reason=\"subject_limit\"}").await, 1);
    streams.pop();
    let _next = opens_again(&two, 1).await;
    assert!(is_full(&one).await);
}

#[tokio::test]
async fn the_places_of_a_killed_instance_are_free_within_three_seconds() {
    let cluster = Cluster::start().await;
    let (one, two) =
        (cluster.instance_with("1", &SETTINGS).await, cluster.instance_with("2", &SETTINGS).await);
    let _streams = open(&one, LIMIT).await;
    assert!(is_full(&two).await);
    one.kill().await;
    let killed_at = Instant::now();
    assert!(is_full(&two).await, "nobody knows yet");
    let _next = opens_again(&two, LIMIT).await;
    // Looking takes a moment.
    assert!(killed_at.elapsed() < Duration::from_millis(3500), "{:?}", killed_at.elapsed());
}

#[tokio::test]
async fn the_oldest_stream_makes_room_if_that_is_the_policy() {
    let cluster = Cluster::start().await;
    let (one, two) =
        (cluster.instance_with("1", &REPLACES).await, cluster.instance_with("2", &REPLACES).await);
    let mut first = open(&one, 1).await;
    let _more = open(&two, LIMIT).await;
    let last = first[0].rest().await.pop().unwrap();
    assert_eq!((last.event.as_str(), last.json()["reason"].as_str()), ("reconnect", Some("replaced")));
    one.stream_ends_are("replaced", 1).await;
    assert_eq!(two.metric("vx11_operator_sse_streams_open").await, LIMIT as u64);
}

#[tokio::test]
async fn an_instance_that_was_suspended_ends_the_streams_whose_places_are_taken() {
    let cluster = Cluster::start().await;
    let (one, two) =
        (cluster.instance_with("1", &SETTINGS).await, cluster.instance_with("2", &SETTINGS).await);
    let _streams = open(&one, LIMIT).await;
    one.suspend().await;
    let _taken = opens_again(&two, LIMIT - 1).await;
    one.resume();
    one.stream_ends_are("lease_lost", 2).await;
    assert_eq!(one.metric("vx11_operator_leases_lost_total").await, 2);
    assert!(is_full(&two).await && is_full(&one).await);
    assert_eq!(one.metric("vx11_operator_sse_streams_open").await, 1);
}

#[tokio::test]
async fn during_a_cut_each_side_has_the_limit_and_afterwards_both_together() {
    let cluster = Cluster::start().await;
    let (cut_off, way) = cluster.instance_with_way("1", &SETTINGS).await;
    let other = cluster.instance_with("2", &SETTINGS).await;
    way.refuse();
    backend_becomes(&cut_off, "fallback-memory").await;
    let (mut mine, _theirs) = (open(&cut_off, LIMIT).await, open(&other, LIMIT).await);
    assert!(is_full(&cut_off).await && is_full(&other).await);
    assert!(cut_off.metric("vx11_operator_subject_caps_local_total").await > LIMIT as u64);
    way.pass();
    cut_off.stream_ends_are("lease_lost", LIMIT as u64).await;
    let last = mine[0].rest().await.pop().unwrap();
    assert_eq!((last.event.as_str(), last.json()["reason"].as_str()), ("reconnect", Some("lease_lost")));
    assert!(is_full(&cut_off).await && is_full(&other).await);
    for reason in ["replaced", "lease_lost"] {
        other.stream_ends_are(reason, 0).await;
    }
}

#[tokio::test]
async fn after_a_loss_of_data_the_limit_holds_again() {
    let cluster = Cluster::start().await;
    let (one, two) =
        (cluster.instance_with("1", &SETTINGS).await, cluster.instance_with("2", &SETTINGS).await);
    let _streams = (open(&one, 1).await, open(&two, LIMIT - 1).await);
    let leases = async || {
        let keys = cluster.redis.keys().await;
        let leases = keys.into_iter().find(|key| key.starts_with("{vx11}:subject:"))?;
        redis::from_redis_value::<usize>(cluster.redis.command(&["HLEN", &leases]).await).ok()
    };
    assert_eq!(leases().await, Some(LIMIT));
    cluster.redis.flush().await;
    until("all leases", async || leases().await == Some(LIMIT)).await;
    assert!(is_full(&one).await && is_full(&two).await);
}
