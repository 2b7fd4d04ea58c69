//! Reports of the service: health, statistics, name, and the description of its interface.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_operator::http::endpoints;

use crate::support::Instance;

async fn json_at(instance: &Instance, path: &str) -> Value {
    let response = instance.get_as_principal(path).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["content-type"], "application/json", "{path}");
    response.json().await.expect("JSON")
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn health_reports_to_anyone_by_get_post_and_head() {
    let instance = Instance::with(&[("INSTANCE_ID", "42")]).await;
    instance.issue().await;
    for request in [instance.get("/operator/api/health"), instance.post("/operator/api/health")] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut body: Value = response.json().await.unwrap();
        let timestamp = body["timestamp"].take();
        let timestamp = timestamp.as_str().unwrap();
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "RFC 3339: {timestamp}");
        let expected = json!({
            "status": "ok", "service": "operator_backend", "version": env!("CARGO_PKG_VERSION"), "timestamp": null,
            "instance_id": "42", "backend": "memory", "event_log_in_reach": true, "ephemeral_token_cache_size": 1,
        });
        assert_eq!(body, expected);
    }
    for path in ["/operator/api/health", "/health", "/health/live", "/health/ready", "/"] {
        let head = instance.client.head(format!("{}{path}", instance.base)).send().await.unwrap();
        assert_eq!(head.status(), StatusCode::OK, "{path}");
        assert_eq!(head.text().await.unwrap(), "", "{path}");
    }
}

#[tokio::test]
async fn the_short_health_paths_say_just_enough_for_a_probe() {
    let instance = Instance::start().await;
    assert_eq!(json_at(&instance, "/health").await, json!({ "status": "ok", "module": "operator" }));
    assert_eq!(json_at(&instance, "/health/live").await, json!({ "status": "ok" }));
    assert_eq!(json_at(&instance, "/health/ready").await, json!({ "status": "ok" }));
}

#[tokio::test]
async fn an_instance_tells_its_name() {
    let instance = Instance::with(&[("INSTANCE_ID", "blue-7.a_B")]).await;
    assert_eq!(
        json_at(&instance, "/operator/internal/instance-id").await,
        json!({ "instance_id": "blue-7.a_B" })
    );
}

#[tokio::test]
async fn cache_statistics_have_the_shape_of_the_contract_and_show_ids_never_tokens() {
    let instance = Instance::with(&[("INSTANCE_ID", "2")]).await;
    let issued = [instance.issue().await, instance.issue().await, instance.issue().await];
    let _stream = instance.open_stream(&issued[0].token).await;
    let statistics = json_at(&instance, "/operator/internal/cache-stats").await;
    assert_eq!(
        keys(&statistics),
        BTreeSet::from([
            "backend",
            "cache_size",
            "redis_memory_bytes",
            "redis_ops_per_sec",
            "sample_tokens",
            "instance",
            "cluster",
            "warnings"
        ])
    );
    assert_eq!((&statistics["backend"], &statistics["cache_size"]), (&json!("memory"), &json!(3)));
    assert_eq!(
        statistics["instance"],
        json!({
            "instance_id": "2", "active": 3, "streams": 1, "fallback_entries": 0, "breaker": null, "degraded_since": null,
            "event_log_in_reach": true,
        })
    );
    assert_eq!(
        statistics["cluster"],
        json!([{
            "instance_id": "2", "seen_seconds_ago": 0.0, "active": 3, "streams": 1, "version": env!("CARGO_PKG_VERSION"),
        }])
    );
    assert_eq!(statistics["warnings"], json!([]));
    let ids: BTreeSet<_> = issued.iter().map(|token| token.id.as_str()).collect();
    let sample: BTreeSet<_> =
        statistics["sample_tokens"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(sample, ids);
    for token in &issued {
        assert!(!statistics.to_string().contains(&token.token[..18]));
    }
}

#[tokio::test]
async fn the_sample_of_tokens_stays_small_and_a_revoked_token_is_not_in_the_count() {
    let instance = Instance::start().await;
    let mut last = instance.issue().await;
    for _ in 0..50 {
        last = instance.issue().await;
    }
    let statistics = json_at(&instance, "/operator/internal/cache-stats").await;
    assert_eq!(statistics["cache_size"], 51);
    assert!(statistics["sample_tokens"].as_array().unwrap().len() <= 5, "{statistics}");
    // A tombstone is no live token, whatever else it is.
    let revocation =
        instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &last.token)]);
    revocation.send().await.unwrap();
    let after = json_at(&instance, "/operator/internal/cache-stats").await["cache_size"].as_u64().unwrap();
    assert!((50..=51).contains(&after), "{after}");
}

#[tokio::test]
async fn the_openapi_document_lists_exactly_what_is_served() {
    let instance = Instance::start().await;
    let response = instance.get("/openapi.json").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let document: Value = response.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let documented: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            keys(item).into_iter().map(move |method| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let served: BTreeSet<_> = endpoints()
        .iter()
        .flat_map(|endpoint| {
            endpoint.methods.iter().map(|(method, _)| (endpoint.path.to_owned(), method.to_string()))
        })
        .filter(|(_, method)| method != "HEAD")
        .collect();
    assert_eq!(documented, served);
}

#[tokio::test]
async fn the_openapi_document_can_be_resolved_and_names_the_credentials_of_each_operation() {
    let instance = Instance::start().await;
    let document: Value = instance.get("/openapi.json").send().await.unwrap().json().await.unwrap();
    let text = document.to_string();
    for reference in text.split(r##""$ref":"#"##).skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            // Open to anyone are health, metrics, the document and the panel.
            let needs_principal = path.starts_with("/operator/") && !path.ends_with("/health");
            // The credential of the token endpoint may be in its form.
            let has_security = needs_principal || path == "/oauth/token";
            assert_eq!(operation.get("security").is_some(), has_security, "{method} {path}");
            let open = instance
                .client
                .request(method.to_uppercase().parse().unwrap(), format!("{}{path}", instance.base));
            let refused = open.send().await.unwrap().status() == StatusCode::UNAUTHORIZED;
            assert_eq!(refused, needs_principal, "{method} {path}");
            for scheme in operation["security"].as_array().into_iter().flatten() {
                for name in keys(scheme) {
                    assert!(document["components"]["securitySchemes"][name].is_object(), "{name}");
                }
            }
        }
    }
}
