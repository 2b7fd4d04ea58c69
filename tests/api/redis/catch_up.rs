//! Streams that were away for longer than the ring of an instance reaches back: what they missed
//! comes from the log.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use vx11_kit::{EventStream, Monitor, eventually};

use super::Cluster;
use crate::support::{Instance, publish_to, token_for};

/// A ring of which nothing that a test resumes from is left, and a token that outlives the test.
const SMALL_RING: [(&str, &str); 2] =
    [("VX11_OPERATOR__EVENTS__RING_ENTRIES", "2"), ("EPHEMERAL_TOKEN_TTL_SEC", "900")];
/// A request for a page of a stream, by its byte bound (32,768 in msgpack).
const CATCH_UP: [&str; 2] = [r#""EVAL""#, r"bytes\xcd\x80\x00"];

/// Publishes events of these sizes; what each has for data, with its id. The first is the position
/// before them all.
async fn publish(instance: &Instance, sizes: impl IntoIterator<Item = usize>) -> Vec<(String, String)> {
    let mut published = vec![(instance.publish(json!("first")).await, r#""first""#.to_owned())];
    for (number, size) in sizes.into_iter().enumerate() {
        let data = json!(format!("{number:04}{}", "x".repeat(size)));
        published.push((instance.publish(data.clone()).await, data.to_string()));
    }
    published
}

/// Resumes at the first event, and expects exactly the others; the stream goes on.
async fn catches_up(instance: &Instance, token: &str, published: &[(String, String)]) -> EventStream {
    let mut stream = instance.resume_stream(token, &published[0].0).await;
    for (id, data) in &published[1..] {
        let frame = stream.next_published().await;
        assert_eq!(frame.id, *id);
        assert!(frame.data == *data, "{id}: {} bytes instead of {}", frame.data.len(), data.len());
    }
    stream
}

/// Addresses from which Redis received commands with these texts, once there are some.
async fn callers(monitor: &Monitor, words: &[&str]) -> BTreeSet<String> {
    eventually("Redis to be asked that", async || {
        let lines = monitor.lines().await;
        let asked = lines.iter().filter(|line| words.iter().all(|word| line.contains(word)));
        let callers = asked.filter_map(|line| Some(line.split_once("[1 ")?.1.split_once(']')?.0.to_owned()));
        let callers: BTreeSet<_> = callers.filter(|caller| caller != "lua").collect();
        (!callers.is_empty()).then_some(callers)
    })
    .await
}

#[tokio::test]
async fn a_stream_gets_large_and_small_events_in_order_and_none_is_left_out_where_a_page_ends() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &SMALL_RING).await;
    // Whichever of them ends a page, a smaller one follows that would have had room.
    let sizes = (0..40).map(|number| [20_000, 20_000, 1, 60_000, 1, 12_000, 1, 21_000][number % 8]);
    let published = publish(&one, sizes).await;
    let mut stream = catches_up(&one, &one.issue().await.token, &published).await;
    let live = one.publish(json!("live")).await;
    assert_eq!(stream.next_published().await.id, live);
    assert_eq!(one.metric(r#"vx11_operator_sse_streams_resumed_total{from="log"}"#).await, 1);
    let bytes = one.metric("vx11_operator_catch_up_bytes_total").await;
    assert!(bytes >= published[1..].iter().map(|(_, data)| data.len() as u64).sum::<u64>() / 2, "{bytes}");
    assert!(one.metric("vx11_operator_catch_up_pages_total").await > 20);
}

#[tokio::test]
async fn all_streams_of_a_token_catch_up_and_so_do_those_of_a_principal() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &SMALL_RING).await;
    let published = publish(&one, [30_000; 20]).await;
    let token = one.issue().await.token;
    let of_token = (0..6).map(|_| catches_up(&one, &token, &published));
    let of_principal = (0..2).map(|_| catches_up(&one, &one.principal, &published));
    tokio::join!(join_all(of_token), join_all(of_principal));
}

#[tokio::test]
async fn a_resuming_stream_reads_hardly_more_than_it_delivers() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &SMALL_RING).await;
    let published = publish(&one, [40_000; 200]).await;
    let token = one.issue().await.token;
    let output = async || -> u64 {
        cluster.redis.info("stats").await["total_net_output_bytes"].parse().expect("a number")
    };
    let before = output().await;
    catches_up(&one, &token, &published).await;
    let read = output().await - before;
    let delivered: usize = published[1..].iter().map(|(_, data)| data.len()).sum();
    // Other traffic of the instance is a small part, even if this takes long.
    assert!(2 * read < 3 * delivered as u64, "{read} bytes were read to deliver {delivered}");
}

#[tokio::test]
async fn streams_without_events_do_not_make_redis_step_over_the_log_as_fast_as_it_can() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &SMALL_RING).await;
    let first = one.publish(json!("first")).await;
    let busy = json!("x".repeat(60_000));
    for _ in 0..200 {
        one.publish_body(&json!({ "topic": "busy", "data": busy }).to_string()).await;
    }
    let began = Instant::now();
    let tokens = join_all((0..4).map(|_| token_for(&one, &["quiet"]))).await;
    let streams = tokens.iter().map(|token| one.resume_stream(token, &first));
    let mut streams = join_all(streams).await;
    publish_to(&one, "quiet", "the end").await;
    for stream in &mut streams {
        assert_eq!(stream.next_published().await.json(), "the end");
    }
    // Each has stepped over 12 MB. The instance may step over 32 MiB a second, after 4 MiB.
    assert!(began.elapsed() > Duration::from_millis(1200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn streams_that_catch_up_read_on_a_connection_that_nothing_else_uses() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &SMALL_RING).await;
    let monitor = cluster.redis.monitor().await;
    let published = publish(&one, [10_000; 20]).await;
    catches_up(&one, &one.issue().await.token, &published).await;
    let catch_up = callers(&monitor, &CATCH_UP).await;
    let publishing = [r#""EVAL""#, "0001xxx"];
    for words in [publishing.as_slice(), &[r#""XREAD""#], &[r#""INFO""#]] {
        let others = callers(&monitor, words).await;
        assert!(others.is_disjoint(&catch_up), "{words:?}: {others:?} and {catch_up:?}");
    }
}

#[tokio::test]
async fn a_connection_for_catching_up_that_breaks_is_replaced() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &SMALL_RING).await;
    let monitor = cluster.redis.monitor().await;
    let published = publish(&one, [10_000; 20]).await;
    let token = one.issue().await.token;
    catches_up(&one, &token, &published).await;
    let broken = callers(&monitor, &CATCH_UP).await;
    for address in &broken {
        cluster.redis.command(&["CLIENT", "KILL", "ADDR", address]).await;
    }
    catches_up(&one, &token, &published).await;
    assert!(!callers(&monitor, &CATCH_UP).await.is_subset(&broken), "{broken:?}");
}
