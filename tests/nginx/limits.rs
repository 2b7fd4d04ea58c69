//! What one client address may do.

use reqwest::StatusCode;
use vx11_rig::{ClientLimits, Site};

use crate::support::{Cluster, problem};

#[tokio::test]
async fn too_many_requests_of_one_address_are_answered_with_429_and_only_those() {
    // One a minute: as many are served as may come at once, and no more while the test runs.
    let limits = "limit_req_zone $vx11_client zone=vx11_requests:1m rate=1r/m;\n\
                  limit_req zone=vx11_requests burst=5 nodelay;\n";
    let files = vec![("limits.conf".to_owned(), limits.to_owned())];
    let cluster = Cluster::with(1, Site { files, ..Site::default() }, &[]).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let answer = cluster.get("/operator/api/health").send().await.unwrap();
        statuses.push(answer.status());
        if answer.status() != StatusCode::OK {
            problem(answer, 429, "rate_limited").await;
        }
    }
    let served = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    assert_eq!(served, 6, "{statuses:?}");
    let stream = "/operator/api/events/stream?token=x";
    for (path, accept) in
        [(stream, "*/*"), ("/operator/api/events", "*/*"), ("/operator/api/events", "text/event-stream")]
    {
        let answer = cluster.get(path).header("Accept", accept).send().await.unwrap();
        problem(answer, 429, "rate_limited").await;
    }
    // A browser's own EventSource would give up for good.
    let answer = cluster.get(stream).header("Accept", "text/event-stream").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().starts_with("retry: "));
    assert!(cluster.nginx.access_log().contains(r#""limit_req":"REJECTED""#));
}

#[tokio::test]
async fn too_many_streams_of_one_address_are_answered_with_429_until_one_ends() {
    let limits = ClientLimits { connections: 3, ..ClientLimits::OUT_OF_THE_WAY };
    let cluster = Cluster::with(1, Site { limits: Some(limits), ..Site::default() }, &[]).await;
    let token = cluster.issue().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(cluster.open_stream(&token).await);
    }
    let refused =
        cluster.get("/operator/api/events/stream").query(&[("token", &token)]).send().await.unwrap();
    problem(refused, 429, "rate_limited").await;
    streams.pop();
    vx11_rig::until("a place to be free again", async || {
        let answer = cluster.get("/operator/api/health").send().await.unwrap();
        answer.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn what_ships_lets_a_person_with_many_tabs_through() {
    let cluster = Cluster::with(2, Site { limits: None, ..Site::default() }, &[]).await;
    let token = cluster.issue().await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(cluster.open_stream(&token).await);
        assert_eq!(cluster.get("/operator/api/health").send().await.unwrap().status(), StatusCode::OK);
    }
}
