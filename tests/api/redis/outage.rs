//! While Redis is away nothing is refused that is valid, and afterwards nothing is missing.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Cluster, backend_becomes, figures};
use crate::support::{Instance, problem};

async fn issue(instance: &Instance) -> Value {
    let answer = instance.post_as_principal("/operator/api/events/sse-token").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let issued: Value = answer.json().await.unwrap();
    vx11_kit::remember_secret(issued["sse_token"].as_str().unwrap());
    issued
}

#[tokio::test]
async fn with_redis_down_from_before_the_start_an_instance_is_ready_issues_and_accepts_what_others_issued() {
    let mut cluster = Cluster::start().await;
    cluster.redis.kill();
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    for (issuer, other) in [(&one, &two), (&two, &one)] {
        let ready = issuer.get("/health/ready").send().await.unwrap();
        assert_eq!(ready.status(), StatusCode::OK);
        let issued = issue(issuer).await;
        assert_eq!(issued["backend"], "fallback-memory");
        let token = issued["sse_token"].as_str().unwrap();
        assert_eq!(other.introspect(token).await["active"], json!(true));
        other.open_stream(token).await;
        let health: Value = issuer.get("/operator/api/health").send().await.unwrap().json().await.unwrap();
        assert_eq!((&health["status"], &health["backend"]), (&json!("degraded"), &json!("fallback-memory")));
        let stats = figures(issuer).await;
        assert_eq!((&stats["instance"]["breaker"], &stats["cache_size"]), (&json!("open"), &json!(1)));
        assert!(stats["instance"]["degraded_since"].is_string());
    }
    assert_eq!(one.metric("vx11_operator_store_degraded").await, 1);
    assert_eq!(one.metric("vx11_operator_breaker_state").await, 2);
}

#[tokio::test]
async fn tokens_issued_during_an_outage_are_in_redis_after_it_and_expire_there() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &[("EPHEMERAL_TOKEN_TTL_SEC", "900")]).await;
    cluster.redis.kill();
    backend_becomes(&one, "fallback-memory").await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(issue(&one).await["token_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(figures(&one).await["instance"]["fallback_entries"], json!(50));
    cluster.redis.restart().await;
    backend_becomes(&one, "redis").await;
    let stats = figures(&one).await;
    assert_eq!((&stats["instance"]["fallback_entries"], &stats["cache_size"]), (&json!(0), &json!(50)));
    assert_eq!(stats["instance"]["degraded_since"], json!(null));
    assert_eq!(one.metric("vx11_operator_reconciled_tokens_total").await, 50);
    let keys = cluster.redis.keys().await;
    for id in ids {
        let key = keys.iter().find(|key| key.starts_with(&format!("token:{id}"))).expect("each is there");
        // `tests/store_contract.rs` holds the remaining life: there the clock is moved by hand.
        let left: u64 = cluster.redis.command_text(&["PTTL", key]).await.parse().unwrap();
        assert!((1..=900_000).contains(&left), "{left}");
    }
    let two = cluster.instance("2").await;
    backend_becomes(&two, "redis").await;
}

#[tokio::test]
async fn at_its_bound_the_standby_refuses_new_tokens_with_503_and_loses_no_live_one() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &[("VX11_OPERATOR__MEMORY__MAX_ENTRIES", "3")]).await;
    let from_redis = issue(&one).await;
    cluster.redis.kill();
    backend_becomes(&one, "fallback-memory").await;
    let mut tokens = vec![from_redis];
    for _ in 0..3 {
        tokens.push(issue(&one).await);
    }
    let refused = one.post_as_principal("/operator/api/events/sse-token").send().await.unwrap();
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, StatusCode::SERVICE_UNAVAILABLE, "store_full").await;
    for token in &tokens {
        assert_eq!(one.introspect(token["sse_token"].as_str().unwrap()).await["active"], json!(true));
    }
    cluster.redis.restart().await;
    backend_becomes(&one, "redis").await;
    assert_eq!(issue(&one).await["backend"], "redis");
    assert_eq!(figures(&one).await["instance"]["fallback_entries"], json!(0));
}

fn transitions_to(state: &str) -> String {
    format!("vx11_operator_breaker_transitions_total{{to=\"{state}\"")
}

#[tokio::test]
async fn transitions_are_logged_once_each_and_counted() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    for round in 1..=2 {
        cluster.redis.kill();
        backend_becomes(&one, "fallback-memory").await;
        for _ in 0..20 {
            issue(&one).await;
        }
        cluster.redis.restart().await;
        backend_becomes(&one, "redis").await;
        for state in ["open", "half-open", "closed"] {
            // The first closing was that of the start, which a half-open probe came before.
            let expected = if state == "open" { round } else { round + 1 };
            assert!(one.metric(&transitions_to(state)).await >= expected, "{state}");
        }
    }
    // A busy machine may add outages. Figures are counted again if there was one meanwhile. A log
    // line may follow later than its cause.
    let (opened, log) = vx11_kit::eventually("a line for each time Redis is available", async || {
        let count =
            async || (one.metric(&transitions_to("open")).await, one.metric(&transitions_to("closed")).await);
        let (before, log) = (count().await, one.log_text());
        let is_logged = log.matches("Redis is available").count() as u64 == before.1;
        (is_logged && count().await == before).then_some((before.0, log))
    })
    .await;
    // Refused, closed and not answered in time.
    assert!(log.matches("Redis cannot be used").count() as u64 <= 3 * opened, "once for each reason: {log}");
    backend_becomes(&one, "redis").await;
    one.metric_becomes("vx11_operator_store_degraded", 0).await;
}

#[tokio::test]
async fn a_restarted_and_empty_redis_refuses_no_token_issued_before() {
    let mut cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let issued = one.issue().await;
    cluster.redis.kill();
    cluster.redis.restart().await;
    for _ in 0..20 {
        for instance in [&one, &two] {
            assert_eq!(instance.introspect(&issued.token).await["active"], json!(true));
        }
    }
    for instance in [&one, &two] {
        backend_becomes(instance, "redis").await;
        assert_eq!(instance.introspect(&issued.token).await["active"], json!(true));
    }
    assert!(one.metric("vx11_operator_degraded_accepts_total").await > 0);
}
