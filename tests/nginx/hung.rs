//! An instance that hangs: its sockets are open, and nobody reads from them.
//!
//! `configuration` holds the timeouts after which nginx gives it up; drill 13 measures what that means for streams.

use futures_util::future::join_all;
use reqwest::StatusCode;
use vx11_rig::{Site, until};

use crate::support::{Cluster, sooner};

#[tokio::test]
async fn requests_are_answered_by_another_instance_and_events_published_once() {
    let mut cluster = Cluster::of(2).await;
    cluster.issue().await;
    cluster.instances[1].stop().await;
    for number in 0..40 {
        cluster.issue().await;
        assert_eq!(cluster.publish(number).send().await.unwrap().status(), StatusCode::ACCEPTED);
    }
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
            while let Ok(Some(_)) = stream.chunk().await {}
            let token = cluster.issue().await;
            cluster.open_stream(&token).await.0
        });
        assert_eq!(join_all(resumed).await, ["1"; 4]);
    }
    // Until then it hung.
    cluster.instances[1].cont();
}
