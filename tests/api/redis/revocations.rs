//! A revocation reaches every instance, also one that was away. How soon is measured by every drill
//! (column SR of `docs/drills.md`).

use std::collections::BTreeMap;

use redis::from_redis_value;
use serde_json::json;

use super::{Cluster, backend_becomes, revoke, revoke_everywhere};
use crate::support::Instance;

/// Stream of announced revocations, as docs/redis.md names it.
const ANNOUNCED: &str = "{vx11}:revocations";
const INVALID: &str = "vx11_operator_revocations_invalid_total";
/// Longest lifetime of a tombstone in seconds.
const LONGEST: i64 = 2052;

impl Cluster {
    /// Announces a revocation, as anybody can who may write to Redis.
    async fn announce(&self, id: &str, until: &str) {
        self.redis.command(&["XADD", ANNOUNCED, "*", "id", id, "until", until]).await;
    }

    /// The time of Redis in so many seconds, in milliseconds.
    async fn seconds_from_now(&self, seconds: u64) -> String {
        let (now, _micros): (u64, u64) = from_redis_value(self.redis.command(&["TIME"]).await).unwrap();
        ((now + seconds) * 1000).to_string()
    }

    /// Number of announcements of each revocation.
    async fn announced(&self) -> BTreeMap<String, usize> {
        let answer = self.redis.command(&["XRANGE", ANNOUNCED, "-", "+"]).await;
        let entries: Vec<(String, Vec<String>)> = from_redis_value(answer).unwrap();
        let mut announced = BTreeMap::new();
        for (_, fields) in entries {
            *announced.entry(fields[1].clone()).or_default() += 1;
        }
        announced
    }

    /// Seconds that a tombstone has left; none where it is not there.
    async fn tombstone(&self, id: &str) -> Option<i64> {
        let left: i64 =
            from_redis_value(self.redis.command(&["TTL", &format!("revoked:{id}")]).await).unwrap();
        (left > 0).then_some(left)
    }
}

/// Waits until the instance has written a line in its log so often.
async fn has_said(instance: &Instance, words: &str, count: usize) {
    vx11_kit::until(words, async || instance.log_text().matches(words).count() >= count).await;
}

#[tokio::test]
async fn a_token_revoked_on_one_instance_is_refused_on_the_other_and_its_streams_there_end() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let by_token = one.issue().await;
    let by_id = one.issue().await;
    let other = one.issue().await;
    let mut streams = [two.open_stream(&by_token.token).await, two.open_stream(&by_id.token).await];
    let _untouched = two.open_stream(&other.token).await;
    revoke_everywhere(&one, ("token", &by_token.token)).await;
    revoke_everywhere(&one, ("token_id", &by_id.id)).await;
    for token in [&by_token.token, &by_id.token] {
        two.refuses(token).await;
    }
    for stream in &mut streams {
        assert_eq!(stream.rest().await.last().unwrap().event, "reconnect");
    }
    two.stream_ends_are("revoked", 2).await;
    assert_eq!(two.metric("vx11_operator_sse_streams_open").await, 1);
}

#[tokio::test]
async fn a_revocation_made_while_redis_is_away_holds_here_at_once_and_everywhere_after_it() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let issued = one.issue().await;
    let mut stream = two.open_stream(&issued.token).await;
    cluster.redis.kill();
    for instance in [&one, &two] {
        backend_becomes(instance, "fallback-memory").await;
    }
    assert_eq!(revoke(&one, ("token", &issued.token)).await, json!({"effective": "instance"}));
    assert_eq!(one.introspect(&issued.token).await, json!({"active": false}));
    assert_eq!(two.introspect(&issued.token).await["active"], json!(true), "it cannot know");
    cluster.redis.restart().await;
    stream.rest().await;
    assert_eq!(two.introspect(&issued.token).await, json!({"active": false}));
    backend_becomes(&one, "redis").await;
    cluster.instance("3").await.refuses(&issued.token).await;
}

#[tokio::test]
async fn a_revocation_that_was_received_holds_while_redis_is_unavailable() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let issued = one.issue().await;
    let mut stream = two.open_stream(&issued.token).await;
    revoke(&one, ("token", &issued.token)).await;
    stream.rest().await;
    cluster.redis.kill();
    backend_becomes(&two, "fallback-memory").await;
    assert_eq!(two.introspect(&issued.token).await, json!({"active": false}));
    let refused = two.ask_for_stream(&issued.token).await;
    assert_eq!(refused.status(), reqwest::StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_instance_that_starts_learns_the_revocations_made_before_it() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let issued = one.issue().await;
    revoke_everywhere(&one, ("token_id", &issued.id)).await;
    let two = cluster.instance("2").await;
    cluster.redis.kill();
    backend_becomes(&two, "fallback-memory").await;
    assert_eq!(two.introspect(&issued.token).await, json!({"active": false}));
}

#[tokio::test]
async fn a_revocation_is_received_while_the_event_log_cannot_be_read() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let issued = one.issue().await;
    let mut stream = two.open_stream(&issued.token).await;
    // Takes a right from every user without which the log cannot be read.
    cluster.redis.command(&["ACL", "SETUSER", "default", "-xrange"]).await;
    two.metric_becomes("vx11_operator_event_log_in_reach", 0).await;
    two.metric_becomes("vx11_operator_revocations_in_reach", 1).await;
    revoke_everywhere(&one, ("token", &issued.token)).await;
    stream.rest().await;
    two.stream_ends_are("revoked", 1).await;
    assert_eq!(two.metric("vx11_operator_event_log_in_reach").await, 0);
}

#[tokio::test]
async fn an_instance_that_cannot_read_revocations_although_redis_answers_says_so_once() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let issued = one.issue().await;
    let mut stream = two.open_stream(&issued.token).await;
    let id = "00000000000000aa";
    cluster.announce(id, "1").await;
    has_said(&two, "revocation received", 1).await;
    // The key is no stream any longer.
    cluster.redis.command(&["SET", ANNOUNCED, "nothing"]).await;
    two.metric_becomes("vx11_operator_revocations_in_reach", 0).await;
    two.logs("revocations by other instances cannot be read").await;
    cluster.redis.command(&["DEL", ANNOUNCED]).await;
    two.metric_becomes("vx11_operator_revocations_in_reach", 1).await;
    two.logs("revocations by other instances are read again").await;
    revoke_everywhere(&one, ("token", &issued.token)).await;
    stream.rest().await;
    let said = two.log_text().matches("revocations by other instances cannot be read").count();
    assert_eq!(said, 1);
}

#[tokio::test]
async fn a_revocation_with_an_end_out_of_range_is_cut_short_and_stops_no_other() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let (poisoned, other) = (one.issue().await, one.issue().await);
    cluster.announce(&poisoned.id, &u64::MAX.to_string()).await;
    revoke_everywhere(&one, ("token_id", &other.id)).await;
    for instance in [&one, &two] {
        instance.metric_becomes(INVALID, 1).await;
        has_said(instance, "revocation received", 2).await;
    }
    cluster.redis.restart().await;
    for issued in [&poisoned, &other] {
        let tombstone = vx11_kit::eventually("a tombstone", async || cluster.tombstone(&issued.id).await);
        let left = tombstone.await;
        assert!(left <= LONGEST, "{left}");
    }
    for instance in [&one, &two] {
        backend_becomes(instance, "redis").await;
        for issued in [&poisoned, &other] {
            instance.refuses(&issued.token).await;
        }
        assert_eq!(
            instance.log_text().matches("Find out which other program writes to this Redis").count(),
            1
        );
    }
}

#[tokio::test]
async fn an_announcement_that_cannot_be_read_is_counted_and_left_out() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let issued = one.issue().await;
    let mut stream = two.open_stream(&issued.token).await;
    cluster.redis.command(&["XADD", ANNOUNCED, "*", "neither", "nor"]).await;
    cluster.announce("no id", "1").await;
    cluster.announce(&issued.id, "tomorrow").await;
    two.metric_becomes(INVALID, 3).await;
    assert_eq!(two.introspect(&issued.token).await["active"], json!(true));
    revoke_everywhere(&one, ("token", &issued.token)).await;
    stream.rest().await;
    assert_eq!(two.metric(INVALID).await, 3);
}

#[tokio::test]
async fn after_a_loss_of_data_each_revocation_is_announced_once() {
    const COUNT: usize = 450;
    let mut cluster = Cluster::start().await;
    let instances = [cluster.instance("1").await, cluster.instance("2").await, cluster.instance("3").await];
    let until = cluster.seconds_from_now(600).await;
    for number in 0..COUNT {
        cluster.announce(&format!("{number:016x}"), &until).await;
    }
    for (losses, restarts) in [(1, false), (2, true)] {
        for instance in &instances {
            has_said(instance, "revocation received", COUNT).await;
        }
        if restarts {
            cluster.redis.restart().await;
        } else {
            cluster.redis.flush().await;
        }
        for instance in &instances {
            has_said(instance, "Redis has lost data", losses).await;
        }
        vx11_kit::until("all to be announced", async || cluster.announced().await.len() == COUNT).await;
        for instance in &instances {
            has_said(instance, "all revocations are announced again", losses).await;
        }
        let announced = cluster.announced().await;
        assert!(announced.values().all(|count| *count == 1), "{announced:?}");
    }
}

#[tokio::test]
async fn a_full_memory_of_revocations_is_counted_and_said_once() {
    let cluster = Cluster::start().await;
    // And an eighth more for revocations of tokens that are not known.
    let instance = cluster.instance_with("1", &[("VX11_OPERATOR__MEMORY__MAX_ENTRIES", "8")]).await;
    let until = cluster.seconds_from_now(600).await;
    for number in 0..12 {
        cluster.announce(&format!("{number:016x}"), &until).await;
    }
    instance.metric_becomes("vx11_operator_revocations_forgotten_total", 3).await;
    instance.logs("no room for further revocations").await;
    assert_eq!(instance.log_text().matches("no room for further revocations").count(), 1);
    assert_eq!(instance.metric(INVALID).await, 0);
}
