//! A revocation reaches every instance, also one that was away. How soon is measured by every drill (column SR of
//! `docs/drills.md`).

use serde_json::json;

use super::{Cluster, backend_becomes, revoke, revoke_everywhere};

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
async fn a_revocation_that_was_heard_of_holds_while_redis_is_away() {
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
