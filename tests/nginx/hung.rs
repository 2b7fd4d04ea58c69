//! An instance that hangs: its sockets are open, and nobody reads from them.
//!
//! The time until nginx gives it up is a timeout in its configuration (held in `configuration`).
//! Drill 13 measures the effect on streams.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use vx11_kit::{Site, until};

use crate::support::{Cluster, is_deadline, sooner};

#[tokio::test]
async fn requests_are_answered_by_another_instance_and_events_published_once() {
    let mut cluster = Cluster::of(2).await;
    cluster.issue().await;
    cluster.instances[1].stop().await;
    let entries = async || {
        let entries = cluster.redis.command_text(&["XLEN", "{vx11}:events"]).await;
        entries.parse::<usize>().expect("a number")
    };
    // The log begins with an entry that is no event.
    let before = entries().await;
    // Without a key, so that an event that nginx sends twice is in the log twice.
    let (mut accepted, mut unknown) = (0, 0);
    while accepted < 40 {
        cluster.issue().await;
        let answer = cluster.publish(accepted).send().await.unwrap();
        let (status, body) = (answer.status(), answer.json::<Value>().await.unwrap());
        if is_deadline(status, &body) {
            unknown += usize::from(body["code"] == "outcome_unknown");
            continue;
        }
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        accepted += 1;
    }
    let published = entries().await - before;
    assert!((accepted..=accepted + unknown).contains(&published), "{published} of {accepted} and {unknown}");
    // Written when the answer has been sent, which a client may notice first.
    until("a request to have met the instance that hangs", async || {
        cluster.nginx.access_log().contains(r#""upstream_status":"504, 200""#)
    })
    .await;
    cluster.instances[1].cont();
}

#[tokio::test]
async fn its_streams_are_given_up_and_can_be_resumed_elsewhere() {
    let site = Site { files: vec![sooner("locations/streaming.conf", "20s", "4s")], ..Site::default() };
    let heartbeats = [("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "1")];
    let mut cluster = Cluster::with(2, site, &heartbeats).await;
    let token = cluster.issue().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(cluster.open_stream(&token).await);
    }
    cluster.instances[1].stop().await;
    {
        let cluster = &cluster;
        let resumed = streams.into_iter().filter(|(by, _)| by == "2").map(async |(_, mut stream)| {
            stream.rest().await;
            let token = cluster.issue().await;
            cluster.open_stream(&token).await.0
        });
        assert_eq!(join_all(resumed).await, ["1"; 4]);
    }
    // Until then it hung.
    cluster.instances[1].cont();
}
