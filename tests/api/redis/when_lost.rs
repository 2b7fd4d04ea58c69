//! `redis.when_lost = "refuse"`: what Redis does not confirm is answered with 503 until it does.

use reqwest::{RequestBuilder, StatusCode};
use serde_json::json;
use vx11_kit::FaultProxy;

use super::{Cluster, backend_becomes, figures, revoke, revoke_everywhere};
use crate::support::{Instance, issue_with, problem};

const REFUSE: (&str, &str) = ("VX11_OPERATOR__REDIS__WHEN_LOST", "refuse");
const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const AUTHORISE: &str = "/operator/internal/authorise";
const INTROSPECT: &str = "/operator/api/tokens/introspect";

/// Ways of losing Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Hung,
    Refused,
    Swallowed,
}

impl Fault {
    async fn begin(self, cluster: &mut Cluster, way: &FaultProxy) {
        match self {
            Self::Killed => cluster.redis.kill(),
            Self::Hung => cluster.redis.stop().await,
            Self::Refused => way.refuse(),
            Self::Swallowed => way.black_hole(),
        }
    }

    async fn end(self, cluster: &mut Cluster, way: &FaultProxy) {
        match self {
            Self::Killed => cluster.redis.restart().await,
            Self::Hung => cluster.redis.cont(),
            Self::Refused | Self::Swallowed => way.pass(),
        }
    }
}

/// Each request that a token is good for.
fn uses(instance: &Instance, token: &str) -> [RequestBuilder; 3] {
    [
        instance.get(STREAM).query(&[("token", token)]),
        instance.get(AUTHORISE).bearer_auth(token),
        instance.post_as_principal(INTROSPECT).form(&[("token", token)]),
    ]
}

/// Asserts that a request may be repeated later, and says nothing about a token.
async fn is_put_off(request: RequestBuilder) {
    let answer = request.send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"), "{}", answer.status());
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").await;
}

async fn is_unproven(instance: &Instance, token: &str) {
    for request in uses(instance, token) {
        is_put_off(request).await;
    }
}

async fn is_refused(instance: &Instance, token: &str) {
    let [stream, authorise, introspect] = uses(instance, token);
    for request in [stream, authorise] {
        problem(request.send().await.unwrap(), StatusCode::FORBIDDEN, "token_refused").await;
    }
    let about: serde_json::Value = introspect.send().await.unwrap().json().await.unwrap();
    assert_eq!(about, json!({ "active": false }));
}

async fn is_accepted(instance: &Instance, token: &str) {
    for request in uses(instance, token) {
        let status = request.send().await.unwrap().status();
        assert!(status.is_success(), "{status}");
    }
    assert_eq!(instance.introspect(token).await["active"], json!(true));
}

/// Issues until it is possible, and uses the token.
async fn everything_is_back(instance: &Instance) {
    vx11_kit::until("a token", async || {
        instance.post_as_principal(ISSUE).send().await.unwrap().status() == StatusCode::OK
    })
    .await;
    is_accepted(instance, &instance.issue().await.token).await;
}

#[tokio::test]
async fn without_redis_nothing_is_issued_and_only_what_is_known_for_sure_is_answered() {
    for fault in [Fault::Killed, Fault::Hung, Fault::Refused, Fault::Swallowed] {
        let mut cluster = Cluster::start().await;
        let long = ("EPHEMERAL_TOKEN_TTL_SEC", "900");
        let (one, way) = cluster.instance_with_way("1", &[REFUSE, long]).await;
        let [recorded, revoked, later] = [one.issue().await, one.issue().await, one.issue().await];
        revoke_everywhere(&one, ("token", &revoked.token)).await;
        let mut open = one.open_stream(&recorded.token).await;

        fault.begin(&mut cluster, &way).await;
        for _ in 0..3 {
            is_put_off(one.post_as_principal(ISSUE)).await;
            is_put_off(one.get_as_principal(ISSUE)).await;
            is_unproven(&one, &recorded.token).await;
        }
        backend_becomes(&one, "fallback-memory").await;
        is_unproven(&one, &recorded.token).await;
        is_refused(&one, &revoked.token).await;
        // The principal's own credential needs no store, and neither does a revocation.
        one.open_stream(&one.principal).await;
        let authorised = one.get_as_principal(AUTHORISE).send().await.unwrap();
        assert_eq!(authorised.status(), StatusCode::NO_CONTENT);
        assert_eq!(revoke(&one, ("token", &later.token)).await, json!({ "effective": "instance" }));
        is_refused(&one, &later.token).await;
        assert_eq!(open.next().await.unwrap().event, "degraded", "the stream stays open");
        assert_eq!(figures(&one).await["instance"]["fallback_entries"], json!(1), "the revocation");

        fault.end(&mut cluster, &way).await;
        everything_is_back(&one).await;
        is_refused(&one, &later.token).await;
        if fault == Fault::Killed {
            // It came back empty: nothing proves the token, which is not refused for that.
            is_unproven(&one, &recorded.token).await;
        } else {
            is_accepted(&one, &recorded.token).await;
        }
        let unproven = r#"vx11_operator_ephemeral_tokens_invalid_total{reason="unproven"}"#;
        assert!(one.metric(unproven).await >= 8, "{fault:?}");
        assert_eq!(one.metric("vx11_operator_degraded_accepts_total").await, 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_token_from_before_a_loss_of_data_is_put_off_and_never_refused() {
    let cluster = Cluster::start().await;
    let one = cluster.instance_with("1", &[REFUSE]).await;
    let before = one.issue().await;
    cluster.redis.flush().await;
    for _ in 0..5 {
        is_unproven(&one, &before.token).await;
    }
    everything_is_back(&one).await;
    is_unproven(&one, &before.token).await;
}

#[tokio::test]
async fn a_token_that_another_instance_issued_without_redis_is_accepted_when_its_record_has_come() {
    let cluster = Cluster::start().await;
    let refuses = cluster.instance_with("1", &[REFUSE]).await;
    let (accepts, way) = cluster.instance_with_way("2", &[]).await;
    way.refuse();
    backend_becomes(&accepts, "fallback-memory").await;
    let issued = accepts.issue().await;
    is_unproven(&refuses, &issued.token).await;
    way.pass();
    backend_becomes(&accepts, "redis").await;
    is_accepted(&refuses, &issued.token).await;
}

#[tokio::test]
async fn a_token_of_a_subject_is_put_off_while_redis_answers_and_orders_cannot_be_read() {
    const BLOCKS: &str = "{vx11}:blocks";
    let cluster = Cluster::start().await;
    let (refuses, accepts) = (cluster.instance_with("1", &[REFUSE]).await, cluster.instance("2").await);
    let fields = json!({ "subject": "user-7" });
    let issued = issue_with(&refuses, &fields).await;
    let token = issued["sse_token"].as_str().unwrap();
    let plain = refuses.issue().await;
    let is_put_off_now = async |request: RequestBuilder| {
        request.send().await.unwrap().status() == StatusCode::SERVICE_UNAVAILABLE
    };
    // The key is no stream any longer.
    cluster.redis.command(&["SET", BLOCKS, "nothing"]).await;
    vx11_kit::until("the token to be put off", async || {
        is_put_off_now(refuses.get(AUTHORISE).bearer_auth(token)).await
    })
    .await;
    is_unproven(&refuses, token).await;
    is_put_off(refuses.post_as_principal(ISSUE).json(&fields)).await;
    assert_eq!(figures(&refuses).await["backend"], "redis");
    // No order is about a token without a subject.
    is_accepted(&refuses, &plain.token).await;
    is_accepted(&accepts, token).await;
    cluster.redis.command(&["DEL", BLOCKS]).await;
    vx11_kit::until("the token to be proven", async || {
        !is_put_off_now(refuses.get(AUTHORISE).bearer_auth(token)).await
    })
    .await;
    is_accepted(&refuses, token).await;
    issue_with(&refuses, &fields).await;
}

#[tokio::test]
async fn an_instance_that_starts_without_redis_is_ready_and_issues_when_redis_comes() {
    let mut cluster = Cluster::start().await;
    cluster.redis.kill();
    let one = cluster.instance_with("1", &[REFUSE]).await;
    assert_eq!(one.get("/health/ready").send().await.unwrap().status(), StatusCode::OK);
    is_put_off(one.post_as_principal(ISSUE)).await;
    cluster.redis.restart().await;
    everything_is_back(&one).await;
}

#[tokio::test]
async fn clients_whose_tokens_are_unproven_do_not_reach_the_limit_of_failures() {
    let mut cluster = Cluster::start().await;
    let limit = ("VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE", "1");
    let one = cluster.instance_with("1", &[REFUSE, limit]).await;
    let issued = one.issue().await;
    cluster.redis.kill();
    for _ in 0..5 {
        is_unproven(&one, &issued.token).await;
    }
}
