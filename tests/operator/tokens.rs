//! Issuing, expiring, revoking and introspecting tokens.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Instance;

#[tokio::test]
async fn an_issued_token_has_the_form_the_contract_promises() {
    let instance = Instance::with(&[("INSTANCE_ID", "7")]).await;
    for request in [
        instance.get_as_principal("/operator/api/events/sse-token"),
        instance.post_as_principal("/operator/api/events/sse-token"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["cache-control"], "no-store");
        let body: Value = response.json().await.unwrap();
        let token = body["sse_token"].as_str().unwrap();
        crate::support::remember_secret(token);
        assert_eq!(token.len(), 36);
        assert_eq!(body["token_id"].as_str().unwrap().len(), 16);
        assert_eq!(
            (&body["expires_in"], &body["instance_id"], &body["backend"]),
            (&json!(60), &json!("7"), &json!("memory"))
        );
        assert!(body["expires_at"].as_str().unwrap().ends_with('Z'));
    }
}
