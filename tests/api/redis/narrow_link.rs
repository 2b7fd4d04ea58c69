//! An instance whose link to Redis is narrow: a 100 Mbit/s uplink, a VPN, a throttled virtual
//! machine. It reads the log as fast as the link allows, and is not locked out of it.

use serde_json::json;
use vx11_kit::{EventStream, FaultProxy};

use super::Cluster;
use crate::support::Instance;

/// Nearly the largest event.
const LARGE: usize = 60_000;
/// So many of them take two seconds on a link of so many bytes a second: four times the deadline
/// for a small answer.
const BACKLOG: usize = 64;
const NARROW: u32 = 2_000_000;
/// A link on which one of them takes longer than that deadline.
const VERY_NARROW: u32 = 100_000;

const LONG_LIFE: (&str, &str) = ("EPHEMERAL_TOKEN_TTL_SEC", "900");

async fn publish(instance: &Instance, count: usize) -> Vec<String> {
    let data = "x".repeat(LARGE);
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(instance.publish(json!(data)).await);
    }
    ids
}

async fn delivers(stream: &mut EventStream, ids: &[String]) {
    for id in ids {
        assert_eq!(stream.next_published().await.id, *id);
    }
}

#[tokio::test]
async fn a_backlog_of_large_events_on_a_narrow_link_is_read() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let (two, way) = cluster.instance_with_way("2", &[LONG_LIFE]).await;
    let mut stream = two.open_stream(&two.issue().await.token).await;
    way.refuse();
    two.metric_becomes("vx11_operator_event_log_in_reach", 0).await;
    let ids = publish(&one, BACKLOG).await;
    way.narrow(NARROW);
    delivers(&mut stream, &ids).await;
    two.metric_becomes("vx11_operator_event_log_in_reach", 1).await;
    let live = one.publish(json!("live")).await;
    delivers(&mut stream, &[live]).await;
}

#[tokio::test]
async fn an_instance_that_boots_on_a_narrow_link_joins_the_log_before_it_has_read_all_of_it() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let first = one.publish(json!("first")).await;
    let ids = publish(&one, BACKLOG).await;
    let way = FaultProxy::start(cluster.redis.address());
    way.narrow(NARROW);
    let port = way.port().to_string();
    let two = cluster.instance_with("2", &[LONG_LIFE, ("REDIS_PORT", port.as_str())]).await;
    two.metric_becomes("vx11_operator_event_log_in_reach", 1).await;
    let mut stream = two.resume_stream(&two.issue().await.token, &first).await;
    delivers(&mut stream, &ids).await;
    let from_log = two.metric(r#"vx11_operator_sse_streams_resumed_total{from="log"}"#).await;
    assert_eq!(from_log, 1, "the beginning of the log is not in the ring: it was not waited for");
}

#[tokio::test]
async fn large_events_come_through_a_link_on_which_each_takes_longer_than_a_small_answer_may() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let (two, way) = cluster.instance_with_way("2", &[LONG_LIFE]).await;
    let mut stream = two.open_stream(&two.issue().await.token).await;
    way.narrow(VERY_NARROW);
    let ids = publish(&one, 3).await;
    delivers(&mut stream, &ids).await;
}

#[tokio::test]
async fn a_ring_is_brought_back_over_a_link_on_which_its_parts_take_longer_than_a_small_answer_may() {
    let mut cluster = Cluster::start().await;
    let (one, way) = cluster.instance_with_way("1", &[LONG_LIFE]).await;
    let first = one.publish(json!("first")).await;
    let mut stream = one.open_stream(&one.issue().await.token).await;
    let ids = publish(&one, BACKLOG).await;
    delivers(&mut stream, &ids).await;
    way.refuse();
    cluster.redis.restart().await;
    way.narrow(NARROW / 2);
    one.logs("Redis has lost data").await;
    one.metric_becomes("vx11_operator_event_log_in_reach", 1).await;
    let two = cluster.instance("2").await;
    let mut stream = two.resume_stream(&two.issue().await.token, &first).await;
    delivers(&mut stream, &ids).await;
}

#[tokio::test]
async fn many_large_events_that_are_published_together_do_not_end_the_session_of_an_instance_on_a_narrow_link()
 {
    let cluster = Cluster::start().await;
    let (one, way) = cluster.instance_with_way("1", &[]).await;
    one.metric_becomes("vx11_operator_event_log_in_reach", 1).await;
    way.narrow(NARROW / 2);
    let body = json!({"data": "x".repeat(LARGE)});
    let calls = (0..BACKLOG).map(|_| one.post_as_principal("/operator/api/events").json(&body).send());
    // Most of them are not answered in time.
    futures_util::future::join_all(calls).await;
    way.pass();
    one.publish(json!("next")).await;
    assert!(!one.log_text().contains("the event log is unavailable:"));
}
