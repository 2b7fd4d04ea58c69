//! Tokens of one release on an instance of the other.

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use vx11_kit::{Api, until};

use crate::cluster::{Mixed, granted, of_topics, plain, publish, stream};

const STREAM: &str = "/operator/api/events/stream";
/// Both paths that a token opens.
const PATHS: [&str; 2] = [STREAM, "/operator/internal/authorise"];

/// A request without the principal's credential.
fn get(on: &Api, path: &str) -> RequestBuilder {
    let client = Client::builder().no_proxy().build().unwrap();
    client.get(format!("{}{path}", on.base()))
}

/// Status and code of the answer to a request, which opens nothing.
async fn refusal(request: RequestBuilder) -> (StatusCode, String) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    assert!(status.is_client_error(), "{status}");
    let body: Value = answer.json().await.unwrap();
    (status, body["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_previous_release_refuses_a_token_with_a_grant() {
    let cluster = Mixed::start().await;
    // Also one that may read everything that a token without a grant may read.
    for topics in [&["orders/*"][..], &["default"], &["*"]] {
        let token = granted(&cluster.new, topics).await.token;
        for path in PATHS {
            let in_query = get(&cluster.old, path).query(&[("token", &token)]);
            assert_eq!(refusal(in_query).await, (StatusCode::FORBIDDEN, "token_refused".to_owned()));
            let in_own_header = get(&cluster.old, path).header("X-VX11-Token", &token);
            for in_header in [get(&cluster.old, path).bearer_auth(&token), in_own_header] {
                let expected = (StatusCode::UNAUTHORIZED, "credential_wrong".to_owned());
                assert_eq!(refusal(in_header).await, expected);
            }
        }
        assert_eq!(cluster.old.introspect(&token).await, Ok(false));
        assert_eq!(cluster.new.introspect(&token).await, Ok(true), "it is valid where it is known");
    }
}

#[tokio::test]
async fn a_token_whose_grant_was_dropped_opens_nothing_on_either_release() {
    let cluster = Mixed::start().await;
    for topics in [&["orders/*"][..], &["default"], &["*"]] {
        let token = granted(&cluster.new, topics).await.token;
        let (uuid, _grant) = token.split_once('.').expect("a UUID and a grant");
        for instance in cluster.both() {
            for path in PATHS {
                let in_query = get(instance, path).query(&[("token", uuid)]);
                let in_header = get(instance, path).header("X-VX11-Token", uuid);
                for request in [in_query, in_header] {
                    assert_eq!(refusal(request).await, (StatusCode::FORBIDDEN, "token_refused".to_owned()));
                }
            }
            assert_eq!(instance.introspect(uuid).await, Ok(false));
        }
    }
}

#[tokio::test]
async fn a_token_without_a_grant_opens_on_both_releases_and_is_revoked_on_both() {
    let cluster = Mixed::start().await;
    for [issuer, other] in [[&cluster.old, &cluster.new], [&cluster.new, &cluster.old]] {
        let token = plain(issuer).await;
        assert_eq!(token.len(), 36);
        for instance in cluster.both() {
            assert_eq!(instance.introspect(&token).await, Ok(true));
            assert!(instance.open_stream(&token).await.unwrap().is_some());
        }
        other.revoke("token", &token).await.unwrap();
        for instance in cluster.both() {
            until("a revocation on both", async || instance.introspect(&token).await == Ok(false)).await;
            assert!(instance.open_stream(&token).await.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn the_previous_release_issues_no_token_and_opens_no_stream_if_it_is_asked_for_topics() {
    let cluster = Mixed::start().await;
    for fields in [json!({ "topics": ["orders/*"] }), json!({ "subject": "user-7" })] {
        let issued = cluster.old.issue_with(Some(&fields)).await;
        assert!(issued.is_err_and(|words| words.contains("400")), "{fields}");
    }
    let token = plain(&cluster.old).await;
    for parameter in [("topic", "orders/1"), ("from", "start")] {
        let request = get(&cluster.old, STREAM).query(&[("token", token.as_str()), parameter]);
        let expected = (StatusCode::BAD_REQUEST, "unknown_parameter".to_owned());
        assert_eq!(refusal(request).await, expected, "{parameter:?}");
    }
}

#[tokio::test]
async fn a_token_with_a_grant_is_revoked_on_the_previous_release_by_its_id_only() {
    let cluster = Mixed::start().await;
    let issued = granted(&cluster.new, &["orders/*"]).await;
    let mut untouched = of_topics(&cluster.new, &["orders/*"]).await;
    let mut stream = stream(&cluster.new, &issued.token).await;
    // A text that is no token of the previous release needs no revocation there.
    cluster.old.revoke("token", &issued.token).await.unwrap();
    assert_eq!(cluster.new.introspect(&issued.token).await, Ok(true));
    cluster.old.revoke("token_id", &issued.id).await.unwrap();
    let end = stream.next_published().await;
    assert_eq!((end.event.as_str(), &end.json()["reason"]), ("reconnect", &json!("revoked")));
    assert_eq!(cluster.new.introspect(&issued.token).await, Ok(false));
    let id = publish(&cluster.new, &["orders/1"], &json!(1)).await;
    assert_eq!(untouched.next_published().await.id, id);
}
