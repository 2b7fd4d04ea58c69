//! The same service over Sentinel and over Redis Cluster.

use reqwest::StatusCode;
use serde_json::json;
use vx11_kit::{RedisCluster, SentinelSet};

use super::{backend_becomes, figures};
use crate::support::{Instance, issue_with, problem, random_hex};

/// Two instances with the same principal and these settings.
async fn two(settings: &[(&str, &str)]) -> [Instance; 2] {
    let principal = random_hex();
    let mut instances = Vec::new();
    for id in ["1", "2"] {
        let mut environment = vec![("VX11_PRINCIPAL_TOKEN", principal.as_str()), ("INSTANCE_ID", id)];
        environment.extend_from_slice(settings);
        instances.push(Instance::with(&environment).await);
    }
    <[Instance; 2]>::try_from(instances).ok().expect("two were started")
}

/// Two such instances; a token of one is valid, and revocable, on the other.
async fn share(settings: &[(&str, &str)]) -> [Instance; 2] {
    let [one, two] = two(settings).await;
    for _ in 0..10 {
        let issued = one.issue().await;
        assert_eq!(two.introspect(&issued.token).await["active"], json!(true));
        let mut stream = two.open_stream(&issued.token).await;
        let revoke = one.post_as_principal("/operator/api/tokens/revoke");
        revoke.form(&[("token_id", &issued.id)]).send().await.unwrap();
        two.refuses(&issued.token).await;
        stream.rest().await;
    }
    backend_becomes(&one, "redis").await;
    let by_signature = two.metric("vx11_operator_degraded_accepts_total").await;
    assert!(by_signature <= two.missed_deadlines().await, "{by_signature} tokens were not looked up");
    [one, two]
}

#[tokio::test]
async fn tokens_and_revocations_are_shared_through_the_master_that_sentinels_name() {
    let mut set = SentinelSet::start().await;
    let sentinels = set.sentinels().join(",");
    let settings = [("REDIS_SENTINELS", sentinels.as_str()), ("REDIS_SENTINEL_MASTER", set.name())];
    let [one, two] = share(&settings).await;
    let issued = one.issue().await;
    set.kill_master().await;
    assert_eq!(two.introspect(&issued.token).await["active"], json!(true));
    for instance in [&one, &two] {
        backend_becomes(instance, "redis").await;
        assert_eq!(instance.introspect(&issued.token).await["active"], json!(true));
    }
    let issued = two.issue().await;
    assert_eq!(one.introspect(&issued.token).await["active"], json!(true));
}

#[tokio::test]
async fn tokens_and_revocations_are_shared_through_a_cluster_and_spread_over_its_nodes() {
    let cluster = RedisCluster::start(true).await;
    let nodes = cluster.addresses().join(",");
    let [one, _two] = share(&[("REDIS_CLUSTER_NODES", nodes.as_str())]).await;
    for _ in 0..50 {
        one.issue().await;
    }
    for node in cluster.nodes() {
        let keys = node.keys().await;
        assert!(keys.iter().any(|key| key.starts_with("token:")), "each node has some");
    }
    let memory = figures(&one).await["redis_memory_bytes"].as_u64().unwrap();
    assert!(memory > 3 * 1_000_000, "that of all three: {memory}");
}

/// A script of Redis Cluster reaches the keys of one slot only.
#[tokio::test]
async fn limits_of_subjects_and_tickets_hold_over_a_cluster() {
    let cluster = RedisCluster::start(true).await;
    let nodes = cluster.addresses().join(",");
    let limit = ("VX11_OPERATOR__STREAMS__PER_SUBJECT", "2");
    let [one, two] = two(&[("REDIS_CLUSTER_NODES", nodes.as_str()), limit]).await;
    let ticket = async |subject: &str| {
        let issued = issue_with(&one, &json!({ "subject": subject, "single_use": true })).await;
        issued["sse_token"].as_str().unwrap().to_owned()
    };
    let mut streams = Vec::new();
    for number in 0..8 {
        let subject = format!("user-{number}");
        for (opener, other) in [(&one, &two), (&two, &one)] {
            let token = ticket(&subject).await;
            streams.push(opener.open_stream(&token).await);
            problem(other.ask_for_stream(&token).await, StatusCode::FORBIDDEN, "token_refused").await;
        }
        let beyond = two.ask_for_stream(&ticket(&subject).await).await;
        problem(beyond, StatusCode::TOO_MANY_REQUESTS, "subject_streams_full").await;
    }
    for instance in [&one, &two] {
        for name in ["subject_caps_local_total", "tickets_local_total", "leases_lost_total"] {
            let missed = instance.missed_deadlines().await;
            assert!(instance.metric(&format!("vx11_operator_{name}")).await <= missed, "{name}");
        }
    }
    for node in cluster.nodes() {
        assert!(node.keys().await.iter().any(|key| key.ends_with(":ticket")), "each node has some");
    }
    drop(streams);
    vx11_kit::until("the places", async || {
        one.ask_for_stream(&ticket("user-0").await).await.status() == StatusCode::OK
    })
    .await;
}
