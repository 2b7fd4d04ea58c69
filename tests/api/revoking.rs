//! Taking tokens back.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Instance, issue_with, token_for};

async fn revoke(instance: &Instance, parameter: (&str, &str)) -> Value {
    let response =
        instance.post_as_principal("/operator/api/tokens/revoke").form(&[parameter]).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once_however_it_was_named() {
    let instance = Instance::start().await;
    for by_id in [true, false] {
        let issued = instance.issue().await;
        let parameter =
            if by_id { ("token_id", issued.id.as_str()) } else { ("token", issued.token.as_str()) };
        assert_eq!(revoke(&instance, parameter).await, json!({"effective": "cluster"}));
        assert_eq!(instance.ask_for_stream(&issued.token).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(instance.introspect(&issued.token).await, json!({"active": false}));
    }
    assert_eq!(instance.metric("vx11_operator_ephemeral_tokens_invalid_total{reason=\"revoked\"}").await, 2);
}

#[tokio::test]
async fn a_token_with_a_grant_is_revoked_by_itself_by_its_uuid_or_by_its_id() {
    let instance = Instance::start().await;
    for name in ["token", "uuid", "token_id"] {
        let issued = issue_with(&instance, &json!({ "topics": ["orders/*"] })).await;
        let token = issued["sse_token"].as_str().unwrap();
        let parameter = match name {
            "token" => ("token", token),
            "uuid" => ("token", token.split_once('.').unwrap().0),
            _ => ("token_id", issued["token_id"].as_str().unwrap()),
        };
        let mut stream = instance.open_stream(token).await;
        assert_eq!(revoke(&instance, parameter).await, json!({"effective": "cluster"}));
        assert_eq!(stream.rest().await.pop().unwrap().json()["reason"], json!("revoked"), "{name}");
        assert_eq!(instance.ask_for_stream(token).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(instance.introspect(token).await, json!({"active": false}));
    }
    assert_eq!(instance.metric("vx11_operator_ephemeral_tokens_invalid_total{reason=\"revoked\"}").await, 3);
}

#[tokio::test]
async fn revoking_a_text_that_does_not_verify_revokes_the_token_with_its_uuid() {
    let instance = Instance::start().await;
    let tokens = [token_for(&instance, &["a"]).await, token_for(&instance, &["b"]).await];
    let [(uuid, _), (_, grant)] = tokens.each_ref().map(|token| token.split_once('.').unwrap());
    revoke(&instance, ("token", &format!("{uuid}.{grant}"))).await;
    for (token, is_active) in tokens.iter().zip([false, true]) {
        assert_eq!(instance.introspect(token).await["active"], json!(is_active));
    }
}

#[tokio::test]
async fn revoking_ends_the_tokens_open_streams_and_no_other() {
    let instance = Instance::start().await;
    let (mine, other) = (instance.issue().await, instance.issue().await);
    let mut ended = [instance.open_stream(&mine.token).await, instance.open_stream(&mine.token).await];
    let mut untouched =
        [instance.open_stream(&other.token).await, instance.open_stream(&instance.principal).await];
    revoke(&instance, ("token", &mine.token)).await;
    for stream in &mut ended {
        let last = stream.rest().await.pop().unwrap();
        assert_eq!((last.event.as_str(), &last.json()["reason"]), ("reconnect", &json!("revoked")));
    }
    instance.publish(json!("still here")).await;
    for stream in &mut untouched {
        assert_eq!(stream.next().await.unwrap().json(), json!("still here"));
    }
}

#[tokio::test]
async fn a_token_is_taken_back_even_when_the_store_is_full() {
    let instance = Instance::with(&[("VX11_OPERATOR__MEMORY__MAX_ENTRIES", "1")]).await;
    let issued = instance.issue().await;
    let mut stream = instance.open_stream(&issued.token).await;
    revoke(&instance, ("token", &issued.token)).await;
    assert_eq!(stream.rest().await.pop().unwrap().json()["reason"], json!("revoked"));
    assert_eq!(instance.ask_for_stream(&issued.token).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn revoking_what_is_no_token_succeeds_without_effect() {
    let instance = Instance::start().await;
    let issued = instance.issue().await;
    for nothing in ["", "nonsense", "00000000-0000-8000-8000-000000000000"] {
        revoke(&instance, ("token", nothing)).await;
    }
    revoke(&instance, ("token_id", "0000000000000000")).await;
    revoke(&instance, ("token_id", "0000000000000000")).await;
    assert_eq!(instance.introspect(&issued.token).await["active"], json!(true));
}

#[tokio::test]
async fn a_revoked_token_is_no_longer_among_the_live_ones() {
    let instance = Instance::start().await;
    let (kept, revoked) = (instance.issue().await, instance.issue().await);
    revoke(&instance, ("token_id", &revoked.id)).await;
    let figures = instance.get_as_principal("/operator/internal/cache-stats").send().await.unwrap();
    let figures: Value = figures.json().await.unwrap();
    assert_eq!((&figures["cache_size"], &figures["sample_tokens"]), (&json!(1), &json!([kept.id])));
}
