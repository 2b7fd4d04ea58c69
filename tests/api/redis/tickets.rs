//! Single-use tokens on several instances.

use reqwest::{Response, StatusCode};
use serde_json::json;
use vx11_kit::{EventStream, until};

use super::{Cluster, backend_becomes};
use crate::support::{Instance, issue_with, problem};

const AUTHORISE: &str = "/operator/internal/authorise";
const USED: &str = "vx11_operator_ephemeral_tokens_invalid_total{reason=\"used\"}";

/// A token that opens one stream.
async fn ticket(instance: &Instance) -> String {
    let issued = issue_with(instance, &json!({ "single_use": true })).await;
    issued["sse_token"].as_str().unwrap().to_owned()
}

async fn refused(response: Response) {
    problem(response, StatusCode::FORBIDDEN, "token_refused").await;
}

/// Waits until the ticket opens a stream.
async fn opens(instance: &Instance, ticket: &str) -> EventStream {
    let response = vx11_kit::eventually("the ticket to open", async || {
        Some(instance.ask_for_stream(ticket).await).filter(|answer| answer.status() == StatusCode::OK)
    });
    EventStream::connected(response.await).await
}

/// Asks as a proxy does, with the id of the client's request.
async fn authorise(instance: &Instance, ticket: &str, request: &str) -> Response {
    let query = instance.get(AUTHORISE).query(&[("token", ticket)]);
    query.header("X-Request-Id", request).send().await.unwrap()
}

#[tokio::test]
async fn while_its_stream_is_open_a_ticket_opens_no_other_on_any_instance() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let ticket = ticket(&one).await;
    let _stream = one.open_stream(&ticket).await;
    refused(one.ask_for_stream(&ticket).await).await;
    refused(two.ask_for_stream(&ticket).await).await;
    refused(authorise(&two, &ticket, "a").await).await;
    assert_eq!((one.metric(USED).await, two.metric(USED).await), (1, 2));
    assert_eq!(one.introspect(&ticket).await["active"], true, "introspection opens nothing");
    assert_eq!(one.metric("vx11_operator_sse_streams_open").await, 1);
}

#[tokio::test]
async fn a_client_that_was_cut_off_opens_its_ticket_again_at_once() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let ticket = ticket(&one).await;
    for instance in [&one, &two, &two, &one] {
        // The connection is closed, and nothing waits until the instance knows.
        drop(instance.open_stream(&ticket).await);
    }
    assert_eq!(one.metric(USED).await + two.metric(USED).await, 0);
}

#[tokio::test]
async fn a_ticket_opens_again_after_its_instance_was_killed() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let ticket = ticket(&one).await;
    let _stream = one.open_stream(&ticket).await;
    one.kill().await;
    // It waits until the instance is proven dead.
    assert_eq!(two.ask_for_stream(&ticket).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_of_a_proxy_uses_the_ticket_and_its_repetition_passes() {
    let cluster = Cluster::start().await;
    let trusted = [("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "127.0.0.1/32")];
    let (one, two) = (cluster.instance_with("1", &trusted).await, cluster.instance_with("2", &trusted).await);
    let ticket = ticket(&one).await;
    for instance in [&one, &two] {
        assert_eq!(authorise(instance, &ticket, "a").await.status(), StatusCode::NO_CONTENT);
    }
    refused(authorise(&one, &ticket, "b").await).await;
    refused(one.ask_for_stream(&ticket).await).await;
}

#[tokio::test]
async fn the_request_id_of_a_stranger_repeats_nothing() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let ticket = ticket(&one).await;
    assert_eq!(authorise(&one, &ticket, "a").await.status(), StatusCode::NO_CONTENT);
    refused(authorise(&one, &ticket, "a").await).await;
}

#[tokio::test]
async fn during_a_cut_a_ticket_opens_once_on_each_side_and_one_stream_stays() {
    let cluster = Cluster::start().await;
    let (cut_off, way) = cluster.instance_with_way("1", &[]).await;
    let other = cluster.instance("2").await;
    let ticket = ticket(&other).await;
    way.refuse();
    backend_becomes(&cut_off, "fallback-memory").await;
    let (_mine, _theirs) = (cut_off.open_stream(&ticket).await, other.open_stream(&ticket).await);
    refused(cut_off.ask_for_stream(&ticket).await).await;
    assert!(cut_off.metric("vx11_operator_tickets_local_total").await > 0);
    way.pass();
    cut_off.stream_ends_are("lease_lost", 1).await;
    assert_eq!(other.metric("vx11_operator_sse_streams_open").await, 1);
}

#[tokio::test]
async fn a_ticket_that_was_used_without_redis_stays_used() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let ticket = ticket(&one).await;
    cluster.redis.kill();
    backend_becomes(&one, "fallback-memory").await;
    let _stream = one.open_stream(&ticket).await;
    cluster.redis.restart().await;
    for instance in [&one, &two] {
        backend_becomes(instance, "redis").await;
    }
    let is_known = async || cluster.redis.keys().await.iter().any(|key| key.ends_with(":ticket"));
    until("the use to be known", is_known).await;
    refused(two.ask_for_stream(&ticket).await).await;
    assert_eq!(one.metric("vx11_operator_sse_streams_open").await, 1);
}

#[tokio::test]
async fn without_redis_a_ticket_opens_one_stream() {
    let instance = Instance::start().await;
    let ticket = ticket(&instance).await;
    let stream = instance.open_stream(&ticket).await;
    refused(instance.ask_for_stream(&ticket).await).await;
    drop(stream);
    drop(opens(&instance, &ticket).await);
    assert_eq!(authorise(&instance, &ticket, "a").await.status(), StatusCode::NO_CONTENT);
    refused(instance.ask_for_stream(&ticket).await).await;
}
