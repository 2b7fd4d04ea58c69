//! `/metrics`: the predecessor's names with its label, and ours; each counts what it says, and no
//! label says who.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::json;
use vx11_kit::remember_secret;
use vx11_operator::http::endpoints;

use crate::support::{Instance, issue_with, publish_to, stream};

async fn page(instance: &Instance) -> String {
    let response = instance.get("/metrics").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert!(
        response.headers()["content-type"].to_str().expect("ASCII").starts_with("text/plain; version=0.0.4")
    );
    response.text().await.expect("text")
}

/// Asserts the values of metrics, named without their common beginning.
async fn counts(instance: &Instance, expected: &[(&str, u64)]) {
    for (name, value) in expected {
        let name = format!("vx11_operator_{name}");
        let counted = instance.metric(&name).await;
        assert_eq!(counted, *value, "{name}");
    }
}

/// The values of one label on the whole page.
fn values<'a>(page: &'a str, label: &str) -> BTreeSet<&'a str> {
    let start = format!("{label}=\"");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(&start)?.1.split('"').next()).collect()
}

#[tokio::test]
async fn every_plain_series_is_there_from_the_start_with_the_service_as_label() {
    let instance = Instance::start().await;
    let page = page(&instance).await;
    for (name, kind) in [
        ("ephemeral_tokens_issued_total", "counter"),
        ("ephemeral_tokens_active", "gauge"),
        ("ephemeral_tokens_expired_total", "counter"),
        ("sse_connections_ephemeral_total", "counter"),
        ("sse_connections_principal_total", "counter"),
        ("degraded_accepts_total", "counter"),
        ("audit_lines_lost_total", "counter"),
        ("log_lines_lost_total", "counter"),
        ("sse_streams_open", "gauge"),
        ("events_published_total", "counter"),
        ("events_delivered_total", "counter"),
        ("catch_up_pages_total", "counter"),
        ("catch_up_bytes_total", "counter"),
        ("revocations_invalid_total", "counter"),
        ("revocations_forgotten_total", "counter"),
        ("orders_invalid_total", "counter"),
        ("orders_forgotten_total", "counter"),
        ("subjects_blocked", "gauge"),
        ("subject_caps_reached_total", "counter"),
        ("subject_caps_local_total", "counter"),
        ("leases_lost_total", "counter"),
        ("tickets_local_total", "counter"),
        ("stream_events_lost_total", "counter"),
    ] {
        let name = format!("vx11_operator_{name}");
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
        assert!(page.contains(&format!("\n{name}{{service=\"operator-backend\"}} 0\n")), "{name}");
    }
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
    ] {
        assert!(page.contains(&format!("\n{name}{{")), "{name}");
    }
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    for line in samples {
        assert!(line.contains(r#"service="operator-backend""#), "{line}");
    }
}

#[tokio::test]
async fn every_labelled_series_is_there_from_the_start() {
    let instance = Instance::start().await;
    let page = page(&instance).await;
    // A rate over a series that begins with its first event misses that event.
    for (name, reasons) in [
        (
            "ephemeral_tokens_invalid_total",
            [
                "blocked",
                "expired",
                "forged",
                "malformed",
                "principal_in_query",
                "revoked",
                "unknown",
                "unsupported",
            ]
            .as_slice(),
        ),
        (
            "sse_streams_ended_total",
            &[
                "blocked",
                "client",
                "drain",
                "ended",
                "grant_ended",
                "lease_lost",
                "max_age",
                "replaced",
                "revoked",
                "slow",
            ],
        ),
        (
            "sse_streams_refused_total",
            &["draining", "full", "principal_limit", "subject_limit", "token_limit"],
        ),
        ("connections_closed_total", &["for_room", "no_room", "slow_head"]),
        (
            "jwts_refused_total",
            &[
                "algorithm",
                "audience",
                "bound",
                "claims",
                "expired",
                "header",
                "issuer",
                "malformed",
                "no_keys",
                "not_yet_valid",
                "signature",
                "too_long",
                "type",
                "unknown_key",
            ],
        ),
    ] {
        for reason in reasons {
            let line =
                format!("\nvx11_operator_{name}{{reason=\"{reason}\",service=\"operator-backend\"}} 0\n");
            assert!(page.contains(&line), "{line}");
        }
    }
    for at in ["issue", "open", "other"] {
        let name = "vx11_operator_blocked_attempts_total";
        let line = format!("\n{name}{{at=\"{at}\",service=\"operator-backend\"}} 0\n");
        assert!(page.contains(&line), "{line}");
    }
    assert!(page.contains("\nvx11_operator_control_available{service=\"operator-backend\"} 1\n"));
    for right in ["control", "introspect", "issue", "observe", "publish", "subscribe"] {
        let line = format!(
            "\nvx11_operator_not_permitted_total{{right=\"{right}\",service=\"operator-backend\"}} 0\n"
        );
        assert!(page.contains(&line), "{line}");
    }
    for operation in ["record", "lookup", "revoke"] {
        let line = format!(
            "vx11_operator_store_operation_duration_seconds_count{{backend=\"memory\",operation=\"{operation}\",service=\"operator-backend\"}} 0"
        );
        assert!(page.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn tokens_are_counted_as_issued_active_and_expired() {
    let instance = Instance::with(&[("EPHEMERAL_TOKEN_TTL_SEC", "1")]).await;
    for _ in 0..3 {
        instance.issue().await;
    }
    counts(&instance, &[("ephemeral_tokens_issued_total", 3)]).await;
    // Both come from one page: a token is the one or the other.
    let page = page(&instance).await;
    let value = |name: &str| -> u64 {
        let line = page.lines().find(|line| line.starts_with(&format!("vx11_operator_{name}{{")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect(name)
    };
    let sum = value("ephemeral_tokens_active") + value("ephemeral_tokens_expired_total");
    assert_eq!(sum, 3);
    instance.metric_becomes("vx11_operator_ephemeral_tokens_expired_total", 3).await;
    counts(&instance, &[("ephemeral_tokens_active", 0), ("ephemeral_tokens_issued_total", 3)]).await;
}

#[tokio::test]
async fn streams_are_counted_by_credential_and_by_how_they_ended() {
    let instance = Instance::start().await;
    let (kept, revoked) = (instance.issue().await, instance.issue().await);
    let by_token = instance.open_stream(&kept.token).await;
    let mut to_revoke = instance.open_stream(&revoked.token).await;
    let by_principal = instance.open_stream(&instance.principal).await;
    counts(
        &instance,
        &[
            ("sse_connections_ephemeral_total", 2),
            ("sse_connections_principal_total", 1),
            ("sse_streams_open", 3),
        ],
    )
    .await;
    // A refused stream is none.
    assert_eq!(instance.ask_for_stream("nonsense").await.status(), StatusCode::FORBIDDEN);
    let revocation =
        instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &revoked.token)]);
    revocation.send().await.unwrap();
    assert_eq!(to_revoke.next().await.unwrap().event, "reconnect");
    assert_eq!(to_revoke.next().await, None);
    instance.metric_becomes("vx11_operator_sse_streams_open", 2).await;
    drop((by_token, by_principal));
    instance.metric_becomes("vx11_operator_sse_streams_open", 0).await;
    counts(
        &instance,
        &[
            (r#"sse_streams_ended_total{reason="revoked"}"#, 1),
            (r#"sse_streams_ended_total{reason="client"}"#, 2),
            (r#"ephemeral_tokens_invalid_total{reason="malformed"}"#, 1),
            ("sse_connections_ephemeral_total", 2),
            ("sse_connections_principal_total", 1),
        ],
    )
    .await;
}

#[tokio::test]
async fn events_are_counted_once_when_published_and_once_for_each_stream_they_reach() {
    let instance = Instance::start().await;
    instance.publish(json!("before anyone listens")).await;
    let token = instance.issue().await.token;
    let mut streams = [instance.open_stream(&token).await, instance.open_stream(&token).await];
    for n in 0..3 {
        instance.publish(json!(n)).await;
    }
    for stream in &mut streams {
        for n in 0..3 {
            assert_eq!(stream.next().await.unwrap().json(), n);
        }
    }
    // Refused events are not published.
    let refused =
        instance.post_as_principal("/operator/api/events").json(&json!({ "event": "reset", "data": 1 }));
    assert_eq!(refused.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    counts(&instance, &[("events_published_total", 4), ("events_delivered_total", 6)]).await;
}

#[tokio::test]
async fn requests_are_labelled_with_route_patterns_known_methods_and_nothing_a_client_can_invent() {
    let instance = Instance::start().await;
    for path in
        ["/invented-1", "/client/vx11-events.js", "/panel/invented-2", "/operator/api/health?invented-3"]
    {
        instance.get(path).send().await.unwrap();
    }
    let url = format!("{}/health", instance.base);
    for method in ["INVENTED", "get", "PROPFIND"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        instance.client.request(method, &url).send().await.unwrap();
    }
    let page = page(&instance).await;
    assert!(!page.to_lowercase().contains("invented"), "{page}");
    let mut known: BTreeSet<_> = endpoints().iter().map(|endpoint| endpoint.path).collect();
    known.insert("unmatched");
    let routes = values(&page, "route");
    assert!(routes.is_subset(&known), "{routes:?}");
    for route in ["unmatched", "/client/{file}", "/panel/{file}", "/operator/api/health", "/health"] {
        assert!(routes.contains(route), "{route}: {routes:?}");
    }
    assert_eq!(values(&page, "method"), BTreeSet::from(["GET", "other"]));
    assert_eq!(values(&page, "status"), BTreeSet::from(["200", "404", "405"]));
    let requests = |labels: &str| format!("http_request_duration_seconds_count{{{labels}}}");
    counts(
        &instance,
        &[
            (&requests(r#"method="other",route="/health""#), 3),
            (&requests(r#"method="GET",route="unmatched""#), 1),
        ],
    )
    .await;
}

#[tokio::test]
async fn no_label_carries_a_token_a_principal_a_subject_a_topic_or_an_address() {
    let environment = [("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "127.0.0.1")];
    let instance = Instance::with(&environment).await;
    let issued = instance.issue().await;
    let _stream = instance.open_stream(&issued.token).await;
    let fields = json!({ "subject": "subject-xylophone", "topics": ["topic-xylophone"] });
    let granted = issue_with(&instance, &fields).await;
    let _narrow = instance.open_stream(granted["sse_token"].as_str().unwrap()).await;
    publish_to(&instance, "topic-xylophone", "xylophone").await;
    let beyond = stream(&instance, &[("token", &issued.token), ("topic", "topic-xylophone")]);
    assert_eq!(beyond.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let wrong = crate::support::random_hex();
    remember_secret(&wrong);
    for credential in [&wrong, &instance.principal] {
        let request =
            instance.get("/operator/api/events/sse-token?token=in-the-query").bearer_auth(credential);
        let answer = request.header("X-Forwarded-For", "198.51.100.7").send().await.unwrap();
        if let Ok(body) = answer.json::<serde_json::Value>().await
            && let Some(token) = body["sse_token"].as_str()
        {
            remember_secret(token);
        }
    }
    instance.ask_for_stream(&wrong).await;
    let page = page(&instance).await;
    for hidden in [&issued.token, &issued.id, &wrong, &instance.principal] {
        assert!(!page.contains(&hidden[..8]), "{page}");
    }
    for hidden in ["127.0.0.1", "198.51.100.7", "in-the-query", "principal=", "xylophone"] {
        assert!(!page.contains(hidden), "{page}");
    }
}
