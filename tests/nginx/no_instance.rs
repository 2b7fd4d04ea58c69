//! No instance answers, or none takes streams: the answer that keeps a browser's `EventSource`
//! alive, and the answers to others.

use std::collections::BTreeSet;

use reqwest::{Client, StatusCode};
use vx11_kit::{EventStream, Nginx, Site};

use crate::support::{Cluster, problem};

const STREAM: &str = "/operator/api/events/stream?token=nonsense";
/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// The body of an empty stream.
async fn retry_of(answer: reqwest::Response) -> u64 {
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let body = answer.text().await.unwrap();
    let retry =
        body.strip_prefix("retry: ").and_then(|rest| rest.split('\n').next()).expect("a time to come back");
    assert!(body.ends_with("\n\n") && !body.contains("data:"), "{body:?}");
    retry.parse().expect("milliseconds")
}

#[tokio::test]
async fn event_sources_get_different_times_to_come_back() {
    let nginx = Nginx::start(&[NOWHERE.to_owned()]).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let mut waits = BTreeSet::new();
    for _ in 0..40 {
        let request =
            client.get(format!("{}{STREAM}", nginx.balancer())).header("Accept", "text/event-stream");
        waits.insert(retry_of(request.send().await.unwrap()).await);
    }
    assert!(waits.len() >= 5, "{waits:?}");
    assert!(waits.iter().all(|wait| (1000..=5000).contains(wait)), "{waits:?}");
}

#[tokio::test]
async fn all_other_clients_get_a_problem() {
    let nginx = Nginx::start(&[NOWHERE.to_owned()]).await;
    let client = Client::builder().no_proxy().build().unwrap();
    for accept in ["*/*", "application/json"] {
        for path in [STREAM, "/operator/api/health", "/operator/api/events/sse-token", "/health", "/"] {
            let request = client.get(format!("{}{path}", nginx.balancer())).header("Accept", accept);
            problem(request.send().await.unwrap(), 503, "no_instance").await;
        }
        let event = client.post(format!("{}/operator/api/events", nginx.balancer())).header("Accept", accept);
        problem(event.body("{}").send().await.unwrap(), 503, "no_instance").await;
    }
}

#[tokio::test]
async fn an_instance_that_is_full_says_so_to_programs_and_sends_an_event_source_back() {
    let cluster = Cluster::with(1, Site::default(), &[("VX11_OPERATOR__STREAMS__MAX", "1")]).await;
    let token = cluster.issue().await;
    let _only = cluster.open_stream(&token).await;
    let ask = |accept: &str| {
        let request = cluster.get("/operator/api/events/stream").query(&[("token", &token)]);
        request.header("Accept", accept).send()
    };
    problem(ask("*/*").await.unwrap(), 503, "streams_full").await;
    retry_of(ask("text/event-stream").await.unwrap()).await;
}

#[tokio::test]
async fn an_event_source_gets_its_events_where_there_is_an_instance() {
    let cluster = Cluster::of(1).await;
    let token = cluster.issue().await;
    let request = cluster.get("/operator/api/events/stream").query(&[("token", &token)]);
    let answer = request.header("Accept", "text/event-stream").send().await.unwrap();
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let mut stream = EventStream::connected(answer).await;
    cluster.publish_event(4711.into()).await;
    // It is not held back.
    while stream.next_published().await.json() != 4711 {}
}
