//! The same service over Sentinel and over Redis Cluster.

use serde_json::json;
use vx11_kit::{RedisCluster, SentinelSet};

use super::{backend_becomes, figures};
use crate::support::{Instance, random_hex};

/// Two instances with the same principal and these settings; a token of one is valid, and
/// revocable, on the other.
async fn share(settings: &[(&str, &str)]) -> [Instance; 2] {
    let principal = random_hex();
    let mut instances = Vec::new();
    for id in ["1", "2"] {
        let mut environment = vec![("VX11_PRINCIPAL_TOKEN", principal.as_str()), ("INSTANCE_ID", id)];
        environment.extend_from_slice(settings);
        instances.push(Instance::with(&environment).await);
    }
    let [one, two] = <[Instance; 2]>::try_from(instances).ok().expect("two were started");
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
