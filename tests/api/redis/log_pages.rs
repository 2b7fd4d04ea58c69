//! The script by which the log is read, asked directly: which events share a page depends on their
//! sizes.

use redis::streams::StreamRangeReply;
use redis::{Value, from_redis_value};
use serde_json::json;
use vx11_kit::RedisServer;

const PAGE: &str = include_str!("../../../src/events/redis/page.lua");
const BEGINNING: &str = include_str!("../../../src/events/redis/beginning.lua");
const LOG: &str = "{vx11}:events";
const STATE: &str = "{vx11}:log";
const GENERATION: &str = "00000000000000aa";

/// A page, as it is answered.
#[derive(Debug, PartialEq)]
struct Page {
    first: String,
    more: bool,
    ids: Vec<String>,
}

/// A log with events of these sizes, of which the first has the id `1-0`.
async fn log_of(sizes: &[usize]) -> RedisServer {
    let redis = RedisServer::start().await;
    redis.command(&["HSET", STATE, "founding", GENERATION]).await;
    for (number, size) in (1..).zip(sizes) {
        let (id, data) = (format!("{number}-0"), "x".repeat(*size));
        redis.command(&["XADD", LOG, &id, "type", "message", "data", &data]).await;
    }
    redis
}

/// Asks for entries in a range, and for no more than so many bytes and entries.
async fn ask(redis: &RedisServer, generation: &str, range: [&str; 3], bytes: usize, most: usize) -> Value {
    let [command, from, to] = range;
    let arguments = json!({
        "generation": generation, "command": command, "from": from, "to": to, "bytes": bytes, "entries": most,
    });
    redis.script(PAGE, &[LOG, STATE], &arguments).await
}

async fn page(redis: &RedisServer, range: [&str; 3], bytes: usize, most: usize) -> Page {
    let answer = ask(redis, GENERATION, range, bytes, most).await;
    let (first, _, more, entries): (String, usize, u8, StreamRangeReply) = from_redis_value(answer).unwrap();
    Page { first, more: more == 1, ids: entries.ids.into_iter().map(|entry| entry.id).collect() }
}

/// The whole log, read page by page, and the number of pages.
async fn read_all(redis: &RedisServer, command: &str, bytes: usize) -> (Vec<String>, usize) {
    let (mut from, to) = if command == "XRANGE" { ("(0-0".to_owned(), "+") } else { ("+".to_owned(), "-") };
    let (mut ids, mut pages) = (Vec::new(), 0);
    loop {
        let page = page(redis, [command, &from, to], bytes, 1000).await;
        pages += 1;
        ids.extend(page.ids);
        if !page.more {
            return (ids, pages);
        }
        from = format!("({}", ids.last().expect("a page has one at least"));
    }
}

#[tokio::test]
async fn a_page_ends_before_the_first_event_that_does_not_fit_although_a_later_one_would() {
    let redis = log_of(&[20_000, 20_000, 10, 10]).await;
    let first = page(&redis, ["XRANGE", "(0-0", "+"], 32_768, 1000).await;
    assert_eq!(first, Page { first: "1-0".to_owned(), more: true, ids: vec!["1-0".to_owned()] });
    let rest = page(&redis, ["XRANGE", "(1-0", "+"], 32_768, 1000).await;
    assert_eq!((rest.more, rest.ids), (false, ["2-0", "3-0", "4-0"].map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn pages_have_every_event_once_in_order_whatever_the_sizes_and_in_both_directions() {
    let sizes: Vec<_> = (0..60).map(|number| [10, 60_000, 700, 30, 33_000][number % 5]).collect();
    let redis = log_of(&sizes).await;
    let all: Vec<_> = (1..=60).map(|number| format!("{number}-0")).collect();
    for bytes in [0, 4_096, 32_768, 262_144, usize::try_from(u32::MAX).unwrap()] {
        let (forward, pages) = read_all(&redis, "XRANGE", bytes).await;
        assert_eq!(forward, all, "{bytes}");
        assert!(bytes > 0 || pages >= 60, "one event in a page without room: {pages}");
        let (mut backward, _) = read_all(&redis, "XREVRANGE", bytes).await;
        backward.reverse();
        assert_eq!(backward, all, "{bytes}");
    }
}

#[tokio::test]
async fn a_page_is_bounded_in_events_as_well() {
    let redis = log_of(&[1; 40]).await;
    let five = page(&redis, ["XRANGE", "(3-0", "+"], 32_768, 5).await;
    assert_eq!((five.more, five.ids.len(), five.ids[0].as_str()), (true, 5, "4-0"));
    let end = page(&redis, ["XRANGE", "(40-0", "+"], 32_768, 1000).await;
    assert_eq!(end, Page { first: "1-0".to_owned(), more: false, ids: Vec::new() });
}

#[tokio::test]
async fn a_log_of_another_generation_gives_nothing() {
    let redis = log_of(&[1]).await;
    let answer = ask(&redis, "00000000000000bb", ["XRANGE", "-", "+"], 32_768, 1000).await;
    assert_eq!(answer, Value::Array(Vec::new()));
    let beginning =
        async |generation| redis.script(BEGINNING, &[LOG, STATE], &json!({ "generation": generation })).await;
    assert_eq!(from_redis_value::<Vec<String>>(beginning(GENERATION).await).unwrap(), ["1-0"]);
    assert_eq!(beginning("00000000000000bb").await, Value::Array(Vec::new()));
    redis.command(&["DEL", STATE]).await;
    assert_eq!(ask(&redis, GENERATION, ["XRANGE", "-", "+"], 32_768, 1000).await, Value::Array(Vec::new()));
    assert_eq!(beginning(GENERATION).await, Value::Array(Vec::new()));
}
