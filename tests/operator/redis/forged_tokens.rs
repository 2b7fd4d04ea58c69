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
    format!("{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

#[tokio::test]
async fn a_flood_of_forged_tokens_causes_not_one_redis_command() {
    let cluster = Cluster::start().await;
    let instance = cluster.instance("1").await;
    let asked = |stats: &std::collections::BTreeMap<String, u64>| {
        ["get", "mget", "setex", "exists"].map(|command| stats.get(command).copied().unwrap_or(0))
    };
    let before = asked(&cluster.redis.commandstats().await);
    stream::iter(0..FORGED)
        .for_each_concurrent(50, async |_| {
            assert_eq!(instance.ask_for_stream(&forged()).await.status(), StatusCode::FORBIDDEN);
        })
        .await;
    assert_eq!(asked(&cluster.redis.commandstats().await), before);
    let name = "vx11_operator_ephemeral_tokens_invalid_total{reason=\"forged\"";
    let expired = "vx11_operator_ephemeral_tokens_invalid_total{reason=\"expired\"";
    assert_eq!(instance.metric(name).await + instance.metric(expired).await, FORGED as u64);
}
