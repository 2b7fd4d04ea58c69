//! Forged tokens cost Redis nothing.

use futures_util::{StreamExt, stream};
use reqwest::StatusCode;

use super::Cluster;
use crate::support::random_hex;

/// A million in the benchmark (`make bench`); here enough to see that none gets through.
const FORGED: usize = 5000;

/// A UUID of version 8, as tokens are, and otherwise arbitrary.
fn forged() -> String {
    let hex = random_hex();
    format!("{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// Commands of the health check, of the log task and of this test: they continue independent of
/// requests.
const GOING_ON: [&str; 16] = [
    "info",
    "time",
    "xread",
    "eval",
    "xrange",
    "hget",
    "set",
    "hset",
    "hdel",
    "hgetall",
    "exists",
    "expire",
    "ping",
    "unwatch",
    "select",
    "config|resetstat",
];

/// Everything else that Redis was asked.
async fn asked(cluster: &Cluster) -> std::collections::BTreeMap<String, u64> {
    let mut stats = cluster.redis.commandstats().await;
    stats.retain(|command, _| !GOING_ON.contains(&command.as_str()));
    stats
}

#[tokio::test]
async fn a_flood_of_forged_tokens_causes_not_one_redis_command() {
    let cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let before = asked(&cluster).await;
    stream::iter(0..FORGED)
        .for_each_concurrent(50, async |_| {
            assert_eq!(instance.ask_for_stream(&forged()).await.status(), StatusCode::FORBIDDEN);
        })
        .await;
    assert_eq!(asked(&cluster).await, before);
    let name = "vx11_operator_ephemeral_tokens_invalid_total{reason=\"forged\"";
    assert_eq!(instance.metric(name).await, FORGED as u64);
    // The count would see one if there were one.
    instance.introspect(&instance.issue().await.token).await;
    assert_ne!(asked(&cluster).await, before);
}
