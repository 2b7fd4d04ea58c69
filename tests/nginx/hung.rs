//! An instance that hangs: its sockets are open, and nobody reads from them.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::StatusCode;

use crate::support::Cluster;

/// Until nginx gives a silent stream up (`locations/streaming.conf`), and room for a busy machine.
const STREAM_IS_GIVEN_UP: Duration = Duration::from_secs(24);
/// The promise about streams of an instance that hangs.
const RESUMED: Duration = Duration::from_secs(45);

#[tokio::test]
async fn requests_are_answered_by_another_instance_and_events_published_once() {
    let mut cluster = Cluster::of(2).await;
    cluster.issue().await;
    cluster.instances[1].stop().await;
    let mut slowest = Duration::ZERO;
    for number in 0..40 {
        let started = Instant::now();
        cluster.issue().await;
        slowest = slowest.max(started.elapsed());
        let started = Instant::now();
        assert_eq!(cluster.publish(number).send().await.unwrap().status(), StatusCode::ACCEPTED);
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest >= Duration::from_secs(1), "no request met the instance that hangs");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    cluster.instances[1].cont();
}

#[tokio::test]
async fn its_streams_are_given_up_and_can_be_resumed_elsewhere() {
    let mut cluster = Cluster::of(2).await;
    let token = cluster.issue().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(cluster.open_stream(&token).await);
    }
    let hung = cluster.instances.len() - 1;
    cluster.instances[hung].stop().await;
    let stopped = Instant::now();
    let cluster = &cluster;
    let resumed = streams.into_iter().filter(|(by, _)| by == "2").map(async |(_, mut stream)| {
        while let Ok(Some(_)) = stream.chunk().await {}
        let given_up = stopped.elapsed();
        let token = cluster.issue().await;
        let (by, _stream) = cluster.open_stream(&token).await;
        (given_up, stopped.elapsed(), by)
    });
    let resumed = join_all(resumed).await;
    assert_eq!(resumed.len(), 4);
    for (given_up, resumed, by) in resumed {
        assert!(given_up < STREAM_IS_GIVEN_UP, "{given_up:?}");
        assert!(resumed < RESUMED, "{resumed:?}");
        assert_eq!(by, "1");
    }
}
