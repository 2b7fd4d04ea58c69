//! The script by which an instance enters the log, asked directly: two instances that each know an
//! event the other does not know, in between, cannot be had at will from outside.

use redis::Value;
use serde_json::json;
use vx11_kit::RedisServer;

const RECOVERY: &str = concat!(
    include_str!("../../../src/events/redis/size.lua"),
    include_str!("../../../src/events/redis/fields.lua"),
    include_str!("../../../src/events/redis/recovery.lua")
);
const EPOCH: &str = "0000000e";

/// Events that an instance re-submits.
#[derive(Clone, Copy)]
struct Joining<'a> {
    data_id: &'a str,
    /// In milliseconds.
    window: u64,
    epoch: &'a str,
    head: Option<&'a str>,
    /// Up to where it has nothing.
    horizon: &'a str,
    /// For events that lie before the log: what it has next after them.
    next: Option<&'a str>,
    ids: &'a [&'a str],
    data: &'a str,
    /// `None`: `default`.
    topics: Option<&'a str>,
    log_bytes: u64,
    log_entries: u64,
}

/// The idempotency key of an event.
fn key(id: &str) -> String {
    format!("{:0>32}", id.replace('-', ""))
}

/// Content of the idempotency key of an event.
async fn known(redis: &RedisServer, id: &str) -> String {
    redis.command_text(&["GET", &format!("{{vx11}}:published:{}", key(id))]).await
}

/// Answer of the script.
#[derive(Debug, PartialEq, Eq)]
struct Joined {
    epoch: String,
    /// In milliseconds.
    opens_in: u64,
    first: String,
    waits: bool,
}

impl Joining<'_> {
    async fn call(&self, redis: &RedisServer) -> Joined {
        let event = |id: &&str| {
            json!({
                "id": id, "type": "message", "data": self.data, "topics": self.topics, "key": key(id), "fingerprint": "ff",
            })
        };
        let arguments = json!({
            "log_bytes": self.log_bytes,
            "log_entries": self.log_entries,
            "data_id": self.data_id,
            "new_generation": "00000000000000aa",
            "window": self.window,
            "epoch": self.epoch,
            "head": self.head,
            "horizon": self.horizon,
            "next": self.next,
            "more_follow": false,
            "key_prefix": "{vx11}:published:",
            "key_seconds": 900,
            "events": self.ids.iter().map(event).collect::<Vec<_>>(),
        });
        let answer = redis.script(RECOVERY, &["{vx11}:events", "{vx11}:log"], &arguments).await;
        let Value::Array(answer) = answer else { panic!("not a list") };
        let words: Vec<String> =
            answer.into_iter().map(|word| redis::from_redis_value(word).unwrap()).collect();
        Joined {
            epoch: words[1].clone(),
            opens_in: words[2].parse().unwrap(),
            first: words[3].clone(),
            waits: words[4] == "1",
        }
    }

    async fn epoch(&self, redis: &RedisServer) -> String {
        self.call(redis).await.epoch
    }
}

async fn ids(redis: &RedisServer) -> Vec<String> {
    let entries = redis.command(&["XRANGE", "{vx11}:events", "-", "+"]).await;
    let entries: redis::streams::StreamRangeReply = redis::from_redis_value(entries).unwrap();
    entries.ids.into_iter().map(|entry| entry.id).collect()
}

/// Ends the window for bringing events.
async fn open(redis: &RedisServer) {
    redis.command(&["HSET", "{vx11}:log", "opens", "1"]).await;
}

const FIRST: Joining = Joining {
    data_id: "a",
    window: 60_000,
    epoch: EPOCH,
    head: Some("5-0"),
    horizon: "0-0",
    next: None,
    ids: &["2-0", "5-0"],
    data: "1",
    topics: None,
    log_bytes: 67_108_864,
    log_entries: 10_000,
};
/// Only asks.
const ASKING: Joining = Joining { ids: &[], head: None, ..FIRST };

#[tokio::test]
async fn before_the_log_is_open_everything_is_put_in_its_place_with_its_key() {
    let redis = RedisServer::start().await;
    let joined = FIRST.call(&redis).await;
    assert_eq!((joined.epoch.as_str(), joined.first.as_str(), joined.waits), (EPOCH, "2-0", false));
    assert!((1..=60_000).contains(&joined.opens_in));
    let second = Joining { head: Some("9-0"), ids: &["1-0", "2-0", "3-0", "3-1", "5-0", "9-0"], ..FIRST };
    assert_eq!(second.epoch(&redis).await, EPOCH);
    assert_eq!(
        ids(&redis).await,
        ["2-0", "3-0", "3-1", "5-0", "9-0"],
        "what lies before the first is brought apart"
    );
    // Behind the end, between two entries, and first.
    for (digits, id) in [("90", "9-0"), ("30", "3-0"), ("20", "2-0")] {
        let key = format!("{{vx11}}:published:{digits:0>32}");
        assert_eq!(redis.command_text(&["GET", &key]).await, format!("{EPOCH} {id} ff"));
    }
    // Once more changes nothing.
    second.call(&redis).await;
    assert_eq!(ids(&redis).await.len(), 5);
}

/// The ring of one instance begins with 1, that of the other with 8.
#[tokio::test]
async fn the_log_begins_where_the_largest_ring_begins_whichever_instance_comes_first() {
    let large = Joining { head: Some("9-0"), ids: &["1-0", "2-0", "3-0", "8-0", "9-0"], ..FIRST };
    let small = Joining { head: Some("9-0"), horizon: "7-0", ids: &["8-0", "9-0"], ..FIRST };
    let redis = RedisServer::start().await;
    large.call(&redis).await;
    assert_eq!(small.epoch(&redis).await, EPOCH);
    assert_eq!(ids(&redis).await, large.ids);

    let redis = RedisServer::start().await;
    assert_eq!(small.call(&redis).await.first, "8-0");
    large.call(&redis).await;
    // Of those before the log the newest come first, so that there is no hole at any time.
    let newest = Joining { ids: &["3-0"], next: Some("8-0"), ..ASKING };
    assert_eq!(newest.call(&redis).await.first, "3-0");
    let oldest = Joining { ids: &["1-0", "2-0"], next: Some("3-0"), ..ASKING };
    assert_eq!(oldest.call(&redis).await.first, "1-0");
    assert_eq!(ids(&redis).await, large.ids);
    assert_eq!(redis.command_text(&["EXISTS", &format!("{{vx11}}:published:{:0>32}", "10")]).await, "1");
    // Ids go on behind the last one, although the log was written again.
    let last = redis.command_text(&["XADD", "{vx11}:events", "9-*", "a", "b"]).await;
    assert_eq!(last, "9-1");
}

#[tokio::test]
async fn events_before_the_log_are_taken_without_a_hole_or_not_at_all() {
    let redis = RedisServer::start().await;
    Joining { head: Some("9-0"), horizon: "7-0", ids: &["8-0", "9-0"], ..FIRST }.call(&redis).await;
    // An instance that has read up to 3 does not know what lies between that and 8.
    let lagging = Joining { ids: &["2-0", "3-0"], next: Some("3-0"), ..ASKING };
    assert_eq!(lagging.call(&redis).await.first, "8-0");
    open(&redis).await;
    let late = Joining { ids: &["3-0"], next: Some("8-0"), ..ASKING };
    assert_eq!(late.epoch(&redis).await, EPOCH, "who comes too late with them changes nothing");
    assert_eq!(ids(&redis).await, ["8-0", "9-0"]);
}

#[tokio::test]
async fn events_before_the_log_are_left_out_where_they_exceed_its_bounds() {
    let data = "x".repeat(60_000);
    let bounds = [(3, 67_108_864, "1"), (10_000, 1_048_576, data.as_str())];
    for (log_entries, log_bytes, data) in bounds {
        let redis = RedisServer::start().await;
        let all: Vec<_> = (101..=120).map(|n| format!("{n}-0")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        // Streams forget in blocks of 100 entries; with one entry in a block they keep to the
        // bound.
        redis.command(&["CONFIG", "SET", "stream-node-max-entries", "1"]).await;
        let of = Joining { data, log_bytes, log_entries, ..FIRST };
        Joining { head: Some("120-0"), horizon: "117-0", ids: &all[17..], ..of }.call(&redis).await;
        for batch in [10..17, 0..10] {
            let (ids, next) = (&all[batch.clone()], Some(all[batch.end]));
            Joining { ids, next, head: None, ..of }.call(&redis).await;
        }
        let kept = ids(&redis).await;
        let newest = &all[all.len() - kept.len()..];
        assert_eq!(kept, newest, "the newest, without a hole");
        let most = if log_entries == 3 { 3..=3 } else { 15..=17 };
        assert!(most.contains(&kept.len()), "{kept:?}");
    }
}

/// Texts of the entry with this id.
async fn texts(redis: &RedisServer, id: &str) -> Vec<String> {
    let entry = redis.command(&["XRANGE", "{vx11}:events", id, id]).await;
    let mut entry: Vec<(String, Vec<String>)> = redis::from_redis_value(entry).unwrap();
    entry.pop().unwrap().1
}

/// An instance that has restarted has read up to an event that it does not hold.
#[tokio::test]
async fn an_event_takes_the_place_of_the_mark_of_an_instance_that_has_read_it_and_does_not_hold_it() {
    let redis = RedisServer::start().await;
    Joining { horizon: "5-0", ids: &[], ..FIRST }.call(&redis).await;
    assert_eq!(texts(&redis, "5-0").await, ["control", "mark"]);
    Joining { ids: &["2-0", "5-0"], ..FIRST }.call(&redis).await;
    Joining { ids: &["2-0"], next: Some("5-0"), ..ASKING }.call(&redis).await;
    assert_eq!(ids(&redis).await, ["2-0", "5-0"]);
    assert_eq!(texts(&redis, "5-0").await[..4], ["type", "message", "data", "1"]);
    open(&redis).await;
    assert_eq!(FIRST.epoch(&redis).await, EPOCH, "nothing is missing");
}

/// A foreign program may have written an entry with more fields than a script can pass on.
#[tokio::test]
async fn an_entry_of_somebody_else_is_no_obstacle_to_what_is_put_before_it() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    let texts_of_other = vec!["x"; 20_000];
    redis.command(&[&["XADD", "{vx11}:events", "6-0"], texts_of_other.as_slice()].concat()).await;
    Joining { ids: &["3-0"], head: None, ..FIRST }.call(&redis).await;
    assert_eq!(ids(&redis).await, ["2-0", "3-0", "5-0", "6-0"]);
    assert_eq!(texts(&redis, "6-0").await, ["unreadable", "1"]);
}

#[tokio::test]
async fn an_id_that_was_given_out_is_not_given_again_although_its_entry_is_gone() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    redis.command(&["XADD", "{vx11}:events", "9-0", "control", "mark"]).await;
    redis.command(&["XDEL", "{vx11}:events", "9-0"]).await;
    // Has an event that belongs before the end, so the log is written again.
    Joining { ids: &["2-0", "3-0", "5-0"], ..FIRST }.call(&redis).await;
    assert_eq!(ids(&redis).await, ["2-0", "3-0", "5-0"]);
    assert_eq!(redis.command_text(&["XADD", "{vx11}:events", "9-*", "control", "mark"]).await, "9-1");
}

#[tokio::test]
async fn ids_go_on_after_the_newest_that_any_instance_has_read() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    Joining { head: Some("7-7"), ids: &[], ..FIRST }.call(&redis).await;
    assert_eq!(ids(&redis).await, ["2-0", "5-0", "7-7"]);
}

#[tokio::test]
async fn what_comes_when_the_log_is_open_begins_another_epoch_if_it_belongs_before_the_end() {
    let redis = RedisServer::start().await;
    let open = Joining { window: 0, ..FIRST };
    let joined = open.call(&redis).await;
    assert_eq!((joined.epoch.as_str(), joined.opens_in), (EPOCH, 0));
    let lagging = Joining { ids: &["2-0", "5-0", "6-0"], head: Some("6-0"), ..open };
    assert_eq!(lagging.epoch(&redis).await, EPOCH, "what follows may still follow");
    let late = Joining { ids: &["2-0", "3-0"], head: Some("6-0"), window: 0, ..FIRST };
    assert_eq!(late.epoch(&redis).await, "00000000", "the first half of the number nobody used before");
    assert_eq!(ids(&redis).await[..3], ["2-0", "5-0", "6-0"]);
    assert_eq!(ids(&redis).await.len(), 4, "the change of epoch is in the log");
    let key = format!("{{vx11}}:published:{:0>32}", "30");
    assert_eq!(redis.command(&["GET", &key]).await, Value::Nil, "what is not in the log may be published");
}

#[tokio::test]
async fn who_knows_another_epoch_brings_nothing() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    let other = Joining { epoch: "0000000f", ids: &["3-0"], ..FIRST };
    assert_eq!(other.epoch(&redis).await, EPOCH);
    assert_eq!(ids(&redis).await, ["2-0", "5-0"]);
}

#[tokio::test]
async fn another_data_id_or_a_clock_that_was_set_back_starts_a_new_log_generation() {
    let redis = RedisServer::start().await;
    Joining { window: 0, ..FIRST }.call(&redis).await;
    let joined = Joining { data_id: "b", window: 5000, ..FIRST }.call(&redis).await;
    assert_eq!(joined.epoch, EPOCH, "it is still the same log");
    assert!(joined.opens_in > 0);
    redis.command(&["HSET", "{vx11}:log", "opens", "99999999999999"]).await;
    let joined = Joining { data_id: "b", window: 5000, ..FIRST }.call(&redis).await;
    assert!(joined.opens_in <= 5000, "{joined:?}");
}

/// Events between the end of the log and the ring of an instance may come from others.
#[tokio::test]
async fn a_hole_may_be_filled_until_the_log_is_open_and_then_begins_another_epoch() {
    let beyond = Joining { horizon: "6-0", head: Some("9-0"), ids: &["7-0", "9-0"], ..FIRST };
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    let joined = beyond.call(&redis).await;
    assert!(joined.waits && joined.epoch == EPOCH, "{joined:?}");
    assert_eq!(ids(&redis).await, ["2-0", "5-0"], "nothing is put after the hole");
    Joining { horizon: "5-0", head: Some("6-0"), ids: &["6-0"], ..FIRST }.call(&redis).await;
    assert!(!beyond.call(&redis).await.waits);
    open(&redis).await;
    assert_eq!(ASKING.epoch(&redis).await, EPOCH);
    assert_eq!(ids(&redis).await, ["2-0", "5-0", "6-0", "7-0", "9-0"]);

    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    assert!(beyond.call(&redis).await.waits);
    open(&redis).await;
    // The first instance that enters finds out, before anybody publishes.
    assert_ne!(ASKING.epoch(&redis).await, EPOCH);
    assert_eq!(ids(&redis).await[..2], ["2-0", "5-0"]);
    assert_eq!(ids(&redis).await.len(), 3);
}

/// Otherwise an instance could not join a full Redis, nor make room in it.
#[tokio::test]
async fn joining_an_open_log_that_lacks_nothing_writes_nothing() {
    let redis = RedisServer::start().await;
    Joining { window: 0, ..FIRST }.call(&redis).await;
    redis.refuse_memory().await;
    let joined = Joining { window: 0, ..ASKING }.call(&redis).await;
    assert_eq!((joined.epoch.as_str(), joined.opens_in), (EPOCH, 0));
}

/// Events of other topics. An instance of the previous release passes them.
const ORDERS: Joining = Joining { topics: Some("orders/1"), ..FIRST };

#[tokio::test]
async fn an_event_keeps_its_topics_wherever_it_is_put() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    // Behind the end, and between two entries. Then before the first, which writes the log again.
    Joining { head: Some("9-0"), ids: &["3-0", "9-0"], ..ORDERS }.call(&redis).await;
    Joining { head: None, ids: &["1-0"], next: Some("2-0"), ..ORDERS }.call(&redis).await;
    assert_eq!(ids(&redis).await, ["1-0", "2-0", "3-0", "5-0", "9-0"]);
    for id in ["1-0", "3-0", "9-0"] {
        let fields = ["control", "event", "type", "message", "data", "1", "topics", "orders/1", "key"];
        assert_eq!(texts(&redis, id).await[..9], fields, "{id}");
    }
    for id in ["2-0", "5-0"] {
        assert_eq!(texts(&redis, id).await[..5], ["type", "message", "data", "1", "key"], "{id}");
    }
}

#[tokio::test]
async fn an_event_that_begins_with_control_is_no_mark_that_another_one_replaces() {
    let redis = RedisServer::start().await;
    ORDERS.call(&redis).await;
    let before = texts(&redis, "5-0").await;
    // An event between two others writes the log again.
    Joining { data: "2", ids: &["2-0", "3-0", "5-0"], ..ORDERS }.call(&redis).await;
    assert_eq!((texts(&redis, "5-0").await, &texts(&redis, "3-0").await[5]), (before, &"2".to_owned()));
}

/// The previous release counts an event of other topics as read, and does not hold it.
#[tokio::test]
async fn an_event_takes_the_place_of_the_mark_of_an_instance_of_the_previous_release() {
    let redis = RedisServer::start().await;
    Joining { ids: &["2-0"], ..FIRST }.call(&redis).await;
    assert_eq!(texts(&redis, "5-0").await, ["control", "mark"]);
    Joining { ids: &["3-0", "5-0"], ..ORDERS }.call(&redis).await;
    assert_eq!(ids(&redis).await, ["2-0", "3-0", "5-0"]);
    for id in ["3-0", "5-0"] {
        assert_eq!(texts(&redis, id).await[..2], ["control", "event"]);
    }
    open(&redis).await;
    assert_eq!(Joining { ids: &["3-0", "5-0"], ..ORDERS }.epoch(&redis).await, EPOCH, "nothing is missing");
}

/// The previous release re-submits an event of `default` and other topics as one of `default`.
#[tokio::test]
async fn an_event_gets_the_topics_back_that_the_previous_release_has_left_out() {
    let several = Joining { topics: Some("orders/1 default"), ids: &["2-0", "5-0"], ..FIRST };
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    let name = format!("{{vx11}}:published:{}", key("5-0"));
    redis.command(&["SET", &name, &format!("{EPOCH} 5-0 ee")]).await;
    several.call(&redis).await;
    assert_eq!(ids(&redis).await, ["2-0", "5-0"]);
    for id in several.ids {
        let fields = ["type", "message", "data", "1", "topics", "orders/1 default", "key"];
        assert_eq!(texts(&redis, id).await[..7], fields, "{id}");
        assert_eq!(known(&redis, id).await, format!("{EPOCH} {id} ff"), "the fingerprint covers topics");
    }
    // The other way round nothing is lost.
    FIRST.call(&redis).await;
    assert_eq!(texts(&redis, "5-0").await[4], "topics");

    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    open(&redis).await;
    assert_eq!(several.epoch(&redis).await, EPOCH, "an open log is left as it is");
    assert_eq!(texts(&redis, "5-0").await[4], "key");
}

/// A key may be used again after 15 minutes, and a ring may hold both events.
#[tokio::test]
async fn an_earlier_event_does_not_take_a_key_from_a_later_one() {
    let redis = RedisServer::start().await;
    FIRST.call(&redis).await;
    let name = format!("{{vx11}}:published:{}", key("3-0"));
    redis.command(&["SET", &name, &format!("{EPOCH} 5-0 ee")]).await;
    Joining { ids: &["3-0"], ..FIRST }.call(&redis).await;
    assert_eq!(ids(&redis).await, ["2-0", "3-0", "5-0"]);
    assert_eq!(known(&redis, "3-0").await, format!("{EPOCH} 5-0 ee"));
}
