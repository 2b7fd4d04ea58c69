//! Every instance knows every token, and Redis knows none in clear.

use serde_json::json;

use super::{Cluster, backend_becomes, figures};
use crate::support::Instance;

#[tokio::test]
async fn a_token_issued_on_one_instance_is_valid_on_the_other_also_after_both_have_restarted() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let issued = one.issue().await;
    let before = two.introspect(&issued.token).await;
    assert_eq!(before["active"], json!(true));
    one.kill().await;
    two.kill().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    for instance in [&one, &two] {
        vx11_kit::until("the instance to say what the record says to everyone", async || {
            instance.introspect(&issued.token).await == before
        })
        .await;
        instance.open_stream(&issued.token).await;
    }
    let by_signature = one.metric("vx11_operator_degraded_accepts_total").await;
    assert!(by_signature <= one.missed_deadlines().await, "{by_signature} tokens were not looked up");
}

#[tokio::test]
async fn an_issued_token_is_answered_as_recorded_in_redis_from_the_first_request_on() {
    let cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let issued = instance.post_as_principal("/operator/api/events/sse-token").send().await.unwrap();
    let issued: serde_json::Value = issued.json().await.unwrap();
    assert_eq!(issued["backend"], "redis");
    let health = instance.get("/operator/api/health").send().await.unwrap();
    let health: serde_json::Value = health.json().await.unwrap();
    assert_eq!((&health["status"], &health["backend"]), (&json!("ok"), &json!("redis")));
}

#[tokio::test]
async fn issuing_sends_setex_and_no_command_or_key_of_redis_contains_a_token_or_a_credential() {
    let cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let monitor = cluster.redis.monitor().await;
    let issued = instance.issue().await;
    instance.introspect(&issued.token).await;
    instance.open_stream(&issued.token).await;
    let revoke = instance.post_as_principal("/operator/api/tokens/revoke");
    revoke.form(&[("token", &issued.token)]).send().await.unwrap();
    let commands = monitor.stop().await.join("\n");
    let record = commands.lines().find(|line| line.contains(r#""SETEX" "token:"#)).expect(&commands);
    assert_eq!(record.split('"').nth(5), Some("60"), "it lives as long as the token: {record}");
    let mut shown = commands;
    for key in cluster.redis.keys().await {
        let dumped = cluster.redis.command(&["DUMP", &key]).await;
        let redis::Value::BulkString(dumped) = dumped else { panic!("{key} is there") };
        shown.extend(["\n", &key, " ", &String::from_utf8_lossy(&dumped)]);
    }
    assert!(shown.contains(&issued.id), "its id is no secret: {shown}");
    for secret in [issued.token.clone(), issued.token.replace('-', ""), instance.principal.clone()] {
        assert!(!shown.to_lowercase().contains(&secret), "{shown}");
    }
}

#[tokio::test]
async fn a_token_takes_at_most_200_bytes_of_redis() {
    let cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let issued = instance.issue().await;
    let keys = cluster.redis.keys().await;
    let key = keys.iter().find(|key| key.starts_with(&format!("token:{}", issued.id))).unwrap();
    let bytes: u64 = cluster.redis.command_text(&["MEMORY", "USAGE", key]).await.parse().unwrap();
    // Beside what belongs to the key itself: its entry in the table of expiries (a pointer, a time,
    // a link, and its share of two tables' buckets).
    assert!(bytes + 24 + 16 <= 200, "{bytes}");
    let ttl: u64 = cluster.redis.command_text(&["PTTL", key]).await.parse().unwrap();
    assert!((1..=60_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn all_instances_must_share_a_key_or_a_principal_and_one_that_does_not_trusts_nobody() {
    let cluster = Cluster::start().await;
    let ours = cluster.instance("1").await;
    let stranger = cluster
        .instance_with("2", &[("VX11_PRINCIPAL_TOKEN", "some-quite-different-credential-0123456789")])
        .await;
    let issued = ours.issue().await;
    assert_eq!(stranger.introspect(&issued.token).await, json!({"active": false}));
}

#[tokio::test]
async fn an_instance_that_stops_leaves_its_tokens_to_the_others() {
    let cluster = Cluster::start().await;
    let (mut one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let issued = one.issue().await;
    one.terminate();
    assert!(one.ended().await.success());
    assert_eq!(two.introspect(&issued.token).await["active"], json!(true));
}

#[tokio::test]
async fn a_lost_connection_costs_no_request_and_opens_no_breaker() {
    let cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let mut elsewhere = 0;
    for _ in 0..5 {
        cluster.redis.close_connections().await;
        let issued = instance.post_as_principal("/operator/api/events/sse-token").send().await.unwrap();
        let issued: serde_json::Value = issued.json().await.unwrap();
        elsewhere += u64::from(issued["backend"] != "redis");
        // A call that loses two connections counts as an outage, so the health check that is under
        // way ends before the next loss.
        let time_asked = async || cluster.redis.commandstats().await.get("time").copied().unwrap_or(0);
        let before = time_asked().await;
        vx11_kit::until("another health check", async || time_asked().await >= before + 2).await;
    }
    assert!(elsewhere <= instance.missed_deadlines().await, "{elsewhere} tokens were not recorded in Redis");
    assert_eq!(instance.metric("vx11_operator_breaker_transitions_total{to=\"open\"").await, 0);
}

#[tokio::test]
async fn a_redis_that_may_evict_refuses_no_token() {
    let cluster = Cluster::start().await;
    cluster.redis.command(&["CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"]).await;
    // Its tokens may have been issued since the data is complete, by any instance.
    let instance = cluster.instance("1").await;
    instance.logs("Redis may drop records before they expire").await;
    let issued = instance.issue().await;
    cluster.redis.command(&["DEL", &key_of(&cluster, &issued.id).await]).await;
    assert_eq!(instance.introspect(&issued.token).await["active"], json!(true));
    assert_eq!(instance.metric("vx11_operator_degraded_accepts_total").await, 1);
}

#[tokio::test]
async fn a_flushed_redis_refuses_no_token_and_forgets_no_revocation() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let (kept, revoked) = (one.issue().await, one.issue().await);
    let revoke = one.post_as_principal("/operator/api/tokens/revoke");
    revoke.form(&[("token_id", &revoked.id)]).send().await.unwrap();
    two.logs_revocations(1).await;
    cluster.redis.flush().await;
    for instance in [&one, &two] {
        assert_eq!(instance.introspect(&kept.token).await["active"], json!(true));
        instance.refuses(&revoked.token).await;
    }
    one.logs("Redis has lost data").await;
    let newcomer = cluster.instance("3").await;
    backend_becomes(&newcomer, "redis").await;
    newcomer.refuses(&revoked.token).await;
    assert_eq!(figures(&one).await["instance"]["breaker"], "closed");
}

async fn key_of(cluster: &Cluster, id: &str) -> String {
    let keys = cluster.redis.keys().await;
    keys.into_iter().find(|key| key.starts_with(&format!("token:{id}"))).expect("the record is there")
}

impl Instance {
    /// Waits until the instance has received as many revocations of others.
    async fn logs_revocations(&self, count: usize) {
        let is_received = || self.log_text().matches("revocation received").count() >= count;
        vx11_kit::until("the revocation", async || is_received()).await;
    }
}
