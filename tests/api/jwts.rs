//! JWTs of an identity provider as credentials.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use vx11_kit::{EventStream, eventually, remember_secret, until};

use crate::support::{Issuer, ask_for_token, issuer_now, problem, publish_to, stream};

const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const BLOCK: &str = "/operator/api/subjects/block";

async fn issued(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    let body: Value = response.json().await.unwrap();
    let token = body["sse_token"].as_str().unwrap();
    remember_secret(token);
    remember_secret(token.split_once('.').expect("a grant").0);
    body
}

#[tokio::test]
async fn without_a_body_a_user_gets_a_token_for_the_subject_and_topics_of_the_jwt() {
    let issuer = Issuer::new();
    let instance = issuer.instance("").await;
    let jwt = issuer.jwt("7");
    for response in [
        instance.post(ISSUE).bearer_auth(&jwt).send().await.unwrap(),
        instance.get(ISSUE).header("X-VX11-Token", &jwt).send().await.unwrap(),
        ask_for_token(&instance, &jwt, &json!({})).await,
        ask_for_token(&instance, &jwt, &json!({ "expires_in": 60 })).await,
        ask_for_token(&instance, &jwt, &json!({ "subject": "7" })).await,
    ] {
        let body = issued(response).await;
        assert_eq!((&body["subject"], &body["topics"]), (&json!("7"), &json!(["news", "users/7/*"])));
        let introspected = instance.introspect(body["sse_token"].as_str().unwrap()).await;
        assert_eq!((&introspected["sub"], &introspected["client_id"]), (&json!("7"), &json!("shop-users")));
    }
    let body = issued(ask_for_token(&instance, &jwt, &json!({})).await).await;
    let mut stream = instance.open_stream(body["sse_token"].as_str().unwrap()).await;
    publish_to(&instance, "users/8/orders", "not mine").await;
    publish_to(&instance, "users/7/orders", "mine").await;
    assert_eq!(stream.next_published().await.json(), "mine");
}

#[tokio::test]
async fn a_body_may_only_narrow() {
    let issuer = Issuer::new();
    let instance = issuer.instance("").await;
    let jwt = issuer.jwt("7");
    let body = issued(ask_for_token(&instance, &jwt, &json!({ "topics": ["users/7/orders"] })).await).await;
    assert_eq!((&body["subject"], &body["topics"]), (&json!("7"), &json!(["users/7/orders"])));
    for (fields, detail) in [
        (json!({ "topics": ["users/8/*"] }), "the topics of this principal do not include users/8/*"),
        (json!({ "topics": ["*"] }), "the topics of this principal do not include *"),
        (json!({ "topics": ["$streams/*"] }), "this principal lacks the right observe"),
        (
            json!({ "subject": "8" }),
            "the JWT is of another subject, and a token for it can have no other one",
        ),
    ] {
        let refused = ask_for_token(&instance, &jwt, &fields).await;
        assert_eq!(problem(refused, StatusCode::FORBIDDEN, "not_permitted").await["detail"], detail);
    }
}

#[tokio::test]
async fn a_token_lives_no_longer_than_its_jwt() {
    let issuer = Issuer::new();
    let instance = issuer.instance("").await;
    let end = issuer_now().as_secs() + 20;
    let jwt = issuer.jwt_with(&json!({ "sub": "7", "exp": end }));
    for fields in [json!({}), json!({ "expires_in": 900 })] {
        let body = issued(ask_for_token(&instance, &jwt, &fields).await).await;
        assert!(body["expires_in"].as_u64().unwrap() <= 20, "{body}");
        let introspected = instance.introspect(body["sse_token"].as_str().unwrap()).await;
        assert_eq!(introspected["exp"], end);
    }
    let body = issued(ask_for_token(&instance, &issuer.jwt("7"), &json!({ "expires_in": 30 })).await).await;
    assert_eq!(body["expires_in"], 30);
}

#[tokio::test]
async fn a_claim_never_reaches_beyond_its_segment() {
    let issuer = Issuer::new();
    let instance = issuer.instance("").await;
    for (subject, topic) in
        [("*", "users/%2A/*"), ("8/x", "users/8%2Fx/*"), ("$streams", "users/%24streams/*")]
    {
        let body = issued(ask_for_token(&instance, &issuer.jwt(subject), &json!({})).await).await;
        assert_eq!(body["topics"], json!(["news", topic]));
    }
    let without = issuer.jwt_with(&json!({ "name": "x" }));
    let refused = ask_for_token(&instance, &without, &json!({})).await;
    let refused = problem(refused, StatusCode::UNAUTHORIZED, "jwt_claim_unusable").await;
    assert_eq!(refused["detail"], "the JWT has no claim sub; get a new one from the issuer");
}

#[tokio::test]
async fn a_refused_jwt_is_counted_by_reason_and_audited() {
    let issuer = Issuer::new();
    let folder = tempfile::tempdir().unwrap();
    let trail = folder.path().join("audit.jsonl");
    let config = issuer.config("");
    let config_text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{config_text}[audit]\nfile = '{}'\n", trail.display())).unwrap();
    let instance = crate::support::Instance::start_with_arguments(&["--config", &config]).await;
    let stranger = Issuer::new();
    let expired = issuer.jwt_with(&json!({ "sub": "7", "exp": issuer_now().as_secs() - 1 }));
    for (jwt, reason, detail) in [
        (stranger.jwt("7"), "signature", "the signature of the JWT is wrong; get a new one from the issuer"),
        (expired, "expired", "the JWT has expired; get a new one from the issuer"),
    ] {
        let refused = instance.post(ISSUE).bearer_auth(&jwt).send().await.unwrap();
        assert!(refused.headers().contains_key("www-authenticate"));
        let refused = problem(refused, StatusCode::UNAUTHORIZED, "jwt_refused").await;
        assert_eq!(refused["detail"], detail);
        let name = format!("vx11_operator_jwts_refused_total{{reason=\"{reason}\"");
        assert_eq!(instance.metric(&name).await, 1, "{reason}");
    }
    issued(ask_for_token(&instance, &issuer.jwt("7"), &json!({})).await).await;
    let line = eventually("three lines", async || {
        let text = std::fs::read_to_string(&trail).unwrap_or_default();
        (text.lines().count() == 3).then(|| text.lines().last().unwrap().to_owned())
    });
    let line: Value = serde_json::from_str(&line.await).unwrap();
    assert_eq!((&line["action"], &line["principal"]), (&json!("issue"), &json!("shop-users")));
    let user = line["user"].as_str().unwrap();
    assert!(user.len() == 16 && line["subject"] == user, "{line}");
}

#[tokio::test]
async fn rights_beyond_issuing_have_to_be_given_and_reach_the_topics_of_the_user() {
    let issuer = Issuer::new();
    let instance = issuer.instance("").await;
    let jwt = issuer.jwt("7");
    let refused = instance.get(STREAM).bearer_auth(&jwt).send().await.unwrap();
    problem(refused, StatusCode::FORBIDDEN, "not_permitted").await;

    let instance = issuer.instance("rights = ['subscribe', 'publish']").await;
    let publish = |topic: &str| {
        let request = instance.post("/operator/api/events").bearer_auth(&jwt);
        request.json(&json!({ "topic": topic, "data": topic })).send()
    };
    let mut own = EventStream::connected(instance.get(STREAM).bearer_auth(&jwt).send().await.unwrap()).await;
    assert_eq!(publish("users/7/chat").await.unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(own.next_published().await.json(), "users/7/chat");
    problem(publish("users/8/chat").await.unwrap(), StatusCode::FORBIDDEN, "not_permitted").await;
    let refused = instance.post(ISSUE).bearer_auth(&jwt).send().await.unwrap();
    problem(refused, StatusCode::FORBIDDEN, "not_permitted").await;
    let in_url = stream(&instance, &[("token", jwt.as_str())]).send().await.unwrap();
    problem(in_url, StatusCode::FORBIDDEN, "principal_in_query").await;
}

#[tokio::test]
async fn a_blocked_user_gets_no_token_and_no_stream() {
    let issuer = Issuer::new();
    let instance = issuer.instance("rights = ['issue', 'subscribe']").await;
    let jwt = issuer.jwt("7");
    let mut own = EventStream::connected(instance.get(STREAM).bearer_auth(&jwt).send().await.unwrap()).await;
    let block = instance.post_as_principal(BLOCK).json(&json!({ "subject": "7", "seconds": 60 }));
    assert_eq!(block.send().await.unwrap().status(), StatusCode::OK);
    let last = own.rest().await.pop().unwrap();
    assert_eq!(last.json()["reason"], "blocked");
    for request in [instance.post(ISSUE), instance.get(STREAM)] {
        let refused = request.bearer_auth(&jwt).send().await.unwrap();
        problem(refused, StatusCode::FORBIDDEN, "subject_blocked").await;
    }
}

#[tokio::test]
async fn a_stream_of_a_jwt_ends_with_it() {
    let issuer = Issuer::new();
    let instance = issuer.instance("rights = ['subscribe']").await;
    let jwt = issuer.jwt_with(&json!({ "sub": "7", "exp": issuer_now().as_secs() + 6 }));
    let mut own = EventStream::connected(instance.get(STREAM).bearer_auth(&jwt).send().await.unwrap()).await;
    assert_eq!(own.rest().await.pop().unwrap().json()["reason"], "grant_ended");
}

#[tokio::test]
async fn a_reload_replaces_issuers_and_ends_no_stream() {
    let mut issuer = Issuer::new();
    let instance = issuer.instance("").await;
    let old = issuer.jwt("7");
    let token = issued(ask_for_token(&instance, &old, &json!({})).await).await;
    let token = token["sse_token"].as_str().unwrap();
    let mut open = instance.open_stream(token).await;
    issuer.rotate();
    instance.hang_up();
    let new = issuer.jwt("7");
    until("the new key to count", async || {
        ask_for_token(&instance, &new, &json!({})).await.status() == StatusCode::OK
    })
    .await;
    problem(ask_for_token(&instance, &old, &json!({})).await, StatusCode::UNAUTHORIZED, "jwt_refused").await;
    publish_to(&instance, "users/7/x", "still open").await;
    assert_eq!(open.next_published().await.json(), "still open");
    assert_eq!(instance.introspect(token).await["active"], true);
}

#[tokio::test]
async fn the_issuing_limit_counts_for_each_user() {
    let issuer = Issuer::new();
    let config = issuer.config("");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}[limits]\nissue_per_second = 1\n")).unwrap();
    let instance = crate::support::Instance::start_with_arguments(&["--config", &config]).await;
    let [one, other] = ["1", "2"].map(|subject| issuer.jwt(subject));
    assert_eq!(ask_for_token(&instance, &one, &json!({})).await.status(), StatusCode::OK);
    assert_eq!(ask_for_token(&instance, &other, &json!({})).await.status(), StatusCode::OK);
    let refused = eventually("a refusal", async || {
        let answer = ask_for_token(&instance, &one, &json!({})).await;
        (answer.status() != StatusCode::OK).then_some(answer)
    });
    problem(refused.await, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
}
