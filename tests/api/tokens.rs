//! Issuing and introspecting tokens, and what holds across restarts and rotations.

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::remember_secret;

use crate::support::Instance;

const ISSUE: &str = "/operator/api/events/sse-token";

#[tokio::test]
async fn an_issued_token_has_the_form_the_contract_promises() {
    let instance = Instance::with(&[("INSTANCE_ID", "7")]).await;
    for request in [instance.get_as_principal(ISSUE), instance.post_as_principal(ISSUE)] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["cache-control"], "no-store");
        let body: Value = response.json().await.unwrap();
        let token = body["sse_token"].as_str().unwrap();
        remember_secret(token);
        assert_eq!(token.len(), 36);
        assert_eq!(body["token_id"].as_str().unwrap().len(), 16);
        assert_eq!(body["expires_in"], json!(60));
        assert_eq!(body["instance_id"], json!("7"));
        assert_eq!(body["backend"], json!("memory"));
        assert!(body["expires_at"].as_str().unwrap().ends_with('Z'));
    }
}

/// Clients of the release before grants compare or parse these bytes.
#[tokio::test]
async fn without_fields_the_answer_has_the_members_of_before_in_their_order() {
    const MEMBERS: [&str; 6] =
        ["sse_token", "token_id", "expires_in", "expires_at", "instance_id", "backend"];
    let instance = Instance::start().await;
    for request in [
        instance.get_as_principal(ISSUE),
        instance.post_as_principal(ISSUE),
        instance.post_as_principal(ISSUE).json(&json!({})),
        instance.post_as_principal(ISSUE).json(&Value::Null),
    ] {
        let text = request.send().await.unwrap().text().await.unwrap();
        let body: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        remember_secret(body["sse_token"].as_str().unwrap());
        let members: Vec<_> = MEMBERS.iter().map(|name| format!("\"{name}\":{}", body[*name])).collect();
        assert_eq!(text, format!("{{{}}}", members.join(",")));
    }
}

#[tokio::test]
async fn introspection_tells_what_a_token_is_and_nothing_about_what_is_none() {
    let instance = Instance::start().await;
    let issued = instance.issue().await;
    let described = instance.introspect(&issued.token).await;
    assert_eq!(described["active"], json!(true));
    assert_eq!(described["sub"], json!("operator"));
    assert_eq!(described["jti"], json!(issued.id));
    assert_eq!(described["token_type"], json!("sse"));
    assert!(described["exp"].as_u64().unwrap() - described["iat"].as_u64().unwrap() <= 61);
    assert_eq!(instance.introspect("no token").await, json!({"active": false}));
    assert_eq!(instance.introspect(&instance.principal).await, json!({"active": false}));
}

#[tokio::test]
async fn asking_about_a_token_is_not_counted_as_a_refusal() {
    let instance = Instance::start().await;
    instance.introspect("no token").await;
    assert_eq!(instance.metric("vx11_operator_ephemeral_tokens_invalid_total").await, 0);
}

#[tokio::test]
async fn a_full_store_refuses_new_tokens_and_keeps_the_live_ones() {
    let instance = Instance::with(&[("VX11_OPERATOR__MEMORY__MAX_ENTRIES", "3")]).await;
    let mut live = Vec::new();
    for _ in 0..3 {
        live.push(instance.issue().await);
    }
    let refused = instance.post_as_principal(ISSUE).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let retry_after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=61).contains(&retry_after), "{retry_after}");
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], json!("store_full"));
    for issued in live {
        assert_eq!(instance.introspect(&issued.token).await["active"], json!(true));
    }
}

#[tokio::test]
async fn a_token_stays_valid_when_its_instance_restarts_and_forgets_it() {
    let before = Instance::start().await;
    let issued = before.issue().await;
    let principal = before.principal.clone();
    before.kill().await;
    let after = Instance::with(&[("VX11_PRINCIPAL_TOKEN", &principal)]).await;
    after.open_stream(&issued.token).await;
    assert_eq!(after.metric("vx11_operator_degraded_accepts_total").await, 1);
}

#[tokio::test]
async fn a_token_keeps_the_life_it_was_given_when_its_instance_restarts_with_another() {
    let before = Instance::with(&[("EPHEMERAL_TOKEN_TTL_SEC", "900")]).await;
    let issued = before.issue().await;
    let principal = before.principal.clone();
    before.kill().await;
    let after =
        Instance::with(&[("VX11_PRINCIPAL_TOKEN", &principal), ("EPHEMERAL_TOKEN_TTL_SEC", "1")]).await;
    after.open_stream(&issued.token).await;
    let revocation = after.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &issued.token)]);
    assert_eq!(revocation.send().await.unwrap().status(), StatusCode::OK);
    // Longer than this instance's own tokens live, twice: the first may have begun before the
    // revocation was remembered.
    for _ in 0..2 {
        after.expires(&after.issue().await.token).await;
    }
    assert_eq!(after.introspect(&issued.token).await, json!({"active": false}));
}

#[tokio::test]
async fn during_a_rotation_tokens_of_the_old_signing_key_stay_valid_and_afterwards_not() {
    let (old, new) = ("0a".repeat(32), "0b".repeat(32));
    let both = format!("{new},{old}");
    let before = Instance::with(&[("VX11_OPERATOR_SIGNING_KEYS", &old)]).await;
    let principal = before.principal.clone();
    let with_keys = async |keys: &str| {
        remember_secret(keys);
        Instance::with(&[("VX11_PRINCIPAL_TOKEN", &principal), ("VX11_OPERATOR_SIGNING_KEYS", keys)]).await
    };
    let issued = before.issue().await;
    assert_eq!(with_keys(&both).await.introspect(&issued.token).await["active"], json!(true));
    assert_eq!(with_keys(&new).await.introspect(&issued.token).await["active"], json!(false));
}

#[tokio::test]
async fn while_a_principals_credential_is_rotated_both_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (file, old) = (folder.path().join("operator.toml"), crate::support::random_hex());
    std::fs::write(&file, format!("[[principals]]\nid = \"operator\"\ntoken = \"{old}\"\n")).unwrap();
    let instance = Instance::start_with_arguments(&["--config", file.to_str().unwrap()]).await;
    remember_secret(&old);
    for credential in [old.as_str(), instance.principal.as_str()] {
        let response = instance.post(ISSUE).header("X-VX11-Token", credential).send().await.unwrap();
        let body: Value = response.json().await.unwrap();
        let token = body["sse_token"].as_str().unwrap();
        remember_secret(token);
        assert_eq!(instance.introspect(token).await["sub"], json!("operator"));
    }
}
