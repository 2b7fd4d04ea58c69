//! The script by which the log is read, asked directly: which events share a page depends on their
//! sizes, and on the patterns of the stream that reads it.

use redis::streams::StreamRangeReply;
use redis::{Value, from_redis_value};
use serde_json::json;
use vx11_kit::RedisServer;

/// Ids and fields of entries.
type Entries = Vec<(String, Vec<String>)>;
const PAGE: &str = concat!(
    include_str!("../../../src/events/redis/filter.lua"),
    include_str!("../../../src/events/redis/page.lua")
);
const BEGINNING: &str = include_str!("../../../src/events/redis/beginning.lua");
const LOG: &str = "{vx11}:events";
const STATE: &str = "{vx11}:log";
const GENERATION: &str = "00000000000000aa";

/// Bytes that a call looks at, unless the page itself is larger.
const LOOKED_AT: usize = 256 * 1024;

/// A page, as it is answered.
#[derive(Debug, PartialEq)]
struct Page {
    first: String,
    /// Bytes that were looked at and are not in the page.
    stepped_over: usize,
    more: bool,
    ids: Vec<String>,
    /// The last entry that was looked at.
    read_to: String,
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

fn read(answer: Value) -> Page {
    let (first, _, stepped_over, more, entries, read_to): (
        String,
        usize,
        usize,
        u8,
        StreamRangeReply,
        String,
    ) = from_redis_value(answer).unwrap();
    let ids = entries.ids.into_iter().map(|entry| entry.id).collect();
    Page { first, stepped_over, more: more == 1, ids, read_to }
}

async fn page(redis: &RedisServer, range: [&str; 3], bytes: usize, most: usize) -> Page {
    read(ask(redis, GENERATION, range, bytes, most).await)
}

/// The page for a stream with these patterns after a position, as an instance asks for it.
async fn page_of(redis: &RedisServer, patterns: &[&str], after: &str) -> Page {
    let arguments = json!({
        "generation": GENERATION, "command": "XRANGE", "from": format!("({after}"), "to": "+", "bytes": 32_768,
        "entries": 500, "patterns": patterns,
    });
    read(redis.script(PAGE, &[LOG, STATE], &arguments).await)
}

/// Appends an event of these topics with so many bytes of data, in the form of its entry. Without
/// topics it has the form of the previous release.
async fn append(redis: &RedisServer, id: &str, topics: Option<&str>, bytes: usize) {
    let data = "x".repeat(bytes);
    let mut command = vec!["XADD", LOG, id];
    if topics.is_some_and(|topics| !topics.split(' ').any(|topic| topic == "default")) {
        command.extend(["control", "event"]);
    }
    command.extend(["type", "message", "data", data.as_str()]);
    command.extend(topics.into_iter().flat_map(|topics| ["topics", topics]));
    redis.command(&command).await;
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
    let one = || "1-0".to_owned();
    assert_eq!(first, Page { first: one(), stepped_over: 0, more: true, ids: vec![one()], read_to: one() });
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
    assert_eq!(
        end,
        Page {
            first: "1-0".to_owned(),
            stepped_over: 0,
            more: false,
            ids: Vec::new(),
            read_to: String::new()
        }
    );
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

#[tokio::test]
async fn a_page_of_a_stream_has_the_events_that_a_pattern_matches() {
    let redis = log_of(&[]).await;
    let topics = ["orders/1", "orders/1/items", "orders", "orders2/1", "a/b/c/d users/7", "$streams/opened"];
    for (number, topics) in (1..).zip(topics) {
        append(&redis, &format!("{number}-0"), Some(topics), 1).await;
    }
    append(&redis, "7-0", Some("orders/2 default"), 1).await;
    append(&redis, "8-0", None, 1).await;
    let cases: [(&[&str], &[u8]); 12] = [
        (&["orders/1"], &[1]),
        (&["orders/*"], &[1, 2, 7]),
        (&["orders/1/*"], &[2]),
        (&["orders"], &[3]),
        (&["a/*"], &[5]),
        (&["a/b/c/*"], &[5]),
        (&["users/7", "x"], &[5]),
        (&["default"], &[7, 8]),
        (&["*"], &[1, 2, 3, 4, 5, 7, 8]),
        (&["$streams/*"], &[6]),
        (&["*", "$streams/opened"], &[1, 2, 3, 4, 5, 6, 7, 8]),
        (&["users/*", "orders/*", "orders2/1"], &[1, 2, 4, 5, 7]),
    ];
    for (patterns, expected) in cases {
        let page = page_of(&redis, patterns, "0-0").await;
        let expected: Vec<_> = expected.iter().map(|number| format!("{number}-0")).collect();
        assert_eq!((page.ids, page.more, page.read_to.as_str()), (expected, false, "8-0"), "{patterns:?}");
    }
}

/// An instance finds out about a new epoch and about events that it cannot read whatever a stream
/// may read.
#[tokio::test]
async fn what_is_no_event_or_cannot_be_read_passes_every_filter() {
    let redis = log_of(&[1]).await;
    let entries: [&[&str]; 7] = [
        &["control", "mark"],
        &["control", "epoch", "epoch", "0000000b"],
        &["control", "of a later version", "type", "message", "data", "1", "topics", "users/7"],
        &["control", "event", "type", "message", "data", "1"],
        &["type", "message"],
        &["data", "1"],
        &["foo", "bar"],
    ];
    for fields in entries {
        redis.command(&[&["XADD", LOG, "2-*"], fields].concat()).await;
    }
    let page = page_of(&redis, &["orders/*"], "0-0").await;
    assert_eq!(page.ids, (0..7).map(|number| format!("2-{number}")).collect::<Vec<_>>());
}

/// A stream whose events are rare does not wait for one, nor does Redis look through the log for
/// it at once.
#[tokio::test]
async fn a_page_of_a_stream_steps_over_the_events_of_others_within_bounds() {
    let redis = log_of(&[]).await;
    let script = r"for n = 1, 1200 do redis.call('XADD', KEYS[1], n .. '-0', 'control', 'event', 'type', 'message', 'data', '1', 'topics', 'users/' .. n) end";
    redis.command(&["EVAL", script, "1", LOG]).await;
    append(&redis, "1201-0", Some("orders/1"), 60_000).await;
    append(&redis, "1202-0", Some("users/1"), 1).await;
    let mut at = "0-0".to_owned();
    for (ids, read_to, more) in [(0, "500-0", true), (0, "1000-0", true), (1, "1202-0", false)] {
        let page = page_of(&redis, &["orders/*"], &at).await;
        assert_eq!((page.ids.len(), page.read_to.as_str(), page.more), (ids, read_to, more), "after {at}");
        at = page.read_to;
    }
    let end = page_of(&redis, &["orders/*"], &at).await;
    assert_eq!((end.ids.len(), end.read_to.as_str(), end.more), (0, "", false));
}

#[tokio::test]
async fn a_page_of_a_stream_looks_at_few_large_events_of_others() {
    let redis = log_of(&[]).await;
    for number in 1..=12 {
        append(&redis, &format!("{number}-0"), Some("users/1"), 60_000).await;
    }
    append(&redis, "13-0", Some("orders/1"), 60_000).await;
    let (mut at, mut pages, mut stepped_over, mut ids) = ("0-0".to_owned(), 0, 0, Vec::new());
    loop {
        let page = page_of(&redis, &["orders/*"], &at).await;
        ids.extend(page.ids);
        pages += 1;
        stepped_over += page.stepped_over;
        if !page.more {
            break;
        }
        at = page.read_to;
    }
    assert_eq!(ids, ["13-0"]);
    assert!((720_000..723_000).contains(&stepped_over), "{stepped_over}");
    assert!(pages >= 13 * 60_000 / (LOOKED_AT + 120_000), "{pages}");
}

#[tokio::test]
async fn a_page_of_a_stream_is_full_before_its_first_event_that_does_not_fit() {
    let redis = log_of(&[]).await;
    for (number, topics) in (1..=30).zip(["orders/1", "users/1"].into_iter().cycle()) {
        append(&redis, &format!("{number}-0"), Some(topics), 3_000).await;
    }
    let (mut at, mut ids) = ("0-0".to_owned(), Vec::new());
    loop {
        let page = page_of(&redis, &["orders/*"], &at).await;
        assert!(page.ids.len() <= 10, "10 have 30,000 bytes: {page:?}");
        ids.extend(page.ids);
        if !page.more {
            break;
        }
        at = page.read_to;
    }
    assert_eq!(ids, (1..=30).step_by(2).map(|number| format!("{number}-0")).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_are_counted_backward_without_their_data() {
    let redis = log_of(&[]).await;
    append(&redis, "1-0", Some("orders/1"), 60_000).await;
    append(&redis, "2-0", Some("users/1"), 60_000).await;
    append(&redis, "3-0", None, 60_000).await;
    redis.command(&["XADD", LOG, "4-0", "control", "mark"]).await;
    let arguments = json!({
        "generation": GENERATION, "command": "XREVRANGE", "from": "+", "to": "-", "bytes": 32_768, "entries": 500,
        "patterns": ["orders/*", "default"], "without_data": true,
    });
    let answer = redis.script(PAGE, &[LOG, STATE], &arguments).await;
    let (_, bytes, stepped_over, more, entries, read_to): (String, usize, usize, u8, Entries, String) =
        from_redis_value(answer).unwrap();
    assert!((180_000..181_000).contains(&stepped_over), "no client takes the data: {stepped_over}");
    assert_eq!((more, read_to.as_str()), (0, "1-0"));
    assert!(bytes < 500, "{bytes}");
    let fields = |fields: &[&str]| fields.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let expected = [
        ("4-0".to_owned(), fields(&["control", "mark"])),
        ("3-0".to_owned(), fields(&["type", "message", "data", ""])),
        (
            "1-0".to_owned(),
            fields(&["control", "event", "type", "message", "data", "", "topics", "orders/1"]),
        ),
    ];
    assert_eq!(entries, expected);
}
